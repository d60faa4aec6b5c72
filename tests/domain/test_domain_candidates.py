"""Candidates on disk: harness files, harness folders, and what is said beside them."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
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


# --- links, and what is no file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["link.txt", "harness.py", "reasoning.md", "below/link.txt"])
@pytest.mark.parametrize("kind", ["file", "folder", "nothing", "circle"])
def test_a_link_out_of_a_candidates_folder_is_refused_and_named(place: str, kind: str, tmp_path: Path) -> None:
    folder = write_candidate(tmp_path / "odd", {"harness.py": "", "below/notes.txt": ""})
    outside = tmp_path / "outside"
    if kind == "file":
        outside.write_text("a secret")
    elif kind == "folder":
        write_candidate(outside, {"secret.txt": "a secret"})
    link = folder / place
    link.unlink(missing_ok=True)
    link.symlink_to(link if kind == "circle" else outside)
    if place == "harness.py" and kind != "file":
        with pytest.raises(UsageError, match=r"holds no harness\.py"):
            read_candidate(folder)
        return
    with pytest.raises(DomainError) as raised:
        read_candidate(folder)
    assert str(link) in raised.value.message
    assert "is a link that leads out of the candidate's folder" in raised.value.message
    assert raised.value.hint


def test_a_link_within_the_folder_is_the_file_it_points_to(tmp_path: Path) -> None:
    folder = write_candidate(tmp_path / "real", {"harness.py": "", "a.txt": "text"})
    (folder / "b.txt").symlink_to("a.txt")
    (tmp_path / "way").symlink_to(folder)
    for path in (folder, tmp_path / "way"):
        assert read_candidate(path).files == {"harness.py": "", "a.txt": "text", "b.txt": "text"}


def test_a_link_that_is_named_itself_is_the_persons_own_choice(tmp_path: Path) -> None:
    write_candidate(tmp_path / "real.py", "x = 1\n")
    (tmp_path / "link.py").symlink_to("real.py")
    assert read_candidate(tmp_path / "link.py").files == {"harness.py": "x = 1\n"}


def test_what_is_neither_a_file_nor_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe would be waited for; a link to a folder is not followed, and its files would be missing unseen."""
    folder = write_candidate(tmp_path / "odd", {"harness.py": "", "below/notes.txt": ""})
    pipe, inner = folder / "pipe", folder / "inner"
    for make, path in ((lambda: os.mkfifo(pipe), pipe), (lambda: inner.symlink_to("below"), inner)):
        make()
        with pytest.raises(DomainError, match="is neither a file nor a folder of the candidate") as raised:
            read_candidate(folder)
        assert str(path) in raised.value.message
        path.unlink()
    os.mkfifo(tmp_path / "harness.py")
    with pytest.raises(DomainError, match="is no file"):
        read_candidate(tmp_path / "harness.py")


def test_what_is_read_within_a_folder_stays_in_it_whatever_is_changed_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text("secret")
    folder = write_candidate(tmp_path / "workspace" / "candidate", {"harness.py": "x = 1\r\n", "b.py": "y = 2\n"})
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            for make in (
                lambda path: path.symlink_to(tmp_path / "test.jsonl"),
                lambda path: path.write_text("y = 2\n"),
            ):
                make(tmp_path / "new")
                (tmp_path / "new").rename(folder / "b.py")

    swapping = threading.Thread(target=swap)
    swapping.start()
    read = set()
    try:
        for _ in range(500):
            with suppress(DomainError):
                read |= set(read_candidate(folder, within=tmp_path / "workspace").files.items())
    finally:
        ended.set()
        swapping.join()
    assert read <= {("harness.py", "x = 1\n"), ("b.py", "y = 2\n")}
    (folder / "b.py").unlink()
    (folder / "b.py").symlink_to("harness.py")
    assert read_candidate(folder, within=tmp_path / "workspace").files["b.py"] == "x = 1\n"
    with pytest.raises(DomainError, match="it does not lie in"):
        read_candidate(folder, within=write_candidate(tmp_path / "other", {}))
