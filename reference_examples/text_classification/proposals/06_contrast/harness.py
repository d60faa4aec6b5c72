"""Find the likeliest labels first, then show the model their training examples side by side, and no other label."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from metaharness.harness import LabeledExample, Model

LIKELY = 4
VOTERS = 3  # similar examples that speak for a label
BUDGET = 10_000  # characters of examples, shared by the likely labels

WORD = re.compile(r"[^\W_]+")


def stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 3:
            return word[: -len(ending)]
    return word


def count(text: str) -> Counter[str]:
    return Counter(stem(word) for word in WORD.findall(text.lower()))


class Bm25:
    """Ranks texts by BM25 (k1 = 1.2, b = 0.75) over an inverted index."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [count(text) for text in texts]
        lengths = [sum(words.values()) for words in counts]
        mean = (sum(lengths) / len(lengths) if lengths else 0.0) or 1.0
        self.weights: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, words in enumerate(counts):
            spread = 1.2 * (0.25 + 0.75 * lengths[number] / mean)
            for word, times in words.items():
                self.weights[word].append((number, times * 2.2 / (times + spread)))
        self.size = len(texts)

    def scores(self, text: str) -> dict[int, float]:
        """The score of every text that shares a word with the given one."""
        found: dict[int, float] = defaultdict(float)
        for word in count(text):
            places = self.weights.get(word, [])
            rarity = math.log(1 + (self.size - len(places) + 0.5) / (len(places) + 0.5))
            for number, weight in places:
                found[number] += rarity * weight
        return found


class Harness:
    def __init__(self) -> None:
        self.labels: list[str] = []
        self.examples: list[LabeledExample] = []
        self.index = Bm25([])

    def learn(self, examples: Sequence[LabeledExample], model: Model) -> None:
        self.examples = list(examples)
        self.labels = sorted({example.label for example in examples})
        self.index = Bm25([example.text for example in examples])

    def likely(self, scores: dict[int, float]) -> list[str]:
        by_label: dict[str, list[float]] = {label: [] for label in self.labels}
        for number, score in scores.items():
            by_label[self.examples[number].label].append(score)
        votes = {label: sum(sorted(found, reverse=True)[:VOTERS]) for label, found in by_label.items()}
        return sorted(votes, key=lambda label: (-votes[label], label))[:LIKELY]

    def predict(self, text: str, model: Model) -> str:
        scores = self.index.scores(text)
        likely = self.likely(scores)
        head = "Classify the text. Answer with the label only."
        if likely:
            head += "\nLabels: " + ", ".join(likely)
        room = BUDGET
        chosen: list[int] = []
        numbers = [number for number, example in enumerate(self.examples) if example.label in likely]
        for number in sorted(numbers, key=lambda number: (-scores.get(number, 0.0), number)):
            room -= len(self.examples[number].text) + len(self.examples[number].label) + 16
            if room < 0:
                break
            chosen.append(number)
        blocks = [f"Text: {self.examples[number].text}\nLabel: {self.examples[number].label}" for number in chosen]
        prompt = "\n\n".join([head, *reversed(blocks), f"Text: {text}\nLabel:"])
        return model.complete(prompt, max_tokens=64).text.strip()
