"""Show the model as many training examples as fit into 16,000 characters, in an order drawn once."""

from __future__ import annotations

from collections.abc import Sequence

from metaharness.harness import LabeledExample, Model

WINDOW = 16_000


class Harness:
    def __init__(self) -> None:
        self.labels: list[str] = []
        self.examples: list[LabeledExample] = []

    def learn(self, examples: Sequence[LabeledExample], model: Model) -> None:
        self.labels = sorted({example.label for example in examples})
        self.examples = model.random.sample(list(examples), len(examples))

    def predict(self, text: str, model: Model) -> str:
        lines = ["Classify the text. Answer with the label only."]
        if self.labels:
            lines.append("Labels: " + ", ".join(self.labels))
        head = "\n".join(lines)
        tail = f"Text: {text}\nLabel:"
        room = WINDOW - len(head) - len(tail) - 4
        blocks: list[str] = []
        for example in self.examples:
            block = f"Text: {example.text}\nLabel: {example.label}"
            room -= len(block) + 2
            if room < 0:
                break
            blocks.append(block)
        return model.complete("\n\n".join([head, *blocks, tail]), max_tokens=64).text.strip()
