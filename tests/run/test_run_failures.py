"""Calls that fail on the wire, and what becomes of their cases: each class of failure, through a whole run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from run_kit import CASES, Toy, finish, harness, lines, recorded, write_toy
from wire_server import Received, Reply, WireServer, serve

from metaharness.errors import ConfigurationError
from metaharness.messages import ModelSpec
from metaharness.run import Run

SOON = {"retry-after-ms": "1"}
AT = "item 07"
"""The case that fails; it is no smoke case."""


@pytest.fixture(params=["openai", "anthropic"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for provider in ("ANTHROPIC", "OPENAI"):
        monkeypatch.setenv(f"{provider}_API_KEY", "a key")
        monkeypatch.delenv(f"{provider}_BASE_URL", raising=False)
    return str(request.param)


class Failing:
    """Answers everything but one case; that one as it is told, then well."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = replies
        self.attempts: Counter[str] = Counter()

    def __call__(self, request: Received) -> Reply:
        self.attempts[request.last_text] += 1
        number = self.attempts[request.last_text]
        if AT in request.last_text and number <= len(self.replies):
            return self.replies[number - 1]
        return Reply(text="red")

    @property
    def at_the_case(self) -> int:
        return sum(count for text, count in self.attempts.items() if AT in text)


def toy_with(tmp_path: Path, *, call_seconds: float = 30.0) -> Toy:
    toy = write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain")}, proposals={})
    domain = toy.folder / "domain.py"
    source = domain.read_text().replace("import Case,", "import Limits, Case,")
    limits = f"    evaluator = Exact()\n    limits = Limits(call_seconds={call_seconds})\n"
    domain.write_text(source.replace("    evaluator = Exact()\n", limits))
    return toy


async def ran(kind: str, server: WireServer, toy: Toy, root: Path, **changes: Any) -> Path:
    url = server.url if kind == "anthropic" else f"{server.url}/v1"
    config = toy.config(models={"target": ModelSpec(provider=kind, name="m", base_url=url)}, **changes)
    run = Run.create(config, root, name="run")
    await finish(run)
    return run.store.path


def statuses(run: Path) -> dict[str, int]:
    score = recorded(run).iteration(0).score
    assert score is not None
    return score.statuses


def attempts(run: Path) -> list[str]:
    """The statuses of the failing case, attempt by attempt."""
    path = run / "iterations" / "000" / "eval_trace.jsonl"
    return [line["status"] for line in lines(path) if line["input"] == AT]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_stops_the_run_at_once_and_keeps_what_was_paid_for(
    status: int, kind: str, tmp_path: Path
) -> None:
    failing = Failing(*[Reply(status=status, message="no such key")] * 9)
    with serve(failing) as server, pytest.raises(ConfigurationError, match="no such key"):
        await ran(kind, server, toy_with(tmp_path), tmp_path / "runs", concurrency=1)
    run = tmp_path / "runs" / "run"
    assert failing.at_the_case == 1, "not tried again"
    assert recorded(run).iteration(0).state == "pending"
    assert len(lines(run / "calls.jsonl")) == sum(failing.attempts.values()) - 1 < CASES


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_request_at_fault_is_refused_counts_as_the_harness_failure_and_is_not_tried_again(
    status: int, kind: str, tmp_path: Path
) -> None:
    failing = Failing(*[Reply(status=status, message="too long")] * 9)
    with serve(failing) as server:
        run = await ran(kind, server, toy_with(tmp_path), tmp_path / "runs")
    assert statuses(run) == {"ok": CASES - 1, "refused": 1}
    assert attempts(run) == ["refused"]
    assert failing.at_the_case == 1
    assert recorded(run).iteration(0).state == "complete"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_cannot_answer_now_is_tried_again_and_the_case_does_not_notice(
    status: int, kind: str, tmp_path: Path
) -> None:
    failing = Failing(*[Reply(status=status, headers=SOON)] * 2)
    with serve(failing) as server:
        run = await ran(kind, server, toy_with(tmp_path), tmp_path / "runs")
    assert statuses(run) == {"ok": CASES}
    assert attempts(run) == ["ok"]
    assert failing.at_the_case == 3
    assert len(lines(run / "calls.jsonl")) == CASES


@pytest.mark.parametrize(
    "reply",
    [Reply(status=500, headers=SOON), Reply(fault="drop"), Reply(text="x", fault="garble")],
    ids=["status", "hang-up", "half the JSON"],
)
async def test_what_fails_for_longer_is_missing_and_asked_again_at_the_end_of_the_evaluation(
    reply: Reply, kind: str, tmp_path: Path
) -> None:
    tried = 1 if reply.fault == "garble" else 3
    failing = Failing(*[reply] * tried)
    with serve(failing) as server:
        run = await ran(kind, server, toy_with(tmp_path), tmp_path / "runs")
    assert attempts(run) == ["infrastructure", "ok"]
    assert failing.at_the_case == tried + 1
    assert recorded(run).iteration(0).state == "complete"


async def test_what_is_missing_then_is_asked_again_by_resume_and_nothing_else_is(kind: str, tmp_path: Path) -> None:
    failing = Failing(*[Reply(status=500, headers=SOON)] * 6)
    with serve(failing) as server:
        run = await ran(kind, server, toy_with(tmp_path), tmp_path / "runs")
        assert attempts(run) == ["infrastructure", "infrastructure"]
        assert statuses(run) == {"ok": CASES - 1, "infrastructure": 1}
        assert recorded(run).iteration(0).state == "incomplete"
        await finish(Run.open(run))
    assert attempts(run) == ["infrastructure", "infrastructure", "ok"]
    assert set(failing.attempts.values()) == {1, 7}
    assert recorded(run).iteration(0).state == "complete"


async def test_a_call_has_a_deadline_of_its_own_and_ends_as_infrastructure(kind: str, tmp_path: Path) -> None:
    failing = Failing(Reply(text="late", delay=3600), Reply(text="late", slow=3600))
    with serve(failing) as server:
        run = await ran(kind, server, toy_with(tmp_path, call_seconds=1.0), tmp_path / "runs")
    assert attempts(run) == ["infrastructure", "infrastructure"]
    assert statuses(run) == {"ok": CASES - 1, "infrastructure": 1}


async def test_a_model_that_is_not_there_stops_the_run(kind: str, tmp_path: Path) -> None:
    failing = Failing(Reply(status=404, message="no such model"))
    with serve(failing) as server, pytest.raises(ConfigurationError, match="no such model"):
        await ran(kind, server, toy_with(tmp_path), tmp_path / "runs", concurrency=1)
    assert recorded(tmp_path / "runs" / "run").iteration(0).state == "pending"
