"""What harnesses may import: `harness-requirements.txt`, installed once by uv, imported in every sandbox.

The packages are wheels that these tests write, so no index is asked; one test asks one, where it can be reached.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sandbox_kit import inside, needs_bubblewrap, needs_landlock
from wheel_kit import needs_uv, requirements, wheel

from metaharness.errors import DomainError, SandboxError
from metaharness.sandbox.bubblewrap import BubblewrapSandbox
from metaharness.sandbox.environments import (
    VARIABLE,
    environment_for,
    environments_folder,
    find_uv,
    make_private,
    tell,
)
from metaharness.sandbox.landlock import LandlockSandbox
from metaharness.sandbox.process import ProcessSandbox
from metaharness.sandbox.protocol import Sandbox
from metaharness.sandbox.requirements import read_requirements


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of environments for one test."""
    folder = tmp_path / "environments"
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


def records(environments: Path) -> list[Path]:
    return sorted(environments.glob("*.json"))


def built(environments: Path) -> list[Path]:
    return sorted(path for path in environments.iterdir() if path.is_dir())


def times(folder: Path) -> dict[Path, int]:
    """When each part of it was written last."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


# --- built once -------------------------------------------------------------------------------------------------


@needs_uv
def test_it_is_built_once_byte_compiled_and_closed_to_others(tmp_path: Path, environments: Path) -> None:
    file = requirements(tmp_path)
    environment = environment_for(file)
    assert environment.packages == ("tiny==1.0",)
    assert environments.stat().st_mode & 0o777 == 0o700
    before = times(environments)
    assert [path.name for path in environments.rglob("tiny*.pyc")] == [f"tiny.{sys.implementation.cache_tag}.pyc"]
    file.write_text("# a comment\n\n  ./wheels/tiny-1.0-py3-none-any.whl   # and another\n")
    assert environment_for(file) == environment
    assert times(environments) == before


ASK = """
import sys
from pathlib import Path
from metaharness.sandbox.environments import environment_for
print(environment_for(Path(sys.argv[1])).python)
"""


def asking(file: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ASK, str(file)],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@needs_uv
def test_two_processes_that_want_the_same_one_build_one(tmp_path: Path, environments: Path) -> None:
    file = requirements(tmp_path)
    both = [asking(file), asking(file)]
    answers = {one.communicate(timeout=120)[0].strip() for one in both}
    assert [one.returncode for one in both] == [0, 0]
    assert answers == {str(built(environments)[0] / "bin" / "python")}
    assert len(records(environments)) == len(built(environments)) == 1


@needs_uv
def test_what_was_killed_half_way_is_never_taken_for_whole(tmp_path: Path, environments: Path) -> None:
    """A uv that makes the environment, says so, and then never comes to an end: it is killed there."""
    file = requirements(tmp_path)
    uv, ready = find_uv(), tmp_path / "ready"
    os.mkfifo(ready)
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "uv").write_text(
        f'#!/bin/sh\nif [ "$1" = venv ]; then exec "{uv}" "$@"; fi\necho there > "{ready}"\nexec tail -f /dev/null\n'
    )
    (slow / "uv").chmod(0o755)
    killed = asking(file, PATH=f"{slow}{os.pathsep}{os.environ['PATH']}")
    assert ready.read_text() == "there\n"
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert records(environments) == []
    assert len(built(environments)) == 1
    environment = environment_for(file)
    assert environment.packages == ("tiny==1.0",)
    assert [str(path / "bin" / "python") for path in built(environments)] == [environment.python]


class Interrupting(logging.Handler):
    """Control-C at the first line that is told of uv's own."""

    uv = 0

    def emit(self, record: logging.LogRecord) -> None:
        words = record.getMessage().split()
        if words[:1] == ["uv:"]:
            self.uv = int(words[1])
            raise KeyboardInterrupt


@pytest.mark.usefixtures("environments")
def test_whoever_interrupts_an_installation_ends_uv_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    endless = tmp_path / "endless"
    endless.mkdir()
    (endless / "uv").write_text("#!/bin/sh\necho uv: $$\nexec tail -f /dev/null\n")
    (endless / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{endless}{os.pathsep}{os.environ['PATH']}")
    tell.addHandler(handler := Interrupting())
    try:
        with caplog.at_level(logging.INFO, tell.name), pytest.raises(KeyboardInterrupt):
            environment_for(requirements(tmp_path))
    finally:
        tell.removeHandler(handler)
    with pytest.raises(ProcessLookupError):
        os.kill(handler.uv, 0)


@needs_uv
def test_one_that_lost_a_file_is_built_anew(tmp_path: Path, environments: Path) -> None:
    file = requirements(tmp_path)
    first = asking(file).communicate(timeout=120)[0].strip()
    next(environments.rglob("tiny.py")).unlink()
    second = asking(file).communicate(timeout=120)[0].strip()
    assert first != second
    assert [path.name for path in environments.rglob("tiny.py")] == ["tiny.py"]


@needs_uv
def test_another_wheel_under_the_same_name_is_another_environment(tmp_path: Path, environments: Path) -> None:
    file = requirements(tmp_path)
    first = environment_for(file)
    wheel(tmp_path / "wheels", code="def shout(text):\n    return text\n")
    assert environment_for(file).python != first.python
    assert len(records(environments)) == 2


# --- what is refused --------------------------------------------------------------------------------------------


@needs_uv
def test_what_cannot_be_installed_is_told_in_uvs_own_words(tmp_path: Path, environments: Path) -> None:
    file = requirements(tmp_path, "--no-index\nno-such-package-anywhere\n")
    with pytest.raises(SandboxError, match="no-such-package-anywhere was not found") as error:
        environment_for(file)
    assert "harness-requirements.txt" in (error.value.hint or "")
    assert records(environments) == []


def test_without_uv_it_says_how_to_get_it_or_to_do_without(tmp_path: Path, environments: Path) -> None:
    empty = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    if find_uv(empty) is not None:
        pytest.skip("uv is installed beside this Python")
    code = ASK.replace("print(", "from metaharness.errors import SandboxError\ntry:\n    print(") + (
        "except SandboxError as error:\n    print(error.message, '|', error.hint)\n"
    )
    command = [sys.executable, "-c", code, str(requirements(tmp_path))]
    done = subprocess.run(command, env={**os.environ, **empty}, capture_output=True, text=True, check=True)
    message, _, hint = done.stdout.partition(" | ")
    assert "is installed with uv, and uv is not here" in message
    assert "pip install uv" in hint
    assert "Domain.python" in hint


@pytest.mark.parametrize("line", ["-r more.txt", "-rmore.txt", "--constraint=c.txt", "-e ./tiny", "--editable ./tiny"])
def test_what_leads_to_another_file_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(DomainError, match="leads to another file"):
        read_requirements(requirements(tmp_path, f"numpy\n{line}\n"))


@pytest.mark.parametrize("line", ["./tiny", "tiny @ file://{folder}/tiny", "."])
def test_a_folder_of_source_is_refused_since_it_could_change_under_a_run(tmp_path: Path, line: str) -> None:
    (tmp_path / "tiny").mkdir()
    with pytest.raises(DomainError, match="names a folder of source") as error:
        read_requirements(requirements(tmp_path, line.format(folder=tmp_path)))
    assert "uv build --wheel" in (error.value.hint or "")


def test_options_and_a_line_that_goes_on_are_read_as_uv_reads_them(tmp_path: Path) -> None:
    file = requirements(
        tmp_path, "--find-links ./wheels\n--extra-index-url https://a/b\nnumpy>=2 \\\n  --hash=sha256:ab\n"
    )
    assert read_requirements(file).names == ["numpy>=2 --hash=sha256:ab"]


@pytest.mark.parametrize("content", [b"\xff\n", None])
def test_a_file_that_cannot_be_read_says_so(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "harness-requirements.txt"
    file.mkdir() if content is None else file.write_bytes(content)
    with pytest.raises(DomainError, match="cannot read"):
        read_requirements(file)


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(SandboxError, match="others can write to it") as error:
        make_private(folder)
    assert VARIABLE in (error.value.hint or "")


def test_a_link_or_a_file_in_its_place_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(SandboxError, match="it is no folder"):
            make_private(tmp_path / name)


@needs_uv
def test_a_place_where_no_folder_can_be_made_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "environments"))
    with pytest.raises(SandboxError, match=r"no environment can be kept in .*file/environments") as error:
        environment_for(requirements(tmp_path))
    assert VARIABLE in (error.value.hint or "")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "given away"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(SandboxError, match="it belongs to somebody else"):
        make_private(folder)


def test_it_lies_outside_of_any_home_unless_it_is_told_otherwise() -> None:
    assert environments_folder({}) == Path(f"/var/tmp/metaharness-environments-{os.getuid()}")
    assert environments_folder({VARIABLE: "/elsewhere"}) == Path("/elsewhere")


# --- imported where harnesses run -------------------------------------------------------------------------------

SANDBOXES = [
    pytest.param(BubblewrapSandbox, id="bubblewrap", marks=needs_bubblewrap),
    pytest.param(LandlockSandbox, id="landlock", marks=needs_landlock),
    pytest.param(ProcessSandbox, id="process"),
]
BODY = """
import sys, tiny
return [tiny.shout(text), tiny.__cached__.endswith(".pyc"), sys.flags.no_user_site]
"""


@needs_uv
@pytest.mark.parametrize("make", SANDBOXES)
async def test_a_harness_imports_it_in_every_sandbox_and_nothing_is_written(
    tmp_path: Path, environments: Path, make: Callable[[], Sandbox]
) -> None:
    environment = environment_for(requirements(tmp_path))
    before = times(environments)
    trace = await inside(make(), tmp_path, BODY, told="hello", python=environment.python)
    assert trace.output == ["HELLO!", True, 1], trace.error
    assert times(environments) == before


def reaches_an_index(folder: Path) -> bool:
    done = subprocess.run(
        [str(find_uv()), "pip", "install", "--dry-run", "--no-cache", "--target", str(folder), "six==1.17.0"],
        capture_output=True,
        env={**os.environ, "UV_HTTP_TIMEOUT": "5", "UV_HTTP_RETRIES": "0"},
        timeout=60,
        check=False,
    )
    return done.returncode == 0


@needs_uv
@needs_bubblewrap
async def test_a_package_of_the_index_is_installed_and_imported(tmp_path: Path, environments: Path) -> None:
    if not reaches_an_index(tmp_path / "unused"):
        pytest.skip("no package index can be reached")
    file = requirements(tmp_path, "six==1.17.0\n")
    environment = environment_for(file)
    assert environment.packages == ("six==1.17.0",)
    trace = await inside(BubblewrapSandbox(), tmp_path, "import six\nreturn six.__version__", python=environment.python)
    assert trace.output == "1.17.0", trace.error
