"""Candidates that a model has written as JSON, though it was asked for text: the whole answer, or a block of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_FENCED = re.compile(
    r"^ {0,3}(`{3,}|~{3,})[ \t]*(?:json\w*)?[ \t]*\n(\s*[\[{].*?)\n {0,3}\1[ \t]*$", re.DOTALL | re.MULTILINE
)
_LISTS = ("candidates", "proposals")
_SOURCES = ("harness.py", "source", "code", "harness")
_TEXTS = ("name", "hypothesis", "axis", "components", "predicted_effect", "parents", "reasoning")


@dataclass(frozen=True)
class JsonCandidate:
    """One of them, as the header of a candidate says it."""

    fields: dict[str, str]
    files: dict[str, str]


def json_candidates(text: str) -> list[JsonCandidate]:
    """The candidates of an answer in JSON: an object, a list of them, or one that holds a list. None in other texts."""
    for piece in _pieces(text):
        found = [_candidate(entry) for entry in _entries(piece)]
        if found := [one for one in found if one.files]:
            return found
    return []


def _pieces(text: str) -> Iterator[Any]:
    """JSON values that an answer may be."""
    stripped = text.strip()
    if stripped.startswith(("{", "[")):
        with suppress(ValueError, RecursionError):
            yield json.JSONDecoder(strict=False).raw_decode(stripped)[0]
    blocks = []
    for match in _FENCED.finditer(text):
        try:
            blocks.append(json.loads(match[2], strict=False))
        except (ValueError, RecursionError):
            continue
    yield from blocks if len(blocks) < 2 else [[entry for block in blocks for entry in _entries(block)]]


def _entries(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        listed = next((value[name] for name in _LISTS if isinstance(value.get(name), list)), [value])
    else:
        listed = value if isinstance(value, list) else []
    return [entry for entry in listed if isinstance(entry, Mapping)]


def _candidate(entry: Mapping[str, Any]) -> JsonCandidate:
    fields = {name.replace("_", " "): _said(entry[name]) for name in _TEXTS if entry.get(name) is not None}
    return JsonCandidate(fields, _files(entry))


def _files(entry: Mapping[str, Any]) -> dict[str, str]:
    given = entry.get("files")
    if isinstance(given, list):
        pairs = [
            (one.get("path", one.get("name")), one.get("content", one.get("text")))
            for one in given
            if isinstance(one, Mapping)
        ]
        given = dict(pairs)
    if isinstance(given, Mapping):
        return {path: text for path, text in given.items() if isinstance(path, str) and isinstance(text, str)}
    source = next((entry[name] for name in _SOURCES if isinstance(entry.get(name), str)), None)
    return {} if source is None else {"harness.py": source}


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
