"""What was found out about sandboxes by trying, one by one, and the tests that hold it; the table itself is tested.

| trap | tests |
|---|---|
| 1. bubblewrap's own environment can be read inside, whatever `--clearenv` says | test_sandbox_bubblewrap::test_no_process_of_the_machine_is_seen_and_bubblewrap_tells_nothing, test_sandbox_contained::test_the_environment_and_that_of_any_process_hold_nothing_of_ours |
| 2. the kernel counts no process of root's | test_sandbox_bubblewrap::test_threads_are_bounded_also_under_root, test_sandbox_several::test_processes_are_bounded_also_under_root |
| 3. a limit on processes that is set outside counts all of the user's | test_sandbox_several::test_what_others_of_the_same_user_run_does_not_count |
| 4. a signal to its own process group reaches whoever is in it | test_sandbox_several::test_a_signal_to_its_own_group_reaches_nobody_else, test_sandbox_traps::test_a_worker_leads_a_session_of_its_own |
| 5. the limit on address space is that of one process | test_sandbox_several::test_the_memory_of_all_processes_together_is_bounded_and_the_trace_says_so, test_sandbox_traps::test_without_processes_what_one_takes_is_all_there_is |
| 6. the status and the times of bubblewrap are not those of what ran inside | test_sandbox_bubblewrap::test_the_status_of_a_worker_is_that_of_what_ran_inside, test_sandbox_contained::test_a_loop_ends_at_its_limit_of_processor_time |
| 7. an output that is a file can be opened anew by its path; a pipe can be flooded | test_sandbox_contained::test_a_worker_has_no_descriptor_but_its_pipe_and_what_it_prints_to, test_sandbox_traps::test_of_a_flood_only_the_end_is_kept |
| 8. a read-only sandbox cannot write bytecode | test_sandbox_traps::test_no_bytecode_is_written_and_what_is_there_is_used |
| 9. a system may forbid namespaces: only a real run tells | test_sandbox_traps::test_where_namespaces_are_forbidden_auto_says_so_and_takes_the_next |
| 10. Landlock may work where no file says so | test_sandbox_landlock::test_the_abi_is_asked_of_the_kernel |

Limits of a worker, and the tests that each is held:

| limit | tests |
|---|---|
| memory_mb | test_sandbox_contained::test_memory_is_bounded, test_sandbox_several::test_the_memory_of_all_processes_together_is_bounded_and_the_trace_says_so |
| cpu_seconds | test_sandbox_contained::test_a_loop_ends_at_its_limit_of_processor_time |
| case_seconds | test_sandbox_contained::test_a_case_ends_at_its_limit_of_time |
| processes | test_sandbox_bubblewrap::test_threads_are_bounded_also_under_root, test_sandbox_several::test_processes_are_bounded_also_under_root |
| file_size_mb | test_sandbox_bubblewrap::test_a_file_is_bounded, test_sandbox_landlock::test_nothing_is_written_whatever_the_kernel_can |
| open_files | test_sandbox_contained::test_descriptors_are_bounded |
"""  # noqa: E501 - a table

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_kit import inside, needs_bubblewrap, needs_landlock

from metaharness.evaluation.session import OUTPUT_TAIL
from metaharness.records import Limits
from metaharness.sandbox.bubblewrap import BubblewrapSandbox
from metaharness.sandbox.landlock import LandlockSandbox
from metaharness.sandbox.process import ProcessSandbox

HERE = Path(__file__).parent
ROWS = [line.strip("| ").split(" | ") for line in (__doc__ or "").splitlines() if "::" in line]


@pytest.mark.parametrize(("what", "tests"), ROWS, ids=[what for what, _ in ROWS])
def test_the_tests_in_the_table_are_there(what: str, tests: str) -> None:
    for one in tests.split(", "):
        module, name = one.split("::")
        tree = ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8"))
        found = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        assert name in found, f"{what}: {one}"


def test_every_limit_of_a_worker_is_in_the_table() -> None:
    not_of_the_sandbox = {"learn_seconds", "call_seconds", "calls_per_case"}
    assert set(Limits.model_fields) - not_of_the_sandbox == {what for what, _ in ROWS} & set(Limits.model_fields)
    assert len([what for what, _ in ROWS if what[0].isdigit()]) == 10


@pytest.mark.parametrize(
    "sandbox",
    [
        pytest.param(BubblewrapSandbox, marks=needs_bubblewrap),
        pytest.param(LandlockSandbox, marks=needs_landlock),
        ProcessSandbox,
    ],
)
async def test_a_worker_leads_a_session_of_its_own(
    sandbox: type[BubblewrapSandbox | LandlockSandbox | ProcessSandbox], tmp_path: Path
) -> None:
    worker = await sandbox().start(None, tmp_path)
    try:
        assert os.getsid(worker.pid) == worker.pid
    finally:
        await worker.end()


@needs_bubblewrap
async def test_without_processes_what_one_takes_is_all_there_is(tmp_path: Path) -> None:
    """Its address space, 64 MiB of files, and nothing that is in no limit: no other process, no file in memory."""
    body = """
import os
worked = []
for way in (os.fork, lambda: os.memfd_create("x"), lambda: os.posix_spawn("/bin/true", ["true"], {})):
    try:
        way()
        worked.append(str(way))
    except OSError:
        pass
try:
    return [worked, len(bytearray(300 << 20))]
except MemoryError:
    return [worked, "bounded"]
"""
    trace = await inside(BubblewrapSandbox(), tmp_path, body, limits=Limits(memory_mb=256))
    assert trace.output == [[], "bounded"], trace.error


@needs_bubblewrap
async def test_of_a_flood_only_the_end_is_kept(tmp_path: Path) -> None:
    body = "import os\nfor _ in range(1000):\n    os.write(2, b'x' * 20000)\nos.write(2, b'the end')\nos._exit(7)"
    error = (await inside(BubblewrapSandbox(), tmp_path, body)).error or ""
    assert error.endswith("xthe end")
    assert len(error) < OUTPUT_TAIL + 200


@needs_bubblewrap
async def test_no_bytecode_is_written_and_what_is_there_is_used(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)  # noqa: ASYNC221
    [site] = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "compiled.py").write_text("WORD = 'compiled'")
    (site / "source.py").write_text("WORD = 'source'")
    python = str(tmp_path / "env" / "bin" / "python")
    subprocess.run([python, "-m", "compileall", "-q", site / "compiled.py"], check=True)  # noqa: ASYNC221
    body = "import sys\nreturn [compiled.__cached__, source.WORD, sys.dont_write_bytecode]"
    trace = await inside(BubblewrapSandbox(), tmp_path, body, before="import compiled, source", python=python)
    assert trace.output[1:] == ["source", True], trace.error
    assert [path.name for path in site.glob("__pycache__/*.pyc")] == [Path(trace.output[0]).name]


FORBIDDEN = """
import json
from metaharness.errors import SandboxError
from metaharness.sandbox import open_sandbox
from metaharness.machine.advising import look
from metaharness.sandbox.choosing import tried
name = open_sandbox("auto").name
try:
    open_sandbox("auto", subprocess=True)
except SandboxError as error:
    refused = str(error)
print(json.dumps([name, [[one.name, one.problem] for one in tried(None)], look().namespaces, refused]))
"""


@needs_bubblewrap
@needs_landlock
def test_where_namespaces_are_forbidden_auto_says_so_and_takes_the_next() -> None:
    """A machine on which no namespace of users can be made: inside one that forbids further ones."""
    outer = [
        shutil.which("bwrap") or "",
        "--unshare-user",
        "--disable-userns",
        "--dev-bind",
        "/",
        "/",
        "--proc",
        "/proc",
    ]
    done = subprocess.run(
        [*outer, sys.executable, "-c", FORBIDDEN],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "disable-userns" in done.stderr or "setting up uid map" in done.stderr:
        pytest.skip(f"this machine cannot be made into one: {done.stderr}")
    name, tries, namespaces, refused = json.loads(done.stdout)
    assert name == "landlock", done.stderr
    [[first, problem], [second, none]] = tries
    assert (first, second, none) == ("bubblewrap", "landlock", None)
    assert "bwrap" in problem
    assert not namespaces, "doctor would not know what to advise"
    assert "Domain.subprocess" in refused
