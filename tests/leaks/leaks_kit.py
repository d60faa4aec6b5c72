"""A domain whose cases are sentences, so that a candidate can hold their text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from run_kit import Toy, harness, write_toy

THINGS = ("lantern", "kettle", "ladder", "anchor", "violin", "saddle", "compass", "mirror", "basket", "hammer")
PLACES = ("cellar", "harbour", "orchard", "chapel", "market", "tunnel", "meadow", "library", "bakery", "tower")


def sentence(split: str, number: int) -> str:
    """Fourteen words, of which no ten in a row stand in another case."""
    thing, place = THINGS[number % 10], PLACES[(number * 3 + 1) % 10]
    return f"On {split} morning {number} somebody left the old {thing} beside the {place} and walked home"


def row(split: str, number: int, **changes: Any) -> dict[str, Any]:
    return {"id": f"{split}-{number:02d}", "text": sentence(split, number), "colour": "red", **changes}


def write_rows(toy: Toy, split: str, rows: Sequence[Mapping[str, Any]]) -> None:
    (toy.folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))


def write_domain(folder: Path, proposals: Mapping[str, str | Mapping[str, str]], **splits: Any) -> Toy:
    """Sentences in every split, or the rows given for one; candidates that the scripted proposer hands in."""
    toy = write_toy(folder, proposals=proposals, baselines={"00_plain.py": harness("plain")})
    for split, count in (("train", 3), ("search", 6), ("test", 6)):
        write_rows(toy, split, splits.get(split) or [row(split, number) for number in range(count)])
    toy.write_script([{"text": "red"}])
    return toy


def holding(*texts: str) -> str:
    """A harness with these constants."""
    return harness("plain", before="\n".join(f"TEXT_{place} = {text!r}" for place, text in enumerate(texts)))


def words(text: str, first: int, last: int) -> str:
    return " ".join(text.split()[first:last])
