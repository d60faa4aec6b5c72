"""Every run of a folder: readable, whole, owned by whom, finished or not, and how large. Only reads.

A run that is being recorded is looked at as any reader does: what its owner is writing in this moment is left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from metaharness.doctor.findings import Finding, guarded
from metaharness.errors import CorruptRecordError
from metaharness.history import History
from metaharness.holdout import read_opening, read_result
from metaharness.run.regradable import is_unfinished, regrade_command
from metaharness.store import (
    Owner,
    RunStore,
    damage_in,
    damaged_candidates,
    disk_use,
    is_run,
    list_runs,
    load_record,
    owner_of,
    torn_candidates,
    torn_lines,
    unmade_runs,
)

AREA = "runs"
SHOWN = 10
"""Damaged records that are named per run; the others are counted."""
STOPPED = "stopped"
"""Why a run ended that a person stopped: the search had more to do."""


def runs(root: Path, deep: bool) -> Iterator[Finding]:
    """What is to be said of each run, oldest first."""
    if is_run(root.absolute()):
        return  # told with the folder
    found = list_runs(root)
    if not found:
        yield Finding(AREA, "runs", "ok", f"none in {root}")
    for path in found:
        yield from guarded(AREA, path.name, partial(_run, path, deep))
    for path in unmade_runs(root):
        found_there = f"{path} looks like a run and has no config.json: its process was killed while it made the run"
        advice = "ask again in a moment; if it stays so, restore config.json from a copy, or delete the folder"
        yield Finding(AREA, path.name, "warning", found_there, advice)


def _run(path: Path, deep: bool) -> Iterator[Finding]:
    record = load_record(path)  # damaged, or of a newer version: nothing further can be said
    owner = owner_of(path)
    store = RunStore.open(path, record=False)
    whole = True
    for finding in _damage(path, store, deep):
        whole = False
        yield finding
    owned = owner is not None and owner.here
    left = [] if owned else _torn(path)
    if left:
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        found = f"{'; '.join(left[:SHOWN])}{more}: left by a killed process, harmless, set aside by `resume`"
        yield Finding(AREA, path.name, "warning", found, _again("resume", path))
    size = f"schema {record.schema_version}, {disk_use(path) / (1 << 20):,.1f} MiB"
    if owned:
        yield Finding(AREA, path.name, "ok", f"is being recorded by {owner}; {size}")
    elif whole and is_unfinished(store):
        graded = f"unfinished: its stored answers have not all been graded; {size}"
        yield Finding(AREA, path.name, "warning", graded, regrade_command(store))
    elif whole:
        yield _status(path, store, owner, size)
    else:
        yield Finding(
            AREA, path.name, "warning", f"not recorded by anybody; {size}", "see to its damaged records first"
        )


def _damage(path: Path, store: RunStore, deep: bool) -> Iterator[Finding]:
    faults = damage_in(path, deep=deep)
    told = 0
    for fault in islice(faults, SHOWN):
        told += 1
        yield Finding(AREA, path.name, "problem", fault.message, fault.hint)
    more = sum(1 for _ in faults)
    if more:
        yield Finding(AREA, path.name, "problem", f"{more} more damaged records", "see to the first ones, ask again")
    if not told and deep:
        for fault in damaged_candidates(store):
            advice = f"restore {fault.path} from a copy: scores belong to the files that were submitted"
            yield Finding(AREA, path.name, "problem", fault.message, advice)


def _status(path: Path, store: RunStore, owner: Owner | None, size: str) -> Finding:
    """Whether the run has come to its end."""
    try:
        history = History(store)
        reason = _ended(store)
        opened, finished = read_opening(store) is not None, read_result(store) is not None
    except CorruptRecordError as fault:
        return Finding(AREA, path.name, "problem", fault.message, fault.hint)
    except (LookupError, TypeError, ValueError) as error:
        found = f"an event or the opening of the test lacks what it should have: {type(error).__name__}"
        return Finding(AREA, path.name, "problem", found, "restore events.jsonl and sealed/ from a copy")
    states = [iteration.state for iteration in history if iteration.unfinished]
    what = f"{_counted(len(history), 'iteration')}; {size}"
    if finished:
        return Finding(AREA, path.name, "ok", f"finished, its test has a result; {what}")
    if opened:
        return _unfinished("its test was begun and has no result", what, "finish", path, owner)
    left = {
        f"{states.count('pending')} without a score": "pending" in states,
        "the search was not brought to its end": reason in (None, STOPPED),
        f"{states.count('incomplete')} with missing cases": "incomplete" in states,
    }
    whys = [why for why, true in left.items() if true]
    if whys:
        return _unfinished(", ".join(whys), what, "resume", path, owner)
    return Finding(AREA, path.name, "ok", f"ended: {reason}; {what}")


def _unfinished(why: str, what: str, verb: str, path: Path, owner: Owner | None) -> Finding:
    advice = _again(verb, path)
    if owner is not None:
        advice = (
            f"its last owner was {owner}, which cannot be seen from here: make sure that it has ended, then {advice}"
        )
    return Finding(AREA, path.name, "warning", f"unfinished: {why}; {what}", advice)


def _ended(store: RunStore) -> str | None:
    """Why the run ended the last time; None when it was not brought to an end."""
    facts = [event for kind in ("created", "opened", "ended") for event in store.events(kind)]
    last = max(facts, key=lambda event: event.number, default=None)
    if last is None or last.kind != "ended":
        return None
    return str(last.model_dump().get("reason", "ended"))


def _again(verb: str, path: Path) -> str:
    return f"metaharness {verb} {shlex.join(['--root', str(path.parent), path.name])}"


def _torn(path: Path) -> list[str]:
    """What a killed process left half written; a process that records leaves the same."""
    return [
        *(f"{name} ends in a part of a line" for name in torn_lines(path)),
        *(f"{name} was not submitted to its end" for name in torn_candidates(path)),
    ]


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
