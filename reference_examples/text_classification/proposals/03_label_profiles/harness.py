"""Describe every label by the words that set its training examples apart, and show no example at all."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from metaharness.harness import LabeledExample, Model

WORDS_PER_LABEL = 20

WORD = re.compile(r"[^\W\d_]{3,}")


class Harness:
    def __init__(self) -> None:
        self.profiles: dict[str, list[str]] = {}

    def learn(self, examples: Sequence[LabeledExample], model: Model) -> None:
        inside: dict[str, Counter[str]] = defaultdict(Counter)
        for example in examples:
            inside[example.label].update(set(WORD.findall(example.text.lower())))
        sizes = Counter(example.label for example in examples)
        overall: Counter[str] = Counter()
        for count in inside.values():
            overall.update(count)
        for label in sorted(inside):
            share = {
                # smoothed log odds of the word under this label against all others, times how often it occurs here
                word: times
                / sizes[label]
                * math.log(
                    ((times + 0.5) / (sizes[label] + 1))
                    / ((overall[word] - times + 0.5) / (len(examples) - sizes[label] + 1))
                )
                for word, times in inside[label].items()
            }
            self.profiles[label] = sorted(share, key=lambda word: (-share[word], word))[:WORDS_PER_LABEL]

    def predict(self, text: str, model: Model) -> str:
        head = "Classify the text. Answer with the label only."
        if self.profiles:
            lines = [f"- {label}: {', '.join(profile)}" for label, profile in self.profiles.items()]
            head += "\n\nLabels and the words that are typical of each:\n" + "\n".join(lines)
        return model.complete(f"{head}\n\nText: {text}\nLabel:", max_tokens=64).text.strip()
