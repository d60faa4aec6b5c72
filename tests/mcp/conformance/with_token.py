"""A door on the loopback that adds a token to every request: the conformance suite cannot send one by itself.

python with_token.py URL     # the token in METAHARNESS_TOKEN; says where the door is; ends with its stdin, or a signal

Bytes go through as they are, but for two headers: `Authorization` is added, and `Connection: close` makes every request
a connection of its own, so that no second one passes without the token.
"""

from __future__ import annotations

import asyncio
import os
import sys
from urllib.parse import urlsplit

HOST = "127.0.0.1"
MOST_HEAD = 1 << 16
"""Bytes of the head of a request."""


async def serve(url: str, token: str) -> None:
    """Pass requests on until stdin ends."""
    target = urlsplit(url)

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = with_token(await reader.readuntil(b"\r\n\r\n"), token)
            to, back = await asyncio.open_connection(target.hostname, target.port)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            writer.close()
            return
        back.write(head)
        sending = asyncio.create_task(piped(reader, back))
        await piped(to, writer)
        sending.cancel()
        back.close()

    server = await asyncio.start_server(passed, HOST, 0, limit=MOST_HEAD)
    async with server:
        port = server.sockets[0].getsockname()[1]
        sys.stdout.write(f"http://{HOST}:{port}{target.path}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def with_token(head: bytes, token: str) -> bytes:
    """The head of a request, with the token, on a connection that ends with the answer."""
    first, *lines = head[:-4].split(b"\r\n")
    kept = [line for line in lines if line.split(b":", 1)[0].strip().lower() not in (b"authorization", b"connection")]
    added = [f"Authorization: Bearer {token}".encode(), b"Connection: close"]
    return b"\r\n".join([first, *kept, *added]) + b"\r\n\r\n"


async def piped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write what comes until it ends, then close."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:  # whoever listened is gone
        pass
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], os.environ["METAHARNESS_TOKEN"]))
