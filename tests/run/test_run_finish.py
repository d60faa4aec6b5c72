"""`finish`: what is tested, when it is written down, and what comes out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import anyio
import pytest
from finish_kit import (
    SEARCH,
    TEST,
    Watched,
    answers,
    assert_asked_once,
    content,
    finish_toy,
    finished,
    prompts,
    read_sealed,
    sealed_prompts,
    sealed_rules,
    searched_run,
    write_test,
)
from run_kit import Toy, count_lines, harness, lines, recorded, rules, say, started

from metaharness.errors import IncompleteError, ModelFailure, StoreError, UsageError
from metaharness.records import CaseTrace, Proposal
from metaharness.run import Finishing, Run
from metaharness.run.accounts import read_cost
from metaharness.run.outside import add
from metaharness.scoring.measures import PairRow, measure
from metaharness.scoring.verdicts import judge_both
from metaharness.store import RunStore


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return finish_toy(tmp_path_factory.mktemp("finish") / "domain")


@pytest.fixture(scope="module")
def searched(toy: Toy) -> Path:
    """A run whose search is over; copy it."""
    return anyio.run(searched_run, toy, toy.folder.parent / "runs")


@pytest.fixture(scope="module")
def done(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, finished; change nothing in it."""
    run = shutil.copytree(searched, tmp_path_factory.mktemp("done") / "run")
    anyio.run(finished, run)
    return run


@pytest.fixture
def run(searched: Path, tmp_path: Path) -> Path:
    """The searched run in a folder of its own."""
    return shutil.copytree(searched, tmp_path / "runs" / "run")


# --- the opening ------------------------------------------------------------------------------------------------


async def test_the_opening_is_whole_on_disk_before_any_case_is_asked_and_never_changes(toy: Toy, run: Path) -> None:
    seen: list[bytes] = []

    def look(_text: str) -> None:
        assert sorted(path.name for path in (run / "sealed").iterdir() if path.is_file())[-1] == "opening.json"
        seen.append((run / "sealed" / "opening.json").read_bytes())

    model = Watched(answers(toy), look)
    result = await finished(run, providers={"target": model})
    assert len(seen) == 2 * TEST
    assert set(seen) == {(run / "sealed" / "opening.json").read_bytes()}
    opening = json.loads(seen[0])
    assert (opening["winner"], opening["baseline"], opening["look"], opening["trials"]) == (2, 0, 1, 1)
    assert opening["cases"] == [f"hidden-{number:02d}" for number in range(TEST)]
    assert opening["test_hash"] == result.test_hash
    hashes = {str(number): recorded(run).iteration(number).proposal.candidate_hash for number in (0, 2)}
    assert opening["candidates"] == hashes


async def test_a_worker_that_looks_finds_the_opening_too(tmp_path: Path) -> None:
    """The harness itself, in a process of its own."""
    run = tmp_path / "runs" / "run"
    body = f"import os\nif text.startswith('test') and not os.path.exists({str(run / 'sealed/opening.json')!r}):"
    source = harness("good", body=f"{body}\n    raise RuntimeError('asked before the opening')")
    toy = finish_toy(tmp_path / "domain", baselines={"00.py": source}, proposals={})
    await searched_run(toy, run.parent)
    await finished(run)
    assert read_sealed(run, "000/score.json")["statuses"] == {"ok": TEST}


def test_the_winner_is_the_best_on_search_though_others_are_better_on_test(done: Path) -> None:
    history = recorded(done)
    result = read_sealed(done, "result.json")
    means = {it.number: it.score.objectives["accuracy"].mean for it in history if it.score is not None}
    assert means == {0: 4 / SEARCH, 1: 0, 2: 1, 3: 5 / SEARCH}
    assert (result["winner"], result["baseline"]) == (2, 0)
    assert {prompt.split("]")[0] for prompt in sealed_prompts(done)} == {"[other", "[plain"}  # no look at the others
    assert sorted(path.name for path in (done / "sealed").iterdir() if path.is_dir()) == ["000", "002"]


def test_the_headline_is_the_paired_test_of_the_traces_on_disk(done: Path) -> None:
    history = recorded(done)
    objectives = history.objectives

    def rows(number: int) -> list[PairRow]:
        found = lines(done / "sealed" / f"{number:03d}" / "eval_trace.jsonl")
        return [measure(CaseTrace.model_validate(line), objectives) for line in found]

    expected = judge_both(rows(2), rows(0), objectives[0])
    result = read_sealed(done, "result.json")
    comparison = expected.comparison
    assert result["verdict"] == expected.said == "better"
    assert [result[name] for name in ("delta", "low", "high", "p", "units")] == [
        *(comparison.delta, comparison.low, comparison.high, comparison.p, comparison.units)
    ]
    assert (result["delta"], result["p"], result["units"]) == (6 / TEST, 2 / 2**6, TEST)
    assert [(row["iteration"], row["role"], row["objectives"]["accuracy"]["mean"]) for row in result["rows"]] == [
        (2, "winner", 7 / TEST),
        (0, "baseline", 1 / TEST),
    ]


async def test_a_baseline_that_won_on_search_is_the_only_one_that_is_asked_and_nothing_is_tested(
    tmp_path: Path,
) -> None:
    toy = finish_toy(tmp_path / "domain", proposals={"1_bad.py": harness("x")})
    run = await searched_run(toy, tmp_path / "runs")
    result = await finished(run)
    assert (result.winner, result.baseline, result.verdict) == (0, 0, "baseline")
    assert (result.delta, result.low, result.high, result.p, result.units) == (None, None, None, None, 0)
    assert [(row.iteration, row.role) for row in result.rows] == [(0, "winner")]
    assert len(sealed_prompts(run)) == TEST
    assert list(read_sealed(run, "opening.json")["candidates"]) == ["0"]


# --- looks ------------------------------------------------------------------------------------------------------


async def test_openings_of_the_same_test_data_are_counted_over_all_runs_of_the_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = shutil.copytree(run, run.parent / "second")
    third = shutil.copytree(run, run.parent / "third")
    elsewhere = shutil.copytree(run, tmp_path / "elsewhere" / "run")
    assert (await finished(run)).look == 1
    assert (await finished(second)).look == 2
    assert (await finished(elsewhere)).look == 1
    monkeypatch.chdir(third)
    assert (await finished(Path())).look == 3  # also when the run is named from within


async def test_other_test_data_begins_at_the_first_look(tmp_path: Path) -> None:
    toy = finish_toy(tmp_path / "domain", proposals={})
    first = await searched_run(toy, tmp_path / "runs", name="first")
    third = await searched_run(toy, tmp_path / "runs", name="third")
    assert (await finished(first)).look == 1
    write_test(toy, TEST - 1)
    second = await searched_run(toy, tmp_path / "runs", name="second")
    assert (await finished(second)).look == 1
    write_test(toy, TEST)
    assert (await finished(third)).look == 2


@pytest.mark.slow
def test_runs_finished_at_the_same_time_never_get_the_same_look(run: Path) -> None:
    paths = [run, *(shutil.copytree(run, run.parent / f"run-{number}") for number in range(2, 5))]
    with (
        started("finish", "--yes", paths[0], "--json") as a,
        started("finish", "--yes", paths[1], "--json") as b,
        started("finish", "--yes", paths[2], "--json") as c,
        started("finish", "--yes", paths[3], "--json") as d,
    ):
        said = [process.communicate(timeout=60) for process in (a, b, c, d)]
    assert [err for _, err in said if "error" in err] == []
    assert sorted(json.loads(out)["look"] for out, _ in said) == [1, 2, 3, 4]
    assert sorted(read_sealed(path, "opening.json")["look"] for path in paths) == [1, 2, 3, 4]


HOLDER = """
import sys
from pathlib import Path
from metaharness.store import openings_locked
aside, sealed = map(Path, sys.argv[1:])
with openings_locked(sealed.parent.parent):
    print("held", flush=True)
    sys.stdin.readline()
    aside.rename(sealed)
"""
"""Another process between the moment when it has counted and the moment when its opening is on disk."""


def waits_in(thread: threading.Thread, function: str) -> bool:
    """Whether a thread is somewhere inside a function."""
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and any(entry.name == function for entry in traceback.extract_stack(frame))


def test_finish_waits_while_another_process_opens_and_then_counts_its_opening(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, run.parent / "other")
    anyio.run(finished, other)
    aside = (other / "sealed").rename(tmp_path / "aside")
    opening = run / "sealed" / "opening.json"
    looks: list[int] = []
    thread = threading.Thread(target=lambda: looks.append(anyio.run(finished, run).look))
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, aside, other / "sealed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        thread.start()
        while thread.is_alive() and not opening.exists() and not waits_in(thread, "openings_locked"):
            thread.join(0.005)
        opened_meanwhile = opening.exists()
        holder.communicate(b"go on\n")
    thread.join()
    assert not opened_meanwhile
    assert looks == [2]
    assert read_sealed(run, "opening.json")["look"] == 2


# --- afterwards -------------------------------------------------------------------------------------------------


def test_a_finished_run_takes_nothing_more(done: Path, tmp_path: Path) -> None:
    run = shutil.copytree(done, tmp_path / "run")
    before = content(run)
    with pytest.raises(UsageError, match="run run is finished: its test split was opened"):
        Run.open(run)
    with pytest.raises(UsageError, match="run run is finished"):
        Finishing.open(run)
    (tmp_path / "h.py").write_text(harness("good"))
    for arguments in (["resume", run], ["submit", tmp_path / "h.py", "--run", run]):
        said = say(*arguments)
        assert (said.code, said.out) == (2, "")
        assert "is finished" in said.err
    assert content(run) == before


def test_there_is_one_opening_and_one_result(done: Path, tmp_path: Path) -> None:
    run = shutil.copytree(done, tmp_path / "run")
    before = content(run)
    with RunStore.open(run, record=True) as store:
        with pytest.raises(StoreError, match="has been opened already"):
            store.sealed.write_opening({})
        with pytest.raises(StoreError, match="has a result already"):
            store.sealed.write_result({})
    assert content(run) == before


async def test_without_an_opening_no_case_is_handed_out_and_nothing_is_written(run: Path) -> None:
    with Finishing.open(run) as finishing:
        with pytest.raises(UsageError, match="the test split is sealed"):
            finishing.holdout.cases()
        with pytest.raises(StoreError, match="nothing is written about the test split before its opening"):
            finishing.holdout.evaluations.append_trace(2, next(recorded(run).store.traces(2)))
    assert not (run / "sealed").exists()


def test_finish_repeated_shows_the_same_result_without_a_call_or_a_write(done: Path) -> None:
    before = content(done)
    first = say("finish", "--yes", done, "--json")
    assert (first.code, first.err) == (0, "")
    result = read_sealed(done, "result.json")
    assert first.page == {**result, "path": str(done)}
    assert say("finish", "--yes", done, "--json", "--yes", "--accept-missing") == first
    assert content(done) == before


# --- what is written where --------------------------------------------------------------------------------------


async def test_no_file_outside_sealed_holds_a_text_or_an_answer_of_a_test_case(tmp_path: Path) -> None:
    toy = finish_toy(tmp_path / "domain")
    table = {f"test item {number:02d}": f"secret-{number:02d}-answer" for number in range(TEST)}
    cases = [{"id": f"hidden-{n:02d}", "text": text, "colour": table[text]} for n, text in enumerate(table)]
    (toy.folder / "data" / "test.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    told = [{"contains": f"[other] {text}", "text": answer} for text, answer in table.items()]
    toy.write_script([*told, *rules(SEARCH)])
    run = await searched_run(toy, tmp_path / "runs")
    journal = (run / "calls.jsonl").read_bytes()
    result = await finished(run)
    assert result.rows[0].objectives["accuracy"].mean == 1
    assert (run / "calls.jsonl").read_bytes() == journal
    assert len(sealed_prompts(run)) == 2 * TEST
    files = content(tmp_path / "runs")
    needles = [text.encode() for pair in table.items() for text in pair]
    holding = {path for path, data in files.items() if any(needle in data for needle in needles)}
    assert holding == {f"run/sealed/{name}" for name in ("calls.jsonl", "000/eval_trace.jsonl", "002/eval_trace.jsonl")}
    assert not any(b"hidden-0" in data for path, data in files.items() if not path.startswith("run/sealed/"))


def test_what_the_test_has_cost_is_counted(done: Path, searched: Path) -> None:
    before, history = recorded(searched), recorded(done)
    spent = read_cost(history)["spent"]
    stored = json.loads((done / "cost.json").read_text())
    summary = json.loads((done / "summary.json").read_text())
    for page in (spent, stored["spent"], summary["spent"]):
        assert page["calls"] == len(prompts(done)) + 2 * TEST == read_cost(before)["spent"]["calls"] + 2 * TEST
        assert page["case_evaluations"] == 4 * SEARCH + 2 * TEST
        assert page["candidates"] == 2
    assert stored["by_role_and_model"][0]["calls"] == spent["calls"]
    assert summary["test"] == read_sealed(done, "result.json")
    assert summary["status"] == "finished: the test split was opened"
    assert say("cost", done, "--json").page["spent"]["calls"] == spent["calls"]
    assert f"{spent['calls']} calls" in say("summary", done).out


async def test_the_seconds_that_the_test_has_taken_count_after_a_restart(toy: Toy, run: Path) -> None:
    def overloaded(text: str) -> None:
        if "[plain]" in text:
            raise ModelFailure("infrastructure", "overloaded", status_code=529)

    seconds = [json.loads((run / "cost.json").read_text())["spent"]["seconds"]]
    with pytest.raises(IncompleteError):
        await finished(run, providers={"target": Watched(answers(toy), overloaded)})
    seconds.append(json.loads((run / "cost.json").read_text())["spent"]["seconds"])
    path = run / "sealed" / "002" / "score.json"
    score = read_sealed(run, "002/score.json")
    assert seconds[0] < score["spent"]["seconds"]
    score["spent"]["seconds"] += 5_000  # as after a long test
    path.write_text(json.dumps(score))
    with Finishing.open(run) as finishing:
        seconds += [score["spent"]["seconds"], finishing.spent.seconds]
    await finished(run)
    seconds.append(json.loads((run / "cost.json").read_text())["spent"]["seconds"])
    assert seconds == sorted(seconds)


def test_what_the_events_say(done: Path) -> None:
    events = [event for event in lines(done / "events.jsonl") if event["kind"] in ("test_opened", "finished")]
    assert [(event["kind"], event["look"]) for event in events] == [("test_opened", 1), ("finished", 1)]
    assert (events[0]["winner"], events[0]["baseline"], events[1]["verdict"]) == (2, 0, "better")


# --- how it is evaluated ----------------------------------------------------------------------------------------

COUNTS = """
class Harness:
    def __init__(self):
        self.asked = 0

    def predict(self, text, model):
        self.asked += 1
        return model.complete(f"[{'good' if self.asked % 2 else 'x'}] {text}").text
"""
LEARNS = """
class Harness:
    def __init__(self):
        self.known = 0

    def learn(self, examples, model):
        self.known += len(examples)

    def predict(self, text, model):
        return model.complete(f"[{'good' if self.known % 2 else 'x'}] {text}").text
"""


async def test_every_case_is_asked_as_often_as_in_the_search(tmp_path: Path) -> None:
    toy = finish_toy(tmp_path / "domain")
    run = await searched_run(toy, tmp_path / "runs", trials=2, limit=5)
    result = await finished(run)
    assert (result.trials, result.cases, result.units) == (2, TEST, TEST)
    assert result.rows[0].planned == 2 * TEST  # a limit of the search does not shorten the test
    assert result.rows[0].objectives["accuracy"].mean == 7 / TEST
    assert len(sealed_prompts(run)) == 2 * 2 * TEST
    assert recorded(run).record.config.limit == 5


def styles(run: Path, number: int) -> list[str]:
    """The styles of the prompts of one candidate, in the order of its traces."""
    found = lines(run / "sealed" / f"{number:03d}" / "eval_trace.jsonl")
    return [line["calls"][0]["request"]["messages"][0]["content"].split("]")[0][1:] for line in found]


@pytest.mark.parametrize("online", [False, True], ids=["order-dependent", "online"])
async def test_what_depends_on_the_order_is_asked_one_after_another(online: bool, tmp_path: Path) -> None:
    source = LEARNS if online else COUNTS
    toy = finish_toy(tmp_path / "domain", baselines={"00_x.py": harness("x")}, proposals={"1_odd.py": source})
    if online:
        path = toy.folder / "domain.py"
        path.write_text(path.read_text().replace('    name = "colours"', '    name = "colours"\n    online = True'))
    toy.write_script([*sealed_rules({"good": range(TEST)}), *rules(SEARCH)])
    run = await searched_run(toy, tmp_path / "runs", concurrency=8)
    asked: list[str] = []
    result = await finished(run, providers={"target": Watched(answers(toy), asked.append)})
    assert result.winner == 1
    assert styles(run, 1) == ["good", "x"] * (TEST // 2)
    assert [text for text in asked if not text.startswith("[x]")] == sealed_prompts(run)[0:TEST:2]
    assert result.rows[0].objectives["accuracy"].mean == 0.5
    assert read_sealed(run, "001/score.json")["order_dependent"] is not online
    assert_asked_once(run)


async def test_a_stop_lets_what_is_in_the_air_end_and_the_test_goes_on(toy: Toy, run: Path) -> None:
    model = Watched(answers(toy), lambda _text: finishing.stop())
    with Finishing.open(run, providers={"target": model}) as finishing:
        assert await finishing.run() is None
    asked = len(sealed_prompts(run))
    assert 1 <= asked <= 4  # as many as were in the air
    assert count_lines(run / "sealed" / "002" / "eval_trace.jsonl") == asked
    assert json.loads((run / "summary.json").read_text())["status"].startswith("the test split was opened;")
    assert json.loads((run / "cost.json").read_text())["spent"]["calls"] == len(prompts(run)) + asked
    with pytest.raises(UsageError, match="the test split of run run was opened") as refused:
        Run.open(run)
    assert f"`metaharness finish --root {run.parent} {run.name}` goes on" in str(refused.value.hint)
    await finished(run)
    assert_asked_once(run)
    assert len(sealed_prompts(run)) == 2 * TEST


async def test_a_candidate_handed_in_by_hand_can_win(tmp_path: Path) -> None:
    toy = finish_toy(tmp_path / "domain", proposals={})
    run = await searched_run(toy, tmp_path / "runs")
    async with Run.open(run) as opened:
        added = await add(opened, Proposal(files={"harness.py": harness("good")}, name="mine"))
    assert added.proposal.by_hand
    result = await finished(run)
    assert (result.winner, result.baseline, result.rows[0].name) == (2, 0, "mine")
