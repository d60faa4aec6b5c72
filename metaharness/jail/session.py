"""A jail that is open: its broker answers, its sockets are served, and an executable file starts the program in it.

    async with opened(jail, serve={"mcp": serve_one}) as cell:
        ClaudeAgentOptions(cli_path=cell.wrapper, mcp_servers={"mine": cell.bridge("mcp")}, ...)
    cell.attempts()

The file may be started several times, by anyone on this machine's side. When the jail is closed, all that was started
in it ends; so it does when this process dies, on Linux.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import ByteStream

from metaharness.jail import bubblewrapped, seatbelted
from metaharness.jail.broker import FAILURES, Broker, Handler, Meet, answer, listen
from metaharness.jail.description import Jail
from metaharness.jail.destinations import Attempt
from metaharness.jail.layout import BROKER, Layout, plan
from metaharness.jail.watching import Alone, Inmate, first_of
from metaharness.machine.pipe import Pipe
from metaharness.ungroup import ungrouped

LAUNCH = Path(__file__).with_name("launch.py")
LONGEST = 80
"""Characters of the folder: the address of a socket has room for some more than a hundred."""


class Cell:
    """One open jail."""

    def __init__(self, jail: Jail, folder: Path) -> None:
        self.jail = jail
        self.wrapper = folder / "start"
        """The executable file: stdin, stdout, stderr and arguments are those of the program."""
        self.broker = Broker(jail.allowed, self._began)
        self.ended_because: str | None = None
        """What bound ended a program, and how much it was; None while none has."""
        self.begun = 0
        """How many programs have begun."""
        self._folder = folder
        self._plan = folder / "plan.json"
        self._closed = False
        self._inmates: dict[int, Inmate | Alone] = {}
        self._layout = bubblewrapped.LAYOUT
        self._means = "bubblewrap"

    @property
    def layout(self) -> Layout:
        """Where things are inside."""
        return self._layout

    def argv(self, *arguments: str) -> list[str]:
        """What starts the program with further arguments."""
        return [*Layout.python(), str(LAUNCH), str(self._plan), *arguments]

    def bridge(self, name: str) -> list[str]:
        """What the program starts inside to speak over stdio with what is served under a name."""
        return self._layout.bridge(name)

    def attempts(self) -> tuple[Attempt, ...]:
        """What was tried over the proxy and the loopback destinations so far, refused first."""
        return self.broker.attempts.all()

    def sealed_by(self) -> str:
        """What a test score says of how it was sealed from the program."""
        return self.jail.sealed_by(self._means)

    def write(self) -> None:
        """Write what starts the program.

        Raises:
            SandboxError: No jail can be made here.
        """
        jail = self.jail
        if sys.platform == "linux":
            program = bubblewrapped.find_program()
            options = bubblewrapped.options(program, jail, self._folder)
            made = plan(jail, self._layout, program, options, descriptor=True)
        else:
            program = seatbelted.find_program()
            self._layout, self._means = seatbelted.layout(jail, self._folder), "sandbox-exec"
            options = ["-p", seatbelted.profile(jail, self._layout)]
            made = plan(jail, self._layout, program, options, descriptor=False)
        self._plan.write_text(json.dumps(made), encoding="utf-8")
        self.wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(self.argv())} "$@"\n', encoding="utf-8")
        self.wrapper.chmod(0o700)

    async def end(self) -> None:
        """Ask all that was started to end, and kill after some seconds what has not; return when it is gone."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for inmate in list(self._inmates.values()):
                    group.start_soon(inmate.end)

    async def _began(self, relay: int, stream: ByteStream) -> None:
        """The relay is about to start the program: watch over its bounds until it ends."""
        first = first_of(relay) if sys.platform == "linux" else relay
        if first is None:
            await answer(stream, 502, "/proc does not show which processes are in it, so its memory cannot be bounded")
            return
        if self._closed or first in self._inmates:
            await answer(stream, 502, "the jail is closed")
            return
        inmate = self._inmates[first] = self._watched(relay, first)
        ask = True
        try:
            self.begun += 1
            await answer(stream, 200, "")
            with anyio.move_on_after(self.jail.bounds.seconds) as clock:
                await _until_closed(stream)
            if clock.cancelled_caught:
                self._too_much(f"it took longer than {self.jail.bounds.seconds:g} s")
            ask = clock.cancelled_caught
        finally:
            with anyio.CancelScope(shield=True):
                await inmate.end(ask=ask)
            del self._inmates[first]

    def _watched(self, relay: int, first: int) -> Inmate | Alone:
        if sys.platform != "linux":
            return Alone(relay)
        return Inmate(relay, first, self.jail.bounds, self._too_much)

    def _too_much(self, why: str) -> None:
        self.ended_because = self.ended_because or why


@asynccontextmanager
async def opened(jail: Jail, *, serve: Mapping[str, Handler] | None = None) -> AsyncIterator[Cell]:
    """Open a jail.

    Args:
        jail: What it is.
        serve: What answers on a socket inside, by its name: called for each connection, with its stream of bytes.

    Raises:
        UsageError: The jail is described wrongly.
        SandboxError: No jail can be made here; the hint says what to install.
    """
    jail.check()
    with ungrouped(), tempfile.TemporaryDirectory(prefix="jail-", dir=place()) as named:
        folder = Path(os.path.realpath(named))  # noqa: ASYNC240 - a microsecond
        (folder / "sockets").mkdir()
        async with anyio.create_task_group() as group:
            cell = Cell(jail, folder)
            await listen(str(folder / "sockets" / BROKER), cell.broker.meet, group)
            for name, handler in (serve or {}).items():
                await listen(str(folder / "sockets" / name), serving(handler), group)
            try:
                await anyio.to_thread.run_sync(cell.write)
                yield cell
            finally:
                await cell.end()
                group.cancel_scope.cancel()


def make_sure() -> None:
    """Make sure that jails can be made here.

    Raises:
        SandboxError: They cannot; the hint says what to install.
    """
    (bubblewrapped if sys.platform == "linux" else seatbelted).find_program()


def place() -> str | None:
    """Where a folder with sockets may be made; None: where temporary files are."""
    return None if len(tempfile.gettempdir()) <= LONGEST else "/tmp"  # noqa: S108 - a folder that this user alone reads


async def _until_closed(stream: ByteStream) -> None:
    with suppress(*FAILURES):
        while True:
            await stream.receive()


def serving(handler: Handler) -> Meet:
    """Each connection as a stream, to what answers."""

    async def meet(raw: socket.socket) -> None:
        async with Pipe(raw) as stream:
            with suppress(*FAILURES):
                await handler(stream)

    return meet
