"""The derived files of a run: rebuilt at any time from what is recorded, read back by no code."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.history import History
from metaharness.holdout import read_opening, read_result, sealed_journal, sealed_spent
from metaharness.records import Spent
from metaharness.run.recording import bounds_now, recorded_seconds
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import RunStore

SUMMARY_SECONDS = 1.0
"""How old `summary.json` and `cost.json` may be while a search goes on; they are written anew at its end."""


def summary_row(iteration: Iteration, primary: str) -> dict[str, Any]:
    """One line of `evolution_summary.jsonl`."""
    proposal, score, verdict, rejection = iteration.proposal, iteration.score, iteration.verdict, iteration.rejection
    found = score.objectives.get(primary) if score is not None else None
    return {
        "iteration": proposal.iteration,
        "name": proposal.name,
        "round": proposal.round,
        "slot": proposal.slot,
        "parents": proposal.parents,
        "hypothesis": proposal.hypothesis,
        "axis": proposal.axis,
        "components": proposal.components,
        "predicted_effect": proposal.predicted_effect,
        "state": iteration.state,
        "score": found.mean if found is not None else None,
        "interval": [found.low, found.high] if found is not None else None,
        "context_chars": score.context_chars if score is not None else None,
        "delta": verdict.delta if verdict is not None else None,
        "p": verdict.p if verdict is not None else None,
        "against": verdict.incumbent if verdict is not None else None,
        "verdict": verdict.verdict if verdict is not None else None,
        "rejected": {"stage": rejection.stage, "message": rejection.message} if rejection is not None else None,
        "flags": proposal.flags,
        "inherited": proposal.inherited,
        "submitted": proposal.submitted,
        "finished": score.finished if score is not None else None,
        "spent": score.spent.model_dump() if score is not None else None,
    }


def summary_page(history: History, status: str, spent: Mapping[str, Any]) -> dict[str, Any]:
    """`summary.json`."""
    board = history.scoreboard()
    best = history.best()
    primary = history.objectives[0].name
    result = read_result(history.store)
    return {
        "run": history.record.run_id,
        "domain": history.record.domain_name,
        "status": status,
        "iterations": len(history),
        "rounds": len(history.closed_rounds),
        "sandboxes": sorted({one.score.sandbox for one in history if one.score is not None}),
        "best": summary_row(best, primary) if best is not None else None,
        "frontier": list(board.frontier),
        "test": None if result is None else result.model_dump(mode="json"),
        "spent": dict(spent),
    }


def write_derived(history: History, ledger: Ledger, status: str) -> None:
    """Write every derived file anew; the store of the history is open for recording."""
    primary = history.objectives[0].name
    closed = len(history.closed_rounds)
    rows = [summary_row(iteration, primary) for iteration in history if iteration.proposal.round < closed]
    history.store.rewrite_summary(rows)
    history.store.write_summary(summary_page(history, status, ledger.spent.model_dump()))
    history.store.write_cost(cost_page(ledger))


class Derived:
    """The derived files of a run that is being recorded, written anew from time to time and at its end."""

    def __init__(self, history: History, ledger: Ledger) -> None:
        self._history = history
        self._ledger = ledger
        self._written = -math.inf

    def rebuild(self) -> None:
        """Write all of them."""
        write_derived(self._history, self._ledger, "running")
        self._written = time.monotonic()

    def add(self, iteration: Iteration) -> None:
        """The verdict of a candidate was spoken."""
        self._history.store.append_summary(summary_row(iteration, self._history.objectives[0].name))

    def write(self, status: str | None = None) -> None:
        """Write `summary.json` and `cost.json`: at the end, with why it ended; None: where the last ones are old."""
        if status is None and time.monotonic() - self._written < SUMMARY_SECONDS:
            return
        store = self._history.store
        spent = (self._ledger.spent if status is None else spent_when_over(self._history, self._ledger)).model_dump()
        store.write_summary(summary_page(self._history, status or "running", spent))
        store.write_cost({**cost_page(self._ledger), "spent": spent})
        self._written = time.monotonic()


def cost_page(ledger: Ledger) -> dict[str, Any]:
    """`cost.json`: totals by role and model."""
    return {
        "spent": ledger.spent.model_dump(),
        "limits": ledger.limits.model_dump(),
        "by_role_and_model": [
            {"role": role, "model": model, **asdict(total)} for (role, model), total in sorted(ledger.totals.items())
        ],
    }


def read_ledger(history: History) -> Ledger:
    """The ledger of a run, rebuilt from its journal and scores without recording it."""
    config = history.record.config
    ledger = Ledger(bounds_now(history.store), PriceTable(config.prices), clock=lambda: 0.0)
    journals = (history.store.journal, sealed_journal(history.store))
    ledger.restore((entry.attribution.role, entry.call) for journal in journals for entry in journal.entries())
    restore(ledger, history, counted_pairs(history))
    return ledger


def spent_when_over(history: History, ledger: Ledger) -> Spent:
    """What a search that is over or was stopped has spent: of a candidate that was cut short, the pairs that ended."""
    return ledger.spent.model_copy(update={"case_evaluations": counted_pairs(history)})


def restore(ledger: Ledger, history: History, case_evaluations: int) -> None:
    """Add to the ledger of a run what earlier sessions have spent beside calls."""
    seconds = recorded_seconds(history)
    ledger.restore((), candidates=proposed(history), case_evaluations=case_evaluations, seconds=seconds)


def counted_pairs(history: History) -> int:
    """How many pairs have been counted once the search is over: evaluated, tried beside it, and of the sealed test."""
    store = history.store
    return evaluated_pairs(history) + beside_pairs(store) + sealed_spent(store).case_evaluations


def evaluated_pairs(history: History) -> int:
    """How many pairs of the run's own candidates have been evaluated; those of inherited ones count elsewhere."""
    return sum(evaluated(history, one) for one in history if not one.is_inherited)


def proposed(history: History) -> int:
    """How many candidates count against their bound: neither baselines, nor what was handed in by hand or inherited."""
    return sum(not one.is_baseline and not one.proposal.by_hand and not one.is_inherited for one in history)


def beside_pairs(store: RunStore) -> int:
    """How many cases were counted beside the iterations: of files that were tried, and of partial evaluations."""
    return sum(event.model_dump()["cases"] for kind in ("tried", "partial") for event in store.events(kind))


def charged_pairs(history: History, planned: int) -> int:
    """How many pairs the ledger of a run has counted while it searches.

    Args:
        history: The run.
        planned: Pairs per candidate: all of them are counted unless it was rejected.
    """
    own = (one for one in history if not one.is_inherited)
    counted = (planned if one.rejection is None else evaluated(history, one) for one in own)
    return sum(counted) + beside_pairs(history.store)


def evaluated(history: History, iteration: Iteration) -> int:
    """How many pairs of an iteration have been evaluated, missing ones included."""
    if iteration.score is not None:
        return iteration.score.planned
    return len(history.store.measure_traces(iteration.number, lambda trace: trace.status))


def read_spent(history: History) -> Spent:
    """What a run has spent so far."""
    return read_ledger(history).spent


def run_status(history: History) -> str:
    """Why the run ended the last time, or that it has not."""
    if read_result(history.store) is not None:
        return "finished: the test split was opened"
    if read_opening(history.store) is not None:
        return "the test split was opened; finish goes on"
    last = None
    for kind in ("created", "opened", "ended"):
        for event in history.store.events(kind):
            if last is None or event.number > last.number:
                last = event
    if last is not None and last.kind == "created" and history.record.forked_at is not None:
        return "forked, and not gone on with yet"
    if last is None or last.kind != "ended":
        return "running or interrupted"
    return str(last.model_dump().get("reason", "ended"))
