"""The leak gate in a real search: text of two cases, or of a whole one, ends a candidate before it costs anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from leaks_kit import holding, row, sentence, words, write_domain, write_rows
from run_kit import Toy, executed, harness, lines, recorded, searched

from metaharness.history import History
from metaharness.leaks import MESSAGE, texts_of
from metaharness.loading import read_candidate
from metaharness.records import Rejection
from metaharness.run import Run

SEARCH_0, SEARCH_1 = sentence("search", 0), sentence("search", 1)
TEST_0, TEST_1 = sentence("test", 0), sentence("test", 1)
HALF = 12


async def rejection(tmp_path: Path, candidate: str | dict[str, str], toy: Toy | None = None) -> Rejection | None:
    """What a search says of one candidate."""
    toy = toy or write_domain(tmp_path / "domain", {"01_candidate" + (".py" * isinstance(candidate, str)): candidate})
    history = await searched(toy.config(), tmp_path / "runs", name="run")
    return history.iteration(1).rejection


def part(text: str) -> str:
    """Enough to know the case by, and not all of it."""
    return words(text, 0, HALF)


REJECTED = {
    "two cases in part": holding(part(SEARCH_0), part(SEARCH_1)),
    "one whole case": holding(SEARCH_0),
    "a whole case among other words": holding(f"Text: {SEARCH_0}\nLabel: red"),
    "other case and punctuation": holding(SEARCH_0.upper().replace(" ", ", ")),
    "adjacent literals": harness("plain", before=f"TEXT = ({SEARCH_0[:20]!r}\n    {SEARCH_0[20:]!r})"),
    "a concatenation": harness("plain", before=f"TEXT = {SEARCH_0[:20]!r} + {SEARCH_0[20:]!r}"),
    "an f-string": harness("plain", before=f"LABEL = 'red'\nTEXT = f{SEARCH_0 + ' -> {LABEL}'!r}"),
    "a list of words": harness("plain", before=f"TEXT = ' '.join({SEARCH_0.split()!r})"),
    "bytes": harness("plain", before=f"TEXT = {SEARCH_0.encode()!r}"),
    "line breaks": harness("plain", before=f"TEXT = {SEARCH_0.replace(' ', chr(10))!r}"),
    "a comment": harness("plain", before=f"# {SEARCH_0}"),
    "a comment over lines": harness("plain", before=f"# {words(SEARCH_0, 0, 6)}\n# {words(SEARCH_0, 6, 20)}"),
    "a docstring": harness("plain", body=f'"""{SEARCH_0}"""'),
    "keys of a table": harness("plain", before=f"ANSWERS = {{{part(SEARCH_0)!r}: 'red', {part(SEARCH_1)!r}: 'red'}}"),
}
PASSES = {
    "one case in part": holding(part(SEARCH_0)),
    "two parts of one case": holding(words(SEARCH_0, 0, 10), words(SEARCH_0, 1, 11)),
    "nine words in a row of every case": holding(*(words(sentence("search", n), 0, 9) for n in range(6))),
    "keyword rules": harness("plain", body="if 'lantern' in text or 'the old kettle' in text:\n    return 'red'"),
    "text of train": holding(sentence("train", 0), sentence("train", 1)),
    "what stands in both splits": holding(words(SEARCH_0, 5, 15), words(SEARCH_1, 5, 15)),
    "one case of each split in part": holding(part(SEARCH_0), part(TEST_0)),
}


@pytest.mark.parametrize("name", REJECTED)
async def test_text_of_cases_ends_a_candidate_at_the_stage_leak(tmp_path: Path, name: str) -> None:
    found = await rejection(tmp_path, REJECTED[name])
    assert found is not None
    assert found.stage == "leak"
    assert found.message.startswith(MESSAGE)
    assert "(case search-00)" in found.message


@pytest.mark.parametrize("name", PASSES)
async def test_what_any_harness_may_hold_passes(tmp_path: Path, name: str) -> None:
    assert await rejection(tmp_path, PASSES[name]) is None


async def test_text_in_a_second_file_counts(tmp_path: Path) -> None:
    files = {"harness.py": harness("plain"), "data/examples.json": json.dumps({"texts": [SEARCH_0]})}
    found = await rejection(tmp_path, files)
    assert found is not None
    assert found.stage == "leak"


async def test_two_cases_may_stand_in_two_files(tmp_path: Path) -> None:
    files = {"harness.py": holding(part(SEARCH_0)), "more.txt": part(SEARCH_1)}
    assert await rejection(tmp_path, files) is not None


def lettered(split: str, number: int) -> str:
    """A sentence whose ten-word passages JSON writes otherwise: a line to a word, or letters that are escaped."""
    plain = sentence(split, number)
    return plain.replace(" ", "\n") if number % 2 else plain.replace("e", "\u00e9").replace("o", "\U00010380")


def lettered_rows(split: str) -> list[dict[str, object]]:
    return [row(split, number, text=lettered(split, number)) for number in range(6)]


def tables(split: str, numbers: range) -> dict[str, dict[str, str]]:
    """Inputs with answers, in the ways that a harness may hold them."""
    table = {lettered(split, number): "red" for number in numbers}
    rows = "".join(json.dumps({"text": text, "colour": colour}) + "\n" for text, colour in table.items())
    page = json.dumps(table)
    return {
        "json": {"harness.py": harness("plain"), "data.json": page},
        "json in capitals": {"harness.py": harness("plain"), "data.json": page.replace("\\u00e9", "\\u00E9")},
        "jsonl": {"harness.py": harness("plain"), "data.jsonl": rows},
        "a raw text": {"harness.py": harness("plain", before=f"TABLE = r'''{page}'''")},
    }


@pytest.mark.parametrize("number", [0, 1], ids=["other letters", "lines"])
@pytest.mark.parametrize("kind", ["json", "json in capitals", "jsonl", "a raw text"])
async def test_a_table_of_answers_is_read_without_the_escapes_of_json(tmp_path: Path, kind: str, number: int) -> None:
    splits = {split: lettered_rows(split) for split in ("train", "search", "test")}
    candidate = tables("search", range(number, number + 1))[kind]
    found = await rejection(tmp_path, "", write_domain(tmp_path / "domain", {"01_table": candidate}, **splits))
    assert found is not None
    assert found.message.endswith(f"(case search-0{number})")


async def test_of_the_sealed_split_too(tmp_path: Path) -> None:
    splits = {split: lettered_rows(split) for split in ("train", "search", "test")}
    toy = write_domain(tmp_path / "domain", {"01_table": tables("test", range(1))["json"]}, **splits)
    found = await rejection(tmp_path, "", toy)
    assert found is not None
    assert found.message == MESSAGE


@pytest.mark.parametrize("kind", ["json", "jsonl", "a raw text"])
async def test_tables_of_train_may_be_held_in_json(tmp_path: Path, kind: str) -> None:
    splits = {split: lettered_rows(split) for split in ("train", "search", "test")}
    toy = write_domain(tmp_path / "domain", {"01_table": tables("train", range(6))[kind]}, **splits)
    assert await rejection(tmp_path, "", toy) is None


@pytest.mark.parametrize("outer_first", [True, False])
async def test_an_input_that_is_a_part_of_another_is_known_as_a_whole(tmp_path: Path, outer_first: bool) -> None:
    inner = f"{part(SEARCH_0)} quietly"
    texts = [f"{inner} through the rain to the station", inner]
    search = [row("search", n, text=text) for n, text in enumerate(texts if outer_first else reversed(texts))]
    candidates = {"01_whole.py": holding(f"Text: {inner}"), "02_part.py": holding(part(SEARCH_0))}
    toy = write_domain(tmp_path / "domain", candidates, search=search)
    history = await searched(toy.config(), tmp_path / "runs", name="run")
    assert [it.rejection.stage if it.rejection else None for it in history] == [None, "leak", None]


@pytest.mark.parametrize("texts", [(TEST_0,), (part(TEST_0), part(TEST_1))], ids=["whole", "two in part"])
async def test_text_of_the_sealed_split_is_rejected_in_the_same_words_and_none_of_it_is_repeated(
    tmp_path: Path, texts: tuple[str, ...]
) -> None:
    found = await rejection(tmp_path, holding(*texts))
    assert found is not None
    assert (found.stage, found.message, found.traceback) == ("leak", MESSAGE, None)


async def test_how_much_of_the_sealed_split_is_held_makes_no_difference(tmp_path: Path) -> None:
    every = holding(*(sentence("test", number) for number in range(6)))
    found = await rejection(tmp_path, every)
    assert found is not None
    assert found.message == MESSAGE


async def test_text_of_both_splits_is_told_as_that_of_search_alone(tmp_path: Path) -> None:
    both = await rejection(tmp_path / "both", holding(SEARCH_0, TEST_0, TEST_1))
    alone = await rejection(tmp_path / "alone", holding(SEARCH_0))
    assert both is not None
    assert alone is not None
    assert both.message == alone.message
    assert '"on search morning 0' in both.message


async def test_a_rejected_candidate_has_cost_nothing(tmp_path: Path) -> None:
    toy = write_domain(tmp_path / "domain", {"01_leaks.py": holding(SEARCH_0), "02_passes.py": harness("other")})
    await searched(toy.config(), tmp_path / "runs", name="run")
    calls = lines(tmp_path / "runs" / "run" / "calls.jsonl")
    assert {call["attribution"]["iteration"] for call in calls} == {0, 2}
    spent = json.loads((tmp_path / "runs" / "run" / "cost.json").read_text())["spent"]
    assert spent["case_evaluations"] == 12
    assert spent["candidates"] == 2


async def test_short_inputs_are_known_as_a_whole_from_five_words_on(tmp_path: Path) -> None:
    texts = ["broken", "does not start", "the kettle hums very loudly", "my ladder lost its third step last night"]
    search = [row("search", number, text=text) for number, text in enumerate(texts)]

    async def stage(text: str, place: str) -> str | None:
        toy = write_domain(tmp_path / place / "domain", {"01_it.py": holding(f"Text: {text}.")}, search=search)
        found = await rejection(tmp_path / place, "", toy)
        return None if found is None else found.stage

    assert [await stage(text, str(place)) for place, text in enumerate(texts)] == [None, None, "leak", "leak"]
    assert await stage("the kettle hums very", "part") is None


async def test_inputs_that_are_no_texts_are_known_by_the_texts_in_them(tmp_path: Path) -> None:
    def asked(split: str, number: int) -> dict[str, object]:
        return row(split, number, text={"question": sentence(split, number), "choices": ["red", "blue"]})

    splits = {split: [asked(split, number) for number in range(3)] for split in ("search", "test")}
    toy = write_domain(tmp_path / "domain", {"01_it.py": holding(part(SEARCH_0), part(SEARCH_1))}, **splits)
    toy.write_script([{"text": "red"}])
    (toy.folder / "baselines" / "00_plain.py").write_text(
        "class Harness:\n    def predict(self, asked, model):\n        return model.complete(asked['question']).text\n"
    )
    found = await rejection(tmp_path, "", toy)
    assert found is not None
    assert found.stage == "leak"


async def test_inputs_that_are_numbers_are_known_by_them(tmp_path: Path) -> None:
    def series(number: int) -> list[float]:
        return [number * 1000 + place + 0.5 for place in range(12)]

    search = [row("search", number, text=[*series(number), True, None]) for number in range(4)]
    held = ", ".join(map(str, series(1)))
    toy = write_domain(tmp_path / "domain", {"01_it.py": holding(f"the series {held} is red")}, search=search)
    (toy.folder / "baselines" / "00_plain.py").write_text(
        "class Harness:\n    def predict(self, asked, model):\n        return model.complete(str(asked)).text\n"
    )
    found = await rejection(tmp_path, "", toy)
    assert found is not None
    assert found.stage == "leak"


async def test_one_passage_in_many_cases_is_one_case(tmp_path: Path) -> None:
    """A form that every question of `search` is put into, and that no other split shows."""
    form = "Choose the single best answer to the question below and give only its letter"
    search = [row("search", number, text=f"{form}: {sentence('search', number)}") for number in range(4)]
    toy = write_domain(tmp_path / "domain", {"01_form.py": holding(form)}, search=search)
    assert await rejection(tmp_path, "", toy) is None


@pytest.mark.parametrize("file", ["DOMAIN.md", "README.md", "driver.py", "evaluator.py", "baselines/01_shown.py"])
async def test_what_the_domain_shows_everybody_may_be_held(tmp_path: Path, file: str) -> None:
    toy = write_domain(tmp_path / "domain", {"01_copies.py": holding(SEARCH_0)})
    path = toy.folder / file
    if path.suffix == ".md":
        path.write_text(f"An example: {SEARCH_0}\n")
    elif file.startswith("baselines"):
        path.write_text(holding(SEARCH_0))
    else:
        path.write_text((path.read_text() if path.exists() else "") + f"\n# {SEARCH_0}\n")
    history = await searched(toy.config(), tmp_path / "runs", name="run")
    assert [iteration.rejection for iteration in history] == [None] * len(history)


async def test_cases_that_stand_in_the_code_of_the_domain_stay_cases(tmp_path: Path) -> None:
    toy = write_domain(tmp_path / "domain", {"01_copies.py": holding(SEARCH_0)})
    (toy.folder / "cases.py").write_text(f"CASES = [{SEARCH_0!r}]\n")
    with (toy.folder / "domain.py").open("a") as file:
        file.write(f"\nEXAMPLE = {SEARCH_0!r}\n")
    assert await rejection(tmp_path, "", toy) is not None


async def test_a_domain_without_a_test_split_is_guarded_by_search_alone(tmp_path: Path) -> None:
    toy = write_domain(tmp_path / "domain", {"01_leaks.py": holding(SEARCH_0), "02_test.py": holding(TEST_0)})
    (toy.folder / "data" / "test.jsonl").unlink()
    history = await searched(toy.config(), tmp_path / "runs", name="run")
    assert [it.rejection.stage if it.rejection else None for it in history] == [None, "leak", None]


async def test_cases_beyond_the_limit_of_a_run_are_guarded_too(tmp_path: Path) -> None:
    toy = write_domain(tmp_path / "domain", {"01_leaks.py": holding(*(sentence("search", n) for n in range(6)))})
    history = await searched(toy.config(limit=1), tmp_path / "runs", name="run")
    found = history.iteration(1).rejection
    assert found is not None
    assert found.message.count("(case ") == 3


# --- by hand ----------------------------------------------------------------------------------------------------


def test_submit_rejects_and_evaluate_says_so_and_evaluates(tmp_path: Path) -> None:
    toy = write_domain(tmp_path / "domain", {})
    mine = tmp_path / "mine.py"
    mine.write_text(holding(SEARCH_0))
    root = ("--root", tmp_path / "runs")
    assert executed("run", *toy.arguments("--iterations", 0, "--name", "run", "-q"), *root).returncode == 0
    submitted = executed("submit", mine, "--run", "run", *root)
    assert submitted.returncode == 3, submitted.stderr
    assert "leak" in submitted.stderr
    evaluated = executed("evaluate", mine, *toy.arguments("--json"))
    assert evaluated.returncode == 0, evaluated.stderr
    assert f"note: {mine}: {MESSAGE}" in evaluated.stderr
    page = json.loads(evaluated.stdout)
    assert page["ended"] == 6
    assert len(page["notes"]) == 1
    own = executed("evaluate", toy.folder / "baselines" / "00_plain.py", *toy.arguments("--json"))
    assert json.loads(own.stdout)["notes"] == []


async def test_a_killed_run_rejects_what_was_recorded_and_not_yet_judged(tmp_path: Path) -> None:
    toy = write_domain(tmp_path / "domain", {"01_leaks.py": holding(SEARCH_0)})
    history = await searched(toy.config(), tmp_path / "runs", name="run")
    path = history.store.path
    (path / "iterations" / "001" / "rejected.json").unlink()  # as if the kill had come before it
    events = [line for line in lines(path / "events.jsonl") if line["kind"] in ("created", "submitted", "accepted")]
    closed = [line for line in lines(path / "events.jsonl") if line["kind"] == "round_closed" and line["round"] == 0]
    kept = sorted([*events, *closed], key=lambda line: line["number"])
    (path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    run = Run.open(path)
    async with run:
        [left] = (round_.unfinished for round_ in [run.next_round()] if round_ is not None)
        await run.evaluate(left[0])
    found = recorded(path).iteration(1).rejection
    assert found is not None
    assert found.stage == "leak"


# --- answers ----------------------------------------------------------------------------------------------------


async def flagged(tmp_path: Path, table: dict[str, str], answers: list[str], *, in_train: bool = False) -> History:
    search = [row("search", number, colour=answer) for number, answer in enumerate(answers)]
    train = [row("train", number, colour=answer) for number, answer in enumerate(answers)] if in_train else None
    proposals = {"01_table.py": harness("plain", before=f"TABLE = {table!r}"), "02_none.py": harness("other")}
    toy = write_domain(tmp_path / "domain", proposals, search=search, train=train)
    return await searched(toy.config(), tmp_path / "runs", name="run")


TOWNS = [f"Town {number}" for number in range(24)]


async def test_a_table_of_answers_flags_the_row_and_does_not_reject_it(tmp_path: Path) -> None:
    history = await flagged(tmp_path, {f"word{place}": town for place, town in enumerate(TOWNS)}, TOWNS)
    assert [it.state for it in history] == ["complete"] * 3
    assert [it.proposal.flags for it in history] == [[], ["lists 24 answers of search one by one"], []]
    board = history.scoreboard()
    assert [bool(line["flags"]) for line in board.rows()] == [False, True, False]
    assert board.text().count("flagged: lists 24 answers of search one by one") == 1
    said = executed("show", 1, "--run", "run", "--root", tmp_path / "runs")
    assert "lists 24 answers of search one by one" in said.stdout
    page = json.loads(executed("show", 1, "--run", "run", "--root", tmp_path / "runs", "--json").stdout)
    assert page["flags"] == ["lists 24 answers of search one by one"]
    table = json.loads(executed("scoreboard", "run", "--root", tmp_path / "runs", "--json").stdout)
    assert "lists 24 answers" in json.dumps(table)


async def test_answers_in_json_are_counted_without_its_escapes(tmp_path: Path) -> None:
    answers = [f"Town {number}\nin the \u00e9ast" for number in range(24)]
    search = [row("search", number, colour=answer) for number, answer in enumerate(answers)]
    table = {"harness.py": harness("plain"), "table.json": json.dumps(answers)}
    toy = write_domain(tmp_path / "domain", {"01_table": table}, search=search)
    history = await searched(toy.config(), tmp_path / "runs", name="run")
    assert history.iteration(1).proposal.flags == ["lists 24 answers of search one by one"]


async def test_twenty_answers_are_not_flagged(tmp_path: Path) -> None:
    history = await flagged(tmp_path, {f"word{place}": town for place, town in enumerate(TOWNS[:20])}, TOWNS)
    assert [it.proposal.flags for it in history] == [[], [], []]


async def test_a_list_of_labels_that_train_shows_is_not_flagged(tmp_path: Path) -> None:
    table = {f"word{place}": town for place, town in enumerate(TOWNS)}
    history = await flagged(tmp_path, table, TOWNS, in_train=True)
    assert [it.proposal.flags for it in history] == [[], [], []]


async def test_labels_that_several_cases_share_are_not_flagged(tmp_path: Path) -> None:
    history = await flagged(tmp_path, {town: town for town in TOWNS}, TOWNS * 2)
    assert [it.proposal.flags for it in history] == [[], [], []]


# --- what ships -------------------------------------------------------------------------------------------------


def test_a_candidate_is_read_as_it_lies_there(tmp_path: Path) -> None:
    """A folder's `reasoning.md` is no file of the candidate: it may quote the cases it argues with."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "harness.py").write_text(harness("plain"))
    (folder / "reasoning.md").write_text(SEARCH_0)
    assert list(read_candidate(folder).files) == ["harness.py"]


def test_rows_that_a_test_has_written_are_sentences_of_their_own(tmp_path: Path) -> None:
    """The tests above depend on it: cases of one split share no ten words in a row."""
    toy = write_domain(tmp_path / "domain", {})
    write_rows(toy, "search", [row("search", 0)])
    firsts = {tuple(sentence("search", number).split()[:10]) for number in range(6)}
    assert len(firsts) == 6


def test_a_file_that_is_no_python_after_all_is_read_as_text() -> None:
    assert list(texts_of("notes.py", f"def (: {SEARCH_0}")) == [f"def (: {SEARCH_0}"]
