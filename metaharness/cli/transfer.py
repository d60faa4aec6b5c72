"""`evaluate RUN --frontier`: what a run has found, with other models and on data that is given later."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import INTERRUPTED
from metaharness.cli.flags import budget
from metaharness.cli.progress import CasesLeft
from metaharness.cli.text import counted, one_line, sandbox_line

if TYPE_CHECKING:
    from metaharness.configuration import Budget
    from metaharness.messages import ModelSpec
    from metaharness.run.transfer import Transfer, TransferScore

Frontier = Annotated[
    bool,
    typer.Option(
        "--frontier",
        help="The argument is a run: its frontier and baselines, over --models and --data. Given data is sealed like "
        "the test split: it needs a finished run, and its test split is asked; without it the run's search cases are.",
    ),
]
Models = Annotated[
    str | None,
    typer.Option("--models", help="With --frontier: models, comma-separated; openai:NAME@URL names an endpoint."),
]
WITH_IT = frozenset({"harness", "frontier", "models", "data", "text_field", "label_field", "domain_option", "price"})
ALSO = frozenset({"no_cache", "budget_calls", "budget_tokens", "budget_usd", "root", "as_json"})
FOR_DATA = ("text_field", "label_field", "domain_option")


def evaluate_frontier(context: typer.Context) -> None:
    """The grid: progress on stderr, one table."""
    import anyio

    from metaharness.run.transfer import Transfer
    from metaharness.store import command_on, find_run

    given = context.params
    models, data, further = _grid(context)
    path = find_run(given["root"], str(given["harness"]))
    with Transfer.open(
        path,
        models=models,
        data=data,
        options=further,
        budget=_budget(given),
        prices=options.prices(given["price"]),
        cache=False if given["no_cache"] else None,
    ) as transfer:
        found = anyio.run(_until_signal, transfer)
    if found is None:
        told = command_on(path, "evaluate")
        print(f"interrupted: the same command goes on with it ({told} --frontier ...)", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    if given["as_json"]:
        options.print_json(_page(transfer, found))
    else:
        typer.echo(_text(transfer, found))


def refuse(context: typer.Context) -> None:
    """What needs --frontier, or what has to be named without it.

    Raises:
        UsageError: It is not as it has to be.
    """
    from metaharness.errors import UsageError

    if context.params["models"] is not None:
        raise UsageError("--models goes with --frontier", hint="one harness is evaluated with one --model")
    if context.params["domain"] is None:
        raise UsageError("no domain is named", hint="--domain FOLDER; or RUN --frontier, which has one")


def _grid(context: typer.Context) -> tuple[list[ModelSpec], list[str], dict[str, str]]:
    """Models, data and further options of the domain, as they are given.

    Raises:
        UsageError: An option is given that the run decides, or nothing is compared.
    """
    from metaharness.errors import UsageError

    given = context.params
    said = [name for name in given if _said(context, name)]
    wrong = [name for name in said if name not in WITH_IT | ALSO]
    if wrong:
        flags = ", ".join(_flag(context, name) for name in wrong)
        raise UsageError(f"{flags} and --frontier exclude each other", hint="the run decides that; leave it out")
    if given["models"] is None and given["data"] is None:
        raise UsageError("neither --models nor --data is given", hint="name what the run has not been evaluated with")
    needless = [_flag(context, name) for name in FOR_DATA if given["data"] is None and name in said]
    if needless:
        raise UsageError(f"{needless[0]} goes with --data", hint="the run's own search cases are read as they were")
    further = options.domain_options(None, given["text_field"], given["label_field"], given["domain_option"])
    return [_model(text) for text in _listed(given["models"])], _folders(given["data"]), further


def _said(context: typer.Context, name: str) -> bool:
    """Whether it is on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _flag(context: typer.Context, name: str) -> str:
    return next(parameter.opts[0] for parameter in context.command.params if parameter.name == name)


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _folders(text: str | None) -> list[str]:
    """Each made absolute; a folder may have a comma in its name where it is the only one."""
    parts = [text] if text is not None and Path(text).expanduser().exists() else _listed(text)
    return [options.domain_options(part, None, None, None)["data"] for part in parts]


def _model(text: str) -> ModelSpec:
    name, at, url = re.match(r"(.*?)(?:(@)(https?://.*))?$", text, re.DOTALL).groups()  # type: ignore[union-attr]
    return options.model(name, url if at else None)


def _budget(given: Mapping[str, Any]) -> Budget:
    return budget(None, None, given["budget_calls"], given["budget_tokens"], given["budget_usd"])


async def _until_signal(transfer: Transfer) -> list[TransferScore] | None:
    from metaharness.cli.signals import until_signal

    transfer.listener = display = _Display(transfer)
    return await until_signal(transfer, transfer.run, display.line.clear)


class _Display(CasesLeft):
    """The grid cell by cell, on a terminal."""

    def __init__(self, transfer: Transfer) -> None:
        super().__init__("evaluate", lambda: transfer.spent)
        self._told: set[str] = set()

    def __call__(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "sandbox":
            if fields["told"] not in self._told:
                self._told.add(fields["told"])
                self.line.say(sandbox_line(fields["told"]))
        elif kind == "evaluating":
            where = "" if fields["data"] is None else f" on {Path(fields['data']).name}"
            self.begin(f"{fields['iteration']:03d} {one_line(fields['model'])}{where}", fields["cases"])
        else:
            self.ended()


def _page(transfer: Transfer, scores: Sequence[TransferScore]) -> dict[str, Any]:
    """The grid as JSON: the contract of `--json`."""
    frontier = transfer.history.scoreboard().frontier
    shown = {"planned", "ended", "missing", "statuses", "bounds", "context_chars", "sandbox", "order_dependent"}
    return {
        "run": transfer.history.record.run_id,
        "split": "search" if scores[0].data is None else "test",
        "trials": transfer.history.record.config.trials,
        "objectives": [objective.model_dump() for objective in transfer.history.objectives],
        "candidates": [
            {
                "iteration": one.number,
                "name": one.proposal.name,
                "baseline": one.is_baseline,
                "frontier": one.number in frontier,
            }
            for one in transfer.candidates
        ],
        "cells": [
            {
                "iteration": one.iteration,
                "model": one.model.id,
                "base_url": one.model.base_url,
                "data": one.data,
                "look": one.look,
                "metrics": {name: value.model_dump() for name, value in one.score.objectives.items()},
                **one.score.model_dump(include=shown),
            }
            for one in scores
        ],
        "spent": transfer.spent.model_dump(),
    }


def _text(transfer: Transfer, scores: Sequence[TransferScore]) -> str:
    """One table: a row for each candidate, a column for each model on each data."""
    from metaharness.scoring.scoreboard import align, format_estimate

    objective = transfer.history.objectives[0]
    frontier = transfer.history.scoreboard().frontier

    def column(one: TransferScore) -> tuple[ModelSpec, str | None]:
        return one.model, one.data

    columns = list(dict.fromkeys(map(column, scores)))
    by_place = {(one.iteration, *column(one)): one.score for one in scores}
    heads = [one_line(model.id) + ("" if data is None else f" on {_label(data, columns)}") for model, data in columns]
    rows = [["iter", "", "name", *heads]]
    for one in transfer.candidates:
        mark = " ".join(["+"] * (one.number in frontier) + ["baseline"] * one.is_baseline)
        found = [by_place[one.number, *place] for place in columns]
        cells = [f"{format_estimate(score, objective)} {score.ended}/{score.planned}" for score in found]
        rows.append([f"{one.number:03d}", mark, one_line(one.proposal.name), *cells])
    legend = f"{objective.name}: mean [95% interval] and cases with a value   + on the frontier of the run"
    return "\n".join([align(rows), legend, *_notes(transfer, scores)])


def _label(data: str, columns: Sequence[tuple[ModelSpec, str | None]]) -> str:
    """The name of the folder, or all of its path where another one has that name."""
    others = {other for _, other in columns if other is not None and other != data}
    same = any(Path(other).name == Path(data).name for other in others)
    return one_line(data if same else Path(data).name)


def _notes(transfer: Transfer, scores: Sequence[TransferScore]) -> list[str]:
    from metaharness.cli.evaluate import cost_line

    notes = []
    if scores[0].data is None:
        notes.append("on search, where the frontier was chosen with the model of the run: its means are optimistic")
    for data, look in {one.data: one.look for one in scores if one.data is not None}.items():
        again = "" if look == 1 else ": these cases were opened before, so they are no longer unseen"
        notes.append(f"{one_line(data)}: its test split, look {look}{again}")
    missing = sum(one.score.missing for one in scores)
    if missing:
        notes.append(f"{counted(missing, 'pair')} without a value; the same command asks again")
    return [*notes, cost_line(transfer.spent)]
