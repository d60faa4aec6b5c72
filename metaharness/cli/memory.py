"""`memory`: what earlier runs have taught, and what of it is not to be offered any more."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import command
from metaharness.cli.text import one_line, printable
from metaharness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from metaharness.configuration import Lesson


class Action(StrEnum):
    """What is done with lessons."""

    LIST = "list"
    SHOW = "show"
    FORGET = "forget"


Doing = Annotated[Action, typer.Argument(help="list: a line each; show: one in full; forget: offer it no more.")]
Name = Annotated[
    str | None, typer.Argument(metavar="LESSON", help="RUN/NNN as `list` shows it; forget also takes a RUN.")
]
OfDomain = Annotated[str | None, typer.Option("--domain", help="Only lessons of the domain of this name.")]
Undo = Annotated[bool, typer.Option("--undo", help="Offer again what was forgotten.")]


@command(
    """
    metaharness memory list
    metaharness memory show batch/003
    metaharness memory forget batch/003
    metaharness memory forget batch --undo
    """
)
def memory(
    action: Doing = Action.LIST,
    lesson: Name = None,
    domain: OfDomain = None,
    undo: Undo = False,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Show what reports of the runs below the root have taught, with its evidence, or forget some of it.

    A run is offered lessons of its domain where memory is on in its configuration; off is the default.
    """
    from metaharness.memory import all_lessons
    from metaharness.store import read_forgotten

    found = all_lessons(root, lambda told: typer.echo(f"warning: {printable(told)}", err=True))
    found = [one for one in found if domain in (None, one.domain)]
    if action is Action.FORGET:
        _forget(root, _chosen(found, lesson, whole_runs=True), undo=undo, as_json=as_json)
        return
    if undo:
        raise UsageError("--undo belongs to forget", hint="`metaharness memory forget RUN/NNN --undo`")
    forgotten = read_forgotten(root)
    if action is Action.SHOW:
        found = _chosen(found, lesson, whole_runs=False)
    elif lesson is not None:
        raise UsageError("list takes no lesson", hint=f"`metaharness memory show {lesson}` shows one")
    rows = [_row(one, forgotten) for one in found]
    if as_json:
        options.print_json(rows[0] if action is Action.SHOW else rows)
    elif action is Action.SHOW:
        _show(found[0], rows[0])
    else:
        _list(root, rows)


def _chosen(found: list[Lesson], name: str | None, *, whole_runs: bool) -> list[Lesson]:
    chosen = [one for one in found if name == one.id or (whole_runs and name == one.run)]
    if not chosen:
        said = "no lesson was named" if name is None else f"there is no lesson {name!r:.100}"
        known = ", ".join(one.id for one in found[:10])
        raise UsageError(said, hint=f"lessons here: {known}" if known else "there are none here yet")
    return chosen


def _row(one: Lesson, forgotten: dict[str, str]) -> dict[str, Any]:
    silent = forgotten.get(one.id) == one.candidate_hash
    return {"lesson": one.id, **one.model_dump(mode="json"), "forgotten": silent}


def _list(root: Path, rows: list[dict[str, Any]]) -> None:
    from metaharness.scoring.scoreboard import align

    if not rows:
        typer.echo(f"no lessons in {root}: they are made of candidates with a report or a hypothesis")
        return
    lines = [["lesson", "domain", "verdict", "delta", "cases", "what", ""]]
    for row in rows:
        what = one_line(row["takeaway"] or row["hypothesis"])
        marks = ["forgotten"] * row["forgotten"] + row["cautions"]
        lines.append(
            [
                one_line(row["lesson"]),
                one_line(row["domain"]),
                row["verdict"],
                f"{row['delta']:+.3f}",
                str(row["units"]),
                what if len(what) <= 60 else f"{what[:57]}...",
                one_line("; ".join(marks)),
            ]
        )
    typer.echo(align(lines))


def _show(one: Lesson, row: dict[str, Any]) -> None:
    from metaharness.memory import lesson_lines

    typer.echo(printable("\n".join(lesson_lines(one))))
    if row["forgotten"]:
        typer.echo("  forgotten: it is offered to no further run")


def _forget(root: Path, chosen: list[Lesson], *, undo: bool, as_json: bool) -> None:
    from metaharness.store import change_forgotten

    hashes = {one.id: one.candidate_hash for one in chosen}
    change_forgotten(root, add=None if undo else hashes, remove=list(hashes) if undo else ())
    if as_json:
        options.print_json({"known_again" if undo else "forgotten": list(hashes)})
    else:
        typer.echo(f"{'known again' if undo else 'forgotten'}: {one_line(', '.join(hashes))}")
