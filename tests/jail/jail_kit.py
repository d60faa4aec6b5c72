"""What the tests of the jail share: a small agent in Python, run inside and, as a control, outside."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from metaharness.jail import Ended, Jail, run_jailed
from metaharness.machine.interpreter import find_interpreter

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
PYTHON = (find_interpreter(None).command[0], "-I", "-S")
AGENT = Path(__file__).with_name("agent.py")


def program(workspace: Path, source: str) -> tuple[str, ...]:
    """A Python program in the workspace, and what starts it."""
    (workspace / "program.py").write_text(source, encoding="utf-8")
    return (*PYTHON, str(workspace / "program.py"))


async def printed(jail: Jail, **more: Any) -> tuple[Ended, list[str]]:
    """What came of a program, and its lines."""
    lines: list[str] = []
    return await run_jailed(jail, on_line=lines.append, **more), lines


def told(workspace: Path, tries: dict[str, Any]) -> tuple[str, ...]:
    """The agent, which is told what to try."""
    shutil.copy(AGENT, workspace / "agent.py")
    (workspace / "tries.json").write_text(json.dumps(tries), encoding="utf-8")
    return (*PYTHON, str(workspace / "agent.py"))


def unjailed(command: tuple[str, ...], workspace: Path, **more: str) -> list[str]:
    """The lines of the same program with all the rights of this user."""
    done = subprocess.run(command, cwd=workspace, env=os.environ | more, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@contextmanager
def answering(host: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[int]:
    """A port that answers whatever it is sent with `reached`."""
    with socket.socket(socket.AF_INET, kind) as server:
        server.bind((host, 0))
        if kind == socket.SOCK_STREAM:
            server.listen()
        threading.Thread(target=_answer, args=(server, kind), daemon=True).start()
        yield server.getsockname()[1]
        with suppress(OSError):  # a datagram socket is not connected, but is woken
            server.shutdown(socket.SHUT_RDWR)


@contextmanager
def answering_at(address: str) -> Iterator[None]:
    """A Unix socket that answers likewise; its address may be abstract."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        threading.Thread(target=_answer, args=(server, socket.SOCK_STREAM), daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)


def _answer(server: socket.socket, kind: socket.SocketKind) -> None:
    while True:
        try:
            if kind == socket.SOCK_DGRAM:
                _, sender = server.recvfrom(512)
                if sender is None:
                    return
                server.sendto(b"reached", sender)
            else:
                with server.accept()[0] as one:
                    one.sendall(b"reached")
                    one.shutdown(socket.SHUT_WR)
                    while one.recv(4096):
                        pass
        except OSError:
            return
