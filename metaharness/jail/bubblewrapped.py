"""A jail in namespaces of its own, made by bubblewrap.

The program sees the programs and libraries of the system, certificates, the engine's interpreter, its own file, its
workspace, and what it is given to read; nothing else of the machine has a name in there. It has a loopback of its own
and no other network, its own processes, its own users. What it may write to is its workspace, its home and /tmp.

It does not guard against the kernel: what is allowed there is allowed here. The space that a workspace or a home on
disk takes is bounded by the file, not together, and names in memory are bounded by the machine's. A hard link in the
workspace is the file itself. Under root the kernel does not count processes: they are counted from outside, every
20 ms, and may be more for a moment.
"""

from __future__ import annotations

import subprocess
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from metaharness.errors import SandboxError
from metaharness.jail.description import EVERYTHING, Jail
from metaharness.jail.layout import RELAY, Layout
from metaharness.machine.advising import look, or_else
from metaharness.machine.bubblewrap import find_bubblewrap, options_known
from metaharness.machine.interpreter import find_interpreter
from metaharness.machine.mounting import beneath, to_mount

INSIDE = "/jail"
LAYOUT = Layout(f"{INSIDE}/relay.py", INSIDE, f"{INSIDE}/home", "/tmp", 0, loopback=True)  # noqa: S108 - a tmpfs
USER = "1000"
OTHERWISE = "say --unjailed-proposer: it can then read whatever you can"
ISOLATE = (
    *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    *("--die-with-parent", "--new-session", "--hostname", "jail", "--uid", USER, "--gid", USER, "--cap-drop", "ALL"),
)
NO_MORE_NAMESPACES = "--disable-userns"
"""Of bubblewrap 0.8 and later; before it a program may make namespaces of its own, in which it sees no more."""
CERTIFICATES = (
    *("/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/tls/cert.pem"),
    *("/etc/pki/ca-trust/extracted", "/etc/ca-certificates/extracted", "/etc/crypto-policies"),
)
"""Not their folders: private keys lie in them too."""
SYSTEM = (*CERTIFICATES, "/etc/localtime", "/etc/mime.types", "/etc/protocols", "/etc/services")
ETC = {
    "passwd": f"agent:x:{USER}:{USER}:agent:{LAYOUT.home}:/bin/sh\n",
    "group": f"agent:x:{USER}:\n",
    "hosts": "127.0.0.1 localhost jail\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "resolv.conf": "",
}
"""Instead of the machine's, which tell of its users and of others."""
SHARED_MEMORY_BYTES = 64 << 20


def find_program() -> str:
    """Bubblewrap, once it has shown that it can make these namespaces here.

    Raises:
        SandboxError: It is not there, too old, or the system does not allow it.
    """
    program = find_bubblewrap(OTHERWISE)
    make_sure(program)
    return program


@lru_cache
def make_sure(program: str) -> None:
    """Make namespaces once.

    Raises:
        SandboxError: It cannot.
    """
    command = [program, *_isolated(program), "--ro-bind", "/", "/", "--proc", "/proc", "--", "/bin/sh", "-c", ":"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={}, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxError(f"cannot start {program}: {error}", hint=or_else(look(), OTHERWISE)) from error
    if done.returncode != 0:
        said = done.stderr.strip()[-300:]
        raise SandboxError(f"bubblewrap cannot make a jail here: {said}", hint=or_else(look(), OTHERWISE))


def _isolated(program: str) -> list[str]:
    known = options_known(program, OTHERWISE)
    return [*ISOLATE, *([NO_MORE_NAMESPACES] if NO_MORE_NAMESPACES in known else [])]


def options(program: str, jail: Jail, folder: Path) -> list[str]:
    """All options but those that `launch.py` adds. `folder`: of the session, with its sockets."""
    scratch = str(jail.bounds.scratch_mb << 20)
    # /proc read only: under root its settings of the kernel belong to whoever is in the jail
    found = [*_isolated(program), "--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
    found += ["--size", str(SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108
    # the tmpfs first: what is mounted may lie in /tmp
    found += ["--perms", "1777", "--size", scratch, "--tmpfs", LAYOUT.scratch]
    wanted = _readable(jail)
    found += _seen(wanted)
    empty = folder / "empty"
    empty.touch()
    masked = _masks(jail, wanted, empty)
    found += masked + _home(jail, scratch) + _workspace(jail) + _own_files(folder)
    later = _masks(jail, [str(jail.workspace), *([] if jail.home is None else [str(jail.home)])], empty)
    # a workspace may lie in what is hidden, so that a mask stays writable until all else is mounted
    shut = [part for path in sorted(_folders(masked + later)) for part in ("--remount-ro", path)]
    return [*found, *later, *shut, "--remount-ro", "/"]


def _readable(jail: Jail) -> list[str]:
    interpreter = find_interpreter(None, programs=True)
    given = [str(path.absolute()) for path in (jail.executable, *jail.readable)]
    own = [path for path, _ in interpreter.links]
    return [*interpreter.paths, *own, interpreter.command[0], *SYSTEM, *given]


def _seen(wanted: list[str]) -> list[str]:
    """Paths under their own names, read only."""
    paths, links = to_mount(wanted)
    found = [part for path in paths for part in ("--ro-bind", path, path)]
    return found + [part for path, target in links for part in ("--symlink", target, path)]


def _home(jail: Jail, scratch: str) -> list[str]:
    if jail.home is None:
        found = ["--perms", "0700", "--size", scratch, "--tmpfs", LAYOUT.home]
    else:
        found = ["--bind", str(jail.home.resolve()), LAYOUT.home]
    for place, path in jail.home_files.items():
        found += ["--ro-bind", str(path.resolve()), f"{LAYOUT.home}/{place}"]
    return found


def _workspace(jail: Jail) -> list[str]:
    here = str(jail.workspace.resolve())
    found = ["--bind" if jail.writable == EVERYTHING else "--ro-bind", here, here]
    if jail.writable != EVERYTHING:
        for part in jail.writable:
            path = str((jail.workspace / part).resolve())
            found += ["--bind", path, path]
    named = str(jail.workspace.absolute())
    return found if named == here else [*found, "--symlink", here, named]


def _own_files(folder: Path) -> list[str]:
    found = ["--ro-bind", str(RELAY), LAYOUT.relay]
    for socket in sorted((folder / "sockets").iterdir()):
        found += ["--ro-bind", str(socket), f"{LAYOUT.sockets}/{socket.name}"]
    etc = folder / "etc"
    etc.mkdir(exist_ok=True)
    for name, text in ETC.items():
        (etc / name).write_text(text, encoding="utf-8")
        found += ["--ro-bind", str(etc / name), f"/etc/{name}"]
    return found


def _masks(jail: Jail, wanted: list[str], empty: Path) -> list[str]:
    """An empty folder or file, in the place of what is hidden and lies in what is seen."""
    seen, _ = to_mount(wanted)
    found: list[str] = []
    for secret in jail.hidden:
        real = str(secret.resolve())
        if secret.exists() and (real in seen or beneath(real, seen)):
            found += ["--tmpfs", real] if secret.is_dir() else ["--ro-bind", str(empty), real]
    return found


def _folders(masks: list[str]) -> set[str]:
    return {path for kind, path in pairwise(masks) if kind == "--tmpfs"}
