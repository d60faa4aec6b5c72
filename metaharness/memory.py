"""Memory across runs: lessons of earlier runs of a domain, with their evidence, for the proposers of later ones.

A lesson is read from a run each time: what was written about a candidate, and what its evaluation came to. Nothing of a
sealed test is in it: neither its result, nor a report that was written once the test was open. A run over other cases
offers none, as its reports may quote what is now in the test split.

Not guarded: what a report says. It is the word of the proposer that wrote it, and shown as recorded data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from metaharness.configuration import Lesson, RunConfig, RunRecord
from metaharness.errors import MetaharnessError, UsageError
from metaharness.history import History
from metaharness.scoring.scoreboard import Iteration, format_p
from metaharness.store import RunStore, forked_from, list_runs, load_record, read_forgotten

MOST_LESSONS = 12
"""Offered to one run."""
SAID = 300
"""Characters of a hypothesis and of a takeaway."""
_TAKEAWAY = re.compile(r"^[ \t*#-]*takeaway[*]*[ \t]*:[*]*[ \t]*(.*)", re.IGNORECASE | re.MULTILINE | re.DOTALL)


def check_memory(config: RunConfig) -> None:
    """Make sure that memory is off where a run is measured: there it would change what is compared.

    Raises:
        UsageError: It is on all the same.
    """
    if config.memory and config.strategy != "search":
        raise UsageError(
            f"with the strategy {config.strategy} candidates are written without knowing others",
            hint="turn memory off",
        )
    if config.memory and config.history != "full":
        raise UsageError(
            f"this run shows its proposer {config.history}; lessons of other runs are more than that",
            hint="turn memory off, or choose history full",
        )


def with_lessons(make: Callable[[str], RunRecord], config: RunConfig, root: Path) -> Callable[[str], RunRecord]:
    """Makes `config.json` as before, with the lessons that the run is offered where it asks for them.

    Raises:
        UsageError: As `check_memory`.
    """
    check_memory(config)

    def record(run_id: str) -> RunRecord:
        made = make(run_id)
        return made.model_copy(update={"memory_used": lessons_for(root, made)})

    return record if config.memory else make


def memory_facts(record: RunRecord) -> dict[str, list[str]]:
    """Which lessons a run was offered, as a field of the event `created`; nothing where there are none."""
    used = [one.id for one in record.memory_used]
    return {"memory_used": used} if used else {}


def lessons_for(root: Path, record: RunRecord) -> list[Lesson]:
    """What earlier runs of its domain offer a run, in the order of `ranked`; at most MOST_LESSONS.

    Args:
        root: The folder of all runs.
        record: Of the run; it need not be there yet.
    """
    own = {record.run_id, *(forked_from(root / record.run_id) if record.forked_from is not None else ())}
    forgotten = read_forgotten(root)
    found = []
    for path in list_runs(root):
        if path.name not in own and (other := _other(path, record)) is not None:
            cautions = _cautions(other.record, record)
            found += [one.model_copy(update={"cautions": cautions + one.cautions}) for one in lessons_of(other)]
    offered = [one for one in _once(found) if forgotten.get(one.id) != one.candidate_hash]
    return ranked(offered)[:MOST_LESSONS]


def offered_to(root: Path, record: RunRecord) -> list[Lesson]:
    """The lessons that a run was offered when it was begun, but for those that were forgotten since."""
    if not record.memory_used:
        return []
    forgotten = read_forgotten(root)
    return [one for one in record.memory_used if forgotten.get(one.id) != one.candidate_hash]


def all_lessons(root: Path, unreadable: Callable[[str], None] | None = None) -> list[Lesson]:
    """The lessons of every run below a root, forgotten ones too, as `lessons_for` orders them.

    Cautions are those towards the newest run of the same domain.

    Args:
        root: The folder of all runs.
        unreadable: Told of each run that cannot be read.
    """
    histories = []
    for path in list_runs(root):
        try:
            histories.append(History(RunStore.open(path, record=False)))
        except MetaharnessError as error:
            if unreadable is not None:
                unreadable(error.message)
    newest = {history.record.domain_name: history.record for history in histories}
    # a candidate that was measured on other cases too is another lesson: it is offered to other runs
    found: dict[object, list[Lesson]] = {}
    for history in histories:
        record = history.record
        cautions = _cautions(record, newest[record.domain_name])
        same = found.setdefault((tuple(sorted(record.split_hashes.items())), record.objectives[0].name), [])
        same += [one.model_copy(update={"cautions": cautions + one.cautions}) for one in lessons_of(history)]
    return ranked([one for lessons in found.values() for one in _once(lessons)])


def lessons_of(history: History) -> Iterator[Lesson]:
    """The lessons of one run: of each candidate with all its cases that somebody has written about."""
    told_late = _reported_late(history.store)
    for one in history:
        verdict = one.verdict
        if one.state != "complete" or verdict is None or verdict.delta is None or verdict.incumbent is None:
            continue
        if verdict.verdict not in ("better", "worse", "indecisive"):
            continue
        report = None if one.number in told_late else history.store.report(one.number)
        takeaway = takeaway_of(report or "")
        if takeaway or one.proposal.hypothesis.strip():
            yield _lesson(history.record, one, takeaway)


def takeaway_of(report: str) -> str:
    """What a report wants later rounds to believe; its beginning where it has no such line."""
    found = _TAKEAWAY.search(report)
    return _short(found[1] if found else report)


def ranked(lessons: Sequence[Lesson]) -> list[Lesson]:
    """What was decided first; then the newest runs; in a run the largest effect."""
    by_effect = sorted(lessons, key=lambda one: abs(one.delta), reverse=True)
    by_age = sorted(by_effect, key=lambda one: one.created, reverse=True)
    return sorted(by_age, key=lambda one: one.verdict == "indecisive")


def lessons_told(lessons: Sequence[Lesson]) -> str:
    """What stands above lessons."""
    return (
        f"Lessons of earlier runs of this domain: {len(lessons)}. Each is what the proposer of that run made of one "
        "candidate, with what was measured there. Numbers of iterations in them are of those runs, not of this one."
    )


def lessons_text(lessons: Sequence[Lesson]) -> str:
    """Lessons as a proposer reads them, some lines each."""
    return "\n".join("\n".join(lesson_lines(one)) for one in lessons)


def lesson_lines(one: Lesson) -> list[str]:
    """One of them."""
    axis = f" [{one.axis}]" if one.axis else ""
    interval = "" if one.low is None or one.high is None else f" [{one.low:+.3f}, {one.high:+.3f}]"
    p = "" if one.p is None else f", p {format_p(one.p)}"
    said = f"{one.verdict} than {one.against:03d} of its run"
    if one.verdict == "indecisive":
        said = f"indecisive against {one.against:03d} of its run: too little to tell either way"
    lines = [
        f"{one.id} {one.name}{axis}: {said}",
        f"  measured: {one.objective} {one.delta:+.3f}{interval}{p}, over {one.units} cases of search",
    ]
    lines += [f"  hypothesis: {one.hypothesis}"] if one.hypothesis else []
    lines += [f"  takeaway: {one.takeaway}"] if one.takeaway else []
    return lines + [f"  caution: {caution}" for caution in one.cautions]


def _other(path: Path, record: RunRecord) -> History | None:
    """An earlier run that may teach this one; None where it is of another domain or other cases, or cannot be read."""
    try:
        other = load_record(path)
        objective = record.objectives[0]
        same = (other.domain_name, other.split_hashes) == (record.domain_name, record.split_hashes)
        if not same or (other.objectives[0].name, other.objectives[0].direction) != (
            objective.name,
            objective.direction,
        ):
            return None
        return History(RunStore.open(path, record=False))
    except MetaharnessError:
        return None


def _lesson(record: RunRecord, one: Iteration, takeaway: str) -> Lesson:
    verdict, proposal = one.verdict, one.proposal
    assert verdict is not None
    return Lesson.model_validate(
        {
            "run": record.run_id,
            "iteration": one.number,
            "created": record.created,
            "domain": record.domain_name,
            "name": _short(proposal.name),
            "axis": _short(proposal.axis),
            "hypothesis": _short(proposal.hypothesis),
            "takeaway": takeaway,
            "objective": record.objectives[0].name,
            "against": verdict.incumbent,
            "cautions": [f"it is flagged: {_short(flag)}" for flag in proposal.flags],
            "candidate_hash": proposal.candidate_hash,
            **verdict.model_dump(include={"verdict", "delta", "low", "high", "p", "units"}),
        }
    )


def _cautions(of: RunRecord, towards: RunRecord) -> list[str]:
    """How the run that a lesson comes from differs from one that it is offered to."""
    model, other = of.config.models["target"], towards.config.models["target"]
    said = {
        "it is of another version of the domain": of.domain_hash != towards.domain_hash,
        "another evaluator graded it": of.evaluator_hash != towards.evaluator_hash,
        "it was measured on other cases": of.split_hashes != towards.split_hashes,
        f"it was measured with another model, {model.id}": model != other,
    }
    return [caution for caution, holds in said.items() if holds]


def _once(lessons: Sequence[Lesson]) -> list[Lesson]:
    """Without what a fork has inherited, or what was graded anew: of the same candidate, the first is kept."""
    found: dict[tuple[str, str, str], Lesson] = {}
    for one in lessons:
        found.setdefault((one.domain, one.candidate_hash, one.verdict), one)
    return list(found.values())


def _reported_late(store: RunStore) -> set[int]:
    """The iterations whose report was written, or may have been, after the sealed test was opened."""
    openings = [event.number for kind in ("test_opened", "transfer_opened") for event in store.events(kind)]
    if not openings:
        return set()
    opened = min(openings)
    reported = {event.model_dump()["iteration"]: event.number for event in store.events("reported")}
    return {one.iteration for one in store.iterations() if reported.get(one.iteration, opened) >= opened}


def _short(text: str) -> str:
    """In one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= SAID else f"{line[:SAID]}..."
