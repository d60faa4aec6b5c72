"""`evaluate`: one harness on the cases of a domain, without a run."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from run_kit import (
    CASES,
    COLOURS,
    RAISES,
    SYNTAX_ERROR,
    Toy,
    assert_complains,
    final_traces,
    harness,
    lines,
    rules,
    say,
    searched,
    timeless,
    write_candidate,
    write_toy,
)

KEYS = {
    *(
        "harness",
        "domain",
        "split",
        "model",
        "trials",
        "seed",
        "rejected",
        "notes",
        "metrics",
        "sandbox",
        "planned",
        "ended",
    ),
    *("missing", "statuses", "bounds", "context_chars", "learn_chars", "order_dependent", "spent", "cases"),
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return write_toy(tmp_path_factory.mktemp("evaluate") / "domain")


def test_as_json_it_has_metrics_with_intervals_and_every_case(toy: Toy) -> None:
    said = say("evaluate", toy.folder / "baselines" / "00_plain.py", *toy.arguments("--json"))
    assert (said.code, said.err) == (0, "sandbox: process\n")
    page = said.page
    assert set(page) == KEYS
    accuracy = page["metrics"]["accuracy"]
    assert accuracy["mean"] == pytest.approx(4 / CASES)
    assert 0 < accuracy["low"] < accuracy["mean"] < accuracy["high"] < 1
    assert (accuracy["method"], accuracy["cases"]) == ("wilson", CASES)
    assert page["metrics"]["context_chars"]["mean"] == 15
    assert (page["planned"], page["ended"], page["missing"], page["statuses"]) == (CASES, CASES, 0, {"ok": CASES})
    assert page["cases"] == [
        {
            "case_id": f"search-{number:02d}",
            "trial": 0,
            "status": "ok",
            "output": COLOURS[number % 3] if number < 4 else "grey",
            "score": 1.0 if number < 4 else 0.0,
        }
        for number in range(CASES)
    ]
    assert (page["rejected"], page["spent"]["calls"], page["spent"]["case_evaluations"]) == (None, CASES, CASES)


def test_as_text_it_has_a_table_and_what_it_cost(toy: Toy) -> None:
    said = say("evaluate", toy.folder / "baselines" / "00_plain.py", *toy.arguments())
    assert (said.code, said.err) == (0, "sandbox: process\n")
    heads, accuracy, context, cases, cost = said.out.splitlines()
    assert heads.startswith("objective")
    assert accuracy.split()[:2] == ["accuracy", "0.333"]
    assert context.split() == ["context_chars", "15"]
    assert cases == f"cases: {CASES} ok"
    assert cost.startswith(f"cost: {CASES} calls, ")


def test_it_gives_the_same_numbers_as_a_run(toy: Toy, tmp_path: Path) -> None:
    history = anyio.run(searched, toy.config(iterations=0), tmp_path / "runs")
    trace_file = tmp_path / "traces.jsonl"
    path = toy.folder / "baselines" / "01_long.py"
    page = say("evaluate", path, *toy.arguments("--json", "--trace-file", trace_file)).page
    score = history.iteration(1).score
    assert score is not None
    assert page["metrics"] == {name: value.model_dump() for name, value in score.objectives.items()}
    written = {(line["case_id"], line["trial"]): timeless(line) for line in lines(trace_file)}
    assert written == {key[1:]: trace for key, trace in final_traces(history.store.path).items() if key[0] == 1}


def test_train_is_evaluated_and_test_is_sealed(toy: Toy) -> None:
    page = say("evaluate", toy.folder / "baselines" / "00_plain.py", *toy.arguments("--split", "train", "--json")).page
    assert (page["split"], page["planned"]) == ("train", 3)
    for split in ("test", "validation"):
        said = say("evaluate", toy.folder / "baselines" / "00_plain.py", *toy.arguments("--split", split))
        assert_complains(said, 2, f"--split '{split}' cannot be evaluated", "valid: search, train; test is sealed")


def test_limit_trials_and_seed_choose_what_is_asked(toy: Toy) -> None:
    path = toy.folder / "baselines" / "00_plain.py"
    first = say("evaluate", path, *toy.arguments("--limit", 4, "--trials", 2, "--json")).page
    assert (first["planned"], first["trials"], first["metrics"]["accuracy"]["cases"]) == (8, 2, 4)
    assert [case["trial"] for case in first["cases"]] == [0, 1] * 4
    other = say("evaluate", path, *toy.arguments("--limit", 4, "--seed", 3, "--json")).page
    assert {case["case_id"] for case in other["cases"]} != {case["case_id"] for case in first["cases"]}


def test_a_harness_folder_brings_its_other_files(toy: Toy, tmp_path: Path) -> None:
    source = "import style\n" + harness("good").replace("'[good] '", "style.STYLE")
    folder = write_candidate(
        tmp_path / "folder", {"harness.py": source, "style.py": "STYLE = '[good] '\n", "proposal.json": "{}"}
    )
    page = say("evaluate", folder, *toy.arguments("--json")).page
    assert page["metrics"]["accuracy"]["mean"] == 1.0


def test_relative_paths_work(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(harness("good"))
    monkeypatch.chdir(tmp_path)
    said = say("evaluate", "mine.py", *toy.arguments("--json", "--trace-file", "out.jsonl"))
    assert said.page["metrics"]["accuracy"]["mean"] == 1.0
    assert len(lines(tmp_path / "out.jsonl")) == CASES


@pytest.mark.parametrize(
    ("source", "stage", "message"),
    [
        ("", "interface", "defines no class Harness"),
        (SYNTAX_ERROR, "syntax", "harness.py, line 2: expected ':'"),
        ("import does_not_exist\n", "import", "No module named 'does_not_exist'"),
        ("class Harness:\n    pass\n", "interface", "has no method predict"),
        (RAISES, "smoke", "RuntimeError: not today"),
        (
            harness("good").replace("def predict", "def learn(self, e, m): 1 / 0\n    def predict"),
            "learn",
            "ZeroDivision",
        ),
        ("x" * (1 << 20) + "\n" * 9, "size", "bytes of source; at most"),
    ],
)
def test_a_rejected_harness_exits_3_with_stage_and_message(
    source: str, stage: str, message: str, toy: Toy, tmp_path: Path
) -> None:
    path = tmp_path / "harness.py"
    path.write_text(source)
    text = say("evaluate", path, *toy.arguments())
    assert (text.code, text.out) == (3, "")
    assert f"error: {path} does not pass the ladder at {stage}: " in text.err
    assert "hint: mend it; the domain's DOMAIN.md says" in text.err
    if "Traceback" in text.err:  # the candidate's own, and nothing of ours
        assert 'File "harness.py"' in text.err
        assert "metaharness" not in text.err.split("error: ")[0]
    said = say("evaluate", path, *toy.arguments("--json", "--limit", 2))
    assert said.code == 3
    assert said.page["rejected"]["stage"] == stage
    assert message in said.page["rejected"]["message"]
    assert said.page["metrics"] == {}
    assert len(said.page["cases"]) == (2 if stage == "smoke" else 0)
    assert said.err.count("error: ") == 1


def test_without_the_ladder_a_failing_harness_is_scored_as_it_is(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "harness.py").write_text(RAISES)
    said = say("evaluate", tmp_path / "harness.py", *toy.arguments("--no-ladder", "--json"))
    assert said.code == 0
    assert said.page["metrics"]["accuracy"]["mean"] == 0.0
    assert said.page["statuses"] == {"harness_error": CASES}
    assert {case["score"] for case in said.page["cases"]} == {None}


def test_missing_cases_are_told_and_are_in_no_mean(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    error = {"kind": "infrastructure", "message": "overloaded"}
    toy.write_script([{"contains": "item 03", "error": error}, *rules()])
    said = say("evaluate", toy.folder / "baselines" / "00_plain.py", *toy.arguments())
    assert said.code == 0
    assert f"cases: 1 infrastructure, {CASES - 1} ok (1 of 12 missing, between 0.250 and 0.333)" in said.out
    page = say("evaluate", toy.folder / "baselines" / "00_plain.py", *toy.arguments("--json")).page
    assert page["metrics"]["accuracy"]["mean"] == pytest.approx(3 / 11)
    assert page["bounds"] == pytest.approx([3 / 12, 4 / 12])


def test_an_order_dependent_harness_is_noted(toy: Toy, tmp_path: Path) -> None:
    source = harness("good", before="seen = []", body="seen.append(text)\nif len(seen) % 2: text = 'odd ' + text")
    (tmp_path / "harness.py").write_text(source)
    said = say("evaluate", tmp_path / "harness.py", *toy.arguments())
    assert "note: answers depend on the order of the cases, so they were asked serially" in said.out


def test_the_evaluation_works_from_any_folder_with_what_is_given_relative_to_it(toy: Toy) -> None:
    again = [say("evaluate", toy.folder / "baselines" / "01_long.py", *toy.arguments("--json")).page for _ in range(2)]
    assert again[0]["cases"] == again[1]["cases"]
    assert again[0]["metrics"] == again[1]["metrics"]


# --- what can be wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["-m", "gpt-4"], 2, "'gpt-4' does not say which provider", "anthropic:gpt-4 or openai:gpt-4"),
        (["-m", "foo:bar"], 2, "there is no provider 'foo'", "valid forms"),
        (["-m", "openai:"], 2, "'openai:' names no model", "valid forms"),
        (["-m", "embedded:gpt"], 2, "no embedded model 'gpt'", "embedded:icl"),
        (["-m", "scripted:no.jsonl"], 2, "cannot be read", "scripted:PATH"),
        (["--judge", "me"], 2, "'me' does not say which provider", "valid forms"),
        (["--base-url", "http://x"], 2, "a base URL does not fit scripted", "leave the base URL out"),
        (["--price", "1,2"], 2, "--price '1,2' is not MODEL=IN,OUT", "--price openai:"),
        (["--price", "openai:x=1"], 2, "is not MODEL=IN,OUT", "--price openai:"),
        (["--price", "openai:x=1,2,3"], 2, "is not MODEL=IN,OUT", "--price openai:"),
        (["--price", "openai:x=a,b"], 2, "is not MODEL=IN,OUT", "--price openai:"),
        (["--price", "x=1,2"], 2, "is not MODEL=IN,OUT", "--price openai:"),
        (["--price", "openai:x=-1,2"], 2, "the price of openai:x is (-1.0, 2.0)", "per million"),
        (["--price", "openai:x=nan,2"], 2, "the price of openai:x is (nan, 2.0)", "per million"),
        (["--domain-option", "x"], 2, "--domain-option 'x' is not NAME=VALUE", "for example"),
        (["--domain-option", "=x"], 2, "--domain-option '=x' is not NAME=VALUE", "for example"),
        (["--domain-option", "size=3"], 2, "takes no option 'size'", "valid options: data"),
        (["--text-field", "question"], 2, "takes no option 'text_field'", "valid options: data"),
        (["--sandbox", "cloud"], 2, "no sandbox 'cloud'", "valid: "),
        (["--trace-file", "/nowhere/t.jsonl"], 2, "cannot write /nowhere/t.jsonl", "existing folder"),
        (["--data", "/nowhere"], 3, "cases('search') of colours failed: FileNotFoundError", "data"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_valid(
    arguments: list[str], code: int, message: str, hint: str, toy: Toy
) -> None:
    said = say("evaluate", toy.folder / "baselines" / "00_plain.py", *toy.arguments(*arguments))
    assert_complains(said, code, message, hint)


@pytest.mark.parametrize(
    ("path", "code", "message", "hint"),
    [
        ("no.py", 2, "there is no harness at ", "a folder that holds harness.py"),
        ("data", 2, "holds no harness.py", "the entry of a harness folder"),
        ("latin.py", 3, "cannot read ", "UTF-8"),
    ],
)
def test_a_wrong_harness_path_is_named(path: str, code: int, message: str, hint: str, toy: Toy) -> None:
    (toy.folder / "latin.py").write_bytes(b"# caf\xe9\n")
    try:
        said = say("evaluate", toy.folder / path, *toy.arguments())
    finally:
        (toy.folder / "latin.py").unlink()
    assert_complains(said, code, message, hint)


def test_a_wrong_path_of_a_domain_names_the_shipped_examples(tmp_path: Path) -> None:
    (tmp_path / "harness.py").write_text(harness("good"))
    said = say("evaluate", tmp_path / "harness.py", "-d", "no_such_domain")
    assert_complains(said, 2, "no domain 'no_such_domain'", "a folder that holds domain.py, module:attribute")


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("", 2, "split search of colours has no cases"),
        ('{"id": "a", "text"', 3, "cases('search') of colours failed: JSONDecodeError"),
        ('{"id": "a"}', 3, "cases('search') of colours failed: KeyError: 'text'"),
        ('{"id": "a", "text": NaN, "colour": "red"}', 3, "case 'a' in split search is not JSON"),
        ('{"id": "a", "text": "t", "colour": "red"}\n' * 2, 3, "case id 'a' in split search is empty or repeats"),
        ('{"id": "", "text": "t", "colour": "red"}', 3, "case id '' in split search is empty or repeats"),
    ],
)
def test_broken_data_is_the_domains_fault_and_is_named(
    content: str, code: int, message: str, toy: Toy, tmp_path: Path
) -> None:
    for split in ("train", "search"):
        (tmp_path / f"{split}.jsonl").write_text(content if split == "search" else "")
    said = say("evaluate", toy.folder / "baselines" / "00_plain.py", *toy.arguments("--data", tmp_path))
    assert_complains(said, code, message, "")


def test_a_trace_file_is_left_alone_when_the_evaluation_cannot_begin(toy: Toy, tmp_path: Path) -> None:
    kept = tmp_path / "traces.jsonl"
    kept.write_text("from before\n")
    assert say("evaluate", toy.folder / "no.py", *toy.arguments("--trace-file", kept)).code == 2
    assert kept.read_text() == "from before\n"
