"""What can be graded anew: a run that nobody records, whose cases are still those that were answered.

Not guarded: a driver that has changed. The stored answers are those of the old one; `resume` of the fork would ask
missing pairs with the new one.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from metaharness.configuration import RunConfig, RunRecord
from metaharness.domain import Split
from metaharness.errors import DomainError, MetaharnessError, RunLockedError, UsageError
from metaharness.history import History
from metaharness.messages import ModelSpec
from metaharness.run.ground import Ground
from metaharness.store import RunStore, command_on, list_runs, owner_of
from metaharness.store.encoding import json_bytes, map_text

REGRADED = "regraded"
"""The event that ends a fork of this kind: whatever was stored has been graded."""
BY = "regrade"
"""What the event `created` of such a fork says of how it was made."""
_SHOWN = 3
"""Cases named that differ."""


def open_source(path: Path) -> History:
    """A run to be graded anew, for reading.

    Raises:
        RunLockedError: A process records it.
        UsageError: It is such a fork itself and has not ended, or has no score.
    """
    store = RunStore.open(path, record=False)
    owner = owner_of(path)
    if owner is not None:
        raise RunLockedError(
            f"{path} is being recorded by {owner}", hint="wait until it ends or stop it; then grade it anew"
        )
    require_regraded(store)
    history = History(store)
    if not any(iteration.score is not None for iteration in history):
        raise UsageError(
            f"run {history.record.run_id} has no score, so there is nothing to grade anew",
            hint=f"`{command_on(path, 'resume')}` ends its baselines, with the evaluator it was begun with",
        )
    return history


# --- the domain -------------------------------------------------------------------------------------------------


def changes(record: RunRecord, config: RunConfig, now: Mapping[str, Any]) -> list[str]:
    """What grades would be spoken by otherwise than in the source, in words; empty when nothing.

    Args:
        record: Of the source.
        config: With which it will be graded.
        now: The hashes of the domain as it is, as `RunRecord` names them.
    """
    found = []
    if now["evaluator_hash"] != record.evaluator_hash:
        found.append("the evaluator")
    elif now["domain_hash"] != record.domain_hash:
        found.append("another file of the domain")
    if now["split_hashes"] != record.split_hashes:
        found.append("what is expected of the cases")
    if config.models.get("judge") != record.config.models.get("judge"):
        found.append("the judge")
    return found


def check_changed(source: History, config: RunConfig, now: Mapping[str, Any], *, force: bool) -> None:
    """Make sure that the grades can come out otherwise than they did.

    Raises:
        UsageError: Nothing has changed, and it was not asked for all the same.
    """
    if not force and not changes(source.record, config, now):
        raise UsageError(
            f"nothing has changed since run {source.record.run_id} was graded: evaluator, what is expected, judge",
            hint="change one of them; --force grades all the same, such as where a package that the evaluator imports "
            "has changed",
        )


def check_cases(source: History, ground: Ground, now: Mapping[str, Any]) -> None:
    """Make sure that the stored answers are answers to the cases as they are; what is expected may be another.

    Args:
        source: The run.
        ground: The domain as it is, with the cases of `search`.
        now: Its hashes, as `RunRecord` names them.

    Raises:
        DomainError: The train split, or a case's id, input or group has changed.
    """
    before, hint = source.record.split_hashes, "restore the data, or begin a new run"
    train, search = Split.TRAIN.value, Split.SEARCH.value
    if now["split_hashes"][train] != before.get(train):
        raise DomainError(
            f"the split {train} of {ground.domain.name} has changed, and the stored answers were learned from it",
            hint=hint,
        )
    if now["split_hashes"][search] == before.get(search):
        return
    scored = next(iteration.number for iteration in source if iteration.score is not None)
    asked = source.store.measure_traces(scored, lambda trace: _canonical([trace.input, trace.group]))
    there = {case_id: content for (case_id, _), content in asked.items()}
    here = {case.id: _canonical([_redacted(case.input, ground), case.group]) for case in ground.cases.values()}
    differ = sorted(case_id for case_id in here.keys() | there.keys() if here.get(case_id) != there.get(case_id))
    if differ:
        more = ", ..." if len(differ) > _SHOWN else ""
        raise DomainError(
            f"the cases of {search} are not those that were answered: {len(differ)} differ in id, input or group "
            f"({', '.join(differ[:_SHOWN])}{more})",
            hint=f"only the evaluator and what is expected may change; {hint}",
        )


def _redacted(value: Any, ground: Ground) -> Any:
    return value if ground.redact is None else map_text(value, ground.redact)


def _canonical(value: Any) -> str:
    """A JSON value as it is after it was stored, whatever the order of its keys."""
    return json.dumps(json.loads(json_bytes({"": value})), sort_keys=True)


# --- forks ------------------------------------------------------------------------------------------------------


def is_unfinished(store: RunStore) -> bool:
    """Whether a run is a fork whose stored answers have not all been graded."""
    if store.record.forked_from is None or any(store.events(REGRADED)):
        return False
    created = next(store.events("created"), None)
    return created is None or created.model_dump().get("by") == BY


def require_regraded(store: RunStore) -> None:
    """Make sure that a run is no fork whose stored answers are still to be graded: its numbers would be of two kinds.

    Raises:
        UsageError: It is.
    """
    if is_unfinished(store):
        raise UsageError(
            f"the stored answers in run {store.record.run_id} have not all been graded",
            hint=f"`{regrade_command(store)}` goes on with it",
        )


def regrade_command(fork: RunStore) -> str:
    """What to type to go on with a fork that has not ended."""
    source = fork.path.parent / str(fork.record.forked_from)
    return command_on(source, "regrade", "--name", shlex.quote(fork.record.run_id))


def unfinished_fork(
    root: Path, name: str | None, source: RunRecord, judge: ModelSpec | None, now: Mapping[str, Any]
) -> Path | None:
    """The fork that was begun with the same evaluator and has not ended; None when there is none.

    Args:
        root: The folder of all runs.
        name: Only the run of this name; None for any.
        source: What it is a fork of.
        judge: Only one with this judge; None for any.
        now: The hashes of the domain as it is, as `RunRecord` names them.
    """
    for path in list_runs(root):
        if name is None or path.name == name:
            with suppress(MetaharnessError):  # a run that cannot be read is none to go on with
                store = RunStore.open(path, record=False)
                record = store.record
                same = record.forked_from == source.run_id and all(
                    getattr(record, field) == value for field, value in now.items()
                )
                if same and judge in (None, record.config.models.get("judge")) and is_unfinished(store):
                    return path
    return None
