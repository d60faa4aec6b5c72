"""Whole evaluations: trials, learning, online domains, order, stopping, and the same traces at any concurrency."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import anyio
import pytest
from evaluation_kit import LETTERS, Capitals, Failing, Letters, Outcome, guilty, harness, lab, same_but_for_times

from metaharness.domain import GradeContext
from metaharness.errors import ModelFailure
from metaharness.gateway.text import last_user_text
from metaharness.messages import Completion, ModelRequest
from metaharness.records import LEARN, CaseTrace, Limits

LEARNING = """
    self.count = getattr(self, 'count', 0) + 1
    self.seen = [model.complete(f'remember {example.text}').text for example in examples]
    print('learned', len(examples))
"""
BUSY = """
    parts = model.complete_many([text, text, text + ' and ' + self.seen[0]])
    if text == 'd':
        raise ValueError(parts[2].text)
    return [part.text for part in parts] + [model.random.random(), sorted({'x', 'y', text})]
"""


def thoughtful(request: ModelRequest) -> Completion:
    """Answers that depend on the request alone, some of them failures."""
    text = last_user_text(request)
    if text == "e":
        raise ModelFailure("refused", "not e")
    return Completion(text=hashlib.sha256(text.encode()).hexdigest()[:8])


async def test_concurrency_makes_no_difference_but_in_time(tmp_path: Path) -> None:
    found = [
        await lab(
            tmp_path / str(concurrency),
            harness(BUSY, learn=LEARNING),
            model=Capitals(thoughtful),
            concurrency=concurrency,
            trials=2,
        ).run()
        for concurrency in (1, 3, 32)
    ]
    one, three, many = (same_but_for_times(outcome.attempts) for outcome in found)
    assert one == three
    assert one == many
    assert len(one) == 2 * (1 + len(LETTERS))
    assert found[0].workers < found[1].workers <= found[2].workers
    assert found[0]["d"].status == "harness_error"
    assert found[0]["e"].status == "refused"


async def test_sets_have_one_order_in_every_worker(tmp_path: Path) -> None:
    """Else a prompt made from one differs between workers, and between a run and its repetition."""
    source = harness("return ' '.join({'one', 'two', 'three', 'four', 'five'})")
    outcome = await lab(tmp_path, source, concurrency=4).run()
    assert outcome.workers > 1
    assert len(set(outcome.outputs.values())) == 1


async def test_memory_for_a_harness_is_beside_what_its_open_cases_take(tmp_path: Path) -> None:
    """Thirty-two threads take as much address space as the harness may; no worker is lost for that."""
    source = guilty("bytearray(1 << 30)")
    small = lab(tmp_path, source, Letters(limits=Limits(memory_mb=256)), concurrency=32)
    outcome = await small.run()
    assert outcome.statuses == dict.fromkeys(LETTERS, "ok") | {"c": "harness_error"}
    assert "MemoryError" in (outcome["c"].error or "")
    assert outcome.workers == min(os.cpu_count() or 1, len(LETTERS)), "none had to be started anew"


# --- trials -----------------------------------------------------------------------------------------------------


async def test_a_trial_has_a_fresh_worker_and_learns_anew(tmp_path: Path) -> None:
    source = harness(
        "Harness.answered += 1\nreturn [self.count, Harness.answered]",
        learn="self.count = getattr(self, 'count', 0) + 1",
    ).replace("class Harness:\n", "class Harness:\n    answered = 0\n")
    outcome = await lab(tmp_path, source, Letters("abc"), trials=3, concurrency=1).run()
    assert outcome.workers == 3
    for trial in range(3):
        cases = {trace.case_id: trace.output for trace in outcome.attempts if trace.trial == trial}
        assert cases == {LEARN: None, "a": [1, 1], "b": [1, 2], "c": [1, 3]}


async def test_calls_of_another_trial_are_calls_of_their_own(tmp_path: Path) -> None:
    model = Capitals()
    source = harness("return model.complete(text).text", learn="model.complete('learning')")
    await lab(tmp_path, source, Letters("ab"), model=model, trials=3).run()
    assert model.texts == ["a"] * 3 + ["b"] * 3 + ["learning"] * 3


async def test_what_a_trial_lost_is_not_lost_in_the_next(tmp_path: Path) -> None:
    source = guilty("if model.random.random() < 2 and not hasattr(self, 'x'): import os; os._exit(1)")
    outcome = await lab(tmp_path, source, trials=2).run()
    assert len(outcome.attempts) == 2 * (1 + len(LETTERS))
    failed = [(trace.case_id, trace.trial) for trace in outcome.attempts if trace.status != "ok"]
    assert failed == [("c", 0), ("c", 1)]


# --- learning ---------------------------------------------------------------------------------------------------


async def test_learn_is_traced_once_with_its_calls_however_many_workers_learn(tmp_path: Path) -> None:
    model = Capitals()
    source = harness("return self.seen[0]", learn=LEARNING)
    outcome = await lab(tmp_path, source, model=model, concurrency=32).run()
    learned = [trace for trace in outcome.attempts if trace.case_id == LEARN]
    assert [(trace.status, trace.stdout_tail, len(trace.calls)) for trace in learned] == [("ok", "learned 6\n", 6)]
    assert model.texts == sorted(f"remember {letter}" for letter in LETTERS)
    assert set(outcome.outputs.values()) == {"REMEMBER A"}


async def test_learn_sees_the_labels_and_predict_does_not(tmp_path: Path) -> None:
    source = harness(
        "return [self.examples, text]",
        learn="self.examples = [repr(example) for example in examples] + [len({*examples, *examples})]",
    )
    outcome = await lab(tmp_path, source, Letters("ab")).run()
    examples = ["LabeledExample(text='a', label='A')", "LabeledExample(text='b', label='B')", 2]
    assert outcome.outputs == {"a": [examples, "a"], "b": [examples, "b"]}


async def test_a_harness_without_learn_is_not_taught(tmp_path: Path) -> None:
    outcome = await lab(tmp_path, harness("return text"), Letters("a")).run()
    assert outcome.learned[0].status == "ok"
    assert outcome.learned[0].calls == []


# --- online domains ---------------------------------------------------------------------------------------------

ONLINE = harness(
    "return list(self.seen)",
    learn="""
        self.seen = getattr(self, 'seen', []) + [example.label for example in examples]
        model.complete(f'learning {len(self.seen)}')
    """,
)


async def test_an_online_harness_learns_after_each_answer_in_a_fixed_order(tmp_path: Path) -> None:
    domain = Letters("abcd", online=True)
    outcome = await lab(tmp_path, ONLINE, domain, serial=True, concurrency=32, trials=2).run()
    known = list("ABCD")
    for trial in range(2):
        found = {trace.case_id: trace for trace in outcome.attempts if trace.trial == trial}
        assert [found[letter].output for letter in "abcd"] == [known + known[:n] for n in range(4)]
        assert [call.request["messages"][0]["content"] for call in found[LEARN].calls] == [
            f"learning {n}" for n in range(4, 9)
        ]
    assert outcome.workers == 2


async def test_an_online_harness_that_fails_to_learn_has_failed_the_rest(tmp_path: Path) -> None:
    source = ONLINE + "        if len(self.seen) == 6: raise ValueError('full')\n"
    outcome = await lab(tmp_path, source, Letters("abcd", online=True), serial=True).run()
    assert outcome.statuses == {"a": "ok", "b": "ok", "c": "harness_error", "d": "harness_error"}
    assert outcome.learned[0].status == "harness_error"
    assert "full" in (outcome["d"].error or "")


async def test_an_online_harness_whose_learning_is_missing_has_missing_data(tmp_path: Path) -> None:
    model = Failing("learning 6", ModelFailure("infrastructure", "down"))
    outcome = await lab(tmp_path, ONLINE, Letters("abcd", online=True), serial=True, model=model).run()
    assert outcome.statuses == {"a": "ok", "b": "ok", "c": "infrastructure", "d": "infrastructure"}
    assert outcome.learned[0].status == "infrastructure"


# --- order ------------------------------------------------------------------------------------------------------


async def test_a_serial_plan_is_asked_in_its_order_by_one_worker(tmp_path: Path) -> None:
    source = harness("self.n = getattr(self, 'n', 0) + 1\nreturn self.n")
    outcome = await lab(tmp_path, source, Letters("gcadbfe"), serial=True, concurrency=32).run()
    assert [(trace.case_id, trace.output) for trace in outcome.attempts[1:]] == [
        (letter, place) for place, letter in enumerate("gcadbfe", start=1)
    ]
    assert outcome.workers == 1


async def test_traces_come_as_the_cases_end(tmp_path: Path) -> None:
    first = anyio.Event()

    async def answer(request: ModelRequest) -> Completion:
        if last_user_text(request) == "a":
            await first.wait()
        return Completion(text="")

    outcome = Outcome()

    def listen(trace: CaseTrace) -> None:
        outcome.attempts.append(trace)
        if len(outcome.attempts) == 4:
            first.set()

    with anyio.fail_after(30):
        await lab(tmp_path, harness(), Letters("abcd"), model=Capitals(answer)).run(listen=listen)
    assert outcome.attempts[-1].case_id == "a"


# --- grading ----------------------------------------------------------------------------------------------------


class Looking:
    """Grades by everything it may look at."""

    async def grade(self, context: GradeContext) -> float:
        assert context.case.tags == ("letter",)
        assert context.files is None
        assert context.judge is None
        assert context.output == context.case.expected
        return context.trial / 4 + len(context.calls) / 8


async def test_an_evaluator_sees_the_case_the_answer_the_calls_and_the_trial(tmp_path: Path) -> None:
    outcome = await lab(tmp_path, harness(), Letters("ab", evaluator=Looking()), trials=2).run()
    grades = {(trace.case_id, trace.trial): trace.grades[0].value for trace in outcome.attempts if trace.grades}
    assert grades == {("a", 0): 0.125, ("b", 0): 0.125, ("a", 1): 0.375, ("b", 1): 0.375}


# --- stopping ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_stop_starts_no_case_and_ends_the_open_ones(tmp_path: Path, concurrency: int) -> None:
    stopping: list[bool] = []

    def answer(request: ModelRequest) -> Completion:
        stopping.append(True)
        return Completion(text=last_user_text(request).upper())

    stopped = lab(
        tmp_path,
        harness(),
        model=Capitals(answer),
        concurrency=concurrency,
        trials=2,
        stop=lambda: bool(stopping),
    )
    outcome = await stopped.run()
    assert 1 <= len(outcome.traces) <= concurrency
    assert set(outcome.statuses.values()) == {"ok"}
    assert {trace.trial for trace in outcome.attempts} == {0}


async def test_a_stop_leaves_suspects_to_be_asked_another_time(tmp_path: Path) -> None:
    dead: list[bool] = []

    def listen(trace: CaseTrace) -> None:
        dead.append(trace.case_id == "b")

    stopped = lab(tmp_path, guilty("import os; os._exit(1)"), concurrency=1, stop=lambda: any(dead))
    outcome = await stopped.run(listen=listen)
    assert outcome.statuses == {"a": "ok", "b": "ok"}


async def test_nothing_is_started_when_it_is_stopped_before(tmp_path: Path) -> None:
    outcome = await lab(tmp_path, harness(), stop=lambda: True).run()
    assert outcome.attempts == []
    assert outcome.workers == 0
