"""What evaluations run on: the door to the models, workers kept warm, and the way to stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Self

import anyio

from metaharness.configuration import RunConfig
from metaharness.evaluation.runner import CaseRunner, SandboxRunner
from metaharness.evaluation.session import Doors
from metaharness.gateway import Gateway
from metaharness.gateway.budget import Ledger
from metaharness.gateway.gateway import Journal
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers import Provider
from metaharness.gateway.shared import open_shared
from metaharness.records import Role
from metaharness.run.ground import Ground, sandbox_of, sandbox_told
from metaharness.sandbox import WarmPool, warm_size


class Machinery:
    """The gateway over one journal and the workers for one split of a domain; an async context manager."""

    def __init__(
        self,
        config: RunConfig,
        ground: Ground,
        journal: Journal,
        ledger: Ledger,
        *,
        runner: CaseRunner | None,
        providers: Mapping[Role, Provider] | None,
        limiter: anyio.CapacityLimiter | None = None,
    ) -> None:
        """Set it up; nothing is started before it is entered.

        Args:
            config: Models, prices, concurrency, shared cache and sandbox.
            ground: The domain and the cases that will be asked.
            journal: Where completed calls are kept.
            ledger: The budget.
            runner: Evaluates cases; None takes workers on this machine.
            providers: Models to use instead of those the configuration names, by role.
            limiter: Model calls in the air over several runs; None: this one is alone.
        """
        self.stopping = False
        self._ended_by_stop: list[anyio.CancelScope] = []
        self._gateway = Gateway(
            config.models,
            journal=journal,
            ledger=ledger,
            prices=PriceTable(config.prices),
            concurrency=config.concurrency,
            redact=ground.redact,
            providers=providers,
            shared=open_shared(config.cache),
            limiter=limiter,
        )
        self._background = AsyncExitStack()
        self._pool: WarmPool | None = None
        self.sandbox_told = sandbox_told(config, ground) if runner is None else runner.sandbox_name
        """Which sandbox it is, in a line."""
        if runner is None:
            size = warm_size(config.concurrency)
            self._pool = WarmPool(sandbox_of(config, ground), ground.python, size)
            runner = SandboxRunner(ground.material(self._pool, lambda: self.stopping))
        self.runner: CaseRunner = runner
        self.doors = Doors(self._gateway)

    def stop(self) -> None:
        """Start nothing new, and end at once what `ends_at_stop` surrounds."""
        self.stopping = True
        for scope in self._ended_by_stop:
            scope.cancel()

    @contextmanager
    def ends_at_stop(self) -> Iterator[None]:
        """Surrounds what is not worth waiting for once a stop was asked for, such as a proposer at work."""
        with anyio.CancelScope() as scope:
            self._ended_by_stop.append(scope)
            try:
                yield
            finally:
                self._ended_by_stop.remove(scope)

    async def __aenter__(self) -> Self:
        """Begin to keep workers warm."""
        if self._pool is not None:
            self._pool.open(await self._background.enter_async_context(anyio.create_task_group()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the workers that wait, and close the models; also when the caller is cancelled."""
        try:
            await self._background.aclose()  # no worker is being started any more
        finally:
            with anyio.CancelScope(shield=True):
                if self._pool is not None:
                    await self._pool.aclose()
                await self._gateway.aclose()
