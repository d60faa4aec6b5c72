"""Machines and interpreters on which a sandbox cannot do its work: it says so, and leaves nothing behind."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from sandbox_kit import inside, needs_bubblewrap

from metaharness.errors import SandboxError
from metaharness.machine import bubblewrap as finding
from metaharness.machine.interpreter import find_interpreter
from metaharness.sandbox import bubblewrap, probing, seatbelt
from metaharness.sandbox.bubblewrap import BubblewrapSandbox
from metaharness.sandbox.command import CommandSandbox
from metaharness.sandbox.landlock import LandlockSandbox, landlock_abi
from metaharness.sandbox.probing import weaknesses
from metaharness.sandbox.protocol import encode
from metaharness.sandbox.seatbelt import SeatbeltSandbox

REAL_PYTHON = Path(sys.executable).resolve()


def script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208


# --- bubblewrap ---------------------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder in which bubblewrap is looked for."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setattr(finding, "places", lambda: str(folder))
    return folder


@pytest.mark.usefixtures("programs")
def test_without_bubblewrap_it_is_said_what_else_there_is() -> None:
    with pytest.raises(SandboxError, match="bubblewrap is not installed") as error:
        BubblewrapSandbox()
    assert "--sandbox landlock" in (error.value.hint or "")


@pytest.mark.parametrize(
    ("said", "problem"), [("echo usage: bwrap", "is too old: it has no option --size"), (None, "cannot start")]
)
def test_a_bubblewrap_that_is_too_old_or_does_not_start_is_refused(
    programs: Path, said: str | None, problem: str
) -> None:
    script(programs / "bwrap", said) if said else script(programs / "bwrap").write_text("#!/no/such/shell\n")
    with pytest.raises(SandboxError, match=problem) as error:
        BubblewrapSandbox()
    assert "--sandbox landlock" in (error.value.hint or "")


@needs_bubblewrap
async def test_a_bubblewrap_that_is_gone_when_a_worker_is_started_leaves_nothing_open(
    programs: Path, tmp_path: Path
) -> None:
    (programs / "bwrap").symlink_to(str(shutil.which("bwrap")))
    sandbox = BubblewrapSandbox()
    (programs / "bwrap").unlink()
    before = descriptors()
    with pytest.raises(SandboxError, match=r"cannot start .*bwrap"):
        await sandbox.start(None, tmp_path)
    assert descriptors() == before


@needs_bubblewrap
@pytest.mark.skipif(os.geteuid() != 0, reason="only root maps the users of a worker")
async def test_root_that_may_not_map_users_is_told_and_no_worker_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, data: bytes) -> int:
        raise PermissionError(1, "Operation not permitted", str(self))

    before = descriptors()
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(SandboxError, match=r"root may not give a worker the user 65534: .*uid_map") as error:
        await BubblewrapSandbox().start(None, tmp_path)
    assert "CAP_SETUID" in (error.value.hint or "")
    assert descriptors() == before


@needs_bubblewrap
async def test_where_the_memory_of_several_processes_cannot_be_watched_no_candidate_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where /proc is mounted with hidepid."""
    monkeypatch.setattr(bubblewrap, "can_be_watched", lambda _pid: False)
    with pytest.raises(SandboxError, match="memory of several processes cannot be bounded here") as error:
        await inside(BubblewrapSandbox(subprocess=True), tmp_path, "return 1")
    assert "hidepid" in (error.value.hint or "")


# --- interpreters -------------------------------------------------------------------------------------------------


def test_an_interpreter_that_fails_is_refused_with_what_it_said(tmp_path: Path) -> None:
    python = script(tmp_path / "python", "echo its libraries are not there >&2", "exit 3")
    with pytest.raises(SandboxError, match="exit status 3, saying its libraries are not there") as error:
        find_interpreter(str(python))
    assert "Domain.python" in (error.value.hint or "")


def test_a_program_that_is_no_interpreter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="cannot start"):
        find_interpreter(str(script(tmp_path / "python", "echo hello")))


@needs_bubblewrap
async def test_an_interpreter_behind_links_that_lead_upwards_is_found_inside(tmp_path: Path) -> None:
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "python").symlink_to(REAL_PYTHON)
    python = tmp_path / "env" / "bin" / "python"
    python.symlink_to("../../versions/python")
    trace = await inside(BubblewrapSandbox(), tmp_path, "import sys\nreturn sys.executable", python=str(python))
    assert trace.output == str(python), trace.error


# --- the probe ----------------------------------------------------------------------------------------------------


def saying(*words: str) -> CommandSandbox:
    """A command that runs these words of a shell instead of a worker."""
    return CommandSandbox(f"sh -c {shlex.quote(' '.join(words))}")


async def test_a_worker_that_dies_at_once_is_quoted_by_the_probe() -> None:
    with pytest.raises(SandboxError, match="the worker died, saying: no such image"):
        await weaknesses(saying("echo no such image >&2; exit 1"), None)


async def test_a_worker_that_dies_in_silence_is_said_to_have_died() -> None:
    with pytest.raises(SandboxError, match=r"the worker died$"):
        await weaknesses(saying("exit 1"), None)


@pytest.mark.parametrize(
    "frame",
    [
        {"kind": "failed", "message": "limits cannot be set"},
        {"kind": "done", "error": {"message": "limits cannot be set"}},
    ],
)
async def test_a_worker_that_says_why_it_cannot_start_is_quoted_by_the_probe(
    frame: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "frame").write_bytes(encode(frame))
    with pytest.raises(SandboxError, match="the worker could not start: limits cannot be set"):
        await weaknesses(saying(f"cat {tmp_path}/frame; exec tail -f /dev/null"), None)


async def test_a_worker_that_never_answers_is_given_up_by_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PROBE_SECONDS", 0.1)
    with pytest.raises(SandboxError, match=r"no answer within 0\.1 s"):
        await weaknesses(saying("exec tail -f /dev/null"), None)


# --- another system -----------------------------------------------------------------------------------------------


def test_a_system_that_is_not_linux_has_no_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert landlock_abi() == 0
    with pytest.raises(SandboxError, match="this kernel has no Landlock") as error:
        LandlockSandbox()
    assert "--sandbox process" in (error.value.hint or "")


def test_sandbox_exec_is_refused_where_the_system_is_not_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(SandboxError, match="on macOS alone") as error:
        SeatbeltSandbox()
    assert "bubblewrap" in (error.value.hint or "")


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SeatbeltSandbox:
    """The sandbox of macOS, over a program that takes a profile and contains nothing."""
    program = script(tmp_path / "sandbox-exec", 'test "$1" = -p || exit 9', "shift 2", 'exec "$@"')
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(seatbelt, "PROGRAM", str(program))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    with monkeypatch.context() as platform:
        platform.setattr(sys, "platform", "darwin")
        return SeatbeltSandbox()


async def test_a_worker_under_sandbox_exec_has_a_folder_of_its_own_that_goes_with_it(
    mac: SeatbeltSandbox, tmp_path: Path
) -> None:
    body = "import os\nfrom pathlib import Path\nreturn [os.environ['HOME'], str(Path(__file__).parent)]"
    trace = await inside(mac, tmp_path, body)
    home, folder = trace.output
    assert Path(home).parent == tmp_path / "scratch"
    assert folder == f"{home}/candidate"
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_a_worker_that_sandbox_exec_cannot_start_leaves_no_folder(mac: SeatbeltSandbox, tmp_path: Path) -> None:
    (tmp_path / "sandbox-exec").unlink()
    with pytest.raises(SandboxError, match=r"cannot start .*sandbox-exec"):
        await mac.start(None, tmp_path)
    assert list((tmp_path / "scratch").iterdir()) == []
