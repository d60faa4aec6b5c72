"""Takes candidates up the ladder, evaluates them, and writes down every trace before it counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from metaharness.errors import CandidateError
from metaharness.evaluation.ladder import SMOKE_CASES, check_files
from metaharness.history import History
from metaharness.marks import content_hash
from metaharness.records import Rejection, now
from metaharness.run.evaluating import Evaluating, Tally
from metaharness.run.leaking import Leaks
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import RunStore, check_candidate_files


class Tell(Protocol):
    """Records an event and passes it to whoever listens."""

    def __call__(self, kind: str, /, **fields: object) -> None:
        """One fact."""
        ...


@dataclass(frozen=True)
class Admitted:
    """What is recorded of a proposal before any code of it runs."""

    files: Mapping[str, str]
    rejection: Rejection | None = None
    flags: tuple[str, ...] = ()


def _unrecordable(files: Mapping[str, str], error: CandidateError) -> Admitted:
    message = error.message if error.hint is None else f"{error.message} ({error.hint})"
    # kept as a comment: a run killed right after this is resumed with what was recorded, and must reject it too
    kept = ["These files cannot be recorded: " + message, *str(files.get("harness.py", "")).splitlines()]
    comment = "".join(f"# {line}\n" for line in kept)
    return Admitted({"harness.py": comment}, Rejection(stage="interface", message=message, time=now()))


@dataclass
class Recorder:
    """The part of a run that evaluates on the search split."""

    store: RunStore
    history: History
    evaluating: Evaluating
    tell: Tell

    def __post_init__(self) -> None:
        self._leaks = Leaks(self.evaluating.ground)
        self._accepted: dict[int, bool] = {}
        refused = {
            number: event.number for event in self.store.events("tampered") for number in event.model_dump()["refused"]
        }
        for event in self.store.events("accepted"):
            fields = event.model_dump()
            if event.number < refused.get(fields["iteration"], -1):
                continue
            self._accepted[fields["iteration"]] = fields["order_dependent"]

    @property
    def pairs_per_candidate(self) -> int:
        """How many pairs of case and trial one candidate is evaluated on."""
        return len(self.evaluating.ground.cases) * self.evaluating.config.trials

    def admit(self, files: Mapping[str, str], *, baseline: bool) -> Admitted:
        """The rungs that run nothing: names, size, syntax, and text of cases. A baseline may hold what it likes."""
        try:
            check_candidate_files(files)
        except CandidateError as error:
            return _unrecordable(files, error)
        rejection = check_files(files)
        if rejection is not None or baseline:
            return Admitted(files, rejection)
        rejection = self._leaks.check(files)
        return Admitted(files, rejection, () if rejection is not None else self._leaks.flags(files))

    async def climb(self, number: int) -> Iteration:
        """The rungs that run code. A candidate that fails one is rejected; the others are accepted.

        What a killed process left is not believed: the files are checked again, and a smoke case that has ended keeps
        its recorded line.
        """
        baseline = self.history.iteration(number).is_baseline
        rejection = self.admit(self.store.files(number), baseline=baseline).rejection
        if rejection is not None:
            return self.reject(number, rejection)
        evaluating = self.evaluating
        tally = self.tally(number)
        smoke = await evaluating.runner.smoke(evaluating.plan(number, tally.planned[:SMOKE_CASES]), evaluating.doors)
        for trace in smoke.traces:
            if not tally.settled(trace):
                evaluating.keep(number, trace)
        if smoke.rejection is not None:
            return self.reject(number, smoke.rejection)
        self._accepted[number] = tally.order_dependent = smoke.order_dependent
        self.tell("accepted", iteration=number, order_dependent=smoke.order_dependent)
        return self.history.iteration(number)

    def reject(self, number: int, rejection: Rejection) -> Iteration:
        """Record that a candidate does not pass the ladder."""
        rejection = self.store.reject(number, rejection)
        self.evaluating.forget(number)
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
        serial = self.evaluating.ground.domain.online or self._accepted[number]
        todo = tally.left(serial=serial)
        self.tell("evaluating", iteration=number, name=iteration.proposal.name, cases=len(todo))
        await self.evaluating.fill(number, serial=serial)
        if not tally.whole or self.store.current_score(number) is not None:
            return self.history.iteration(number)
        return self._score(number, tally)

    def tally(self, number: int) -> Tally:
        """What is known of an evaluation."""
        return self.evaluating.tally(number, order_dependent=self._accepted.get(number, False))

    def _score(self, number: int, tally: Tally) -> Iteration:
        score = self.evaluating.score(number)
        self.history.keep_rows(number, [tally.rows[pair] for pair in tally.planned])
        self.evaluating.forget(number)
        primary = score.objectives.get(self.history.objectives[0].name)
        iteration = self.history.put(number, score=score)
        sha256 = content_hash(self.store.score_path(number))
        self.tell(
            "scored", iteration=number, mean=primary.mean if primary else None, missing=score.missing, sha256=sha256
        )
        return iteration
