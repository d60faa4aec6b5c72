"""What closes a worker in, run inside it before its candidate loads: files, limits, Landlock, the filter.

One file, standard library only, Python 3.9 and later; sent over the pipe as worker.py is. What is put on here holds
for every thread that comes after it and cannot be taken off; a mistake raises, and then no candidate is loaded. It also
says of a failure which module was missing and which connection was attempted, as the interpreter's audit tells it.

What it does not guard: what it is not told to. A plain process is told limits alone. Landlock knows no metadata:
that a path exists, and its size and times, can be found out with `stat`. The audit denies nothing, and sees no socket
that is made without Python's own. And what comes before it: a domain's own interpreter may run code when it starts
(`.pth` files, sitecustomize, so also packages that its requirements name); that is the domain's, and not closed in.
"""

from __future__ import annotations

import binascii
import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SET_DEATH_SIGNAL, SET_DUMPABLE, SET_SECCOMP, SET_NO_NEW_PRIVILEGES = 1, 4, 22, 38
SECCOMP_FILTER = 2
KILL = 9
"""The signal, without the module `signal`, which is slow to import."""
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
CAPABILITY_VERSION = 0x20080522
REMOUNT, NO_SETUID, NO_DEVICES = 32, 2, 4
MAKE_ANYTHING = sum(1 << right for right in range(6, 13))
"""The rights to make files, folders, links, pipes, sockets and devices."""
WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
FILE_RIGHTS = ((1, (1 << 13) - 1), (2, 1 << 13), (3, TRUNCATE), (5, 1 << 15))
"""The rights over files that each Landlock ABI has brought. A right that is handled and in no rule is denied."""
NO_TCP, NO_SIGNALS_NOR_ABSTRACT_SOCKETS = 3, 3
"""Of ABI 4 and of ABI 6."""
ADDRESSED = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0}
"""What the audit tells of a connection, and at which place of its arguments the address or host is."""
MOST_CAUSES = 100


class Guard:
    """One worker's. What takes time is done when it is made, while the worker still waits for its candidate."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.filter: Any = settings.get("filter")
        self.landlock: Any = settings.get("landlock")
        self.scratch: Any = settings.get("scratch")
        self.user: Any = settings.get("user")
        self.libc: Any = None
        self.ruleset = -1
        self.problem: OSError | None = None
        self.attempts = Attempts()
        sys.addaudithook(self.attempts.notice)
        for descriptor in settings.get("close", ()):
            os.close(descriptor)
        os.nice(settings.get("nice", 0))
        try:
            self.prepare(settings.get("parent"))
        except OSError as error:
            self.problem = error

    def prepare(self, parent: int | None) -> None:
        if self.filter is None and self.landlock is None:
            return
        import ctypes

        self.libc = ctypes.CDLL(None, use_errno=True)
        if parent is not None:
            self.ask("prctl", SET_DEATH_SIGNAL, KILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(0)  # it ended before it could be asked for
        if self.landlock is not None:
            self.make_ruleset()

    def close_in(self, frame: dict[str, Any]) -> str:
        """Put everything on. Returns the folder of the candidate."""
        if self.problem is not None:
            raise self.problem
        folder: str = frame["folder"]
        unbounded = self.scratch is not None and not self.bound_names()
        if self.user is not None:
            os.setresgid(self.user, self.user, self.user)
            os.setresuid(self.user, self.user, self.user)
            self.can_import()
        for name, content in frame.get("files", {}).items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(binascii.a2b_base64(content))
        self.limit(frame["limits"])
        if self.libc is not None:
            self.ask("prctl", SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
            self.ask("prctl", SET_DUMPABLE, 0, 0, 0, 0)
        if self.landlock is not None:
            self.allow(folder if frame["importable"] else os.path.join(folder, frame["entry"]), READ_FILE | READ_DIR)
            self.restrict()
        if unbounded:
            self.make_no_names()
        if self.filter is not None:
            self.drop_capabilities()
            self.put_filter_on()
        return folder

    def facts(self, error: BaseException) -> dict[str, str | None]:
        """What a report says beside the failure itself; None for what is not known."""
        causes = causes_of(error)
        missing = [one.name for one in causes if isinstance(one, ModuleNotFoundError)]
        failed_outside = any(isinstance(one, OSError) for one in causes)
        return {"missing": missing[0] if missing else None, "connection": self.attempts.last(failed_outside)}

    def limit(self, limits: dict[str, int]) -> None:
        """Hard limits; never above what stands already."""
        import resource

        names = {"cpu": "CPU", "processes": "NPROC", "file_size": "FSIZE", "open_files": "NOFILE", "core": "CORE"}
        if sys.platform != "darwin":  # which refuses this one
            names["memory"] = "AS"
        for name in names.keys() & limits.keys():
            kind = getattr(resource, "RLIMIT_" + names[name])
            most = resource.getrlimit(kind)[1]
            hard = limits[name] if most == resource.RLIM_INFINITY else min(limits[name], most)
            # at the soft limit of CPU time the signal says so, a second later comes the end
            soft = max(1, hard - 1) if name == "cpu" else hard
            resource.setrlimit(kind, (soft, hard))

    # -- files of its own ---------------------------------------------------------------------------------------

    def bound_names(self) -> bool:
        """Give the tmpfs a bound on names, which bubblewrap has no option for; false where the kernel refuses it.

        The capability that this takes holds for the worker's own mounts alone, and it is dropped below.
        """
        flags, names = REMOUNT | NO_SETUID | NO_DEVICES, "size=%d,nr_inodes=%d" % tuple(self.scratch["most"])
        try:
            self.ask("mount", None, os.fsencode(self.scratch["path"]), None, flags, names.encode())
        except OSError:
            return False
        return True

    def make_no_names(self) -> None:
        """Where names have no bound none can be made any more; what is there can still be written."""
        import ctypes

        attributes = (ctypes.c_uint64 * 1)(MAKE_ANYTHING)
        self.ruleset = self.ask("syscall", CREATE_RULESET, attributes, ctypes.c_size_t(8), 0)
        self.restrict()

    def can_import(self) -> None:
        """A user that is not root may not be able to read what root has installed: that is said here, and clearly."""
        try:
            open(os.__file__, "rb").close()
        except PermissionError:
            raise PermissionError(
                "the interpreter's libraries (%s) can be read by root alone, and no candidate runs as root: "
                "make them readable with chmod -R o+rX" % os.path.dirname(os.__file__)
            ) from None

    # -- Landlock -----------------------------------------------------------------------------------------------

    def make_ruleset(self) -> None:
        import ctypes

        abi = self.ask("syscall", CREATE_RULESET, None, ctypes.c_size_t(0), 1)
        abi = min(abi, self.landlock["abi"])
        self.files = sum(rights for since, rights in FILE_RIGHTS if abi >= since)
        fields = [self.files, NO_TCP if abi >= 4 else 0, NO_SIGNALS_NOR_ABSTRACT_SOCKETS if abi >= 6 else 0]
        size = 8 if abi < 4 else 16 if abi < 6 else 24
        attributes = (ctypes.c_uint64 * 3)(*fields)
        self.ruleset = self.ask("syscall", CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
        for path in self.landlock["read"]:
            self.allow(path, READ_FILE | READ_DIR)
        for path in self.landlock["write"]:
            self.allow(path, READ_FILE | WRITE_FILE | TRUNCATE)

    def restrict(self) -> None:
        self.ask("syscall", RESTRICT_SELF, self.ruleset, 0)
        os.close(self.ruleset)

    def allow(self, path: str, rights: int) -> None:
        """A rule for a file, or for all beneath a folder."""
        import ctypes
        import struct

        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not os.path.isdir(path):
                rights &= ~READ_DIR
            rule = ctypes.create_string_buffer(struct.pack("=Qi", rights & self.files, descriptor), 12)
            self.ask("syscall", ADD_RULE, self.ruleset, 1, rule, 0)
        finally:
            os.close(descriptor)

    # -- capabilities and system calls --------------------------------------------------------------------------

    def drop_capabilities(self) -> None:
        """Root without them cannot raise a limit again, nor send a signal to whom it wants."""
        import ctypes

        self.ask("capset", (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())

    def put_filter_on(self) -> None:
        import ctypes
        import struct

        pid = struct.pack("<I", self.filter["pid"])
        code = bytes.fromhex(self.filter["code"]).replace(pid, struct.pack("<I", os.getpid()))
        buffer = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
        self.ask("prctl", SET_SECCOMP, SECCOMP_FILTER, ctypes.create_string_buffer(program, len(program)), 0, 0)

    def ask(self, function: str, *arguments: Any) -> int:
        """A call of the C library; its failure raises. Numbers are passed as whole registers."""
        import ctypes

        whole = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
        result: int = getattr(self.libc, function)(*whole)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, "%s(%s): %s" % (function, arguments[0], os.strerror(number)))
        return result


class Attempts:
    """Connections that were attempted, told by the interpreter when they are, whether or not anything came of them."""

    def __init__(self) -> None:
        self.local = threading.local()
        self.latest: str | None = None

    def notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook: it runs in the thread that attempts, before anything is denied."""
        if event[:7] != "socket.":
            return
        where = self.where(event, arguments)
        if where is not None and where != getattr(self.local, "latest", None):
            self.local.latest = self.latest = where
            # seen in the trace also where the harness hides what came of it
            sys.stderr.write("(an attempt to connect to " + where + ")\n")

    def where(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        if event == "socket.__new__":
            # also for a pair of Unix sockets, as asyncio makes one for itself: those lead nowhere
            import _socket

            known = getattr(self.local, "latest", None)
            return known or "the internet" if arguments[1] in (_socket.AF_INET, _socket.AF_INET6) else None
        if event not in ADDRESSED:
            return None
        address = arguments[ADDRESSED[event] :]
        host, port = address[0], address[1] if event == "socket.getaddrinfo" else None
        if isinstance(host, tuple):
            host, port = host[:2]
        name = host.decode("utf-8", "replace") if isinstance(host, bytes) else str(host)
        return name if port in (None, 0, "") else name + ":" + str(port)

    def last(self, anywhere: bool) -> str | None:
        """That of this thread, else None; `anywhere` takes the latest of another, such as one that looked a name up.

        With several cases open at the same time that may be another case's, of the same harness.
        """
        here: str | None = getattr(self.local, "latest", None)
        return here or (self.latest if anywhere else None)


def causes_of(error: BaseException) -> list[BaseException]:
    """The exception and all that led to it, the outermost first."""
    found: list[BaseException] = []
    left: list[Any] = [error]
    while left and len(found) < MOST_CAUSES:
        one = left.pop(0)
        if isinstance(one, BaseException) and not any(one is other for other in found):
            found.append(one)
            left += [one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ())]
    return found
