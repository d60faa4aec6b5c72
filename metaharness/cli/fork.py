"""`fork`: a new run that goes on from an iteration of another one."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import command
from metaharness.cli.flags import BudgetFlags, ProposerBaseUrl, Quiet
from metaharness.cli.grouping import grouped
from metaharness.cli.searching import Session, record
from metaharness.cli.text import counted, printable

if TYPE_CHECKING:
    from metaharness.history import History
    from metaharness.messages import ModelSpec

Source = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, its beginning or its path; or latest.")]
At = Annotated[int, typer.Argument(metavar="ITERATION", min=0, help="The last iteration that the fork inherits.")]
Note = Annotated[str, typer.Option("--note", help="What the proposer of the fork is told.")]
ForkId = Annotated[str | None, typer.Option("--name", help="The id of the new run. Default: the time.")]
Candidates = Annotated[
    int | None, typer.Option("--iterations", "-n", min=0, help="Candidates still to propose. Default: as the run.")
]
PerRound = Annotated[
    int | None, typer.Option("--candidates-per-round", "-k", min=1, help="Candidates per round. Default: as the run.")
]
ProposerName = Annotated[
    str | None, typer.Option("--proposer", "-p", help="What writes candidates. Default: that of the run.")
]
ProposerModel = Annotated[
    str | None, typer.Option(help="The model that writes. Default: that of the run, or PROPOSER_MODEL.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the fork at once, as `resume` does.")]


@command(
    """
    metaharness fork batch 4 --note "Shorter prompts; leave retrieval as it is."
    metaharness fork batch 4 --name bolder --iterations 20 --budget-usd 5 --resume
    metaharness fork batch 4 -p chat --proposer-model anthropic:claude-opus-4-5 --role-budget proposer:usd=5
    """
)
@grouped
def fork(
    run_name: Source,
    iteration: At,
    *,
    budget: BudgetFlags,
    note: Note = "",
    name: ForkId = None,
    proposer: ProposerName = None,
    proposer_model: ProposerModel = None,
    proposer_base_url: ProposerBaseUrl = None,
    iterations: Candidates = None,
    candidates_per_round: PerRound = None,
    go_on: Resume = False,
    root: options.Root = options.DEFAULT_ROOT,
    quiet: Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a new run beside a run that goes on from one of its iterations, with a note for the proposer.

    Iterations 000 to ITERATION are copied whole and marked as inherited: they are not asked again and cost nothing in
    the fork. Its budget is that of the run, or as given, counted from zero. Model, domain, cases, seed and trials stay.
    """
    from metaharness.history import History
    from metaharness.run import Run
    from metaharness.run.forking import fork as make
    from metaharness.store import RunStore, find_run

    path = find_run(root, run_name)
    source = History(RunStore.open(path, record=False))
    asked = {"proposer": proposer, "iterations": iterations, "candidates_per_round": candidates_per_round}
    changes: dict[str, Any] = {field: value for field, value in asked.items() if value is not None}
    changes["models"] = _models(source, proposer, proposer_model, proposer_base_url)
    made = make(
        path,
        iteration,
        note=note,
        name=name,
        changes={**changes, "iterations": _iterations(source, iteration, changes)},
        raised=budget.budget(),
    )
    _tell(made, as_json=as_json and not go_on, to_stderr=go_on)
    if go_on:
        record(partial(Run.open, made.store.path), Session(quiet=quiet), as_json=as_json)


def _models(source: History, proposer: str | None, name: str | None, base_url: str | None) -> dict[Any, ModelSpec]:
    """Those of the run; that of the proposer may be another."""
    from metaharness.cli.configured import with_proposer_model
    from metaharness.messages import ModelSpec

    config = source.record.config
    models: dict[str, Any] = {role: spec.model_dump() for role, spec in config.models.items()}
    found = with_proposer_model(models, proposer or config.proposer, name, base_url)
    return {role: ModelSpec.model_validate(spec) for role, spec in found.items()}


def _iterations(source: History, at: int, changes: dict[str, Any]) -> int:
    """How many candidates the fork proposes: as many as were asked for, but no more than its script has left."""
    from metaharness.loading import load_domain
    from metaharness.proposers import check_proposer
    from metaharness.proposers.scripted import read_proposals
    from metaharness.run.forking import inherited_rounds

    config = source.record.config.model_copy(update=changes)
    check_proposer(config)
    places, wanted = sum(one.closed.places for one in inherited_rounds(source, at)), config.iterations
    if config.proposer != "scripted" or wanted == 0:
        return wanted
    left = max(0, len(read_proposals(load_domain(config.domain, config.domain_options))) - places)
    if not left:
        print("the script has no candidate left: --proposer names another one", file=sys.stderr)
    return min(wanted, left)


def _tell(made: History, *, as_json: bool, to_stderr: bool) -> None:
    from metaharness.store import command_on

    run, path = made.record, made.store.path
    resume = command_on(path, "resume")
    if as_json:
        page = {
            "run": run.run_id,
            "path": str(path),
            "forked_from": run.forked_from,
            "at": run.forked_at,
            "note": run.note,
            "inherited": len(made),
            "iterations": run.config.iterations,
            "resume": resume,
        }
        options.print_json(page)
        return
    lines = [f"run {run.run_id}: {made.origin[0]}", *made.origin[1:]]
    typer.echo("\n".join(map(printable, lines)), err=to_stderr)
    if not to_stderr:
        to_come = f"{counted(run.config.iterations, 'candidate')} to come"
        print(f"run directory: {path}\nto go on, {to_come}: {resume}", file=sys.stderr)
