"""The proposer `command`: a real program in a real jail, which hands in candidates with the tools over MCP."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from finish_kit import finished
from run_kit import Toy, harness, lines, say, write_toy

from mcp_server import serve_stream
from metaharness.configuration import ProposerConfig, RunConfig
from metaharness.errors import UsageError
from metaharness.history import History
from metaharness.machine.interpreter import find_interpreter
from metaharness.proposers import check_proposer, open_proposer
from metaharness.run import Run
from metaharness.run.authors import sealed_from_authors
from metaharness.search import search

AGENT = Path(__file__).with_name("cli_agent.py")
PYTHON = (find_interpreter(None).command[0], "-I", "-S")
needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("scoreboard", {}),
    ("write_harness", {"files": {"harness.py": harness("good")}, "name": "good", "hypothesis": "It gets all right."}),
    ("evaluate", {"iteration": "$last"}),
    ("write_report", {"iteration": "$last", "text": "It got all right."}),
]


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain")


def configured(toy: Toy, script: Sequence[tuple[str, dict[str, Any]]], **proposing: Any) -> RunConfig:
    """A run whose agent follows a script."""
    folder = toy.folder.parent / "agent"
    folder.mkdir()
    shutil.copy(AGENT, folder)
    (folder / "script.json").write_text(json.dumps(script))
    command = " ".join([*PYTHON, str(folder / AGENT.name), "{mcp_config}", str(folder / "script.json")])
    proposer = ProposerConfig(command=command, files=(str(folder),), **{"timeout": 60.0, **proposing})
    return toy.config(proposer="command", iterations=1, max_failed_rounds=1, proposing=proposer)


async def run_of(config: RunConfig, root: Path) -> History:
    async with Run.create(config, root, name="run") as run:
        await search(run, open_proposer(run, converse=serve_stream))
        return run.history


def printed(history: History, name: str = "001-1") -> list[str]:
    return [row["text"] for row in history.store.sessions.transcript(name) if row["kind"] == "stdout"]


@needs_bubblewrap
async def test_what_a_jailed_program_leaves_in_its_home_and_its_drafts_is_gone_in_the_next_round(
    toy: Toy, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text("of the user")
    leaves = ("plant", {".codex/config.toml": str(tmp_path / "mine.toml")})
    config = configured(toy, [leaves, *GOOD]).model_copy(update={"iterations": 2})
    history = await run_of(config, tmp_path / "runs")
    assert [one.state for one in history.iterations[2:]] == ["complete"] * 2
    assert [printed(history, name)[1] for name in ("001-1", "002-1")] == ["found .codex/config.toml 0 drafts"] * 2
    assert (tmp_path / "mine.toml").read_text() == "of the user"


@needs_bubblewrap
async def test_three_rounds_of_a_jailed_program_end_with_scored_iterations_and_reports(
    toy: Toy, tmp_path: Path
) -> None:
    config = configured(toy, GOOD).model_copy(update={"iterations": 3})
    history = await run_of(config, tmp_path / "runs")
    assert [one.state for one in history.iterations[2:]] == ["complete"] * 3
    assert [history.store.report(one.number) for one in history.iterations[2:]] == ["It got all right.\n"] * 3
    assert [one.proposal.session for one in history.iterations[2:]] == ["001-1", "002-1", "003-1"]
    record = history.store.sessions.record("001-1")
    assert record is not None
    assert record.sealed_by.startswith("bubblewrap jail: workspace ")
    assert (record.state, record.unmetered, record.usd) == ("done", True, None)
    shown = say("show", 2, "--run", "run", "--root", tmp_path / "runs").out
    assert "session 001-1: command, done, not metered, " in shown
    assert printed(history)[0].startswith("task: ")
    assert (await finished(tmp_path / "runs" / "run")).sealed_by == (record.sealed_by,)


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def looks(toy: Toy, port: int) -> tuple[str, dict[str, Any]]:
    """An attempt at everything that it must not reach."""
    places = [str(toy.folder / "data" / "test.jsonl"), str(toy.folder / "evaluator.py"), "/proc/1/root/etc/shadow"]
    places += [str(Path.home() / "notes.txt")]
    return "try", {
        "read": [*places, "domain/DOMAIN.md"],
        "list": [str(toy.folder.parent / "runs"), "history"],
        "connect": [["127.0.0.1", port], ["1.1.1.1", 443], ["example.com", 80]],
        "environment": ["SECRET_OF_THE_USER"],
    }


@needs_bubblewrap
async def test_a_jailed_program_that_tries_to_read_the_test_file_the_home_and_another_host_is_seen_to_fail(
    toy: Toy, tmp_path: Path, listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_USER", "hidden")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "notes.txt").write_text("private")
    config = configured(toy, [looks(toy, listening), *GOOD])
    found = printed(await run_of(config, tmp_path / "runs"))
    told = [line for line in found if line.split()[0] in ("read", "list", "connected", "refused", "variable")]
    allowed = [line for line in told if not line.startswith("refused")]
    assert allowed[0].startswith("read domain/DOMAIN.md")
    assert not any(line.startswith(("connected", f"list {toy.folder.parent}")) for line in allowed)
    assert allowed[-1] == "variable SECRET_OF_THE_USER None"
    assert len([line for line in told if line.startswith("refused")]) == 8


@needs_bubblewrap
async def test_what_is_secret_is_masked_also_in_a_folder_that_a_jailed_program_is_given(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"
    monkeypatch.setenv("XDG_DATA_HOME", str(given / "share"))
    monkeypatch.setenv("METAHARNESS_CACHE", str(given / "answers.sqlite"))
    secret = [given / ".env", given / "answers.sqlite", given / "share" / "metaharness" / "sealed" / "cases.json"]
    for path in (*secret, given / "open.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("its text")
    monkeypatch.chdir(given)
    looking = ("try", {"read": [*map(str, secret), str(given / "open.txt")]})
    config = configured(toy, [looking])
    proposing = config.proposing.model_copy(update={"files": (*config.proposing.files, str(given))})
    history = await run_of(config.model_copy(update={"proposing": proposing}), tmp_path / "runs")
    assert [line for line in printed(history) if "its text" in line] == [f"read {given / 'open.txt'} 'its text'"]


async def test_the_same_program_unjailed_reaches_all_of_it_and_the_record_says_so(
    toy: Toy, tmp_path: Path, listening: int
) -> None:
    config = configured(toy, [looks(toy, listening), *GOOD], unjailed=True)
    history = await run_of(config, tmp_path / "runs")
    found = printed(history)
    assert any(line.startswith(f"read {toy.folder / 'data' / 'test.jsonl'}") for line in found)
    assert any(line.startswith("connected 127.0.0.1") for line in found)
    record = history.store.sessions.record("001-1")
    assert record is not None
    assert "unjailed" in record.sealed_by
    assert history.iterations[-1].state == "complete"


@pytest.mark.parametrize("unjailed", [pytest.param(False, marks=needs_bubblewrap), True])
async def test_a_candidate_of_a_session_that_was_stopped_says_how_the_test_was_sealed_from_it(
    unjailed: bool, toy: Toy, tmp_path: Path
) -> None:
    config = configured(toy, [*GOOD[:2], ("hang", {})], unjailed=unjailed).model_copy(update={"iterations": 2})
    config = config.model_copy(update={"candidates_per_round": 2})
    async with Run.create(config, tmp_path / "runs", name="run") as run:
        run.listener = lambda kind, fields: run.stop() if kind == "scored" and fields["iteration"] == 2 else None
        assert await search(run, open_proposer(run, converse=serve_stream)) == "stopped"
        record = run.store.sessions.record("001-1")
        assert record is not None
        assert (record.state, record.iterations) == ("stopped", [2])
        assert sealed_from_authors(run.history) == (record.sealed_by,)
        assert ("unjailed" if unjailed else "bubblewrap jail") in record.sealed_by


@pytest.mark.parametrize(
    ("script", "ended"),
    [
        ([("fail", {})], ("failed", "RuntimeError: the program ended with exit status 1: it broke")),
        ([("hang", {})], ("timeout", "it took longer than 2 s")),
        ([("scoreboard", {})], ("done", None)),
        ([("write_harness", {"name": "x"})], ("done", None)),
    ],
)
async def test_a_program_that_fails_hangs_or_hands_in_nothing_is_a_recorded_round(
    script: list[tuple[str, dict[str, Any]]], ended: tuple[str, str | None], toy: Toy, tmp_path: Path
) -> None:
    config = configured(toy, script, unjailed=True, timeout=2.0 if ended[0] == "timeout" else 60.0)
    history = await run_of(config, tmp_path / "runs")
    record = history.store.sessions.record("001-1")
    assert record is not None
    assert (record.state, record.error) == ended
    assert [closed.proposals for closed in history.closed_rounds] == [2, 0]
    said = [event["reason"] for event in lines(history.store.path / "events.jsonl") if event["kind"] == "ended"]
    assert said == ["the proposer handed in nothing in 1 round"]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"command": None}, "needs a command"),
        ({"command": "'open"}, "cannot be read"),
        ({"command": "no-such-agent exec"}, "no program 'no-such-agent'"),
        ({"skill": "no-such-page.md"}, "no-such-page.md cannot be read"),
        ({"destinations": ("nowhere",)}, "'nowhere' is no destination"),
        ({"files": ("/no/such/file",)}, "/no/such/file is to be seen in a jail and is not there"),
        ({"usd": 5.0}, "is not metered, so no bound on it would hold"),
    ],
)
def test_a_command_that_cannot_be_started_is_told_before_there_is_a_run(
    told: dict[str, Any], message: str, toy: Toy
) -> None:
    config = toy.config(proposer="command", proposing=ProposerConfig(**{"command": "/bin/sh", **told}))
    with pytest.raises(UsageError, match=message):
        check_proposer(config)


@needs_bubblewrap
async def test_a_jail_that_would_show_the_domain_is_refused_before_anything_is_evaluated(
    toy: Toy, tmp_path: Path
) -> None:
    config = configured(toy, GOOD)
    given = config.proposing.model_copy(update={"files": (*config.proposing.files, str(toy.folder / "data"))})
    with pytest.raises(UsageError, match="which is hidden from the jail"):
        await run_of(config.model_copy(update={"proposing": given}), tmp_path / "runs")
    assert not lines(tmp_path / "runs" / "run" / "calls.jsonl")
