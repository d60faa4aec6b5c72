"""Attacks that fill: memory, in each way that it can be had, and the disk. None takes more than 400 MB."""

from __future__ import annotations

from metaharness.attacks.attack import SMALL, Attack

_LESS = SMALL.model_copy(update={"memory_mb": 160})

FILLING = (
    Attack(
        "memory bomb",
        "400 MB of objects where 160 MB are allowed",
        """
        kept = []
        for _ in range(25):
            kept.append(bytearray(b"x") * (16 << 20))
        time.sleep(0.3)
        return "%d MB" % (16 * len(kept))
        """,
        limits=_LESS,
    ),
    Attack(
        "memory without a limit",
        "raise its own limit, then 400 MB",
        """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        kept = [bytearray(b"x") * (16 << 20) for _ in range(25)]
        time.sleep(0.3)
        return "%d MB" % (16 * len(kept))
        """,
        limits=_LESS,
    ),
    Attack(
        "memfd bomb",
        "400 MB in files that lie in memory alone",
        """
        fds, block = [], b"x" * (1 << 20)
        for _ in range(8):
            fds.append(os.memfd_create(S["nonce"]))
            for _ in range(50):
                os.write(fds[-1], block)
        time.sleep(0.2)
        return "400 MB in %d files" % len(fds)
        """,
        limits=_LESS,
    ),
    Attack(
        "shared memory bomb",
        "400 MB of System V memory that is attached nowhere, and outlives its maker",
        """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        libc.shmat.restype = ctypes.c_void_p
        libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
        libc.shmdt.argtypes = [ctypes.c_void_p]
        libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
        for count in range(8):
            one = libc.shmget(S["shared"] + count, 50 << 20, 0o1666)
            if one < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            place = libc.shmat(one, None, 0)
            if place in (None, ctypes.c_void_p(-1).value):
                raise OSError(ctypes.get_errno(), "shmat")
            ctypes.memset(place, 120, 50 << 20)
            libc.shmdt(place)
            libc.shmctl(one, 0, None) if count else None
        return "400 MB"
        """,
        limits=_LESS,
    ),
    Attack(
        "pipe bomb",
        "400 pipes of 1 MB each: memory of the kernel",
        """
        import fcntl
        filled, kept, block = 0, [], b"x" * (1 << 20)
        try:
            for _ in range(400):
                ends = os.pipe()
                kept.append(ends)
                os.set_blocking(ends[1], False)
                fcntl.fcntl(ends[1], 1031, 1 << 20)
                filled += os.write(ends[1], block)
        finally:
            for ends in kept:
                os.close(ends[0])
                os.close(ends[1])
        return filled > 300 << 20 and "%d MB" % (filled >> 20)
        """,
    ),
    Attack(
        "socket bomb",
        "2,000 pairs of sockets, each filled in both directions: memory of the kernel",
        """
        import socket
        filled, kept, block = 0, [], b"x" * (1 << 16)
        try:
            while len(kept) < 4000:
                kept += socket.socketpair()
                for one in kept[-2:]:
                    one.setblocking(False)
                    try:
                        while True:
                            filled += one.send(block)
                    except BlockingIOError:
                        pass
        except OSError as error:
            problem = error
        finally:
            for one in kept:
                one.close()
        if filled > 300 << 20:
            return "%d MB" % (filled >> 20)
        raise OSError("%d MB fitted: %s" % (filled >> 20, problem))
        """,
        limits=SMALL.model_copy(update={"case_seconds": 8.0}),
    ),
    Attack(
        "tmpfs bomb",
        "400 MB in folders that lie in memory",
        """
        written, block = 0, b"x" * (1 << 20)
        for folder in ("/dev/shm", "/tmp", "/run"):
            path = os.path.join(folder, S["nonce"] + ".bomb")
            try:
                with open(path, "wb", 0) as file:
                    for _ in range(134):
                        written += file.write(block)
            except OSError as error:
                problem = error
        if written < 300 << 20:
            raise OSError("%d MB fitted: %s" % (written >> 20, problem))
        return "%d MB" % (written >> 20)
        """,
    ),
    Attack(
        "disk bomb",
        "200 files of 1 MB wherever it can write",
        """
        folders = [S["outside"], os.path.dirname(__file__), os.getcwd(), "/var/tmp", "/tmp"]
        count, block, problem = 0, b"x" * (1 << 20), None
        for folder in folders:
            try:
                for _ in range(40):
                    with open(os.path.join(folder, "%s.%d" % (S["nonce"], count)), "wb") as file:
                        file.write(block)
                    count += 1
            except OSError as error:
                problem = error
        if count < 150:
            raise OSError("%d files fitted: %s" % (count, problem))
        return "%d files" % count
        """,
    ),
    Attack(
        "many files",
        "100,000 names in its own temporary folder: each takes memory of the kernel",
        """
        import tempfile
        folder, count = tempfile.gettempdir(), 0
        try:
            made = os.path.join(folder, S["nonce"])
            os.mkdir(made)
            until = time.monotonic() + 1.5
            while count < 100000 and time.monotonic() < until:
                os.close(os.open("%s/%d" % (made, count), os.O_CREAT | os.O_WRONLY))
                count += 1
        finally:
            if not count:
                raise OSError("no file could be made in " + folder)
        return count > 50000 and "%d files" % count
        """,
    ),
    Attack(
        "write outside",
        "leave a file in the data, the home folder, the folder of programs, the root",
        """
        places = [S["outside"], os.path.dirname(S["labels"]), os.path.dirname(S["key_file"])]
        places += ["/", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", sys.prefix, os.getcwd()]
        for place in places:
            try:
                with open(os.path.join(place, S["nonce"] + ".txt"), "w") as file:
                    file.write(S["nonce"])
            except OSError as error:
                problem = error
        raise problem
        """,
    ),
    Attack(
        "change the data",
        "append to the labels and to the driver",
        """
        def change(path):
            with open(path, "a") as file:
                file.write("\\n# " + S["nonce"])
            return path + " was changed"
        return first(lambda path=path: change(path) for path in (S["driver"], S["labels"], S["key_file"]))
        """,
    ),
    Attack(
        "change the harness",
        "rewrite its own folder, so that the next worker runs something else",
        """
        here = os.path.dirname(__file__)
        def change(name):
            with open(os.path.join(here, name), "a") as file:
                file.write("\\n# " + S["nonce"])
            return "it can be written"
        first(lambda name=name: change(name) for name in ("harness.py", "note.txt", "data.txt"))
        return ""  # where the folder is a copy of its own, it is nothing to the next worker
        """,
        files={"data.txt": "data"},
    ),
    Attack(
        "modes",
        "make its own file one that runs as its owner, and one that everybody may write",
        """
        os.chmod(__file__, 0o4777)
        return "the mode was changed"
        """,
    ),
)
