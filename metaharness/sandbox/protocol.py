"""The frames between the engine and a worker, and what a sandbox has to provide.

Everything a worker sends is untrusted: length, syntax, types and scope are checked here or by the caller.
A sandbox is chosen by the person who starts the run; this module does not judge how strong one is.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from anyio.abc import ByteStream

from metaharness.errors import SandboxError

MAX_ANSWER = 1 << 20
"""Bytes of JSON an answer may have."""
MAX_PROMPT = 8 << 20
"""Bytes of JSON a model request may have."""
MAX_FRAME = MAX_PROMPT + (1 << 16)
"""The longest frame a worker may send."""
MAX_REPORT = MAX_ANSWER + (1 << 18)
"""The longest frame that is not a call: an answer with what was printed, or a traceback."""
MAX_DEPTH = 100
"""How deep an answer or a request may be nested. What is nested deeper cannot be written to disk."""
MAX_VALUES = 200_000
"""Values an answer or a request may have: each takes many times as much memory as its one or two bytes of JSON."""
MOST = (MAX_PROMPT, MAX_ANSWER, MAX_DEPTH, MAX_VALUES)
"""What a worker is told, so that an honest harness hears of it where it asks or answers."""
AROUND = 64
"""Values of a frame beside the answer or the request that it carries."""
HEADER = 4


class ProtocolError(Exception):
    """A worker sent something that is not a frame."""


class SandboxProcess(Protocol):
    """A running worker, before it knows its candidate."""

    stream: ByteStream
    """The framed pipe."""
    output: ByteStream | None
    """What the process prints on its own stdout and stderr; None when it is not captured."""
    inside: str | None
    """The folder into which the worker has to write its candidate's files, because it sees none of this machine.
    None: it reads them where they are."""
    counts_processes: bool
    """Whether a limit on processes counts those of this worker alone, and not all of the user's."""

    ended_because: str | None
    """Why the sandbox itself has ended it, in words; None when it did not."""

    def alive(self) -> bool:
        """Whether it still runs."""
        ...

    def confine(self, memory: int) -> None:
        """Bound the memory of its processes together, in bytes. Nothing to do where it cannot start any.

        Raises:
            SandboxError: It can, and this system does not show what they take.
        """
        ...

    def kill(self) -> int | None:
        """Kill the process and everything it started, and wait. The streams stay open for its last words.

        Returns the status it ended with, negative for a signal; None when that is not known. May be called again.
        """
        ...

    async def end(self) -> None:
        """Kill it and close the streams."""
        ...


class Sandbox(Protocol):
    """A way to start a worker."""

    name: str
    """As recorded in every score."""

    async def start(self, python: str | None, candidate: Path) -> SandboxProcess:
        """Start a worker.

        Args:
            python: The interpreter to use; None for the engine's own, without its installed packages.
            candidate: The folder or file of the candidate, which is to be readable inside.

        Raises:
            SandboxError: It could not be started.
        """
        ...


@dataclass(frozen=True)
class CandidateFiles:
    """Where a candidate lies and how it is imported."""

    folder: Path
    entry: str
    importable: bool
    """Whether further modules of the folder may be imported: true for the folder layout."""

    @classmethod
    def at(cls, path: Path) -> CandidateFiles:
        """A harness file, or a folder that holds `harness.py`."""
        if path.is_dir():
            return cls(path.resolve(), "harness.py", importable=True)
        return cls(path.resolve().parent, path.name, importable=False)

    def frame(self, inside: str | None) -> dict[str, Any]:
        """What the frame `init` says of it; with its files, where they have to be written into a folder inside.

        Raises:
            SandboxError: A file cannot be read.
        """
        where: dict[str, Any] = {"entry": self.entry, "importable": self.importable}
        if inside is None:
            return {**where, "folder": str(self.folder)}
        try:
            files = {name: base64.b64encode(path.read_bytes()).decode("ascii") for name, path in self._files()}
        except OSError as error:
            raise SandboxError(f"cannot read the candidate: {error}", hint="check the rights of its files") from error
        return {**where, "folder": inside, "files": files}

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Its files by their names inside. What a symbolic link has elsewhere is not part of it."""
        if not self.importable:
            yield self.entry, self.folder / self.entry
            return
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder)
            if path.is_file() and "__pycache__" not in name.parts and path.resolve().is_relative_to(self.folder):
                yield name.as_posix(), path


def encode(frame: dict[str, Any]) -> bytes:
    """One frame to send to a worker."""
    body = _ENCODER.encode(frame).encode("ascii")
    return len(body).to_bytes(HEADER, "big") + body


class FrameReader:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The frames that are complete now.

        Raises:
            ProtocolError: A frame is too long, has too many values or too deep ones, is not a JSON object, or holds
                NaN or an infinity.
        """
        self._buffer += data
        while len(self._buffer) >= HEADER:
            size = int.from_bytes(self._buffer[:HEADER], "big")
            if size > MAX_FRAME:
                raise ProtocolError(f"a frame of {size:,} bytes; at most {MAX_FRAME:,} are allowed")
            if len(self._buffer) < HEADER + size:
                return
            body = bytes(self._buffer[HEADER : HEADER + size])
            del self._buffer[: HEADER + size]
            yield _decode(body)


def values(body: bytes, most: int) -> int:
    """How many values some JSON has, nearly; `most + 1` when it has more.

    Every value but one comes after a comma or a bracket that opens; what stands in strings does not count.
    """
    # a quote inside a string is escaped; an object has two strings at most for each of its values
    if body.count(b'"') - body.count(rb"\"") > 4 * (most + 1):
        return most + 1
    return min(_marks(_STRING.sub(b"", body)), most + 1)


def _marks(part: bytes) -> int:
    return len(part) - len(part.translate(None, b",[{"))  # several times as fast as counting where there are many


def _decode(body: bytes) -> dict[str, Any]:
    most = MAX_VALUES + AROUND
    # the length and a count that includes what stands in strings are quick, and enough for nearly every frame
    if len(body) > most and _marks(body) > most and values(body, most) > most:
        raise ProtocolError(f"a frame of more than {MAX_VALUES:,} values")
    try:
        frame = _DECODER.decode(body.decode("ascii"))  # a worker escapes all else, so only a forgery differs
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a frame that is not JSON: {error}") from error
    if not isinstance(frame, dict) or not isinstance(frame.get("kind"), str):
        raise ProtocolError("a frame without a kind")
    if len(body) > MAX_REPORT and frame["kind"] != "call":
        raise ProtocolError(f"a frame of {len(body):,} bytes that is no call; at most {MAX_REPORT:,} are allowed")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _deeper(frame, MAX_DEPTH + 1):
        raise ProtocolError(f"a frame that is nested deeper than {MAX_DEPTH} levels")
    return without_surrogates(frame) if b"\\ud" in body.lower() else frame


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:40]} is too large for a number")
    return number


_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""Matches at every quote that it is tried at, also where the string does not end, so nothing is looked at twice."""
_ENCODER = json.JSONEncoder(allow_nan=False)
_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def _deeper(value: Any, levels: int) -> bool:
    """Whether a JSON value has more levels of lists and objects than that."""
    level = [value]
    for _ in range(levels + 1):
        level = [one for one in level if isinstance(one, (dict, list))]
        if not level:
            return False
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return True


def without_surrogates(value: Any) -> Any:
    """The same value with every lone surrogate replaced by U+FFFD, so that it can be written as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value
