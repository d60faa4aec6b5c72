"""Ask five times with other examples each time, and take the label that most answers agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from metaharness.harness import LabeledExample, Model

SAMPLES = 5
SHOWN = 12


class Harness:
    def __init__(self) -> None:
        self.labels: list[str] = []
        self.examples: list[LabeledExample] = []

    def learn(self, examples: Sequence[LabeledExample], model: Model) -> None:
        self.examples = list(examples)
        self.labels = sorted({example.label for example in examples})

    def predict(self, text: str, model: Model) -> str:
        head = "Classify the text. Answer with the label only."
        if self.labels:
            head += "\nLabels: " + ", ".join(self.labels)
        prompts = []
        for _ in range(SAMPLES):
            drawn = model.random.sample(self.examples, min(SHOWN, len(self.examples)))
            blocks = [f"Text: {example.text}\nLabel: {example.label}" for example in drawn]
            prompts.append("\n\n".join([head, *blocks, f"Text: {text}\nLabel:"]))
        answers = [answer.text.strip() for answer in model.complete_many(prompts, max_tokens=64)]
        counts = Counter(answers)
        return max(answers, key=lambda answer: counts[answer])  # the earliest of the most frequent
