"""How `embedded:icl` weighs evidence: which label do the demonstrations speak for?

Every demonstration is a bag of stemmed words, weighted by log frequency and by how few of the texts in this very
prompt hold the word. Two votes are added in equal parts, each scaled to a sum of one over the labels:

- neighbours: each demonstration gives its squared cosine with the question to its label, the second of a label
  counts 0.8 of it, the third 0.64, and so on;
- centre: the cosine of the question with the sum of a label's demonstrations, to the fourth power.

The constants were set once for text classification at large; no label name, word list or data set is in here.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+(?:['\u2019][^\W_]+)*")
"""A word with its apostrophes, or a single character of a script that is written without spaces."""

_SUFFIXES = (("ies", 5), ("ness", 7), ("edly", 7), ("ing", 6), ("ed", 5), ("ly", 6), ("es", 5), ("s", 4))
"""An ending and the length of word from which it is taken off."""

_DECAY = 0.8
_TIE_DIGITS = 9
"""Scores are compared after rounding, so that the order of a sum decides nothing."""


@dataclass(frozen=True)
class Evidence:
    """A text that speaks for a label."""

    text: str
    label: str
    weight: float = 1.0
    demonstration: bool = True
    """False for a label's own name and description."""


def choose(question: str, evidence: Sequence[Evidence], labels: Sequence[str]) -> str | None:
    """The label that the evidence speaks for.

    Ties go to the label with more demonstrations, then to the one whose last demonstration stands nearest to the
    question, then to the one listed first.

    Args:
        question: The text to classify.
        evidence: In the order of the prompt.
        labels: What may be answered, in the order of the prompt; evidence for other labels is left out.

    Returns:
        One of `labels`; None when there are none.
    """
    if not labels:
        return None
    allowed = set(labels)
    usable = [item for item in evidence if item.label in allowed]
    votes = _votes(question, usable)
    count = Counter(item.label for item in usable if item.demonstration)
    last = {item.label: place for place, item in enumerate(usable) if item.demonstration}
    order = {label: place for place, label in reversed(list(enumerate(labels)))}
    return max(
        order,
        key=lambda label: (
            round(votes.get(label, 0.0), _TIE_DIGITS),
            count[label],
            last.get(label, -1),
            -order[label],
        ),
    )


def _votes(question: str, evidence: Sequence[Evidence]) -> Mapping[str, float]:
    """The sum of both votes by label; empty when no word of the question occurs in the evidence."""
    counts = [word_counts(item.text) for item in evidence]
    rarity = _rarity(counts)
    asked = _unit(word_counts(question), rarity)
    if not asked:
        return {}
    vectors = [_unit(count, rarity) for count in counts]
    near = _neighbours(asked, vectors, evidence)
    centre = _centres(asked, vectors, evidence)
    votes: dict[str, float] = defaultdict(float)
    for part in (near, centre):
        total = sum(part.values())
        for label, value in part.items():
            votes[label] += value / total if total else 0.0
    return votes


def _neighbours(
    asked: Mapping[str, float], vectors: Sequence[Mapping[str, float]], evidence: Sequence[Evidence]
) -> dict[str, float]:
    by_label: dict[str, list[float]] = defaultdict(list)
    for vector, item in zip(vectors, evidence, strict=True):
        by_label[item.label].append(item.weight * _dot(asked, vector) ** 2)
    return {
        label: sum(value * _DECAY**place for place, value in enumerate(sorted(values, reverse=True)))
        for label, values in by_label.items()
    }


def _centres(
    asked: Mapping[str, float], vectors: Sequence[Mapping[str, float]], evidence: Sequence[Evidence]
) -> dict[str, float]:
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for vector, item in zip(vectors, evidence, strict=True):
        centre = sums[item.label]
        for word, value in vector.items():
            centre[word] += item.weight * value
    scores = {}
    for label, centre in sums.items():
        length = math.sqrt(sum(value * value for value in centre.values()))
        scores[label] = (_dot(asked, centre) / length) ** 4 if length else 0.0
    return scores


def _rarity(counts: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Inverse document frequency over the texts of this prompt."""
    frequency: Counter[str] = Counter()
    for count in counts:
        frequency.update(count.keys())
    return {word: math.log(1 + len(counts) / texts) for word, texts in frequency.items()}


def _unit(count: Mapping[str, int], rarity: Mapping[str, float]) -> dict[str, float]:
    """The weighted words of a text as a vector of length one; words that no evidence holds are left out."""
    vector = {word: (1 + math.log(times)) * rarity[word] for word, times in count.items() if word in rarity}
    length = math.sqrt(sum(value * value for value in vector.values()))
    return {word: value / length for word, value in vector.items()} if length else {}


def _dot(asked: Mapping[str, float], vector: Mapping[str, float]) -> float:
    return sum(value * vector[word] for word, value in asked.items() if word in vector)


def word_counts(text: str) -> Mapping[str, int]:
    """How often each stemmed word occurs in a text. Not to be changed by the caller."""
    return _counted(text) if len(text) <= 4000 else _count(text)


def _count(text: str) -> Mapping[str, int]:
    return Counter(map(_stem, _WORD.findall(text.casefold())))


_counted = lru_cache(maxsize=4096)(_count)


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    """Take off common endings, so that `itching`, `itches` and `itchy` meet."""
    word = word.replace("'", "").replace("\u2019", "")
    for suffix, shortest in _SUFFIXES:
        if len(word) >= shortest and word.endswith(suffix):
            word = word[: -len(suffix)]
            break
    if len(word) > 3 and word[-1] in "eyi":
        word = word[:-1]
    return word


def forget() -> None:
    """Empty the caches of tokenised texts; for measuring a cold start."""
    _counted.cache_clear()
    _stem.cache_clear()
