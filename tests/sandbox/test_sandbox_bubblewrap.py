"""Bubblewrap: what is its own. What it has in common with Landlock stands in test_sandbox_contained.py."""

from __future__ import annotations

from pathlib import Path

import anyio
from sandbox_kit import inside, needs_bubblewrap

from metaharness.records import Limits
from metaharness.sandbox.bubblewrap import TMPFS_BYTES, BubblewrapSandbox

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
    """The first process inside is bubblewrap: its environment and command line can be read there."""
    body = """
import os
pids = sorted(int(name) for name in os.listdir('/proc') if name.isdigit())
return [len(pids), os.getppid(), open('/proc/1/environ').read(), open('/proc/1/cmdline').read()]
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
