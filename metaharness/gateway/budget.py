"""The ledger of a run: what was spent, what calls in flight may still cost, and whether the next one is allowed.

Calls never exceed their bound. Tokens and dollars are reserved by an estimate before a call and settled by what the
provider reports, so they exceed their bound by at most what the calls in flight cost beyond their estimates.

A bound of a role is a ledger of its own beside it, and so is what several runs may spend together: both have to allow
a call, and count it.

What this does not guard: tokens that a provider bills without reporting them, such as an attempt that timed out.

Everything here is called from the event loop only, so nothing is locked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from metaharness.configuration import Budget
from metaharness.errors import ModelFailure
from metaharness.gateway.estimates import NANO, Estimate, Waiting, estimate_nano_usd, estimate_tokens
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.totals import Total
from metaharness.messages import ModelRequest, ModelSpec
from metaharness.records import Call, Role, Spent

Bound = Literal["candidates", "case_evaluations", "calls", "tokens", "usd"]
BOUNDS: tuple[Bound, ...] = ("candidates", "case_evaluations", "calls", "tokens", "usd")
CALL_BOUNDS: tuple[Bound, ...] = ("calls", "tokens", "usd")


@dataclass(slots=True, eq=False)
class Reservation:
    """Room held for one call, until it is settled or released."""

    role: Role
    model: str
    estimate: Estimate
    held: Sequence[tuple[Ledger, Estimate]]
    """What is held in every ledger that had to allow it, the run's own first."""
    open: bool = True


class Ledger:
    """Counts what a run spends and refuses what its budget does not allow."""

    def __init__(
        self,
        limits: Budget,
        prices: PriceTable | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        within: Ledger | None = None,
        of: str = "",
    ) -> None:
        """Open an empty ledger.

        Args:
            limits: Upper bounds; None in a field is no bound.
            prices: For estimating dollars; None knows the free models only.
            clock: Seconds, for `spent.seconds`.
            within: Has to allow every call too, and counts it: what several runs may spend together. None: nothing.
            of: Whose bounds they are, as a refusal says it behind them.
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
        self.of = of
        self.within = within
        self._waiting: Waiting = within._waiting if within is not None else Waiting()
        self.roles: dict[Role, Ledger] = {
            role: Ledger(Budget(**bounds.model_dump()), prices, of=f" of the {role}{of}")
            for role, bounds in limits.roles.items()
        }
        """A ledger for every role that has bounds of its own."""

    # --- one call -------------------------------------------------------------------------------------------------

    def reserve(self, request: ModelRequest, spec: ModelSpec, *, role: Role = "target") -> Reservation:
        """Hold room for one call.

        Raises:
            ModelFailure: A bound does not allow it now; of kind `budget`.
            ConfigurationError: Dollars are bounded and the price of the model is unknown.
        """
        reservation = self.try_reserve(request, spec, role=role)
        if reservation is None:
            for ledger, estimate in self._estimated(request, spec, role):
                if (bound := ledger._exceeded(estimate, in_flight=True)) is not None:
                    raise ledger._refusal(bound, estimate)
        assert reservation is not None, "only calls in flight can have stood in the way"
        return reservation

    def try_reserve(self, request: ModelRequest, spec: ModelSpec, *, role: Role = "target") -> Reservation | None:
        """Hold room for one call; None when only calls in flight stand in the way, so that waiting may help.

        Raises:
            ModelFailure: A bound does not allow it, whatever the calls in flight turn out to cost.
            ConfigurationError: Dollars are bounded and the price of the model is unknown.
        """
        held = self._estimated(request, spec, role)
        for ledger, estimate in held:
            if (bound := ledger._exceeded(estimate, in_flight=False)) is not None:
                ledger._exhausted = bound
                raise ledger._refusal(bound, estimate)
        if any(ledger._exceeded(estimate, in_flight=True) is not None for ledger, estimate in held):
            return None
        for ledger, estimate in held:
            ledger._hold(1, estimate)
        return Reservation(role, spec.id, held[0][1], held)

    async def room(self) -> None:
        """Wait until a call in flight is over, also one of another run within the same bounds."""
        await self._waiting.wait()

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
            for ledger, estimate in reservation.held:
                ledger._hold(-1, estimate)
            self._waiting.tell()

    def estimate(self, request: ModelRequest, spec: ModelSpec) -> Estimate:
        """What the call may cost. Nothing is estimated that is not bounded.

        Raises:
            ConfigurationError: Dollars are bounded and the price of the model is unknown.
        """
        if not self._estimates:
            return Estimate()
        input_tokens, output_tokens = estimate_tokens(request, spec)
        return Estimate(input_tokens + output_tokens, self._nano_usd(spec, input_tokens, output_tokens))

    def check_prices(self, specs: Iterable[ModelSpec]) -> None:
        """Make sure that a bound in dollars can be kept for these models.

        Raises:
            ConfigurationError: Dollars are bounded and the price of a model is unknown.
        """
        for spec in specs:
            self._nano_usd(spec, 0, 0)

    def check_models(self, models: Mapping[Role, ModelSpec]) -> None:
        """The same for the model of each role: also for the bounds of that role, and of several runs together.

        Raises:
            ConfigurationError: Dollars are bounded and the price of a model is unknown.
        """
        for role, spec in models.items():
            for ledger in self._asked(role):
                ledger.check_prices([spec])

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
        if "target" in self.roles:
            self.roles["target"].keep_back(amounts)

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
        return any(
            ledger.used(bound) >= ledger._open_to_use(bound)
            for ledger in self._asked("target")
            for bound in ledger._bounds
        )

    def in_flight(self, bound: Bound) -> float:
        """What open reservations hold of a bound."""
        return {"calls": self._open, "tokens": self._held_tokens, "usd": self._held_nano_usd / NANO}.get(bound, 0)

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

    def _asked(self, role: Role) -> list[Ledger]:
        """Every ledger that has to allow a call of a role and counts it, this one first."""
        found = [self, self.roles[role]] if role in self.roles else [self]
        return found if self.within is None else found + self.within._asked(role)

    def _estimated(self, request: ModelRequest, spec: ModelSpec, role: Role) -> list[tuple[Ledger, Estimate]]:
        return [(ledger, ledger.estimate(request, spec)) for ledger in self._asked(role)]

    def _hold(self, sign: int, estimate: Estimate) -> None:
        self._open += sign
        self._held_tokens += sign * estimate.tokens
        self._held_nano_usd += sign * estimate.nano_usd

    def _count(self, role: Role, call: Call) -> None:
        for ledger in self._asked(role):
            total = ledger._totals.get((role, call.model))
            if total is None:
                total = ledger._totals[(role, call.model)] = Total()
            for one in (total, ledger._sum):
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
        return estimate_nano_usd(self._prices, spec, input_tokens, output_tokens, limit=self._limits.usd)

    def _refusal(self, bound: Bound, estimate: Estimate) -> ModelFailure:
        room = f"{self.used(bound):g} spent, {self.in_flight(bound):g} in flight{self._said_kept(bound)}"
        return ModelFailure(
            "budget",
            f"the budget of {getattr(self._limits, bound):g} {BOUND_NAMES[bound]}{self.of} does not allow this call: "
            f"{room}, and it may need {_needed(bound, estimate):g}",
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
            return estimate.nano_usd / NANO
        case _:
            return 1
