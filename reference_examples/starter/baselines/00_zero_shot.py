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
        head = f"Classify the text. Answer with the label only.\nLabels: {', '.join(self.labels)}"
        return model.complete(f"{head}\n\nText: {text}\nLabel:", max_tokens=16).text.strip()
