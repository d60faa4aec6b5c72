"""What `embedded:icl` scores and how long it takes.

    .venv/bin/python benchmarks/embedded_model.py --data DIR --text-field question --label-field answer

DIR holds train.jsonl (demonstrations) and test.jsonl (questions). Each row of the table is one way of writing the
prompt; a random choice is repeated with several seeds. The time is the median of single answers to prompts of 8,000
characters, as a ratio to the limit of 15 ms: cold (nothing tokenised before) and warm (demonstrations seen before).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from metaharness.gateway.providers.embedded import answer
from metaharness.gateway.providers.embedded_vote import forget, word_counts
from metaharness.messages import Message, ModelRequest

LIMIT_MS = 15.0
PROMPT_CHARS = 8_000
WINDOW = 16_000


class Example(NamedTuple):
    """A labelled text."""

    text: str
    label: str


class Figure(NamedTuple):
    """What one way of writing the prompt scores, as a mean over its seeds."""

    accuracy: float
    by_seed: tuple[float, ...]
    chars: float
    """Mean length of the prompts."""


Choose = Callable[[str], Sequence[Example]]


def load(path: Path, text_field: str, label_field: str) -> list[Example]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Example(str(row[text_field]), str(row[label_field])) for row in rows]


def write_prompt(question: str, demonstrations: Sequence[Example], labels: Sequence[str]) -> str:
    shown = "".join(f"Text: {item.text}\nLabel: {item.label}\n\n" for item in demonstrations)
    names = ", ".join(labels)
    return f"Classify the text. Answer with the label only.\nLabels: {names}\n\n{shown}Text: {question}\nLabel:"


def ask(prompt: str, max_tokens: int = 64) -> str:
    return answer(ModelRequest(messages=[Message(role="user", content=prompt)], max_tokens=max_tokens)).text


class Retriever:
    """Ranks the train rows by tf-idf cosine with a question."""

    def __init__(self, rows: Sequence[Example]) -> None:
        self.rows = rows
        frequency: Counter[str] = Counter()
        for row in rows:
            frequency.update(word_counts(row.text).keys())
        self.rarity = {word: math.log(1 + len(rows) / count) for word, count in frequency.items()}
        self.vectors = [self._unit(row.text) for row in rows]
        self.seen: dict[str, list[tuple[float, Example]]] = {}

    def rank(self, question: str) -> list[tuple[float, Example]]:
        """All rows with their similarity, the most similar first."""
        if question not in self.seen:
            asked = self._unit(question)
            scored = [
                (sum(value * vector.get(word, 0.0) for word, value in asked.items()), row)
                for vector, row in zip(self.vectors, self.rows, strict=True)
            ]
            self.seen[question] = sorted(scored, key=lambda pair: -pair[0])
        return self.seen[question]

    def nearest(self, question: str, count: int) -> list[Example]:
        """The most similar rows, the most similar one last."""
        return [row for _, row in self.rank(question)[:count]][::-1]

    def contrast(self, question: str, labels: int) -> list[Example]:
        """All rows of the labels whose three most similar rows are most similar."""
        best: dict[str, list[float]] = defaultdict(list)
        for score, row in self.rank(question):
            best[row.label].append(score)
        kept = set(sorted(best, key=lambda label: -sum(best[label][:3]))[:labels])
        return [row for row in self.rows if row.label in kept]

    def _unit(self, text: str) -> dict[str, float]:
        counts = word_counts(text)
        vector = {word: (1 + math.log(n)) * self.rarity[word] for word, n in counts.items() if word in self.rarity}
        length = math.sqrt(sum(value * value for value in vector.values())) or 1.0
        return {word: value / length for word, value in vector.items()}


def measure(train: Sequence[Example], test: Sequence[Example], seeds: int) -> dict[str, Figure]:
    """Accuracy and prompt length by way of writing the prompt."""
    labels = sorted({row.label for row in train})
    retriever = Retriever(train)
    # as many rows as fit into the window beside the rest of the prompt
    fitting = int((WINDOW - 1_000) / statistics.fmean(len(row.text) + len(row.label) + 15 for row in train))
    ways: dict[str, list[Choose]] = {"zero-shot": [lambda _: ()]}
    for name, count in (("8 random", 8), ("32 random", 32), ("window filled", fitting)):
        samples = [random.Random(seed).sample(list(train), min(count, len(train))) for seed in range(seeds)]
        ways[name] = [lambda _, rows=rows: rows for rows in samples]  # type: ignore[misc]
    for count in (8, 12, 16):
        ways[f"{count} nearest"] = [lambda question, count=count: retriever.nearest(question, count)]  # type: ignore[misc]
    ways["4 labels, all rows"] = [lambda question: retriever.contrast(question, 4)]
    return {name: _figure([_run(test, choose, labels) for choose in choices]) for name, choices in ways.items()}


def _run(test: Sequence[Example], choose: Choose, labels: Sequence[str]) -> tuple[float, float]:
    prompts = [write_prompt(row.text, choose(row.text), labels) for row in test]
    right = [ask(prompt) == row.label for prompt, row in zip(prompts, test, strict=True)]
    return statistics.fmean(right), statistics.fmean(map(len, prompts))


def _figure(runs: Sequence[tuple[float, float]]) -> Figure:
    accuracies = tuple(accuracy for accuracy, _ in runs)
    return Figure(statistics.fmean(accuracies), accuracies, statistics.fmean(chars for _, chars in runs))


def time_answers(train: Sequence[Example], test: Sequence[Example], answers: int) -> tuple[float, float]:
    """Median milliseconds of one answer to a prompt of 8,000 characters: cold and warm."""
    labels = sorted({row.label for row in train})
    prompts = []
    for seed in range(answers):
        rows = random.Random(seed).sample(list(train), len(train))
        prompt = write_prompt(test[seed % len(test)].text, rows, labels)
        prompts.append(prompt[-PROMPT_CHARS:])
    cold = [_milliseconds(prompt, cold=True) for prompt in prompts]
    for prompt in prompts:
        ask(prompt)
    warm = [_milliseconds(prompt, cold=False) for prompt in prompts]
    return statistics.median(cold), statistics.median(warm)


def _milliseconds(prompt: str, *, cold: bool) -> float:
    if cold:
        forget()
    start = time.perf_counter()
    ask(prompt)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="Score and time embedded:icl.")
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--text-field", default="text")
    parser.add_argument("--label-field", default="label")
    parser.add_argument("--seeds", type=int, default=5, help="random choices of demonstrations")
    parser.add_argument("--answers", type=int, default=200, help="timed answers")
    options = parser.parse_args()
    train = load(options.data / "train.jsonl", options.text_field, options.label_field)
    test = load(options.data / "test.jsonl", options.text_field, options.label_field)
    cold, warm = time_answers(train, test, options.answers)
    for name, value in (("cold", cold), ("warm", warm)):
        print(f"time, {name}: median {value:.2f} ms for {PROMPT_CHARS} characters, {value / LIMIT_MS:.2f} of the limit")
    for name, figure in measure(train, test, options.seeds).items():
        spread = f"  by seed {' '.join(f'{value:.3f}' for value in figure.by_seed)}" if len(figure.by_seed) > 1 else ""
        print(f"{name:20} accuracy {figure.accuracy:.3f}  {figure.chars:8.0f} characters{spread}")


if __name__ == "__main__":
    main()
