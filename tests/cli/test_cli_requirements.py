"""`harness-requirements.txt` through the command line: checked, evaluated, run, and refused once it has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_kit import CASES, Toy, assert_complains, harness, say, write_toy
from wheel_kit import CODE, needs_uv, requirements, wheel

from metaharness.sandbox.environments import VARIABLE

pytestmark = needs_uv
USES = harness("good", before="import tiny", body="assert tiny.shout('a') == 'A!'")
MISSING = harness("good", before="import nowhere")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A domain whose baseline imports what it declares, and a proposal that imports what it does not."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environments"))
    toy = write_toy(tmp_path / "domain", baselines={"00_uses.py": USES}, proposals={"1_missing.py": MISSING})
    requirements(toy.folder)
    return toy


def test_check_installs_it_tells_so_on_stderr_and_does_so_once(toy: Toy) -> None:
    arguments = ["check", toy.folder, "--model", f"scripted:{toy.script}", "--sandbox", "process"]
    first, second = say(*arguments), say(*arguments)
    assert (first.code, second.code) == (0, 0), first.out
    assert "baselines on the ladder: 00_uses.py" in first.out
    assert "harnesses may import: tiny==1.0" in first.out
    file = toy.folder / "harness-requirements.txt"
    assert first.err.startswith(f"installing {file} for harnesses, once: ./wheels/tiny-1.0-py3-none-any.whl\n")
    assert "\ninstalled in " in first.err
    assert second.err == ""


def test_a_single_harness_is_evaluated_with_it(toy: Toy) -> None:
    said = say("evaluate", toy.folder / "baselines" / "00_uses.py", *toy.arguments("--json"))
    assert said.code == 0, said.err
    assert said.page["statuses"] == {"ok": CASES}


def test_a_run_records_what_was_installed_and_rejects_what_is_not_with_the_place_to_declare_it(
    toy: Toy, tmp_path: Path
) -> None:
    said = say("run", *toy.arguments("--root", tmp_path / "runs", "--name", "one", "--quiet"))
    assert said.code == 0, said.err
    run = tmp_path / "runs" / "one"
    assert json.loads((run / "config.json").read_text())["provenance"]["harness_packages"] == "tiny==1.0"
    message = json.loads((run / "iterations" / "001" / "rejected.json").read_text())["message"]
    assert message.startswith("ModuleNotFoundError: No module named 'nowhere'. No module nowhere is there: ")
    assert str(toy.folder / "harness-requirements.txt") in message


def test_a_run_does_not_go_on_with_other_requirements(toy: Toy, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    assert say("run", *toy.arguments("--root", root, "--name", "one", "--quiet")).code == 0
    file = toy.folder / "harness-requirements.txt"
    before = file.read_text()
    file.write_text(before + "# more\n")
    assert_complains(say("resume", "one", "--root", root), 3, "changed: domain", "start a new run")
    file.write_text(before)
    wheel(toy.folder / "wheels", code=f"{CODE}MORE = 1\n")
    assert_complains(say("resume", "one", "--root", root), 3, "changed: what is installed", "start a new run")


def test_another_release_that_fits_the_same_requirements_is_refused_too(toy: Toy, tmp_path: Path) -> None:
    """As on another machine, or after the environments were deleted: the file is the same, the code is not."""
    root, wheels = tmp_path / "runs", toy.folder / "wheels"
    (toy.folder / "harness-requirements.txt").write_text(f"--no-index\n--find-links {wheels}\ntiny\n")
    assert say("run", *toy.arguments("--root", root, "--name", "one", "--quiet")).code == 0
    wheel(wheels, version="2.0")
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setenv(VARIABLE, str(tmp_path / "other environments"))
        said = say("resume", "one", "--root", root)
    assert_complains(
        said, 3, "changed: what is installed for harnesses (was tiny==1.0, is tiny==2.0)", "start a new run"
    )


def test_requirements_and_an_interpreter_at_once_are_refused(toy: Toy) -> None:
    source = (toy.folder / "domain.py").read_text()
    named = source.replace('name = "colours"', 'name, python = "colours", "/bin/python"')
    (toy.folder / "domain.py").write_text(named)
    said = say("check", toy.folder)
    assert said.code == 3
    assert f"`python` and {toy.folder / 'harness-requirements.txt'} both say what a harness may import" in said.err
