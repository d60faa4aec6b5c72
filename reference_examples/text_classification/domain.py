"""Classify short texts: JSON lines of a text and its label, one file per split. Its own data are support tickets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluator import ExactLabel

from metaharness.domain import Case, Domain, Objective, Split
from metaharness.errors import DomainError, UsageError

FILES: Mapping[Split, tuple[str, ...]] = {
    Split.TRAIN: ("train.jsonl",),
    Split.SEARCH: ("search.jsonl", "val.jsonl", "dev.jsonl"),
    Split.TEST: ("test.jsonl",),
}
"""Where each split is read from; the first file that exists is taken."""
OWN_DATA = Path(__file__).resolve().parent / "data"


class TextClassification(Domain):
    """One label per text, scored by exact match."""

    name = "text_classification"
    objectives = (
        Objective("accuracy", "max", range=(0.0, 1.0)),
        Objective("context_chars", "min", unit="characters"),
    )
    evaluator = ExactLabel()

    def __init__(self, folder: Path, text_field: str, label_field: str) -> None:
        self._folder = folder
        self._text_field = text_field
        self._label_field = label_field

    def cases(self, split: Split) -> Iterator[Case]:
        """The cases of one split; nothing of another split is read."""
        path = self._file(split)
        empty = True
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip():
                continue
            empty = False
            row = _row(line, path, number)
            text = _value(row, self._text_field, path, number)
            label = _value(row, self._label_field, path, number)
            yield Case(id=f"{split.value}-{number:04d}", input=text, expected=label)
        if empty:
            raise DomainError(f"{path} holds no cases", hint="write one JSON object per line")

    def _file(self, split: Split) -> Path:
        names = FILES[split]
        for name in names:
            if (self._folder / name).is_file():
                return self._folder / name
        raise DomainError(
            f"the split {split.value} has no file in {self._folder}",
            hint=f"write {' or '.join(names)} there, one JSON object per line",
        )


def domain(data: str | None = None, text_field: str = "text", label_field: str = "label") -> Domain:
    """The domain over a folder of JSON lines.

    Args:
        data: Folder with train.jsonl, search.jsonl (or val.jsonl, dev.jsonl) and test.jsonl; None for the tickets in
            `data/`.
        text_field: The field that holds the text.
        label_field: The field that holds the label.
    """
    folder = OWN_DATA if data is None else Path(data).expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"the data folder {folder} {what}", hint="--data takes a folder that holds train.jsonl")
    return TextClassification(folder, text_field, label_field)


def _lines(path: Path) -> Iterator[str]:
    try:
        # not str.splitlines(): it also breaks at characters that JSON allows inside a string
        yield from path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DomainError(f"{path} is not UTF-8: {error}", hint="save the file as UTF-8") from error


def _row(line: str, path: Path, number: int) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DomainError(
            f"{path}, line {number} is not JSON: {error}",
            hint="write one JSON object per line, without line breaks in it",
        ) from error
    if not isinstance(row, dict):
        raise DomainError(
            f"{path}, line {number} is a JSON {type(row).__name__}, not an object",
            hint='write one object per line, such as {"text": "...", "label": "..."}',
        )
    return row


def _value(row: Mapping[str, Any], field: str, path: Path, number: int) -> str:
    """A field as text. Labels such as 3 or true are taken as they are written in JSON."""
    if field not in row:
        raise DomainError(
            f"{path}, line {number} has no field {field!r}; its fields are: {', '.join(map(repr, row)) or 'none'}",
            hint="name the fields with --text-field and --label-field",
        )
    value = row[field]
    if isinstance(value, (int, float)):
        return json.dumps(value)
    if not isinstance(value, str) or not value.strip():
        raise DomainError(
            f"{path}, line {number}: the field {field!r} is {_shown(value)}, not a text",
            hint="give every case a text and a label",
        )
    return value


def _shown(value: Any) -> str:
    return "empty" if value is None or value in ("", [], {}) or isinstance(value, str) else f"a {type(value).__name__}"
