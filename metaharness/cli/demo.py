"""`demo`: a whole search in a minute, offline, without a key."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaharness.cli import options
from metaharness.cli.app import INTERRUPTED, command
from metaharness.cli.flags import Quiet

if TYPE_CHECKING:
    from metaharness.configuration import RunConfig
    from metaharness.openings import SealedResult
    from metaharness.run import Run

DOMAIN = "text_classification"
RunId = Annotated[str, typer.Option("--name", help="The run's id; -2, -3, ... is added when it is taken.")]

INTRO = """\
A search over harnesses: programs around a frozen model that sort support tickets of an electronics shop into 20 queues.
The model is embedded:icl, a small deterministic classifier inside this program: no key, no network. The candidates are
replayed from a script that ships with the example, so they are trusted and run as plain processes.
"""


@command(
    """
    metaharness demo
    metaharness demo --root /tmp/runs --json
    """
)
def demo(
    root: options.Root = options.DEFAULT_ROOT,
    name: RunId = "demo",
    quiet: Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Search, offline and without a key: baselines, scripted candidates, scoreboard, and the sealed test of the winner.

    The same numbers come out on every machine. What it has recorded stays in the run directory.
    """
    import anyio

    from metaharness.cli.output import resume_command
    from metaharness.cli.searching import Session

    started = time.monotonic()
    if not quiet:
        print(INTRO, file=sys.stderr)
    session = Session(quiet=quiet)
    run, _ = anyio.run(session.search, lambda: _create(root, name))
    if session.interrupted:
        print(f"interrupted; to go on: {resume_command(run)}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    result = _test(run, quiet=quiet)
    _print(run, result, time.monotonic() - started, as_json=as_json)


def _create(root: Path, name: str) -> Run:
    from metaharness.run import Run

    return Run.create(_config(), root, name=name)


def _config() -> RunConfig:
    from metaharness.configuration import RunConfig
    from metaharness.loading import load_domain
    from metaharness.proposers.scripted import read_proposals

    proposals = len(read_proposals(load_domain(DOMAIN)))
    models = options.models("embedded:icl", None, None)
    return RunConfig(domain=DOMAIN, models=models, proposer="scripted", iterations=proposals, sandbox="process")


def _test(run: Run, *, quiet: bool) -> SealedResult:
    import anyio

    from metaharness.cli.finish import run_test
    from metaharness.run import Finishing

    with Finishing.open(run.store.path) as finishing:
        result = anyio.run(run_test, finishing, False, quiet)
    if result is None:
        where = shlex.join(["--root", str(run.store.path.parent), run.record.run_id])
        print(f"interrupted; to go on: metaharness finish {where}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    return result


def _print(run: Run, result: SealedResult, seconds: float, *, as_json: bool) -> None:
    from metaharness.cli.finish import result_text
    from metaharness.history import History
    from metaharness.run.summaries import read_spent, run_status, summary_page
    from metaharness.store import RunStore

    history = History(RunStore.open(run.store.path, record=False))
    page = summary_page(history, run_status(history), read_spent(history).model_dump())
    board = history.scoreboard()
    if as_json:
        options.print_json({**page, "path": str(run.store.path), "scoreboard": board.rows(), "seconds": seconds})
        return
    spent = page["spent"]
    tokens = spent["input_tokens"] + spent["output_tokens"]
    frontier = ", ".join(f"{number:03d}" for number in board.frontier)
    sections = [
        board.text(),
        f"frontier: {frontier}: nothing is better in one objective and no worse in the others",
        "",
        result_text(result, history.objectives),
        "",
        f"cost: {spent['calls']:,} calls, {tokens:,} tokens, ${spent['usd']:.2f}, {seconds:.1f} s",
        f"run directory: {run.store.path}",
        "",
        next_steps(run.store.path, result.winner, result.baseline),
    ]
    typer.echo("\n".join(sections))


def next_steps(path: Path, winner: int, baseline: int) -> str:
    """What to type next: in this run, in one's own repository, from a coding agent."""
    program = "uv run metaharness" if "UV_RUN_RECURSION_DEPTH" in os.environ else "metaharness"
    root = "" if path.parent == options.DEFAULT_ROOT else f" --root {shlex.quote(str(path.parent))}"
    run = f"--run {path.name}{root}"
    closer = _aligned(
        (f"{program} show {winner} {run}", "the best harness: source, reasoning, numbers"),
        (f"{program} trace {winner} {run} --failures", "the raw cases that it gets wrong"),
        (f"{program} compare {winner} {baseline} {run}", "case by case against the best baseline"),
        (f"{program} export {path.name}{root}", "the best harness as a folder that runs on its own"),
    )
    own = _aligned(
        *_installing(),
        ("metaharness init my_domain", "a domain to start from: cases, evaluator, baselines"),
        ("metaharness check my_domain", "whether it can be searched"),
        ("metaharness run --domain my_domain", "--model anthropic:NAME or openai:NAME for a language model"),
    )
    return f"""\
To look closer
{closer}

In a repository of your own
{own}

From Claude Code, or any coding agent with a shell: start it there and say
  Run `metaharness run -d my_domain --iterations 0 --name mine`: it scores the baselines. Then, again and again: read
  `metaharness scoreboard mine` and `metaharness trace N --run mine --failures`, write a better harness.py
  as my_domain/DOMAIN.md says, and hand it in with
  `metaharness submit harness.py --run mine --hypothesis "..."`."""


def _installing() -> list[tuple[str, str]]:
    """How the command comes into another folder, from a clone; nothing where it is installed already."""
    clone = Path(__file__).resolve().parents[2]
    if not (clone / "pyproject.toml").is_file():
        return []
    return [(f"uv tool install {shlex.quote(str(clone))}", "once; from then on the command is `metaharness`")]


def _aligned(*rows: tuple[str, str]) -> str:
    width = max(len(command) for command, _ in rows)
    return "\n".join(f"  {command:<{width}}  {what}" for command, what in rows)
