"""A socket of a worker as a byte stream.

Not anyio's own stream: where reading is cancelled in the moment in which something arrives, that one sets the result
of a cancelled future, and asyncio prints an error (anyio 4.16; closing has been mended, agronholm/anyio#1267).
"""

from __future__ import annotations

import socket

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream


class Pipe(ByteStream):
    """One end of a socket pair."""

    def __init__(self, raw: socket.socket) -> None:
        raw.setblocking(False)
        self._raw = raw

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """What has arrived; see `anyio.abc.ByteStream`."""
        while self._raw.fileno() != -1:
            await anyio.wait_readable(self._raw)  # first: mostly nothing is there yet
            try:
                data = self._raw.recv(max_bytes)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._ended() from error
            if not data:
                raise anyio.EndOfStream
            return data
        raise anyio.ClosedResourceError

    async def send(self, item: bytes) -> None:
        """Send all of it; see `anyio.abc.ByteStream`."""
        await anyio.lowlevel.checkpoint()
        left = memoryview(item)
        while left:
            try:
                left = left[self._raw.send(left) :]
            except BlockingIOError:
                await anyio.wait_writable(self._raw)
            except OSError as error:
                raise self._ended() from error

    async def send_eof(self) -> None:
        """Say that nothing more will come."""
        self._raw.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close it; whoever waits for it is told."""
        if self._raw.fileno() != -1:
            anyio.notify_closing(self._raw)
            self._raw.close()
        await anyio.lowlevel.checkpoint()

    def _ended(self) -> Exception:
        return anyio.ClosedResourceError() if self._raw.fileno() == -1 else anyio.BrokenResourceError()
