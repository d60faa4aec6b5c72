"""Show the model the names of the labels and the text."""

from __future__ import annotations

from collections.abc import Sequence

from metaharness.harness import LabeledExample, Model


class Harness:
    def __init__(self) -> None:
        self.labels: list[str] = []

    def learn(self, examples: Sequence[LabeledExample], model: Model) -> None:
        self.labels = sorted({example.label for example in examples})

    def predict(self, text: str, model: Model) -> str:
        lines = ["Classify the text. Answer with the label only."]
        if self.labels:
            lines.append("Labels: " + ", ".join(self.labels))
        prompt = "\n".join(lines) + f"\n\nText: {text}\nLabel:"
        return model.complete(prompt, max_tokens=64).text.strip()
