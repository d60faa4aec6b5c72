"""`seal`: the test cases of a domain out of the working tree, and back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaharness.cli import options
from metaharness.cli.app import command
from metaharness.cli.text import counted, printable

if TYPE_CHECKING:
    from metaharness.sealing import Outcome

DomainArgument = Annotated[str, typer.Argument(help="A domain folder, or module:attribute.")]
Undo = Annotated[bool, typer.Option("--undo", help="Bring the cases back to where they lay.")]
Export = Annotated[
    Path | None, typer.Option("--export", metavar="FILE", help="Copy the sealed cases into a file for another machine.")
]
Import = Annotated[Path | None, typer.Option("--import", metavar="FILE", help="Take such a file in, on this machine.")]


@command(
    """
    metaharness seal my_domain
    metaharness seal text_sorting --data DATA --text-field question --label-field answer
    metaharness seal my_domain --export cases.json
    metaharness seal my_domain --import cases.json
    metaharness seal my_domain --undo
    """
)
def seal(
    domain: DomainArgument,
    undo: Undo = False,
    export_to: Export = None,
    import_from: Import = None,
    data: options.Data = None,
    text_field: options.TextField = None,
    label_field: options.LabelField = None,
    domain_option: options.DomainOption = None,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Move the test cases of a domain out of the working tree, so that an agent with file tools does not meet them.

    They go to $XDG_DATA_HOME/metaharness/sealed (or ~/.local/share/...), readable by you alone. A seal stays in their
    place, to be committed: hashes, counts and fingerprints, no text. check, plan, run, search and submit work from it;
    `finish` alone reads the cases. Hashes stay the same, so runs go on, and openings count as before.

    What it does not guard: a program with your own rights and a shell can read the cases where they are, and confirm a
    guess with the fingerprints. What the git history, other files and earlier runs still hold is told, not changed.
    """
    from metaharness import sealing
    from metaharness.errors import UsageError

    if undo + (export_to is not None) + (import_from is not None) > 1:
        raise UsageError("--undo, --export and --import exclude each other", hint="give one of them at a time")
    reference = options.domain_reference(domain)
    given = options.domain_options(data, text_field, label_field, domain_option)
    if undo:
        outcome = sealing.unseal(reference, given)
    elif export_to is not None:
        outcome = sealing.export_cases(reference, given, export_to)
    elif import_from is not None:
        outcome = sealing.import_cases(reference, given, import_from)
    else:
        outcome = sealing.seal(reference, given, runs=root)
    for warning in outcome.warnings:
        typer.echo(f"warning: {printable(warning)}", err=True)
    if as_json:
        options.print_json({name: str(one) if isinstance(one, Path) else one for name, one in asdict(outcome).items()})
        return
    for line in _lines(outcome):
        typer.echo(printable(line))


def _lines(outcome: Outcome) -> list[str]:
    """The outcome as a person reads it."""
    cases = f"{counted(outcome.cases, 'test case')} of {outcome.domain}"
    standing = [f"  seal   {outcome.seal}  (commit it: no text of a case)"]
    standing += [f"  cases  {outcome.place}"] if outcome.here else []
    copy = f"  a copy stays at {outcome.place}: delete it where no other clone is sealed with it"
    taking = "  take it to the other machine, and there: metaharness seal DOMAIN --import FILE"
    told: dict[str, list[str]] = {
        "sealed": [f"sealed: {cases} moved out of the tree", *standing],
        "completed": [f"sealed: what was begun is completed, {cases}", *standing],
        "already sealed": [f"sealed already: {cases}; nothing was changed", *standing],
        "brought back": [f"brought back: {cases} lie in {outcome.file}", copy],
        "not sealed": ["not sealed: no seal stands there, so there is nothing to bring back"],
        "exported": [f"exported: {cases} to {outcome.file}", taking],
        "imported": [f"imported: {cases} are on this machine", *standing],
    }
    return told[outcome.done]
