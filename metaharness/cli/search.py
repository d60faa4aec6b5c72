"""`run` and `resume`: the commands that record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import INTERRUPTED, command

if TYPE_CHECKING:
    from anyio.abc import ByteStream

    from metaharness.configuration import Budget, RunConfig
    from metaharness.run import Run
    from metaharness.tools import Desk, Tool

Iterations = Annotated[
    int | None, typer.Option("--iterations", "-n", min=0, help="Candidates to propose. Default: 10, or the script's.")
]
PerRound = Annotated[int, typer.Option("--candidates-per-round", "-k", min=1, help="Candidates per round.")]
Patience = Annotated[int | None, typer.Option(min=1, help="Stop after so many rounds without a new incumbent.")]
ProposerName = Annotated[
    str, typer.Option("--proposer", "-p", help="What writes candidates: scripted, or agent (see `serve`).")
]
RunId = Annotated[str | None, typer.Option("--name", help="The run's id. Default: the time.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
MaxCandidates = Annotated[int | None, typer.Option("--budget-candidates", min=0, help="At most so many candidates.")]
MaxCases = Annotated[int | None, typer.Option("--budget-cases", min=0, help="At most so many case evaluations.")]
MaxCalls = Annotated[int | None, typer.Option("--budget-calls", min=0, help="At most so many model calls.")]
MaxTokens = Annotated[int | None, typer.Option("--budget-tokens", min=0, help="At most so many tokens.")]
MaxUsd = Annotated[float | None, typer.Option("--budget-usd", min=0, help="At most so many dollars.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether to go on after the estimate.")]
AskAbove = Annotated[
    float, typer.Option(min=0, help="Ask on a terminal, after the smoke cases, if it may cost more dollars.")
]


@command(
    """
    metaharness run --domain text_classification --data DATA --text-field question --label-field answer
    metaharness run -d my_domain -m anthropic:claude-haiku-4-5 -n 20 -k 2 --patience 4 --budget-calls 5000
    metaharness run -d my_domain -m openai:qwen3 --price openai:qwen3=0.6,2.5 --budget-usd 20 --ask-above 5
    metaharness run -d my_domain --objective usd:min --objective harness_chars:min
    """
)
def run(
    domain: options.Domain,
    data: options.Data = None,
    text_field: options.TextField = None,
    label_field: options.LabelField = None,
    domain_option: options.DomainOption = None,
    proposer: ProposerName = "scripted",
    model: options.Model = "embedded:icl",
    base_url: options.BaseUrl = None,
    judge: options.Judge = None,
    price: options.Price = None,
    no_cache: options.NoCache = False,
    iterations: Iterations = None,
    candidates_per_round: PerRound = 1,
    patience: Patience = None,
    concurrency: options.Concurrency = 8,
    trials: options.Trials = 1,
    limit: options.Limit = None,
    objective: options.Objectives = None,
    seed: options.Seed = 0,
    sandbox: options.Sandbox = "auto",
    sandbox_command: options.SandboxCommand = None,
    budget_candidates: MaxCandidates = None,
    budget_cases: MaxCases = None,
    budget_calls: MaxCalls = None,
    budget_tokens: MaxTokens = None,
    budget_usd: MaxUsd = None,
    root: options.Root = options.DEFAULT_ROOT,
    name: RunId = None,
    yes: Yes = False,
    ask_above: AskAbove = 1.0,
    quiet: Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Search: score the baselines, then let a proposer write better harnesses, round after round."""
    from metaharness.configuration import RunConfig

    asked = {"patience": patience, **options.scored(trials, limit, concurrency, seed, objective)}
    config = RunConfig(
        domain=options.domain_reference(domain),
        domain_options=options.domain_options(data, text_field, label_field, domain_option),
        models=options.models(model, base_url, judge),
        proposer=proposer,
        candidates_per_round=candidates_per_round,
        **(asked | options.means(sandbox, sandbox_command, price, no_cache)),
        budget=budget(budget_candidates, budget_cases, budget_calls, budget_tokens, budget_usd),
    )
    config = with_iterations(config, iterations)
    above = None if yes else ask_above
    record(lambda: _create(config, root, name), Session(quiet, estimate=True, ask_above=above), as_json=as_json)


@command(
    """
    metaharness resume
    metaharness resume 2026-04-23_17-21-21 --budget-calls 10000
    """
)
def resume(
    run_name: options.RunName = None,
    budget_candidates: MaxCandidates = None,
    budget_cases: MaxCases = None,
    budget_calls: MaxCalls = None,
    budget_tokens: MaxTokens = None,
    budget_usd: MaxUsd = None,
    no_cache: options.NoCache = False,
    root: options.Root = options.DEFAULT_ROOT,
    quiet: Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Go on with an interrupted run: finish its round, ask missing cases again, repeat no completed call."""
    from metaharness.run import Run
    from metaharness.store import find_run

    path = find_run(root, run_name)
    raised = budget(budget_candidates, budget_cases, budget_calls, budget_tokens, budget_usd)
    cache = False if no_cache else None
    record(lambda: Run.open(path, raised=raised, cache=cache), Session(quiet=quiet), as_json=as_json)


def _create(config: RunConfig, root: Path, name: str | None) -> Run:
    from metaharness.run import Run

    run = Run.create(config, root, name=name)
    if name is not None and run.record.run_id != name:
        print(f"there is a run {name} already, so this one is {run.record.run_id}", file=sys.stderr)
    return run


def with_iterations(config: RunConfig, wanted: int | None) -> RunConfig:
    """The configuration with as many candidates to propose as were asked for, but no more than a script has.

    Raises:
        UsageError: The proposer cannot be had.
    """
    from metaharness.loading import load_domain
    from metaharness.proposers import check_proposer
    from metaharness.proposers.scripted import read_proposals

    check_proposer(config)
    chosen = config.iterations if wanted is None else wanted
    if config.proposer == "scripted" and wanted != 0:
        available = len(read_proposals(load_domain(config.domain, config.domain_options)))
        chosen = available if wanted is None else min(wanted, available)
    return config.model_copy(update={"iterations": chosen})


def budget(
    candidates: int | None, cases: int | None, calls: int | None, tokens: int | None, usd: float | None
) -> Budget:
    """The bounds, from the flags."""
    from metaharness.configuration import Budget

    return Budget(candidates=candidates, case_evaluations=cases, calls=calls, tokens=tokens, usd=usd)


def _server(desk: Desk, tools: Sequence[Tool]) -> Any:
    """What an agent program is connected to; imported where one is, as that takes longer than a small search."""
    from mcp_server import make_server

    return make_server(desk, tools)


async def _converse(desk: Desk, tools: Sequence[Tool], stream: ByteStream) -> None:
    """The same over a connection of its own."""
    from mcp_server import serve_stream

    await serve_stream(desk, tools, stream)


def record(open_run: Callable[[], Run], session: Session, *, as_json: bool) -> None:
    """Search until the end or a signal, then say what came out."""
    import anyio

    from metaharness.cli.output import outcome

    run, reason = anyio.run(session.search, open_run)
    outcome(run, reason, as_json=as_json)
    if session.interrupted or session.declined:
        raise typer.Exit(INTERRUPTED if session.interrupted else 1)


@dataclass
class Session:
    """One process's part of a search."""

    quiet: bool
    estimate: bool = False
    """Whether to say after the smoke cases of the baselines what the search will take."""
    ask_above: float | None = None
    """Dollars that may be spent without a question; None asks nothing."""
    interrupted: bool = False
    """Whether a signal came before the search was over."""
    declined: bool = False
    """Whether the question was answered with no."""

    async def search(self, open_run: Callable[[], Run]) -> tuple[Run, str]:
        """The search beside a task that listens for signals: the run, and why it has ended.

        The first Ctrl+C or SIGTERM lets what is in the air end and be written; the second one drops it.
        """
        from metaharness.cli.asking import Asking
        from metaharness.cli.output import budget_lines
        from metaharness.cli.progress import Progress
        from metaharness.cli.signals import until_signal
        from metaharness.errors import MetaharnessError
        from metaharness.proposers import open_proposer
        from metaharness.search import search

        async with open_run() as run:
            run.listener = progress = Progress(run, quiet=self.quiet)
            progress.begin()
            asking = Asking(run, progress, above=self.ask_above, quiet=self.quiet) if self.estimate else None
            doing = partial(search, run, open_proposer(run, serve=_server, converse=_converse), confirm=asking)
            try:
                reason = await until_signal(run, doing, progress.clear)
            except MetaharnessError:
                for line in budget_lines(run):
                    print(line, file=sys.stderr)
                raise
            reason = reason or "stopped at once; calls in the air were lost"
            self.declined = asking is not None and asking.declined
            stopped = run.stopping and not self.declined
            self.interrupted = stopped and (run.unfinished or run.why_over() is None)
            return run, reason
