"""What a run is said to have cost: the ledger, the journals, the traces and `cost` tell the same story."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from run_kit import PROPOSALS, Toy, assert_nothing_twice, finish, harness, lines, recorded, say, write_toy
from wire_server import Received, Reply, WireServer, serve

from metaharness.messages import ModelSpec
from metaharness.records import Proposal
from metaharness.run import Finishing, Run, fork
from metaharness.run.accounts import read_cost
from metaharness.run.outside import add

CASES = 8
SOON = {"retry-after-ms": "1"}
JUDGED = """
class Exact:
    async def grade(self, context):
        said = await context.judge.complete(f"right? {context.output} for {context.case.expected} of {context.case.id}")
        return said.text == "yes"
"""
MONEY = ("candidates", "calls", "input_tokens", "output_tokens", "usd", "unpriced_calls")
Sums = dict[tuple[str, str], tuple[int, int, int, float]]
"""(role, model) to calls, input tokens, output tokens, dollars."""


class Moody:
    """Answers, refuses some questions for good, and fails a third of all attempts until it is told to be well."""

    def __init__(self) -> None:
        self.well = False
        self.failed = 0
        self._attempts: Counter[str] = Counter()

    def __call__(self, request: Received) -> Reply:
        text = request.last_text
        self._attempts[text] += 1
        if "item 05" in text and "[other]" in text:
            return Reply(status=400, message="no answer to that")
        if not self.well and random.Random(f"{text} {self._attempts[text]}").random() < 1 / 3:
            self.failed += 1
            return Reply(status=500, headers=SOON)
        return Reply(text="yes" if text.startswith("right? red for red") else "red")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def config_for(server: WireServer, toy: Toy) -> Any:
    def spec(name: str) -> ModelSpec:
        return ModelSpec(provider="openai", name=name, base_url=f"{server.url}/v1")

    models = {"target": spec("asked"), "judge": spec("judging")}
    prices = {"openai:asked": (3.0, 15.0), "openai:judging": (1.0, 5.0)}
    return toy.config(models=models, prices=prices, iterations=2, budget={"usd": 100.0})


def added(calls: Iterable[tuple[str, dict[str, Any]]]) -> Sums:
    sums: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0, 0, 0.0])
    for role, call in calls:
        row = sums[role, call["model"]]
        for place, value in enumerate((1, call["input_tokens"], call["output_tokens"], call["usd"])):
            row[place] += value
    return {key: (int(row[0]), int(row[1]), int(row[2]), round(row[3], 9)) for key, row in sums.items()}


def journalled(run: Path) -> Sums:
    entries = [*lines(run / "calls.jsonl"), *lines(run / "sealed" / "calls.jsonl")]
    return added((entry["attribution"]["role"], entry["call"]) for entry in entries)


def traced(run: Path) -> Sums:
    """Over all attempts; a call that a later attempt got from the journal is in both, and counts once."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    own = [one.number for one in recorded(run) if not one.is_inherited]
    searched = [file for number in own for file in run.glob(f"iterations/{number:03d}/*_trace.jsonl")]
    for file in [*searched, *run.glob("partial/*/*_trace.jsonl"), *run.glob("sealed/*/*_trace.jsonl")]:
        for line in lines(file):
            for call in line["calls"]:
                whose = [str(file.parent), line["case_id"], line["trial"], call["door"], call["ordinal"]]
                if call["error"] is None or call["error"]["kind"] == "refused":
                    key = json.dumps([*whose, call["request"]], sort_keys=True)
                    found[key] = ("target" if call["door"] == "model" else call["door"], call)
    return added(found.values())


def told(page: dict[str, Any]) -> Sums:
    return {
        (row["role"], row["model"]): (row["calls"], row["input_tokens"], row["output_tokens"], round(row["usd"], 9))
        for row in page["by_role_and_model"]
    }


def assert_one_story(run: Path, ledger: dict[str, Any] | None = None) -> None:
    page = read_cost(recorded(run))
    stored = json.loads((run / "cost.json").read_text())
    assert told(page) == told(stored) == journalled(run) == traced(run)
    whole = page["spent"]
    for by in ("by_role_and_model", "by_role", "by_model", "by_iteration", "by_day"):
        for name in ("calls", "input_tokens", "output_tokens"):
            assert sum(row[name] for row in page[by]) == whole[name], (by, name)
        assert sum(row["usd"] for row in page[by]) == pytest.approx(whole["usd"])
    if ledger is not None:
        assert {name: ledger[name] for name in MONEY} == {name: whole[name] for name in MONEY}
    assert_nothing_twice(run)


@pytest.mark.slow
async def test_ledger_journal_traces_and_cost_agree_after_failures_retries_resume_submit_and_finish(
    tmp_path: Path,
) -> None:
    moody = Moody()
    toy = write_toy(
        tmp_path / "domain", cases=CASES, proposals={"1_other.py": harness("other"), "2_x.py": PROPOSALS["05_bad.py"]}
    )
    (toy.folder / "evaluator.py").write_text(JUDGED)
    with serve(moody) as server:
        first = Run.create(config_for(server, toy), tmp_path / "runs", name="run")

        def stop_in_the_middle(kind: str, fields: Any) -> None:
            if kind == "case_ended" and fields["iteration"] == 2:
                first.stop()

        first.listener = stop_in_the_middle
        await finish(first)
        run = first.store.path
        assert_one_story(run, first.spent.model_dump())

        again = Run.open(run)
        await finish(again)
        assert_one_story(run, again.spent.model_dump())
        assert moody.failed, "calls have failed, and were asked again"

        moody.well = True
        async with Run.open(run) as by_hand:
            await add(by_hand, Proposal(files={"harness.py": harness("ok")}, name="mine"))
            await by_hand.evaluate_cases(harness("plain"), by_hand.partial.case_ids[:3])
        await finish(Run.open(run))  # asks what is still missing
        assert all(iteration.state == "complete" for iteration in recorded(run))
        assert any("refused" in iteration.score.statuses for iteration in recorded(run) if iteration.score)
        assert_one_story(run)

        with Finishing.open(run) as finishing:
            assert await finishing.run() is not None
            assert_one_story(run, finishing.spent.model_dump())
            counted = read_cost(recorded(run))["spent"]["case_evaluations"]
            assert finishing.spent.case_evaluations == counted
    rows = {(row["iteration"], row["sealed"]): row["calls"] for row in read_cost(recorded(run))["by_iteration"]}
    assert {number for number, _ in rows} == {0, 1, 2, 3, 4, None}, "None: what was evaluated beside the iterations"
    assert [number for number, sealed in rows if sealed], "the sealed test has rows of its own"


async def test_the_story_of_a_fork_is_that_of_what_it_has_not_inherited(tmp_path: Path) -> None:
    moody = Moody()
    toy = write_toy(
        tmp_path / "domain", cases=4, proposals={"1_other.py": harness("other"), "2_x.py": PROPOSALS["05_bad.py"]}
    )
    (toy.folder / "evaluator.py").write_text(JUDGED)
    with serve(moody) as server:
        await finish(Run.create(config_for(server, toy), tmp_path / "runs", name="run"))
        moody.well = True
        run = fork(tmp_path / "runs" / "run", 2, name="fork", changes={"iterations": 1}).store.path
        assert_one_story(run)
        again = Run.open(run)
        await finish(again)
        assert_one_story(run, again.spent.model_dump())
        assert again.spent.candidates == 1
        with Finishing.open(run) as finishing:
            assert await finishing.run() is not None
            assert_one_story(run, finishing.spent.model_dump())
    rows = [(row["iteration"], row["sealed"]) for row in read_cost(recorded(run))["by_iteration"]]
    assert [number for number, sealed in rows if not sealed] == [3]


async def test_the_day_of_a_call_is_that_of_utc(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=2, proposals={})
    run = Run.create(toy.config(iterations=0), tmp_path / "runs", name="run")
    await finish(run)
    path = run.store.path / "calls.jsonl"
    entries = lines(path)
    for entry, time in zip(
        entries, ("2026-01-31T23:59:59.999+00:00", "2026-02-01T00:00:00.000+00:00") * 2, strict=True
    ):
        entry["time"] = time
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    days = [(row["day"], row["calls"]) for row in read_cost(recorded(run.store.path))["by_day"]]
    assert days == [("2026-01-31", 2), ("2026-02-01", 2)]


def test_cost_shows_every_table_and_one_where_it_is_asked_for(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=3, proposals={"1_other.py": harness("other")})
    root = tmp_path / "runs"
    assert say("run", *toy.arguments("--root", root, "--name", "run", "-q", "--budget-calls", 100)).code == 0
    assert say("finish", "--yes", "--root", root, "--quiet").code == 0
    said = say("cost", "--root", root).out.splitlines()
    heads = [line.split()[0] for line in said if line.split()[1:2] == ["calls"]]
    assert heads == ["role", "model", "iteration", "day"]
    assert any(line.startswith("000 ") and line.split()[1] == "3" for line in said)
    assert any(" sealed test " in line for line in said)
    assert "budget of calls: 12 of 100 spent, 88 unspent" in said
    only = say("cost", "--root", root, "--by", "iteration").out
    assert " sealed test " in only
    assert "role" not in only
    page = say("cost", "--root", root, "--by", "day", "--json").page
    assert set(page) == {"spent", "limits", "by_role_and_model", "budget", "by_day"}
    wrong = say("cost", "--root", root, "--by", "weekday")
    assert (wrong.code, "'iteration'" in wrong.err) == (2, True)
