"""Show the model every training example before the text."""

from __future__ import annotations

from collections.abc import Sequence

from metaharness.harness import LabeledExample, Model


class Harness:
    def __init__(self) -> None:
        self.labels: list[str] = []
        self.examples: list[LabeledExample] = []

    def learn(self, examples: Sequence[LabeledExample], model: Model) -> None:
        self.labels = sorted({example.label for example in examples})
        self.examples = list(examples)

    def predict(self, text: str, model: Model) -> str:
        head = f"Classify the text. Answer with the label only.\nLabels: {', '.join(self.labels)}"
        shown = [f"Text: {example.text}\nLabel: {example.label}" for example in self.examples]
        prompt = "\n\n".join([head, *shown, f"Text: {text}\nLabel:"])
        return model.complete(prompt, max_tokens=16).text.strip()
