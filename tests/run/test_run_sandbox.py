"""Every number of a run says in which sandbox it was made, and a run that cannot have its sandbox does not begin."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from finish_kit import finish_toy, finished, searched_run
from run_kit import write_toy

from metaharness.errors import SandboxError
from metaharness.run import Run
from metaharness.sandbox.landlock import landlock_abi

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
needs_landlock = pytest.mark.skipif(landlock_abi() < 1, reason="this kernel has no Landlock")


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        pytest.param("auto", "bubblewrap", marks=needs_bubblewrap),
        pytest.param("landlock", "landlock", marks=needs_landlock),
        ("process", "process"),
    ],
)
async def test_every_score_and_the_sealed_test_say_which_sandbox_it_was(asked: str, taken: str, tmp_path: Path) -> None:
    run = await searched_run(finish_toy(tmp_path / "domain"), tmp_path / "runs", sandbox=asked)
    result = await finished(run)
    scores = [json.loads(path.read_text()) for path in sorted(run.glob("iterations/*/score.json"))]
    assert len(scores) >= 2
    assert {score["sandbox"] for score in scores} == {taken}
    assert result.sandbox == taken


async def test_a_domain_whose_harnesses_start_processes_gets_no_run_under_landlock(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    source = toy.folder / "domain.py"
    source.write_text(source.read_text().replace("(Domain):", "(Domain):\n    subprocess = True\n", 1))
    with pytest.raises(SandboxError, match=r"Domain\.subprocess"):
        async with Run.create(toy.config(sandbox="landlock"), tmp_path / "runs"):
            raise AssertionError("a run was begun")
    assert not list((tmp_path / "runs").glob("*")), "nothing is recorded"
