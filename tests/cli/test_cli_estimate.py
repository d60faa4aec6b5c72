"""The estimate after the smoke cases, and the question whether to go on."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from run_kit import CASES, Toy, command, harness, lines, recorded, say, write_toy
from wire_server import Received, Reply, WireServer, serve

from metaharness.configuration import Budget
from metaharness.messages import ModelSpec
from metaharness.proposers.scripted import ScriptedProposer
from metaharness.run import Run
from metaharness.run.forecasting import Forecast, forecast, why_ask
from metaharness.run.rates import Cost
from metaharness.search import search

TWICE = harness("long", body="model.complete('think about ' + text)")
PRICE = "openai:m=1000,1000"
"""A thousandth of a dollar for each token, so that a search of some cases costs dollars."""
SMOKE = 2
"""Smoke cases of one baseline."""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "a key")


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    baselines = {"00_plain.py": harness("plain"), "01_twice.py": TWICE}
    return write_toy(tmp_path / "domain", baselines=baselines, proposals={"1_other.py": harness("other")})


@pytest.fixture
def server() -> Iterator[WireServer]:
    def answer(_request: Received) -> Reply:
        return Reply(text="red", usage={"prompt_tokens": 8, "completion_tokens": 2})

    with serve(answer) as running:
        yield running


def asked(toy: Toy, server: WireServer, root: Path, *more: object) -> list[object]:
    model = ("-m", "openai:m", "--base-url", f"{server.url}/v1", "--sandbox", "process", "--root", root)
    return ["run", "-d", toy.folder, *model, "--name", "run", "--no-cache", *more]


@dataclass
class Ended:
    code: int
    said: str
    """Everything the terminal was sent."""


@contextmanager
def on_a_terminal(*arguments: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command whose stdin and stderr are a terminal, and our side of that."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command(*arguments), stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
            os.close(ours)


def read_until(ours: int, text: str) -> str:
    """What the terminal is sent until a text comes, or until its other side is gone."""
    sent = b""
    while text.encode() not in sent:
        try:
            chunk = os.read(ours, 1 << 16)
        except OSError:  # a terminal whose other side is gone ends with an error
            break
        if not chunk:
            break
        sent += chunk
    return sent.decode()


def answered(answer: str, *arguments: object) -> Ended:
    """The command with an answer typed when it asks; and how it ended."""
    with on_a_terminal(*arguments) as (process, ours):
        said = read_until(ours, "[y/N] ")
        os.write(ours, answer.encode())
        said += read_until(ours, "\0")
        return Ended(process.wait(), said)


# --- the estimate -----------------------------------------------------------------------------------------------


def test_it_is_told_as_a_range_with_how_it_was_computed_before_anything_else_is_asked(toy: Toy, tmp_path: Path) -> None:
    said = say("run", *toy.arguments("--root", tmp_path / "runs", "-c", 1))
    assert said.code == 0
    planned = (
        f"estimate for 2 baselines and 1 candidate, {3 * CASES} case evaluations: {3 * CASES} to {6 * CASES} calls, "
    )
    (first,) = [line for line in said.err.splitlines() if line.startswith("estimate")]
    assert first.startswith(planned)
    assert first.endswith(" minutes")
    assert " tokens, $0.00, 0:0" in first
    assert "from 4 smoke cases of the baselines: as if every case took what the cheapest, or the dearest" in said.err
    assert said.err.index("estimate for") < said.err.index("000 00_plain: accuracy")
    quiet = say("run", *toy.arguments("--root", tmp_path / "runs", "-q"))
    assert "estimate" not in quiet.err


def test_a_resume_does_not_tell_or_ask_it_again(toy: Toy, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    assert say("run", *toy.arguments("--root", root, "-q", "--budget-candidates", 0)).code == 0
    said = say("resume", "--root", root, "--budget-candidates", 1)
    assert (said.code, "estimate" in said.err) == (0, False)


async def test_the_forecast_spans_what_the_search_then_takes(toy: Toy, tmp_path: Path) -> None:
    found: list[Forecast | None] = []
    run = Run.create(toy.config(), tmp_path / "runs")

    async def look() -> bool:
        assert run.spent.calls == SMOKE + 2 * SMOKE
        found.append(forecast(run))
        return True

    async with run:
        await search(run, ScriptedProposer(), confirm=look)
    (seen,) = found
    assert seen is not None
    assert (seen.low.calls, seen.high.calls) == (3 * CASES, 6 * CASES)
    assert seen.low.case_evaluations == run.spent.case_evaluations
    assert (seen.low.calls or 0) < run.spent.calls == 4 * CASES < (seen.high.calls or 0)
    assert seen.minutes[0] <= seen.minutes[1]


# --- when it asks -----------------------------------------------------------------------------------------------


def high(*, calls: int, usd: float | None) -> Forecast:
    cost = Cost(case_evaluations=9, calls=calls, tokens=9, usd=usd)
    return Forecast(baselines=1, smoke_cases=2, candidates=3, low=cost, high=cost, minutes=(1, 1))


@pytest.mark.parametrize(
    ("found", "budget", "asks"),
    [
        (high(calls=5_000, usd=0.99), {}, None),
        (high(calls=5_000, usd=1.01), {}, "it may cost $1.01, and you are asked above $1.00"),
        (high(calls=5_000, usd=9.0), {"usd": 0.5}, None),
        (high(calls=1_000, usd=None), {}, None),
        (high(calls=1_001, usd=None), {}, "it may make 1,001 calls of openai:m, and the price of one is not known"),
        (high(calls=5_000, usd=None), {"calls": 900}, None),
        (None, {}, "what openai:m will be asked is not known, as no smoke case has a value"),
        (None, {"calls": 900}, None),
    ],
)
def test_it_asks_above_a_dollar_or_a_thousand_calls_of_unknown_price_that_the_budget_allows(
    found: Forecast | None, budget: dict[str, float], asks: str | None, *, toy: Toy, tmp_path: Path
) -> None:
    models = {"target": ModelSpec(provider="openai", name="m", base_url="https://models.example/v1")}
    run = Run.create(toy.config(models=models, prices={"openai:m": (1.0, 1.0)}, budget=Budget(**budget)), tmp_path)
    run.store.close()
    assert why_ask(run, found, 1.0) == asks


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:11434/v1"], ids=["scripted", "on this machine"])
def test_a_model_on_this_machine_without_a_price_is_not_asked_about(url: str | None, toy: Toy, tmp_path: Path) -> None:
    changes = {} if url is None else {"models": {"target": ModelSpec(provider="openai", name="m", base_url=url)}}
    run = Run.create(toy.config(**changes), tmp_path)
    run.store.close()
    assert why_ask(run, high(calls=10**6, usd=None), 1.0) is None


def test_off_a_terminal_it_goes_on_without_asking(toy: Toy, server: WireServer, tmp_path: Path) -> None:
    said = say(*asked(toy, server, tmp_path / "runs", "--price", PRICE, "--ask-above", 0))
    assert said.code == 0, said.err
    assert "estimate for" in said.err
    assert "[y/N]" not in said.err
    assert len(server.requests) == 4 * CASES


@pytest.mark.slow
def test_no_leaves_a_run_that_resume_goes_on_with(toy: Toy, server: WireServer, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    ended = answered("\n", *asked(toy, server, root, "--price", PRICE, "--ask-above", 0.1))
    assert ended.code == 1
    assert "you are asked above $0.10. Go on? [y/N]" in ended.said
    assert "nothing more is asked" in ended.said
    assert f"to go on: metaharness resume --root {root} run" in ended.said
    assert len(server.requests) == 3 * SMOKE
    with on_a_terminal("resume", "--root", root, "run") as (process, ours):
        said = read_until(ours, "\0")
        assert process.wait() == 0
    assert "[y/N]" not in said
    assert len(server.requests) == 4 * CASES, "nothing was asked twice"
    assert recorded(root / "run").best() is not None


@pytest.mark.slow
def test_yes_goes_on_at_the_terminal_and_as_an_option(toy: Toy, server: WireServer, tmp_path: Path) -> None:
    ended = answered("y\n", *asked(toy, server, tmp_path / "one", "--price", PRICE, "--ask-above", 0.1))
    assert (ended.code, len(server.requests)) == (0, 4 * CASES)
    with on_a_terminal(*asked(toy, server, tmp_path / "two", "--price", PRICE, "--yes")) as (process, ours):
        said = read_until(ours, "\0")
        assert process.wait() == 0
    assert "[y/N]" not in said
    assert len(server.requests) == 8 * CASES


@pytest.mark.slow
def test_ctrl_c_at_the_question_stops_the_run(toy: Toy, server: WireServer, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    with on_a_terminal(*asked(toy, server, root, "--price", PRICE, "--ask-above", 0.1)) as (process, ours):
        read_until(ours, "[y/N] ")
        process.send_signal(signal.SIGINT)
        said = read_until(ours, "\0")
        assert process.wait() == 130
    assert "to go on: metaharness resume" in said
    assert len(server.requests) == 3 * SMOKE
    assert lines(root / "run" / "events.jsonl")[-1]["reason"] == "stopped"
