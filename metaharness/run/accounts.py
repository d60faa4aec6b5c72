"""What the money of a run has gone to: its journals, added up by role, model, iteration and day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Literal, get_args

from metaharness.gateway.totals import Total
from metaharness.history import History
from metaharness.holdout import read_opening, sealed_journal
from metaharness.records import JournalEntry
from metaharness.run.bounds import bound_states
from metaharness.run.summaries import cost_page, read_ledger

By = Literal["role", "model", "iteration", "day"]
BY: tuple[By, ...] = get_args(By)


def read_cost(history: History) -> dict[str, Any]:
    """`cost --json`: what `cost.json` would say now, the same calls by every key, and where each bound stands.

    `by_iteration` has a row for the search and one for the sealed test of an iteration; its `iteration` is None for
    calls that belong to none. Days are those of UTC, by when a call had ended.
    """
    ledger = read_ledger(history)
    if read_opening(history.store) is None:
        ledger.keep_back(_kept(history))
    entries = [(False, entry) for entry in history.store.journal.entries()]
    entries += [(True, entry) for entry in sealed_journal(history.store).entries()]
    page = {**cost_page(ledger), "budget": [state.model_dump() for state in bound_states(ledger)]}
    for by in BY:
        page[f"by_{by}"] = _totals(by, entries)
    return page


def _kept(history: History) -> dict[Any, float]:
    """What the process that recorded last has kept back for `finish`."""
    kept: Mapping[str, Any] = {}
    for event in history.store.events("kept_for_finish"):
        kept = event.model_dump()
    return {name: value for name, value in kept.items() if name in ("case_evaluations", "calls", "tokens", "usd")}


def _totals(by: By, entries: Iterable[tuple[bool, JournalEntry]]) -> list[dict[str, Any]]:
    """One row per key, sorted by it; what has none comes last."""
    found: dict[tuple[Any, ...], Total] = {}
    for sealed, entry in entries:
        found.setdefault(_key(by, entry, sealed=sealed), Total()).add(entry.call)
    names = ("iteration", "sealed") if by == "iteration" else (by,)
    keys = sorted(found, key=lambda key: [(part is None, 0 if part is None else part) for part in key])
    return [{**dict(zip(names, key, strict=True)), **asdict(found[key])} for key in keys]


def _key(by: By, entry: JournalEntry, *, sealed: bool) -> tuple[Any, ...]:
    match by:
        case "role":
            return (entry.attribution.role,)
        case "model":
            return (entry.call.model,)
        case "iteration":
            return (entry.attribution.iteration, sealed)
        case "day":
            return (entry.time[:10],)
