"""The ledger of a run: what was spent, what calls in flight may still cost, and whether the next one is allowed.

Calls never exceed their bound. Tokens and dollars are reserved by an estimate before a call and settled by what the
provider reports, so they exceed their bound by at most what the calls in flight cost beyond their estimates.

What this does not guard: tokens that a provider bills without reporting them, such as an attempt that timed out.

Everything here is called from the event loop only, so nothing is locked.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from metaharness.configuration import Budget
from metaharness.errors import ConfigurationError, ModelFailure
from metaharness.gateway.prices import FREE_PROVIDERS, PriceTable
from metaharness.gateway.text import count_chars, count_images
from metaharness.messages import ModelRequest, ModelSpec
from metaharness.records import Call, Role, Spent

Bound = Literal["candidates", "case_evaluations", "calls", "tokens", "usd"]
BOUNDS: tuple[Bound, ...] = ("candidates", "case_evaluations", "calls", "tokens", "usd")
CALL_BOUNDS: tuple[Bound, ...] = ("calls", "tokens", "usd")

CHARS_PER_TOKEN = 3
"""Low, so that an estimate of English text or code is rather too high than too low."""
TOKENS_PER_IMAGE = 1_600
DEFAULT_MAX_TOKENS = 4_096
"""The answer's length where the request sets none; what the Anthropic provider then asks for."""
LOCAL_OUTPUT_TOKENS = 64
"""The same for models that answer inside this process, in a line or two."""

_NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one call may cost at most, as far as it can be told before."""

    tokens: int = 0
    """0 where neither tokens nor dollars are bounded: then nothing is estimated."""
    nano_usd: int = 0
    """Billionths of a dollar, rounded up: whole numbers, so that reservations add up to zero again."""


@dataclass(slots=True, eq=False)
class Reservation:
    """Room held for one call, until it is settled or released."""

    role: Role
    model: str
    estimate: Estimate
    open: bool = True


@dataclass(slots=True)
class Total:
    """What one model in one role has cost."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    """Known costs only."""
    unpriced: int = 0
    """Calls whose cost is unknown."""
    cached: int = 0
    """Calls answered by the shared cache. They cost nothing, and are in none of the numbers above."""
    saved_input_tokens: int = 0
    saved_output_tokens: int = 0
    saved_usd: float = 0.0
    """What those would have cost; known costs only."""

    def add(self, call: Call) -> None:
        """Count one call: as paid for, or as saved."""
        if call.cached:
            self.cached += 1
            self.saved_input_tokens += call.input_tokens
            self.saved_output_tokens += call.output_tokens
            self.saved_usd += call.usd or 0.0
            return
        self.calls += 1
        self.input_tokens += call.input_tokens
        self.output_tokens += call.output_tokens
        self.usd += call.usd or 0.0
        self.unpriced += call.usd is None


class Ledger:
    """Counts what a run spends and refuses what its budget does not allow."""

    def __init__(
        self, limits: Budget, prices: PriceTable | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Open an empty ledger.

        Args:
            limits: Upper bounds; None in a field is no bound.
            prices: For estimating dollars; None knows the free models only.
            clock: Seconds, for `spent.seconds`.
        """
        self._limits = limits
        self._prices = prices or PriceTable()
        self._clock = clock
        self._started = clock()
        self._seconds_before = 0.0
        self._candidates = 0
        self._case_evaluations = 0
        self._sum = Total()
        self._totals: dict[tuple[Role, str], Total] = {}
        self._open = 0
        self._held_tokens = 0
        self._held_nano_usd = 0
        self._bounds = tuple(bound for bound in CALL_BOUNDS if getattr(limits, bound) is not None)
        self._kept: dict[Bound, float] = {}
        self._exhausted: Bound | None = None
        self._estimates = limits.tokens is not None or limits.usd is not None

    # --- one call -------------------------------------------------------------------------------------------------

    def reserve(self, request: ModelRequest, spec: ModelSpec, *, role: Role = "target") -> Reservation:
        """Hold room for one call.

        Raises:
            ModelFailure: A bound does not allow it now; of kind `budget`.
            ConfigurationError: Dollars are bounded and the price of the model is unknown.
        """
        reservation = self.try_reserve(request, spec, role=role)
        if reservation is None:
            estimate = self.estimate(request, spec)
            bound = self._exceeded(estimate, in_flight=True)
            assert bound is not None, "only calls in flight can have stood in the way"
            raise self._refusal(bound, estimate)
        return reservation

    def try_reserve(self, request: ModelRequest, spec: ModelSpec, *, role: Role = "target") -> Reservation | None:
        """Hold room for one call; None when only calls in flight stand in the way, so that waiting may help.

        Raises:
            ModelFailure: A bound does not allow it, whatever the calls in flight turn out to cost.
            ConfigurationError: Dollars are bounded and the price of the model is unknown.
        """
        estimate = self.estimate(request, spec)
        if (bound := self._exceeded(estimate, in_flight=False)) is not None:
            self._exhausted = bound
            raise self._refusal(bound, estimate)
        if self._exceeded(estimate, in_flight=True) is not None:
            return None
        return self._hold(role, spec.id, estimate)

    def settle(self, reservation: Reservation, call: Call) -> None:
        """Replace the estimate by what the call has really cost.

        Raises:
            ValueError: The reservation was settled or released before.
        """
        if not reservation.open:
            raise ValueError("the reservation is closed")
        self.release(reservation)
        self._count(reservation.role, call)

    def add(self, role: Role, call: Call) -> None:
        """Count a call that nothing was reserved for, as the shared cache has answered it."""
        self._count(role, call)

    def release(self, reservation: Reservation) -> None:
        """Give back the room of a call that has cost nothing. Does nothing after `settle`."""
        if reservation.open:
            reservation.open = False
            self._open -= 1
            self._held_tokens -= reservation.estimate.tokens
            self._held_nano_usd -= reservation.estimate.nano_usd

    def estimate(self, request: ModelRequest, spec: ModelSpec) -> Estimate:
        """What the call may cost. Nothing is estimated that is not bounded.

        Raises:
            ConfigurationError: Dollars are bounded and the price of the model is unknown.
        """
        if not self._estimates:
            return Estimate()
        defined = [part for part in (request.tools, request.response_format, request.extra) if part]
        chars = count_chars(request) + sum(len(json.dumps(part)) for part in defined)
        input_tokens = -(-chars // CHARS_PER_TOKEN) + TOKENS_PER_IMAGE * count_images(request)
        default = LOCAL_OUTPUT_TOKENS if spec.provider in FREE_PROVIDERS else DEFAULT_MAX_TOKENS
        output_tokens = request.max_tokens or default
        return Estimate(input_tokens + output_tokens, self._nano_usd(spec, input_tokens, output_tokens))

    def check_prices(self, specs: Iterable[ModelSpec]) -> None:
        """Make sure that a bound in dollars can be kept for these models.

        Raises:
            ConfigurationError: Dollars are bounded and the price of a model is unknown.
        """
        for spec in specs:
            self._nano_usd(spec, 0, 0)

    # --- everything else that is bounded --------------------------------------------------------------------------

    def charge_case_evaluations(self, count: int) -> None:
        """Count pairs of case and trial that are about to be evaluated.

        Raises:
            ModelFailure: The budget does not allow so many; of kind `budget`, and none is counted.
        """
        self._charge("case_evaluations", self._case_evaluations, count)
        self._case_evaluations += count

    def refund_case_evaluations(self, count: int) -> None:
        """Give back pairs that were counted and will not be evaluated, because the candidate was rejected."""
        self._case_evaluations -= count

    def charge_candidate(self) -> None:
        """Count one candidate beyond the baselines.

        Raises:
            ModelFailure: The budget does not allow another; of kind `budget`, and it is not counted.
        """
        self._charge("candidates", self._candidates, 1)
        self._candidates += 1

    def keep_back(self, amounts: Mapping[Bound, float]) -> None:
        """Keep a part of each bound for later: from now on nothing else may use it. Replaces what was kept before."""
        self._kept = dict(amounts)

    # --- readings -------------------------------------------------------------------------------------------------

    @property
    def limits(self) -> Budget:
        """The bounds this ledger keeps."""
        return self._limits

    @property
    def spent(self) -> Spent:
        """What was spent until now; calls in flight are not in it."""
        return Spent(
            candidates=self._candidates,
            case_evaluations=self._case_evaluations,
            calls=self._sum.calls,
            input_tokens=self._sum.input_tokens,
            output_tokens=self._sum.output_tokens,
            usd=self._sum.usd,
            unpriced_calls=self._sum.unpriced,
            cached_calls=self._sum.cached,
            saved_input_tokens=self._sum.saved_input_tokens,
            saved_output_tokens=self._sum.saved_output_tokens,
            saved_usd=self._sum.saved_usd,
            seconds=round(self._seconds_before + self._clock() - self._started, 3),
        )

    @property
    def totals(self) -> Mapping[tuple[Role, str], Total]:
        """What each model has cost, by role and `provider:name`."""
        return self._totals

    @property
    def exhausted(self) -> Bound | None:
        """The bound that refused a call last; None while every call was allowed.

        A rest of tokens or dollars too small for a call remains: `remaining` alone does not tell that nothing goes on.
        """
        return self._exhausted

    @property
    def used_up(self) -> bool:
        """Whether completed calls have reached a bound, so that every further one is refused."""
        return any(self.used(bound) >= self._open_to_use(bound) for bound in self._bounds)

    def in_flight(self, bound: Bound) -> float:
        """What open reservations hold of a bound."""
        return {"calls": self._open, "tokens": self._held_tokens, "usd": self._held_nano_usd / _NANO}.get(bound, 0)

    def remaining(self, bound: Bound) -> float | None:
        """What is left of a bound, calls in flight and what is kept back taken off; None without one, never below 0."""
        if getattr(self._limits, bound) is None:
            return None
        return max(0, self._open_to_use(bound) - self.used(bound) - self.in_flight(bound))

    def used(self, bound: Bound) -> float:
        """What was spent of a bound, whether it has a limit or not; calls in flight are not in it."""
        match bound:
            case "calls":
                return self._sum.calls
            case "tokens":
                return self._sum.input_tokens + self._sum.output_tokens
            case "usd":
                return self._sum.usd
            case "candidates":
                return self._candidates
            case "case_evaluations":
                return self._case_evaluations

    def kept_back(self, bound: Bound) -> float:
        """What `keep_back` holds of a bound; 0 for nothing."""
        return self._kept.get(bound, 0)

    def restore(
        self,
        calls: Iterable[tuple[Role, Call]],
        *,
        candidates: int = 0,
        case_evaluations: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """Add what earlier sessions of the run have spent: the calls of its journal and the counts beside it."""
        for role, call in calls:
            self._count(role, call)
        self._candidates += candidates
        self._case_evaluations += case_evaluations
        self._seconds_before += seconds

    # --- inside ---------------------------------------------------------------------------------------------------

    def _hold(self, role: Role, model: str, estimate: Estimate) -> Reservation:
        self._open += 1
        self._held_tokens += estimate.tokens
        self._held_nano_usd += estimate.nano_usd
        return Reservation(role, model, estimate)

    def _count(self, role: Role, call: Call) -> None:
        key = (role, call.model)
        total = self._totals.get(key)
        if total is None:
            total = self._totals[key] = Total()
        for one in (total, self._sum):
            one.add(call)

    def _exceeded(self, estimate: Estimate, *, in_flight: bool) -> Bound | None:
        """The first bound that the call would break, counting the calls in flight or not."""
        for bound in self._bounds:
            used = self.used(bound) + (self.in_flight(bound) if in_flight else 0)
            if used + _needed(bound, estimate) > self._open_to_use(bound):
                return bound
        return None

    def _open_to_use(self, bound: Bound) -> float:
        """A bound without what is kept back of it."""
        limit: float = getattr(self._limits, bound)
        return limit - self.kept_back(bound)

    def _nano_usd(self, spec: ModelSpec, input_tokens: int, output_tokens: int) -> int:
        if self._limits.usd is None:
            return 0
        price = self._prices.price(spec, input_tokens)
        if price is None:
            raise ConfigurationError(
                f"the budget is {self._limits.usd:g} dollars and the price of {spec.id} is unknown",
                hint=f"bound tokens instead, or {self._prices.advice(spec)}",
            )
        return math.ceil((input_tokens * price[0] + output_tokens * price[1]) * 1_000)

    def _refusal(self, bound: Bound, estimate: Estimate) -> ModelFailure:
        room = f"{self.used(bound):g} spent, {self.in_flight(bound):g} in flight{self._said_kept(bound)}"
        return ModelFailure(
            "budget",
            f"the budget of {getattr(self._limits, bound):g} {BOUND_NAMES[bound]} does not allow this call: {room}, "
            f"and it may need {_needed(bound, estimate):g}",
            hint="raise the budget and resume" + ("" if bound == "calls" else ", or set max_tokens lower"),
        )

    def _charge(self, bound: Bound, used: int, count: int) -> None:
        limit = getattr(self._limits, bound)
        if limit is not None and used + count > self._open_to_use(bound):
            raise ModelFailure(
                "budget",
                f"the budget of {limit} {BOUND_NAMES[bound]} does not allow {count} more: {used} spent"
                + self._said_kept(bound),
                hint="raise the budget and resume",
            )

    def _said_kept(self, bound: Bound) -> str:
        kept = self.kept_back(bound)
        return f", {kept:g} kept for finish" if kept else ""


BOUND_NAMES: Mapping[Bound, str] = {
    "candidates": "candidates",
    "case_evaluations": "case evaluations",
    "calls": "calls",
    "tokens": "tokens",
    "usd": "dollars",
}


def _needed(bound: Bound, estimate: Estimate) -> float:
    match bound:
        case "tokens":
            return estimate.tokens
        case "usd":
            return estimate.nano_usd / _NANO
        case _:
            return 1
