"""The proposer `agent-sdk`: the real client of claude-agent-sdk against a scripted Messages API on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from meta_kit import ROOT
from run_kit import Toy, harness, recorded, write_toy
from wire_server import Received, Reply, serve

from mcp_server import make_server
from metaharness.configuration import ProposerConfig, RunConfig
from metaharness.errors import ConfigurationError, ModelFailure, SandboxError, UsageError
from metaharness.history import History
from metaharness.jail import make_sure
from metaharness.messages import ModelSpec
from metaharness.proposers import check_proposer, open_proposer
from metaharness.proposers.claude_client import UNJAILED, start_script
from metaharness.records import SessionRecord
from metaharness.run import Run
from metaharness.search import search
from metaharness.tools import seat_tools

pytestmark = pytest.mark.slow
GET = ROOT / "scripts" / "get_claude"
KEY = "sk-ant-of-the-test"
MODEL = "claude-haiku-4-5"
PRICES = {f"anthropic:{MODEL}": (1.0, 5.0)}
"""Dollars per million tokens."""
SKILL_SAYS = "# One round of a harness search"


@pytest.fixture(autouse=True)
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The client, as `scripts/get_claude` fetches it with its SDK, and a key."""
    where = Path(subprocess.run([GET, "--where"], capture_output=True, text=True, check=True).stdout.strip())
    if not where.is_file():
        pytest.skip(f"claude-agent-sdk is not here: {GET.relative_to(ROOT)} fetches it")
    packages = str(where.parents[2])
    if packages not in sys.path:
        sys.path.append(packages)  # behind all others, as what it needs is installed here already
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("A_SECRET_OF_THE_USER", "hidden")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))  # so that workspaces can be told from those of others
    return where


def _jailed() -> bool:
    try:
        make_sure()
    except SandboxError:
        return False
    return True


JAILED = _jailed()
"""Where no jail can be made, the rest is shown without."""

Step = Reply | Callable[[str], Reply]
"""An answer of the model, or what makes it of the newest result of a tool."""


def use(tool: str, reply: Mapping[str, Any] | None = None, **given: Any) -> Reply:
    """The model calls a tool: one of the client itself, or ours by its bare name."""
    name = tool if tool[0].isupper() else f"mcp__metaharness__{tool}"
    return Reply(tool_calls=[{"id": f"toolu_{os.urandom(4).hex()}", "name": name, "input": given}], **(reply or {}))


def hand_in(style: str) -> Reply:
    return use("write_harness", files={"harness.py": harness(style)}, name=style, hypothesis=f"{style} may help")


def evaluate(result: str) -> Reply:
    return use("evaluate", iteration=int(result.split('"iteration":')[1].split(",", maxsplit=1)[0]))


@dataclass
class Model:
    """Answers each session of the client with the steps that are written for it, then with a word of goodbye."""

    sessions: Iterable[Iterable[Step]]
    requests: dict[str, list[Received]] = field(default_factory=dict)
    """By session."""
    _steps: dict[str, Iterator[Step]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._coming = iter(self.sessions)

    def __call__(self, request: Received) -> Reply:
        session = request.headers["x-claude-code-session-id"]
        if session not in self._steps:
            self._steps[session] = iter(next(self._coming, ()))
        self.requests.setdefault(session, []).append(request)
        step = next(self._steps[session], Reply(text="That is all."))
        return step(results(request)[-1][0]) if callable(step) else step

    def conversation(self, number: int) -> list[Received]:
        return list(self.requests.values())[number]


def results(request: Received) -> list[tuple[str, bool]]:
    """Every result of a tool that a request carries, and whether it is an error."""
    found = []
    for message in request.body["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else []:
            if block.get("type") == "tool_result":
                content = block["content"]
                text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
                found.append((text, bool(block.get("is_error"))))
    return found


def texts(body: Mapping[str, Any]) -> str:
    blocks = [*body["system"], *(block for one in body["messages"] for block in one["content"])]
    return "\n".join(block.get("text", "") if isinstance(block, dict) else block for block in blocks)


async def searched_with(
    tmp_path: Path,
    model: Model,
    proposing: Mapping[str, Any],
    **changes: Any,
) -> History:
    """A search to its end."""
    toy = write_toy(tmp_path / "domain")
    with serve(model) as server:
        config = config_of(toy, server.url, proposing, **changes)
        async with Run.create(config, tmp_path / "runs", name="run") as run:
            await search(run, open_proposer(run, serve=make_server))
            return run.history


def config_of(toy: Toy, url: str, proposing: Mapping[str, Any], **changes: Any) -> RunConfig:
    models = {
        "target": ModelSpec(provider="scripted", name=str(toy.script)),
        "proposer": ModelSpec(provider="anthropic", name=MODEL, base_url=url),
    }
    return toy.config(
        models=models,
        proposer="agent-sdk",
        proposing=ProposerConfig(**{"unjailed": not JAILED, **proposing}),
        prices=PRICES,
        **changes,
    )


def sessions_of(history: History) -> list[SessionRecord]:
    store = history.store.sessions
    return [record for name in store.names() if (record := store.record(name)) is not None]


def clients_left(tmp_path: Path) -> list[str]:
    """Command lines of the client, and of what starts it, that name a workspace of the test."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = file.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            found += [command] if "--system-prompt-file" in command and str(tmp_path) in command else []
    return found


async def test_three_rounds_end_with_scored_iterations_whatever_the_endpoint_answers_in_between(
    tmp_path: Path,
) -> None:
    test_file = tmp_path / "domain" / "data" / "test.jsonl"
    model = Model(
        [
            [
                Reply(status=429, headers={"retry-after": "0"}),
                use("scoreboard", {"text": "I look first.", "usage": {"input_tokens": 1000, "output_tokens": 200}}),
                use("Read", file_path="references/judging.md"),
                use("Grep", pattern="plain", path="history"),
                use("Read", file_path=str(test_file)),
                hand_in("good"),
                evaluate,
            ],
            [use("write_harness", files="none"), Reply(text="Cut", stop_reason="max_tokens"), hand_in("ok"), evaluate],
            [Reply(stop_reason="refusal"), hand_in("other"), evaluate],
        ]
    )
    history = await searched_with(tmp_path, model, {}, iterations=3)
    assert [one.state for one in history.iterations[2:]] == ["complete"] * 3
    assert [one.proposal.session for one in history.iterations[2:]] == ["001-1", "002-1", "003-1"]
    first, second, third = sessions_of(history)
    assert [one.state for one in (first, second, third)] == ["done"] * 3
    assert (first.turns, first.iterations, second.iterations) == (7, [2], [3])

    opening = model.conversation(0)[1]
    assert opening.headers["x-api-key"] == KEY
    tools = {tool["name"].removeprefix("mcp__metaharness__") for tool in opening.body["tools"]}
    assert tools == {"Read", "Grep", "Glob", *(tool.name for tool in seat_tools())}
    assert SKILL_SAYS in texts(opening.body)
    assert "run run of the domain colours, round 1" in texts(opening.body)
    shown = results(model.conversation(0)[-1])
    assert "plain" in shown[0][0]
    assert not shown[1][1], shown[1]
    assert "000" in shown[2][0]
    assert shown[3][1], "nothing outside of its folder is read"
    assert not any("colour" in text and "test item" in text for text, _ in shown)
    assert '"complete"' in shown[-1][0]
    assert results(model.conversation(1)[-1])[0][1], "arguments that do not fit are an error for the model to read"

    if JAILED:
        assert first.sealed_by.startswith("bubblewrap jail: workspace /")
        (reached,) = [row for row in history.store.sessions.transcript("001-1") if row["kind"] == "network"]
        assert (reached["host"], reached["allowed"]) == ("127.0.0.1", True)

    sent = sum(row["input_tokens"] for row in proposer_calls(history))
    assert first.input_tokens + second.input_tokens + third.input_tokens == sent
    assert first.usd is not None
    assert first.usd == pytest.approx((first.input_tokens + 5 * first.output_tokens) / 1_000_000)
    said = list(history.store.sessions.transcript("001-1"))
    assert {"system", "assistant", "user", "result"} <= {row["kind"] for row in said}
    assert any("I look first." in str(row) for row in said)
    assert "hidden" not in str(said)


def proposer_calls(history: History) -> list[dict[str, Any]]:
    return [
        entry.call.model_dump() for entry in history.store.journal.entries() if entry.attribution.role == "proposer"
    ]


async def test_a_session_ends_at_its_turns_and_at_its_dollars_and_one_that_hands_in_nothing_is_a_failed_round(
    tmp_path: Path,
) -> None:
    dear = {"usage": {"input_tokens": 1000, "output_tokens": 500_000}}
    model = Model(
        [
            [hand_in("good"), use("scoreboard"), use("scoreboard"), use("scoreboard")],
            [use("scoreboard", dear), use("scoreboard"), use("scoreboard")],
            [Reply(text="I have no idea.")],
        ]
    )
    history = await searched_with(
        tmp_path, model, {"max_turns": 3, "usd": 2.0, "unjailed": True}, iterations=9, max_failed_rounds=2
    )
    turns, usd, nothing = sessions_of(history)
    assert [(one.state, one.turns, one.iterations) for one in (turns, usd, nothing)] == [
        ("turns", 3, [2]),
        ("usd", 1, []),
        ("done", 1, []),
    ]
    assert usd.usd is not None
    assert usd.usd > 2.0
    assert {one.sealed_by for one in (turns, usd, nothing)} == {UNJAILED}
    assert history.iterations[2].state == "complete"
    assert [closed.proposals for closed in history.closed_rounds] == [2, 1, 0, 0]


async def test_what_a_session_costs_is_in_the_budget_of_the_run_and_one_ends_where_nothing_is_left(
    tmp_path: Path,
) -> None:
    dear = {"usage": {"input_tokens": 1000, "output_tokens": 500_000}}
    model = Model([[use("scoreboard", dear), use("scoreboard", dear), use("scoreboard"), use("scoreboard")]])
    history = await searched_with(tmp_path, model, {}, iterations=3, budget={"usd": 4.0})
    (one,) = sessions_of(history)
    assert (one.state, one.turns, one.usd) == ("budget", 2, pytest.approx(5.002))
    assert len(proposer_calls(history)) == 2


async def test_a_session_ends_at_its_time_and_leaves_no_client_behind(tmp_path: Path) -> None:
    model = Model([[Reply(delay=60)]])
    history = await searched_with(tmp_path, model, {"timeout": 1.0}, iterations=1, max_failed_rounds=1)
    assert [one.state for one in sessions_of(history)] == ["timeout"]
    assert clients_left(tmp_path) == []


async def test_a_stop_in_the_middle_ends_the_client_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    toy, token = write_toy(tmp_path / "domain"), anyio.lowlevel.current_token()

    def stop(_: str) -> Reply:
        assert clients_left(tmp_path), "one is at work"
        anyio.from_thread.run_sync(run.stop, token=token)
        return Reply(delay=60)

    with serve(Model([[hand_in("good"), stop], [hand_in("ok"), evaluate]])) as server:
        config = config_of(toy, server.url, {}, iterations=2, candidates_per_round=2)
        async with Run.create(config, tmp_path / "runs", name="run") as run:
            assert await search(run, open_proposer(run, serve=make_server)) == "stopped"
            assert clients_left(tmp_path) == []
            assert [one.state for one in sessions_of(run.history)] == ["stopped"]
        async with Run.open(tmp_path / "runs" / "run") as run:
            await search(run, open_proposer(run, serve=make_server))
            assert [one.state for one in run.history.iterations[2:]] == ["complete"] * 2


async def test_a_refused_key_ends_the_run_at_once(tmp_path: Path) -> None:
    model = Model([[Reply(status=401, message="invalid x-api-key")]])
    with pytest.raises(ModelFailure, match="refused with status 401") as refused:
        await searched_with(tmp_path, model, {}, iterations=3)
    assert refused.value.kind == "configuration"
    (one,) = sessions_of(recorded(tmp_path / "runs" / "run"))
    assert (one.state, one.turns) == ("failed", 0)


def test_what_the_proposer_lacks_is_said_before_there_is_a_run(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    valid = config_of(toy, "http://127.0.0.1:9", {})
    check_proposer(valid)
    models = {"target": valid.models["target"]}
    for changed, said in [
        ({"models": models}, "needs a model of the provider anthropic"),
        ({"proposing": ProposerConfig(usd=1.0), "prices": {}}, "the price of anthropic:.* is unknown"),
        ({"proposing": ProposerConfig(skill="no/such.md")}, "the skill no/such.md cannot be read"),
    ]:
        with pytest.raises(UsageError, match=said):
            check_proposer(valid.model_copy(update=changed))


def test_a_package_or_a_key_that_is_missing_is_named_with_what_to_do(
    tmp_path: Path, client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(write_toy(tmp_path / "domain"), "http://127.0.0.1:9", {})
    with monkeypatch.context() as without:
        without.delenv("ANTHROPIC_API_KEY")
        with pytest.raises(ConfigurationError, match="ANTHROPIC_API_KEY is not set"):
            check_proposer(config)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(client.parents[2])])
    monkeypatch.delitem(sys.modules, "claude_agent_sdk", raising=False)
    with pytest.raises(ConfigurationError, match="'claude-agent-sdk' is not installed") as missing:
        check_proposer(config)
    assert "agent-sdk" in str(missing.value.hint)


def test_without_a_jail_the_client_starts_with_no_variable_of_the_user(tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.write_text(start_script(Path("/usr/bin/env"), keep=("PATH", "ANTHROPIC_API_KEY")))
    start.chmod(0o700)
    told = dict(os.environ, CLAUDE_CODE_ENTRYPOINT="sdk-py")
    said = subprocess.run([start, "-0"], env=told, capture_output=True, text=True, check=True).stdout
    named = {line.partition("=")[0] for line in said.split("\0") if line}
    assert named - {"PWD", "_", "SHLVL", "OLDPWD"} == {"PATH", "ANTHROPIC_API_KEY", "CLAUDE_CODE_ENTRYPOINT"}
