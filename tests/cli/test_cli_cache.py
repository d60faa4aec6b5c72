"""The shared cache on the command line: what uses it, what says what it saved, `cache` and `doctor`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from run_kit import assert_complains, harness, say, write_toy
from wire_server import Reply, WireServer, serve


@dataclass
class Scene:
    """A domain, a server, and what is told to every command."""

    server: WireServer
    domain: list[str]
    root: list[str]
    candidate: str

    @property
    def asked(self) -> int:
        return len(self.server.requests)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    toy = write_toy(tmp_path / "domain", cases=4, baselines={"00_plain.py": harness("plain")}, proposals={})
    with serve([Reply(text="red")]) as server:
        model = ["--model", "openai:some-model", "--base-url", f"{server.url}/v1", "--sandbox", "process"]
        candidate = str(toy.folder / "baselines" / "00_plain.py")
        root = ["--root", str(tmp_path / "runs")]
        yield Scene(server, ["--domain", str(toy.folder), *model], root, candidate)


def test_what_one_command_has_paid_for_answers_the_others(scene: Scene) -> None:
    run = say(
        "run", *scene.domain, *scene.root, "--iterations", 0, "--name", "first", "--price", "openai:some-model=1,10"
    )
    assert run.code == 0, run.err
    assert "saved" not in run.err
    assert scene.asked == 4
    evaluated = say("evaluate", scene.candidate, *scene.domain)
    assert "cost: 0 calls" in evaluated.out
    assert "; the shared cache saved 4 calls" in evaluated.out
    again = say(
        "run", *scene.domain, *scene.root, "--iterations", 0, "--name", "second", "--price", "openai:some-model=1,10"
    )
    assert "0 calls, 0 tokens, $0.0000" in again.err
    assert "the shared cache saved 4 calls" in again.err
    checked = say("check", scene.domain[1], *scene.domain[2:])
    assert checked.code == 0, checked.err
    planned = say("plan", *scene.domain, "--iterations", 0, "--probe", "--json")
    assert planned.page["rate"]["calls"] == 1
    assert scene.asked == 4
    (row,) = say("cost", "second", *scene.root, "--json").page["by_role_and_model"]
    assert (row["calls"], row["cached"]) == (0, 4)
    assert row["saved_usd"] > 0
    assert "saved_usd" in say("cost", "second", *scene.root).out


def test_without_the_cache_the_model_is_asked_anew_and_nothing_is_kept(scene: Scene) -> None:
    for command in (
        ["run", *scene.domain, *scene.root, "--iterations", "0", "--name", "first"],
        ["evaluate", scene.candidate, *scene.domain],
        ["calibrate", *scene.domain, "--trials", "2"],
        ["check", scene.domain[1], *scene.domain[2:]],
        ["plan", *scene.domain, "--iterations", "0", "--probe"],
        ["submit", scene.candidate, "--run", "first", *scene.root],
    ):
        before = scene.asked
        said = say(*command, "--no-cache")
        assert said.code == 0, said.err
        assert scene.asked > before
    resumed = say("resume", "first", *scene.root, "--no-cache")
    assert resumed.code == 0, resumed.err
    assert say("cache", "--json").page["exists"] is False


def test_fresh_trials_are_fresh(scene: Scene) -> None:
    say("evaluate", scene.candidate, *scene.domain)
    held = say("cache", "--json").page["entries"]
    before = scene.asked
    say("evaluate", scene.candidate, *scene.domain, "--fresh")
    say("calibrate", *scene.domain, "--trials", "2")
    assert scene.asked == before + 4 + 8
    assert say("cache", "--json").page["entries"] == held


def test_a_cache_that_cannot_be_used_is_told_and_fails_nothing(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "letter").write_text("Dear friend, " * 100)
    monkeypatch.setenv("METAHARNESS_CACHE", str(tmp_path / "letter"))
    said = say("evaluate", scene.candidate, *scene.domain)
    assert said.code == 0
    assert [line for line in said.err.splitlines() if line.startswith("warning: the shared cache")] != []
    assert "4 ok" in said.out
    finding = next(f for f in say("doctor", "--json", *scene.root).page["findings"] if f["area"] == "shared cache")
    assert finding["state"] == "warning"
    assert "METAHARNESS_CACHE" in finding["advice"]
    assert_complains(say("cache"), 1, "letter", "METAHARNESS_CACHE")
    assert (tmp_path / "letter").read_text().startswith("Dear friend")


def test_the_cache_tells_where_it_is_and_how_full_and_can_be_emptied(scene: Scene) -> None:
    place = os.environ["METAHARNESS_CACHE"]
    assert place in say("cache").out
    assert "not there yet" in say("cache", "--clear").out
    assert not Path(place).exists()
    say("evaluate", scene.candidate, *scene.domain)
    page = say("cache", "--json").page
    assert (page["path"], page["exists"], page["entries"]) == (place, True, 4)
    assert 0 < page["bytes"] < page["limit"]
    assert "4 answers" in say("cache").out
    finding = next(f for f in say("doctor", "--json", *scene.root).page["findings"] if f["area"] == "shared cache")
    assert finding["state"] == "ok"
    assert "4 answers" in finding["found"]
    assert "0 answers" in say("cache", "--clear").out
    say("evaluate", scene.candidate, *scene.domain)
    assert scene.asked == 8


def test_doctor_says_which_list_of_prices_there_is(scene: Scene) -> None:
    findings = say("doctor", "--json", *scene.root).page["findings"]
    assert next(f["found"] for f in findings if f["name"] == "list of prices").startswith("genai-prices 0.")
