"""Attacks on other processes: to survive, to signal, to change, to start, to multiply.

Signals are SIGURG, which everybody ignores who does not listen for it; the engine of a check listens.
"""

from __future__ import annotations

from metaharness.attacks.attack import CALLS, SMALL, Attack

STAY = """
def stay():
    # what a child does: it never comes back into the worker
    import signal
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(30)
    os._exit(0)
"""

_AFTER_FORK = """
def forked(fork):
    pid = fork()
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    return "process %d was started" % pid
"""

PROCESSES = (
    Attack(
        "daemon",
        "fork twice and lead a session of its own, to survive the worker",
        """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                stay()
            os._exit(0)
        time.sleep(0.3)
        return ""
        """,
        before=STAY,
    ),
    Attack(
        "program left behind",
        "start another program in a session of its own, and leave it",
        """
        import subprocess
        one = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(30)"], start_new_session=True)
        return "process %d was started" % one.pid
        """,
    ),
    Attack(
        "program",
        "start a shell and read what it prints",
        """
        import subprocess
        done = subprocess.run(["/bin/sh", "-c", "echo $((6*7))"], stdout=subprocess.PIPE, check=True)
        return done.stdout == b"42\\n" and "the shell counted to 42"
        """,
    ),
    Attack(
        "fork by other calls",
        "vfork, clone and clone3 by number",
        """
        class Arguments(ctypes.Structure):
            _fields_ = [(name, ctypes.c_uint64) for name in "abcdefgh"]
        def clone3():
            box = (Arguments * 1)()
            box[0].e = 17
            return call(435, 435, box, 64)
        return first([
            lambda: forked(clone3),
            lambda: forked(lambda: call(56, 220, 17, 0, 0, 0, 0)),
            lambda: forked(lambda: call(57, 220, 17, 0, 0, 0, 0)),
        ])
        """,
        before=CALLS + _AFTER_FORK,
    ),
    Attack(
        "fork as another machine",
        "the calls of 32-bit and x32 programs, whose numbers a filter may not know",
        """
        import mmap
        if ARM:
            raise OSError("this machine has no such calls")
        def old():
            page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
            page.write(b"\\x53\\xb8\\x02\\0\\0\\0\\xcd\\x80\\x5b\\xc3")
            place = ctypes.addressof(ctypes.c_char.from_buffer(page))
            done = ctypes.CFUNCTYPE(ctypes.c_int)(place)()
            if done < 0:
                raise OSError(-done, os.strerror(-done))
            return done
        return first([lambda: forked(lambda: call(0x40000000 | 57, 0)), lambda: forked(old)])
        """,
        before=CALLS + _AFTER_FORK,
    ),
    Attack(
        "survive the engine",
        "go on when the engine is killed: deaf to the end of the pipe and to signals",
        """
        import ctypes, signal
        libc = ctypes.CDLL(None)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            libc.signal(int(number), ctypes.c_void_p(1))
        libc.prctl(1, 0, 0, 0, 0)  # no signal when the parent ends
        model.complete("here")
        ctypes.PyDLL(None).sleep(30)
        return ""
        """,
        kills_engine=True,
        all_fail=True,
    ),
    Attack(
        "survive the engine as a child",
        "a process in a session of its own that goes on when the engine is killed",
        """
        if os.fork() == 0:
            os.setsid()
            stay()
        model.complete("here")
        time.sleep(30)
        return ""
        """,
        before=STAY,
        kills_engine=True,
        all_fail=True,
    ),
    Attack(
        "signal the engine",
        "kill() with the number of the engine, and with that of its parent",
        """
        import signal
        def send(pid):
            os.kill(pid, signal.SIGURG)
            time.sleep(0.2)
        return first(lambda pid=pid: send(pid) for pid in (S["engine"], os.getppid()) if pid > 0)
        """,
    ),
    Attack(
        "signal the group",
        "kill(0): whoever is in the process group of the worker",
        'import signal\nos.kill(0, signal.SIGURG)\ntime.sleep(0.2)\nreturn ""',
    ),
    Attack(
        "signal everybody",
        "kill(-1): whatever can be reached",
        'import signal\nos.kill(-1, signal.SIGURG)\ntime.sleep(0.2)\nreturn ""',
    ),
    Attack(
        "signal by other calls",
        "pidfd, tgkill, tkill and queued signals",
        """
        import signal
        pid, number = S["engine"], int(signal.SIGURG)
        info = (ctypes.c_int * 32)(number, 0, -1)
        return first([
            lambda: call(424, 424, call(434, 434, pid, 0), number, 0, 0),
            lambda: call(234, 131, pid, pid, number),
            lambda: call(200, 130, pid, number),
            lambda: call(129, 138, pid, number, info),
            lambda: call(297, 240, pid, pid, number, info),
        ]) or time.sleep(0.2) or ""
        """,
        before=CALLS,
    ),
    Attack(
        "limits of the engine",
        "change what another process may use with prlimit()",
        """
        import resource
        hard = resource.prlimit(S["engine"], resource.RLIMIT_CORE)[1]
        resource.prlimit(S["engine"], resource.RLIMIT_CORE, (4096 if hard != 0 else 0, hard))
        return "the limits of process %d are set" % S["engine"]
        """,
    ),
    Attack(
        "trace the engine",
        "attach to another process as a debugger does",
        """
        PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17
        done = call(101, 117, PTRACE_SEIZE, S["engine"], 0, 0)
        return "attached to process %d" % S["engine"]
        """,
        before=CALLS,
    ),
    Attack(
        "namespaces",
        "become root in a user namespace of its own",
        """
        call(272, 97, 0x10000000)
        return "there is a new user namespace"
        """,
        before=CALLS,
        place="import",
    ),
    Attack(
        "devices",
        "open memory, disks, the terminal and what makes virtual machines",
        """
        names = ("mem", "kmsg", "vda", "sda", "nvme0n1", "loop-control", "kvm", "fuse", "net/tun", "tty", "console")
        def look(name):
            os.close(os.open("/dev/" + name, os.O_RDONLY | os.O_NONBLOCK))
            return "/dev/%s was opened" % name
        return first(lambda name=name: look(name) for name in names)
        """,
    ),
    Attack(
        "other doors of the kernel",
        "page faults handled by itself, counters, file systems, secret memory",
        """
        attributes = ctypes.create_string_buffer(128)
        attributes[4] = 128
        name = ctypes.create_string_buffer(b"tmpfs")
        doors = {
            "userfaultfd": (323, 282, 1),
            "perf_event_open": (298, 241, attributes, 0, -1, -1, 0),
            "fsopen": (430, 430, name, 0),
            "memfd_secret": (447, 447, 0),
            "fanotify_init": (300, 262, 0, 0),
        }
        def look(door):
            os.close(call(*doors[door]))
            return door + " was opened"
        return first(lambda door=door: look(door) for door in doors)
        """,
        before=CALLS,
    ),
    Attack(
        "queues and keys of the kernel",
        "leave a message for the next worker where no file is",
        """
        def queue():
            one = libc.msgget(S["shared"], 0o1666)
            if one < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            libc.msgctl(one, 0, None)
            return "a message queue was made"
        def semaphore():
            one = libc.semget(S["shared"], 1, 0o1666)
            if one < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            libc.semctl(one, 0, 0)
            return "a semaphore was made"
        def key():
            kind, name = ctypes.create_string_buffer(b"user"), ctypes.create_string_buffer(S["nonce"].encode())
            made = call(248, 217, kind, name, name, len(S["nonce"]), -5)
            call(250, 219, 3, made, 0, 0, 0)
            return "a key was kept"
        found = []
        for way in (queue, semaphore, key):
            try:
                found.append(way())
            except OSError as error:
                problem = error
        if not found:
            raise problem
        return ", ".join(found)
        """,
        before=CALLS,
    ),
    Attack(
        "fork bomb",
        "300 processes",
        """
        for count in range(300):
            try:
                pid = os.fork()
            except OSError:
                if count == 0:
                    raise
                break
            if pid == 0:
                time.sleep(10)
                os._exit(0)
        time.sleep(0.5)
        return ""
        """,
    ),
    Attack(
        "processes that share the memory limit",
        "8 processes of 80 MB, each within the limit of one",
        """
        out, into = os.pipe()
        for _ in range(8):
            if os.fork() == 0:
                kept = bytearray(b"x") * (80 << 20)
                os.write(into, b"x")
                time.sleep(10)
                os._exit(0)
        ready = b""
        while len(ready) < 8:
            ready += os.read(out, 8)
        time.sleep(0.5)
        return ""
        """,
        limits=SMALL.model_copy(update={"case_seconds": 8.0}),
    ),
)
