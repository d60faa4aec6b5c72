"""After the smoke cases: what the planned search will take, as a range."""

from __future__ import annotations

from metaharness.gateway.prices import FREE_PROVIDERS
from metaharness.gateway.providers.remote import is_loopback
from metaharness.messages import Record
from metaharness.records import MISSING, CaseTrace
from metaharness.run.facade import Run
from metaharness.run.planning import search_cost
from metaharness.run.rates import Cost, rate_of_traces

MANY_CALLS = 1_000
"""More calls than this of a remote model without a known price are worth a question."""


class Forecast(Record):
    """What a search will take, if every harness takes what the smoke cases of the baselines have taken.

    `low` is as if each case took what the cheapest smoke case has, `high` the dearest, each quantity by itself.
    """

    baselines: int
    smoke_cases: int
    """Smoke cases with a value, over all baselines."""
    candidates: int
    low: Cost
    high: Cost
    minutes: tuple[float, float]
    """As many cases at once as the concurrency and a round allow."""


def forecast(run: Run) -> Forecast | None:
    """What the search of a run will take, once its baselines have answered their smoke cases; None where none has."""
    config, costs, seconds = run.config, list[Cost](), list[float]()
    baselines = len(run.domain.baselines())
    cases = run.pairs_per_candidate // config.trials
    for iteration in run.history:
        learned = {trace.trial: trace for trace in run.store.learn_traces(iteration.number)}.values()
        for trace in run.store.latest_traces(iteration.number).values():
            if trace.status not in MISSING:
                rate = rate_of_traces([trace], learned)
                costs.append(search_cost(config, rate, baselines=baselines, cases=cases))
                seconds.append(_seconds(trace))
    if not costs:
        return None
    at_once = min(config.concurrency, run.pairs_per_candidate * config.candidates_per_round)
    pairs = costs[0].case_evaluations
    return Forecast(
        baselines=baselines,
        smoke_cases=len(costs),
        candidates=config.iterations,
        low=_extreme(costs, least=True),
        high=_extreme(costs, least=False),
        minutes=(min(seconds) * pairs / at_once / 60, max(seconds) * pairs / at_once / 60),
    )


def why_ask(run: Run, found: Forecast | None, above: float) -> str | None:
    """Why a person should be asked before the search goes on; None where there is nothing to ask about.

    What the budget does not allow will not be spent, so it is not asked about either.

    Args:
        run: For its models, prices and budget.
        found: The forecast; None where nothing is known.
        above: Dollars that may be spent without a question.
    """
    remote = [spec for spec in run.config.models.values() if spec.provider not in FREE_PROVIDERS]
    if not remote:
        return None
    budget, high = run.ledger.limits, found.high if found is not None else None
    if high is not None and high.usd is not None:
        usd = high.usd if budget.usd is None else min(high.usd, budget.usd)
        return f"it may cost ${usd:,.2f}, and you are asked above ${above:,.2f}" if usd > above else None
    if all(is_loopback(spec.base_url) for spec in remote):
        return None
    calls = [count for count in (high.calls if high is not None else None, budget.calls) if count is not None]
    if calls and min(calls) <= MANY_CALLS:
        return None
    name = ", ".join(dict.fromkeys(spec.id for spec in remote))
    if not calls:
        return f"what {name} will be asked is not known, as no smoke case has a value"
    return f"it may make {min(calls):,} calls of {name}, and the price of one is not known"


def _extreme(costs: list[Cost], *, least: bool) -> Cost:
    """The least or the most of each quantity."""
    choose = min if least else max
    dollars = [one.usd for one in costs if one.usd is not None]
    return Cost(
        case_evaluations=costs[0].case_evaluations,
        calls=choose(one.calls or 0 for one in costs),
        tokens=choose(one.tokens or 0 for one in costs),
        usd=choose(dollars) if len(dollars) == len(costs) else None,
    )


def _seconds(trace: CaseTrace) -> float:
    """A case's own time and what it waited for models."""
    return (trace.duration_ms + sum(call.latency_ms for call in trace.calls)) / 1000
