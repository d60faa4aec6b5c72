"""Ask for a draft with similar examples, then ask again with the examples of the draft and of its challengers."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from metaharness.harness import LabeledExample, Model

FIRST = 8  # similar examples behind the draft
CHALLENGERS = 3  # other likely labels that the draft has to stand against
PER_LABEL = 6
BUDGET = 12_000  # characters of examples in one prompt

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

    def ask(self, text: str, labels: Sequence[str], numbers: Sequence[int], model: Model) -> str:
        """Ask with the examples of these numbers, the first of them nearest to the text."""
        blocks: list[str] = []
        for number in numbers:
            example = self.examples[number]
            block = f"Text: {example.text}\nLabel: {example.label}"
            if sum(map(len, blocks)) + len(block) > BUDGET:
                break
            blocks.append(block)
        head = "Classify the text. Answer with the label only."
        if labels:
            head += "\nLabels: " + ", ".join(labels)
        prompt = "\n\n".join([head, *reversed(blocks), f"Text: {text}\nLabel:"])
        return model.complete(prompt, max_tokens=64).text.strip()

    def predict(self, text: str, model: Model) -> str:
        scores = self.index.scores(text)
        ranked = sorted(scores, key=lambda number: (-scores[number], number))
        draft = self.ask(text, self.labels, ranked[:FIRST], model)
        by_label: dict[str, list[int]] = defaultdict(list)
        for number in ranked:
            by_label[self.examples[number].label].append(number)
        if draft not in by_label:
            return draft
        others = [label for label in by_label if label != draft]
        others.sort(key=lambda label: -sum(scores[number] for number in by_label[label][:3]))
        rivals = [draft, *others[:CHALLENGERS]]
        numbers = [number for label in rivals for number in by_label[label][:PER_LABEL]]
        numbers.sort(key=lambda number: (-scores[number], number))
        return self.ask(text, rivals, numbers, model)
