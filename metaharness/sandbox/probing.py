"""Whether a sandbox really contains something on this machine: a worker is started and told to try to get out.

What it does not show: that nothing else gets out. It tries five ways that a sandbox which does not work leaves open;
the battery of attacks is `check_sandbox` in metaharness/testing. Where processes may be started, it tries to start more
than are allowed instead of one.
"""

from __future__ import annotations

import json
import socket
import tempfile
from pathlib import Path
from typing import Any

import anyio

from metaharness.errors import SandboxError
from metaharness.sandbox.protocol import (
    MOST,
    CandidateFiles,
    FrameReader,
    ProtocolError,
    Sandbox,
    SandboxProcess,
    encode,
)

PROBE_SECONDS = 20.0
LAST_WORDS_SECONDS = 0.5
LIMITS = {"memory": 1 << 30, "cpu": 10, "file_size": 1 << 20, "open_files": 256, "core": 0}
PROCESSES = 16
"""How many a worker may have in which processes may be started."""

ATTACKS = """
import json, os, socket

def opens_a_socket(told):
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()

def reaches_a_socket_by_its_path(told):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(told["socket"])

def starts_a_process(told):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)

def starts_more_processes_than_allowed(told):
    children, (out, into) = [], os.pipe()
    try:
        for _ in range(told["processes"]):
            child = os.fork()
            if not child:
                os.read(out, 1)
                os._exit(0)
            children.append(child)
    finally:
        os.write(into, b"x" * len(children))
        for child in children:
            os.waitpid(child, 0)

def reads_a_file_outside(told):
    open(told["secret"]).read()

def writes_a_file_outside(told):
    with open(told["outside"] + "/written", "w") as file:
        file.write("x")
    if not os.path.exists(told["secret"]):
        raise OSError("not the folder that was told")

class Harness:
    def predict(self, text, model):
        told, worked = json.loads(text), []
        for attack in (
            opens_a_socket,
            reaches_a_socket_by_its_path,
            starts_more_processes_than_allowed if told["processes"] else starts_a_process,
            reads_a_file_outside,
            writes_a_file_outside,
        ):
            try:
                attack(told)
            except OSError:
                continue
            worked.append(attack.__name__.replace("_", " "))
        return worked
"""


async def weaknesses(sandbox: Sandbox, python: str | None, *, subprocess: bool = False) -> list[str]:
    """What a harness can do there that it must not be able to, in words; empty for a sandbox that holds.

    `subprocess`: it may start processes, and not more than are allowed.

    Raises:
        SandboxError: No worker comes to answer; the message has what was printed last.
    """
    with tempfile.TemporaryDirectory(prefix="metaharness-probe-") as folder, socket.socket(socket.AF_UNIX) as listener:
        outside = Path(folder)
        listener.bind(str(outside / "socket"))
        listener.listen()
        (outside / "secret").write_text("secret", encoding="utf-8")
        (outside / "candidate").mkdir()
        (outside / "candidate" / "harness.py").write_text(ATTACKS, encoding="utf-8")
        told = {
            "socket": str(outside / "socket"),
            "secret": str(outside / "secret"),
            "outside": folder,
            "processes": PROCESSES if subprocess else 0,
        }
        worker = await sandbox.start(python, outside / "candidate")
        try:
            with anyio.fail_after(PROBE_SECONDS):
                return await _answer(worker, CandidateFiles.at(outside / "candidate"), json.dumps(told))
        except TimeoutError:
            raise SandboxError(f"no answer within {PROBE_SECONDS:g} s") from None
        finally:
            with anyio.CancelScope(shield=True):
                await worker.end()


async def _answer(worker: SandboxProcess, candidate: CandidateFiles, text: str) -> list[str]:
    limits = {**LIMITS, **({"processes": PROCESSES} if worker.counts_processes else {})}
    init = {"kind": "init", **candidate.frame(worker.inside), "driver_source": None}
    case = {"kind": "case", "scope": 1, "input": text, "seed": 0}
    frames = FrameReader()
    try:
        await worker.stream.send(encode({**init, "limits": limits, "stack": 1 << 20, "most": MOST}))
        await worker.stream.send(encode(case))
        while True:
            for frame in frames.feed(await worker.stream.receive()):
                if frame["kind"] == "failed" or "error" in frame:
                    raise SandboxError(f"the worker could not start: {_said(frame)}")
                if frame["kind"] == "done":
                    return [str(one) for one in frame["output"]]
    except (anyio.EndOfStream, anyio.BrokenResourceError, ProtocolError):
        raise SandboxError(f"the worker died{await _last_words(worker)}") from None


def _said(frame: dict[str, Any]) -> str:
    error = frame.get("error")
    return str(error["message"] if isinstance(error, dict) else frame.get("message"))[:500]


async def _last_words(worker: SandboxProcess) -> str:
    words = b""
    with anyio.move_on_after(LAST_WORDS_SECONDS):
        try:
            while worker.output is not None:
                words += await worker.output.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
    text = words.decode("utf-8", "replace").strip()[-500:]
    return f", saying: {text}" if text else ""
