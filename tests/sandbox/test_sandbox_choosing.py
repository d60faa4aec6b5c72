"""Which sandbox it becomes: what is asked for, or the strongest that holds; never silently a plain process."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_kit import inside, needs_bubblewrap, needs_landlock

from metaharness.configuration import RunConfig
from metaharness.errors import SandboxError, UsageError
from metaharness.sandbox import guard as guard_module
from metaharness.sandbox import open_sandbox, seccomp
from metaharness.sandbox.bubblewrap import BubblewrapSandbox
from metaharness.sandbox.choosing import NAMES, tried
from metaharness.sandbox.landlock import LandlockSandbox
from metaharness.sandbox.probing import weaknesses
from metaharness.sandbox.process import ProcessSandbox
from metaharness.sandbox.seatbelt import profile


async def test_the_probe_gets_out_of_a_plain_process_in_every_way() -> None:
    assert len(await weaknesses(ProcessSandbox(), None)) == 5


@needs_bubblewrap
async def test_the_probe_does_not_get_out_of_bubblewrap() -> None:
    assert await weaknesses(BubblewrapSandbox(), sys.executable) == []


@needs_landlock
async def test_the_probe_does_not_get_out_of_landlock() -> None:
    assert await weaknesses(LandlockSandbox(), sys.executable) == []


@needs_bubblewrap
def test_auto_takes_the_strongest_that_holds_under_its_real_name() -> None:
    assert open_sandbox("auto").name == "bubblewrap"
    assert [(one.name, one.problem) for one in tried(None)] == [("bubblewrap", None)]


@needs_landlock
async def test_auto_may_be_asked_inside_an_event_loop_and_probes_once() -> None:
    assert open_sandbox("auto") is open_sandbox("auto")
    assert open_sandbox("auto", python=sys.executable) is not open_sandbox("auto")


def test_an_interpreter_that_does_not_start_is_no_reason_to_take_another_sandbox() -> None:
    with pytest.raises(SandboxError, match="/no/such/python") as error:
        open_sandbox("auto", python="/no/such/python")
    assert "Domain.python" in (error.value.hint or "")


REFUSED = """
import json, sys
from metaharness.configuration import RunConfig
from metaharness.errors import SandboxError
from metaharness.sandbox import open_sandbox
exec(open(sys.argv[1]).read())
Guard({"filter": json.loads(sys.argv[2])}).close_in({"folder": "/", "limits": {}})
try:
    print(open_sandbox("auto").name)
except SandboxError as error:
    print(json.dumps([str(error), error.hint]))
"""


@needs_landlock
def test_where_nothing_holds_auto_refuses_with_the_reasons_and_the_way_out() -> None:
    """A machine on which no process can be started: the filter is put on the one that asks."""
    command = [sys.executable, "-c", REFUSED, guard_module.__file__, json.dumps(seccomp.settings())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    message, hint = json.loads(done.stdout)
    assert all(f"{name}: " in message for name in ("bubblewrap", "landlock", "sandbox-exec"))
    assert "--sandbox process" in hint
    assert "--sandbox-command" in hint


def test_process_is_taken_where_it_is_said_and_nowhere_else() -> None:
    assert open_sandbox("process").name == "process"
    assert "process" in NAMES


MAY_NAME_IT = {
    "sandbox/choosing.py": "where it is taken, when it is asked for",
    "sandbox/process.py": "its own name",
    "cli/demo.py": "a command that replays harnesses which ship with the package",
    "doctor/workers.py": "a probe of doctor's own, where nothing contains candidate code",
    "attacks/checking.py": "controls, which have to succeed",
}
"""Modules that may name the sandbox `process`, and why. Elsewhere it comes from `--sandbox` alone."""


def test_nobody_but_the_command_line_asks_for_a_plain_process() -> None:
    package = Path(guard_module.__file__).parents[1]
    naming = set()
    for path in package.rglob("*.py"):
        found = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if any(isinstance(one, ast.Constant) and one.value == "process" for one in found):
            naming.add(path.relative_to(package).as_posix())
    assert naming == set(MAY_NAME_IT)
    assert RunConfig.model_fields["sandbox"].default == "auto"


@needs_bubblewrap
def test_the_interpreter_of_the_domain_is_the_one_that_is_probed_with(tmp_path: Path) -> None:
    """The engine's own starts everywhere; this one ends as soon as it is to be a worker."""
    folder = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    (site / "sitecustomize.py").write_text("import os, sys\nif len(sys.argv) > 1: os._exit(9)")
    with pytest.raises(SandboxError) as error:
        open_sandbox("auto", python=str(folder / "bin" / "python"))
    assert "bubblewrap: the worker died" in str(error.value)


def test_an_unknown_name_is_told_those_that_are_known() -> None:
    with pytest.raises(UsageError) as error:
        open_sandbox("castle")
    assert all(name in (error.value.hint or "") for name in NAMES)


@pytest.mark.parametrize("prefix", [None, "", "docker run 'unfinished"])
def test_a_command_that_is_none_is_wrong_usage(prefix: str | None) -> None:
    with pytest.raises(UsageError, match="command"):
        open_sandbox("command", command=prefix)


BODY = """
import sys
print("not a frame", file=sys.__stdout__, flush=True)
return [model.complete("x").text, open(__file__).read(5), sys.stdin.read() if sys.stdin else ""]
"""


async def test_a_command_starts_a_worker_over_stdin_and_stdout(tmp_path: Path) -> None:
    sandbox = open_sandbox("auto", command="env -i nice -n 1")
    assert sandbox.name == "command"
    trace = await inside(sandbox, tmp_path, BODY, python=sys.executable)
    assert trace.output == ["yes", "\nclas", ""], trace.error


async def test_a_command_that_cannot_be_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="/no/such/docker"):
        await open_sandbox("command", command="/no/such/docker run").start(None, tmp_path)


def test_the_profile_of_sandbox_exec_denies_all_that_it_does_not_name() -> None:
    """What can be said of it here: sandbox-exec itself is on macOS alone."""
    text = profile(("/some/python/lib", '/odd "path"'), "/scratch/one")
    assert text.splitlines()[:2] == ["(version 1)", "(deny default)"]
    assert "network" not in text
    assert "process-fork" not in text
    assert r'(subpath "/odd \"path\"")' in text
    assert text.splitlines()[-1].startswith('(allow file-write* (subpath "/scratch/one")')
