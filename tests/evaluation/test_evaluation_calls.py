"""Calls of the model: whose they are, what they carry, when they count, and what the clock does meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from evaluation_kit import LETTERS, Capitals, Letters, harness, lab

from metaharness.gateway.providers.scripted import ScriptedProvider
from metaharness.gateway.text import last_user_text
from metaharness.messages import Completion, ModelRequest, ToolCall
from metaharness.records import LEARN, Limits

SHORT = Limits(case_seconds=0.3, learn_seconds=0.3)


class Together(Capitals):
    """A model that answers only when so many calls are in the air at the same time."""

    def __init__(self, calls: int) -> None:
        super().__init__(self._wait)
        self._calls = calls
        self._all_here = anyio.Event()
        self._here = 0

    async def _wait(self, request: ModelRequest) -> Completion:
        self._here += 1
        if self._here >= self._calls:
            self._all_here.set()
        await self._all_here.wait()
        return Completion(text=last_user_text(request).upper())


class Counting(Capitals):
    """A model that answers with the number of the call."""

    def __init__(self) -> None:
        super().__init__(lambda _request: Completion(text=str(len(self.requests))))


# --- the clock --------------------------------------------------------------------------------------------------


async def test_waiting_for_the_model_takes_no_time_of_the_case(tmp_path: Path) -> None:
    model = ScriptedProvider([{"text": "A", "delay_ms": 700}])
    source = harness("return model.complete(text).text", learn="model.complete('learning')")
    outcome = await lab(tmp_path, source, Letters("a", limits=SHORT), model=model).run()
    assert outcome.statuses == {"a": "ok"}
    assert outcome.learned[0].status == "ok"


async def test_the_time_between_calls_adds_up(tmp_path: Path) -> None:
    source = harness("""
        import time
        for _ in range(1000):
            time.sleep(0.01)
            model.complete(text)
    """)
    outcome = await lab(tmp_path, source, Letters("a", limits=SHORT)).run()
    assert outcome.statuses == {"a": "timeout"}
    assert 0 < len(outcome["a"].calls) < 1000


async def test_the_clock_stands_still_while_one_of_several_calls_waits(tmp_path: Path) -> None:
    model = ScriptedProvider([{"contains": "slow", "text": "late", "delay_ms": 700}, {"text": "soon"}])
    source = harness("return [answer.text for answer in model.complete_many(['slow', 'quick', 'quick'])]")
    outcome = await lab(tmp_path, source, Letters("a", limits=SHORT), model=model).run()
    assert outcome.outputs == {"a": ["late", "soon", "soon"]}


# --- several calls at the same time -----------------------------------------------------------------------------

MANY = "return ''.join(answer.text for answer in model.complete_many([text + n for n in '12345']))"
GATHER = """
    import asyncio
    answers = await asyncio.gather(*(model.acomplete(text + n) for n in '12345'))
    return ''.join(answer.text for answer in answers)
"""
THREADS = """
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(5) as pool:
        return ''.join(pool.map(lambda n: model.complete(text + n).text, '12345'))
"""


@pytest.mark.parametrize(
    ("predict", "is_async"), [(MANY, False), (GATHER, True), (THREADS, False)], ids=["many", "gather", "threads"]
)
async def test_a_case_may_have_several_calls_in_the_air(tmp_path: Path, predict: str, is_async: bool) -> None:
    source = harness(predict)
    if is_async:
        source = source.replace("def predict", "async def predict")
    with anyio.fail_after(30):
        outcome = await lab(tmp_path, source, Letters("ab"), model=Together(10), concurrency=10).run()
    assert outcome.outputs == {letter: "".join(letter.upper() + n for n in "12345") for letter in "ab"}
    assert {call.request["messages"][0]["content"] for call in outcome["a"].calls} == {f"a{n}" for n in "12345"}


async def test_calls_made_in_order_are_traced_in_that_order(tmp_path: Path) -> None:
    model = ScriptedProvider([{"contains": "1", "text": "first", "delay_ms": 50}, {"text": "other"}])
    outcome = await lab(tmp_path, harness(MANY), Letters("a"), model=model).run()
    assert [call.request["messages"][0]["content"] for call in outcome["a"].calls] == [f"a{n}" for n in "12345"]


async def test_complete_many_waits_for_all_before_it_fails(tmp_path: Path) -> None:
    source = harness("""
        try:
            model.complete_many([text, object(), text])
        except TypeError:
            return model.complete('later').text
    """)
    model = Together(1)
    outcome = await lab(tmp_path, source, Letters("a"), model=model).run()
    assert outcome.outputs == {"a": "LATER"}
    assert model.texts == ["a", "later"], "what had been sent was not left in the air"


async def test_an_async_learn_and_an_awaitable_answer_are_waited_for(tmp_path: Path) -> None:
    source = """
        class Harness:
            async def learn(self, examples, model):
                self.seen = (await model.acomplete(f"seen {len(examples)}")).text

            def predict(self, text, model):
                async def answer():
                    return self.seen + (await model.acomplete(text)).text
                return answer()
    """
    outcome = await lab(tmp_path, source, Letters("ab")).run()
    assert outcome.outputs == {"a": "SEEN 2A", "b": "SEEN 2B"}


# --- identity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "predict",
    [
        "return [model.complete('same').text for _ in range(5)]",
        "return [answer.text for answer in model.complete_many(['same'] * 5)]",
    ],
    ids=["one after another", "at once"],
)
async def test_five_identical_samples_are_five_calls_also_when_replayed(tmp_path: Path, predict: str) -> None:
    first = lab(tmp_path, harness(predict), Letters("a"), model=Counting())
    outcome = await first.run()
    assert sorted(outcome.outputs["a"]) == ["1", "2", "3", "4", "5"]
    assert [call.ordinal for call in outcome["a"].calls] == [0, 1, 2, 3, 4]
    again = lab(tmp_path, harness(predict), Letters("a"), model=Counting(), journal=first.journal)
    assert (await again.run()).outputs == outcome.outputs
    assert again.model.requests == []  # type: ignore[attr-defined]


async def test_cases_that_ask_the_same_get_answers_of_their_own(tmp_path: Path) -> None:
    outcome = await lab(tmp_path, harness("return model.complete('same').text"), model=Counting()).run()
    assert sorted(map(int, outcome.outputs.values())) == list(range(1, len(LETTERS) + 1))


async def test_every_call_says_whose_it_is_from_any_thread(tmp_path: Path) -> None:
    source = harness(THREADS, learn="model.complete('learning')")
    outcome = await lab(tmp_path, source, concurrency=16, trials=2).run()
    for entry in outcome.journal.entries:
        text = entry.call.request["messages"][0]["content"]
        assert entry.attribution.case_id == (LEARN if text == "learning" else text[0])
        assert entry.attribution.role == "target"
    assert sorted(entry.attribution.trial for entry in outcome.journal.entries) == [0] * 31 + [1] * 31


async def test_a_completed_call_is_not_paid_again_when_its_case_is_asked_again(tmp_path: Path) -> None:
    source = harness("""
        answer = model.complete(text).text
        if text == 'c':
            import os
            os._exit(1)
        return answer
    """)
    model = Capitals()
    outcome = await lab(tmp_path, source, model=model, concurrency=1).run()
    assert model.texts == list(LETTERS)
    assert outcome["c"].status == "harness_error"
    assert outcome["c"].calls[0].response is not None


# --- what a call carries ----------------------------------------------------------------------------------------


async def test_blocks_tools_and_every_parameter_reach_the_model_as_sent(tmp_path: Path) -> None:
    source = harness("""
        answer = model.complete(
            [
                {"role": "user", "content": [{"type": "text", "text": text}]},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "add", "input": {"x": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "2"}]},
            ],
            system="Add.",
            tools=({"name": "add", "description": "adds", "input_schema": {"type": "object"}},),
            response_format={"type": "json_object"},
            max_tokens=7,
            temperature=0.5,
            top_k=3,
        )
        return [answer.text, answer.tool_calls, answer.stop_reason, answer.usage, answer.model]
    """)

    def call_tool(_request: ModelRequest) -> Completion:
        calls = [ToolCall(id="2", name="add", input={"x": [1, None]})]
        return Completion(text="adding", tool_calls=calls, stop_reason="tool_use", model="a model")

    model = Capitals(call_tool)
    outcome = await lab(tmp_path, source, Letters("a"), model=model).run()
    request = model.requests[0]
    assert request.messages[1].content[0]["input"] == {"x": 1}  # type: ignore[index]
    assert request.model_dump(exclude={"messages"}) == {
        "system": "Add.",
        "tools": [{"name": "add", "description": "adds", "input_schema": {"type": "object"}}],
        "response_format": {"type": "json_object"},
        "max_tokens": 7,
        "temperature": 0.5,
        "extra": {"top_k": 3},
    }
    counted = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
    usage = {f"{kind}_tokens": 0 for kind in counted}
    assert outcome.outputs["a"] == [
        "adding",
        [{"id": "2", "name": "add", "input": {"x": [1, None]}}],
        "tool_use",
        usage,
        "a model",
    ]
    assert outcome["a"].calls[0].request == request.model_dump(exclude_none=True)


async def test_text_that_is_no_unicode_reaches_the_model_replaced(tmp_path: Path) -> None:
    outcome = await lab(tmp_path, harness(r"return model.complete('\ud800' + text).text"), Letters("a")).run()
    assert outcome.outputs == {"a": "\ufffdA"}


async def test_what_is_redacted_is_in_no_call_and_reaches_no_harness(tmp_path: Path) -> None:
    model = Capitals(lambda _request: Completion(text="the secret is out"))
    source = harness("return model.complete('a secret').text")
    changed = lab(tmp_path, source, Letters("a"), model=model, redact=lambda text: text.replace("secret", "***"))
    outcome = await changed.run()
    assert outcome.outputs == {"a": "the *** is out"}
    assert "secret" not in str(outcome["a"].calls) + str(outcome.journal.entries)


# --- limits -----------------------------------------------------------------------------------------------------


async def test_calls_beyond_the_limit_of_a_case_are_told_and_traced_once(tmp_path: Path) -> None:
    source = harness("""
        kinds = []
        for _ in range(10):
            try:
                kinds.append(model.complete(text).text)
            except Exception as error:
                kinds.append(error.kind)
        return kinds
    """)
    outcome = await lab(tmp_path, source, Letters("ab", limits=Limits(calls_per_case=3))).run()
    assert outcome.outputs["a"] == ["A"] * 3 + ["limit"] * 7
    assert outcome["a"].status == "ok"
    assert [call.error.kind if call.error else None for call in outcome["a"].calls] == [None, None, None, "limit"]


async def test_a_case_that_does_not_stop_calling_is_ended(tmp_path: Path) -> None:
    source = harness("""
        while text == 'b':
            try:
                model.complete(text)
            except Exception:
                pass
        return text.upper()
    """)
    outcome = await lab(tmp_path, source, Letters("abc", limits=Limits(calls_per_case=3))).run()
    assert outcome.statuses == {"a": "ok", "b": "harness_error", "c": "ok"}
    assert "went on calling the model after the 3 calls" in (outcome["b"].error or "")
    assert len(outcome["b"].calls) == 4


async def test_an_uncaught_limit_is_a_harness_error(tmp_path: Path) -> None:
    source = harness("return [model.complete(text).text for _ in range(2)]")
    outcome = await lab(tmp_path, source, Letters("a", limits=Limits(calls_per_case=1))).run()
    assert outcome.statuses == {"a": "harness_error"}


# --- after the end ----------------------------------------------------------------------------------------------


async def test_the_model_of_a_case_is_closed_when_the_case_has_ended(tmp_path: Path) -> None:
    source = harness("""
        kept = getattr(self, 'kept', None)
        self.kept = model
        if kept is None:
            return 'first'
        try:
            return kept.complete(text).text
        except Exception as error:
            return error.kind
    """)
    model = Capitals()
    outcome = await lab(tmp_path, source, Letters("ab"), serial=True, model=model).run()
    assert outcome.outputs == {"a": "first", "b": "closed"}
    assert model.requests == []


async def test_a_call_that_is_left_in_the_air_ends_with_its_case(tmp_path: Path) -> None:
    source = harness(
        """
        if text == 'b':
            self.thread.join()
            return self.ended
        self.thread = threading.Thread(target=self.ask, args=(model,))
        self.thread.start()
        model.complete('something else')
        return 'first'
        """,
        before="import threading",
    )
    source += """
    def ask(self, model):
        try:
            model.complete('never')
        except Exception as error:
            self.ended = error.kind
"""

    async def answer(request: ModelRequest) -> Completion:
        if last_user_text(request) == "never":
            await anyio.sleep_forever()
        return Completion(text="")

    with anyio.fail_after(30):
        outcome = await lab(tmp_path, source, Letters("ab"), serial=True, model=Capitals(answer)).run()
    assert outcome.outputs == {"a": "first", "b": "closed"}
    assert [call.request["messages"][0]["content"] for call in outcome["a"].calls] == ["something else"]
    assert outcome["b"].calls == []


# --- chance -----------------------------------------------------------------------------------------------------


async def test_chance_is_the_same_for_a_seed_a_case_and_a_trial(tmp_path: Path) -> None:
    source = harness("return model.random.random()", learn="self.learned = model.random.random()")
    other = harness("return [model.random.random(), self.learned][0]", learn="self.learned = model.random.random()")

    async def drawn(source: str, seed: int, concurrency: int) -> dict[tuple[str, int], Any]:
        chosen = lab(tmp_path, source, Letters("ab"), seed=seed, concurrency=concurrency, trials=2)
        return {(trace.case_id, trace.trial): trace.output for trace in (await chosen.run()).attempts}

    first = await drawn(source, 1, 1)
    assert first == await drawn(source, 1, 32)
    assert first == await drawn(other, 1, 4), "every candidate has the same luck"
    values = [value for (case_id, _), value in first.items() if case_id != LEARN]
    assert len(set(values)) == 4, "another case and another trial have another"
    second = await drawn(source, 2, 4)
    assert not set(values) & set(second.values())


# --- what is printed --------------------------------------------------------------------------------------------


async def test_what_a_case_prints_is_its_own_and_only_the_end_is_kept(tmp_path: Path) -> None:
    source = harness("""
        import os, sys
        print('x' * 5000 if text == 'c' else 'saying ' + text)
        print('to stderr', file=sys.stderr, flush=True)
        sys.stdout.writelines(['by lines'])
        os.write(1, b'around')
        return text.upper()
    """)
    outcome = await lab(tmp_path, source, concurrency=32).run()
    assert outcome["a"].stdout_tail == "saying a\nto stderr\nby lines"
    assert len(outcome["c"].stdout_tail) == 4000
    assert outcome["c"].stdout_tail.endswith("x\nto stderr\nby lines")
