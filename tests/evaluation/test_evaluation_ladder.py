"""The ladder: where a candidate is stopped, what it is told, and what is known of it when it passes."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation_kit import QUICK, Capitals, Failing, Letters, guilty, harness, lab

from metaharness.errors import ConfigurationError, ModelFailure
from metaharness.evaluation.ladder import MAX_BYTES, MAX_FILES, check_files
from metaharness.records import LEARN, Rejection


def found(rejection: Rejection | None) -> tuple[str, str]:
    assert rejection is not None
    return rejection.stage, rejection.message


# --- size and syntax --------------------------------------------------------------------------------------------


def test_a_sound_harness_passes_what_runs_nothing() -> None:
    assert check_files({"harness.py": harness(), "notes.md": "((((", "data.json": "\0"}) is None


def test_too_many_files_are_too_much() -> None:
    files = {f"file_{number}.py": "" for number in range(MAX_FILES)}
    assert found(check_files({"harness.py": "", **files})) == ("size", "65 files; at most 64 are allowed")


def test_too_many_bytes_are_too_much_before_anything_is_parsed() -> None:
    stage, message = found(check_files({"harness.py": "(" * MAX_BYTES, "a.txt": "x"}))
    assert (stage, message) == ("size", "1,048,577 bytes of source; at most 1,048,576 are allowed")


def test_a_candidate_without_an_entry_is_none() -> None:
    stage, message = found(check_files({"other.py": ""}))
    assert stage == "interface"
    assert "harness.py" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Harness\n    pass", "harness.py, line 1: expected ':'"),
        ("x = 1\n\0", "null bytes"),
        ("def f():\n  x\n y", "harness.py, line 3"),
        ("(" * 300 + ")" * 300, "too many nested parentheses"),
        ("a" + ".b" * 300_000, "nested too deeply"),
        ("-" * 900_000 + "1", "nested too deeply"),
        ("if a: pass\n" + "elif a: pass\n" * 60_000, "nested too deeply"),
        ("x = " + "9" * 5000, "Exceeds the limit"),
        ("\ud800", "surrogates not allowed"),
        ("# -*- coding: no-such-coding -*-", "unknown encoding"),
    ],
    ids=["colon", "null", "indent", "parentheses", "attributes", "signs", "branches", "digits", "surrogate", "coding"],
)
def test_what_cannot_be_parsed_is_rejected_with_the_place(text: str, message: str) -> None:
    rejection = check_files({"harness.py": text})
    assert found(rejection)[0] == "syntax"
    assert message in found(rejection)[1]
    assert rejection is not None
    assert rejection.traceback is None


def test_a_syntax_error_in_any_file_names_that_file() -> None:
    stage, message = found(check_files({"harness.py": harness(), "sub/helper.py": "x = = 1"}))
    assert (stage, message) == ("syntax", "sub/helper.py, line 1: invalid syntax")


@pytest.mark.parametrize("text", ["pattern = '\\d'\n", "\ufeffx = 1\n", "# -*- coding: utf-8 -*-\nx = 'ä'\n", ""])
def test_what_a_worker_can_read_is_no_syntax_error(text: str) -> None:
    """Warnings are errors in these tests, and are no reason to reject."""
    assert check_files({"harness.py": text}) is None


# --- import and interface ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "stage", "message"),
    [
        ("import missing_module\n", "import", "ModuleNotFoundError: No module named 'missing_module'"),
        ("raise SystemExit(2)\n", "import", "SystemExit: 2"),
        ("x = '\n", "import", "SyntaxError: unterminated string literal"),
        ("import os; os._exit(7)\n", "import", "while the harness was imported: the worker died (exit status 7)"),
        ("while True: pass\n", "import", "importing the harness took longer than 0.4 s"),
        ("x = 1\n", "interface", "the module defines no class Harness"),
        ("Harness = 1\n", "interface", "the module defines no class Harness"),
        ("class Harness: pass\n", "interface", "class Harness has no method predict(self, text, model)"),
        (harness() + "    def __init__(self): raise KeyError('lost')\n", "interface", "KeyError: 'lost'"),
        (harness() + "    def __init__(self, more): pass\n", "interface", "missing 1 required positional argument"),
    ],
)
async def test_a_candidate_is_stopped_where_it_fails_first(
    tmp_path: Path, source: str, stage: str, message: str
) -> None:
    smoke = await lab(tmp_path, source, Letters(limits=QUICK)).smoke()
    assert found(smoke.rejection)[0] == stage
    assert message in found(smoke.rejection)[1]
    assert smoke.traces == []


async def test_an_import_that_fails_shows_the_candidates_own_lines(tmp_path: Path) -> None:
    source = {"harness.py": "import helper\n" + harness(), "helper.py": "\n\nraise RuntimeError('no')\n"}
    rejection = (await lab(tmp_path, source).smoke()).rejection
    assert rejection is not None
    trace = (rejection.traceback or "").splitlines()
    assert trace[:3] == [
        "Traceback (most recent call last):",
        '  File "harness.py", line 1, in <module>',
        "    import helper",
    ]
    assert trace[-3:] == ['  File "helper.py", line 3, in <module>', "    raise RuntimeError('no')", "RuntimeError: no"]
    assert "metaharness worker" not in str(trace)
    assert str(tmp_path) not in str(trace)


async def test_a_driver_may_ask_for_another_interface(tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(
        "def check(module):\n    return None if hasattr(module, 'solve') else 'there is no function solve'\n"
        "def build(module):\n    return module.solve\n"
        "def learn(solve, examples, model):\n    solve.seen = len(examples)\n"
        "async def ask(solve, case_input, model):\n    return [solve.seen, await solve(case_input, model)]\n"
    )
    domain = Letters("ab", driver=driver)
    rejection = (await lab(tmp_path / "1", harness(), domain).smoke()).rejection
    assert found(rejection) == ("interface", "there is no function solve")
    source = "async def solve(text, model):\n    return (await model.acomplete(text)).text\n"
    outcome = await lab(tmp_path / "2", source, domain).run()
    assert outcome.outputs == {"a": [2, "A"], "b": [2, "B"]}


# --- learn and smoke --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("learn", "message"),
    [
        ("raise ValueError('cannot learn')", "ValueError: cannot learn"),
        ("while True: pass", "learn: no answer within 0.4 s of its own time"),
        ("import os; os._exit(7)", "learn: the worker died (exit status 7)"),
        ("model.complete('forbidden')", "metaharness.harness.ModelError: too long"),
    ],
)
async def test_a_learn_that_fails_is_rejected_as_such(tmp_path: Path, learn: str, message: str) -> None:
    model = Failing("forbidden", ModelFailure("refused", "too long"))
    smoke = await lab(tmp_path, harness(learn=learn), Letters(limits=QUICK), model=model).smoke()
    assert found(smoke.rejection) == ("learn", message)
    assert [trace.case_id for trace in smoke.traces] == [LEARN]
    assert smoke.traces[0].status in ("harness_error", "timeout", "refused")


@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize(
    ("deed", "message"),
    [
        ("raise ValueError('cannot answer')", "ValueError: cannot answer"),
        ("while True: pass", "no answer within 0.4 s of its own time"),
        ("import os; os._exit(7)", "the worker died (exit status 7)"),
    ],
)
async def test_a_harness_that_fails_a_smoke_case_is_rejected(
    tmp_path: Path, deed: str, message: str, case: str
) -> None:
    smoke = await lab(tmp_path, guilty(deed, case=case), Letters(limits=QUICK)).smoke()
    assert found(smoke.rejection) == ("smoke", message)


async def test_a_failure_in_a_later_case_is_no_reason_to_reject(tmp_path: Path) -> None:
    assert (await lab(tmp_path, guilty("raise ValueError")).smoke()).rejection is None


@pytest.mark.parametrize(("text", "rejected"), [("a", False), ("", True)], ids=["one", "both"])
async def test_a_harness_is_rejected_for_refusals_when_nothing_is_answered(
    tmp_path: Path, text: str, rejected: bool
) -> None:
    smoke = await lab(tmp_path, harness(), model=Failing(text, ModelFailure("refused", "too long"))).smoke()
    assert (smoke.rejection is not None) is rejected
    if rejected:
        assert found(smoke.rejection) == (
            "smoke",
            "the model refused every request: metaharness.harness.ModelError: too long",
        )


@pytest.mark.parametrize("learn", ["", "model.complete('learning')"], ids=["smoke", "learn"])
async def test_missing_data_is_no_reason_to_reject(tmp_path: Path, learn: str) -> None:
    smoke = await lab(tmp_path, harness(learn=learn), model=Failing("", ModelFailure("infrastructure", "down"))).smoke()
    assert smoke.rejection is None
    assert {trace.status for trace in smoke.traces} <= {"ok", "infrastructure"}
    assert not smoke.order_dependent


async def test_a_model_that_is_not_configured_is_raised_by_the_ladder_too(tmp_path: Path) -> None:
    model = Failing("", ModelFailure("configuration", "the key was refused"))
    with pytest.raises(ConfigurationError, match="the key was refused"):
        await lab(tmp_path, harness(), model=model).smoke()


# --- the other order --------------------------------------------------------------------------------------------


async def test_equal_calls_of_both_orders_are_made_once(tmp_path: Path) -> None:
    model = Capitals()
    source = harness("return model.complete(text).text + model.complete(text).text", learn="model.complete('learning')")
    smoke = await lab(tmp_path, source, model=model).smoke()
    assert model.texts == ["a", "a", "b", "b", "learning"]
    assert smoke.rejection is None
    assert not smoke.order_dependent
    assert [(trace.case_id, trace.status, trace.output) for trace in smoke.traces] == [
        (LEARN, "ok", None),
        ("a", "ok", "AA"),
        ("b", "ok", "BB"),
    ]


@pytest.mark.parametrize(
    ("predict", "dependent"),
    [
        ("self.n = getattr(self, 'n', 0) + 1\nreturn self.n", True),
        ("self.n = getattr(self, 'n', 0) + 1\nmodel.complete(str(self.n))\nreturn text", True),
        ("self.n = getattr(self, 'n', 0) + 1\nif text == 'a' and self.n == 2: raise ValueError\nreturn text", True),
        ("self.n = getattr(self, 'n', 0) + 1\nif text == 'a' and self.n == 2: os._exit(1)\nreturn text", True),
        ("self.n = getattr(self, 'n', 0) + 1\nreturn text", False),
        ("return str(model.random.random()) + str({'one', 'two', 'three'})", False),
        ("model.complete_many([text + n for n in '54321'])\nreturn text", False),
    ],
    ids=["answer", "call", "failure", "death", "unseen", "seeded chance", "several calls"],
)
async def test_an_answer_that_depends_on_what_came_before_is_seen(
    tmp_path: Path, predict: str, dependent: bool
) -> None:
    smoke = await lab(tmp_path, harness(predict, before="import os")).smoke()
    assert smoke.rejection is None
    assert smoke.order_dependent is dependent


async def test_a_smoke_of_one_case_compares_nothing(tmp_path: Path) -> None:
    source = harness("self.n = getattr(self, 'n', 0) + 1\nreturn self.n")
    smoke = await lab(tmp_path, source, Letters("a")).smoke()
    assert [trace.output for trace in smoke.traces if trace.case_id != LEARN] == [1]
    assert not smoke.order_dependent
