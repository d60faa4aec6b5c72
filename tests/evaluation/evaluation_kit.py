"""What the tests of evaluations share: a small domain, a model that answers at once, and a call that evaluates.

Everything runs through the real runner, real worker processes and the real gateway. The domain gives letters; a
harness that asks the model for a letter gets it back in capitals, which is the right answer.
"""

from __future__ import annotations

import textwrap
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaharness.configuration import Budget
from metaharness.domain import Case, Domain, Evaluator, GradeContext, Objective, Split
from metaharness.errors import ModelFailure
from metaharness.evaluation.ladder import SMOKE_CASES, Smoke
from metaharness.evaluation.runner import SandboxRunner
from metaharness.evaluation.session import Doors
from metaharness.evaluation.workbench import Material
from metaharness.gateway import Gateway, MemoryJournal
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers import Provider
from metaharness.gateway.text import last_user_text
from metaharness.messages import Completion, ModelRequest, ModelSpec
from metaharness.records import LEARN, Call, CaseTrace, EvaluationPlan, Limits
from metaharness.sandbox.process import LocalProcess, ProcessSandbox

LETTERS = "abcdef"
QUICK = Limits(case_seconds=0.4, learn_seconds=0.4)
"""For harnesses that hang."""
SCRIPTED = ModelSpec(provider="scripted", name="none")


class Exact:
    """The answer is right when it is the expected one."""

    def grade(self, context: GradeContext) -> bool:
        return bool(context.output == context.case.expected)


class Letters(Domain):
    """One case per letter, to be answered by its capital."""

    name = "letters"
    objectives = (Objective("accuracy", range=(0, 1)),)

    def __init__(
        self,
        letters: Iterable[str] = LETTERS,
        *,
        evaluator: Evaluator | None = None,
        limits: Limits | None = None,
        online: bool = False,
        driver: Path | None = None,
        python: str | None = None,
    ) -> None:
        self.letters = list(letters)
        self.evaluator = evaluator or Exact()
        self.limits = limits or Limits()
        self.online = online
        self.python = python
        self._driver = driver

    def cases(self, split: Split) -> Iterator[Case]:
        for letter in self.letters:
            yield Case(id=letter, input=letter, expected=letter.upper(), group=f"group of {letter}", tags=("letter",))

    def driver(self) -> Path | None:
        return self._driver


letters = Letters()
"""For `load_domain("evaluation_kit:letters")`."""


class Capitals:
    """A model that answers the last user text in capitals, and counts."""

    def __init__(self, answer: Callable[[ModelRequest], Completion | Awaitable[Completion]] | None = None) -> None:
        self.requests: list[ModelRequest] = []
        self._answer = answer

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        self.requests.append(request)
        if self._answer is None:
            return Completion(text=last_user_text(request).upper())
        answer = self._answer(request)
        return answer if isinstance(answer, Completion) else await answer

    async def aclose(self) -> None:
        """Nothing is open."""

    @property
    def texts(self) -> list[str]:
        """What was asked, sorted: how many workers share the work decides the order."""
        return sorted(map(last_user_text, self.requests))


class Failing(Capitals):
    """A model that fails for the requests that contain some text."""

    def __init__(self, text: str, failure: ModelFailure) -> None:
        super().__init__(self._fail)
        self._text = text
        self._failure = failure

    def _fail(self, request: ModelRequest) -> Completion:
        if self._text in last_user_text(request):
            raise self._failure
        return Completion(text=last_user_text(request).upper())


class WatchedSandbox(ProcessSandbox):
    """Remembers the workers that were started."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    async def start(self, python: str | None, candidate: Path) -> LocalProcess:
        process = await super().start(python, candidate)
        self.pids.append(process.pid)
        return process


@dataclass
class Outcome:
    """What came out of an evaluation."""

    attempts: list[CaseTrace] = field(default_factory=list)
    """Every trace as it came, `learn` included."""
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    workers: int = 0

    @property
    def traces(self) -> dict[str, CaseTrace]:
        """The last trace of each case of trial 0."""
        return {trace.case_id: trace for trace in self.attempts if trace.trial == 0 and trace.case_id != LEARN}

    @property
    def learned(self) -> dict[int, CaseTrace]:
        """The last trace of `learn` of each trial."""
        return {trace.trial: trace for trace in self.attempts if trace.case_id == LEARN}

    @property
    def statuses(self) -> dict[str, str]:
        return {case_id: trace.status for case_id, trace in sorted(self.traces.items())}

    @property
    def outputs(self) -> dict[str, Any]:
        return {case_id: trace.output for case_id, trace in sorted(self.traces.items())}

    def __getitem__(self, case_id: str) -> CaseTrace:
        return self.traces[case_id]


@dataclass
class Lab:
    """One candidate on disk, its domain, its model; evaluates when asked to."""

    folder: Path
    domain: Domain
    model: Provider
    concurrency: int = 4
    trials: int = 1
    seed: int = 0
    serial: bool = False
    judge: Provider | None = None
    budget: Budget = field(default_factory=Budget)
    stop: Callable[[], bool] = lambda: False
    redact: Callable[[str], str] | None = None
    sandbox: WatchedSandbox = field(default_factory=WatchedSandbox)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    change: Callable[[EvaluationPlan], EvaluationPlan] = lambda plan: plan
    """Applied to the plan before it is run."""

    async def run(self, listen: Callable[[CaseTrace], None] = lambda _trace: None) -> Outcome:
        """Evaluate without the ladder."""
        outcome = Outcome(journal=self.journal)
        gateway = self._gateway()
        async with SandboxRunner(self._material()).run(self.change(self.plan()), Doors(gateway)) as traces:
            async for trace in traces:
                outcome.attempts.append(trace)
                listen(trace)
        await gateway.aclose()
        outcome.workers = len(self.sandbox.pids)
        return outcome

    async def smoke(self) -> Smoke:
        """The part of the ladder that runs code."""
        plan = self.plan()
        return await SandboxRunner(self._material()).smoke(
            EvaluationPlan(**{**vars(plan), "pairs": plan.pairs[:SMOKE_CASES]}), Doors(self._gateway())
        )

    def plan(self) -> EvaluationPlan:
        cases = [case.id for case in self.domain.cases(Split.SEARCH)]
        return EvaluationPlan(
            candidate_path=str(self.folder if (self.folder / "more").exists() else self.folder / "harness.py"),
            candidate_hash="",
            pairs=tuple((case_id, trial) for trial in range(self.trials) for case_id in cases),
            split="search",
            models={"target": SCRIPTED, **({"judge": SCRIPTED} if self.judge is not None else {})},
            limits=self.domain.limits,
            seed=self.seed,
            concurrency=self.concurrency,
            serial=self.serial,
        )

    def _material(self) -> Material:
        cases = {case.id: case for case in self.domain.cases(Split.SEARCH)}
        examples = [{"input": case.input, "expected": case.expected} for case in self.domain.cases(Split.TRAIN)]
        return Material(self.domain, self.sandbox, cases, lambda: examples, self.stop)

    def _gateway(self) -> Gateway:
        prices = PriceTable({})
        providers: dict[Any, Provider] = {"target": self.model}
        if self.judge is not None:
            providers["judge"] = self.judge
        return Gateway(
            self.plan().models,
            journal=self.journal,
            ledger=Ledger(self.budget, prices),
            prices=prices,
            concurrency=self.concurrency,
            redact=self.redact,
            providers=providers,
        )


def lab(folder: Path, source: str | Mapping[str, str], domain: Domain | None = None, **chosen: Any) -> Lab:
    """A candidate to evaluate: the source of `harness.py`, or the files of a folder."""
    candidate = folder / "candidate"
    files = {"harness.py": source} if isinstance(source, str) else {**source, "more": ""}
    for name, text in files.items():
        path = candidate / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    chosen.setdefault("model", Capitals())
    return Lab(candidate, domain or Letters(), **chosen)


def harness(predict: str = "return model.complete(text).text", *, before: str = "", learn: str = "") -> str:
    """The source of a harness, from the body of its `predict`."""
    methods = {"predict(self, text, model)": predict, "learn(self, examples, model)": learn}
    lines = [textwrap.dedent(before), "class Harness:"]
    for signature, body in methods.items():
        if body:
            lines += [f"    def {signature}:", textwrap.indent(textwrap.dedent(body).strip("\n"), " " * 8)]
    return "\n".join(lines) + "\n"


def guilty(deed: str, *, before: str = "", case: str = "c") -> str:
    """A harness that does something in one case and answers rightly in the others."""
    body = textwrap.indent(textwrap.dedent(deed).strip(), "    ")
    return harness(f"if text == {case!r}:\n{body}\nreturn model.complete(text).text", before=before)


def same_but_for_times(traces: Sequence[CaseTrace]) -> list[dict[str, Any]]:
    """Traces as they compare: without times, sorted."""
    rows = [
        trace.model_copy(update={"duration_ms": 0.0, "calls": [_timeless(call) for call in trace.calls]}).model_dump()
        for trace in traces
    ]
    return sorted(rows, key=lambda row: (row["trial"], row["case_id"]))


def _timeless(call: Call) -> Call:
    return call.model_copy(update={"latency_ms": 0.0})
