"""The tickets that ship with text_classification: how many, how they are divided, and that no two are alike."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from examples_kit import EXAMPLE

DATA = EXAMPLE / "data"
SIZES = {"train": 200, "search": 100, "test": 120}
WORD = re.compile(r"\w+")


def tickets(split: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("split", SIZES)
def test_every_queue_has_the_same_share_of_each_split(split: str) -> None:
    queues = Counter(ticket["label"] for ticket in tickets(split))
    assert len(queues) == 20
    assert set(queues.values()) == {SIZES[split] // 20}


def test_no_ticket_resembles_another() -> None:
    words = [WORD.findall(ticket["text"].lower()) for split in SIZES for ticket in tickets(split)]
    kinds = [set(one) for one in words]
    grams = [{tuple(one[place : place + 7]) for place in range(len(one) - 6)} for one in words]
    for a, b in itertools.combinations(range(len(words)), 2):
        assert not grams[a] & grams[b]
        assert len(kinds[a] & kinds[b]) <= 0.34 * len(kinds[a] | kinds[b])


def test_lengths_vary_from_a_line_to_a_letter() -> None:
    lengths = [len(ticket["text"].split()) for split in SIZES for ticket in tickets(split)]
    assert sum(length < 15 for length in lengths) > 50
    assert sum(length >= 45 for length in lengths) > 150


def test_the_files_are_what_the_seed_makes_of_their_tickets(tmp_path: Path) -> None:
    assert split(DATA).returncode == 0
    for path in DATA.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    lines = (tmp_path / "train.jsonl").read_text("utf-8").splitlines()
    (tmp_path / "train.jsonl").write_text("\n".join(reversed(lines)) + "\n", "utf-8")
    stale = split(tmp_path)
    assert (stale.returncode, "train.jsonl" in stale.stderr) == (1, True)
    assert split(tmp_path, "--write").returncode == 0
    for name in SIZES:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (DATA / f"{name}.jsonl").read_bytes()


@pytest.mark.parametrize("arguments", [(), ("--write",)])
@pytest.mark.parametrize("change", [1, -1])
def test_a_queue_with_a_ticket_too_many_or_too_few_is_named_and_nothing_is_written(
    change: int, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    for path in DATA.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    lines = (tmp_path / "test.jsonl").read_text("utf-8").splitlines()
    label = json.loads(lines[-1])["label"]
    more = [json.dumps({"text": "one ticket more", "label": label})]
    (tmp_path / "test.jsonl").write_text("\n".join([*lines, *more] if change > 0 else lines[:-1]) + "\n", "utf-8")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused = split(tmp_path, *arguments)
    assert refused.returncode == 1
    assert refused.stderr == f"every queue needs 21 tickets: {label} has {21 + change}; nothing was written\n"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def split(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, folder / "split.py", *arguments], capture_output=True, text=True, check=False
    )
