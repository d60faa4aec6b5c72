"""Runs a harness of the examples in this process, with `embedded:icl` behind the door."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from metaharness.gateway.providers.embedded import answer
from metaharness.harness import LabeledExample, Model
from metaharness.messages import ModelRequest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "reference_examples" / "text_classification"
SYMPTOMS = ROOT.parent / "shared" / "data" / "symptom_diagnosis"

needs_symptoms = pytest.mark.skipif(
    not (SYMPTOMS / "train.jsonl").is_file(), reason=f"the symptom data are not there: {SYMPTOMS}"
)


TOPICS = {
    "Billing": "invoice payment refund card charged price twice receipt",
    "Hardware": "printer keyboard monitor cable broken screen battery fan",
    "Shipping": "parcel delivery courier address late tracking lost box",
    "Account": "password login email blocked reset username profile locked",
    "Returns and Exchanges": "return exchange size wrong colour send shop item",
}
FILLER = ["the", "my", "a", "please", "with", "and", "about", "help", "today", "again", "not", "since", "for"]


def synthetic(seed: int, per_label: int) -> list[LabeledExample]:
    """Texts of three words of their topic, one of another, and filler."""
    dice = random.Random(seed)
    rows = []
    for label, words in TOPICS.items():
        other = dice.choice([topic for topic in TOPICS if topic != label])
        for _ in range(per_label):
            text = dice.sample(words.split(), 3) + dice.sample(TOPICS[other].split(), 1) + dice.sample(FILLER, 5)
            dice.shuffle(text)
            rows.append(LabeledExample(" ".join(text), label))
    dice.shuffle(rows)
    return rows


@dataclass
class Answered:
    """An answer that is there at once."""

    value: dict[str, Any]

    def wait(self) -> dict[str, Any]:
        return self.value

    async def wait_async(self) -> dict[str, Any]:
        return self.value


class Door:
    """Opens `Model` doors and counts the characters that go through them."""

    def __init__(self) -> None:
        self.chars = 0
        self.calls = 0

    def model(self, seed: int = 0) -> Model:
        return Model(self._send, seed)

    def _send(self, request: dict[str, Any]) -> Answered:
        parsed = ModelRequest.model_validate(request)
        self.calls += 1
        self.chars += len(parsed.system or "") + sum(len(str(message.content)) for message in parsed.messages)
        return Answered({"completion": answer(parsed).model_dump()})


def load_harness(path: Path) -> Any:
    """A new `Harness()` of a file, or of a folder with `harness.py`."""
    file = path / "harness.py" if path.is_dir() else path
    name = f"example_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module.Harness()


@dataclass(frozen=True)
class Result:
    """What a harness scores."""

    accuracy: float
    chars: float
    """Mean characters sent per case."""


def score(
    harness: Any, train: Sequence[LabeledExample], cases: Sequence[LabeledExample], same: Callable[[Any, Any], bool]
) -> Result:
    """Teach a harness and ask it every case."""
    learn_door, door = Door(), Door()
    if hasattr(harness, "learn"):
        harness.learn(train, learn_door.model())
    right = [same(harness.predict(case.text, door.model(seed)), case.label) for seed, case in enumerate(cases)]
    return Result(sum(right) / len(right), door.chars / len(cases))
