"""Recognise text without keeping it: hashes of a case's whole input and of its word 10-grams."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from metaharness.domain import Case

GRAM = 10
"""Words in a row."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Fingerprint:
    """What can be recognised of one case."""

    whole: int
    """Hash of all its words in order."""
    grams: frozenset[int]
    """Hashes of its word 10-grams; empty for a shorter text."""


def fingerprint(value: Any) -> Fingerprint:
    """The fingerprint of a case's input: a text, or any JSON value taken as text. Case and punctuation do not count."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    words = _WORD.findall(text.lower())
    grams = (" ".join(words[place : place + GRAM]) for place in range(len(words) - GRAM + 1))
    return Fingerprint(_hash(" ".join(words)), frozenset(_hash(gram) for gram in grams))


def fingerprints(cases: Iterable[Case]) -> dict[str, Fingerprint]:
    """Case id to fingerprint."""
    return {case.id: fingerprint(case.input) for case in cases}


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")
