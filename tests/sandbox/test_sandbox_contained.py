"""What a harness cannot do in either Linux sandbox, and what it still can. Each attack really runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sandbox_kit import inside, needs_bubblewrap, needs_landlock

from metaharness.records import Limits
from metaharness.sandbox.bubblewrap import BubblewrapSandbox
from metaharness.sandbox.landlock import LandlockSandbox
from metaharness.sandbox.process import ProcessSandbox
from metaharness.sandbox.protocol import Sandbox

Make = Callable[[], Sandbox]
CONTAINED = [
    pytest.param(BubblewrapSandbox, id="bubblewrap", marks=needs_bubblewrap),
    pytest.param(LandlockSandbox, id="landlock", marks=needs_landlock),
    pytest.param(lambda: LandlockSandbox(abi=1), id="landlock of the first ABI", marks=needs_landlock),
]
every = pytest.mark.parametrize("make", CONTAINED)

TRY = """
import ctypes, errno, os, resource, signal, socket, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)

def c(name, *arguments):
    result = getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result
"""
ATTACKS = {
    "an internet socket": "socket.socket()",
    "a unix socket": "socket.socket(socket.AF_UNIX)",
    "a packet to any path": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', told['packets'])",
    "a child": "os.fork()",
    "a child by posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "another program": "os.execv(sys.executable, ['python'])",
    "the labels": "open(told['secret']).read()",
    "the password file": "open('/etc/passwd').read()",
    "a file beside the labels": "open(told['folder'] + '/new', 'w') and os.stat(told['secret'])",
    "emptying a file that can be read": "os.open(told['library'], os.O_RDONLY | os.O_TRUNC)",
    "emptying a file by its path": "os.truncate(told['library'], 0)",
    "a file without a way to read it": "os.open(told['library'], 3)",
    "the mode of a file": "os.chmod(told['library'], 0o777)",
    "the owner of a file": "os.chown(told['library'], 1, 1)",
    "the times of a file": "os.utime(told['library'])",
    "an attribute of a file": "os.setxattr(told['library'], 'user.x', b'x')",
    "its own code": "__import__('fcntl').ioctl(os.open(told['library'], os.O_RDONLY), 0x40086602, b'12345678')",
    "a signal to the parent": "os.kill(os.getppid(), 0)",
    "a signal to its group": "os.kill(0, 0)",
    "a signal to everyone": "os.kill(-1, 0)",
    "a signal to a thread of another": "c('syscall', 234, os.getppid(), os.getppid(), 0)",
    "a signal by way of a descriptor": "__import__('fcntl').fcntl(socket.socketpair()[0], 8, os.getppid())",
    "a limit of the parent": "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)",
    "a higher limit of its own": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "the priority of others": "os.setpriority(os.PRIO_USER, 0, 1)",
    "surviving the parent": "c('prctl', 1, 0, 0, 0, 0)",
    "being read by others again": "c('prctl', 4, 1, 0, 0, 0)",
    "a namespace": "c('unshare', 0x10000000)",
    "a mount": "c('mount', b'none', b'/tmp', b'tmpfs', 0, None)",
    "tracing": "c('ptrace', 0, 0, 0, 0)",
    "memory that no limit counts": "os.memfd_create('x')",
    "shared memory": "c('shmget', 0, 4096, 0o1600)",
    "a message queue": "c('msgget', 0, 0o1600)",
    "a ring of calls": "c('syscall', 425, 1, None)",
    "a page fault handler": "c('syscall', 323, 0)",
    "a program for the kernel": "c('syscall', 321, 0, None, 0)",
    "another user": "os.setuid(65533)",
    "watching a folder": "c('inotify_add_watch', c('inotify_init1', 0), b'/usr/lib', 0x100)",
    "the memory of the parent": "open('/proc/%d/mem' % (os.getppid() if os.getppid() > 1 else 1), 'rb').read(1)",
}
LOOP = """
told = text
worked = []
for name, attack in told["attacks"].items():
    try:
        eval(attack, globals(), {"told": told})
    except (OSError, ValueError):
        continue
    worked.append(name)
return worked
"""


@every
async def test_nothing_that_a_harness_must_not_do_works(make: Make, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the labels")
    library = environment(tmp_path / "env")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as packets:
        packets.bind(str(tmp_path / "packets"))
        told = {
            "secret": str(tmp_path / "secret"),
            "folder": str(tmp_path),
            "packets": str(tmp_path / "packets"),
            "library": str(library),
            "attacks": ATTACKS,
        }
        before = library.stat()
        python = str(tmp_path / "env" / "bin" / "python")
        trace = await inside(make(), tmp_path, LOOP, before=TRY, told=told, python=python)
        assert trace.output == [], trace.error
    after = library.stat()
    assert (after.st_size, after.st_mode, after.st_mtime_ns) == (before.st_size, before.st_mode, before.st_mtime_ns)


def environment(folder: Path) -> Path:
    """A virtual environment; returns a module in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    (site / "installed.py").write_text("WORD = 'installed'")
    return site / "installed.py"


async def test_an_attack_that_works_is_seen(tmp_path: Path) -> None:
    """The same loop in a plain process: what is harmless there does work, so a silent one above means denied."""
    names: tuple[str, ...] = (
        "an internet socket",
        "a unix socket",
        "the labels",
        "the password file",
        "a file beside the labels",
    )
    names += ("a signal to the parent", "a limit of the parent", "surviving the parent", "memory that no limit counts")
    (tmp_path / "secret").write_text("the labels")
    told = {
        "secret": str(tmp_path / "secret"),
        "folder": str(tmp_path),
        "attacks": {one: ATTACKS[one] for one in names},
    }
    trace = await inside(ProcessSandbox(), tmp_path, LOOP, before=TRY, told=told)
    assert trace.output == list(names), trace.error


ORDINARY = """
import asyncio, concurrent.futures, os, random, signal, socket, sqlite3, tempfile, threading, time
left, right = socket.socketpair()
left.send(b"through a pair")
async def sleep():
    reader, writer = await asyncio.open_connection(sock=right)
    return (await reader.read(14)).decode()
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    squares = sum(pool.map(lambda x: x * x, range(10)))
signal.signal(signal.SIGUSR1, signal.SIG_IGN) if threading.current_thread() is threading.main_thread() else None
database = sqlite3.connect(":memory:")
with open(os.devnull, "w") as null:
    null.write("x")
os.kill(os.getpid(), 0)
found = database.execute("select 1").fetchone()[0]
return [asyncio.run(sleep()), squares, found, len(os.urandom(4)), model.complete("x").text, time.monotonic() > 0]
"""


@every
async def test_threads_asyncio_pairs_of_sockets_and_the_model_work(make: Make, tmp_path: Path) -> None:
    trace = await inside(make(), tmp_path, ORDINARY)
    assert trace.output == ["through a pair", 100 + 185, 1, 4, "yes", True], trace.error


@every
async def test_a_folder_finds_its_modules_and_its_data(make: Make, tmp_path: Path) -> None:
    files = {"beside.py": "WORD = 'a module'", "data/words.txt": "ä word"}
    body = "return [WORD, (Path(__file__).parent / 'data' / 'words.txt').read_text(encoding='utf-8')]"
    before = "from pathlib import Path\nfrom beside import WORD"
    trace = await inside(make(), tmp_path, body, before=before, files=files)
    assert trace.output == ["a module", "ä word"], trace.error


@every
async def test_a_link_out_of_the_folder_leads_nowhere(make: Make, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the labels")
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / "link").symlink_to(tmp_path / "secret")
    trace = await inside(make(), tmp_path, "return open(__file__[:-10] + '/link').read()", files={"beside.py": ""})
    assert trace.status == "harness_error"
    assert "Error" in (trace.error or "")


@every
async def test_of_a_single_file_nothing_beside_it_is_there(make: Make, tmp_path: Path) -> None:
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / "labels.txt").write_text("the labels")
    trace = await inside(make(), tmp_path, "return open(__file__[:-10] + '/labels.txt').read()")
    assert trace.status == "harness_error"


@every
async def test_a_traceback_names_files_by_their_place_in_the_folder(make: Make, tmp_path: Path) -> None:
    trace = await inside(make(), tmp_path, "return 1 / 0")
    assert (trace.error or "").splitlines()[1].startswith('  File "harness.py", line 4, in predict')


@every
async def test_the_environment_and_that_of_any_process_hold_nothing_of_ours(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a key that nobody may see")
    body = """
import glob, os
found = [repr(dict(os.environ))]
for path in glob.glob('/proc/*/environ') + ['/proc/%d/environ' % n for n in range(1, 50)] + ['/proc/%d/environ' % text]:
    try:
        found.append(open(path).read())
    except OSError:
        pass
return found
"""
    trace = await inside(make(), tmp_path, body, told=os.getpid())
    assert trace.status == "ok", trace.error
    assert "nobody may see" not in str(trace.output)


@every
async def test_a_worker_has_no_descriptor_but_its_pipe_and_what_it_prints_to(make: Make, tmp_path: Path) -> None:
    """Neither can be opened anew by its path, as a regular file could."""
    body = """
import os, stat
found = []
for number in range(100):
    try:
        found.append([number, stat.S_ISSOCK(os.fstat(number).st_mode)])
        if number:
            os.open('/proc/self/fd/%d' % number, os.O_RDWR)
            found.append('opened')
    except OSError:
        pass
return found
"""
    trace = await inside(make(), tmp_path, body)
    assert trace.output[:3] == [[0, False], [1, True], [2, True]], trace.error
    assert [sock for _, sock in trace.output[3:]] == [True]


@every
async def test_memory_is_bounded(make: Make, tmp_path: Path) -> None:
    body = "try:\n    return len(bytearray(8 << 30))\nexcept MemoryError:\n    return 'bounded'"
    assert (await inside(make(), tmp_path, body, limits=Limits(memory_mb=512))).output == "bounded"


@every
async def test_a_loop_ends_at_its_limit_of_processor_time(make: Make, tmp_path: Path) -> None:
    trace = await inside(make(), tmp_path, "while True: pass", limits=Limits(cpu_seconds=1, case_seconds=50))
    assert "SIGXCPU" in (trace.error or "") or "SIGKILL" in (trace.error or ""), trace


@every
async def test_a_case_ends_at_its_limit_of_time(make: Make, tmp_path: Path) -> None:
    trace = await inside(make(), tmp_path, "import time\ntime.sleep(600)", limits=Limits(case_seconds=0.3))
    assert trace.status == "timeout", trace


@every
async def test_a_crash_is_that_of_its_worker_alone(make: Make, tmp_path: Path) -> None:
    trace = await inside(make(), tmp_path, "import ctypes\nreturn ctypes.string_at(0)")
    assert "SIGSEGV" in (trace.error or "")


@every
async def test_an_abort_is_told_as_one(make: Make, tmp_path: Path) -> None:
    trace = await inside(make(), tmp_path, "import os\nos.abort()")
    assert "SIGABRT" in (trace.error or "")


@every
async def test_descriptors_are_bounded(make: Make, tmp_path: Path) -> None:
    body = "import os\ntry:\n    while True: last = os.dup(0)\nexcept OSError:\n    return last"
    trace = await inside(make(), tmp_path, body, limits=Limits(open_files=64))
    assert trace.output == 63


@every
async def test_a_virtual_environment_is_there_and_what_lies_beside_it_is_not(make: Make, tmp_path: Path) -> None:
    environment(tmp_path / "env")
    (tmp_path / "labels.txt").write_text("the labels")
    body = "import installed, os, sys\ntry:\n    return open(text).read()\nexcept OSError:\n    return installed.WORD"
    python = str(tmp_path / "env" / "bin" / "python")
    trace = await inside(make(), tmp_path, body, told=str(tmp_path / "labels.txt"), python=python)
    assert trace.output == "installed", trace.error


LEFT = """
import sys
from pathlib import Path
import anyio
sys.path.insert(0, sys.argv[1])
from sandbox_kit import inside
from metaharness.sandbox import open_sandbox

body = '''
import os, threading, time
try:
    __import__("ctypes").CDLL(None).prctl(1, 0, 0, 0, 0)
except OSError:
    pass
threading.Thread(target=time.sleep, args=(600,)).start()
os.write(2, b"here")
time.sleep(600)
'''
anyio.run(inside, open_sandbox(sys.argv[2]), Path(sys.argv[3]), body)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    "name",
    [pytest.param("bubblewrap", marks=needs_bubblewrap), pytest.param("landlock", marks=needs_landlock)],
)
def test_no_worker_survives_a_parent_that_was_killed(name: str, tmp_path: Path) -> None:
    script = tmp_path / "left.py"
    script.write_text(LEFT)
    command = [sys.executable, str(script), str(Path(__file__).parent), name, str(tmp_path)]
    with subprocess.Popen(command) as parent:
        while not (pids := sleeping(parent.pid)):
            assert parent.poll() is None
        parent.kill()
        parent.wait()
        for pid in pids:
            while alive(pid):
                pass


def sleeping(parent: int) -> list[int]:
    """The processes under it, once the one with the harness has started a second thread."""
    found = [parent]
    for pid in found:
        try:
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except OSError:
            continue
    return found[1:] if any(threads(pid) > 2 for pid in found[1:]) else []


def threads(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return 0


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
