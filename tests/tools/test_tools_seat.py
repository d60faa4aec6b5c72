"""A proposer that works with the tools in a round of a search: what it hands in is submitted like any other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from anyio.abc import ByteStream
from mcp import Client
from mcp.types import ResourceTemplateReference
from run_kit import harness, lines, searched, write_toy
from tools_kit import Agent

from mcp_server import make_server, serve_stream
from metaharness.history import History
from metaharness.messages import ModelSpec, Usage
from metaharness.records import Proposal
from metaharness.run import Round, Run
from metaharness.run.sessions import Session
from metaharness.search import search
from metaharness.tools import Desk, Settings, seat_tools, seated

SPEC = ModelSpec(provider="scripted", name="writer")
Doing = Callable[[Agent, Session], Awaitable[None]]


class AtWork:
    """Does one thing after another with the tools, a session each."""

    def __init__(self, run: Run, *doing: Doing) -> None:
        self.run = run
        self.doing = list(doing)

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        doing = self.doing.pop(0)

        async def work(desk: Desk, session: Session) -> None:
            async with Client(make_server(desk, seat_tools())) as client:
                await doing(Agent(client, desk), session)

        session = Session(self.run, round_, model=SPEC, sealed_by="a test")
        async for proposal in seated(self.run, round_, session, Path("/nowhere"), work):
            yield proposal


async def worked(tmp_path: Path, *doing: Doing, rounds: int | None = None, **changes: object) -> History:
    toy = write_toy(tmp_path / "domain")
    width = int(str(changes.get("candidates_per_round", 1)))
    config = toy.config(iterations=width * (rounds or len(doing)), max_failed_rounds=2, **changes)
    async with Run.create(config, tmp_path / "runs", name="run") as run:
        await search(run, AtWork(run, *doing))
        return run.history


async def one_good(agent: Agent, session: Session) -> None:
    """A round as the skill has it: look, hand in, evaluate, report."""
    session.turn()
    session.say("text", text="the good style may help")
    assert "plain" in await agent.text("scoreboard")
    written = await agent.hand_in(harness("good"))
    session.charge(Usage(input_tokens=100, output_tokens=10), usd=0.5)
    found = await agent.record("evaluate", iteration=written["iteration"])
    assert (found["state"], found["mean"]) == ("complete", 1.0)
    await agent.record("write_report", iteration=written["iteration"], text="It got every item right.")


async def test_a_round_with_the_tools_ends_with_a_scored_iteration_its_report_its_reads_and_what_it_cost(
    tmp_path: Path,
) -> None:
    history = await worked(tmp_path, one_good)
    one = history.iterations[-1]
    assert one.verdict is not None
    assert (one.verdict.verdict, one.proposal.session) == ("better", "001-1")
    store = history.store
    assert store.report(one.number) == "It got every item right.\n"
    assert [read["tool"] for read in store.iteration_reads(one.number)] == ["scoreboard"]
    record = store.sessions.record("001-1")
    assert record is not None
    assert (record.state, record.iterations, record.turns, record.sealed_by) == ("done", [one.number], 1, "a test")
    assert (record.input_tokens, record.output_tokens, record.usd) == (100, 10, 0.5)
    assert [row["text"] for row in store.sessions.transcript("001-1")] == ["the good style may help"]
    entries = [entry for entry in store.journal.entries() if entry.attribution.role == "proposer"]
    assert [(entry.call.model, entry.call.usd) for entry in entries] == [("scripted:writer", 0.5)]


async def test_several_candidates_of_a_round_are_evaluated_while_the_next_is_written_and_no_more_are_taken(
    tmp_path: Path,
) -> None:
    async def two_and_one_more(agent: Agent, session: Session) -> None:
        first = await agent.hand_in(harness("good"))
        second = await agent.hand_in(harness("ok"), name="second")
        assert "takes no further candidate" in await agent.refused(
            "write_harness", files={"harness.py": harness("x")}, name="third", hypothesis="It is one too many."
        )
        for written in (first, second):
            assert (await agent.record("evaluate", iteration=written["iteration"]))["state"] == "complete"

    history = await worked(tmp_path, two_and_one_more, candidates_per_round=2)
    assert [(one.proposal.round, one.proposal.slot) for one in history.iterations[-2:]] == [(1, 0), (1, 1)]
    assert len(history) == 4


async def test_a_session_that_fails_or_hands_in_nothing_is_a_failed_round_and_what_it_handed_in_stays(
    tmp_path: Path,
) -> None:
    async def fails(agent: Agent, session: Session) -> None:
        await agent.hand_in(harness("good"))
        raise RuntimeError("it broke")

    async def nothing(agent: Agent, session: Session) -> None:
        await agent.text("scoreboard")

    history = await worked(tmp_path, fails, nothing, nothing, rounds=9)
    assert [closed.proposals for closed in history.closed_rounds] == [2, 1, 0, 0]
    sessions = history.store.sessions
    found = [sessions.record(name) for name in sessions.names()]
    assert [one.state for one in found if one is not None] == ["failed", "done", "done"]
    events = lines(history.store.path / "events.jsonl")
    assert [event["error"] for event in events if event["kind"] == "proposer_failed"] == ["RuntimeError: it broke"]
    assert history.iterations[-1].state == "complete"


async def test_a_seat_knows_its_own_run_alone_and_begins_no_other(tmp_path: Path) -> None:
    async def looks_around(agent: Agent, session: Session) -> None:
        assert "there is no run 'other' here" in await agent.refused("scoreboard", run="other")
        with pytest.raises(Exception, match="start_run"):
            await agent.record("start_run")
        address = ResourceTemplateReference(uri="run://{run}/config")
        completed = await agent.client.complete(address, {"name": "run", "value": ""})
        listed = [str(one.uri) for one in (await agent.client.list_resources()).resources]
        assert (completed.completion.values, listed) == (["run"], ["run://run/config", "run://run/scoreboard"])

    toy = write_toy(tmp_path / "another")
    await searched(toy.config(iterations=0), tmp_path / "runs", name="other")
    await worked(tmp_path, looks_around)
    assert (tmp_path / "runs" / "other").is_dir()


async def test_a_stop_ends_the_proposer_and_leaves_its_round_to_be_resumed(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    config = toy.config(iterations=2, candidates_per_round=2)

    async def hangs(agent: Agent, session: Session) -> None:
        written = await agent.hand_in(harness("good"))
        await agent.record("evaluate", iteration=written["iteration"])
        run.stop()
        await agent.hand_in(harness("ok"))

    async with Run.create(config, tmp_path / "runs", name="run") as run:
        assert await search(run, AtWork(run, hangs)) == "stopped"
    async with Run.open(tmp_path / "runs" / "run") as run:
        assert run.store.sessions.record("001-1").state == "stopped"  # type: ignore[union-attr]
        await search(run, AtWork(run, one_good))
        assert [one.proposal.session for one in run.history.iterations[-2:]] == ["001-1", "001-2"]
        assert len(run.history.closed_rounds) == 2


class Endless(ByteStream):
    """A client that never ends its line."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return b"x" * max_bytes

    async def send(self, item: bytes) -> None: ...

    async def send_eof(self) -> None: ...

    async def aclose(self) -> None: ...


async def test_a_client_that_sends_a_message_without_end_is_not_listened_to_any_further(tmp_path: Path) -> None:
    async with Desk(Settings(root=tmp_path, project=tmp_path)) as desk:
        await serve_stream(desk, seat_tools(), Endless())
