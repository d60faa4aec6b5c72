"""Recognise text without keeping it: hashes of a case's whole input and of its word 10-grams.

The hashes are the same in every process (BLAKE2b, 8 bytes), so that those of a sealed split can stand in a file.
Case and punctuation do not count.

Not guarded: who guesses an input can confirm the guess, and who knows nine words in a row can try words for the tenth.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from typing import Any

from metaharness.domain import Case

GRAM = 10
"""Words in a row."""
FEWEST = 5
"""Words that an input needs to be recognised at all: a shorter one may be any phrase, or a label."""

BYTES = 8
"""Of a hash."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Fingerprint:
    """What can be recognised of one case."""

    whole: int
    """Hash of all its words in order; of a JSON value with the names of its fields."""
    grams: frozenset[int]
    """Hashes of the word 10-grams of its texts and numbers; empty where there are fewer words."""
    short: tuple[int, int, int] | None = None
    """Of an input of 5 to 9 words: how many, the hash of the first five, and that of all of them; else None."""


def fingerprint(value: Any) -> Fingerprint:
    """The fingerprint of a case's input: a text, or any JSON value taken as text."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    words = words_of(" ".join(leaves(value)))
    few = FEWEST <= len(words) < GRAM
    short = (len(words), hash_of(words[:FEWEST]), hash_of(words)) if few else None
    return Fingerprint(hash_of(words_of(text)), frozenset(windows(words)), short)


def fingerprints(cases: Iterable[Case]) -> dict[str, Fingerprint]:
    """Case id to fingerprint."""
    return {case.id: fingerprint(case.input) for case in cases}


def words_of(text: str) -> list[str]:
    """The words of a text in order, in lower case."""
    return _WORD.findall(text.lower())


def windows(words: Sequence[str], size: int = GRAM) -> tuple[int, ...]:
    """The hash of every `size` words in a row, in order."""
    text = " ".join(words).encode("utf-8", "surrogatepass")
    ascii_only = len(text) == sum(map(len, words)) + len(words) - 1
    lengths = map(len, words) if ascii_only else (len(word.encode("utf-8", "surrogatepass")) for word in words)
    starts = list(accumulate(lengths, lambda start, length: start + length + 1, initial=0))
    places = zip(starts, starts[size:], strict=False)
    # in one piece: this is most of what the leak gate takes
    hashes = b"".join([blake2b(text[start : end - 1], digest_size=BYTES).digest() for start, end in places])
    return unpacked(hashes)


def hash_of(words: Sequence[str]) -> int:
    """The hash of all these words in order."""
    text = " ".join(words).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=BYTES).digest(), "big")


def packed(hashes: Iterable[int]) -> bytes:
    """Hashes one after another, 8 bytes each."""
    return b"".join(one.to_bytes(BYTES, "big") for one in hashes)


def unpacked(hashes: bytes) -> tuple[int, ...]:
    """What was packed. Raises struct.error where it is no whole number of hashes."""
    return struct.unpack(f">{len(hashes) // BYTES}Q", hashes)


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
