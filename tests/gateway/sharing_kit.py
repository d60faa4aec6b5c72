"""A gateway over a shared cache, asked as a case asks it, and a model that never says the same twice."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from wire_server import Received, Reply

from metaharness.configuration import Budget
from metaharness.gateway import Gateway, MemoryJournal
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.shared import SharedCache
from metaharness.messages import Message, ModelRequest, ModelSpec
from metaharness.records import Attribution, Call

PRICES = {"openai:some-model": (1.0, 10.0)}


def numbered() -> Callable[[Received], Reply]:
    """A model that never says the same twice."""
    numbers, lock = itertools.count(1), threading.Lock()

    def reply(request: Received) -> Reply:
        with lock:
            return Reply(text=f"answer {next(numbers)}")

    return reply


class Asking:
    """A gateway with all that stands around it."""

    def __init__(
        self,
        url: str,
        file: Path | None,
        *,
        budget: Budget | None = None,
        journal: MemoryJournal | None = None,
        redact: Callable[[str], str] | None = None,
        limit: int = 1 << 30,
    ) -> None:
        self.journal = journal or MemoryJournal()
        prices = PriceTable(PRICES)
        self.ledger = Ledger(budget or Budget(), prices)
        self.cache = SharedCache(file, limit=limit) if file is not None else None
        spec = ModelSpec(provider="openai", name="some-model", base_url=f"{url}/v1")
        self.gateway = Gateway(
            {"target": spec},
            journal=self.journal,
            ledger=self.ledger,
            prices=prices,
            concurrency=64,
            redact=redact,
            shared=self.cache,
        )

    async def ask(self, text: str = "hello", *, case: str = "a", trial: int = 0, ordinal: int = 0, **more: Any) -> Call:
        request = ModelRequest(messages=[Message(role="user", content=text)], **more)
        whose = Attribution(iteration=0, case_id=case, trial=trial)
        return await self.gateway.complete(request, attribution=whose, ordinal=ordinal, deadline=30)

    async def text(self, *arguments: Any, **named: Any) -> str:
        call = await self.ask(*arguments, **named)
        assert call.response is not None, call.error
        return str(call.response["text"])


@asynccontextmanager
async def asking(url: str, file: Path | None, **options: Any) -> AsyncIterator[Asking]:
    made = Asking(url, file, **options)
    try:
        yield made
    finally:
        await made.gateway.aclose()
