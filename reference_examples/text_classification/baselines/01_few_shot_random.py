"""Show the model eight training examples, drawn once."""

from __future__ import annotations

from collections.abc import Sequence

from metaharness.harness import LabeledExample, Model

SHOWN = 8


class Harness:
    def __init__(self) -> None:
        self.labels: list[str] = []
        self.shown: list[LabeledExample] = []

    def learn(self, examples: Sequence[LabeledExample], model: Model) -> None:
        self.labels = sorted({example.label for example in examples})
        self.shown = model.random.sample(list(examples), min(SHOWN, len(examples)))

    def predict(self, text: str, model: Model) -> str:
        lines = ["Classify the text. Answer with the label only."]
        if self.labels:
            lines.append("Labels: " + ", ".join(self.labels))
        blocks = ["\n".join(lines)]
        blocks += [f"Text: {example.text}\nLabel: {example.label}" for example in self.shown]
        blocks.append(f"Text: {text}\nLabel:")
        return model.complete("\n\n".join(blocks), max_tokens=64).text.strip()
