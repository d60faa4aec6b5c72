"""What a person chooses about a run, and `config.json`, which keeps it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from metaharness.messages import ModelSpec, Record
from metaharness.records import SCHEMA_VERSION, ObjectiveRecord, Role

AGENT = "agent"
"""The proposer that is no part of this process: a coding agent that works with the tools."""


class Budget(Record):
    """Upper bounds of a run; None means no bound."""

    candidates: int | None = Field(default=None, ge=0)
    """Candidates beyond the baselines; rejected ones count."""
    case_evaluations: int | None = Field(default=None, ge=0)
    """Pairs of case and trial, smoke cases and baselines included."""
    calls: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    """Input plus output."""
    usd: float | None = Field(default=None, ge=0)


class RunConfig(BaseModel):
    """Everything a person chooses about a run. One value, passed down whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: str
    """A path, `module:attribute`, or a shipped name."""
    domain_options: dict[str, str] = {}
    """Passed to the domain's factory, such as `data`."""
    models: dict[Role, ModelSpec]
    proposer: str = "scripted"
    """What writes candidates; `agent`: whoever hands them in from outside, over MCP or with `submit`."""
    iterations: int = Field(default=10, ge=0)
    """Candidates to propose, baselines not counted."""
    candidates_per_round: int = Field(default=1, ge=1)
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many rounds without a new incumbent; None never stops for it."""
    max_failed_rounds: int = Field(default=3, ge=1)
    """Stop after this many rounds in a row in which the proposer handed in nothing."""
    concurrency: int = Field(default=8, ge=1, le=1024)
    """Model calls in the air at once, over the whole run."""
    trials: int = Field(default=1, ge=1)
    limit: int | None = Field(default=None, ge=1)
    """Only the first so many cases of the search split in the run's order; None takes all."""
    seed: int = 0
    sandbox: str = "auto"
    """Where candidate code runs: `auto`, `bubblewrap`, `landlock`, `sandbox-exec`, `process` or `command`. A score says
    which it was in the end."""
    sandbox_command: str | None = None
    """What starts a worker over stdin and stdout, for the sandbox `command`: `docker run -i --rm IMAGE`."""
    budget: Budget = Budget()
    prices: dict[str, tuple[float, float]] = {}
    """Dollars per million input and output tokens by `provider:name`: for a model that is not in the list of prices, or
    costs something else there."""
    cache: bool | str = False
    """The shared cache of model answers: True is the user's own, a text names a file, False is none."""


class RunRecord(Record):
    """`config.json`: the configuration and what it was resolved to."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    created: str
    config: RunConfig
    domain_name: str
    domain_hash: str
    """SHA-256 over the domain's own files, without its data."""
    split_hashes: dict[str, str]
    """SHA-256 over the cases of each split that a search may see."""
    evaluator_hash: str
    files: dict[str, str] = {}
    """SHA-256 of the files in the domain's folder that decide a score, by their path from there. Empty where they were
    not kept yet when the run was begun."""
    objectives: list[ObjectiveRecord]
    forked_from: str | None = None
    forked_at: int | None = None
    """The last iteration that was inherited from there; None where none was: it is no fork, or answers graded anew."""
    note: str = ""
    """What whoever forked the run wants its proposer to know."""
    openings: list[str] = []
    """Runs that had opened the sealed test when this one was forked: they count even where they are gone since."""
    provenance: dict[str, str] = {}
    """Versions of the package, of Python and of the platform."""
