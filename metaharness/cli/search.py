"""`run` and `resume`: the commands that record."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaharness import variables
from metaharness.cli import options
from metaharness.cli.app import command
from metaharness.cli.flags import (
    AskAbove,
    BudgetFlags,
    DomainFlags,
    EvaluationFlags,
    MaxFailed,
    ModelFlags,
    Patience,
    ProposerFlags,
    Quiet,
    RunId,
    SearchFlags,
    Yes,
)
from metaharness.cli.grouping import grouped
from metaharness.cli.searching import Session, record

if TYPE_CHECKING:
    from metaharness.cli.configured import Flags
    from metaharness.configuration import RunConfig
    from metaharness.run import Run
    from metaharness.run.beside import Beside

MoreIterations = Annotated[
    int | None, typer.Option("--iterations", "-n", min=0, help="Candidates to propose in all. Default: as it was.")
]
Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[FILE]...",
        help="What a run is, as YAML, TOML or JSON; an option wins over it. Several are searched side by side.",
    ),
]
Root = Annotated[
    Path | None, typer.Option("--root", help="The folder of all runs. Default: METAHARNESS_ROOT, or runs.")
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the whole configuration, as a file may say it, and do nothing.")
]


@command(
    """
    metaharness run --domain text_classification --data DATA --text-field question --label-field answer
    metaharness run -d my_domain -m anthropic:claude-haiku-4-5 -n 20 -k 2 --patience 4 --budget-calls 5000
    metaharness run -d my_domain -m openai:qwen3 --price openai:qwen3=0.6,2.5 --budget-usd 20 --ask-above 5
    metaharness run -d my_domain --objective usd:min --objective harness_chars:min
    metaharness run search.yaml --budget-usd 20 --role-budget proposer:usd=5
    metaharness run -d my_domain -n 20 --print-config
    metaharness run a.yaml b.yaml --concurrency 16 --budget-usd 30
    """
)
@grouped
def run(
    files: Files = None,
    *,
    domain: DomainFlags,
    models: ModelFlags,
    search: SearchFlags,
    proposer: ProposerFlags,
    evaluation: EvaluationFlags,
    budget: BudgetFlags,
    root: Root = None,
    name: RunId = None,
    print_config: PrintConfig = False,
    yes: Yes = False,
    ask_above: AskAbove = 1.0,
    quiet: Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Search: score the baselines, then let a proposer write better harnesses, round after round.

    A run is what FILE says and what the options say over it. With several files, --concurrency and the bounds on calls,
    tokens and dollars hold over all of them; what a file says of its own holds too.
    """
    from metaharness.cli.configured import Flags

    flags = Flags(domain, models, search, proposer, evaluation, budget)
    wanted = _wanted(files or [], flags, root, name)
    if print_config:
        _print(wanted, as_json=as_json)
        return
    above = None if yes else ask_above
    if len(wanted) == 1:
        (one,) = wanted
        record(partial(_create, *one), Session(quiet, estimate=True, ask_above=above), as_json=as_json)
        return
    from metaharness.cli.several import One, Several, over_all, search_several

    begun = [One(str(file), partial(_create, *one)) for file, one in zip(files or [], wanted, strict=True)]
    beside = over_all([config for config, _, _ in wanted], flags.budget.budget(), evaluation.concurrency)
    search_several(Several(begun, beside, quiet, above), as_json=as_json)


@command(
    """
    metaharness resume
    metaharness resume 2026-04-23_17-21-21 --budget-calls 10000
    metaharness resume batch --patience 8 --iterations 60
    """
)
@grouped
def resume(
    run_name: options.RunName = None,
    iterations: MoreIterations = None,
    patience: Patience = None,
    max_failed_rounds: MaxFailed = None,
    *,
    budget: BudgetFlags,
    no_cache: options.NoCache = False,
    root: options.Root = options.DEFAULT_ROOT,
    quiet: Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Go on with a run that was interrupted or has ended: finish its round, ask missing cases again, search on.

    No completed call is repeated. It goes on as it was configured; what ends it, and its bounds, can be changed.
    """
    from metaharness.run import Run
    from metaharness.store import find_run

    given = {"iterations": iterations, "patience": patience, "max_failed_rounds": max_failed_rounds}
    changes = {name: value for name, value in given.items() if value is not None}
    cache = False if no_cache else None
    opening = partial(Run.open, find_run(root, run_name), raised=budget.budget(), changes=changes, cache=cache)
    record(opening, Session(quiet=quiet), as_json=as_json)


Wanted = tuple["RunConfig", Path, "str | None"]
"""Configuration, folder of all runs, and id of a run that is to be begun."""


def _wanted(files: Sequence[Path], flags: Flags, root: Path | None, name: str | None) -> list[Wanted]:
    """The runs that were asked for, each from its file and the options."""
    from metaharness.cli.configured import within
    from metaharness.cli.run_file import RunFile, read_run_file
    from metaharness.errors import UsageError

    told = [read_run_file(path) for path in files] or [RunFile({})]
    if len(told) > 1 and name is not None:
        raise UsageError("--name names one run, and several are begun", hint="write `name: ...` into each file")
    shared = flags if len(told) > 1 else None
    return [
        (
            flags.config(file) if shared is None else within(shared, file),
            root or file.root or Path(variables.get("METAHARNESS_ROOT") or options.DEFAULT_ROOT),
            name or file.name,
        )
        for file in told
    ]


def _create(config: RunConfig, root: Path, name: str | None, beside: Beside | None = None) -> Run:
    from metaharness.run import Run
    from metaharness.run.beside import ALONE

    run = Run.create(config, root, name=name, beside=beside or ALONE)
    if name is not None and run.record.run_id != name:
        print(f"there is a run {name} already, so this one is {run.record.run_id}", file=sys.stderr)
    return run


def _print(wanted: Sequence[Wanted], *, as_json: bool) -> None:
    """The configurations, in a form that can be read back."""
    from metaharness.cli.configured import as_yaml, page

    pages = [page(*one) for one in wanted]
    if as_json:
        options.print_json(pages[0] if len(pages) == 1 else pages)
    else:
        typer.echo("---\n".join(map(as_yaml, pages)), nl=False)
