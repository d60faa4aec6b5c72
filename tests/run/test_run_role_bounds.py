"""Bounds of single roles: each refuses the calls of its role alone, and the search ends saying so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from run_kit import CASES, Toy, harness, lines, proposals_of, recorded, say, write_toy

from metaharness.configuration import Budget, RoleBudget
from metaharness.gateway import Gateway
from metaharness.gateway.budget import Ledger
from metaharness.gateway.gateway import MemoryJournal
from metaharness.gateway.prices import PriceTable
from metaharness.messages import Completion, Message, ModelRequest, ModelSpec, Usage
from metaharness.records import Attribution, Proposal
from metaharness.run import Round, Run
from metaharness.run.accounts import read_cost
from metaharness.run.sessions import Session
from metaharness.search import search

SPEC = ModelSpec(provider="scripted", name="writer")
REQUEST = ModelRequest(messages=[Message(role="user", content="write")], max_tokens=1)


class Paying:
    """Asks its model once for each candidate."""

    def __init__(self, run: Run) -> None:
        self.run = run

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        with Session(self.run, round_, model=SPEC) as session:
            with session.allowed(REQUEST):
                session.charge(Usage(input_tokens=10, output_tokens=10), usd=0.0)
            yield proposals_of(harness("good") + f"# {round_.number}\n")[0]


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain")


async def test_a_proposer_that_has_spent_its_own_budget_ends_the_search_and_the_target_goes_on(
    toy: Toy, tmp_path: Path
) -> None:
    budget = Budget(calls=1_000, roles={"proposer": RoleBudget(calls=2)})
    async with Run.create(toy.config(iterations=5, budget=budget), tmp_path, name="run") as run:
        reason = await search(run, Paying(run))
        assert reason == "the budget of calls of the proposer is spent"
        assert [one.state for one in run.history] == ["complete"] * 4
    page = read_cost(recorded(tmp_path / "run"))
    (of_role,) = [state for state in page["budget"] if state["role"] == "proposer"]
    assert (of_role["spent"], of_role["limit"]) == (2, 2)
    warned = [row for row in lines(tmp_path / "run/events.jsonl") if row["kind"] == "budget_warned"]
    assert [(row["role"], row["share"]) for row in warned if "role" in row] == [("proposer", 0.5), ("proposer", 0.8)]
    raised = Budget(roles={"proposer": RoleBudget(calls=3)})
    async with Run.open(tmp_path / "run", raised=raised) as run:
        assert run.ledger.roles["proposer"].remaining("calls") == 1
        assert await search(run, Paying(run)) == reason
        assert len(run.history) == 5
        assert run.ledger.limits.calls == 1_000


async def test_a_call_that_a_role_may_not_make_any_more_is_a_failed_round(toy: Toy, tmp_path: Path) -> None:
    budget = Budget(roles={"proposer": RoleBudget(tokens=22)})
    async with Run.create(toy.config(iterations=5, budget=budget), tmp_path, name="run") as run:
        assert await search(run, Paying(run)) == "the budget of tokens of the proposer is spent"
    events = lines(tmp_path / "run/events.jsonl")
    (failed,) = [row for row in events if row["kind"] == "proposer_failed"]
    assert "the budget of 22 tokens of the proposer does not allow this call: 20 spent" in failed["error"]


def test_a_target_that_has_spent_its_own_budget_ends_the_search_and_what_finish_needs_is_kept(
    toy: Toy, tmp_path: Path
) -> None:
    calls = 2 * CASES + 10
    said = say("run", *toy.arguments("--root", tmp_path, "--name", "run", "--role-budget", f"target:calls={calls}"))
    assert said.code == 0, said.err
    assert "the budget of calls of the target is spent" in said.err
    assert f"budget of calls of the target: {calls - 6} of {calls} spent" in said.err
    assert "--role-budget target:calls=N" in said.err
    done = say("finish", "--root", tmp_path, "run", "--yes", "--quiet")
    assert done.code == 0, done.err


class InTheAir:
    """Answers when as many calls as can be are in the air."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        self.now += 1
        self.most = max(self.most, self.now)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        self.now -= 1
        return Completion(text="yes", usage=Usage(input_tokens=1, output_tokens=1))

    async def aclose(self) -> None:
        pass


async def test_several_runs_share_one_limit_on_calls_and_wait_for_each_other_s_budget() -> None:
    provider, together = InTheAir(), Ledger(Budget(calls=12))
    limiter = anyio.CapacityLimiter(3)
    ledgers = [Ledger(Budget(), within=together) for _ in range(2)]
    gateways = [
        Gateway(
            {"target": SPEC},
            journal=MemoryJournal(),
            ledger=ledger,
            prices=PriceTable(),
            concurrency=8,
            providers={"target": provider},
            limiter=limiter,
        )
        for ledger in ledgers
    ]
    answered = []

    async def ask(gateway: Gateway, ordinal: int) -> None:
        call = await gateway.complete(REQUEST, attribution=Attribution(role="target"), ordinal=ordinal, deadline=5)
        answered.append(call.error is None)

    async with anyio.create_task_group() as group:
        for ordinal in range(10):
            for gateway in gateways:
                group.start_soon(ask, gateway, ordinal)
    assert provider.most == 3
    assert sorted(answered) == [False] * 8 + [True] * 12
    assert together.spent.calls == sum(ledger.spent.calls for ledger in ledgers) == 12
