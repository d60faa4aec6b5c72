"""The README is executed: a command or an example in it that no longer works fails the build."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cli_kit import parse
from meta_kit import ROOT, fenced

README = (ROOT / "README.md").read_text(encoding="utf-8")
OURS = ("uv", "run", "metaharness")

NOT_RUN = {
    "pip install uv": "it changes the machine",
    "uv run pytest -n auto": "it is what is running",
}
"""Commands that are shown but not run here, and why. Scripts of the repository are checked to be there."""

DEMO = "uv run metaharness demo"
"""Its output stands in the README."""

NEEDS_A_MODEL = ("anthropic:", "openai:")
"""A command with one of these is parsed only: the model is not here."""


def commands() -> list[str]:
    """Every command of the README's shell blocks in order, a here-document with the command that reads it."""
    found: list[str] = []
    end: str | None = None
    for line in "\n".join(fenced(README, "sh")).splitlines():
        if end is not None:
            found[-1] += "\n" + line
            end = None if line == end else end
        elif line.strip():
            found.append(line)
            here = re.search(r"<<'(\w+)'$", line)
            end = here[1] if here else None
    return found


def arguments(command: str) -> list[str]:
    return shlex.split(command, comments=True)


METAHARNESS = [command for command in commands() if tuple(arguments(command)[:3]) == OURS]


@pytest.mark.parametrize("command", METAHARNESS)
def test_every_command_shown_is_one_the_command_line_takes(command: str) -> None:
    parse(arguments(command)[3:])


@pytest.mark.slow
def test_the_commands_run_one_after_another_in_an_empty_folder(tmp_path: Path) -> None:
    write_examples(tmp_path)
    for command in commands():
        if not_run(command):
            continue
        done = subprocess.run(
            translated(command), cwd=tmp_path, capture_output=True, text=True, check=False, env=environment()
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        if command == DEMO:
            shown = [line for line in fenced(README, "text")[0].splitlines() if not line.startswith("cost: ")]
            assert [line for line in shown if line not in done.stdout.splitlines()] == []


def not_run(command: str) -> bool:
    words = arguments(command)
    if command in NOT_RUN or any(word.startswith(NEEDS_A_MODEL) for word in words):
        return True
    script = ROOT / words[0]
    return "/" in words[0] and script.is_file() and bool(script.stat().st_mode & stat.S_IXUSR)


def translated(command: str) -> list[str]:
    """The command as it is run here: the engine of this checkout, or a shell for making the data."""
    words = arguments(command)
    if tuple(words[:3]) == OURS:
        return [sys.executable, "-m", *words[2:]]
    assert words[0] in ("mkdir", "cat"), f"the README shows a command that nothing checks: {command}"
    return ["bash", "-euc", command]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "METAHARNESS_ROOT"}


def write_examples(folder: Path) -> None:
    """The Python blocks, each under the path in its first line."""
    blocks = fenced(README, "python")
    assert blocks
    for block in blocks:
        path = folder / block.splitlines()[0].removeprefix("# ")
        assert path.suffix == ".py", f"a Python block begins with its path, not with {block.splitlines()[0]!r}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block, encoding="utf-8")


def test_every_command_there_is_stands_in_the_readme() -> None:
    from cli_kit import command_names

    shown = {arguments(command)[3] for command in METAHARNESS}
    assert set(command_names()) - shown == set()


def test_every_exception_from_running_is_still_in_the_readme() -> None:
    assert set(NOT_RUN) - set(commands()) == set()
