"""A small domain written to disk, and what the tests of runs and of the command line share.

The domain: items to be given a colour. A harness puts a style in front of the item (`[good] item 07`), and the
script of the model decides which items that style gets right. So each candidate's answers are known beforehand.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from metaharness.cli import main
from metaharness.configuration import Budget, RunConfig
from metaharness.history import History
from metaharness.messages import ModelSpec
from metaharness.proposers import Proposer
from metaharness.proposers.scripted import ScriptedProposer
from metaharness.records import Proposal
from metaharness.run import Run
from metaharness.search import search
from metaharness.store import RunStore

COLOURS = ("red", "green", "blue")
CASES = 12
RIGHT: Mapping[str, range] = {
    "plain": range(4),
    "long": range(5),
    "good": range(12),
    "ok": range(12),
    "x": range(0),
    "other": range(6),
}
"""Which items each style gets right."""

DOMAIN = '''
"""Items and their colours."""
import json
from pathlib import Path

from evaluator import Exact

from metaharness.domain import Case, Domain, Objective


class Colours(Domain):
    name = "colours"
    objectives = (Objective("accuracy", range=(0, 1)), Objective("context_chars", "min"))
    evaluator = Exact()

    def __init__(self, data):
        self.data = Path(data)

    def cases(self, split):
        for line in (self.data / f"{split.value}.jsonl").read_text().splitlines():
            row = json.loads(line)
            yield Case(id=row["id"], input=row["text"], expected=row["colour"])


def domain(data=None):
    return Colours(data or Path(__file__).parent / "data")
'''
EVALUATOR = """
class Exact:
    def grade(self, context):
        return context.output == context.case.expected
"""


def harness(style: str, *, before: str = "", body: str = "") -> str:
    """The source of a harness that asks in a style. `before` runs at import, `body` at the start of `predict`."""
    return (
        f"{before}\n\n"
        "class Harness:\n"
        "    def predict(self, text, model):\n"
        f"{textwrap.indent(body or 'pass', ' ' * 8)}\n"
        f"        return model.complete('[{style}] ' + text).text\n"
    )


SYNTAX_ERROR = "class Harness:\n    def predict(self, text, model)\n        return text\n"
RAISES = harness("good", body="raise RuntimeError('not today')")
BASELINES = {"00_plain.py": harness("plain"), "01_long.py": harness("long", before="# " + "words " * 20)}
PROPOSALS: Mapping[str, str | Mapping[str, str]] = {
    "01_other.py": harness("other"),
    "02_broken.py": SYNTAX_ERROR,
    "03_good": {
        "harness.py": harness("good"),
        "notes.txt": "a file beside the entry",
        "reasoning.md": "the good style is known to work",
        "proposal.json": json.dumps(
            {
                "hypothesis": "the good style gets every item right",
                "axis": "prompt",
                "components": ["style"],
                "predicted_effect": "+0.5",
                "parents": [0],
            }
        ),
    },
    "04_raises.py": RAISES,
    "05_bad.py": harness("x"),
    "06_short.py": harness("ok"),
}
"""Honest, rejected and regressing: `other` is indecisive, `good` better, `x` worse, `ok` as good with less context."""


@dataclass
class Toy:
    """The domain on disk."""

    folder: Path
    script: Path
    defaults: dict[str, Any] = field(default_factory=dict)

    def config(self, **changes: Any) -> RunConfig:
        values: dict[str, Any] = {
            "domain": str(self.folder),
            "models": {"target": ModelSpec(provider="scripted", name=str(self.script))},
            "iterations": len(list((self.folder / "proposals").iterdir())),
            "concurrency": 4,
            "sandbox": "process",
            **self.defaults,
            **changes,
        }
        if isinstance(values.get("budget"), dict):
            values["budget"] = Budget(**values["budget"])
        return RunConfig(**values)

    def arguments(self, *more: object) -> list[str]:
        """`--domain ... --model ...` for the command line."""
        model = f"scripted:{self.script}"
        return ["--domain", str(self.folder), "--model", model, "--sandbox", "process", *map(str, more)]

    def write_script(self, rules: Iterable[Mapping[str, Any]]) -> None:
        self.script.write_text("".join(json.dumps(rule) + "\n" for rule in rules))


def write_toy(
    folder: Path,
    *,
    cases: int = CASES,
    baselines: Mapping[str, str | Mapping[str, str]] = BASELINES,
    proposals: Mapping[str, str | Mapping[str, str]] = PROPOSALS,
    delay_ms: float = 0,
) -> Toy:
    """Write the domain, its data, its candidates and the model's script."""
    folder.mkdir(parents=True)
    (folder / "domain.py").write_text(DOMAIN)
    (folder / "evaluator.py").write_text(EVALUATOR)
    (folder / "DOMAIN.md").write_text("Say the colour of the item.\n")
    for split, count in (("train", 3), ("search", cases), ("test", 3)):
        write_cases(folder, split, count)
    for name, candidates in (("baselines", baselines), ("proposals", proposals)):
        (folder / name).mkdir()
        for path, content in candidates.items():
            write_candidate(folder / name / path, content)
    toy = Toy(folder, folder / "model.jsonl")
    toy.write_script(rules(cases, delay_ms=delay_ms))
    return toy


def write_cases(folder: Path, split: str, count: int) -> None:
    mark = "" if split == "search" else f"{split} "
    rows = [
        {"id": f"{split}-{number:02d}", "text": f"{mark}item {number:02d}", "colour": COLOURS[number % 3]}
        for number in range(count)
    ]
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_candidate(path: Path, content: str | Mapping[str, str]) -> Path:
    if isinstance(content, str):
        path.write_text(content)
    else:
        for name, text in content.items():
            target = path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    return path


def rules(cases: int = CASES, *, delay_ms: float = 0) -> list[dict[str, Any]]:
    """The model: a right answer where the style deserves it, else a wrong one."""
    right = [
        {"contains": f"[{style}] item {number:02d}", "text": COLOURS[number % 3], "delay_ms": delay_ms}
        for style, numbers in RIGHT.items()
        for number in numbers
        if number < cases
    ]
    return [*right, {"text": "grey", "delay_ms": delay_ms}]


# --- searching in this process ----------------------------------------------------------------------------------


async def finish(run: Run, proposer: Proposer | None = None) -> str:
    """Search until the end and close the run."""
    async with run:
        return await search(run, proposer or ScriptedProposer())


async def searched(config: RunConfig, root: Path, proposer: Proposer | None = None, **options: Any) -> History:
    """A whole search; what it has recorded."""
    run = Run.create(config, root, **options)
    await finish(run, proposer)
    return recorded(run.store.path)


def recorded(path: Path) -> History:
    return History(RunStore.open(path, record=False))


def proposals_of(*sources: str) -> list[Proposal]:
    return [Proposal(files={"harness.py": source}, name=f"p{place}") for place, source in enumerate(sources)]


# --- looking at a run directory ---------------------------------------------------------------------------------


def lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a file; none when it is not there."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def rows(path: Path) -> list[dict[str, Any]]:
    """The scoreboard."""
    return recorded(path).scoreboard().rows()


def final_traces(path: Path) -> dict[tuple[int, str, int], dict[str, Any]]:
    """(iteration, case, trial) to the trace that counts, without what differs from run to run."""
    found: dict[tuple[int, str, int], dict[str, Any]] = {}
    for file in sorted(path.glob("iterations/*/eval_trace.jsonl")):
        if file.parent.name.isdigit():
            for line in lines(file):
                found[int(file.parent.name), line["case_id"], line["trial"]] = timeless(line)
    return found


TIMES = frozenset(
    {
        "time",
        "created",
        "submitted",
        "opened",
        "started",
        "finished",
        "duration_ms",
        "latency_ms",
        "seconds",
        "spent",
        "revision",
        "trace_sha256",
        "trace_bytes",
        "marks",
        "run",
        "run_id",
    }
)
"""Fields that hold times, or follow from them or from the order in which calls ended."""


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items() if name not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def essence(path: Path) -> dict[str, Any]:
    """All that two runs which came to the same have in common."""
    history = recorded(path)
    spent = json.loads((path / "cost.json").read_text())["spent"]
    return {
        "scoreboard": history.scoreboard().rows(),
        "rounds": [vars(closed) for closed in history.closed_rounds],
        "traces": final_traces(path),
        "scores": [timeless(it.score.model_dump()) if it.score else None for it in history],
        "rejected": [timeless(it.rejection.model_dump()) if it.rejection else None for it in history],
        "verdicts": [it.verdict.model_dump() if it.verdict else None for it in history],
        "proposals": [timeless(it.proposal.model_dump()) for it in history],
        "files": [history.store.files(it.number) for it in history],
        "summary": [timeless(line) for line in lines(path / "evolution_summary.jsonl")],
        "calls": sorted(line["key"] for line in lines(path / "calls.jsonl")),
        "spent": {name: value for name, value in spent.items() if name != "seconds"},
    }


def assert_nothing_twice(path: Path) -> None:
    """No completed call is in the journal twice, and no pair has two lines that count."""
    keys = [line["key"] for line in lines(path / "calls.jsonl")]
    assert len(keys) == len(set(keys))
    for file in path.glob("iterations/*/eval_trace.jsonl"):
        final = [
            (line["case_id"], line["trial"])
            for line in lines(file)
            if line["status"] not in ("infrastructure", "budget", "evaluator_error")
        ]
        assert len(final) == len(set(final)), file


def assert_scores_match_traces(path: Path) -> None:
    for file in path.glob("iterations/*/score.json"):
        score, content = json.loads(file.read_text()), file.with_name("eval_trace.jsonl").read_bytes()
        assert score["trace_bytes"] == len(content)
        assert score["trace_sha256"] == hashlib.sha256(content).hexdigest()


# --- real processes ---------------------------------------------------------------------------------------------


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "metaharness", *map(str, arguments)]


@contextmanager
def started(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A real `metaharness` process; ended, whatever happens, when the block is left."""
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def executed(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False, **options)


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> bool:
    """Poll until the condition holds; False when the process ended before."""
    while not condition():
        try:
            process.wait(0.005)
        except subprocess.TimeoutExpired:
            continue
        return condition()
    return True


def count_lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


class Said(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def page(self) -> Any:
        return json.loads(self.out)


def say(*arguments: object) -> Said:
    """A command in this process, through the function that the installed program calls."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(map(str, arguments)))
    return Said(code, out.getvalue(), err.getvalue())


def assert_complains(said: Said, code: int, message: str, hint: str) -> None:
    """The error is on stderr, with a hint, and nothing is on stdout."""
    assert "Traceback" not in said.err
    assert said.code == code, said.err
    assert said.out == ""
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    hints = [line for line in said.err.splitlines() if line.startswith("hint: ")]
    assert len(errors) == len(hints) == 1, said.err
    assert message in errors[0]
    assert hint in hints[0]
