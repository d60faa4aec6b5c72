"""Whether a run still stands on what it was begun with, looked at before and after every round.

Domain: every file of its folder that decides a score (see `watched_files`). A change refuses the round: what was
evaluated in it is set aside, and is evaluated anew once the change is undone. Iterations: the incumbent and some of the
others in turn at every look, so that a look takes as long after 1,000 of them as after 50; all of them when a run is
opened. A change stops the run; nothing is set aside.

Content is read only where size, times or inode differ. Not guarded: a change that is undone before the next look; a run
that was killed between a change and the next look, where the change is undone before it is resumed; modules that the
domain imports from elsewhere; a program that also rewrites `events.jsonl` and `score.json` while nobody records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from metaharness.errors import CorruptRecordError, DomainError
from metaharness.history import History
from metaharness.marks import Marks
from metaharness.run.ground import Ground
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import RunStore, command_on, not_as_recorded

INHERITED = "inherited"
"""The event about an iteration that a fork has taken over."""
AT_A_LOOK = 16
"""Iterations that are looked at in turn, beside the incumbent."""


class Watch:
    """What one recorded run stands on. Made when it is opened: then all of it was checked."""

    def __init__(self, store: RunStore, history: History, ground: Ground, tell: Callable[..., None]) -> None:
        self._store = store
        self._history = history
        self._ground = ground
        self._tell = tell
        self._files: dict[int, Marks] = {}
        self._turn = 0
        self.keep(history.iterations)

    def keep(self, iterations: Iterable[Iteration]) -> None:
        """These have ended: from now on nothing of them may change."""
        for iteration in iterations:
            if iteration.proposal.round < len(self._history.closed_rounds):
                self._files[iteration.number] = Marks.of(self._store.recorded_files(iteration.number))

    def look(self, under_way: Sequence[Iteration] = ()) -> None:
        """Make sure that nothing has changed.

        Args:
            under_way: What was evaluated since the last look; refused where the domain has changed.

        Raises:
            DomainError: A file of the domain has, and which.
            CorruptRecordError: A file of an iteration has.
        """
        changed = self._ground.changed()
        if changed:
            self._refuse(changed, under_way)
        apart = {iteration.number for iteration in under_way}
        for number in self._in_turn():
            if number in apart:  # this process has just written it
                continue
            for path in self._files[number].changed():
                raise not_as_recorded(path)

    def _refuse(self, changed: Sequence[Path], under_way: Sequence[Iteration]) -> None:
        numbers = [iteration.number for iteration in under_way]
        # told first: a kill in between then leaves evaluations that are asked again, and none that are believed
        self._tell("tampered", files=[str(path) for path in changed], refused=numbers)
        for number in numbers:
            self._store.refuse(number)
        more = f", and {len(changed) - 1} more" if len(changed) > 1 else ""
        refused = ", ".join(f"{number:03d}" for number in numbers)
        raise DomainError(
            f"{changed[0]} has changed{more} since the run was begun"
            + (f"; what was evaluated meanwhile is not accepted: {refused}" if refused else ""),
            hint=f"undo the change, then `{command_on(self._store.path, 'resume')}` goes on and evaluates those anew; "
            "or begin a new run: scores before and after a change cannot be compared",
        )

    def _in_turn(self) -> list[int]:
        numbers = list(self._files)
        first = self._turn % max(1, len(numbers))
        chosen = (numbers[first:] + numbers[:first])[:AT_A_LOOK]
        self._turn = first + len(chosen)
        best = self._history.incumbent()
        return chosen + ([best.number] if best is not None and best.number in self._files else [])


def check_recorded(store: RunStore, last: int | None = None) -> None:
    """Make sure that every iteration is what was recorded, before the run goes on.

    Args:
        store: Of the run.
        last: Look no further than this iteration; None: at all of them.

    Raises:
        CorruptRecordError: One is not, and which file of it.
    """
    scored: dict[int, str | None] = {}
    for kind in (INHERITED, "scored"):
        for event in store.events(kind):
            fields = event.model_dump()
            scored[fields["iteration"]] = fields.get("sha256")
    damage: CorruptRecordError | None = None
    for proposal in store.iterations()[: None if last is None else last + 1]:
        damage = store.damage(proposal.iteration, scored.get(proposal.iteration))
        if damage is not None:
            raise damage
