"""The domain of the text classification example: its splits, its grades, and what it says when data do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from examples_kit import EXAMPLE

from metaharness.domain import Case, Domain, Grade, GradeContext, Split, split_cases
from metaharness.errors import DomainError, MetaharnessError, UsageError
from metaharness.loading import load_domain, shipped_domains


def load(data: Path, **options: str) -> Domain:
    return load_domain(str(EXAMPLE), {"data": str(data), **options})


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_it_is_a_shipped_domain_with_two_objectives(tmp_path: Path) -> None:
    domain = load_domain("text_classification", {"data": str(tmp_path)})

    assert "text_classification" in shipped_domains()
    assert [(objective.name, objective.direction) for objective in domain.objectives] == [
        ("accuracy", "max"),
        ("context_chars", "min"),
    ]
    assert [path.stem for path in domain.baselines()] == ["00_zero_shot", "01_few_shot_random", "02_few_shot_all"]
    assert "class Harness" in domain.instructions()


def test_cases_are_named_by_split_and_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": "x"}\n\n{"text": "b\u2028c", "label": 3}\n', "utf-8")

    assert split_cases(load(tmp_path), Split.TRAIN) == [
        Case(id="train-0001", input="a", expected="x"),
        Case(id="train-0003", input="b\u2028c", expected="3"),
    ]


def test_fields_have_the_names_that_are_given(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", {"question": "q", "answer": "a", "text": "other"})
    domain = load(tmp_path, text_field="question", label_field="answer")

    assert split_cases(domain, Split.TEST) == [Case(id="test-0001", input="q", expected="a")]


@pytest.mark.parametrize("name", ["search", "val", "dev"])
def test_the_search_split_has_three_names(tmp_path: Path, name: str) -> None:
    write(tmp_path / f"{name}.jsonl", {"text": "a", "label": "x"})

    assert [case.id for case in split_cases(load(tmp_path), Split.SEARCH)] == ["search-0001"]


def test_the_first_name_of_the_search_split_wins(tmp_path: Path) -> None:
    for name in ("dev", "val", "search"):
        write(tmp_path / f"{name}.jsonl", {"text": name, "label": "x"})

        assert [case.input for case in split_cases(load(tmp_path), Split.SEARCH)] == [name]


def test_a_damaged_split_does_not_stop_another(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {"text": "a", "label": "x"})
    (tmp_path / "test.jsonl").write_text("not JSON", "utf-8")

    assert len(split_cases(load(tmp_path), Split.TRAIN)) == 1


FAULTS: dict[str, tuple[bytes, list[str]]] = {
    "empty file": (b"", ["train.jsonl holds no cases"]),
    "blank lines only": (b"\n \n", ["train.jsonl holds no cases"]),
    "malformed line": (b'{"text": "a", "label": "x"}\n{"text": "a"', ["train.jsonl, line 2 is not JSON"]),
    "deep nesting": (b"[" * 100_000, ["train.jsonl, line 1 is not JSON"]),
    "an array": (b"[1]", ["train.jsonl, line 1 is a JSON list, not an object"]),
    "missing text": (b'{"question": "a", "label": "x"}', ["line 1 has no field 'text'", "'question', 'label'"]),
    "missing label": (b'{"text": "a", "answer": "x"}', ["line 1 has no field 'label'", "'text', 'answer'"]),
    "no fields": (b"{}", ["line 1 has no field 'text'; its fields are: none"]),
    "empty text": (b'{"text": " ", "label": "x"}', ["line 1: the field 'text' is empty"]),
    "null label": (b'{"text": "a", "label": null}', ["line 1: the field 'label' is empty"]),
    "list as text": (b'{"text": ["a"], "label": "x"}', ["line 1: the field 'text' is a list"]),
    "not UTF-8": (b'{"text": "\xff", "label": "x"}', ["train.jsonl is not UTF-8"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_data_are_named_by_file_and_line(tmp_path: Path, fault: str) -> None:
    content, expected = FAULTS[fault]
    (tmp_path / "train.jsonl").write_bytes(content)
    domain = load(tmp_path)

    with pytest.raises(DomainError) as caught:
        split_cases(domain, Split.TRAIN)

    for part in expected:
        assert part in caught.value.message
    assert caught.value.hint


def no_folder(tmp_path: Path) -> None:
    load(tmp_path / "absent")


def a_file(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").touch()
    load(tmp_path / "train.jsonl")


def no_split(tmp_path: Path) -> None:
    split_cases(load(tmp_path), Split.SEARCH)


@pytest.mark.parametrize(
    ("act", "kind", "message", "hint"),
    [
        (no_folder, UsageError, "absent does not exist", "--data"),
        (a_file, UsageError, "is a file, not a folder", "--data"),
        (no_split, DomainError, "the split search has no file in", "search.jsonl or val.jsonl or dev.jsonl"),
    ],
)
def test_missing_data_are_explained(
    tmp_path: Path, act: Callable[[Path], None], kind: type[MetaharnessError], message: str, hint: str
) -> None:
    with pytest.raises(kind) as caught:
        act(tmp_path)

    assert message in caught.value.message
    assert caught.value.hint is not None
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("output", "right"),
    [
        ("Common Cold", True),
        ("  common\n cold. ", True),
        ("\u201ccommon cold\u201d", True),
        ("**common cold**", True),
        ("commoncold", False),
        ("the label is common cold", False),
        ("", False),
        (None, False),
        (["common cold"], False),
    ],
)
def test_an_answer_is_right_when_it_is_the_label(tmp_path: Path, output: Any, right: bool) -> None:
    case = Case(id="search-0001", input="a", expected="common cold")
    context = GradeContext(case=case, output=output, calls=(), trial=0, files=None, judge=None)
    grade = load(tmp_path).evaluator.grade(context)

    assert isinstance(grade, Grade)
    assert grade.value == float(right)
    assert (grade.notes == "") is right


def test_a_wrong_answer_is_explained(tmp_path: Path) -> None:
    case = Case(id="search-0001", input="a", expected="C++")
    context = GradeContext(case=case, output="C#", calls=(), trial=0, files=None, judge=None)
    grade = load(tmp_path).evaluator.grade(context)

    assert isinstance(grade, Grade)
    assert grade.notes == "expected 'C++', got 'C#'"
