"""How train.jsonl, search.jsonl and test.jsonl were made of the tickets: stratified, by a fixed seed.

    python split.py             check that the three files are what the seed makes of their tickets
    python split.py --write     write them anew, after tickets were added or mended

Every queue gives the same share to each split. The order in which tickets stand in the files does not matter: they are
sorted before they are shuffled. A queue that has more or fewer tickets than the splits take is refused.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

SEED = 20261121
PER_QUEUE = {"train": 10, "search": 5, "test": 6}
HERE = Path(__file__).resolve().parent

Ticket = Mapping[str, str]


def read() -> list[Ticket]:
    """All tickets of the three files."""
    lines = [line for split in PER_QUEUE for line in (HERE / f"{split}.jsonl").read_text("utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def split(tickets: list[Ticket]) -> dict[str, list[Ticket]]:
    """The tickets of each split, in its order."""
    chance = random.Random(SEED)
    queues: dict[str, list[Ticket]] = defaultdict(list)
    for ticket in sorted(tickets, key=lambda ticket: ticket["text"]):
        queues[ticket["label"]].append(ticket)
    splits: dict[str, list[Ticket]] = {name: [] for name in PER_QUEUE}
    for queue in sorted(queues):
        chance.shuffle(queues[queue])
        first = 0
        for name, count in PER_QUEUE.items():
            splits[name] += queues[queue][first : first + count]
            first += count
    for chosen in splits.values():
        chance.shuffle(chosen)
    return splits


def uneven(tickets: list[Ticket]) -> list[str]:
    """The queues that do not have as many tickets as the splits take, with what they have."""
    whole = sum(PER_QUEUE.values())
    counts = Counter(ticket["label"] for ticket in tickets)
    return [f"{queue} has {count}" for queue, count in sorted(counts.items()) if count != whole]


def page(tickets: list[Ticket]) -> str:
    """The content of one file."""
    return "".join(json.dumps(ticket, ensure_ascii=False) + "\n" for ticket in tickets)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Split the tickets into train, search and test.")
    parser.add_argument("--write", action="store_true", help="write the files anew")
    options = parser.parse_args(argv)
    found = read()
    wrong = uneven(found)
    if wrong:
        wanted = sum(PER_QUEUE.values())
        sys.stderr.write(f"every queue needs {wanted} tickets: {', '.join(wrong)}; nothing was written\n")
        return 1
    stale = []
    for name, tickets in split(found).items():
        path = HERE / f"{name}.jsonl"
        if options.write:
            path.write_text(page(tickets), encoding="utf-8")
        elif path.read_text("utf-8") != page(tickets):
            stale.append(path.name)
    if stale:
        sys.stderr.write(f"not what the seed makes of the tickets: {', '.join(stale)}; --write mends it\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
