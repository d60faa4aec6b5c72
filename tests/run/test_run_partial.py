"""`Run.evaluate_cases`: some cases of `search`, for programs with a search of their own; what that costs is counted."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest
from run_kit import (
    SYNTAX_ERROR,
    Toy,
    assert_complains,
    assert_nothing_twice,
    count_lines,
    finish,
    harness,
    lines,
    recorded,
    say,
    started,
    wait_until,
    write_toy,
)

from metaharness.errors import ModelFailure, RunLockedError, UsageError
from metaharness.messages import Completion, ModelRequest
from metaharness.run import Run
from metaharness.run.accounts import read_cost
from metaharness.run.partial import PartialEvaluation
from metaharness.run.summaries import read_spent
from metaharness.run.threads import cases_from_threads, open_cases
from metaharness.store import damage_in

CASES = 6
OTHER = harness("other", before="# tried by another program")
LONG = "the old {split} kettle stood on a shelf of oak between two lanterns and nobody knew who had put it there"
ASKED = ["search-04", "search-01", "search-05"]


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """`other` gets all of its six items right, `plain` the first four."""
    return write_toy(tmp_path / "domain", cases=CASES, proposals={"1_good.py": harness("good")})


@pytest.fixture
def path(toy: Toy, tmp_path: Path) -> Path:
    """A run that nobody has searched in yet."""
    run = Run.create(toy.config(), tmp_path / "runs", name="first")
    run.store.close()
    return run.store.path


class Down:
    """A model that does not answer about one item until it is told to."""

    down = True

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        if self.down and "item 01" in str(request.messages[-1].content):
            raise ModelFailure("infrastructure", "down")
        return Completion(text="blue")

    async def aclose(self) -> None:
        """Nothing is open."""


def told(found: PartialEvaluation) -> list[tuple[str, str | None, float | None]]:
    return [(one.case_id, one.status, one.value) for one in found.cases]


async def test_what_was_asked_is_counted_journalled_and_traced_once_and_is_no_iteration(path: Path) -> None:
    async with Run.open(path) as run:
        plain = await run.evaluate_cases(harness("plain"), ASKED)
        assert told(plain) == [("search-04", "ok", 0.0), ("search-01", "ok", 1.0), ("search-05", "ok", 0.0)]
        first = plain.cases[1]
        assert (first.output, first.values["accuracy"], first.values["context_chars"]) == ("green", 1.0, 15.0)
        assert first.trace is not None
        assert first.trace.calls[0].request["messages"][0]["content"] == "[plain] item 01"
        again = await run.evaluate_cases({"harness.py": harness("plain")}, [*ASKED, "search-00"])
        assert told(again) == [*told(plain), ("search-00", "ok", 1.0)]
        assert (again.candidate_hash, again.path) == (plain.candidate_hash, plain.path)
        await run.evaluate_cases(OTHER, ASKED[:1])  # the same question of another candidate is a call of its own
        assert (run.spent.case_evaluations, run.spent.calls, len(run.history)) == (5, 5, 0)
        await run.evaluate_cases(OTHER, ASKED[:1], trial=1)
        assert run.spent.calls == 6
        spent = run.spent
    assert read_spent(recorded(path)).case_evaluations == 6
    assert_nothing_twice(path)
    for number, asked in (("000", 4), ("001", 2)):
        assert len(lines(path / "partial" / number / "eval_trace.jsonl")) == asked
    kinds = Counter(line["kind"] for line in lines(path / "events.jsonl"))
    assert (kinds["partial"], kinds["partial_ended"]) == (4, 4)
    assert list(damage_in(path, deep=True)) == []

    await finish(Run.open(path))  # the search goes on beside it, with the sums of both
    both = read_cost(recorded(path))["spent"]
    assert both["case_evaluations"] == 3 * CASES + spent.case_evaluations
    assert both["calls"] == len(lines(path / "calls.jsonl")) == 3 * CASES + spent.calls


@pytest.mark.parametrize(
    ("source", "stage"),
    [
        (SYNTAX_ERROR, "syntax"),
        ("import no_such_module\n" + OTHER, "import"),
        ("class Other: pass\n", "interface"),
        (harness("other", before=f"TEXT = {LONG.format(split='search')!r}"), "leak"),
        (harness("other", before=f"TEXT = {LONG.format(split='test')!r}"), "leak"),
    ],
)
async def test_what_the_ladder_stops_is_returned(source: str, stage: str, tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    for split in ("search", "test"):
        texts = (LONG.format(split=split), f"another {split} item")
        rows = [{"id": f"{split}-{place}", "text": text, "colour": "red"} for place, text in enumerate(texts)]
        (toy.folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    async with Run.create(toy.config(), tmp_path / "runs") as run:
        found = await run.evaluate_cases(source, run.partial.case_ids[:2])
        assert found.rejection is not None
        assert (found.rejection.stage, list(found.cases)) == (stage, [])
        counted = 0 if stage == "syntax" else 2  # who guesses texts of cases pays for every guess
        assert run.spent.case_evaluations == counted
        assert read_spent(recorded(run.store.path)).case_evaluations == counted


async def test_a_case_that_fails_is_one_result_and_the_others_are_asked(path: Path) -> None:
    raises = harness("other", body="if '04' in text:\n    raise RuntimeError('not this one')")
    async with Run.open(path) as run:
        found = await run.evaluate_cases(raises, ASKED)
    assert found.rejection is None
    assert told(found) == [("search-04", "harness_error", 0.0), ("search-01", "ok", 1.0), ("search-05", "ok", 1.0)]


async def test_what_is_missing_is_missing_and_is_asked_again(path: Path) -> None:
    model = Down()
    async with Run.open(path, providers={"target": model}) as run:
        found = await run.evaluate_cases(OTHER, ASKED)
        assert told(found)[1] == ("search-01", "infrastructure", None)
        model.down = False
        found = await run.evaluate_cases(OTHER, ASKED)
        assert told(found)[1] == ("search-01", "ok", 0.0)
        assert run.spent.case_evaluations == 4


@pytest.mark.parametrize(
    ("case", "message"),
    [("test-00", "there is no search case 'test-00'"), ("train-00", "no search case"), ("x", "no search case 'x'")],
)
async def test_only_cases_of_search_are_asked(case: str, message: str, path: Path) -> None:
    async with Run.open(path) as run:
        with pytest.raises(UsageError, match=message) as refused:
            await run.evaluate_cases(OTHER, ["search-00", case])
        assert "search has 6 in this run" in str(refused.value.hint)
        assert run.spent.case_evaluations == 0


@pytest.mark.parametrize(
    ("budget", "asked", "message"),
    [
        # the sealed test of two candidates takes 6
        ({"case_evaluations": 2 * CASES + 6}, 6, r"case evaluations \(18\).*0 can be used, and 2 are asked"),
        ({"calls": 4}, 2, r"of calls \(4\)"),
        ({"tokens": 75}, 1, r"of tokens \(75\).*no call of these cases fits"),
    ],
)
async def test_a_spent_budget_is_told_by_its_name(
    budget: dict[str, int], asked: int, message: str, toy: Toy, tmp_path: Path
) -> None:
    async with Run.create(toy.config(budget=budget), tmp_path / "runs") as run:
        for trial in range(asked):
            await run.evaluate_cases(OTHER, ["search-00", "search-01"], trial=trial)
        with pytest.raises(UsageError, match=message):
            await run.evaluate_cases(OTHER, ["search-00", "search-01"], trial=asked)
        spent = run.spent
    assert read_spent(recorded(run.store.path)).case_evaluations == spent.case_evaluations


# --- from elsewhere ---------------------------------------------------------------------------------------------


async def test_threads_beside_the_event_loop_evaluate_at_the_same_time(path: Path) -> None:
    async with Run.open(path) as run, cases_from_threads(run) as evaluate_cases:

        def their_search() -> list[PartialEvaluation]:
            sources = [harness("other"), harness("plain"), harness("other")]
            with ThreadPoolExecutor(3) as pool:
                return list(pool.map(evaluate_cases, sources, [ASKED] * 3))

        found = await anyio.to_thread.run_sync(their_search)
        assert [[one.value for one in each.cases] for each in found] == [[1, 1, 1], [0, 1, 0], [1, 1, 1]]
        assert found[0] == found[2]
        assert (run.spent.case_evaluations, run.spent.calls) == (6, 6)


def test_a_program_without_an_event_loop_records_the_run_in_a_thread(path: Path) -> None:
    with open_cases(path) as evaluate_cases:
        assert told(evaluate_cases(OTHER, ["search-03"])) == [("search-03", "ok", 1.0)]
        with pytest.raises(UsageError, match="no search case"):
            evaluate_cases(OTHER, ["test-00"])
        with pytest.raises(RunLockedError), open_cases(path, wait=0):
            pass
    assert read_spent(recorded(path)).calls == 1


def test_another_process_takes_its_turn(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OTHER)
    cases = [part for case in ASKED for part in ("--case", case)]
    with ExitStack() as stack:
        with open_cases(path) as evaluate_cases:
            process = stack.enter_context(started("evaluate-cases", path, file, *cases, "--json"))
            assert process.stderr is not None
            assert "waiting for the run, which is recorded by process" in process.stderr.readline()
            evaluate_cases(file, ASKED[:2])
        out, _ = process.communicate(timeout=60)
    page = json.loads(out)
    assert [(one["case_id"], one["value"], one["trace"]["status"]) for one in page["cases"]] == [
        (case, 1.0, "ok") for case in ASKED
    ]
    assert len(lines(path / "calls.jsonl")) == 3, "what the first process has asked is known"


def test_killed_in_the_middle_no_completed_call_is_repeated(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=12, delay_ms=20)
    run = Run.create(toy.config(concurrency=1), tmp_path / "runs", name="first")
    path, cases = run.store.path, run.partial.case_ids
    run.store.close()
    file = tmp_path / "mine.py"
    file.write_text(OTHER)
    asking = ["evaluate-cases", path, file, *(part for case in cases for part in ("--case", case))]
    with started(*asking) as process:
        assert wait_until(process, lambda: count_lines(path / "calls.jsonl") > 3)
        process.kill()
        process.wait()
    kept = [line["key"] for line in lines(path / "calls.jsonl")]
    assert len(kept) < 12
    page = say(*asking, "--json").page
    assert {one["status"] for one in page["cases"]} == {"ok"}
    assert [line["key"] for line in lines(path / "calls.jsonl")][: len(kept)] == kept
    assert count_lines(path / "calls.jsonl") == 12
    assert_nothing_twice(path)
    again = Run.open(path)
    again.store.close()
    assert again.spent.case_evaluations == read_spent(recorded(path)).case_evaluations > 12


def test_the_command_says_what_the_ladder_stops(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SYNTAX_ERROR)
    said = say("evaluate-cases", path, file, "--case", "search-05")
    assert_complains(said, 3, "does not pass the ladder at syntax", "mend it")
    file.write_text(harness("plain"))
    said = say("evaluate-cases", path, file, "--case", "search-05")
    assert said.code == 0, said.err
    assert said.out.splitlines()[1].split() == ["search-05", "ok", "0", "grey"]
