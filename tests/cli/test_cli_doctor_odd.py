"""`doctor` on machines that are odd: without packages, folders, locks, or a sandbox in which a harness answers."""

from __future__ import annotations

import fcntl
import importlib
import os
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from run_kit import say

from metaharness.doctor import root as root_checks
from metaharness.doctor.findings import Finding
from metaharness.doctor.machine import python, surroundings
from metaharness.doctor.root import file_system
from metaharness.gateway.providers.remote import install_hint
from metaharness.gateway.shared import SharedCache, Stored


def found(findings: Any, name: str) -> Finding:
    (one,) = [finding for finding in findings if finding.name == name]
    assert isinstance(one, Finding)
    return one


def of_root(root: Path, name: str) -> tuple[str, str, str | None]:
    """State, text and advice of a check on the folder of runs."""
    (row,) = [
        row
        for row in say("doctor", "--root", root, "--json").page["findings"]
        if (row["area"], row["name"]) == ("run folder", name)
    ]
    return row["state"], row["found"], row["advice"]


# --- the machine ------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No extra is installed, and no key is set."""

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "MOONSHOT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_without_a_key_nobody_misses_the_extras_or_the_list_of_prices(bare: pytest.MonkeyPatch) -> None:
    told = list(python())
    assert {one.state for one in told if one.name in ("list of prices", "extra openai", "extra anthropic")} == {"ok"}
    assert "only where --price tells it" in found(told, "list of prices").found


def test_with_a_key_the_list_of_prices_is_missed_and_it_is_said_how_to_install_it(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("OPENAI_API_KEY", "sk-1")
    prices = found(python(), "list of prices")
    assert prices.state == "warning"
    assert prices.advice == install_hint("genai-prices", extra="prices")
    assert found(python(), "extra openai").state == "warning"
    assert found(python(), "extra anthropic").state == "ok"


def test_a_machine_without_any_folder_for_temporary_files_is_told_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    told = list(surroundings("utf-8"))
    assert found(told, "temporary files").state == "problem"
    assert "export TMPDIR" in (found(told, "temporary files").advice or "")
    assert found(told, "open files").state == "ok", "the checks after it still run"


def test_where_there_is_no_limit_on_open_files_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert found(surroundings("utf-8"), "open files").state == "ok"


# --- the folder of runs -----------------------------------------------------------------------------------------


def test_a_disk_that_gives_a_lock_twice_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda _file, _operation: None)
    state, text, advice = of_root(tmp_path, "locks")
    assert (state, text) == ("problem", "a lock was given twice: two processes could record one run")
    assert advice == "choose a folder on a local disk: --root FOLDER"
    assert list(tmp_path.iterdir()) == []


def test_where_mounts_are_not_listed_the_file_system_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root_checks, "MOUNTS", tmp_path / "mounts")
    assert of_root(tmp_path, "file system")[:2] == (
        "ok",
        "this platform does not tell which one it is: use a local disk",
    )


def test_a_line_of_mounts_that_says_too_little_hides_no_other() -> None:
    assert "nfs4, mounted at /data" in file_system(Path("/data/runs"), "\nhalf a\nserver:/x /data nfs4 rw 0 0\n").found


# --- the shared cache -------------------------------------------------------------------------------------------


def test_a_shared_cache_that_may_only_be_read_keeps_no_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = os.environ["METAHARNESS_CACHE"]
    filled = SharedCache(Path(cache))
    filled.keep("ab" * 32, Stored({"text": "red"}, 1.0))
    filled.close()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != cache and allowed(path, mode))
    (row,) = [
        row
        for row in say("doctor", "--root", tmp_path, "--json").page["findings"]
        if (row["area"], row["name"]) == ("shared cache", "answers")
    ]
    assert (row["state"], row["found"]) == ("warning", f"{cache} cannot be written: new answers are not kept")
    assert "METAHARNESS_CACHE" in row["advice"]


# --- workers ----------------------------------------------------------------------------------------------------

workers = importlib.import_module("metaharness.doctor.workers")  # the package has a function of that name


def test_a_sound_harness_that_is_rejected_here_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "HARNESS", "import a_module_that_is_not_here\n")
    worker = found(workers.workers(), "worker")
    assert worker.state == "problem"
    assert worker.found.startswith("the probe was rejected at import: ")
    assert "a_module_that_is_not_here" in worker.found
    assert "maintain metaharness" in (worker.advice or "")


def test_a_case_that_does_not_end_well_here_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        in_place = True

        def grade(self, context: object) -> bool:
            raise OSError("no opinion")

    monkeypatch.setattr(workers.Probe, "evaluator", Failing())
    worker = found(workers.workers(), "worker")
    assert worker.state == "problem"
    assert worker.found.startswith("a case of the probe ended as evaluator_error: ")
    assert "no opinion" in worker.found
