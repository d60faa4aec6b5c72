"""What `finish` will need, kept back from the search: a run that has spent all cannot make its claim.

Case evaluations are known exactly from the start: winner and best baseline, over the test cases and trials. Calls,
tokens and dollars are estimated once the baselines are scored: what the dearest complete evaluation and the dearest
baseline have taken per pair, and room for the admission of one more call of the largest size.

What this does not guard: test cases that take more than those of the search; `finish` then asks for a higher bound.
Nothing is kept of a bound without a limit, nor for a domain without test cases.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metaharness.configuration import Budget
from metaharness.domain import Domain
from metaharness.gateway.budget import BOUNDS, CALL_BOUNDS, Bound, Ledger
from metaharness.gateway.estimates import Estimate
from metaharness.gateway.prices import PriceTable
from metaharness.history import History
from metaharness.holdout import sealed_size
from metaharness.messages import ModelRequest, Usage
from metaharness.records import Call, CaseTrace
from metaharness.run.ground import TESTED
from metaharness.run.rates import Cost, Rate, cost, rate_of_traces, spec_of
from metaharness.run.recorder import Tell
from metaharness.scoring.scoreboard import Iteration

_NANO = 1_000_000_000
_WITHOUT_TEXTS: Mapping[str, object] = {"request": {}, "response": None}


def bounded(limits: Budget) -> bool:
    """Whether anything that `finish` spends has a limit: else nothing is kept back, and the split is not counted."""
    return limits.case_evaluations is not None or _calls_bounded(limits)


def _calls_bounded(limits: Budget) -> bool:
    return any(_limited(limits, bound) for bound in CALL_BOUNDS)


def _limited(limits: Budget, bound: Bound) -> bool:
    """Whether the run or its target has such a limit: they are what `finish` calls."""
    return any(getattr(one, bound, None) is not None for one in (limits, limits.roles.get("target")))


@dataclass(frozen=True)
class _Taken:
    """What a complete evaluation has taken."""

    rate: Rate
    largest: Estimate
    """The most room that one of its calls had to have when it was admitted."""


class Reserve:
    """Keeps back in a ledger what `finish` will need of each bound, and records how much that is."""

    def __init__(self, history: History, domain: Domain, ledger: Ledger, tell: Tell) -> None:
        """Keep nothing yet: `keep` does.

        Raises:
            DomainError: Something has a limit, and the test split cannot be read.
        """
        self._history = history
        self._config = history.record.config
        self._ledger = ledger
        self._tell = tell
        self._cases = sealed_size(domain)[0] if bounded(ledger.limits) else 0
        self._estimated = _calls_bounded(ledger.limits)
        self._by_hand = False
        self._prices = PriceTable(self._config.prices)
        self._taken: dict[int, tuple[int, _Taken]] = {}
        self._amounts: dict[Bound, float] = {}

    def keep(self, *, by_hand: bool = False) -> None:
        """Keep back what is known to be needed now; recorded where that has changed.

        Args:
            by_hand: A candidate is about to be handed in, so that there may be a winner beside the baselines.
        """
        self._by_hand = self._by_hand or by_hand or any(not one.is_baseline for one in self._history)
        if not self._cases:
            return
        needed = self._needed()
        limited = [bound for bound in BOUNDS if _limited(self._ledger.limits, bound)]
        found: dict[Bound, float | None] = {bound: getattr(needed, bound, None) for bound in limited}
        amounts: dict[Bound, float] = {bound: value for bound, value in found.items() if value is not None}
        self._ledger.keep_back(amounts)
        if amounts != self._amounts:
            self._amounts = amounts
            self._tell("kept_for_finish", **amounts)

    def _needed(self) -> Cost:
        alone = not self._config.iterations and not self._by_hand
        pairs = (1 if alone else TESTED) * self._cases * self._config.trials
        complete = [one for one in self._history if one.state == "complete"]
        baselines = [one for one in complete if one.is_baseline]
        # without a baseline there is no test: what its own evaluation still takes is never kept back from it
        if not baselines or not self._estimated or not self._history.closed_rounds:
            return Cost(case_evaluations=pairs)
        costs = [self._dearest(group) for group in ([baselines] if alone else [complete, baselines])]
        largest = _largest(self._of(one).largest for one in complete)
        dollars = [one.usd for one in costs if one.usd is not None]
        return Cost(
            case_evaluations=pairs,
            calls=sum(one.calls or 0 for one in costs),
            tokens=sum(one.tokens or 0 for one in costs) + largest.tokens,
            usd=math.fsum(dollars) + largest.nano_usd / _NANO if len(dollars) == len(costs) else None,
        )

    def _dearest(self, group: Sequence[Iteration]) -> Cost:
        """The most of each that one of these would take on the test split."""
        trials = self._config.trials
        costs = [cost(self._of(one).rate, self._cases, trials, trials) for one in group]
        dollars = [one.usd for one in costs if one.usd is not None]
        return Cost(
            case_evaluations=self._cases * trials,
            calls=max(one.calls or 0 for one in costs),
            tokens=max(one.tokens or 0 for one in costs),
            usd=max(dollars) if len(dollars) == len(costs) else None,
        )

    def _of(self, iteration: Iteration) -> _Taken:
        """What an evaluation has taken, from its traces; read once for each revision of its score."""
        number, revision = iteration.number, iteration.score.revision if iteration.score is not None else 0
        known = self._taken.get(number)
        if known is None or known[0] != revision:
            self._taken[number] = known = (revision, self._read(number))
        return known[1]

    def _read(self, number: int) -> _Taken:
        store = self._history.store
        pairs = list(store.measure_traces(number, self._measured).values())
        learned = list({trace.trial: self._measured(trace) for trace in store.learn_traces(number)}.values())
        rate = rate_of_traces([trace for trace, _ in pairs], [trace for trace, _ in learned])
        return _Taken(rate, _largest(size for _, size in [*pairs, *learned]))

    def _measured(self, trace: CaseTrace) -> tuple[CaseTrace, Estimate]:
        """A trace without its texts, and the largest room that one of its calls had to have."""
        sizes = [
            self._ledger.estimate(ModelRequest.model_validate(call.request), spec_of(self._config, call))
            for call in trace.calls
            if call.request
        ]
        calls = [call.model_copy(update={**_WITHOUT_TEXTS, "usd": self._usd(call)}) for call in trace.calls]
        return trace.model_copy(update={"calls": calls, "input": None, "output": None}), _largest(sizes)

    def _usd(self, call: Call) -> float | None:
        """What a call has cost, also where the price was not known yet when it was made, as in the source of a fork."""
        if call.usd is not None or call.error is not None:
            return call.usd
        usage = Usage(input_tokens=call.input_tokens, output_tokens=call.output_tokens)
        return self._prices.cost(spec_of(self._config, call), usage)


def _largest(estimates: Iterable[Estimate]) -> Estimate:
    found = [(one.tokens, one.nano_usd) for one in estimates]
    return Estimate(max((tokens for tokens, _ in found), default=0), max((nano for _, nano in found), default=0))
