"""What a person chooses about a run, and `config.json`, which keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from metaharness.errors import UsageError
from metaharness.messages import ModelSpec, Record
from metaharness.records import SCHEMA_VERSION, Direction, ObjectiveRecord, Role

AGENT = "agent"
"""The proposer that is no part of this process: a coding agent that works with the tools."""

Shown = Literal["scores", "scores+summaries", "full"]
"""How much of the history a proposer may see. `scores`: sources and scores. `scores+summaries`: also what was written
about candidates: hypotheses, reasoning, reports. `full`: also the raw traces."""
Strategy = Literal["search", "best-of-n"]
"""`search`: each candidate may build on all before it. `best-of-n`: each is written from the best baseline alone, with
the others hidden; to compare with at equal budget."""
AXES = (
    "what is shown to the model: which examples, how many, in which order",
    "what is remembered and how it is found again: stores, retrieval, similarity",
    "how the model is asked: wording, structure, decomposition into several calls",
    "how answers are read: parsing, checking, voting, asking again",
)
"""Exploitation axes that a prompt turns through when none are chosen."""


class RoleBudget(Record):
    """Upper bounds of one role; None means no bound."""

    calls: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    """Input plus output."""
    usd: float | None = Field(default=None, ge=0)


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
    roles: dict[Role, RoleBudget] = {}
    """Bounds of single roles, within these: one refuses the calls of its role alone."""


class ProposerConfig(BaseModel):
    """How the proposer of an unattended search works; a field that its kind has no use for says nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_turns: int = Field(default=60, ge=1)
    """Answers of its model in one session."""
    timeout: float = Field(default=1800.0, gt=0)
    """Seconds that one session may take."""
    usd: float | None = Field(default=None, gt=0)
    """Dollars that one session may cost; None sets no limit of its own."""
    max_tokens: int = Field(default=16_000, ge=1)
    """Length of one answer of its model."""
    skill: str | None = None
    """A file with the instructions: relative to the package, then to the working directory. None takes the one that is
    shipped for this kind of proposer, `none` gives none."""
    command: str | None = None
    """What starts the agent of the proposer `command`; the task comes on its standard input."""
    unjailed: bool = False
    """Whether an agent program runs with the rights of this user instead of in a jail."""
    destinations: tuple[str, ...] = ()
    """Further `host:port` that a jailed agent program may reach, beside the endpoint of its model."""
    files: tuple[str, ...] = ()
    """Further files and folders that a jailed agent program may read, such as its own installation."""
    environment: tuple[str, ...] = ()
    """Names of environment variables that an agent program is given."""
    candidates_per_proposal: int | None = Field(default=None, ge=1)
    """Candidates asked for in one prompt of `chat`; None: as many as the round has places."""
    top_k_sources: int = Field(default=3, ge=0)
    """Best candidates whose source is in the prompt of `chat`, beside the baselines' best."""
    reports_in_prompt: int = Field(default=10, ge=0)
    """Newest reports in it."""
    trace_errors: int = Field(default=5, ge=0)
    """Failed cases of the incumbent in it."""
    trace_successes: int = Field(default=2, ge=0)
    """Solved cases of the incumbent in it."""
    trace_max_chars: int = Field(default=2_000, ge=1)
    """Length at which each of them is cut."""
    summary_max_rows: int = Field(default=200, ge=50)
    """Candidates in its table: all up to so many, and never fewer than the latest 50."""
    axes: tuple[str, ...] = AXES
    """Exploitation axes; each round's prompt names the next one first."""


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
    proposing: ProposerConfig = ProposerConfig()
    strategy: Strategy = "search"
    history: Shown = "full"
    memory: bool = False
    """Whether lessons of earlier runs of the domain are offered to the proposer."""
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
    objectives: tuple[str, ...] = ()
    """`NAME:min` or `NAME:max`: what the frontier is over beside the domain's first objective, instead of its others.
    Empty: the objectives of the domain."""
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


class Lesson(Record):
    """What a candidate of another run of the same domain has taught, with its evidence."""

    run: str
    iteration: int
    created: str
    """When that run was begun."""
    domain: str
    name: str = ""
    axis: str = ""
    hypothesis: str = ""
    takeaway: str = ""
    """From its report, which is shortened to that; empty where there is none."""
    objective: str
    verdict: Literal["better", "worse", "indecisive"]
    against: int
    """The incumbent of its round."""
    delta: float
    """Mean difference to it, over the cases that both have."""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    units: int = 0
    """How many cases (or groups) those are."""
    cautions: list[str] = []
    """Why it may not hold for the run that it is offered to, such as an older version of the domain."""
    candidate_hash: str = ""

    @property
    def id(self) -> str:
        """`RUN/NNN`, as a person names it."""
        return f"{self.run}/{self.iteration:03d}"


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
    """The domain's first, then its others or those that were chosen: what every number of this run is about."""
    memory_used: list[Lesson] = []
    """The lessons of earlier runs that its proposer is offered, as they were when it was begun."""
    forked_from: str | None = None
    forked_at: int | None = None
    """The last iteration that was inherited from there; None where none was: it is no fork, or answers graded anew."""
    note: str = ""
    """What whoever forked the run wants its proposer to know."""
    openings: list[str] = []
    """Runs that had opened the sealed test when this one was forked: they count even where they are gone since."""
    provenance: dict[str, str] = {}
    """Versions of the package, of Python and of the platform."""


def parse_objective(text: str, valid: Iterable[str]) -> tuple[str, Direction]:
    """Name and direction of an objective that a person has chosen.

    Args:
        text: `NAME:min` or `NAME:max`.
        valid: Names to tell where it is something else.

    Raises:
        UsageError: It is something else.
    """
    name, _, direction = text.strip().rpartition(":")
    if name and not name.endswith(":") and name == name.strip():
        if direction == "min":
            return name, "min"
        if direction == "max":
            return name, "max"
    names = f"{', '.join(valid)}, an objective of the domain, or a metric of its grades"
    raise UsageError(f"the objective {text!r} is not NAME:min or NAME:max", hint=f"such as usd:min; NAME is {names}")
