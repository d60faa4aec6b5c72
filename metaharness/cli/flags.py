"""The options of a search. One that is not given is None or empty: the file of the run says it then, or a default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from metaharness.cli import options

if TYPE_CHECKING:
    from metaharness.configuration import Budget

Iterations = Annotated[
    int | None, typer.Option("--iterations", "-n", min=0, help="Candidates to propose. Default: 10, or the script's.")
]
PerRound = Annotated[int, typer.Option("--candidates-per-round", "-k", min=1, help="Candidates per round.")]
MaxFailed = Annotated[
    int | None,
    typer.Option(min=1, help="Stop after so many rounds in a row in which nothing was handed in. Default: 3."),
]
Patience = Annotated[int | None, typer.Option(min=1, help="Stop after so many rounds without a new incumbent.")]
ProposerName = Annotated[
    str, typer.Option("--proposer", "-p", help="What writes candidates: scripted, or agent (see `serve`).")
]
ProposerBaseUrl = Annotated[str | None, typer.Option(help="Another endpoint that speaks its wire format.")]
RunId = Annotated[
    str | None, typer.Option("--name", help="The run's id; -2, -3, ... is added when it is taken. Default: the time.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
MaxCandidates = Annotated[int | None, typer.Option("--budget-candidates", min=0, help="At most so many candidates.")]
MaxCases = Annotated[int | None, typer.Option("--budget-cases", min=0, help="At most so many case evaluations.")]
MaxCalls = Annotated[int | None, typer.Option("--budget-calls", min=0, help="At most so many model calls.")]
MaxTokens = Annotated[int | None, typer.Option("--budget-tokens", min=0, help="At most so many tokens.")]
MaxUsd = Annotated[float | None, typer.Option("--budget-usd", min=0, help="At most so many dollars.")]
OfRole = Annotated[
    list[str] | None,
    typer.Option(
        "--role-budget",
        metavar="ROLE:BOUND=N",
        help="A bound of one role alone, such as proposer:usd=2 or target:calls=5000. Repeatable.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether to go on after the estimate.")]
AskAbove = Annotated[
    float, typer.Option(min=0, help="Ask on a terminal, after the smoke cases, if it may cost more dollars.")
]
BOUNDS = ("calls", "tokens", "usd")
"""What a role can have a bound of."""


@dataclass(frozen=True)
class DomainFlags:
    """What is searched."""

    TITLE: ClassVar = "Domain"

    domain: Annotated[
        str | None,
        typer.Option("--domain", "-d", help="A domain folder, module:attribute, or the name of a shipped example."),
    ] = None
    data: options.Data = None
    text_field: options.TextField = None
    label_field: options.LabelField = None
    domain_option: options.DomainOption = None


@dataclass(frozen=True)
class ModelFlags:
    """What the harnesses ask."""

    TITLE: ClassVar = "Models"

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="embedded:icl, scripted:FILE, anthropic:NAME or openai:NAME. Default: EVALUATOR_MODEL, or embedded.",
        ),
    ] = None
    base_url: options.BaseUrl = None
    judge: options.Judge = None
    price: options.Price = None
    no_cache: options.NoCache = False


@dataclass(frozen=True)
class SearchFlags:
    """How long it goes on, and what is built on what."""

    TITLE: ClassVar = "Search"

    iterations: Iterations = None
    candidates_per_round: Annotated[
        int | None, typer.Option("--candidates-per-round", "-k", min=1, help="Candidates per round. Default: 1.")
    ] = None
    patience: Patience = None
    max_failed_rounds: MaxFailed = None
    strategy: Annotated[
        str | None,
        typer.Option(
            metavar="search|best-of-n",
            help="best-of-n writes every candidate from the best baseline alone, to compare with. Default: search.",
        ),
    ] = None
    seed: Annotated[int | None, typer.Option(help="Orders the cases and seeds model.random. Default: 0.")] = None


@dataclass(frozen=True)
class ProposerFlags:
    """What writes candidates, and with what."""

    TITLE: ClassVar = "Proposer"

    proposer: Annotated[
        str | None, typer.Option("--proposer", "-p", help="What writes candidates. Default: scripted. See README.")
    ] = None
    proposer_model: Annotated[
        str | None, typer.Option(help="The model that writes, such as anthropic:NAME. Default: PROPOSER_MODEL.")
    ] = None
    proposer_base_url: ProposerBaseUrl = None
    proposer_command: Annotated[
        str | None, typer.Option(help="Starts the agent of the proposer `command`, such as 'codex exec -'.")
    ] = None
    unjailed_proposer: Annotated[
        bool, typer.Option("--unjailed-proposer", help="Let an agent program run with your own rights, in no jail.")
    ] = False
    proposer_turns: Annotated[int | None, typer.Option(min=1, help="Answers of its model in a round. Default: 60.")] = (
        None
    )
    proposer_timeout: Annotated[float | None, typer.Option(min=1, help="Seconds for a round. Default: 1800.")] = None
    proposer_usd: Annotated[float | None, typer.Option(min=0, help="Dollars that a round may cost.")] = None
    proposer_destination: Annotated[
        list[str] | None, typer.Option(metavar="HOST:PORT", help="What a jailed agent may reach too. Repeatable.")
    ] = None
    proposer_file: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="What a jailed agent may read too. Repeatable.")
    ] = None
    proposer_env: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A variable that an agent is given. Repeatable.")
    ] = None
    skill: Annotated[
        str | None, typer.Option(metavar="FILE", help="Its instructions; `none` for none. Default: those shipped.")
    ] = None
    history: Annotated[
        str | None,
        typer.Option(metavar="scores|scores+summaries|full", help="What of the run it may see. Default: full."),
    ] = None
    memory: Annotated[
        bool | None, typer.Option("--memory/--no-memory", help="Offer it lessons of earlier runs. Default: not.")
    ] = None


@dataclass(frozen=True)
class EvaluationFlags:
    """How candidates are evaluated."""

    TITLE: ClassVar = "Evaluation"

    trials: Annotated[int | None, typer.Option(min=1, help="Evaluate every case so many times. Default: 1.")] = None
    limit: options.Limit = None
    objective: options.Objectives = None
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", "-c", min=1, max=1024, help="Model calls in the air. Default: 8."),
    ] = None
    sandbox: Annotated[
        str | None,
        typer.Option(
            help="Where candidate code runs: auto (the strongest that works here, the default), bubblewrap, landlock, "
            "sandbox-exec; process contains nothing."
        ),
    ] = None
    sandbox_command: options.SandboxCommand = None


@dataclass(frozen=True)
class BudgetFlags:
    """What it may spend."""

    TITLE: ClassVar = "Budget"

    budget_candidates: MaxCandidates = None
    budget_cases: MaxCases = None
    budget_calls: MaxCalls = None
    budget_tokens: MaxTokens = None
    budget_usd: MaxUsd = None
    role_budget: OfRole = None

    def budget(self) -> Budget:
        """The bounds.

        Raises:
            UsageError: One of a role is not written as it has to be.
        """
        of_all = (self.budget_candidates, self.budget_cases, self.budget_calls, self.budget_tokens, self.budget_usd)
        return budget(*of_all, roles=self.role_budget)


def budget(
    candidates: int | None,
    cases: int | None,
    calls: int | None,
    tokens: int | None,
    usd: float | None,
    *,
    roles: Sequence[str] | None = None,
) -> Budget:
    """The bounds, from the flags.

    Raises:
        UsageError: One of a role is not written as it has to be.
    """
    from metaharness.configuration import Budget

    of_all = Budget(candidates=candidates, case_evaluations=cases, calls=calls, tokens=tokens, usd=usd)
    return of_all.model_copy(update={"roles": _roles(roles)})


def _roles(told: Sequence[str] | None) -> dict[Any, Any]:
    """`--role-budget ROLE:BOUND=N`, parsed."""
    from typing import get_args

    from pydantic import ValidationError

    from metaharness.configuration import Budget
    from metaharness.errors import UsageError
    from metaharness.records import Role

    roles: dict[str, dict[str, str]] = {}
    for item in told or ():
        name, _, value = item.partition("=")
        role, _, bound = name.partition(":")
        roles.setdefault(role, {})[bound] = value
        try:
            Budget.model_validate({"roles": roles})
            fits = bound in BOUNDS
        except ValidationError:
            fits = False
        if not fits:
            raise UsageError(
                f"--role-budget {item!r} is not ROLE:BOUND=N",
                hint=f"roles: {', '.join(get_args(Role))}; bounds: {', '.join(BOUNDS)}, of 0 or more; "
                "for example --role-budget proposer:usd=2",
            )
    return Budget.model_validate({"roles": roles}).roles
