"""The proposer `tool-loop` against a scripted Messages API on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from run_kit import harness, lines, write_toy
from wire_server import Received, Reply, Script, serve

from mcp_server import make_server
from metaharness.configuration import ProposerConfig, RunConfig
from metaharness.errors import MetaharnessError, ModelFailure
from metaharness.gateway.budget import Ledger
from metaharness.history import History
from metaharness.messages import ModelSpec
from metaharness.proposers import check_proposer, open_proposer
from metaharness.proposers.toolbox import Toolbox
from metaharness.records import SessionRecord
from metaharness.run import Run, fork
from metaharness.search import search
from metaharness.tools import Desk, Settings, seat_tools

SOON = {"retry-after-ms": "1"}
STYLES = ("other", "good", "ok")
"""What is handed in, round after round."""
CACHED = {"type": "ephemeral"}
USAGE = {"input_tokens": 10, "cache_read_input_tokens": 700, "cache_creation_input_tokens": 90, "output_tokens": 40}
Step = Callable[[Received], Reply] | Reply


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-anthropic")
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


# --- the model ----------------------------------------------------------------------------------------------------


def call(name: str, /, number: int = 0, **given: Any) -> dict[str, Any]:
    return {"id": f"toolu_{name}_{number}", "name": name, "input": given}


def results(request: Received) -> list[dict[str, Any]]:
    """The results of tools in the last message of the user."""
    users = [message for message in request.body["messages"] if message["role"] == "user"]
    return [block for block in users[-1]["content"] if block["type"] == "tool_result"]


def said(request: Received) -> str:
    """All text of the last message of the user."""
    return "\n".join(block.get("text") or block["content"] for block in request.body["messages"][-1]["content"])


def round_of(request: Received) -> int:
    task = request.body["messages"][0]["content"][0]["text"]
    return int(task.split(", round ")[1].split()[0])


def looks(request: Received) -> Reply:
    several = [call("scoreboard"), call("read_trace", iteration=0, failures=True)]
    return Reply(text="First I look.", tool_calls=several, usage=USAGE)


def hands_in(request: Received) -> Reply:
    style = STYLES[(round_of(request) - 1) % len(STYLES)]
    written = call("write_harness", files={"harness.py": harness(style)}, name=style, hypothesis=f"{style} is better.")
    return Reply(tool_calls=[written])


def evaluates(request: Received) -> Reply:
    number = json.loads(results(request)[0]["content"])["iteration"]
    return Reply(tool_calls=[call("evaluate", iteration=number)])


def reports(request: Received) -> Reply:
    found = json.loads(results(request)[0]["content"])
    assert found["state"] == "complete"
    text = f"It got {found['mean']:.3f}."
    return Reply(tool_calls=[call("write_report", iteration=found["iteration"], text=text)])


ROUND: tuple[Step, ...] = (looks, hands_in, evaluates, reports, Reply(text="That was it."))


def script(*steps: Step) -> Script:
    """A model that takes one step after another in each session, told apart by how often it has answered."""

    def reply(request: Received) -> Reply:
        done = sum(message["role"] == "assistant" for message in request.body["messages"])
        step = steps[min(done, len(steps) - 1)]
        return step if isinstance(step, Reply) else step(request)

    return reply


def after(first: Reply, *steps: Step, times: int = 1) -> Script:
    """The same, once some requests were answered otherwise."""
    replies = [first] * times
    then = script(*steps)
    assert callable(then)
    return lambda request: replies.pop() if replies else then(request)


# --- the search ---------------------------------------------------------------------------------------------------


def configured(folder: Path, url: str, /, proposing: Mapping[str, Any] | None = None, **changes: Any) -> RunConfig:
    toy = write_toy(folder / "domain")
    target = toy.config().models["target"]
    values = {"iterations": 1, "max_failed_rounds": 1, "prices": {"anthropic:writer": (1.0, 10.0)}, **changes}
    return toy.config(
        models={"target": target, "proposer": ModelSpec(provider="anthropic", name="writer", base_url=url)},
        proposer="tool-loop",
        proposing=ProposerConfig(**(proposing or {})),
        **values,
    )


class Ended:
    """A search that has ended, and what the model was asked."""

    def __init__(self, run: Run, requests: list[Received], why: str) -> None:
        self.history: History = run.history
        self.ledger: Ledger = run.ledger
        self.requests = requests
        self.why = why
        self.store = run.store

    def session(self, name: str = "001-1") -> SessionRecord:
        found = self.store.sessions.record(name)
        assert found is not None
        return found

    def transcript(self, kind: str, name: str = "001-1") -> list[dict[str, Any]]:
        return [row for row in self.store.sessions.transcript(name) if row["kind"] == kind]

    @property
    def failure(self) -> str:
        """Why the proposer failed, once."""
        (event,) = [one for one in lines(self.store.path / "events.jsonl") if one["kind"] == "proposer_failed"]
        return str(event["error"])


async def searched(folder: Path, model: Script, /, **changes: Any) -> Ended:
    with serve(model) as server:
        async with Run.create(configured(folder, server.url, **changes), folder / "runs", name="run") as run:
            why = await search(run, open_proposer(run))
            return Ended(run, server.requests, why)


def evaluated(ended: Ended) -> list[tuple[str, str]]:
    """The candidates of the search: name and state."""
    return [(one.proposal.name, one.state) for one in ended.history if not one.is_baseline]


async def test_three_rounds_end_with_scored_iterations_with_reports_transcripts_and_what_they_cost(
    tmp_path: Path,
) -> None:
    ended = await searched(tmp_path, script(*ROUND), iterations=3)
    assert evaluated(ended) == [(style, "complete") for style in STYLES]
    for place, one in enumerate(ended.history.iterations[-3:], start=1):
        assert one.score is not None
        assert ended.store.report(one.number) == f"It got {one.score.objectives['accuracy'].mean:.3f}.\n"
        assert one.proposal.session == f"00{place}-1"
        assert [read["tool"] for read in ended.store.iteration_reads(one.number)] == ["scoreboard", "read_trace"]
        session = ended.session(f"00{place}-1")
        assert (session.state, session.turns, session.iterations) == ("done", 5, [one.number])
        assert session.sealed_by == "tools alone"

    kinds = [row["kind"] for row in ended.store.sessions.transcript("001-1")]
    looked = ["answer", "result", "result"]
    assert kinds == ["system", "tools", "user", *looked, *["answer", "result"] * 3, "answer"]
    first, *_, last = ended.transcript("answer")
    assert first["content"][0] == {"type": "text", "text": "First I look."}
    assert last["content"] == [{"type": "text", "text": "That was it."}]
    assert "plain" in ended.transcript("result")[0]["text"]

    entries = [entry.call for entry in ended.store.journal.entries() if entry.attribution.role == "proposer"]
    assert len(entries) == 15
    assert (entries[0].input_tokens, entries[0].output_tokens, entries[0].usd) == (800, 40, 0.0012)
    total = ended.ledger.totals["proposer", "anthropic:writer"]
    assert (total.calls, total.input_tokens) == (15, sum(one.input_tokens for one in entries))
    assert total.usd == pytest.approx(sum(one.usd or 0 for one in entries))
    assert ended.session().usd == pytest.approx(sum(one.usd or 0 for one in entries[:5]))


async def test_a_request_is_streamed_and_says_what_is_to_be_kept_in_the_cache(tmp_path: Path) -> None:
    ended = await searched(tmp_path, script(*ROUND), proposing={"max_tokens": 9_000})
    *_, last = [request.body for request in ended.requests]
    assert (last["stream"], last["max_tokens"], last["model"]) == (True, 9_000, "writer")
    assert last["system"][0]["text"].startswith("# One round of a harness search")
    assert "# Unattended: a search has started you" in last["system"][0]["text"]
    blocks = [last["system"], last["tools"], *(message["content"] for message in last["messages"])]
    marked = [[block.get("cache_control") == CACHED for block in part] for part in blocks]
    assert [any(part) for part in marked] == [True, True, *[False] * 6, True, False, True][: len(marked)]
    assert all(part[-1] and not any(part[:-1]) for part in marked if any(part))
    kept = [json.dumps(request.body["system"]) + json.dumps(request.body["tools"]) for request in ended.requests]
    assert len(set(kept)) == 1


async def test_the_tools_are_shown_as_a_client_of_the_server_sees_them(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path / "runs", project=tmp_path)
    async with Desk(settings) as desk, Client(make_server(desk, seat_tools())) as client:
        listed = (await client.list_tools()).tools
        shown = [{"name": one.name, "description": one.description, "input_schema": one.input_schema} for one in listed]
        assert Toolbox(desk, seat_tools()).shown == shown


# --- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        Reply(status=429, headers=SOON),
        Reply(status=529, headers=SOON),
        Reply(fault="drop"),
        Reply(text="half of an answer", fault="cut"),
        Reply(text="half of an answer", fault="garble"),
    ],
    ids=["429", "529", "hang-up", "cut off", "garbled"],
)
async def test_an_endpoint_that_fails_once_is_asked_again(tmp_path: Path, first: Reply) -> None:
    ended = await searched(tmp_path, after(first, *ROUND))
    assert evaluated(ended) == [("other", "complete")]
    assert (ended.session().state, ended.session().turns) == ("done", 5)
    assert len(ended.requests) == 6
    begun = first.fault in ("cut", "garble")  # what an answer had used before it broke off is paid for
    assert ended.ledger.totals["proposer", "anthropic:writer"].calls == 5 + begun


async def test_a_call_that_does_not_fit_is_answered_with_what_is_valid(tmp_path: Path) -> None:
    def wrong(request: Received) -> Reply:
        calls = [
            call("read_trace", 1) | {"input": '{"iteration": 0, '},
            call("read_trace", 2) | {"input": ["iteration", 0]},
            call("start_run", 3),
            call("read_trace", 4, iteration="first", limit=3),
            call("scoreboard", 5) | {"input": ""},
            call("read_harness", 6, iteration=77),
        ]
        return Reply(tool_calls=calls)

    ended = await searched(tmp_path, script(wrong, *ROUND))
    assert evaluated(ended) == [("other", "complete")]
    answered = results(ended.requests[1])
    assert [block.get("is_error", False) for block in answered] == [True, True, True, True, False, True]
    told = [block["content"] for block in answered]
    assert "no JSON object: '{\"iteration\": 0, '" in told[0]
    assert "give an object with: iteration, " in told[1]
    assert "there is no tool 'start_run'\nhint: valid: describe_domain, scoreboard, " in told[2]
    assert "there is no argument 'limit'; iteration: input should be a valid integer" in told[3]
    assert "hint: read_trace takes: iteration (required), " in told[3]
    assert "there is no iteration 077 in run run" in told[5]


async def test_an_answer_that_is_cut_or_paused_is_gone_on_with(tmp_path: Path) -> None:
    whole, cut = call("scoreboard"), call("write_harness") | {"input": '{"files": {"harness.py": "class Har'}
    steps = (
        Reply(text="I think and thi", stop_reason="max_tokens"),
        Reply(text="I wait.", stop_reason="pause_turn"),
        Reply(tool_calls=[whole, cut], stop_reason="max_tokens"),
        *ROUND,
    )
    ended = await searched(tmp_path, script(*steps))
    assert evaluated(ended) == [("other", "complete")]
    assert "The answer was cut at 16,000 tokens" in said(ended.requests[1])
    assert ended.requests[2].body["messages"][-1]["role"] == "assistant"
    ran, not_run = results(ended.requests[3])
    assert "is_error" not in ran
    assert not_run["is_error"] is True
    assert "in the middle of this call, so it was not made" in not_run["content"]


async def test_a_conversation_that_is_too_long_is_shortened_at_its_beginning(tmp_path: Path) -> None:
    def too_long(request: Received) -> bool:
        return len(json.dumps(request.body["messages"])) > 8_000

    steps = script(*[looks] * 4, *ROUND)
    assert callable(steps)
    ended = await searched(tmp_path, lambda request: Reply(status=400) if too_long(request) else steps(request))
    assert evaluated(ended) == [("other", "complete")]
    assert "characters of scoreboard were cut to make room]" in json.dumps(ended.requests[-1].body["messages"])
    assert len(ended.transcript("cut")) == len(ended.transcript("again")) > 0


@pytest.mark.parametrize(
    ("steps", "changes", "state", "candidates"),
    [
        ([looks, hands_in, Reply(text="I will not.", stop_reason="refusal")], {}, "refusal", 1),
        ([looks, hands_in, looks], {"proposing": {"max_turns": 4}}, "turns", 1),
        ([looks, hands_in, looks], {"proposing": {"usd": 0.002}}, "usd", 1),
        ([looks, hands_in, Reply(delay=60)], {"proposing": {"timeout": 0.5}}, "timeout", 1),
        ([looks, hands_in, looks], {"budget": {"tokens": 60_000}}, "budget", 1),
        ([Reply(text="Nothing comes to mind.")], {}, "done", 0),
    ],
    ids=["refusal", "turns", "dollars", "time", "budget", "nothing"],
)
async def test_a_session_that_ends_early_leaves_what_it_has_handed_in(
    tmp_path: Path, steps: list[Step], changes: dict[str, Any], state: str, candidates: int
) -> None:
    ended = await searched(tmp_path, script(*steps), **changes)
    session = ended.session()
    assert (session.state, len(session.iterations)) == (state, candidates)
    assert [found[0] for found in evaluated(ended)] == ["other"] * candidates
    if state == "turns":
        assert (session.turns, "Answers left in this session: 1." in said(ended.requests[3])) == (4, True)
    if state == "usd":
        assert 0.002 <= (session.usd or 0) < 0.02
    if not candidates:
        assert "Nothing was handed in" in said(ended.requests[1])
        assert (session.turns, ended.why) == (2, "the proposer handed in nothing in 1 round")


async def test_an_endpoint_that_goes_on_failing_is_a_failed_round_and_a_refused_key_ends_the_run(
    tmp_path: Path,
) -> None:
    (tmp_path / "failing").mkdir()
    ended = await searched(tmp_path / "failing", [Reply(status=429, headers=SOON, message="not so fast")])
    assert "not so fast" in ended.failure
    assert (ended.session().state, ended.why) == ("failed", "the proposer handed in nothing in 1 round")
    (tmp_path / "refused").mkdir()
    with pytest.raises(ModelFailure, match="no such key") as caught:
        await searched(tmp_path / "refused", script(looks, Reply(status=401, message="no such key")))
    assert (caught.value.kind, caught.value.hint) == ("configuration", "check ANTHROPIC_API_KEY and what it may use")


def test_a_proposer_that_cannot_begin_is_told_before_there_is_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path, "http://127.0.0.1:9")

    def told(proposing: Mapping[str, Any] | None = None, **changes: Any) -> str:
        with pytest.raises(MetaharnessError) as caught:
            check_proposer(config.model_copy(update={"proposing": ProposerConfig(**(proposing or {})), **changes}))
        assert caught.value.hint
        return caught.value.message

    assert "needs a model behind the Anthropic Messages API" in told(models={"target": config.models["target"]})
    assert "the skill nowhere.md cannot be read: No such file" in told({"skill": "nowhere.md"})
    assert "the price of anthropic:writer is unknown" in told({"usd": 1.0}, prices={})
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    assert "ANTHROPIC_API_KEY is not set" in told()


async def test_a_skill_of_ones_own_is_the_system_prompt_and_none_leaves_it_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "---\nname: mine\n---\nWrite {candidates_per_proposal} {of} them.\n{exploitation_axes}\n"
    (tmp_path / "mine.md").write_text(text)
    proposing = {"skill": "mine.md", "axes": ["one", "two"]}
    ended = await searched(tmp_path, script(*ROUND), iterations=2, proposing=proposing)
    systems = [request.body["system"][0]["text"] for request in ended.requests]
    assert systems[0] == "Write 1 {of} them.\n- one\n- two"
    assert systems[-1] == "Write 1 {of} them.\n- two\n- one"
    (tmp_path / "bare").mkdir()
    bare = await searched(tmp_path / "bare", script(*ROUND), proposing={"skill": "none"})
    assert "system" not in bare.requests[0].body


async def test_the_note_of_a_fork_is_in_the_task_of_its_rounds(tmp_path: Path) -> None:
    with serve(script(*ROUND)) as server:
        async with Run.create(configured(tmp_path, server.url), tmp_path / "runs", name="run") as run:
            await search(run, open_proposer(run))
        made = fork(run.store.path, 2, note="Try shorter ones.", changes={"iterations": 1})
        async with Run.open(made.store.path) as forked:
            await search(forked, open_proposer(forked))
            assert [one.state for one in forked.history] == ["complete"] * 4
        first, last = (server.requests[place].body["messages"][0]["content"][0]["text"] for place in (0, -1))
    assert "note on this fork: Try shorter ones.\n" in last
    assert "fork" not in first


# --- killed -------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys, anyio
from pathlib import Path
from metaharness.configuration import RunConfig
from metaharness.proposers import open_proposer
from metaharness.run import Run, fork
from metaharness.search import search

async def main():
    config = RunConfig.model_validate_json(sys.stdin.read())
    async with Run.create(config, Path(sys.argv[1]), name="run") as run:
        await search(run, open_proposer(run))

anyio.run(main)
"""


@pytest.fixture
def child(key: None, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that searches, once it is given a configuration."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "runs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
async def test_a_run_that_is_killed_in_the_middle_of_a_session_goes_on_with_a_new_one(
    tmp_path: Path, child: subprocess.Popen[str]
) -> None:
    def kills(request: Received) -> Reply:
        child.kill()
        return Reply(text="too late")

    dies, lives = script(looks, hands_in, kills), script(*ROUND)

    def reply(request: Received) -> Reply:
        now = dies if child.poll() is None else lives
        assert callable(now)
        return now(request)

    with serve(reply) as server:
        config = configured(tmp_path, server.url, iterations=2, candidates_per_round=2)
        child.communicate(config.model_dump_json())
        async with Run.open(tmp_path / "runs" / "run") as run:
            killed = run.store.sessions.record("001-1")
            assert (run.store.sessions.names(), killed and killed.state) == (["001-1"], "running")
            assert run.ledger.totals["proposer", "anthropic:writer"].calls == 2
            await search(run, open_proposer(run))
            ended = Ended(run, server.requests, "")
    assert evaluated(ended) == [("other", "complete")] * 2
    assert [one.proposal.session for one in ended.history.iterations[-2:]] == ["001-1", "001-2"]
    assert ended.session("001-2").state == "done"
    assert ended.ledger.totals["proposer", "anthropic:writer"].calls == 7
