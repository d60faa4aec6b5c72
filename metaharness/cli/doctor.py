"""`doctor`: is this machine, and is this folder of runs, fit?"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from metaharness.cli import options
from metaharness.cli.app import command

if TYPE_CHECKING:
    from metaharness.doctor import Finding
    from metaharness.messages import ModelSpec

UNFIT = 1
STATES = ("ok", "warning", "problem")
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="Really ask this model one short question, which costs a few tokens. Repeatable. Without it nothing is "
        "sent anywhere.",
    ),
]
Deep = Annotated[bool, typer.Option("--deep", help="Read every line of every run, not only last lines and scores.")]


@command(
    """
    metaharness doctor
    metaharness doctor --root runs --deep
    metaharness doctor --model anthropic:claude-haiku-4-5
    metaharness doctor --model openai:qwen3 --base-url http://127.0.0.1:8000/v1 --json
    """
)
def doctor(
    model: Models = None,
    base_url: options.BaseUrl = None,
    deep: Deep = False,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Say whether this machine and this folder of runs are fit, and what to do about each thing that is not.

    It changes nothing and disturbs no run that is being recorded. Exit code 1 when there is a problem; warnings alone
    are 0. Of keys it tells only whether they are set. With --model each call costs a few tokens.
    """
    from metaharness.doctor import Examination, examine

    wanted = Examination(root, _models(model or [], base_url), deep, getattr(sys.stdout, "encoding", None))
    counts: Counter[str] = Counter()
    rows = []
    area = None
    for finding in map(_printable, examine(wanted)):
        counts[finding.state] += 1
        if as_json:
            rows.append(asdict(finding))
            continue
        if finding.area != area:
            typer.echo(finding.area if area is None else f"\n{finding.area}")
            area = finding.area
        for line in _lines(finding):
            typer.echo(line)
    if as_json:
        options.print_json({"findings": rows, **{state: counts[state] for state in STATES}})
    else:
        typer.echo(f"\n{', '.join(_counted(state, counts[state]) for state in STATES)}")
    if counts["problem"]:
        raise typer.Exit(UNFIT)


def _models(told: Sequence[str], base_url: str | None) -> list[ModelSpec]:
    """The models to ask; one base URL fits models of one provider."""
    from metaharness.doctor import check_base_url
    from metaharness.errors import UsageError
    from metaharness.gateway.providers import parse_model

    if base_url is not None:
        check_base_url(base_url)
        if len({name.partition(":")[0] for name in told}) != 1:
            raise UsageError(
                "--base-url needs models of one provider: it is where they are asked",
                hint="for example --model openai:qwen3 --base-url http://127.0.0.1:8000/v1; once for each provider",
            )
    return [parse_model(name, base_url) for name in told]


def _printable(finding: Finding) -> Finding:
    """The same with what stdout cannot write escaped, such as a folder's name that is not Unicode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"

    def escaped(text: str) -> str:
        return text.encode(encoding, "backslashreplace").decode(encoding)

    advice = None if finding.advice is None else escaped(finding.advice)
    return replace(finding, name=escaped(finding.name), found=escaped(finding.found), advice=advice)


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.state:<8} {finding.name}: {' '.join(finding.found.split())}"
    if finding.advice is not None:
        yield f"         -> do: {' '.join(finding.advice.split())}"


def _counted(state: str, number: int) -> str:
    return f"{number} {state}" + ("" if state == "ok" or number == 1 else "s")
