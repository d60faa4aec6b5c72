"""The leak gate: a candidate that holds the text of the cases it is scored on. Pure: fingerprints in, a finding out.

    gate = LeakGate(search=..., sealed=..., train=..., public=..., answers=...)
    gate.find(files)            None, or what a rejection says; the same words for both splits
    gate.listed_answers(files)  how many answers of single cases stand there one by one

Seen are string constants (adjacent and added ones as one text), comments, and files that are no Python: as they stand,
and once more with escapes such as those of JSON undone. Not seen: text that is escaped twice, encoded otherwise,
reversed or put together when it runs, other words for the same, and what a candidate learns while it runs. A rejection
says of a text that its author already has that it stands in some case: who holds the text of a whole test case can ask
so whether it is one.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from metaharness.fingerprints import FEWEST, GRAM, Fingerprint, hash_of, leaves, windows, words_of

MOST_ANSWERS = 20
"""Answers of single cases that a candidate may hold one by one before its row is flagged."""
SHOWN = 3
"""Passages of `search` that a message quotes at most."""
MESSAGE = (
    "it holds text of the cases that candidates are scored on, so its score would say nothing about other cases; "
    "take that text out: examples come from `train`, through `learn`"
)

_COMMENT = re.compile(r"#(.*)")
_CELLS = re.compile(r'[\t\n,;|"]')
_ESCAPED = re.compile(r"((?:\\u[0-9a-fA-F]{4})+)|\\x([0-9a-fA-F]{2})|\\([nrt\"/\\])")
_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass
class _Stream:
    """The words of one text in order. They are hashed once, for both splits."""

    words: Sequence[str]

    @cached_property
    def grams(self) -> Sequence[int]:
        return windows(self.words)

    @cached_property
    def fives(self) -> Sequence[int]:
        """As many words as an input needs to be recognised: where none begins so, no longer ones are hashed."""
        return windows(self.words, FEWEST)


@dataclass
class _Split:
    """What is recognised of one split."""

    prints: Mapping[str, Fingerprint]
    owners: dict[int, str] = field(default_factory=dict)
    """A 10-gram to the first case that holds it: one passage is one case, in however many it stands."""
    shorts: dict[int, str] = field(default_factory=dict)
    """The hash of a short input to its case."""
    beginnings: dict[int, set[int]] = field(default_factory=dict)
    """The hash of the first words of short inputs to how many words those have."""

    def __post_init__(self) -> None:
        for case_id, found in self.prints.items():
            for gram in found.grams:
                self.owners.setdefault(gram, case_id)
            if found.short is not None:
                length, first, whole = found.short
                self.beginnings.setdefault(first, set()).add(length)
                self.shorts.setdefault(whole, case_id)

    def leave_out(self, stream: _Stream) -> None:
        """Text that anyone may hold."""
        for gram in stream.grams:
            self.owners.pop(gram, None)
        for _, short in self._short(stream):
            self.shorts.pop(short, None)

    def leave_out_split(self, other: Mapping[str, Fingerprint]) -> None:
        """Text that stands in the other split too."""
        for found in other.values():
            for gram in found.grams:
                self.owners.pop(gram, None)
            if found.short is not None:
                self.shorts.pop(found.short[2], None)

    def find(self, streams: Sequence[_Stream]) -> dict[str, str]:
        """Case id to a passage of it, where two cases or one whole input stand in the words; else nothing."""
        passages: dict[str, str] = {}
        held: set[int] = set()
        for stream in streams:
            held.update(stream.grams)
            for passage, short in self._short(stream):
                if (owner := self.shorts.get(short)) is not None:
                    passages.setdefault(owner, passage)
        whole = bool(passages)
        if not self.owners.keys().isdisjoint(held):
            for stream in streams:
                passages = {**self._passages(stream), **passages}
        whole = whole or (bool(passages) and self._holds_whole(held))
        return passages if whole or len(passages) > 1 else {}

    def _holds_whole(self, held: Set[int]) -> bool:
        """Whether some input stands there whole: also one that is a part of another, which then owns its 10-grams."""
        known = (found.grams for found in self.prints.values() if found.grams)
        return any(grams <= held and not self.owners.keys().isdisjoint(grams) for grams in known)

    def _short(self, stream: _Stream) -> Iterator[tuple[str, int]]:
        """Every passage that may be a whole short input, with its hash."""
        if not self.shorts:
            return
        for place, first in enumerate(stream.fives):
            for length in self.beginnings.get(first, ()):
                words = stream.words[place : place + length]
                if len(words) == length:
                    yield " ".join(words), hash_of(words)

    def _passages(self, stream: _Stream) -> dict[str, str]:
        """Case id to the first passage of ten words that it owns."""
        found: dict[str, str] = {}
        for place, passage in enumerate(stream.grams):
            if (owner := self.owners.get(passage)) is not None:
                found.setdefault(owner, " ".join(stream.words[place : place + GRAM]))
        return found


class LeakGate:
    """What candidates must not hold."""

    def __init__(
        self,
        *,
        search: Mapping[str, Fingerprint],
        sealed: Mapping[str, Fingerprint],
        train: Iterable[Any],
        public: Iterable[str],
        answers: Iterable[Any],
        known_answers: Iterable[Any],
    ) -> None:
        """Take the fingerprints of both splits, without what is known to all.

        Args:
            search: Of the split that scores candidates.
            sealed: Of the test split; empty where there is none.
            train: Inputs of `train`.
            public: What the domain shows everybody.
            answers: What is expected, of every case of `search`.
            known_answers: The same of `train`.
        """
        self._search, self._sealed = _Split(search), _Split(sealed)
        self._search.leave_out_split(sealed)
        self._sealed.leave_out_split(search)
        for text in (*(" ".join(leaves(value)) for value in train), *public):
            stream = _Stream(words_of(text))
            self._search.leave_out(stream)
            self._sealed.leave_out(stream)
        self._answers = single_answers(answers, known_answers)

    def find(self, files: Mapping[str, str]) -> str | None:
        """What a rejection says of a candidate; None when it may pass. It quotes `search` alone, and counts nothing.

        Each split is looked at by itself: text of `search` beside a guess does not make the guess easier to confirm.
        """
        texts = (text for path, source in sorted(files.items()) for text in texts_of(path, source))
        streams = [_Stream(words_of(text)) for text in texts]
        passages = self._search.find(streams)
        if passages:
            quoted = [f'"{passage}" (case {case_id})' for case_id, passage in sorted(passages.items())]
            return f"{MESSAGE}. In `search`: {', '.join(quoted[:SHOWN])}"
        return MESSAGE if self._sealed.find(streams) else None

    def listed_answers(self, files: Mapping[str, str]) -> int:
        """How many answers that belong to one case of `search` alone stand among the candidate's constants.

        Seen are answers that are texts, each a string constant or a cell of another file by itself. Not seen: numbers
        that stand in Python as numbers, and answers that are a part of a longer constant.
        """
        if len(self._answers) <= MOST_ANSWERS:
            return 0
        return len(self._answers.intersection(map(_plain, _constants_of_all(files))))


def single_answers(answers: Iterable[Any], known: Iterable[Any]) -> set[str]:
    """The answers that belong to one case each; what stands in `train` or is shared by cases is a label."""
    counted: dict[str, int] = {}
    for answer in answers:
        for text in {_plain(leaf) for leaf in leaves(answer)}:
            counted[text] = counted.get(text, 0) + 1
    labels = {_plain(leaf) for answer in known for leaf in leaves(answer)}
    return {text for text, count in counted.items() if count == 1 and text} - labels


def texts_of(path: str, source: str) -> Iterator[str]:
    """The texts of a file that a person could read as text: string constants in order, comments, or the whole file.

    A text with escapes comes a second time, without them.
    """
    tree = _parsed(source) if path.endswith(".py") else None
    if tree is None:
        yield from _readings(source)
        return
    yield from _readings("".join(_pieces(tree)))
    yield from _readings("\n".join(_COMMENT.findall(source)))


def _readings(text: str) -> Iterator[str]:
    """The text as it stands, and with its escapes undone where that is another text."""
    yield text
    if "\\" in text and (plain := _ESCAPED.sub(_unescaped, text)) != text:
        yield plain


def _unescaped(escape: re.Match[str]) -> str:
    """What one escape stands for. Code units in a row are taken together, as two of them may be one character."""
    units, byte, mark = escape.groups()
    if units is not None:
        return bytes.fromhex(units.replace("\\u", "")).decode("utf-16-be", "replace")
    return chr(int(byte, 16)) if byte is not None else _UNESCAPED.get(mark, mark)


def _parsed(source: str) -> ast.AST | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as for "\\d"
            return ast.parse(source.encode("utf-8", "replace"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the ladder says so
        return None


def _pieces(tree: ast.AST) -> Iterator[str]:
    """Constants in the order of the source, with a space between them unless they are added to each other."""
    waiting: list[ast.AST | str] = [tree]
    while waiting:
        node = waiting.pop()
        match node:
            case str():
                yield node
            case ast.Constant(value=str() | bytes() as value):
                yield _text(value)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                waiting.extend((right, left))
            case _:
                yield " "
                for child in reversed(list(ast.iter_child_nodes(node))):
                    waiting.extend((child, " "))


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _constants_of_all(files: Mapping[str, str]) -> Iterator[str]:
    for path, source in files.items():
        tree = _parsed(source) if path.endswith(".py") else None
        if tree is None:
            for cell in _CELLS.split(source):
                yield from _readings(cell)
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
                yield from _readings(_text(node.value))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
