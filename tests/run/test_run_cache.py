"""Runs that share a cache of model answers: the same numbers, paid for once."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from run_kit import final_traces, finish, lines, recorded, write_toy
from wire_server import Received, Reply, WireServer, serve

from metaharness.configuration import RunConfig
from metaharness.gateway.shared import look
from metaharness.messages import ModelSpec
from metaharness.run import Run
from metaharness.run.accounts import read_cost
from metaharness.run.finishing import Finishing

VOTING = """
class Harness:
    def predict(self, text, model):
        samples = [model.complete("Name a colour.").text for _ in range(3)]
        return model.complete(f"{samples} {text}").text
"""
CASES = 12


class Counting:
    """A model that says how often it was asked just this."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, request: Received) -> Reply:
        with self._lock:
            self.asked[request.last_text] += 1
            return Reply(text=f"{self.asked[request.last_text]} of {request.last_text}")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def config_for(folder: Path, server: WireServer, **changes: Any) -> RunConfig:
    domain = folder / "domain"
    toy = write_toy(domain, cases=CASES, baselines={"00_vote.py": VOTING}, proposals={"01_vote.py": VOTING + "# \n"})
    model = ModelSpec(provider="openai", name="some-model", base_url=f"{server.url}/v1")
    chosen = {"cache": str(folder / "answers.sqlite"), "prices": {model.id: (1.0, 10.0)}, **changes}
    return toy.config(models={"target": model}, **chosen)


def shown(path: Path) -> dict[tuple[int, str, int], Any]:
    """The traces, but for which of the cases that asked the same has paid."""
    traces = final_traces(path)
    for trace in traces.values():
        for call in trace["calls"]:
            del call["cached"]
    return traces


def stored(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.glob("answers.sqlite*"))


async def searched(config: RunConfig, root: Path) -> Path:
    run = Run.create(config, root)
    await finish(run)
    return run.store.path


async def test_one_call_in_the_air_and_many_give_the_same_traces(tmp_path: Path) -> None:
    found = []
    for concurrency in (1, 32):
        with serve(Counting()) as server:
            config = config_for(tmp_path / str(concurrency), server, concurrency=concurrency)
            path = await searched(config, tmp_path / f"runs {concurrency}")
            assert len(server.requests) == 3 + CASES, "both candidates and all cases share their samples"
        found.append(shown(path))
    assert found[0] == found[1]
    samples = [call["response"]["text"] for call in found[0][1, "search-00", 0]["calls"][:3]]
    assert samples == [f"{number} of Name a colour." for number in (1, 2, 3)]


async def test_a_second_run_pays_nothing_and_comes_to_the_same(tmp_path: Path) -> None:
    with serve(Counting()) as server:
        config = config_for(tmp_path, server)
        first = await searched(config, tmp_path / "runs")
        paid = len(server.requests)
        second = await searched(config, tmp_path / "runs")
        assert len(server.requests) == paid
    assert shown(second) == shown(first)
    (before,), (after,) = (read_cost(recorded(path))["by_role_and_model"] for path in (first, second))
    assert (after["calls"], after["input_tokens"], after["usd"]) == (0, 0, 0.0)
    assert before["calls"] == paid
    assert after["cached"] == before["calls"] + before["cached"] == len(lines(second / "calls.jsonl"))
    assert after["saved_usd"] == pytest.approx(before["usd"] + before["saved_usd"])
    told = [lines(path / "evolution_summary.jsonl") for path in (first, second)]
    assert [row["score"] for row in told[0]] == [row["score"] for row in told[1]]


async def test_a_run_that_is_opened_again_tells_the_same_of_what_was_paid_and_saved(tmp_path: Path) -> None:
    with serve(Counting()) as server:
        config = config_for(tmp_path, server)
        run = Run.create(config, tmp_path / "runs")
        await finish(run)
        again = Run.open(run.store.path)
        assert again.ledger.totals == run.ledger.totals
        assert run.spent.cached_calls > 0
        again.store.close()
        without = Run.open(run.store.path, cache=False)
        without.store.close()
        assert without.config.cache is False


async def test_without_a_cache_every_case_asks_for_itself(tmp_path: Path) -> None:
    with serve(Counting()) as server:
        config = config_for(tmp_path, server, cache=False)
        await searched(config, tmp_path / "runs")
        assert len(server.requests) == 2 * 4 * CASES


async def test_the_sealed_test_neither_reads_nor_fills_the_cache(tmp_path: Path) -> None:
    with serve(Counting()) as server:
        config = config_for(tmp_path, server)
        path = await searched(config, tmp_path / "runs")
        assert b"item 00" in stored(tmp_path), "it would be seen"
        held, before = look(tmp_path / "answers.sqlite"), len(server.requests)
        with Finishing.open(path) as finishing:
            planned = finishing.planned
            await finishing.run()
        assert len(server.requests) - before == 4 * planned
        assert look(tmp_path / "answers.sqlite") == held
    assert b"test item" not in stored(tmp_path)
