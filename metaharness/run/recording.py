"""Making a run directory, or opening one to go on: the same domain, the budget as it was spent, the lock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from metaharness.configuration import Budget, RunConfig
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers import Provider, open_providers
from metaharness.history import History
from metaharness.holdout import sealed_spent
from metaharness.memory import with_lessons
from metaharness.records import Role
from metaharness.run.ground import Ground, check_unchanged, prepare, record_factory
from metaharness.run.regradable import require_regraded
from metaharness.run.tampering import check_recorded
from metaharness.store import RunStore, load_record


class Owning:
    """A context manager that gives the run it records back at its end."""

    store: RunStore

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.store.close()


@dataclass(frozen=True)
class Recording:
    """What a run stands on while it is recorded."""

    store: RunStore
    ground: Ground
    ledger: Ledger
    """Holds the calls of the journals; what else was spent is restored by whoever counts it."""
    providers: Mapping[Role, Provider]


def new_store(config: RunConfig, ground: Ground, root: Path, name: str | None) -> RunStore:
    """The directory of a new run, with the lessons that it is offered; owned by this process.

    Raises:
        UsageError: The name is not one.
        StoreError: The directory cannot be written.
    """
    record = with_lessons(record_factory(config, ground), config, root)
    return RunStore.create(root, record, name=name, redact=ground.redact)


def open_recording(path: Path, raised: Budget | None, providers: Mapping[Role, Provider] | None) -> Recording:
    """Open a run directory as its owner.

    Args:
        path: The directory.
        raised: Upper bounds that replace those the run has; None in a field keeps one. They hold from now on.
        providers: Models to use instead of those the configuration names, by role.

    Raises:
        MetaharnessError: It is recorded by another process, is damaged, or its domain has changed.
    """
    record = load_record(path)
    ground = prepare(record.config)
    check_unchanged(record, ground)
    bounds = with_raised(bounds_now(RunStore.open(path, record=False)), raised)
    ledger = Ledger(bounds, PriceTable(record.config.prices))
    ledger.check_models(record.config.models)
    providers = providers or open_providers(record.config.models)
    store = RunStore.open(
        path,
        record=True,
        redact=ground.redact,
        on_entry=lambda entry: ledger.restore([(entry.attribution.role, entry.call)]),
    )
    with closed_on_error(store):
        require_regraded(store)
        check_recorded(store)
    return Recording(store, ground, ledger, providers)


def bounds_now(store: RunStore) -> Budget:
    """The bounds as the last session that raised one has left them."""
    last = None
    for last in store.events("opened"):  # noqa: B007 - the last one is wanted
        pass
    return store.record.config.budget if last is None else Budget.model_validate(last.model_dump().get("budget", {}))


def config_now(store: RunStore, changes: Mapping[str, int] | None = None, cache: bool | str | None = None) -> RunConfig:
    """The configuration, with what sessions since have changed of when the search ends.

    Args:
        store: The run.
        changes: Fields that this session changes.
        cache: The shared cache of this session alone; None: that of the run.
    """
    changed: dict[str, Any] = {}
    for event in store.events("opened"):
        changed |= event.model_dump().get("changes", {})
    changed |= changes or {}
    return store.record.config.model_copy(update=changed | ({} if cache is None else {"cache": cache}))


def with_raised(bounds: Budget, raised: Budget | None) -> Budget:
    """The bounds with those in place of them that a person has just given; None keeps all."""
    if raised is None:
        return bounds
    changes = raised.model_dump(exclude_none=True)
    roles = bounds.model_dump(exclude_none=True)["roles"]
    for role, changed in changes.pop("roles").items():
        roles[role] = {**roles.get(role, {}), **changed}
    return Budget.model_validate({**bounds.model_dump(), **changes, "roles": roles})


def recorded_seconds(history: History) -> float:
    """How long the run had been recorded when its last score was written."""
    scores = [iteration.score for iteration in history if iteration.score is not None and not iteration.is_inherited]
    return max([score.spent.seconds for score in scores] + [sealed_spent(history.store).seconds])


@contextmanager
def closed_on_error(store: RunStore) -> Iterator[None]:
    """Give the lock back when a run cannot be set up after all."""
    try:
        yield
    except BaseException:
        store.close()
        raise
