"""How `embedded:icl` finds demonstrations, label lists and the open question in one text of a prompt.

The shapes it knows are those people write: a field per line (`Text: ...`, `Label: ...`), JSON, tags, `text -> label`.
It guards nothing: a text that itself holds a line `Label: x` is read as a demonstration, as a model might read it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from metaharness.gateway.providers.embedded_blocks import (
    INPUT_WORDS,
    OUTPUT_WORDS,
    Shapes,
    is_template,
    last_word,
    take_json,
    take_tags,
)

LONGEST_LABEL = 120
"""Characters; what is longer is not read as a label."""
_LONGEST_NAME = 60

# fmt: off
_VERBS = frozenset((
    "answer", "respond", "reply", "return", "output", "classify", "categorize", "categorise", "choose", "pick",
    "select", "assign", "label", "give", "use", "only", "decide", "determine", "identify", "read", "write",
    "consider", "predict", "name",
))
# fmt: on
_HEADER = re.compile(
    r"\s*(?:[-*>#]+\s+|\d+[.)]\s+)?[*_`\"']{0,3}([^\W\d_]+(?: [^\W\d_]+)?)(?: ?#?\d+)?[*_`\"']{0,3}"
    r"\s?[:\uff1a][*_]{0,3}(?:\s+(.*)|(\S.*))?$"
)
_KINDS = (
    r"(?:labels|categories|classes|options|choices|candidates|answers|intents|topics|tags|types|queues|departments"
    r"|sentiments|values)"
)
_LIST_FIELD = re.compile(
    rf"\s*(?:[-*#]+\s*)?[*_]{{0,2}}(?:[^\W\d_]+ ){{0,3}}{_KINDS}\b[^:]{{0,40}}:[*_]{{0,2}}\s*(.*)$", re.I
)
_LIST_PHRASE = re.compile(rf"\b(?:one of|{_KINDS}|label|category|class)\b[^:.]{{0,60}}:\s*(.*)$", re.I)
_LIST_TAG = re.compile(rf"\s*<{_KINDS}>\s*([^<]*)(?:</\w+>)?\s*$", re.I)
_ONE_OF = re.compile(r"\bone of:?\s+(?!the\b|these\b|those\b|following\b)(.+)$", re.I)
_BULLET = re.compile(r"\s*(?:[-*\u2022+]|\d+[.)])\s+(?=\S)")
_DESCRIPTION = re.compile(r":\s|\s[-\u2013\u2014]\s")
_ARROW = re.compile(r"(.*\S)\s*(?:->|=>|\u2192|\u21d2|\t)\s*(\S.{0,119})?$")
_TAG_LINE = re.compile(r"\s*(?:</?[\w-]+>\s*)+$")
_SENTENCE_END = re.compile(r"\.(?:\s+[A-Z].*)?$", re.S)


def find_shapes(text: str, *, torn: bool = False) -> Shapes:
    """Read one text of a prompt, with newline characters between its lines.

    Args:
        text: The text of one message.
        torn: True when its beginning is missing, so that the first field may be the end of a demonstration.
    """
    shapes = Shapes()
    text = take_tags(text, shapes)
    text = take_json(text, shapes)
    _Fields(text, shapes, torn=torn).read()
    if not shapes.pairs:
        _take_arrows(shapes)
    shapes.pairs.sort()
    shapes.open.sort()
    return shapes


def strip_answer(answer: str) -> str:
    """An answer without quotes, emphasis and the like around it."""
    return answer.strip().strip("*_`\"'\u201c\u201d\u2018\u2019 \t").removesuffix(".").strip()


@dataclass(frozen=True)
class _Line:
    position: int
    text: str
    key: str
    """The key of its header in lower case; empty for a line without one."""
    value: str

    @property
    def word(self) -> str:
        return last_word(self.key)


class _Fields:
    """Reads lines one by one and keeps which field is open: `free` (none), `input`, `answer` or `list`."""

    def __init__(self, text: str, shapes: Shapes, *, torn: bool) -> None:
        self._shapes = shapes
        self._lines = list(_split(text))
        self._outputs = OUTPUT_WORDS | _unknown_outputs(self._lines)
        self._label_first = not torn and self._labels_stand_first()
        self._state = "free"
        self._key = ""
        self._text: list[str] = []
        """Lines of the open input."""
        self._start = 0
        self._label: str | None = None
        """The label that waits for its text, where labels stand first."""
        self._indent: int | None = None
        """Of the first entry of the open list; None before it."""
        self._blank = False
        """The line before was blank."""

    def read(self) -> None:
        for line in self._lines:
            if not line.text or line.text.isspace():
                self._on_blank(line)
            else:
                self._on_line(line)
                self._blank = False
        if self._state == "answer":
            self._shapes.asked = self._key
        self._close_input()

    def _on_blank(self, line: _Line) -> None:
        self._blank = True
        if self._state == "input":
            self._text.append("")
        else:
            self._shapes.free.append((line.position, ""))

    def _on_line(self, line: _Line) -> None:
        if self._state == "list" and _BULLET.match(line.text) and self._add_entry(line.text):
            return
        if line.key and (line.word in self._outputs or line.key in self._outputs):
            self._on_answer(line)
        elif line.key and line.word in INPUT_WORDS:
            self._on_input(line)
        elif self._state == "answer" and self._is_answer(line.text):
            self._state = "free"
            self._pair(line.position, line.text)
        elif not self._on_list(line):
            self._on_other(line)

    def _is_answer(self, text: str) -> bool:
        stripped = text.strip()
        return _TAG_LINE.match(text) is None and not (stripped.startswith("(") and stripped.endswith(")"))

    def _on_input(self, line: _Line) -> None:
        if self._state == "input" and line.key != self._key:
            self._text.append(line.text)  # a text may hold fields of its own, such as a subject and a body
            return
        self._close_input()
        if is_template(line.value):
            self._state = "free"
            return
        self._state, self._key, self._start, self._text = "input", line.key, line.position, [line.value]

    def _on_answer(self, line: _Line) -> None:
        phrase = _ONE_OF.search(line.value)
        if phrase or is_template(line.value):
            self._shapes.template = re.split("[:\uff1a]", line.text, maxsplit=1)[0].strip("-*_#>`\"' ")
            self._add_inline(phrase.group(1) if phrase else "")
        elif line.value:
            self._state = "free"
            self._pair(line.position, line.value)
        else:
            self._state, self._key = "answer", line.key

    def _pair(self, position: int, answer: str) -> None:
        """An answer has come: it belongs to the open input, or to the paragraph before it."""
        if self._label_first:
            self._close_input()
            self._label = answer
            return
        text = "\n".join(self._text).strip() if self._text else self._paragraph()
        self._text = []
        if text and len(answer) <= LONGEST_LABEL:
            self._shapes.pairs.append((position, text, answer))

    def _paragraph(self) -> str:
        """Take the paragraph just before out of the free lines; a line that announces something is none."""
        free = self._shapes.free
        end = len(free)
        if end and not free[end - 1][1]:
            end -= 1
        start = end
        while start and free[start - 1][1]:
            start -= 1
        lines = [text for _, text in free[start:end]]
        if not lines or (end < len(free) and lines[-1].rstrip().endswith(":")):
            return ""
        del free[start:]
        return "\n".join(_without_header(lines)).strip()

    def _close_input(self) -> None:
        text = "\n".join(self._text).strip()
        if not text and self._state == "answer":
            text = self._paragraph()
        if text and self._label is not None:
            self._shapes.pairs.append((self._start, text, self._label))
            self._label = None
        elif text:
            self._shapes.open.append((self._start, text))
        self._text = []

    def _on_list(self, line: _Line) -> bool:
        """Whether the line opens or continues a label list."""
        if self._state == "list":
            if self._add_entry(line.text):
                return True
            self._state = "free"
        inside = self._state == "input"
        match = _LIST_FIELD.match(line.text) or _LIST_TAG.match(line.text)
        if match is None and not inside:
            match = _LIST_PHRASE.search(line.text)
        if match is None:
            phrase = None if inside else _ONE_OF.search(line.text)
            return phrase is not None and self._add_inline(phrase.group(1), at_least=3)
        if match.group(1):
            return self._add_inline(match.group(1))
        if inside:
            return False
        self._state, self._indent = "list", None
        return True

    def _add_inline(self, value: str, at_least: int = 2) -> bool:
        names = _inline_names(value)
        if len(names) < at_least or any(len(name) > _LONGEST_NAME for name in names):
            return False
        self._shapes.items += [(name, False) for name in names]
        return True

    def _add_entry(self, text: str) -> bool:
        """Add a line of the open list; False when the line is none of it."""
        bullet = _BULLET.match(text)
        content = text[bullet.end() :] if bullet else text.strip()
        indent = len(text) - len(text.lstrip())
        items = self._shapes.items
        if self._indent is not None and indent > self._indent:
            items[-1] = (f"{items[-1][0].rstrip(':')}: {content}", True)
            return True
        if bullet is None:
            if self._blank and self._indent is not None:
                return False
            if _TAG_LINE.match(text) or len(_DESCRIPTION.split(content, maxsplit=1)[0]) > _LONGEST_NAME:
                return self._indent is None and self._add_inline(content)
            if self._indent is None and self._add_inline(content, at_least=3):
                self._state = "free"
                return True
        self._indent = indent
        items.append((content, True))
        return True

    def _on_other(self, line: _Line) -> None:
        if self._state == "input":
            self._text.append(line.text)
        else:
            self._shapes.free.append((line.position, "" if _TAG_LINE.match(line.text) else line.text))

    def _labels_stand_first(self) -> bool:
        """Whether each answer comes before its text: the first field is an answer, and an input follows at once."""
        answers = [
            line.word in self._outputs
            for line in self._lines
            if line.key and line.word in self._outputs | INPUT_WORDS and line.value
            if not is_template(line.value) and not _ONE_OF.search(line.value)
        ]
        return answers[:3] == [True, False, True] or answers == [True, False, False]


def _split(text: str) -> Iterator[_Line]:
    position = 0
    for line in text.split("\n"):
        match = _HEADER.match(line)
        key = match.group(1).lower() if match else ""
        if " " in key and key.split(" ", 1)[0] in _VERBS:
            key = ""
        yield _Line(position, line, key, _value(match) if match else "")
        position += len(line) + 1


def _value(match: re.Match[str]) -> str:
    return (match.group(2) or match.group(3) or "").strip()


def _unknown_outputs(lines: Sequence[_Line]) -> frozenset[str]:
    """Keys that are answers by their place: an empty field at the very end, or one that keeps ending paragraphs."""
    written = [line for line in lines if line.text.strip()]
    if written and written[-1].key and not written[-1].value and written[-1].word not in INPUT_WORDS:
        return frozenset({written[-1].key})
    if any(line.word in OUTPUT_WORDS and line.value for line in written):
        return frozenset()
    ends: Counter[str] = Counter()
    for place, line in enumerate(lines[1:], start=1):
        closes = place + 1 == len(lines) or not lines[place + 1].text.strip()
        if closes and line.key and line.word not in INPUT_WORDS and 0 < len(line.value) <= LONGEST_LABEL:
            ends[line.key] += bool(lines[place - 1].text.strip())
    return frozenset(key for key, times in ends.items() if times >= 2)


def _without_header(lines: list[str]) -> list[str]:
    match = _HEADER.match(lines[0])
    return lines if match is None else [_value(match), *lines[1:]]


def _inline_names(value: str) -> list[str]:
    """The names in `a, b or c`, in `a | b`, or in a JSON array."""
    value = value.strip()
    if value.startswith("["):
        try:
            parsed = json.loads(value[: value.rfind("]") + 1])
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, list):
            return [name for name in parsed if isinstance(name, str) and name.strip()]
    value = _SENTENCE_END.sub("", value).strip("()[]{}")
    separator = next((mark for mark in ("|", ";", ",", " / ") if mark in value), " or ")
    names = value.split(separator)
    if separator == ",":
        names[-1:] = re.split(r"^\s*(?:or|and)\s|\sor\s", names[-1])
    return [name for name in map(strip_answer, names) if name]


def _take_arrows(shapes: Shapes) -> None:
    """Read `text -> label` lines, where at least two of them are there or the last one is open."""
    found = [(place, match) for place, (_, line) in enumerate(shapes.free) if (match := _ARROW.match(line))]
    answered = [place for place, match in found if match.group(2)]
    if len(answered) < 2 and (not found or found[-1][1].group(2)):
        return
    for place, match in found:
        position = shapes.free[place][0]
        text = _BULLET.sub("", match.group(1), count=1).strip()
        if match.group(2):
            shapes.pairs.append((position, text, match.group(2).strip()))
        else:
            shapes.open.append((position, text))
        shapes.free[place] = (position, "")
