"""Narrow down to the likeliest labels, describe each by its typical words, and add its most similar examples."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from metaharness.harness import LabeledExample, Model

LIKELY = 5
VOTERS = 3  # similar examples that speak for a label
PER_LABEL = 3  # examples shown
TYPICAL = 15  # words that describe a label
BUDGET = 8_000  # characters of examples

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
        self.typical: dict[str, list[str]] = {}

    def learn(self, examples: Sequence[LabeledExample], model: Model) -> None:
        self.examples = list(examples)
        self.labels = sorted({example.label for example in examples})
        self.index = Bm25([example.text for example in examples])
        inside: dict[str, Counter[str]] = {label: Counter() for label in self.labels}
        for example in examples:
            inside[example.label].update(set(re.findall(r"[^\W\d_]{3,}", example.text.lower())))
        overall: Counter[str] = Counter()
        for words in inside.values():
            overall.update(words)
        for label, words in inside.items():
            # how often a word occurs under this label, times the share of its occurrences that are under it
            weight = {word: times * times / overall[word] for word, times in words.items()}
            self.typical[label] = sorted(weight, key=lambda word: (-weight[word], word))[:TYPICAL]

    def predict(self, text: str, model: Model) -> str:
        scores = self.index.scores(text)
        by_label: dict[str, list[int]] = {label: [] for label in self.labels}
        for number in sorted(scores, key=lambda number: (-scores[number], number)):
            by_label[self.examples[number].label].append(number)
        votes = {label: sum(scores[number] for number in found[:VOTERS]) for label, found in by_label.items()}
        likely = sorted(votes, key=lambda label: (-votes[label], label))[:LIKELY]
        head = "Classify the text. Answer with the label only."
        if likely:
            lines = [f"- {label}: {', '.join(self.typical[label])}" for label in likely]
            head += "\n\nLabels and words that are typical of each:\n" + "\n".join(lines)
        blocks: list[str] = []
        shown = sorted((n for label in likely for n in by_label[label][:PER_LABEL]), key=lambda n: (-scores[n], n))
        for number in shown:
            example = self.examples[number]
            block = f"Text: {example.text}\nLabel: {example.label}"
            if sum(map(len, blocks)) + len(block) > BUDGET:
                break
            blocks.append(block)
        prompt = "\n\n".join([head, *reversed(blocks), f"Text: {text}\nLabel:"])
        return model.complete(prompt, max_tokens=64).text.strip()
