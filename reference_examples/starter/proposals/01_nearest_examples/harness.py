"""Show the model the training examples that share the rarest words with the text, the nearest one last."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from metaharness.harness import LabeledExample, Model

SHOWN = 6

WORD = re.compile(r"[^\W_]+")


def words(text: str) -> set[str]:
    return set(WORD.findall(text.lower()))


class Harness:
    def __init__(self) -> None:
        self.labels: list[str] = []
        self.examples: list[LabeledExample] = []
        self.holders: Counter[str] = Counter()  # word -> how many examples hold it

    def learn(self, examples: Sequence[LabeledExample], model: Model) -> None:
        self.labels = sorted({example.label for example in examples})
        self.examples = list(examples)
        self.holders = Counter(word for example in examples for word in words(example.text))

    def nearest(self, text: str) -> list[LabeledExample]:
        """The examples that share most with the text, the nearest one last; a word counts more the rarer it is."""
        asked = words(text)

        def shared(example: LabeledExample) -> float:
            # sorted: a sum over a set would depend on the order of its words
            return sum(1 / self.holders[word] for word in sorted(asked & words(example.text)))

        return sorted(self.examples, key=shared)[-SHOWN:]

    def predict(self, text: str, model: Model) -> str:
        head = f"Classify the text. Answer with the label only.\nLabels: {', '.join(self.labels)}"
        shown = [f"Text: {example.text}\nLabel: {example.label}" for example in self.nearest(text)]
        prompt = "\n\n".join([head, *shown, f"Text: {text}\nLabel:"])
        return model.complete(prompt, max_tokens=16).text.strip()
