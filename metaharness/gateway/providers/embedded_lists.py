"""How `embedded:icl` finds the list of labels: `Labels: a, b, c`, a bulleted list, `one of: ...`, with descriptions."""

from __future__ import annotations

import json
import re

from metaharness.gateway.providers.embedded_lines import BULLET

LONGEST_LABEL = 120
"""Characters; what is longer is not read as a label."""
_LONGEST_NAME = 60
"""Characters of a name in a sentence, where it is told from prose by its length."""

_KINDS = (
    r"(?:labels|categories|classes|options|choices|candidates|answers|intents|topics|tags|types|queues|departments"
    r"|sentiments|values)"
)
_FIELD = re.compile(
    rf"\s*(?:[-*#]+\s*)?[*_]{{0,2}}(?:[^\W\d_]+ ){{0,3}}{_KINDS}\b[^:]{{0,40}}:[*_]{{0,2}}\s*(.*)$", re.I
)
_HEADING = re.compile(rf"\s*#+\s+(?:[^\W\d_]+ ){{0,3}}{_KINDS}\s*()$", re.I)
_TAG = re.compile(rf"\s*<{_KINDS}>\s*([^<]*)(?:</\w+>)?\s*$", re.I)
_PHRASE = re.compile(rf"\b(?:one of|{_KINDS}|label|category|class)\b[^:.]{{0,60}}:\s*(.*)$", re.I)
_ONE_OF = re.compile(r"\bone of:?\s+(?!the\b|these\b|those\b|following\b)(.+)$", re.I)
_DESCRIPTION = re.compile(r":\s|\s[-\u2013\u2014]\s")
_SENTENCE_END = re.compile(r"\.(?:\s+[A-Z].*)?$", re.S)
TAG_LINE = re.compile(r"\s*(?:</?[\w-]+>\s*)+$")
"""A line that holds nothing but tags."""


class LabelLists:
    """Collects the entries of label lists, line by line."""

    def __init__(self, items: list[tuple[str, bool]]) -> None:
        self.open = False
        """Whether the next line may be an entry."""
        self._items = items
        self._indent: int | None = None
        """Of the first entry of the open list; None before it."""

    def take(self, text: str, *, inside: bool, blank: bool) -> bool:
        """Whether the line opens or continues a label list.

        Args:
            text: The line.
            inside: True within a text to classify, where only a plain list field counts.
            blank: True when the line before was blank.
        """
        if self.open:
            if self.take_entry(text, blank=blank):
                return True
            self.open = False
        match = _FIELD.match(text) or _TAG.match(text) or _HEADING.match(text)
        if match is None and not inside:
            match = _PHRASE.search(text)
        if match is None:
            return not inside and self.take_phrase(text)
        if match.group(1):
            return self._take_names(match.group(1), at_least=2)
        if inside:
            return False
        self.open, self._indent = True, None
        return True

    def take_phrase(self, text: str) -> bool:
        """Take the names of `one of a, b or c` out of a line."""
        phrase = _ONE_OF.search(text)
        return phrase is not None and self._take_names(phrase.group(1), at_least=3)

    def take_entry(self, text: str, *, blank: bool) -> bool:
        """Take a line of the open list; False when the line is none of it."""
        bullet = BULLET.match(text)
        content = text[bullet.end() :] if bullet else text.strip()
        indent = len(text) - len(text.lstrip())
        if self._indent is not None and indent > self._indent:
            self._items[-1] = (f"{self._items[-1][0].rstrip(':')}: {content}", True)
            return True
        if bullet is None and self._indent is None and self._take_names(content, at_least=3):
            self.open = False
            return True
        if bullet is None and not self._is_entry(text, content, blank=blank):
            return False
        self._indent = indent
        self._items.append((content, True))
        return True

    def _is_entry(self, text: str, content: str, *, blank: bool) -> bool:
        if blank and self._indent is not None:
            return False
        return TAG_LINE.match(text) is None and len(_DESCRIPTION.split(content, maxsplit=1)[0]) <= _LONGEST_NAME

    def _take_names(self, value: str, *, at_least: int) -> bool:
        names = _names(value)
        if len(names) < at_least or any(len(name) > _LONGEST_NAME for name in names):
            return False
        self._items += [(name, False) for name in names]
        return True


def is_one_of(text: str) -> bool:
    """Whether a line says which answers are allowed, as in `Label: one of a, b or c`."""
    return _ONE_OF.search(text) is not None


def described(items: list[tuple[str, bool]], shown: set[str]) -> dict[str, str]:
    """Names and descriptions of a label list.

    Args:
        items: Its entries, and whether each may hold a description.
        shown: The labels of the demonstrations, folded; an entry that is one of them has no description.
    """
    labels: dict[str, str] = {}
    for entry, may_describe in items:
        name, description = entry, ""
        if may_describe and fold(strip_answer(entry)) not in shown:
            name, *rest = _DESCRIPTION.split(entry, maxsplit=1)
            description = rest[0].strip() if rest else ""
        name = strip_answer(name)
        if name and len(name) <= LONGEST_LABEL:
            labels[name] = f"{labels.get(name, '')} {description}".strip()
    return labels


def strip_answer(answer: str) -> str:
    """An answer without quotes, emphasis and the like around it."""
    return answer.strip().strip("*_`\"'\u201c\u201d\u2018\u2019 \t").removesuffix(".").strip()


def fold(label: str) -> str:
    """The form in which two spellings of a label are equal."""
    return " ".join(label.casefold().split())


def _names(value: str) -> list[str]:
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
