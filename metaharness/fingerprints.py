"""Recognise text without keeping it: hashes of a case's whole input and of its word 10-grams.

The hashes are those of this process: they are compared, never stored. Case and punctuation do not count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from metaharness.domain import Case

GRAM = 10
"""Words in a row."""
FEWEST = 5
"""Words that an input needs to be recognised at all: a shorter one may be any phrase, or a label."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Fingerprint:
    """What can be recognised of one case."""

    whole: int
    """Hash of all its words in order; of a JSON value with the names of its fields."""
    grams: frozenset[int]
    """Hashes of the word 10-grams of its texts and numbers; empty where there are fewer words."""
    short: tuple[int, int] | None = None
    """Of an input of 5 to 9 words: how many, and the hash of all of them; else None."""


def fingerprint(value: Any) -> Fingerprint:
    """The fingerprint of a case's input: a text, or any JSON value taken as text."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    words = words_of(" ".join(leaves(value)))
    short = (len(words), hash(tuple(words))) if FEWEST <= len(words) < GRAM else None
    return Fingerprint(hash(tuple(words_of(text))), frozenset(windows(words)), short)


def fingerprints(cases: Iterable[Case]) -> dict[str, Fingerprint]:
    """Case id to fingerprint."""
    return {case.id: fingerprint(case.input) for case in cases}


def words_of(text: str) -> list[str]:
    """The words of a text in order, in lower case."""
    return _WORD.findall(text.lower())


def windows(words: Sequence[str], size: int = GRAM) -> Iterator[int]:
    """The hash of every `size` words in a row, in order."""
    return map(hash, zip(*(islice(words, start, None) for start in range(size)), strict=False))


def leaves(value: Any) -> Iterator[str]:
    """The texts and numbers in a JSON value, in order, without the names of fields."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, (list, tuple)):
            waiting.extend(reversed(one))
        elif isinstance(one, dict):
            waiting.extend(one[name] for name in sorted(one, reverse=True))
        elif isinstance(one, (int, float)) and not isinstance(one, bool):
            yield str(one)
