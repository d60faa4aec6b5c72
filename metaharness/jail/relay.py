"""What runs inside a jail before the program: its only way out. Python 3.9, standard library, one file.

    python relay.py run SETTINGS PROGRAM ARGUMENT...    start the program, and be its proxy until it ends
    python relay.py mcp SOCKET                          what comes on stdin goes to the socket, and back to stdout

It guards nothing: it lies with the program in the jail, and whoever is in there can speak to the broker as well as it
does. What is refused is refused by the broker, outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
import threading
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
CHUNK = 65536
HEAD_BYTES = 65536
TERM_REASONS = {403: "Forbidden", 400: "Bad Request", 502: "Bad Gateway"}
GRACE_SECONDS = 4
"""What the program has to end by itself when it is told to."""
NOT_STARTED = 127
NOT_READY = 125


class Refused(Exception):  # noqa: N818 - an answer
    """The broker, or what was asked, says no."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Relay:
    """Listens on loopback, asks the broker for each connection."""

    def __init__(self, broker: str) -> None:
        self._broker = broker

    async def ask(self, **said: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that the broker has answered.

        Raises:
            Refused: It said no.
        """
        reader, writer = await asyncio.open_unix_connection(self._broker, limit=HEAD_BYTES)
        writer.write(json.dumps(said).encode() + b"\n")
        answer = json.loads(await reader.readline() or b'{"status": 502, "text": "the jail is closed"}')
        if answer["status"] != 200:
            writer.close()
            raise Refused(answer["status"], answer["text"])
        return reader, writer

    async def listen(self, host: str, port: int, target: dict[str, object] | None) -> int:
        """Listen; `target` is where all of it goes, None: what an HTTP proxy is asked for. Returns the port."""

        async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                try:
                    await (self._proxied(reader, writer) if target is None else self._direct(target, reader, writer))
                except Refused as refused:
                    writer.write(_page(refused))
                    await writer.drain()
            writer.close()

        server = await asyncio.start_server(met, host, port, limit=HEAD_BYTES)
        return int(server.sockets[0].getsockname()[1])

    async def _direct(
        self, target: dict[str, object], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await _spliced((reader, writer), await self.ask(**target))

    async def _proxied(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, _, fields = head.partition(b"\r\n")
        try:
            method, target, version = line.decode("latin-1").split(" ")
            parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            raise Refused(400, "this is no request to a proxy") from None
        if not host or parts.scheme != ("" if method == "CONNECT" else "http"):
            raise Refused(400, "a proxy is asked by CONNECT host:port, or for http://host/path")
        there = await self.ask(host=host, port=port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            there[1].write(f"{method} {path} {version}\r\n".encode("latin-1") + _one_request(fields))
        await _spliced((reader, writer), there)


def _one_request(fields: bytes) -> bytes:
    """The header fields for a server that is to close after its answer: the next request may be for another."""
    lines = [line for line in fields.split(b"\r\n") if line]
    if any(line.lower().startswith(b"upgrade:") for line in lines):
        kept = [line for line in lines if not line.lower().startswith(b"proxy-")]
    else:
        kept = [line for line in lines if not line.lower().startswith((b"proxy-", b"connection:", b"keep-alive:"))]
        kept.append(b"Connection: close")
    return b"\r\n".join([*kept, b"", b""])


def _page(refused: Refused) -> bytes:
    text = (refused.text + "\n").encode()
    reason = TERM_REASONS.get(refused.status, "Refused")
    head = f"HTTP/1.1 {refused.status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    return f"{head}Content-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode() + text


async def _spliced(
    one: tuple[asyncio.StreamReader, asyncio.StreamWriter], other: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Carry bytes both ways until both have ended."""
    try:
        await asyncio.gather(_copied(one[0], other[1]), _copied(other[0], one[1]))
    finally:
        other[1].close()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while True:
            data = await reader.read(CHUNK)
            if not data:
                break
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


async def run(settings: dict[str, object], program: list[str]) -> int:
    """Start the program when the broker watches over it; its exit code."""
    relay = Relay(str(settings["broker"]))
    try:
        watched = await relay.ask(begin=True)  # open until the end: so it is seen outside
        for host, port in settings["ports"]:  # type: ignore[attr-defined]
            await relay.listen(host, port, {"host": host, "port": port})
        port = await relay.listen(LOOPBACK, int(str(settings["proxy"])), None)
    except (OSError, Refused) as error:
        return _complained(f"the jail cannot be made ready: {error}", NOT_READY)
    _bound(settings["limits"])  # type: ignore[arg-type]
    try:
        child = await asyncio.create_subprocess_exec(*program, env={**os.environ, **_variables(port)})
    except OSError as error:
        return _complained(f"cannot start {program[0]} in the jail: {error}", NOT_STARTED)

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        loop.call_later(GRACE_SECONDS, kill)

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            child.kill()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, end)
    code = await child.wait()
    del watched
    os._exit(code if code >= 0 else 128 - code)  # at once: a signal that comes now would change the exit code


def _variables(port: int) -> dict[str, str]:
    address = f"http://{LOOPBACK}:{port}"
    own = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), address)
    own["NO_PROXY"] = f"{LOOPBACK},localhost,::1"
    return {**own, **{name.lower(): value for name, value in own.items()}, "NODE_USE_ENV_PROXY": "1"}


def _bound(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        which = getattr(resource, name, None)
        if which is not None:
            most = resource.getrlimit(which)[1]
            bound = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(which, (bound, bound))


def _complained(text: str, code: int) -> int:
    sys.stderr.write(text + "\n")
    return code


def bridge(path: str) -> int:
    """Carry stdin to a socket and what it says to stdout, until it ends."""
    there = socket.socket(socket.AF_UNIX)
    try:
        there.connect(path)
    except OSError as error:
        return _complained(f"nothing answers at {path}: {error}", 1)

    def inwards() -> None:
        with contextlib.suppress(OSError):
            while True:
                data = os.read(0, CHUNK)
                if not data:
                    break
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)

    threading.Thread(target=inwards, daemon=True).start()
    with contextlib.suppress(OSError):
        while True:
            data = there.recv(CHUNK)
            if not data:
                break
            while data:
                data = data[os.write(1, data) :]
    return 0


def main(arguments: list[str]) -> int:
    """Do what the first argument says."""
    if arguments[0] == "mcp":
        return bridge(arguments[1])
    return asyncio.run(run(json.loads(arguments[1]), arguments[2:]))


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # not sys.exit: a thread may still wait for stdin
