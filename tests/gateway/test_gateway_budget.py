"""The ledger: nothing is spent that the budget does not allow, and every reservation comes back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from metaharness.configuration import Budget
from metaharness.errors import ConfigurationError, ModelFailure
from metaharness.gateway.budget import Ledger, Reservation
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers import parse_model
from metaharness.messages import Message, ModelRequest, ModelSpec
from metaharness.records import Call, Spent

GPT = parse_model("openai:gpt")
ICL = parse_model("embedded:icl")
PRICES = PriceTable({"openai:gpt": (1.0, 10.0)})


def ask(chars: int = 30, **fields: Any) -> ModelRequest:
    return ModelRequest(messages=[Message(role="user", content="x" * chars)], **fields)


def call(spec: ModelSpec = GPT, tokens: tuple[int, int] = (0, 0), usd: float | None = 0.0, **fields: Any) -> Call:
    return Call(request={}, model=spec.id, input_tokens=tokens[0], output_tokens=tokens[1], usd=usd, **fields)


def test_a_budget_of_calls_is_exact() -> None:
    ledger = Ledger(Budget(calls=2))
    first = ledger.reserve(ask(), ICL)
    ledger.settle(first, call(ICL))
    second = ledger.reserve(ask(), ICL)
    with pytest.raises(ModelFailure, match=r"budget of 2 calls .*: 1 spent, 1 in flight") as caught:
        ledger.reserve(ask(), ICL)
    assert caught.value.kind == "budget"
    ledger.release(second)
    assert ledger.reserve(ask(), ICL).open


def test_what_stands_in_the_way_only_while_it_flies_is_worth_waiting_for() -> None:
    ledger = Ledger(Budget(calls=1))
    reservation = ledger.reserve(ask(), ICL)
    assert ledger.try_reserve(ask(), ICL) is None
    ledger.settle(reservation, call(ICL))
    with pytest.raises(ModelFailure, match="1 spent, 0 in flight"):
        ledger.try_reserve(ask(), ICL)


@pytest.mark.parametrize(
    ("request_", "spec", "expected"),
    [
        (ask(30), GPT, 10 + 4096),
        (ask(31, max_tokens=5), GPT, 11 + 5),
        (ask(30), ICL, 10 + 64),
        (ask(30, max_tokens=1, tools=[{"a": 1}]), GPT, 14 + 1),
    ],
)
def test_an_estimate_is_a_third_of_the_characters_and_the_longest_answer(
    request_: ModelRequest, spec: ModelSpec, expected: int
) -> None:
    assert Ledger(Budget(tokens=10_000)).estimate(request_, spec).tokens == expected


def test_an_image_is_estimated_too() -> None:
    blocks = [{"type": "image", "source": {"type": "url", "url": "https://example.org/x.png"}}]
    request = ModelRequest(messages=[Message(role="user", content=blocks)], max_tokens=1)
    assert Ledger(Budget(tokens=1)).estimate(request, GPT).tokens == 1601


def test_tokens_are_refused_by_the_estimate_and_settled_by_the_bill() -> None:
    ledger = Ledger(Budget(tokens=100))
    reservation = ledger.reserve(ask(30, max_tokens=40), GPT)
    assert ledger.remaining("tokens") == 50
    with pytest.raises(ModelFailure, match=r"budget of 100 tokens .* it may need 60"):
        ledger.reserve(ask(30, max_tokens=50), GPT)
    ledger.settle(reservation, call(tokens=(8, 2)))
    assert ledger.remaining("tokens") == 90
    assert ledger.reserve(ask(30, max_tokens=50), GPT).open


def test_dollars_are_kept_like_tokens() -> None:
    ledger = Ledger(Budget(usd=0.001), PRICES)
    reservation = ledger.reserve(ask(300, max_tokens=50), GPT)
    assert ledger.in_flight("usd") == pytest.approx(0.0006)
    with pytest.raises(ModelFailure, match=r"budget of 0.001 dollars .*0.0006 in flight"):
        ledger.reserve(ask(300, max_tokens=50), GPT)
    ledger.settle(reservation, call(usd=0.0001))
    assert ledger.spent.usd == pytest.approx(0.0001)


def test_a_budget_in_dollars_wants_to_know_the_price() -> None:
    ledger = Ledger(Budget(usd=1))
    for act in (lambda: ledger.check_prices([ICL, GPT]), lambda: ledger.reserve(ask(), GPT)):
        with pytest.raises(ConfigurationError, match="price of openai:gpt is unknown") as caught:
            act()
        assert "--price openai:gpt=" in str(caught.value.hint)
    Ledger(Budget(usd=1), PRICES).check_prices([ICL, GPT])
    Ledger(Budget(tokens=1)).check_prices([GPT])


def test_candidates_and_case_evaluations_are_counted_whole_or_not_at_all() -> None:
    ledger = Ledger(Budget(candidates=1, case_evaluations=10))
    ledger.charge_candidate()
    ledger.charge_case_evaluations(7)
    with pytest.raises(ModelFailure, match="budget of 1 candidates"):
        ledger.charge_candidate()
    with pytest.raises(ModelFailure, match="does not allow 4 more: 7 spent"):
        ledger.charge_case_evaluations(4)
    ledger.charge_case_evaluations(3)
    assert (ledger.remaining("candidates"), ledger.remaining("case_evaluations")) == (0, 0)
    assert ledger.remaining("calls") is None
    assert (ledger.spent.candidates, ledger.spent.case_evaluations) == (1, 10)


def test_pairs_that_were_not_evaluated_are_given_back() -> None:
    ledger = Ledger(Budget(case_evaluations=10))
    ledger.charge_case_evaluations(10)
    ledger.refund_case_evaluations(6)
    assert ledger.remaining("case_evaluations") == 6


def test_a_rest_too_small_for_a_call_is_an_exhausted_budget() -> None:
    ledger = Ledger(Budget(tokens=100))
    ledger.release(ledger.reserve(ask(30, max_tokens=40), GPT))
    assert ledger.exhausted is None
    with pytest.raises(ModelFailure):
        ledger.try_reserve(ask(30, max_tokens=91), GPT)
    assert ledger.remaining("tokens") == ledger.limits.tokens
    assert str(ledger.exhausted) == "tokens"


def test_totals_are_kept_by_role_and_model() -> None:
    ledger = Ledger(Budget())
    for spec, one in ((GPT, call(usd=None, tokens=(5, 1))), (GPT, call(usd=0.5, tokens=(3, 1))), (ICL, call(ICL))):
        ledger.settle(ledger.reserve(ask(), spec, role="judge" if spec is ICL else "target"), one)
    target = ledger.totals["target", "openai:gpt"]
    assert (target.calls, target.input_tokens, target.output_tokens, target.usd, target.unpriced) == (2, 8, 2, 0.5, 1)
    assert ledger.totals["judge", "embedded:icl"].calls == 1
    assert ledger.spent.unpriced_calls == 1


def test_a_resumed_ledger_goes_on_where_the_journal_ends() -> None:
    clock = iter([100.0, 103.5]).__next__
    ledger = Ledger(Budget(calls=3, tokens=100), clock=clock)
    ledger.restore(
        [("target", call(tokens=(50, 10), usd=0.25)), ("target", call(tokens=(5, 1), usd=None, cached=True))],
        candidates=2,
        case_evaluations=9,
        seconds=60.0,
    )
    assert ledger.spent == Spent(
        candidates=2,
        case_evaluations=9,
        calls=1,
        input_tokens=50,
        output_tokens=10,
        usd=0.25,
        cached_calls=1,
        saved_input_tokens=5,
        saved_output_tokens=1,
        seconds=63.5,
    )
    assert ledger.totals["target", "openai:gpt"].cached == 1
    assert ledger.remaining("tokens") == 40
    assert ledger.remaining("calls") == 2


def test_a_reservation_is_settled_once() -> None:
    ledger = Ledger(Budget())
    reservation = ledger.reserve(ask(), ICL)
    ledger.settle(reservation, call(ICL))
    ledger.release(reservation)
    with pytest.raises(ValueError, match="closed"):
        ledger.settle(reservation, call(ICL))
    assert ledger.spent.calls == 1


# --- properties ---------------------------------------------------------------------------------------------------


class Spending(RuleBasedStateMachine):
    """Any order of reserving, settling and releasing, as concurrent calls make it."""

    @initialize(
        calls=st.none() | st.integers(0, 6),
        tokens=st.none() | st.integers(0, 3_000),
        usd=st.none() | st.floats(0, 0.02),
    )
    def begin(self, calls: int | None, tokens: int | None, usd: float | None) -> None:
        self.limits = Budget(calls=calls, tokens=tokens, usd=usd)
        self.ledger = Ledger(self.limits, PRICES)
        self.open: list[Reservation] = []
        self.settled = 0
        self.overshoot_tokens = 0
        self.overshoot_usd = 0.0

    @rule(chars=st.integers(0, 3_000), max_tokens=st.integers(1, 800))
    def reserve(self, chars: int, max_tokens: int) -> None:
        request = ask(chars, max_tokens=max_tokens)
        try:
            reservation = self.ledger.try_reserve(request, GPT)
        except ModelFailure:
            reservation = None
        else:
            assert reservation is not None or self.open
        if reservation is not None:
            self.open.append(reservation)
        else:
            with pytest.raises(ModelFailure):
                self.ledger.reserve(request, GPT)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), tokens=st.tuples(st.integers(0, 1_500), st.integers(0, 1_000)))
    def settle(self, data: st.DataObject, tokens: tuple[int, int]) -> None:
        reservation = self._take(data)
        usd = (tokens[0] * 1.0 + tokens[1] * 10.0) / 1e6
        self.overshoot_tokens += max(0, sum(tokens) - reservation.estimate.tokens)
        self.overshoot_usd += max(0.0, usd - reservation.estimate.nano_usd / 1e9)
        self.ledger.settle(reservation, call(tokens=tokens, usd=usd))
        self.settled += 1

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.ledger.release(self._take(data))

    @invariant()
    def calls_never_exceed_their_bound(self) -> None:
        if self.limits.calls is not None:
            assert self.ledger.spent.calls + self.ledger.in_flight("calls") <= self.limits.calls
        assert self.ledger.spent.calls == self.settled

    @invariant()
    def tokens_and_dollars_exceed_theirs_by_no_more_than_wrong_estimates(self) -> None:
        spent = self.ledger.spent
        if self.limits.tokens is not None:
            used = spent.input_tokens + spent.output_tokens + self.ledger.in_flight("tokens")
            assert used <= self.limits.tokens + self.overshoot_tokens
        if self.limits.usd is not None:
            assert spent.usd + self.ledger.in_flight("usd") <= self.limits.usd + self.overshoot_usd + 1e-12

    @invariant()
    def what_is_in_flight_is_what_is_open(self) -> None:
        assert self.ledger.in_flight("calls") == len(self.open)
        assert self.ledger.in_flight("tokens") == sum(one.estimate.tokens for one in self.open)
        if not self.open:
            assert self.ledger.in_flight("usd") == 0

    def _take(self, data: st.DataObject) -> Reservation:
        return self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))


TestSpending = Spending.TestCase


def test_what_is_kept_back_is_refused_to_everybody_until_less_is_kept() -> None:
    ledger = Ledger(Budget(calls=3, case_evaluations=10))
    ledger.keep_back({"calls": 2, "case_evaluations": 4})
    assert (ledger.remaining("calls"), ledger.remaining("case_evaluations"), ledger.remaining("usd")) == (1, 6, None)
    ledger.settle(ledger.reserve(ask(), ICL), call(ICL))
    with pytest.raises(ModelFailure, match=r"budget of 3 calls .*: 1 spent, 0 in flight, 2 kept for finish"):
        ledger.reserve(ask(), ICL)
    assert ledger.used_up
    with pytest.raises(ModelFailure, match="does not allow 7 more: 0 spent, 4 kept for finish"):
        ledger.charge_case_evaluations(7)
    ledger.keep_back({})
    ledger.charge_case_evaluations(7)
    assert ledger.reserve(ask(), ICL).open


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 40))), st.integers(0, 30))
def test_what_is_kept_back_never_lets_more_be_spent(steps: list[tuple[int, int]], limit: int) -> None:
    ledger = Ledger(Budget(case_evaluations=limit))
    for count, kept in steps:
        ledger.keep_back({"case_evaluations": kept})
        before = ledger.spent.case_evaluations
        try:
            ledger.charge_case_evaluations(count)
        except ModelFailure:
            assert before + count > limit - kept
        else:
            assert ledger.spent.case_evaluations <= limit - kept
        assert ledger.remaining("case_evaluations") == max(0, limit - kept - ledger.spent.case_evaluations)


@given(st.lists(st.integers(1, 9)), st.integers(0, 30))
def test_case_evaluations_never_exceed_their_bound(counts: list[int], limit: int) -> None:
    ledger = Ledger(Budget(case_evaluations=limit))
    charged = 0
    for count in counts:
        try:
            ledger.charge_case_evaluations(count)
        except ModelFailure:
            assert charged + count > limit
        else:
            charged += count
    assert ledger.spent.case_evaluations == charged <= limit
