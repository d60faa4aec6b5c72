"""The way out of a jail, outside of it: connects to what is allowed, refuses all else, and counts both.

One Unix socket leads into the jail. Each connection begins with one line, `{"host": ..., "port": ...}`, and is answered
by one, `{"status": 200}` or a status of HTTP with a text; from then on it carries bytes both ways. Names are resolved
here, and of those that are allowed alone. The relay says `{"begin": true}` before it starts the program.

It does not look into what is carried, which is encrypted for the most part: whatever a destination does for the program
(fetch pages, pass messages on) it can have done. Nor does it bound how much is carried, or see what is tried without
it: that ends in the jail's own network, where nobody is.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream, TaskGroup

from metaharness.jail.destinations import Attempts, Destination, listed, normal
from metaharness.machine.pipe import Pipe

MOST_CONNECTIONS = 256
"""At once; a program that opens more waits."""
LINE_BYTES = 4096
LINE_SECONDS = 30.0
CONNECT_SECONDS = 30.0
BUSY_SECONDS = 0.05
LOCAL_PEERPID = (0, 2)
"""Of macOS, which has no name in `socket`."""
FAILURES = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)

Handler = Callable[[ByteStream], Awaitable[None]]
Meet = Callable[[socket.socket], Awaitable[None]]
Begin = Callable[[int, ByteStream], Awaitable[None]]


class Broker:
    """Answers the connections of one jail."""

    def __init__(self, allowed: Sequence[Destination], begin: Begin) -> None:
        """`begin` is given the number of the process that began, as seen here, and the connection while it lives."""
        self._allowed = allowed
        self._begin = begin
        self.attempts = Attempts()

    async def meet(self, raw: socket.socket) -> None:
        """Answer one connection."""
        with suppress(*FAILURES):
            async with Pipe(raw) as inside:
                with anyio.move_on_after(LINE_SECONDS) as waiting:
                    asked, rest = await _line(inside)
                if waiting.cancelled_caught:
                    return
                if asked == {"begin": True}:
                    await self._begin(peer(raw), inside)
                    return
                host, port = asked.get("host"), asked.get("port")
                if isinstance(host, str) and isinstance(port, int):
                    await self._reach(normal(host), port, inside, rest)

    async def _reach(self, host: str, port: int, inside: ByteStream, rest: bytes) -> None:
        if Destination(host, port) not in self._allowed:
            self.attempts.note(host, port, allowed=False)
            text = f"the jail has no way to {Destination(host, port)}; allowed: {listed(self._allowed)}"
            await answer(inside, 403, text)
            return
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                outside = await _connected(host, port)
        except (OSError, UnicodeError) as error:
            self.attempts.note(host, port, allowed=True, failed=True)
            await answer(inside, 502, f"cannot connect to {Destination(host, port)}: {error}")
            return
        self.attempts.note(host, port, allowed=True)
        async with outside:
            await answer(inside, 200, "")
            if rest:
                await outside.send(rest)
            async with anyio.create_task_group() as both:
                both.start_soon(_copied, inside, outside)
                both.start_soon(_copied, outside, inside)


async def listen(path: str, meet: Meet, group: TaskGroup) -> None:
    """Listen on a Unix socket until the group is cancelled; each connection is met in a task of its own."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    listener.setblocking(False)
    group.start_soon(_accepting, listener, meet)


async def _accepting(listener: socket.socket, meet: Meet) -> None:
    places = anyio.Semaphore(MOST_CONNECTIONS)

    async def meeting(raw: socket.socket) -> None:
        try:
            await meet(raw)
        finally:
            raw.close()
            places.release()

    with listener:
        async with anyio.create_task_group() as group:
            while True:
                await places.acquire()  # before it is accepted: each takes a descriptor of ours
                group.start_soon(meeting, await _accepted(listener))


async def _accepted(listener: socket.socket) -> socket.socket:
    while True:
        await anyio.wait_readable(listener)
        try:
            return listener.accept()[0]
        except OSError:  # out of descriptors, or whoever called has gone
            await anyio.sleep(BUSY_SECONDS)


async def answer(stream: ByteStream, status: int, text: str) -> None:
    """Send the line that answers a connection."""
    await stream.send(json.dumps({"status": status, "text": text}).encode() + b"\n")


def peer(raw: socket.socket) -> int:
    """The process at the other end, by its number here."""
    if sys.platform == "linux":
        return int.from_bytes(raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
    else:  # noqa: RET505 - so that a type checker on Linux passes over it
        return raw.getsockopt(*LOCAL_PEERPID)


async def _line(stream: ByteStream) -> tuple[dict[str, object], bytes]:
    """The first line as a record, and what came after it. Rubbish is an empty record."""
    data = b""
    while b"\n" not in data and len(data) < LINE_BYTES:
        data += await stream.receive(LINE_BYTES)
    line, _, rest = data.partition(b"\n")
    try:
        asked = json.loads(line)
    except ValueError:
        return {}, b""
    return (asked if isinstance(asked, dict) else {}), rest


async def _connected(host: str, port: int) -> Pipe:
    """A connection to the first address of a host that answers.

    Raises:
        OSError: None does.
    """
    last: OSError | None = None
    for family, kind, protocol, _, address in await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        raw = socket.socket(family, kind, protocol)
        try:
            raw.setblocking(False)
            with suppress(BlockingIOError):
                raw.connect(address)
            await anyio.wait_writable(raw)
            _raise_for(raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        except OSError as error:
            raw.close()
            last = error
        except BaseException:
            raw.close()
            raise
        else:
            return Pipe(raw)
    raise last or OSError(f"{host} has no address")


def _raise_for(code: int) -> None:
    if code:
        raise OSError(code, os.strerror(code))


async def _copied(source: ByteStream, target: ByteStream) -> None:
    with suppress(*FAILURES):
        async for data in source:
            await target.send(data)
    with suppress(*FAILURES):
        await target.send_eof()
