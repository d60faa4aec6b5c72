"""An evaluation with 200 calls in the air against a server that fails 30% of the time: every account is exact."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from run_kit import assert_nothing_twice, assert_scores_match_traces, finish, lines, recorded, write_toy
from wire_server import Received, Reply, WireServer, serve

from metaharness.configuration import RunConfig
from metaharness.messages import ModelSpec
from metaharness.records import Score
from metaharness.run import Run

CASES = 200
FAILING = 0.3
CALL_SECONDS = 5.0
ANSWER_SECONDS = 1.0
"""Long enough that nearly all cases are waiting for their first answer at the same time."""
BOUNDS = {"calls": 100_000, "tokens": 1_000_000_000, "usd": 1e6}
"""Out of reach, but kept: room is reserved for every call."""
FAULTS = (
    Reply(status=429, headers={"retry-after-ms": "30"}),
    Reply(status=429),
    Reply(status=500),
    Reply(delay=3600),
    Reply(text="late", slow=3600),
    Reply(text="half an answer", fault="garble"),
    Reply(fault="drop"),
    Reply(text="half a body", fault="cut"),
)
TWO_CALLS = """
class Harness:
    def predict(self, text, model):
        first = model.complete("think about " + text).text
        return model.complete("answer " + text + " after " + first).text
"""
"""The second call of a case may fail after the first was paid for."""


class Moody:
    """Fails 30% of the time, by a fixed draw for every attempt at a prompt, until it is told to be well."""

    def __init__(self) -> None:
        self.well = False
        self.failed: set[int] = set()
        self._together = threading.Event()
        self._asked: set[str] = set()
        self._attempts: Counter[str] = Counter()

    def __call__(self, request: Received) -> Reply:
        self._wait_for_others(request.last_text)
        self._attempts[request.last_text] += 1
        draw = random.Random(f"{request.last_text} {self._attempts[request.last_text]}")
        if self.well or draw.random() >= FAILING:
            return Reply(text="red", delay=ANSWER_SECONDS)
        place = draw.randrange(len(FAULTS))
        self.failed.add(place)
        return FAULTS[place]

    def _wait_for_others(self, prompt: str) -> None:
        """Answer nobody before most cases have asked; on a slow machine that takes its time."""
        self._asked.add(prompt)
        if len(self._asked) > 0.75 * CASES:
            self._together.set()
        self._together.wait(CALL_SECONDS / 2)


@pytest.fixture(params=["openai", "anthropic"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for provider in ("ANTHROPIC", "OPENAI"):
        monkeypatch.setenv(f"{provider}_API_KEY", "a key")
        monkeypatch.delenv(f"{provider}_BASE_URL", raising=False)
    return str(request.param)


def config_for(kind: str, server: WireServer, folder: Path) -> RunConfig:
    toy = write_toy(folder, cases=CASES, baselines={"00_two_calls.py": TWO_CALLS}, proposals={})
    source = (folder / "domain.py").read_text()
    source = source.replace("class Colours", "from metaharness.domain import Limits\n\n\nclass Colours", 1)
    limits = f"    evaluator = Exact()\n    limits = Limits(call_seconds={CALL_SECONDS})\n"
    (folder / "domain.py").write_text(source.replace("    evaluator = Exact()\n", limits))
    url = server.url if kind == "anthropic" else f"{server.url}/v1"
    model = ModelSpec(provider=kind, name="some-model", base_url=url)
    prices = {model.id: (3.0, 15.0)}
    return toy.config(models={"target": model}, prices=prices, concurrency=CASES, iterations=0, budget=BOUNDS)


# --- three accounts of the same calls -----------------------------------------------------------------------------

Account = dict[tuple[str, str], tuple[int, int, int, float]]
"""(role, model) to calls, input tokens, output tokens, dollars."""


def added(calls: Iterator[tuple[str, dict[str, Any]]]) -> Account:
    sums: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0, 0, 0.0])
    for role, call in calls:
        row = sums[role, call["model"]]
        for place, amount in enumerate((1, call["input_tokens"], call["output_tokens"], call["usd"])):
            row[place] += amount
    return {key: (int(row[0]), int(row[1]), int(row[2]), round(row[3], 9)) for key, row in sums.items()}


def journalled(path: Path) -> Account:
    return added((line["attribution"]["role"], line["call"]) for line in lines(path / "calls.jsonl"))


def traced(path: Path) -> Account:
    """Over all attempts; a call that was answered before is in the trace of a later attempt again, and counts once."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for file in sorted(path.glob("iterations/*/*_trace.jsonl")):
        for line in lines(file):
            for call in line["calls"]:
                whose = [file.parent.name, line["case_id"], line["trial"], call["ordinal"], call["request"]]
                if call["error"] is None or call["error"]["kind"] == "refused":
                    found[json.dumps(whose, sort_keys=True)] = ("target" if call["door"] == "model" else "judge", call)
    return added(iter(found.values()))


def told(path: Path) -> Account:
    rows = json.loads((path / "cost.json").read_text())["by_role_and_model"]
    return {
        (row["role"], row["model"]): (row["calls"], row["input_tokens"], row["output_tokens"], round(row["usd"], 9))
        for row in rows
    }


def checked(run: Run) -> Score:
    """The score of the baseline, once every account was found to be the same."""
    path = run.store.path
    assert told(path) == journalled(path) == traced(path)
    assert [run.ledger.in_flight(bound) for bound in ("calls", "tokens", "usd")] == [0, 0, 0]
    assert run.spent.calls == len(lines(path / "calls.jsonl"))
    assert_nothing_twice(path)
    assert_scores_match_traces(path)
    score = recorded(path).iteration(0).score
    assert score is not None
    return score


@pytest.mark.slow
async def test_every_case_is_answered_or_missing_and_every_account_is_exact(kind: str, tmp_path: Path) -> None:
    moody = Moody()
    with serve(moody) as server:
        run = Run.create(config_for(kind, server, tmp_path / "domain"), tmp_path / "runs")
        with anyio.fail_after(60):
            await finish(run)
        first = checked(run)
        assert set(first.statuses) == {"ok", "infrastructure"}
        assert first.planned == first.statuses["ok"] + first.statuses["infrastructure"] == CASES
        assert moody.failed == set(range(len(FAULTS))), "each kind of failure has come"
        assert server.in_flight_peak > CASES / 2, "they were in the air together"
        attempts = Counter(line["case_id"] for line in lines(run.store.path / "iterations/000/eval_trace.jsonl"))
        assert set(attempts.values()) == {1, 2}, "missing ones were asked once more"

        moody.well = True
        again = Run.open(run.store.path)
        with anyio.fail_after(60):
            await finish(again)
        second = checked(again)
        assert second.statuses == {"ok": CASES}
        assert second.complete
        assert again.spent.calls == 2 * CASES, "what was answered before is not paid for again"
