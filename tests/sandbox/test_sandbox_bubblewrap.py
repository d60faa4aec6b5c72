"""Bubblewrap: what is its own. What it has in common with Landlock stands in test_sandbox_contained.py."""

from __future__ import annotations

from pathlib import Path

import anyio
from sandbox_kit import inside, needs_bubblewrap

from metaharness.records import Limits
from metaharness.sandbox.bubblewrap import TMPFS_BYTES, TMPFS_NAMES, BubblewrapSandbox

pytestmark = needs_bubblewrap


async def test_of_the_machine_the_interpreter_is_there_and_little_else(tmp_path: Path) -> None:
    body = """
import os
found = {name: sorted(os.listdir('/' + name)) for name in os.listdir('/')}
hidden = [path for path in ['/home', '/root/.ssh', '/var', '/run', '/etc/passwd', '/bin', '/usr/bin/env', text]
          if os.path.exists(path)]
return [found['tmp'], found['dev'], hidden]
"""
    trace = await inside(BubblewrapSandbox(), tmp_path, body, told=str(tmp_path))
    tmp, devices, hidden = trace.output
    assert "candidate" in tmp
    assert devices == ["null", "random", "urandom", "zero"]
    assert hidden == []


async def test_only_the_small_tmpfs_can_be_written_and_it_is_bounded(tmp_path: Path) -> None:
    body = """
import os
places = []
for path in ['/x', '/dev/x', '/dev/shm/x', '/usr/lib/x', os.path.dirname(os.__file__) + '/x', '/proc/sys/kernel/x']:
    try:
        open(path, 'w').close()
        places.append(path)
    except OSError:
        pass
written = 0
try:
    for number in range(100):
        with open('/tmp/%d' % number, 'wb') as file:
            written += file.write(b'x' * (1 << 20))
except OSError as error:
    return [places, written, error.errno]
"""
    places, written, error = (await inside(BubblewrapSandbox(), tmp_path, body)).output
    assert places == []
    assert written <= TMPFS_BYTES
    assert error == 28


async def test_a_file_is_bounded(tmp_path: Path) -> None:
    body = """
try:
    with open('/tmp/x', 'wb') as file:
        file.write(b'x' * (3 << 20))
except OSError as error:
    return error.errno
"""
    assert (await inside(BubblewrapSandbox(), tmp_path, body, limits=Limits(file_size_mb=1))).output == 27


async def test_no_process_of_the_machine_is_seen_and_bubblewrap_tells_nothing(tmp_path: Path) -> None:
    """The first process inside is bubblewrap: its command line, and its environment but for root's, can be read."""
    body = """
import os
pids = sorted(int(name) for name in os.listdir('/proc') if name.isdigit())
try:
    environment = open('/proc/1/environ').read()
except PermissionError:  # the engine is root, and a worker is not
    environment = ""
return [len(pids), os.getppid(), environment, open('/proc/1/cmdline').read()]
"""
    count, parent, environment, command = (await inside(BubblewrapSandbox(), tmp_path, body)).output
    assert count == 2
    assert parent == 1
    assert environment == ""
    assert str(tmp_path) not in command
    assert "--ro-bind" not in command


async def test_a_network_of_its_own_has_no_way_out(tmp_path: Path) -> None:
    body = "return [line.split(':')[0].strip() for line in open('/proc/net/dev').read().splitlines()[2:]]"
    assert set((await inside(BubblewrapSandbox(), tmp_path, body)).output) <= {"lo"}


async def test_killing_a_worker_waits_for_all_that_runs_inside(tmp_path: Path) -> None:
    worker = await BubblewrapSandbox().start(None, tmp_path)
    with anyio.fail_after(30):
        while len(inner := children(worker.pid)) < 1 or not children(inner[0]):
            await anyio.lowlevel.checkpoint()
    pids = [worker.pid, *inner, *children(inner[0])]
    assert worker.kill() == -9
    assert worker.kill() == -9
    assert [pid for pid in pids if state(pid) not in "ZX"] == []
    await worker.end()
    await worker.end()


def children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


async def test_the_status_of_a_worker_is_that_of_what_ran_inside(tmp_path: Path) -> None:
    trace = await inside(BubblewrapSandbox(), tmp_path, "import os\nos._exit(7)")
    assert "exit status 7" in (trace.error or "")


async def test_what_is_printed_at_the_end_comes_out(tmp_path: Path) -> None:
    trace = await inside(BubblewrapSandbox(), tmp_path, "import os\nos.write(2, b'last words')\nos._exit(7)")
    assert "last words" in (trace.error or "")


NAMES = """
import os, sqlite3, tempfile
made = 0
try:
    for number in range(100_000):
        os.close(os.open('/tmp/%d' % number, os.O_CREAT | os.O_WRONLY))
        made += 1
except OSError as error:
    return [made, error.errno]
"""


async def test_as_many_files_as_a_harness_needs_can_be_made_and_not_as_many_as_it_likes(tmp_path: Path) -> None:
    made, error = (await inside(BubblewrapSandbox(), tmp_path, NAMES)).output
    assert TMPFS_NAMES - 100 < made < TMPFS_NAMES
    assert error == 28


async def test_where_the_kernel_bounds_no_names_no_file_can_be_made_and_the_candidate_is_there(tmp_path: Path) -> None:
    """As under AppArmor's profile for bubblewrap, which takes away the capability that the bound needs."""
    sandbox = BubblewrapSandbox(bound_names=False)
    trace = await inside(sandbox, tmp_path, "import beside\n" + NAMES.strip(), files={"beside.py": ""})
    assert trace.output == [0, 13], trace.error


async def test_files_of_a_database_and_of_temporary_folders_can_be_made(tmp_path: Path) -> None:
    body = """
with tempfile.TemporaryDirectory() as folder:
    database = sqlite3.connect(folder + "/notes.db")
    database.execute("create table notes (text)")
    database.execute("insert into notes values ('kept')")
    database.commit()
    return [database.execute("select text from notes").fetchone()[0], os.getuid()]
"""
    trace = await inside(BubblewrapSandbox(), tmp_path, body, before="import os, sqlite3, tempfile")
    assert trace.output == ["kept", 65534], trace.error


async def test_threads_are_bounded_also_under_root(tmp_path: Path) -> None:
    """The kernel counts nothing of root's, so a worker is another user inside and outside."""
    body = """
import threading
stop, started = threading.Event(), 0
try:
    for _ in range(100):
        threading.Thread(target=stop.wait).start()
        started += 1
except RuntimeError:
    pass
stop.set()
return started
"""
    trace = await inside(BubblewrapSandbox(), tmp_path, body, limits=Limits(processes=20))
    assert 10 < trace.output < 20, trace.error
