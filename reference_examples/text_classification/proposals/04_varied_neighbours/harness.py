"""Show similar training examples that differ from each other: maximal marginal relevance over tf-idf, few per label."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from metaharness.harness import LabeledExample, Model

SHOWN = 12
PER_LABEL = 3
POOL = 40  # the most similar examples, among which variety is looked for
RELEVANCE = 0.8  # against 0.2 for being unlike what is shown already
BUDGET = 12_000  # characters of examples

WORD = re.compile(r"[^\W_]+")


def stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 3:
            return word[: -len(ending)]
    return word


class Vectors:
    """Texts as tf-idf vectors of length one."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [self.count(text) for text in texts]
        frequency = Counter(word for count in counts for word in count)
        self.rarity = {word: math.log(1 + len(texts) / times) for word, times in frequency.items()}
        self.rows = [self.unit(count) for count in counts]
        self.places: dict[str, list[int]] = defaultdict(list)
        for number, row in enumerate(self.rows):
            for word in row:
                self.places[word].append(number)

    @staticmethod
    def count(text: str) -> Counter[str]:
        return Counter(stem(word) for word in WORD.findall(text.lower()))

    def unit(self, count: Counter[str]) -> dict[str, float]:
        vector = {word: (1 + math.log(n)) * self.rarity[word] for word, n in count.items() if word in self.rarity}
        length = math.sqrt(sum(value * value for value in vector.values())) or 1.0
        return {word: value / length for word, value in vector.items()}

    def similar(self, text: str) -> dict[int, float]:
        """The cosine of every text that shares a word with the given one."""
        found: dict[int, float] = defaultdict(float)
        for word, value in self.unit(self.count(text)).items():
            for number in self.places[word]:
                found[number] += value * self.rows[number][word]
        return found


def cosine(left: dict[str, float], right: dict[str, float]) -> float:
    return sum(value * right[word] for word, value in left.items() if word in right)


class Harness:
    def __init__(self) -> None:
        self.labels: list[str] = []
        self.examples: list[LabeledExample] = []
        self.vectors = Vectors([])

    def learn(self, examples: Sequence[LabeledExample], model: Model) -> None:
        self.examples = list(examples)
        self.labels = sorted({example.label for example in examples})
        self.vectors = Vectors([example.text for example in examples])

    def choose(self, text: str) -> list[int]:
        relevance = self.vectors.similar(text)
        pool = sorted(relevance, key=lambda number: (-relevance[number], number))[:POOL]
        likeness = dict.fromkeys(pool, 0.0)  # to the most similar example that is shown already
        chosen: list[int] = []
        per_label: Counter[str] = Counter()
        while pool and len(chosen) < SHOWN:
            best = max(pool, key=lambda number: RELEVANCE * relevance[number] - (1 - RELEVANCE) * likeness[number])
            pool.remove(best)
            if per_label[self.examples[best].label] == PER_LABEL:
                continue
            per_label[self.examples[best].label] += 1
            chosen.append(best)
            for number in pool:
                likeness[number] = max(likeness[number], cosine(self.vectors.rows[number], self.vectors.rows[best]))
        return chosen

    def predict(self, text: str, model: Model) -> str:
        blocks: list[str] = []
        for number in self.choose(text):
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
