"""A harness outside a run: the door straight to a provider.

    import metaharness

    with metaharness.connect("anthropic:claude-haiku-4-5") as model:
        harness.learn(examples, model)
        harness.predict("some text", model)

What this does not guard: anything that a run guards. No call is journalled, counted against a budget, answered from a
cache or limited in number, and nothing stands between the harness and the rights of this process.
"""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import anyio
from pydantic import ValidationError

from metaharness.errors import ConfigurationError, ModelFailure, UsageError
from metaharness.gateway.providers import Provider, open_provider, parse_model
from metaharness.harness import Model, ModelError
from metaharness.messages import ModelRequest

CLOSE_SECONDS = 5.0
"""How long the provider may take to close its connections."""


def connect(model: str, *, base_url: str | None = None, seed: int = 0, deadline: float = 120.0) -> ConnectedModel:
    """The door to a model for a harness that runs outside a run, such as in production.

    Calls go straight to the provider: there is no journal, no budget, no cache, and no limit on their number. It may
    be used by many threads and many asyncio loops at once. Its `random` is one generator for all that is asked.

    Args:
        model: `anthropic:NAME`, `openai:NAME`, `embedded:icl` or `scripted:FILE`.
        base_url: Another endpoint that speaks the provider's wire format; None for the provider's own.
        seed: Seeds `model.random`.
        deadline: Seconds for one call, the retries of the provider's SDK included.

    Raises:
        UsageError: There is no such model, its script cannot be read, the base URL does not fit, or the deadline is
            not above 0.
        ConfigurationError: A package or a key is missing.
    """
    if not deadline > 0:
        raise UsageError(f"a deadline of {deadline} leaves no time for an answer", hint="give seconds above 0")
    return ConnectedModel(open_provider(parse_model(model, base_url)), seed=seed, deadline=deadline)


class ConnectedModel(Model):
    """What `connect` gives. Calls fail with ModelError, of the kinds that its docstring lists.

    A key that the provider refuses is no matter of one call: it raises ConfigurationError, with a hint, and
    `complete_many` raises that one at once. The calls run on one background thread, which starts with the first of
    them and ends with `close`, with the `with` block, or with the process.
    """

    def __init__(self, provider: Provider, *, seed: int, deadline: float) -> None:
        super().__init__(self._begin, seed)
        self._provider = provider
        self._deadline = deadline
        self._lock = threading.Lock()
        self._stop = asyncio.Event()
        self._background: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None
        self._closed = False

    def close(self) -> None:
        """End the calls that are in the air, with ModelError of kind `closed`, and every later one; free connections.

        A second call does nothing. It waits until all has ended, so do not call it on a loop that must not block.
        """
        with self._lock:
            already, self._closed = self._closed, True
        if self._background is not None:
            loop, thread = self._background
            if not already:
                loop.call_soon_threadsafe(self._stop.set)
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, raw: dict[str, Any]) -> _Answer:
        """Send one request of the harness; the answer is on its way when this returns."""
        request = _checked(raw)
        with self._lock:
            if self._closed:
                raise ModelError("closed", "this model has been closed; connect again")
            if self._background is None:
                self._background = self._started()
            return _Answer(asyncio.run_coroutine_threadsafe(self._ask(request), self._background[0]))

    def _started(self) -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
        try:
            loop = asyncio.new_event_loop()
        except OSError as error:
            raise ModelError("infrastructure", f"no event loop can be started: {error}") from error
        # a daemon, and so are the threads that it starts: a process that forgot `close` still ends
        thread = threading.Thread(target=self._run, args=(loop,), name="metaharness-model", daemon=True)
        thread.start()
        return loop, thread

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        """Keep the loop going until `close`, then end what is left on it."""
        await self._stop.wait()
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        with anyio.move_on_after(CLOSE_SECONDS):
            await self._provider.aclose()

    async def _ask(self, request: ModelRequest) -> dict[str, Any]:
        """One call, on the background loop. Returns what `metaharness.harness` makes a completion or an error of."""
        try:
            completion = await self._provider.complete(request, deadline=self._deadline)
        except ModelFailure as failure:
            if failure.kind == "configuration":
                raise ConfigurationError(failure.message, hint=failure.hint) from failure
            return _failed(failure.kind, failure.message)
        except asyncio.CancelledError:
            if not self._closed:
                raise
            return _failed("closed", "the model was closed while this call was in the air")
        return {"completion": completion.model_dump(mode="json")}


class _Answer:
    """An answer on its way from the background loop. Who gives up waiting gives up the call."""

    def __init__(self, future: Future[dict[str, Any]]) -> None:
        self._future = future

    def wait(self) -> dict[str, Any]:
        try:
            return self._future.result()
        finally:
            self._future.cancel()

    async def wait_async(self) -> dict[str, Any]:
        return await asyncio.wrap_future(self._future)


def _checked(raw: dict[str, Any]) -> ModelRequest:
    """The request as it would have left a sandbox: JSON, so that nothing the harness changes later reaches it."""
    try:
        return ModelRequest.model_validate(json.loads(json.dumps(raw, allow_nan=False)))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise ModelError("refused", f"not a model request: {where}: {problem['msg']}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError("refused", f"the request cannot be sent: {error}") from error


def _failed(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"kind": kind, "message": message}}
