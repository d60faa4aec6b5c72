"""What the author of a domain implements or touches.

    my_domain/
      domain.py       def domain(data=None) -> Domain          trusted, outside the sandbox
      evaluator.py    grade(context) -> bool | float | Grade   trusted, outside the sandbox
      driver.py       build, learn, ask                        inside the sandbox, optional
      DOMAIN.md       told to the proposer
      harness-requirements.txt    what a harness may import beside the standard library, optional
      baselines/      harness files or folders; the first by name is iteration 000
      proposals/      what the scripted proposer replays, optional

The driver may define any of four functions; what it leaves out has the default shown:

    def check(module): ...                        # None, or what is wrong with the candidate's module
    def build(module): return module.Harness()
    def learn(harness, examples, model): ...      # examples: [{"input": ..., "expected": ...}]
    def ask(harness, case_input, model): return harness.predict(case_input, model)
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from metaharness.errors import DomainError, MetaharnessError
from metaharness.messages import Completion
from metaharness.records import HARNESS_CHARS, Call, Direction, Limits, ObjectiveRecord

MEASURES: Mapping[str, str] = {
    "context_chars": "characters of all messages sent while predicting",
    "calls": "model calls while predicting",
    "input_tokens": "tokens",
    "output_tokens": "tokens",
    "usd": "US dollars",
    "latency_ms": "milliseconds waited for the model",
    HARNESS_CHARS: "characters of the harness's own files",
}
"""Objectives that the engine measures itself, for every domain."""


REQUIREMENTS = "harness-requirements.txt"


class Split(StrEnum):
    """`train`: a harness may learn from it. `search`: scores the search. `test`: sealed."""

    TRAIN = "train"
    SEARCH = "search"
    TEST = "test"


@dataclass(frozen=True)
class Case:
    """One evaluation unit."""

    id: str
    input: Any
    """Any JSON value; the only thing the harness sees."""
    expected: Any = None
    """Any JSON value, or None; it stays outside the sandbox."""
    tags: tuple[str, ...] = ()
    group: str | None = None
    """Cases that belong together (one conversation, one document) count as one unit of measurement."""
    files: tuple[Path, ...] = ()
    """Files the evaluator may need."""


@dataclass(frozen=True)
class Objective:
    """Something to optimise. A name from `MEASURES` is measured by the engine; any other comes from the grades."""

    name: str
    direction: Direction = "max"
    unit: str = ""
    range: tuple[float, float] | None = None
    worst: float | None = None
    """What a failed case scores; None takes the bad end of `range`, or what was measured."""

    def record(self) -> ObjectiveRecord:
        """The same as it is written to disk, with `worst` resolved."""
        worst = self.worst
        if worst is None and self.range is not None:
            worst = self.range[0] if self.direction == "max" else self.range[1]
        return ObjectiveRecord(name=self.name, direction=self.direction, unit=self.unit, range=self.range, worst=worst)


@dataclass(frozen=True)
class Grade:
    """What an evaluator says of one output."""

    value: float
    """The primary objective."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further objectives by name, and anything else worth recording."""
    notes: str = ""
    """Why; shown to the proposer with the trace."""


class Judge(Protocol):
    """A model for grading, through the gateway, with the role `judge`."""

    async def complete(self, prompt: str, **options: Any) -> Completion:
        """Ask the judge. Raises ModelFailure, which makes the case missing."""
        ...


@dataclass(frozen=True)
class GradeContext:
    """Everything an evaluator may look at."""

    case: Case
    output: Any
    """The harness's answer: any JSON value."""
    calls: Sequence[Call]
    trial: int
    files: Path | None
    """Folder of the case's working files, where the domain has an environment; else None."""
    judge: Judge | None
    """None when no model has the role `judge`."""


GradeResult = bool | float | Grade


class Evaluator(Protocol):
    """Grades outputs. Trusted; an exception makes the case `evaluator_error`, which is missing data.

    An evaluator may set `in_place = True` to say that `grade` is a plain comparison, quick whatever the output: it is
    then called without handing it to a thread. Leave it out where an output could make grading slow (a regular
    expression, a parser, a program to run): everything else would wait.
    """

    def grade(self, context: GradeContext) -> GradeResult | Awaitable[GradeResult]:
        """Grade one output. A plain function runs on a thread, an async one on the event loop."""
        ...


class Domain:
    """Base of every domain: defaults for all that most of them share.

    A subclass sets `name`, `objectives` and `evaluator` and implements `cases`.
    """

    name: str = ""
    objectives: Sequence[Objective] = ()
    """The first is the primary one; it orders candidates."""
    evaluator: Evaluator
    limits: Limits = Limits()
    online: bool = False
    """True: cases come in a fixed order, and after each answer the harness learns from it."""
    python: str | None = None
    """An interpreter with what a harness may import; None: this one, with what `requirements` says."""
    subprocess: bool = False
    """True: a harness may start processes, such as the programs in /usr/bin, which it then sees. Bubblewrap alone can
    bound what they do, so the run is refused where it does not work, unless a sandbox is asked for by hand that is
    none (`process`) or one of your own (`--sandbox-command`). `limits.processes` bounds their number, also under root;
    `limits.memory_mb` each of them, and all together; `limits.cpu_seconds` each of them. They have no network, no
    files but the worker's temporary folder, and end with the worker."""
    root: Path = Path()
    """The folder of `domain.py`; set when it is loaded."""
    loaded_with: Mapping[str, str] = MappingProxyType({})
    """The options of the factory it was loaded with; set when it is loaded."""

    def cases(self, split: Split) -> Iterable[Case]:
        """The cases of one split. Each split is loaded by itself, when it is asked for."""
        raise NotImplementedError

    def baselines(self) -> Sequence[Path]:
        """Harness files or folders to compare with, in order; by default those in `baselines/`."""
        return candidates_in(self.root / "baselines")

    def proposals(self) -> Path:
        """The folder that the scripted proposer replays."""
        return self.root / "proposals"

    def driver(self) -> Path | None:
        """The file that drives a harness inside the sandbox; None for the default driver."""
        path = self.root / "driver.py"
        return path if path.is_file() else None

    def requirements(self) -> Path | None:
        """The file that says what a harness may import; None for the standard library only, or what `python` has."""
        path = self.root / REQUIREMENTS
        return path if path.is_file() else None

    def instructions(self) -> str:
        """What a proposer is told about the domain."""
        path = self.root / "DOMAIN.md"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def redact(self, text: str) -> str:
        """Replace what must not be stored. Called on every string before it is written."""
        return text


def candidates_in(folder: Path) -> list[Path]:
    """The harness files (`*.py`) and folders (holding `harness.py`) in a folder, sorted by name."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(("_", "."))
        and ((path.is_file() and path.suffix == ".py") or (path / "harness.py").is_file())
    )


# --- identity ---------------------------------------------------------------------------------------------------


def split_cases(domain: Domain, split: Split) -> list[Case]:
    """The cases of one split, checked: unique ids, JSON values.

    Raises:
        DomainError: The cases cannot be read, one is not a Case, an id repeats, or a value is not JSON.
    """
    cases: list[Case] = []
    seen: set[str] = set()
    for case in _listed(domain, split):
        if not isinstance(case, Case):
            raise DomainError(
                f"cases({split.value!r}) of {domain.name} yielded a {type(case).__name__}, not a Case",
                hint="yield metaharness.domain.Case(id=..., input=..., expected=...)",
            )
        if case.id in seen or not case.id:
            raise DomainError(
                f"case id {case.id!r} in split {split.value} is empty or repeats",
                hint="give every case of a split an id of its own, such as its line number",
            )
        try:
            json.dumps([case.input, case.expected], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DomainError(
                f"case {case.id!r} in split {split.value} is not JSON: {error}",
                hint="input and expected are texts, numbers, lists and objects; NaN is none of them",
            ) from error
        seen.add(case.id)
        cases.append(case)
    return cases


def _listed(domain: Domain, split: Split) -> list[Case]:
    try:
        return list(domain.cases(split))
    except MetaharnessError:
        raise
    except (Exception, SystemExit) as error:
        raise DomainError(
            f"cases({split.value!r}) of {domain.name} failed: {type(error).__name__}: {error}",
            hint="check the domain's data",
        ) from error


def cases_hash(cases: Iterable[Case]) -> str:
    """SHA-256 over the cases of a split, in their order."""
    digest = hashlib.sha256()
    for case in cases:
        row = [case.id, case.input, case.expected, list(case.tags), case.group]
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def files_hash(files: Mapping[str, bytes]) -> str:
    """SHA-256 over sorted paths and contents."""
    digest = hashlib.sha256()
    for path, content in sorted(files.items()):
        digest.update(f"{len(path.encode())}:{path}{len(content)}:".encode() + content)
    return digest.hexdigest()


def domain_hash(domain: Domain) -> str:
    """SHA-256 over what decides how a candidate is scored: the Python files beside `domain.py`, and these two texts."""
    sources = {
        path.name: path.read_bytes()
        for path in domain.root.glob("*")
        if path.is_file() and (path.suffix == ".py" or path.name in ("DOMAIN.md", REQUIREMENTS))
    }
    return files_hash(sources)


def evaluator_hash(domain: Domain) -> str:
    """SHA-256 over the source file of the evaluator's `grade`."""
    grade = inspect.unwrap(type(domain.evaluator).grade)
    code = getattr(grade, "__code__", None)
    source = Path(code.co_filename) if code is not None else Path()
    content = source.read_bytes() if source.is_file() else b""
    return files_hash({type(domain.evaluator).__qualname__: content})
