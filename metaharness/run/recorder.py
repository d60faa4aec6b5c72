"""Takes candidates up the ladder, evaluates them, and writes down every trace before it counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from metaharness.errors import CandidateError
from metaharness.evaluation.ladder import SMOKE_CASES, check_files
from metaharness.evaluation.runner import CaseRunner
from metaharness.evaluation.session import Doors
from metaharness.history import History
from metaharness.records import CaseTrace, EvaluationPlan, Rejection, RunConfig, Spent, now
from metaharness.run.evaluating import Pair, Tally, make_score
from metaharness.run.ground import Ground
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import RunStore, check_candidate_files


class Tell(Protocol):
    """Records an event and passes it to whoever listens."""

    def __call__(self, kind: str, /, **fields: object) -> None:
        """One fact."""
        ...


def check_proposal(files: Mapping[str, str]) -> tuple[Mapping[str, str], Rejection | None]:
    """The files to record, and why the candidate is rejected before any code of it runs."""
    try:
        check_candidate_files(files)
    except CandidateError as error:
        message = error.message if error.hint is None else f"{error.message} ({error.hint})"
        # kept as a comment: a run killed right after this is resumed with what was recorded, and must reject it too
        kept = ["These files cannot be recorded: " + message, *str(files.get("harness.py", "")).splitlines()]
        comment = "".join(f"# {line}\n" for line in kept)
        return {"harness.py": comment}, Rejection(stage="interface", message=message, time=now())
    return files, check_files(files)


@dataclass
class Recorder:
    """The part of a run that evaluates."""

    store: RunStore
    history: History
    config: RunConfig
    ground: Ground
    runner: CaseRunner
    doors: Doors
    spent: Callable[[], Spent]
    tell: Tell

    def __post_init__(self) -> None:
        self._tallies: dict[int, Tally] = {}
        self._accepted: dict[int, bool] = {}
        for event in self.store.events("accepted"):
            fields = event.model_dump()
            self._accepted[fields["iteration"]] = fields["order_dependent"]

    @property
    def pairs_per_candidate(self) -> int:
        """How many pairs of case and trial one candidate is evaluated on."""
        return len(self.ground.cases) * self.config.trials

    async def climb(self, number: int) -> Iteration:
        """The rungs that run code. A candidate that fails one is rejected; the others are accepted.

        What a killed process left is not believed: the files are checked again, and a smoke case that has ended keeps
        its recorded line.
        """
        rejection = check_files(self.store.files(number))
        if rejection is not None:
            return self.reject(number, rejection)
        tally = self.tally(number)
        smoke = await self.runner.smoke(self._plan(number, tally.planned[:SMOKE_CASES]), self.doors)
        for trace in smoke.traces:
            if not tally.settled(trace):
                self._keep(number, trace, tally)
        if smoke.rejection is not None:
            return self.reject(number, smoke.rejection)
        self._accepted[number] = tally.order_dependent = smoke.order_dependent
        self.tell("accepted", iteration=number, order_dependent=smoke.order_dependent)
        return self.history.iteration(number)

    def reject(self, number: int, rejection: Rejection) -> Iteration:
        """Record that a candidate does not pass the ladder."""
        rejection = self.store.reject(number, rejection)
        self._tallies.pop(number, None)
        iteration = self.history.put(number, rejection=rejection)
        self.tell("rejected", iteration=number, stage=rejection.stage, message=rejection.message)
        return iteration

    async def evaluate(self, iteration: Iteration) -> Iteration:
        """Evaluate what is left of a candidate; score it once every planned pair has been evaluated."""
        number = iteration.number
        if number not in self._accepted:
            iteration = await self.climb(number)
        if iteration.rejection is not None:
            return iteration
        tally = self.tally(number)
        serial = self.ground.domain.online or self._accepted[number]
        todo = tally.left(serial=serial)
        kept = 0
        self.tell("evaluating", iteration=number, name=iteration.proposal.name, cases=len(todo))
        if todo:
            async with self.runner.run(self._plan(number, todo, serial=serial), self.doors) as traces:
                async for trace in traces:
                    self._keep(number, trace, tally)
                    kept += 1
        known = self.history.iteration(number)
        if not tally.whole or (known.score is not None and not kept):
            return known
        return self._score(number, tally)

    def tally(self, number: int) -> Tally:
        """What is known of an evaluation, from the disk where it was interrupted."""
        tally = self._tallies.get(number)
        if tally is None:
            pairs = self.ground.pairs(self.config.trials)
            tally = Tally(self.history.objectives, pairs, now(), self._accepted.get(number, False))
            tally.rows = self.store.measure_traces(number, tally.measured)
            for trace in self.store.learn_traces(number):
                tally.take(trace)
            self._tallies[number] = tally
        return tally

    def _keep(self, number: int, trace: CaseTrace, tally: Tally) -> None:
        """A case has ended: on disk first, then in the numbers."""
        self.store.append_trace(number, trace)
        tally.take(trace)
        self.tell("case_ended", iteration=number, case_id=trace.case_id, trial=trace.trial, status=trace.status)

    def _score(self, number: int, tally: Tally) -> Iteration:
        score = make_score(
            tally,
            iteration=number,
            split=self.ground.split.value,
            sandbox=self.runner.sandbox_name,
            model=self.config.models["target"].id,
            trials=self.config.trials,
            spent=self.spent(),
        )
        score = self.store.write_score(number, score)
        self.history.keep_rows(number, [tally.rows[pair] for pair in tally.planned])
        self._tallies.pop(number, None)
        primary = score.objectives.get(self.history.objectives[0].name)
        iteration = self.history.put(number, score=score)
        self.tell("scored", iteration=number, mean=primary.mean if primary else None, missing=score.missing)
        return iteration

    def _plan(self, number: int, pairs: Sequence[Pair], *, serial: bool = False) -> EvaluationPlan:
        return EvaluationPlan(
            candidate_path=str(self.store.candidate_path(number)),
            candidate_hash=self.history.iteration(number).proposal.candidate_hash,
            pairs=tuple(pairs),
            split=self.ground.split.value,
            models=self.config.models,
            limits=self.ground.domain.limits,
            seed=self.config.seed,
            iteration=number,
            concurrency=self.config.concurrency,
            serial=serial,
        )
