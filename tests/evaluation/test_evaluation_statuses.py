"""How a case ends: every status, and that a harness cannot talk itself into one."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from evaluation_kit import QUICK, Capitals, Failing, Letters, guilty, harness, lab

from metaharness.configuration import Budget
from metaharness.domain import Grade, GradeContext
from metaharness.errors import ConfigurationError, DomainError, ModelFailure, SandboxError, StoreError
from metaharness.gateway import MemoryJournal
from metaharness.gateway.providers.scripted import ScriptedProvider
from metaharness.messages import Completion
from metaharness.records import JournalEntry, Limits

OTHERS = dict.fromkeys("abdef", "ok")


async def test_an_answered_case_is_ok_and_graded(tmp_path: Path) -> None:
    outcome = await lab(tmp_path, harness("return model.complete(text).text if text != 'a' else 'wrong'")).run()
    assert set(outcome.statuses.values()) == {"ok"}
    assert [trace.grades[0].value for trace in (outcome["a"], outcome["b"])] == [0.0, 1.0]
    assert outcome["b"].input == "b"
    assert outcome["b"].expected == "B"
    assert outcome["b"].group == "group of b"


# --- harness_error ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "message"),
    [
        ("raise RuntimeError('not today')", "RuntimeError: not today"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("return object()", "not JSON serializable"),
        ("return {'a', 'b'}", "not JSON serializable"),
        ("return float('nan')", "Out of range float"),
        ("return [1e308 * 10]", "Out of range float"),
        ("return 10 ** 5000", "Exceeds the limit"),
        ("x = []; x.append(x); return x", "Circular reference"),
        ("return 'x' * (1 << 20)", "the answer has 1,048,578 bytes".replace(",", "")),
        ("x = []\nfor _ in range(100): x = [x]\nreturn x", "nested deeper than 100 levels"),
        ("return [0] * 300_000", "the answer has 300000 values; at most 200000 fit"),
        ("model.complete('x', extra=[{}] * 200_000)", "the request has"),
        ("import missing_module", "No module named 'missing_module'"),
        ("assert model.complete(text).text == 'no'", "AssertionError"),
        ("bytearray(1 << 34)", "MemoryError"),
        ("def f(): f()\nf()", "RecursionError"),
    ],
)
async def test_what_a_harness_does_wrong_is_a_harness_error_of_that_case(
    tmp_path: Path, deed: str, message: str
) -> None:
    outcome = await lab(tmp_path, guilty(deed)).run()
    assert outcome.statuses == OTHERS | {"c": "harness_error"}
    assert message in (outcome["c"].error or "")
    assert outcome["c"].output is None
    assert outcome["c"].grades == []


VALUES = """
    from decimal import Decimal
    class Long:
        def __repr__(self): return "long " * 100
    class Deceiving:
        def __repr__(self):
            class Text(str):
                def __getitem__(self, place): raise SystemExit
                def __len__(self): raise SystemExit
                def __add__(self, other): raise SystemExit
                def __radd__(self, other): raise SystemExit
                def __str__(self): raise SystemExit
            return Text("a text of its own")
    class Silent:
        def __repr__(self): raise SystemExit
    class Numeric:
        def __repr__(self): return 7
"""
NO_JSON = {
    "{'amount': Decimal('1.50')}": "{'amount': Decimal('1.50')}",
    "float('nan')": "nan",
    "{(1, 2): 3}": "{(1, 2): 3}",
    "Long()": "long " * 40 + "...",
    "Deceiving()": "a text of its own",
    "Silent()": "something that cannot be shown",
    "Numeric()": "something that cannot be shown",
}


@pytest.mark.parametrize("value", NO_JSON)
async def test_an_answer_that_is_no_json_is_shown_in_one_line(tmp_path: Path, value: str) -> None:
    outcome = await lab(tmp_path, guilty(f"return {value}", before=VALUES)).run()
    assert outcome.statuses == OTHERS | {"c": "harness_error"}
    error = outcome["c"].error or ""
    assert error.startswith(f"predict returned {NO_JSON[value]}: an answer must be a JSON value (")
    assert "encoder" not in error
    assert "\n" not in error


@pytest.mark.parametrize("value", NO_JSON)
async def test_a_request_that_is_no_json_is_shown_to_the_harness(tmp_path: Path, value: str) -> None:
    deed = f"try: model.complete([], system={value})\nexcept Exception as error: return [error.kind, str(error)]"
    outcome = await lab(tmp_path, guilty(deed, before=VALUES)).run()
    assert outcome.statuses == OTHERS | {"c": "ok"}
    kind, said = outcome.outputs["c"]
    assert kind == "refused"
    assert said.startswith("the request cannot be sent: ")
    assert "a request must be a JSON value (" in said
    assert len(said) < 400


@pytest.mark.parametrize(
    ("deed", "answer"),
    [
        ("return 'x' * ((1 << 20) - 2)", "x" * ((1 << 20) - 2)),
        ("x = 1\nfor _ in range(100): x = [x]\nreturn str(len(repr(x)))", "201"),
        ("return ('a', {1: None, 'b': 1.5})", ["a", {"1": None, "b": 1.5}]),
        ("return '\\ud83d lone, \\U0001F600 pair'", "\ufffd lone, \U0001f600 pair"),
        ("return None", None),
        ("return '[{, ' * 200_000", "[{, " * 200_000),
        ("return 2 ** 100", 2**100),
    ],
)
async def test_any_json_up_to_the_limits_is_an_answer(tmp_path: Path, deed: str, answer: Any) -> None:
    outcome = await lab(tmp_path, guilty(deed)).run()
    assert outcome["c"].status == "ok"
    assert outcome["c"].output == answer
    assert "c" in outcome["c"].model_dump_json()


async def test_an_answer_at_the_depth_limit_can_be_written_to_disk(tmp_path: Path) -> None:
    outcome = await lab(tmp_path, guilty("x = '\\ud800'\nfor _ in range(100): x = [x]\nreturn x")).run()
    assert outcome["c"].status == "ok"
    assert outcome["c"].model_dump_json().count("[") >= 100


@pytest.mark.parametrize(
    "deed",
    [
        "raise Unprintable",
        "raise Unformattable",
        "raise ModelError(object(), 'an odd kind')",
        "raise ModelError('refused', 'nobody has refused anything')",
        "raise ModelError('infrastructure', 'nothing has failed')",
        "raise ModelError('budget', 'nothing is spent')",
        "return Changing(a=1)",
        "return type('Odd', (), {'__await__': 1})()",
    ],
)
async def test_a_deceiving_exception_or_answer_is_a_harness_error_and_never_missing(tmp_path: Path, deed: str) -> None:
    before = """
        from metaharness.harness import ModelError
        class Unprintable(Exception):
            def __str__(self): raise SystemExit
        class Unformattable(Exception):
            @property
            def __cause__(self): raise SystemExit
        class Changing(dict):
            def items(self): raise SystemExit
    """
    outcome = await lab(tmp_path, guilty(deed, before=before)).run()
    assert outcome.statuses == OTHERS | {"c": "harness_error"}


async def test_the_error_is_the_candidates_own_traceback(tmp_path: Path) -> None:
    source = {
        "harness.py": harness("return helper.work(text, model)", before="import helper"),
        "helper.py": """
            def work(text, model):
                try:
                    model.complete(text, temperature=object())
                except Exception as error:
                    raise ValueError("from the helper") from error
        """,
    }
    outcome = await lab(tmp_path, source).run()
    error = outcome["a"].error or ""
    assert error.rstrip().endswith("ValueError: from the helper")
    assert '  File "harness.py", line 4, in predict\n' in error
    assert '  File "helper.py", line 6, in work\n' in error
    assert "model.complete(text, temperature=object())" in error, "the cause is shown with its line"
    assert "metaharness worker" not in error
    assert str(tmp_path) not in error


async def test_the_traceback_of_an_async_harness_begins_in_the_harness(tmp_path: Path) -> None:
    source = harness("raise RuntimeError('later')").replace("def predict", "async def predict")
    error = (await lab(tmp_path, source).run())["a"].error or ""
    assert error.splitlines()[1] == '  File "harness.py", line 4, in predict'


async def test_an_exception_in_learn_fails_every_case(tmp_path: Path) -> None:
    outcome = await lab(tmp_path, harness(learn="raise RuntimeError('cannot learn')")).run()
    assert set(outcome.statuses.values()) == {"harness_error"}
    assert outcome.learned[0].status == "harness_error"
    assert "in learn" in (outcome.learned[0].error or "")
    assert all("cannot learn" in (trace.error or "") for trace in outcome.attempts)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import missing_module\n", "No module named 'missing_module'"),
        ("def predict(): return 1\n", "no class Harness"),
        ("class Harness: pass\n", "no method predict"),
        (harness() + "    def __init__(self): raise RuntimeError('not built')\n", "not built"),
        ("import os; os._exit(4)\n", "the worker died (exit status 4)"),
    ],
)
async def test_without_the_ladder_a_harness_that_cannot_be_loaded_fails_every_case(
    tmp_path: Path, source: str, message: str
) -> None:
    outcome = await lab(tmp_path, source).run()
    assert set(outcome.statuses.values()) == {"harness_error"}
    assert all(message in (trace.error or "") for trace in outcome.attempts)


# --- timeout ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "deed",
    [
        "while True: pass",
        "import time; time.sleep(1000)",
        "import re; re.match(r'(a+)+$', 'a' * 64 + 'b')",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)\nwhile True: pass",
        "import os\nwhile True: os.write(1, b'x' * 65536)",
    ],
    ids=["loops", "sleeps", "holds the lock of the interpreter", "stops itself", "floods stdout"],
)
async def test_a_case_that_does_not_end_is_a_timeout(tmp_path: Path, deed: str) -> None:
    outcome = await lab(tmp_path, guilty(deed), Letters("abcde", limits=QUICK)).run()
    assert outcome.statuses == {"a": "ok", "b": "ok", "c": "timeout", "d": "ok", "e": "ok"}
    assert outcome["c"].error == "no answer within 0.4 s of its own time"
    assert outcome["c"].duration_ms >= 400


async def test_a_learn_that_does_not_end_is_a_timeout_of_every_case(tmp_path: Path) -> None:
    outcome = await lab(tmp_path, harness(learn="while True: pass"), Letters("abc", limits=QUICK)).run()
    assert set(outcome.statuses.values()) == {"timeout"}
    assert outcome.learned[0].status == "timeout"


async def test_the_calls_of_a_case_that_hung_are_in_its_trace(tmp_path: Path) -> None:
    source = guilty("model.complete('c, before it hangs')\nwhile True: pass")
    outcome = await lab(tmp_path, source, Letters("abc", limits=QUICK)).run()
    assert outcome["c"].status == "timeout"
    assert [call.request["messages"][0]["content"] for call in outcome["c"].calls] == ["c, before it hangs"]


async def test_cases_after_three_that_hang_are_skipped_at_any_concurrency(tmp_path: Path) -> None:
    """Also those that were answered meanwhile: what was open together must not decide what counts."""
    source = harness("while text in 'bcd': pass\nreturn model.complete(text).text")
    expected = {"a": "ok", "b": "timeout", "c": "timeout", "d": "timeout", "e": "skipped", "f": "skipped"}
    for concurrency in (1, 32):
        domain = Letters("abcdef", limits=Limits(case_seconds=0.3))
        outcome = await lab(tmp_path / str(concurrency), source, domain, concurrency=concurrency).run()
        assert outcome.statuses == expected
        assert outcome.outputs["e"] is None


# --- refused ----------------------------------------------------------------------------------------------------


async def test_an_uncaught_refusal_is_refused(tmp_path: Path) -> None:
    model = Failing("c", ModelFailure("refused", "too long", status_code=400))
    outcome = await lab(tmp_path, harness(), model=model).run()
    assert outcome.statuses == OTHERS | {"c": "refused"}
    assert "too long" in (outcome["c"].error or "")
    assert outcome["c"].calls[0].error is not None
    assert outcome["c"].calls[0].error.status_code == 400


async def test_a_caught_refusal_is_the_harnesss_own_affair(tmp_path: Path) -> None:
    source = harness("""
        try:
            return model.complete(text).text
        except Exception as error:
            return error.kind
    """)
    outcome = await lab(tmp_path, source, model=Failing("c", ModelFailure("refused", "too long"))).run()
    assert outcome["c"].status == "ok"
    assert outcome["c"].output == "refused"


async def test_an_error_after_a_caught_refusal_is_a_harness_error(tmp_path: Path) -> None:
    source = harness("""
        try:
            return model.complete(text).text
        except Exception:
            raise KeyError("another error")
    """)
    outcome = await lab(tmp_path, source, model=Failing("c", ModelFailure("refused", "too long"))).run()
    assert outcome["c"].status == "harness_error"


async def test_a_request_that_is_none_is_refused(tmp_path: Path) -> None:
    outcome = await lab(tmp_path, guilty("model.complete([{'role': 'robot', 'content': 'x'}])")).run()
    assert outcome.statuses == OTHERS | {"c": "refused"}
    assert "messages.0.role" in (outcome["c"].error or "")


@pytest.mark.parametrize("deed", ["model.complete([])", "model.complete('x', max_tokens=0)"])
async def test_a_malformed_request_is_told_to_the_harness(tmp_path: Path, deed: str) -> None:
    outcome = await lab(tmp_path, guilty(f"try: {deed}\nexcept Exception as error: return error.kind")).run()
    assert outcome.outputs["c"] == "refused"


@pytest.mark.parametrize(
    "prompt", ["'x' * (9 << 20)", "[{'role': 'user', 'content': object()}]", "[{'role': 'user', 'content': DEEP}]"]
)
async def test_a_request_that_does_not_fit_through_the_pipe_is_told_to_the_harness(tmp_path: Path, prompt: str) -> None:
    before = "DEEP = []\nfor _ in range(120): DEEP = [DEEP]\n"
    deed = f"try: model.complete({prompt})\nexcept Exception as error: return error.kind"
    outcome = await lab(tmp_path, guilty(deed, before=before)).run()
    assert outcome.statuses == OTHERS | {"c": "ok"}
    assert outcome.outputs["c"] == "refused"


# --- missing: infrastructure, budget, evaluator_error -----------------------------------------------------------

CATCHING = """
    try:
        return model.complete(text).text
    except Exception as error:
        return "caught " + error.kind
"""


@pytest.mark.parametrize("predict", ["return model.complete(text).text", CATCHING], ids=["uncaught", "caught"])
@pytest.mark.parametrize("kind", ["infrastructure", "budget"])
async def test_a_call_that_fails_for_reasons_outside_makes_its_case_missing(
    tmp_path: Path, predict: str, kind: Any
) -> None:
    model = Failing("c", ModelFailure(kind, "it is not the harness"))
    outcome = await lab(tmp_path, harness(predict), model=model).run()
    assert outcome.statuses == OTHERS | {"c": kind}
    assert outcome["c"].error == "it is not the harness"
    assert outcome["c"].grades == []


@pytest.mark.parametrize("deed", ["import os; os._exit(1)", "while True: pass"], ids=["exits", "hangs"])
async def test_a_case_stays_missing_when_the_harness_then_crashes(tmp_path: Path, deed: str) -> None:
    source = harness(f"try: return model.complete(text).text\nexcept Exception:\n    {deed}")
    model = Failing("c", ModelFailure("infrastructure", "overloaded"))
    outcome = await lab(tmp_path, source, Letters("abcd", limits=QUICK), model=model).run()
    assert outcome.statuses == {"a": "ok", "b": "ok", "c": "infrastructure", "d": "ok"}


async def test_a_spent_budget_makes_what_is_left_missing(tmp_path: Path) -> None:
    outcome = await lab(tmp_path, harness(), budget=Budget(calls=4)).run()
    assert sorted(outcome.statuses.values()) == ["budget"] * 2 + ["ok"] * 4


async def test_a_call_beyond_its_deadline_is_infrastructure(tmp_path: Path) -> None:
    model = ScriptedProvider([{"contains": "c", "delay_ms": 60_000}, {"text": "A"}])
    outcome = await lab(tmp_path, harness(), Letters("abcd", limits=Limits(call_seconds=0.05)), model=model).run()
    assert outcome.statuses == {"a": "ok", "b": "ok", "c": "infrastructure", "d": "ok"}
    assert outcome["c"].error == "no answer within 0.05 seconds"


@pytest.mark.parametrize("kind", ["infrastructure", "budget"])
async def test_a_call_of_learn_that_fails_for_reasons_outside_makes_every_case_missing(
    tmp_path: Path, kind: Any
) -> None:
    learn = "try: model.complete('learning')\nexcept Exception: pass"
    outcome = await lab(
        tmp_path, harness(learn=learn), model=Failing("learning", ModelFailure(kind, "overloaded"))
    ).run()
    assert set(outcome.statuses.values()) == {kind}
    assert outcome.learned[0].status == kind


class Raising:
    def grade(self, context: GradeContext) -> bool:
        if context.output == "C":
            raise ZeroDivisionError("an evaluator's own mistake")
        return True


class Exiting:
    """As a grader made of a script does."""

    def grade(self, context: GradeContext) -> bool:
        return sys.exit("the checker says no") if context.output == "C" else True


class RaisingLater:
    async def grade(self, context: GradeContext) -> bool:
        await anyio.lowlevel.checkpoint()
        return Raising().grade(context)


class Returning:
    def __init__(self, result: Any) -> None:
        self.result = result

    def grade(self, context: GradeContext) -> Any:
        return self.result if context.output == "C" else 1.0


@pytest.mark.parametrize(
    "evaluator",
    [
        Raising(),
        Exiting(),
        RaisingLater(),
        Returning(math.nan),
        Returning(math.inf),
        Returning("good"),
        Returning(None),
        Returning(Grade(1.0, {"words": math.nan})),
        Returning(Grade(1.0, {"words": "three"})),  # type: ignore[dict-item]
        Returning(10**400),
    ],
    ids=["raises", "exits", "async raises", "nan", "inf", "text", "nothing", "nan metric", "text metric", "huge"],
)
async def test_an_evaluator_that_fails_makes_the_case_missing_and_keeps_the_answer(
    tmp_path: Path, evaluator: Any
) -> None:
    outcome = await lab(tmp_path, harness(), Letters(evaluator=evaluator)).run()
    assert outcome.statuses == OTHERS | {"c": "evaluator_error"}
    assert outcome["c"].output == "C"
    assert outcome["c"].error
    assert outcome["c"].grades == []


class Judging:
    """Grades by asking twice, as one asks for a second opinion."""

    async def grade(self, context: GradeContext) -> bool:
        assert context.judge is not None
        answers: list[str] = []

        async def ask() -> None:
            assert context.judge is not None
            answers.append((await context.judge.complete(f"Is {context.output} a capital?")).text)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            group.start_soon(ask)
        if "?" in answers:
            raise ValueError("the judge's answer cannot be parsed")
        return answers == ["yes", "yes"]


async def test_a_judge_is_asked_through_the_gateway_once_for_each_question(tmp_path: Path) -> None:
    judge = Capitals(lambda _request: Completion(text="yes"))
    outcome = await lab(tmp_path, harness(), Letters(evaluator=Judging()), judge=judge).run()
    assert set(outcome.statuses.values()) == {"ok"}
    assert [call.door for call in outcome["a"].calls] == ["model", "judge", "judge"]
    assert sorted(call.ordinal for call in outcome["a"].calls if call.door == "judge") == [0, 1]
    assert len(judge.requests) == 12


async def test_a_judge_that_cannot_be_understood_makes_the_case_missing(tmp_path: Path) -> None:
    judge = Capitals(lambda request: Completion(text="?" if "Is C" in str(request.messages) else "yes"))
    outcome = await lab(tmp_path, harness(), Letters(evaluator=Judging()), judge=judge).run()
    assert outcome.statuses == OTHERS | {"c": "evaluator_error"}


async def test_a_judge_without_budget_makes_the_case_missing_for_the_budget(tmp_path: Path) -> None:
    judge = Failing("Is C", ModelFailure("budget", "spent"))

    class Once:
        async def grade(self, context: GradeContext) -> bool:
            assert context.judge is not None
            return bool((await context.judge.complete(f"Is {context.output} a capital?")).text)

    outcome = await lab(tmp_path, harness(), Letters(evaluator=Once()), judge=judge).run()
    assert outcome.statuses == OTHERS | {"c": "budget"}


# --- what ends an evaluation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 32])
async def test_a_model_that_is_not_configured_ends_the_evaluation_as_one_error(
    tmp_path: Path, concurrency: int
) -> None:
    model = Failing("c", ModelFailure("configuration", "the key was refused"))
    with pytest.raises(ConfigurationError, match="the key was refused"):
        await lab(tmp_path, harness(), model=model, concurrency=concurrency).run()


async def test_a_judge_that_is_not_configured_ends_the_evaluation_as_one_error(tmp_path: Path) -> None:
    judge = Failing("Is C", ModelFailure("configuration", "the key was refused"))

    class Once:
        async def grade(self, context: GradeContext) -> bool:
            assert context.judge is not None
            return bool((await context.judge.complete(f"Is {context.output} a capital?")).text)

    with pytest.raises(ConfigurationError, match="the key was refused"):
        await lab(tmp_path, harness(), Letters(evaluator=Once()), judge=judge).run()


class FullDisk(MemoryJournal):
    def append(self, entry: JournalEntry) -> None:
        raise StoreError("no space left on the device")


async def test_a_journal_that_cannot_be_written_ends_the_evaluation_as_one_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no space left"):
        await lab(tmp_path, harness(), journal=FullDisk()).run()


async def test_an_error_of_whoever_takes_the_traces_is_raised_as_it_is(tmp_path: Path) -> None:
    def fail(_trace: object) -> None:
        raise StoreError("no space left on the device")

    with pytest.raises(StoreError, match="no space left"):
        await lab(tmp_path, harness()).run(listen=fail)


@pytest.mark.parametrize("python", ["/bin/false", "/bin/echo", "/no/such/python"])
async def test_an_interpreter_that_is_none_is_never_the_candidates_fault(tmp_path: Path, python: str) -> None:
    candidate = lab(tmp_path, harness(), Letters(python=python))
    with pytest.raises(SandboxError, match="start"):
        await candidate.run()
    with pytest.raises(SandboxError, match="start"):
        await candidate.smoke()


async def test_a_driver_that_cannot_be_loaded_is_never_the_candidates_fault(tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text("raise RuntimeError('the driver is broken')")
    candidate = lab(tmp_path, harness(), Letters(driver=driver))
    with pytest.raises(DomainError, match="the driver is broken"):
        await candidate.run()
    with pytest.raises(DomainError, match="the driver is broken"):
        await candidate.smoke()
