"""Where a domain lets its harnesses start processes: programs work, their number and memory are bounded, all end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_kit import inside, needs_bubblewrap

from metaharness.attacks.several import WORKS
from metaharness.configuration import RunConfig
from metaharness.errors import SandboxError
from metaharness.machine.together import can_be_watched, resident, tree
from metaharness.messages import ModelSpec
from metaharness.records import Limits
from metaharness.run.standalone import evaluate_harness
from metaharness.sandbox import guard as guard_module
from metaharness.sandbox import open_sandbox, seccomp
from metaharness.sandbox.bubblewrap import BubblewrapSandbox
from metaharness.sandbox.choosing import tried
from metaharness.sandbox.probing import weaknesses
from metaharness.sandbox.process import ProcessSandbox
from metaharness.testing import check_sandbox


@needs_bubblewrap
async def test_programs_of_the_system_work_with_pipes_and_time_limits() -> None:
    report = await check_sandbox("bubblewrap", subprocess=True, attacks=[WORKS], controls=())
    assert [one.evidence for one in report.results] == ["they work"]
    assert report.honest is None


@needs_bubblewrap
async def test_processes_are_bounded_also_under_root(tmp_path: Path) -> None:
    body = """
children, (out, into) = 0, os.pipe()
try:
    for _ in range(300):
        if os.fork() == 0:
            os.read(out, 1)
            os._exit(0)
        children += 1
except BlockingIOError:
    os.write(into, b"x" * children)
return children
"""
    sandbox = BubblewrapSandbox(subprocess=True)
    trace = await inside(sandbox, tmp_path, body, before="import os", limits=Limits(processes=30))
    assert 20 < trace.output < 30, trace.error


@needs_bubblewrap
async def test_what_others_of_the_same_user_run_does_not_count(tmp_path: Path) -> None:
    """Their limit is set inside, where the kernel counts per namespace."""
    user = 65534 if os.geteuid() == 0 else None
    others = [subprocess.Popen(["/bin/sleep", "600"], cwd="/", user=user) for _ in range(30)]  # noqa: ASYNC220
    try:
        body = "import subprocess\nreturn subprocess.run(['/bin/echo', 'here'], stdout=-1).stdout.decode()"
        sandbox = BubblewrapSandbox(subprocess=True)
        trace = await inside(sandbox, tmp_path, body, limits=Limits(processes=10))
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert trace.output == "here\n", trace.error


@needs_bubblewrap
async def test_the_memory_of_all_processes_together_is_bounded_and_the_trace_says_so(tmp_path: Path) -> None:
    body = """
for _ in range(6):
    if os.fork() == 0:
        kept = bytearray(b"x") * (60 << 20)
        time.sleep(600)
time.sleep(600)
"""
    limits = Limits(memory_mb=200, case_seconds=50)
    sandbox = BubblewrapSandbox(subprocess=True)
    trace = await inside(sandbox, tmp_path, body, before="import os, time", limits=limits)
    assert trace.status == "harness_error"
    assert "MB of memory together, more than limits.memory_mb" in (trace.error or "")


@needs_bubblewrap
async def test_a_signal_to_its_own_group_reaches_nobody_else(tmp_path: Path) -> None:
    trace = await inside(BubblewrapSandbox(subprocess=True), tmp_path, "import os\nos.kill(0, 9)")
    assert "SIGKILL" in (trace.error or "")


def test_of_this_process_it_is_seen_what_it_has_started_and_what_it_takes() -> None:
    with subprocess.Popen(["/bin/sleep", "600"]) as child:
        assert {os.getpid(), child.pid} <= set(tree(os.getpid()))
        assert can_be_watched(child.pid)
        child.kill()
    assert (resident(os.getpid()) or 0) > 1 << 20
    assert resident(child.pid) is None
    assert not can_be_watched(child.pid)


# --- which sandbox it becomes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["landlock", "sandbox-exec"])
def test_a_sandbox_that_cannot_bound_processes_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(SandboxError, match=r"cannot bound the processes.*Domain\.subprocess") as error:
        open_sandbox(name, subprocess=True)
    assert "--sandbox bubblewrap" in (error.value.hint or "")


def test_what_is_asked_for_by_hand_is_taken() -> None:
    assert open_sandbox("process", subprocess=True).name == "process"
    assert open_sandbox("auto", command="env -i", subprocess=True).name == "command"


@needs_bubblewrap
def test_auto_takes_bubblewrap_and_tries_nothing_else() -> None:
    assert open_sandbox("auto", subprocess=True).name == "bubblewrap"
    assert [(one.name, one.problem) for one in tried(None, subprocess=True)] == [("bubblewrap", None)]


@needs_bubblewrap
async def test_the_probe_starts_processes_and_not_more_than_are_allowed() -> None:
    assert await weaknesses(BubblewrapSandbox(subprocess=True), None, subprocess=True) == []
    assert "starts a process" in await weaknesses(BubblewrapSandbox(subprocess=True), None)
    assert "starts more processes than allowed" in await weaknesses(ProcessSandbox(), None, subprocess=True)


REFUSED = """
import json, sys
from metaharness.errors import SandboxError
from metaharness.sandbox import open_sandbox
exec(open(sys.argv[1]).read())
Guard({"filter": json.loads(sys.argv[2])}).close_in({"folder": "/", "limits": {}})
try:
    print(open_sandbox("auto", subprocess=True).name)
except SandboxError as error:
    print(json.dumps([str(error), error.hint]))
"""


def test_where_bubblewrap_does_not_hold_auto_refuses_with_the_reason_though_landlock_may_hold() -> None:
    """A machine on which bubblewrap cannot be started: the filter is put on the one that asks."""
    command = [sys.executable, "-c", REFUSED, guard_module.__file__, json.dumps(seccomp.settings())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    message, hint = json.loads(done.stdout)
    assert "may start processes (Domain.subprocess)" in message
    assert "bubblewrap: " in message
    assert "landlock" not in message
    assert "--sandbox-command" in hint


# --- through an evaluation -----------------------------------------------------------------------------------------

DOMAIN = """
from metaharness.domain import Case, Domain, Objective

class Equal:
    def grade(self, context):
        return context.output == context.case.expected

class Shell(Domain):
    name = "shell"
    objectives = (Objective("accuracy", range=(0, 1)),)
    evaluator = Equal()
    subprocess = SUBPROCESS

    def cases(self, split):
        return [Case("one", "6*7", "42")]

def domain(data=None):
    return Shell()
"""
HARNESS = """
import subprocess

class Harness:
    def predict(self, text, model):
        return subprocess.run(["sh", "-c", "echo $((%s))" % text], stdout=subprocess.PIPE, text=True).stdout.strip()
"""


def written(folder: Path, *, may: bool) -> tuple[Path, Path]:
    (folder / "domain.py").write_text(DOMAIN.replace("SUBPROCESS", str(may)))
    (folder / "harness.py").write_text(HARNESS)
    return folder, folder / "harness.py"


def config(domain: Path, sandbox: str) -> RunConfig:
    target = ModelSpec(provider="embedded", name="icl")
    return RunConfig(domain=str(domain), models={"target": target}, sandbox=sandbox)


@needs_bubblewrap
@pytest.mark.parametrize(("may", "status", "sandbox"), [(True, "ok", "bubblewrap"), (False, "harness_error", None)])
async def test_a_harness_runs_programs_where_its_domain_says_so_and_nowhere_else(
    may: bool, status: str, sandbox: str | None, tmp_path: Path
) -> None:
    domain, harness = written(tmp_path, may=may)
    result = await evaluate_harness(harness, config(domain, "auto"))
    assert [trace.status for trace in result.traces.values()] == [status]
    assert (result.score and result.score.sandbox) == sandbox


async def test_an_evaluation_of_such_a_domain_is_refused_under_landlock(tmp_path: Path) -> None:
    domain, harness = written(tmp_path, may=True)
    with pytest.raises(SandboxError, match="cannot bound"):
        await evaluate_harness(harness, config(domain, "landlock"))
