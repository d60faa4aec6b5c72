"""What the gateway adds to a call, with a model that answers at once: with the shared cache, without it, and a hit.

Processor time of all threads, so that a busy machine tells the same. The peer of each figure is the same call without
a shared cache: a ratio of 1.00 means that the cache costs nothing.

    uv run python benchmarks/gateway.py
"""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import kit

from metaharness.configuration import Budget
from metaharness.gateway import Gateway, MemoryJournal
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.shared import SharedCache
from metaharness.messages import Completion, Message, ModelRequest, ModelSpec, Usage
from metaharness.records import Attribution

CALLS = 2_000
REPEATS = 7
REMOTE = ModelSpec(provider="anthropic", name="claude-haiku-4-5")
LOCAL = ModelSpec(provider="embedded", name="icl")
ANSWER = Completion(text="even " * 40, usage=Usage(input_tokens=700, output_tokens=40), model="some-model")
FILLING = "Is this number even or odd? " * 100


class InstantModel:
    """Answers at once."""

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        """Answer."""
        del request, deadline
        return ANSWER

    async def aclose(self) -> None:
        """Nothing to close."""


async def per_call(spec: ModelSpec, file: Path | None) -> float:
    """Microseconds of processor time for one call, over many different ones."""
    prices = PriceTable()
    gateway = Gateway(
        {"target": spec},
        journal=MemoryJournal(),
        ledger=Ledger(Budget(), prices),
        prices=prices,
        concurrency=8,
        providers={"target": InstantModel()},
        shared=SharedCache(file) if file is not None else None,
    )
    requests = [ModelRequest(messages=[Message(role="user", content=f"{FILLING}{n}")]) for n in range(CALLS)]
    warm = ModelRequest(messages=[Message(role="user", content="warm")])
    await gateway.complete(warm, attribution=Attribution(), ordinal=0, deadline=30)
    started = time.process_time()
    for number, request in enumerate(requests):
        whose = Attribution(iteration=0, case_id=f"case {number}")
        await gateway.complete(request, attribution=whose, ordinal=0, deadline=30)
    await gateway.aclose()  # what is still to be written counts
    return (time.process_time() - started) / CALLS * 1e6


async def main() -> None:
    without, paid, hit, local, local_on = [], [], [], [], []
    for _ in range(REPEATS):
        with kit.folder() as folder:
            file = folder / "answers.sqlite"
            without.append(await per_call(REMOTE, None))
            paid.append(await per_call(REMOTE, file))
            hit.append(await per_call(REMOTE, file))
            local.append(await per_call(LOCAL, None))
            local_on.append(await per_call(LOCAL, folder / "none.sqlite"))
            if (folder / "none.sqlite").exists():
                raise SystemExit("a model inside the process was cached")
    peer = sorted(without)[REPEATS // 2]
    kit.report("a call without a shared cache", without, peer, "us")
    kit.report("a call that is paid for, with it", paid, peer, "us")
    kit.report("a call that it answers", hit, peer, "us")
    kit.report("a model inside the process, with it", local_on, sorted(local)[REPEATS // 2], "us")


if __name__ == "__main__":
    anyio.run(main)
