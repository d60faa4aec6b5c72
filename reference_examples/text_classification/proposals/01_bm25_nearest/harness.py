"""Show the model the training examples that are most similar to the text by BM25, the most similar one last."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from metaharness.harness import LabeledExample, Model

SHOWN = 8
BUDGET = 12_000  # characters of examples; long texts must not push the instructions out of the window

WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())


class Bm25:
    """Ranks texts by BM25 (k1 = 1.2, b = 0.75) over an inverted index."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(words(text)) for text in texts]
        lengths = [sum(count.values()) for count in counts]
        mean = (sum(lengths) / len(lengths) if lengths else 0.0) or 1.0
        self.weights: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, count in enumerate(counts):
            spread = 1.2 * (0.25 + 0.75 * lengths[number] / mean)
            for word, times in count.items():
                self.weights[word].append((number, times * 2.2 / (times + spread)))
        self.size = len(texts)

    def scores(self, text: str) -> dict[int, float]:
        """The score of every text that shares a word with the given one."""
        found: dict[int, float] = defaultdict(float)
        for word in dict.fromkeys(words(text)):
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

    def predict(self, text: str, model: Model) -> str:
        scores = self.index.scores(text)
        nearest = sorted(scores, key=lambda number: (-scores[number], number))[:SHOWN]
        blocks: list[str] = []
        for number in nearest:
            example = self.examples[number]
            block = f"Text: {example.text}\nLabel: {example.label}"
            if sum(map(len, blocks)) + len(block) > BUDGET:
                break
            blocks.append(block)
        head = "Classify the text. Answer with the label only."
        if self.labels:
            head += "\nLabels: " + ", ".join(self.labels)
        prompt = "\n\n".join([head, *reversed(blocks), f"Text: {text}\nLabel:"])
        return model.complete(prompt, max_tokens=64).text.strip()
