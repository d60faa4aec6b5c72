"""The habits of the repository: checks that run the same everywhere, and documents that point at what is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from meta_kit import PACKAGE, ROOT, texts

MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work|opt|mnt|srv)/\w+")


def test_the_ci_calls_every_script_and_nothing_else_decides() -> None:
    """A check that only the CI knows cannot be run before pushing."""
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "scripts").iterdir() if path.is_file()}
    assert scripts == set(re.findall(r"scripts/([\w.]+)", run))


def test_the_suite_is_measured_by_the_command_that_the_readme_shows() -> None:
    """Else the README's command could fail while the CI passes."""
    command = "uv run pytest"
    assert command in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert f'{command} "$@"' in (ROOT / "scripts" / "coverage").read_text(encoding="utf-8")


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts().items()
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line) and path != "tests/meta/test_meta_habits.py"
    ]
    assert found == []


def test_what_agents_read_is_short() -> None:
    """It is read whole, each time."""
    assert len((ROOT / "AGENTS.md").read_text(encoding="utf-8").splitlines()) < 110


@pytest.mark.parametrize("document", ["AGENTS.md", "README.md"])
def test_a_document_points_only_at_files_that_are_there(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    pointed = set(re.findall(r"`((?:[\w.]+/)+[\w.]*)`", text))
    ours = {path for path in pointed if not path.startswith(("runs/", "baselines/", "proposals/", "harness/", "NAME/"))}
    assert {path for path in ours if not any((base / path).exists() for base in (ROOT, PACKAGE))} == set()


def test_a_function_that_is_too_long_is_found(tmp_path: Path) -> None:
    """The gate on sizes is a script of ours, so it is tested like one."""
    for folder in ("metaharness", "reference_examples", "scripts"):
        (tmp_path / folder).mkdir()
    script = tmp_path / "scripts" / "sizes.py"
    script.write_text((ROOT / "scripts" / "sizes.py").read_text(encoding="utf-8"), encoding="utf-8")
    module = tmp_path / "metaharness" / "module.py"

    def sizes() -> tuple[int, str]:
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    module.write_text("def long():\n" + "    pass\n" * 49, encoding="utf-8")
    assert sizes()[0] == 0
    module.write_text("def long():\n" + "    pass\n" * 50, encoding="utf-8")
    assert sizes()[0] == 1
    assert "metaharness/module.py:1: long has 51 lines" in sizes()[1]
    module.write_text("x = 1\n" * 401, encoding="utf-8")
    assert "metaharness/module.py:1: the module has 401 lines" in sizes()[1]
