"""How `embedded:icl` finds demonstrations, label lists and the open question in one text of a prompt.

The shapes it knows are those people write: a field per line (`Text: ...`, `Label: ...`), JSON, tags, `text -> label`.
It guards nothing: a text that itself holds a line `Label: x` is read as a demonstration, as a model might read it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from metaharness.gateway.providers.embedded_blocks import (
    INPUT_WORDS,
    OUTPUT_WORDS,
    Shapes,
    is_template,
    last_word,
    take_json,
    take_tags,
)
from metaharness.gateway.providers.embedded_lines import BULLET, has_answer, take_lines
from metaharness.gateway.providers.embedded_lists import LONGEST_LABEL, TAG_LINE, LabelLists, is_one_of

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
_REQUEST = re.compile(
    r"\s*(?:please |now |then |finally,? |think .{0,40})*(?:answer|respond|reply|return|output|classify|choose|pick|"
    r"select|assign|label|categori[sz]e|which (?:label|category|class)|what (?:is the )?(?:label|category|class))\b",
    re.I,
)
_MOST_TAILS = 3
"""So many announcements are looked behind for the end of a question."""


def find_shapes(text: str, *, torn: bool = False) -> Shapes:
    """Read one text of a prompt, with newline characters between its lines.

    Args:
        text: The text of one message.
        torn: True when its beginning is missing, so that the first field may be the end of a demonstration.
    """
    shapes = Shapes()
    text = take_tags(text, shapes)
    text = take_json(text, shapes)
    _Fields(list(_split(text)), shapes, torn=torn).read()
    if not shapes.pairs:
        take_lines(shapes)
    shapes.pairs.sort()
    shapes.open.sort()
    return shapes


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

    @property
    def blank(self) -> bool:
        return not self.text or self.text.isspace()


class _Fields:
    """Reads lines one by one and keeps which field is open: `free` (none), `input` or `answer`."""

    def __init__(self, lines: Sequence[_Line], shapes: Shapes, *, torn: bool = False, whole: bool = True) -> None:
        self._shapes = shapes
        self._lists = LabelLists(shapes.items)
        self._lines = lines
        self._whole = whole
        """False when the lines are the tail of an open input."""
        self._outputs = OUTPUT_WORDS | _unknown_outputs(lines)
        fields = self._filled_fields()
        answers = [is_answer for is_answer, _ in fields]
        self._answered = any(answers)
        self._label_first = not torn and (answers[:3] == [True, False, True] or answers == [True, False, False])
        self._starts = {key for (before, _), (now, key) in pairwise(fields) if before and not now}
        """Keys of the inputs that follow an answer: with them a demonstration begins."""
        self._state = "free"
        self._key = ""
        self._text: list[_Line] = []
        """Lines of the open input, the first one cut to its value."""
        self._label: str | None = None
        """The label that waits for its text, where labels stand first."""
        self._blank = False
        """The line before was blank."""

    def read(self) -> None:
        for line in self._lines:
            if line.blank:
                self._on_blank(line)
            else:
                self._on_line(line)
            self._blank = line.blank
        if self._state == "answer":
            self._shapes.asked = self._key
        if self._whole:
            self._cut_tail()
        self._close_input()

    def _on_blank(self, line: _Line) -> None:
        if self._state == "input":
            self._text.append(line)
        else:
            self._shapes.free.append((line.position, ""))

    def _on_line(self, line: _Line) -> None:
        if self._lists.open and BULLET.match(line.text) and self._lists.take_entry(line.text, blank=self._blank):
            return
        if line.key and (line.word in self._outputs or line.key in self._outputs):
            self._on_answer(line)
        elif line.key and line.word in INPUT_WORDS:
            self._on_input(line)
        elif self._state == "answer" and _is_answer(line.text):
            self._state = "free"
            self._pair(line.position, line.text)
        elif not self._lists.take(line.text, inside=self._state == "input", blank=self._blank):
            self._on_other(line)

    def _on_input(self, line: _Line) -> None:
        self._lists.open = False
        begins = line.key in self._starts and self._key not in self._starts
        if self._state == "input" and line.key != self._key and not begins:
            self._text.append(line)  # a text may hold fields of its own, such as a subject and a body
            return
        self._close_input()
        if is_template(line.value) or (not self._answered and has_answer(line.value)):
            self._state = "free"
            self._shapes.free.append((line.position, "" if is_template(line.value) else line.value))
            return
        self._state, self._key = "input", line.key
        self._text = [_Line(line.position, line.value, "", "")]

    def _on_answer(self, line: _Line) -> None:
        self._lists.open = False
        if is_one_of(line.value) or is_template(line.value):
            self._shapes.template = re.split("[:\uff1a]", line.text, maxsplit=1)[0].strip("-*_#>`\"' ")
            self._lists.take_phrase(line.value)
        elif line.value:
            self._state = "free"
            self._pair(line.position, line.value)
        else:
            self._state, self._key = "answer", line.key

    def _on_other(self, line: _Line) -> None:
        if self._state == "input":
            self._text.append(line)
        else:
            self._shapes.free.append((line.position, "" if TAG_LINE.match(line.text) else line.text))

    def _pair(self, position: int, answer: str) -> None:
        """An answer has come: it belongs to the open input, or to the paragraph before it."""
        if self._label_first:
            self._close_input()
            self._label = answer
            return
        text = _joined(self._text) if self._text else self._paragraph()
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
        position = self._text[0].position if self._text else 0
        text = _joined(self._text)
        if not text and self._state == "answer":
            text = self._paragraph()
        if text and self._label is not None:
            self._shapes.pairs.append((position, text, self._label))
            self._label = None
        elif text:
            self._shapes.open.append((position, text))
        self._text = []

    def _cut_tail(self) -> None:
        """Let the last question end where a request, or an announcement of demonstrations or labels, begins."""
        tried = 0
        for place in range(1, len(self._text)):
            line = self._text[place]
            if line.blank or not self._text[place - 1].blank or not _joined(self._text[:place]):
                continue
            request = _REQUEST.match(line.text) is not None
            if not request and (not line.text.rstrip().endswith(":") or tried == _MOST_TAILS):
                continue
            tried += not request
            tail = Shapes()
            _Fields(self._text[place:], tail, whole=False).read()
            if not tail.pairs:
                take_lines(tail)
            if request or tail.pairs or tail.items:
                del self._text[place:]
                self._add_tail(tail)
                return

    def _add_tail(self, tail: Shapes) -> None:
        self._shapes.pairs += tail.pairs
        self._shapes.items += tail.items
        self._shapes.free += tail.free
        self._shapes.template = self._shapes.template or tail.template

    def _filled_fields(self) -> list[tuple[bool, str]]:
        """Of each field with a value: whether it is an answer, and its key."""
        return [
            (line.word in self._outputs or line.key in self._outputs, line.key)
            for line in self._lines
            if line.key and (line.word in self._outputs | INPUT_WORDS or line.key in self._outputs) and line.value
            if not is_template(line.value) and not is_one_of(line.value)
        ]


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


def _joined(lines: Sequence[_Line]) -> str:
    return "\n".join(line.text for line in lines).strip()


def _is_answer(text: str) -> bool:
    """Whether a line can be the value of an answer that was left empty on the line before."""
    stripped = text.strip()
    return TAG_LINE.match(text) is None and not (stripped.startswith("(") and stripped.endswith(")"))


def _unknown_outputs(lines: Sequence[_Line]) -> frozenset[str]:
    """Keys that are answers by their place: an empty field at the very end, or one that keeps ending paragraphs."""
    written = [line for line in lines if not line.blank]
    if written and written[-1].key and not written[-1].value and written[-1].word not in INPUT_WORDS:
        return frozenset({written[-1].key})
    if any(line.word in OUTPUT_WORDS and line.value for line in written):
        return frozenset()
    ends: Counter[str] = Counter()
    for place, line in enumerate(lines[1:], start=1):
        closes = place + 1 == len(lines) or lines[place + 1].blank
        if closes and line.key and line.word not in INPUT_WORDS and 0 < len(line.value) <= LONGEST_LABEL:
            ends[line.key] += not lines[place - 1].blank
    return frozenset(key for key, times in ends.items() if times >= 2)


def _without_header(lines: list[str]) -> list[str]:
    match = _HEADER.match(lines[0])
    return lines if match is None else [_value(match), *lines[1:]]
