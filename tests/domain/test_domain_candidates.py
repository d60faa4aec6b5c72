"""Candidates on disk: harness files, harness folders, and what is said beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_kit import harness, write_candidate

from metaharness.domain import candidates_in
from metaharness.errors import DomainError, UsageError
from metaharness.loading import read_candidate


def test_a_file_is_a_candidate_named_after_it(tmp_path: Path) -> None:
    path = write_candidate(tmp_path / "07_quick.py", harness("good"))
    found = read_candidate(path)
    assert (found.files, found.name, found.parents) == ({"harness.py": harness("good")}, "07_quick", ())


def test_a_folder_holds_the_files_and_what_the_proposer_says(tmp_path: Path) -> None:
    about = {
        "name": "quick",
        "hypothesis": "shorter is better",
        "parents": [0, 2],
        "axis": "prompt",
        "components": ["style", "order"],
        "predicted_effect": "+0.1",
    }
    files = {"harness.py": "x = 1\n", "prompts/system.txt": "be brief", "data/proposal.json": "[]"}
    meta = {"proposal.json": json.dumps(about), "reasoning.md": "it was too long", "__pycache__/x.pyc": "cache"}
    found = read_candidate(write_candidate(tmp_path / "07", {**files, **meta}))
    assert found.files == files
    assert (found.reasoning, found.hypothesis, found.name) == ("it was too long", "shorter is better", "quick")
    assert (found.parents, found.components, found.axis) == ((0, 2), ("style", "order"), "prompt")
    assert found.predicted_effect == "+0.1"


def test_a_folder_needs_nothing_beside_its_entry(tmp_path: Path) -> None:
    found = read_candidate(write_candidate(tmp_path / "plain", {"harness.py": "x = 1\n"}))
    assert (found.name, found.hypothesis, found.reasoning, found.parents) == ("plain", "", "", ())


def test_candidates_of_a_folder_are_sorted_and_other_things_are_passed_over(tmp_path: Path) -> None:
    for name in ("10_b.py", "02_a.py", "_helper.py", ".hidden.py", "notes.txt"):
        (tmp_path / name).write_text("")
    write_candidate(tmp_path / "05_folder", {"harness.py": ""})
    write_candidate(tmp_path / "empty", {"readme.md": ""})
    assert [path.name for path in candidates_in(tmp_path)] == ["02_a.py", "05_folder", "10_b.py"]
    assert candidates_in(tmp_path / "nowhere") == []


def test_nothing_there_and_no_entry_are_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no harness at "):
        read_candidate(tmp_path / "no.py")
    with pytest.raises(UsageError, match=r"holds no harness\.py"):
        read_candidate(tmp_path)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "must hold a JSON object"),
        ('{"parents": "000"}', "parents is '000'"),
        ('{"parents": ["0"]}', "parents is ['0']"),
        ('{"components": "style"}', "components is 'style'"),
        ('{"components": null}', "components is None"),
    ],
)
def test_a_proposal_that_is_malformed_is_named(about: str, message: str, tmp_path: Path) -> None:
    folder = write_candidate(tmp_path / "odd", {"harness.py": "", "proposal.json": about})
    with pytest.raises(DomainError) as raised:
        read_candidate(folder)
    assert "proposal.json" in raised.value.message
    assert message in raised.value.message
    assert "hypothesis" in str(raised.value.hint)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    folder = write_candidate(tmp_path / "odd", {"harness.py": ""})
    (folder / "picture.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(DomainError, match=r"cannot read .*picture\.png") as raised:
        read_candidate(folder)
    assert "UTF-8" in str(raised.value.hint)


@pytest.mark.parametrize("folder", [False, True])
def test_a_symbolic_link_in_a_candidate_is_refused_and_what_it_leads_to_is_not_read(
    tmp_path: Path, folder: bool
) -> None:
    """Else whoever writes a candidate could have any file of the machine taken into the records."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "labels.jsonl").write_text("secret", encoding="utf-8")
    candidate = tmp_path / "candidate"
    candidate.mkdir()
    (candidate / "harness.py").write_text("class Harness: ...", encoding="utf-8")
    target = tmp_path / "elsewhere" if folder else tmp_path / "elsewhere" / "labels.jsonl"
    (candidate / "notes").symlink_to(target)
    with pytest.raises(DomainError, match="notes is a symbolic link"):
        read_candidate(candidate)
