"""Attacks of a harness that may start processes: on their bounds, on what outlives it, on what programs could do."""

from __future__ import annotations

from metaharness.attacks.attack import SMALL, Attack
from metaharness.attacks.processes import STAY

FEW = SMALL.model_copy(update={"processes": 16, "case_seconds": 4.0})

SEVERAL = (
    Attack(
        "fork bomb that forks on",
        "every process starts others as fast as it can, 400 in all",
        """
        left, into = os.pipe()  # a byte for each that may be started: where nothing stops them, this does
        os.write(into, b"x" * 400)
        os.set_blocking(left, False)
        until = time.monotonic() + 2
        if os.fork() == 0:
            while time.monotonic() < until:
                try:
                    os.read(left, 1)
                    os.fork()
                except OSError:
                    time.sleep(0.01)
            os._exit(0)
        time.sleep(2.5)
        return ""
        """,
        limits=FEW,
    ),
    Attack(
        "fork bomb of sessions",
        "300 processes, each the leader of a session of its own and nobody's child",
        """
        for _ in range(300):
            try:
                child = os.fork()
            except OSError:
                continue
            if child == 0:
                os.setsid()
                try:
                    if os.fork() == 0:
                        stay()
                except OSError:
                    pass
                os._exit(0)
            os.waitpid(child, 0)
        time.sleep(0.5)
        return ""
        """,
        before=STAY,
        limits=FEW,
    ),
    Attack(
        "more processes than its limit",
        "raise the limit on processes in a child, and start 100",
        """
        import resource
        for limit in ((-1, -1), (1000, 1000)):
            try:
                resource.setrlimit(resource.RLIMIT_NPROC, limit)
            except (OSError, ValueError) as error:
                problem = error
            else:
                return "the limit was raised to %d" % limit[1]
        for _ in range(100):
            if os.fork() == 0:
                time.sleep(3)
                os._exit(0)
        """,
        limits=FEW,
    ),
    Attack(
        "memory of programs",
        "10 other programs that take 60 MB each, in sessions of their own",
        """
        import subprocess
        code = "import time; kept = bytearray(b'x') * (60 << 20); time.sleep(10)"
        for _ in range(10):
            subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
        time.sleep(6)
        return ""
        """,
        limits=SMALL.model_copy(update={"processes": 64, "case_seconds": 8.0}),
    ),
    Attack(
        "memory that is in no process",
        "6 children fill 96 MB of shared memory each, and let go of it: it stays, and is resident in none of them",
        """
        import mmap
        left, into = os.pipe()
        for _ in range(6):
            if os.fork() == 0:
                try:
                    kept = [mmap.mmap(-1, 8 << 20) for _ in range(12)]
                    for one in kept:
                        one.write(b"x" * len(one))
                        one.madvise(mmap.MADV_DONTNEED)
                    os.write(into, b"x" * sum(one[:1] == b"x" for one in kept))
                    time.sleep(6)
                finally:
                    os._exit(0)
        os.close(into)
        mega = 0
        while mega <= 256:
            found = os.read(left, 100)
            if not found:
                return ""
            mega += 8 * len(found)
        return "%d MB stay" % mega
        """,
        limits=FEW.model_copy(update={"case_seconds": 8.0}),
    ),
    Attack(
        "program in a session of its own",
        "start a program that goes on when its worker ends",
        """
        import subprocess
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(30)"], start_new_session=True)
        return ""
        """,
        limits=FEW,
    ),
    Attack(
        "program that survives the engine",
        "a program deaf to signals, in a session of its own, when the engine is killed",
        """
        import subprocess
        subprocess.Popen(["/bin/sh", "-c", "trap '' TERM HUP INT; sleep 30"], start_new_session=True)
        model.complete("here")
        time.sleep(30)
        return ""
        """,
        limits=FEW,
        kills_engine=True,
        all_fail=True,
    ),
    Attack(
        "process that holds the pipe",
        "end the worker, and leave a child that holds its pipe and its output open",
        """
        if os.fork() == 0:
            stay()
        os._exit(3)
        """,
        before=STAY,
        limits=FEW,
        most_seconds=12.0,
    ),
    Attack(
        "kill the group",
        "SIGKILL to whoever is in its process group, and from a child a signal to all that can be reached",
        """
        import signal
        if os.fork() == 0:
            os.kill(-1, signal.SIGURG)
            os._exit(0)
        time.sleep(0.2)
        os.kill(0, signal.SIGKILL)
        return ""
        """,
        limits=FEW,
    ),
    Attack(
        "programs that make namespaces and users",
        "unshare, su, mount, bwrap: to be root, or to see other files",
        """
        import shutil, subprocess
        tried = (
            ["unshare", "-Ur", "true"],
            ["bwrap", "--unshare-user", "--dev-bind", "/", "/", "true"],
            ["su", "-c", "true"],
            ["mount", "-t", "tmpfs", "none", "/usr"],
            ["setpriv", "--reuid=0", "true"],
        )
        for command in tried:
            path = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin:/sbin")
            done = path and subprocess.run(
                [path, *command[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if done and done.returncode == 0:
                return " ".join(command)
        return ""
        """,
        limits=FEW,
    ),
    Attack(
        "a program of its own that runs as its owner",
        "write a program, make it set-uid, run it",
        """
        import shutil, subprocess
        path = os.path.join(os.path.dirname(__file__), "own")
        shutil.copyfile("/bin/sh", path)
        os.chmod(path, 0o755)
        subprocess.run([path, "-c", "true"], check=True)
        os.chmod(path, 0o4755)
        return "the mode was set"
        """,
        limits=FEW,
    ),
    Attack(
        "connections of programs",
        "a program that connects",
        """
        import subprocess
        code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 1)"
        done = subprocess.run([sys.executable, "-S", "-c", code, str(S["tcp"])], stderr=subprocess.DEVNULL)
        return done.returncode == 0 and "it connected"
        """,
        limits=FEW,
    ),
    Attack(
        "labels by a program",
        "read the labels with a program, and what other processes are",
        """
        import subprocess
        commands = (["cat", S["labels"]], ["cat", S["key_file"]], ["sh", "-c", "cat /proc/[0-9]*/environ"])
        found = []
        for command in commands:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            found += secrets(done.stdout)
        return ", ".join(found)
        """,
        limits=FEW,
    ),
)
"""What is tried besides where a domain has `subprocess = True`."""

ONLY_START_ONE = ("program", "program left behind", "fork by other calls")
"""Attacks whose whole deed is that a process was started."""

WORKS = Attack(
    "programs of the system",
    "run a shell, sort and env, pass data through pipes, end a program that takes too long",
    """
    import subprocess
    done = subprocess.run("echo 'b\\na' | sort | tr a-z A-Z", shell=True, stdout=subprocess.PIPE, check=True, text=True)
    assert done.stdout == "A\\nB\\n", done
    try:
        subprocess.run(["sleep", "30"], timeout=0.2)
    except subprocess.TimeoutExpired:
        pass
    import asyncio
    async def ask():
        one = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        return (await one.communicate(b"echo"))[0]
    assert asyncio.run(ask()) == b"echo"
    return "they work"
    """,
    place="answer",
    limits=SMALL.model_copy(update={"processes": 32, "case_seconds": 10.0}),
)
"""Nothing wrong: a sandbox that breaks it is of no use to such a domain."""
