"""How `embedded:icl` finds demonstrations written as JSON or between tags.

`Shapes` is what one text of a prompt holds; the functions here take the blocks out of the text and fill it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# fmt: off
INPUT_WORDS = frozenset((
    "q", "question", "input", "text", "query", "message", "ticket", "sentence", "review", "document",
    "utterance", "example", "request", "case", "description", "content", "email", "subject", "body", "title",
    "passage", "comment", "post", "statement", "article", "user", "customer",
))
OUTPUT_WORDS = frozenset((
    "a", "answer", "label", "category", "class", "output", "prediction", "classification", "intent", "topic",
    "response", "expected", "target", "tag", "result", "sentiment",
))
# fmt: on
_TEMPLATE = re.compile(
    r"(?:<[^>]*>|\{[^}]*\}|\[[^\]]*\b(?:labels?|category|class|name|answer|your|one of)\b[^\]]*\]"
    r"|\.\.\.|\u2026|_+|\?+|X)\.?$"
)
"""What stands in the place of an answer where the form of the answer is shown."""

_PAIR_OF_TAGS = re.compile(
    rf"<({'|'.join(sorted(INPUT_WORDS - {'example', 'case'}))})>((?:(?!<\1>).)*?)</\1>"
    rf"(?:\s*<({'|'.join(sorted(OUTPUT_WORDS))})>([^<]*)</\3>)?",
    re.S | re.I,
)
_LABELLED_TAG = re.compile(
    rf"<(\w+)\s+(?:{'|'.join(sorted(OUTPUT_WORDS))})=[\"']([^\"'<>]*)[\"']\s*>([^<]*)</\1>", re.I
)
_JSON_START = re.compile(r"^[ \t]*(?:[-*]\s+)?(?=[{\[])", re.M)
_OPEN_JSON = re.compile(r'[ \t]*\{\s*"\w+"\s*:\s*"((?:[^"\\]|\\.)*)"')
_MOST_FAILURES = 20
"""So many brackets that open no JSON end the search for it."""


@dataclass
class Shapes:
    """What one text holds. Positions are offsets in that text."""

    pairs: list[tuple[int, str, str]] = field(default_factory=list)
    """Position, text and answer, as written."""
    open: list[tuple[int, str]] = field(default_factory=list)
    """Inputs without an answer."""
    items: list[tuple[str, bool]] = field(default_factory=list)
    """Entries of label lists; True: a line of its own, which may hold a description."""
    free: list[tuple[int, str]] = field(default_factory=list)
    """Every other line, blank ones too."""
    template: str | None = None
    """The key of a line such as `Label: <label>`."""
    asked: str | None = None
    """The key of an empty field at the very end, such as `Label:`."""


def last_word(key: str) -> str:
    """The word that says what a field holds: `label` of `Final label` and of `true_label`."""
    return key.lower().replace("_", " ").rsplit(" ", 1)[-1]


def is_template(value: str) -> bool:
    """Whether a value shows the form of an answer (`<label>`, `...`) and is none itself."""
    if len(value) > 200 or not _TEMPLATE.match(value):
        return False
    inner = json_label(value)
    return inner is None or bool(_TEMPLATE.match(inner[1]))


def take_tags(text: str, shapes: Shapes) -> str:
    """Take `<text>...</text><label>...</label>` and open `<text>...</text>` out of the text."""
    if "</" not in text:
        return text

    def take(match: re.Match[str]) -> str:
        _, asked, key, answer = match.groups()
        asked = asked.strip()
        if is_template(asked):
            return match.group()
        if key and not is_template(answer.strip()):
            shapes.pairs.append((match.start(), asked, answer))
        else:
            shapes.open.append((match.start(), asked))
        return " " * len(match.group())

    def take_labelled(match: re.Match[str]) -> str:
        shapes.pairs.append((match.start(), match.group(3).strip(), match.group(2)))
        return " " * len(match.group())

    return _LABELLED_TAG.sub(take_labelled, _PAIR_OF_TAGS.sub(take, text))


def take_json(text: str, shapes: Shapes) -> str:
    """Take the objects (and arrays of objects) that begin a line out of the text."""
    decoder = json.JSONDecoder()
    failures = 0
    position = 0
    pieces: list[str] = []
    for match in _JSON_START.finditer(text):
        if match.end() < position or failures > _MOST_FAILURES:
            continue
        try:
            value, end = decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            failures += 1
            _take_unfinished(text, match.end(), shapes)
            continue
        if _take_value(value, match.start(), shapes):
            end += text[end : end + 1] == ","
            pieces += [text[position : match.start()], " " * (end - match.start())]
            position = end
    return "".join(pieces) + text[position:]


def _take_unfinished(text: str, start: int, shapes: Shapes) -> None:
    """An object left open on the last line is a question: `{"text": "...", "label":`."""
    match = _OPEN_JSON.match(text, start)
    if match is not None and "\n" not in text[start:].strip():
        shapes.open.append((start, match.group(1)))


def _take_value(value: Any, position: int, shapes: Shapes) -> bool:
    """Whether a JSON value was a demonstration or a question, or a list of them."""
    rows = value if isinstance(value, list) else [value]
    known = [pair for row in rows if isinstance(row, dict) and (pair := _json_pair(row)) is not None]
    for text, answer in known:
        if answer is None:
            shapes.open.append((position, text))
        else:
            shapes.pairs.append((position, text, answer))
    return bool(known)


def _json_pair(row: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Text and answer of an object; the answer is None where it is empty or missing."""
    source = next((key for key in row if last_word(key) in INPUT_WORDS), None)
    target = next((key for key in row if last_word(key) in OUTPUT_WORDS), None)
    others = [key for key, value in row.items() if isinstance(value, str) and key not in (source, target)]
    if source is None and others and (target is not None or len(others) == 2):
        source = others.pop(0)
    if target is None and len(others) == 1:
        target = others[0]
    if source is None or not isinstance(row[source], str) or _TEMPLATE.match(row[source]):
        return None
    answer = row.get(target) if target is not None else None
    if answer is None or answer == "" or (isinstance(answer, str) and _TEMPLATE.match(answer)):
        return row[source], None
    return row[source], answer if isinstance(answer, str) else json.dumps(answer)


def json_label(text: str) -> tuple[str, str] | None:
    """Key and value of an answer that is a JSON object, such as `{"label": "x"}`; None for any other answer."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    strings = [key for key, item in value.items() if isinstance(item, str)]
    key = next((key for key in strings if last_word(key) in OUTPUT_WORDS), strings[0] if len(strings) == 1 else None)
    return (key, value[key]) if key is not None else None
