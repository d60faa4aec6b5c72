"""Help, version, and what a wrong command line says."""

from __future__ import annotations

import subprocess
import sys

import pytest
from run_kit import assert_complains, executed, say

from metaharness import __version__

COMMANDS = (
    *("demo", "init", "check", "run", "resume", "evaluate", "submit", "finish", "export", "doctor"),
    *("runs", "scoreboard", "show", "trace", "diff", "compare", "summary", "cost"),
)
HEAVY = ("pydantic", "anyio", "anthropic", "openai", "rich", "filelock", "asyncio")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command: str) -> None:
    said = say(command, "--help")
    assert (said.code, said.err) == (0, "")
    examples = said.out.split("Examples:")[1]
    assert f"metaharness {command}" in examples


def test_the_program_lists_its_commands_and_exit_codes() -> None:
    said = say("--help")
    assert said.code == 0
    for command in COMMANDS:
        assert f"  {command} " in said.out
    assert "Exit codes: 0 success; 1 a failure of ours or of the environment" in said.out


def test_no_command_at_all_shows_the_help_and_is_wrong_usage() -> None:
    said = say()
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("Usage: metaharness")


def test_the_version_is_the_package_version() -> None:
    assert say("--version") == (0, f"metaharness {__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from metaharness.cli import main\n"
        f"code = main({arguments!r})\n"
        f"sys.stderr.write(' '.join(name for name in {HEAVY!r} if name in sys.modules))\n"
        "sys.exit(code)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_the_installed_program_and_the_module_are_the_same() -> None:
    found = executed("--version")
    assert (found.returncode, found.stdout) == (0, f"metaharness {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["fly"], "no such command 'fly'", "`metaharness --help`"),
        (["run"], "nothing says which domain is searched", "`metaharness run --help`"),
        (["evaluate", "-d", "x"], "missing argument", "`metaharness evaluate --help`"),
        (["run", "-d", "x", "--speed", "9"], "no such option: --speed", "`metaharness run --help`"),
        (["run", "-d", "x", "-n", "-1"], "'--iterations' / '-n'", "`metaharness run --help`"),
        (["run", "-d", "x", "-k", "0"], "'--candidates-per-round' / '-k'", "`metaharness run --help`"),
        (["run", "-d", "x", "--trials", "0"], "'--trials'", "`metaharness run --help`"),
        (["run", "-d", "x", "-c", "5000"], "'--concurrency' / '-c'", "`metaharness run --help`"),
        (["run", "-d", "x", "--seed", "one"], "'--seed'", "`metaharness run --help`"),
        (["resume", "--budget-usd", "-3"], "'--budget-usd'", "`metaharness resume --help`"),
        (["trace"], "missing argument", "`metaharness trace --help`"),
        (["trace", "x"], "invalid value for 'number'", "`metaharness trace --help`"),
        (["trace", "--", "-1"], "invalid value for 'number'", "`metaharness trace --help`"),
        (["diff", "0"], "missing argument", "`metaharness diff --help`"),
        (["cost", "a", "b"], "unexpected extra argument", "`metaharness cost --help`"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line_with_a_hint(arguments: list[str], message: str, hint: str) -> None:
    assert_complains(say(*arguments), 2, message, hint)
