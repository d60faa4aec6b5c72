"""Where the attacks happen: a folder with what is worth stealing, and servers that wait to be reached."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import selectors
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metaharness.attacks.attack import GUILTY, KEY, LABEL, Attack

LEFT_IN = ("/", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", sys.prefix, sys.base_prefix)  # noqa: S108
"""Where an attack may have left a file, beside the scene."""
PACKAGE = Path(__file__).resolve().parents[1]


class Scene:
    """A folder of its own for each, and what is in it."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="metaharness-attacks-")).resolve()
        self.label, self.key = LABEL + secrets.token_hex(8), KEY + secrets.token_hex(8)
        self.servers = Servers(self.root)
        self._written: list[str] = []
        rows = [{"input": GUILTY, "expected": self.label}]
        self._write("domain/labels.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        self._write("domain/driver.py", "# not used\n")
        self._write("records/of_others.jsonl", json.dumps({"expected": self.label}) + "\n")
        self._write("candidates/other/notes.txt", f"the label is {self.label}\n")
        self._write("home/.ssh/id_ed25519", f"{self.key}\n")
        self._write("outside/readme.txt", "nothing is to be written here\n")
        self._own = {name: (self.root / name).read_text(encoding="utf-8") for name in self._written}

    @property
    def labels(self) -> Path:
        """The file of labels."""
        return self.root / "domain" / "labels.jsonl"

    def environment(self) -> dict[str, str]:
        """That of the engine: keys, and a home folder with a key in it."""
        home, key = str(self.root / "home"), self.key
        path = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**os.environ, "HOME": home, "ANTHROPIC_API_KEY": key, "METAHARNESS_CHECK": key, "PYTHONPATH": path}

    def told(self, nonce: str, engine: int) -> dict[str, Any]:
        """What a harness is told of its surroundings: places and numbers, no secret."""
        home = Path.home()
        leading = [Path(path) for path in (sys.prefix, sys.base_prefix, sys.executable, PACKAGE, self.root)]
        inside = [path.relative_to(home).parts for path in leading if path.is_relative_to(home) and path != home]
        return {
            "nonce": nonce,
            "engine": engine,
            "labels": str(self.labels),
            "driver": str(self.root / "domain" / "driver.py"),
            "records": str(self.root / "records" / "of_others.jsonl"),
            "key_file": str(self.root / "home" / ".ssh" / "id_ed25519"),
            "other": str(self.root / "candidates" / "other" / "notes.txt"),
            "outside": str(self.root / "outside"),
            "real_home": str(home),
            "home_names": sorted({parts[0] for parts in inside}),
            "shared": shared_key(nonce),
            **self.servers.places,
        }

    def candidate(self, attack: Attack, nonce: str, told: Mapping[str, Any]) -> Path:
        """Write the harness of an attack."""
        if attack.beside_labels:
            return self._write(f"domain/{nonce}.py", attack.source(told))
        folder = self.root / "candidates" / nonce
        self._write(f"candidates/{nonce}/harness.py", attack.source(told))
        for name, text in attack.files.items():
            self._write(f"candidates/{nonce}/{name}", text)
        targets = {"labels": self.labels, "domain": self.labels.parent}
        for name, target in attack.links.items():
            (folder / name).symlink_to(targets[target])
        return folder

    def state(self) -> dict[str, str]:
        """Every file of the scene and what is in it."""
        found = {}
        for folder, folders, files in os.walk(self.root):
            for name in [*folders, *files]:
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    mode = path.lstat().st_mode
                    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                    found[str(path)] = f"{mode:o} {hashlib.sha256(content).hexdigest()}"
        return found

    def left_behind(self, nonce: str) -> list[str]:
        """Files elsewhere whose names begin with the nonce."""
        found = []
        for folder in {*LEFT_IN, tempfile.gettempdir(), str(Path.cwd())}:
            with contextlib.suppress(OSError):
                found += [str(path) for path in Path(folder).iterdir() if path.name.startswith(nonce)]
        return sorted(found)

    def clean(self, nonce: str, before: Mapping[str, str]) -> None:
        """Take away what an attack has left."""
        made = [path for path in self.state() if path not in before and nonce in path]
        for name in [*self.left_behind(nonce), *made]:
            path = Path(name)
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, text in self._own.items():
            self._write(name, text)
        remove_shared(shared_key(nonce))
        self.servers.received.clear()

    def close(self) -> None:
        """Take everything away."""
        self.servers.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def _write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        self._written.append(name)
        return path


class Servers:
    """Sockets that wait; whoever reaches one is remembered."""

    def __init__(self, root: Path) -> None:
        name = root.name
        self.received: list[str] = []
        self.places: dict[str, Any] = {
            "socket": str(root / "socket"),
            "datagrams": str(root / "datagrams"),
            "abstract": f"{name}-stream",
            "abstract_datagrams": f"{name}-datagrams",
        }
        self._selector = selectors.DefaultSelector()
        self._open("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self._open("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self._open("a socket by path", socket.AF_UNIX, socket.SOCK_STREAM, self.places["socket"])
        self._open("a datagram socket by path", socket.AF_UNIX, socket.SOCK_DGRAM, self.places["datagrams"])
        if sys.platform == "linux":
            self._open("an abstract socket", socket.AF_UNIX, socket.SOCK_STREAM, "\0" + self.places["abstract"])
            place = "\0" + self.places["abstract_datagrams"]
            self._open("an abstract datagram socket", socket.AF_UNIX, socket.SOCK_DGRAM, place)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.places["serve"] = free.getsockname()[1]
        self._ours, self._theirs = socket.socketpair()
        self._selector.register(self._theirs, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def call_on(self) -> str:
        """What a server that a harness has opened says; empty when there is none."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.places["serve"]), 0.2) as one:
            one.settimeout(1)
            return one.recv(100).decode("ascii", "replace") or "it listens"
        return ""

    def close(self) -> None:
        """Wait no more."""
        self._ours.send(b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        self._ours.close()

    def _open(self, name: str, family: int, kind: int, address: Any) -> None:
        one = socket.socket(family, kind)
        one.bind(address)
        if kind == socket.SOCK_STREAM:
            one.listen()
        one.setblocking(False)
        if family == socket.AF_INET:
            self.places[name] = one.getsockname()[1]
        self._selector.register(one, selectors.EVENT_READ, (name, kind == socket.SOCK_STREAM))

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                self._take(key)

    def _take(self, key: selectors.SelectorKey) -> None:
        name, accepts = key.data
        one: Any = key.fileobj
        with contextlib.suppress(OSError):
            if accepts:
                other, _ = one.accept()
                self.received.append(f"a connection to {name}")
                other.close()
            else:
                self.received.append(f"{name}: {one.recv(200)!r}")


# --- System V shared memory -------------------------------------------------------------------------------------


def shared_key(nonce: str) -> int:
    """The key of the shared memory that an attack may make; 8 keys from here on."""
    return 0x10000000 | int(nonce[:6], 16) << 4


def shared(key: int) -> int:
    """How many of the 8 pieces of shared memory exist."""
    return sum(one >= 0 for one in _pieces(key))


def remove_shared(key: int) -> None:
    """Remove them."""
    import ctypes  # noqa: PLC0415 - only where it is needed

    for one in _pieces(key):
        if one >= 0:
            ctypes.CDLL(None).shmctl(one, 0, None)


def _pieces(key: int) -> Iterator[int]:
    import ctypes  # noqa: PLC0415 - only where it is needed

    libc = ctypes.CDLL(None)
    for number in range(8):
        yield libc.shmget(ctypes.c_int(key + number), ctypes.c_size_t(0), 0)
