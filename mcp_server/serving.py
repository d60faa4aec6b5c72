"""Serving a desk until the client goes or a signal comes: stdio, or HTTP for this machine alone."""

from __future__ import annotations

import hmac
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import anyio
from anyio.abc import ByteStream
from mcp.server.stdio import stdio_server

from mcp_server.server import make_server
from metaharness.errors import UsageError
from metaharness.tools import Desk, Settings, Tool

LOOPBACK = "127.0.0.1"
MOST_LINE_BYTES = 64 << 20
"""Of one message over a stream; a client that sends more is not listened to any further."""


def serve(
    settings: Settings, *, port: int | None = None, token: str | None = None, told: Callable[[str], None] = str
) -> None:
    """Serve until the end; what is being evaluated then stops, and all that has ended is written.

    Args:
        settings: What a person has decided.
        port: Serve HTTP there, on 127.0.0.1, at a free one for 0; None: stdio.
        token: What a client over HTTP has to present.
        told: Given the address once it is listened at.

    Raises:
        UsageError: The port cannot be had.
    """
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    listening = None if port is None else _listening(port)
    if listening is not None:
        told(f"http://{LOOPBACK}:{listening.getsockname()[1]}/mcp")
    anyio.run(_serve, settings, listening, token)


def _listening(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, port))
        listening.listen()  # from now on whoever is told the address is answered, if later
    except OSError as error:
        listening.close()
        raise UsageError(
            f"port {port} cannot be had: {error.strerror}", hint="name another; 0 takes a free one"
        ) from error
    return listening


async def _serve(settings: Settings, listening: socket.socket | None, token: str | None) -> None:
    async with anyio.create_task_group() as group:
        async with Desk(settings) as desk:
            server = make_server(desk)
            if listening is None:
                group.start_soon(_at_signal, group.cancel_scope.cancel)
                async with stdio_server(stdin=_Lines()) as (read, write):  # type: ignore[arg-type]
                    low = server._lowlevel_server
                    await low.run(read, write, low.create_initialization_options())
            else:
                http = _http_server(server.streamable_http_app(host=LOOPBACK), token or "")
                group.start_soon(_at_signal, partial(setattr, http, "should_exit", True))
                await http.serve([listening])
        group.cancel_scope.cancel()


async def _at_signal(end: Callable[[], object]) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            end()
            return


class _Lines:
    """The lines of stdin, read without a thread: one that waits for a line would keep the process from ending."""

    def __init__(self) -> None:
        self._wire = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)  # what this process starts reads nothing of the wire
        os.close(nothing)

    async def __aiter__(self) -> AsyncIterator[str]:
        left = b""
        while True:
            try:
                await anyio.wait_readable(self._wire)
            except PermissionError:  # a regular file is always readable
                await anyio.lowlevel.checkpoint()
            data = os.read(self._wire, 1 << 16)
            *lines, left = (left + data).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace")
            if not data:
                return


def _http_server(app: Any, token: str) -> Any:
    import uvicorn  # noqa: PLC0415 - not needed over stdio

    class Server(uvicorn.Server):
        """Signals are ours: they stop evaluations as well."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    # at the end nobody who waits for an evaluation is waited for, which uvicorn would call an error; mcp logs its own
    return Server(uvicorn.Config(_guarded(app, token), log_level="critical", timeout_graceful_shutdown=0))


def _guarded(app: Any, token: str) -> Callable[..., Awaitable[None]]:
    """The application, for those who present the token."""
    wanted = f"Bearer {token}".encode()

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not hmac.compare_digest(
            dict(scope["headers"]).get(b"authorization", b""), wanted
        ):
            headers = [(b"www-authenticate", b"Bearer"), (b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send(
                {"type": "http.response.body", "body": b"present the token that `metaharness serve` has printed\n"}
            )
            return
        await app(scope, receive, send)

    return guarded


async def serve_stream(desk: Desk, tools: Sequence[Tool], stream: ByteStream) -> None:
    """Serve some tools of a desk over one stream of bytes, a message a line, until the client goes."""
    server = make_server(desk, tools)._lowlevel_server
    async with stdio_server(stdin=_Received(stream), stdout=_Sent(stream)) as (read, write):  # type: ignore[arg-type]
        await server.run(read, write, server.create_initialization_options())


class _Received:
    """The lines of a stream, as the protocol's stdio reads them."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[str]:
        left = bytearray()
        while len(left) <= MOST_LINE_BYTES:
            try:
                data = await self._stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            left += data
            if b"\n" not in data:
                continue
            *lines, left = left.split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace")


class _Sent:
    """A stream that is written to, as the protocol's stdio writes."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    async def write(self, text: str) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the client has gone
            await self._stream.send(text.encode("utf-8"))

    async def flush(self) -> None:
        """Nothing is kept back."""
