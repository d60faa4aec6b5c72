"""File names of candidates come from a proposer and are not trusted."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_kit import files_below, new_run

from metaharness.errors import CandidateError
from metaharness.records import Proposal
from metaharness.store import check_candidate_files

BAD_NAMES = {
    "": "is empty",
    "/etc/passwd": "absolute",
    "//host/share": "absolute",
    "C:/windows": "absolute",
    "c:x": "absolute",
    "../escape.py": r"`\.\.`",
    "a/../../escape.py": r"`\.\.`",
    "a/..": r"`\.\.`",
    "./a.py": "empty part",
    "a//b.py": "empty part",
    "folder/": "empty part",
    ".": "empty part",
    "..": "empty part",
    "a\\b.py": "backslash",
    "..\\b.py": "backslash",
    "nul\0.py": "not printable",
    "line\nbreak.py": "not printable",
    "bell\x07.py": "not printable",
    "right\u202eleft.py": "not printable",
    "half\ud800.py": "not printable",
    "a" * 121: "too long",
    "é" * 61: "too long",
    "/".join(["abcdefgh"] * 50): "too long",
    "__pycache__/harness.pyc": "belongs to Python",
}
GOOD_NAMES = [
    "a.py",
    "deep/er/and/deeper.txt",
    "..hidden",
    "...",
    "spaces are fine.md",
    "système.txt",
    "-rf",
    "~root",
    "$HOME",
    "a" * 120,
]
CLASHES = [
    ("Prompt.txt", "prompt.txt"),
    ("Parts/a.py", "parts/b.py"),
    ("straße.txt", "STRASSE.txt"),
    ("é.txt", "e\u0301.txt"),
    ("HARNESS.PY", "other.py"),
    ("harness.py/inner.py", "other.py"),
    ("node", "node/leaf.py"),
    ("node/leaf.py", "node"),
    ("Node", "node/leaf.py"),
]


@pytest.mark.parametrize(("name", "reason"), BAD_NAMES.items(), ids=ascii)
def test_a_name_that_could_leave_the_folder_or_confuse_a_reader_is_refused(
    tmp_path: Path, name: str, reason: str
) -> None:
    with new_run(tmp_path) as store:
        before = files_below(tmp_path)
        with pytest.raises(CandidateError, match=reason):
            store.add_iteration(Proposal(files={"harness.py": "", name: ""}), round=0, slot=0)
        assert files_below(tmp_path) == before
        assert store.next_number() == 0


@pytest.mark.parametrize("pair", CLASHES, ids=ascii)
def test_names_that_some_file_systems_cannot_tell_apart_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(CandidateError, match="cannot lie beside each other"):
        check_candidate_files({"harness.py": "", **dict.fromkeys(pair, "")})


@pytest.mark.parametrize("files", [{}, {"main.py": ""}, {"Harness.py": ""}, {"src/harness.py": ""}])
def test_a_candidate_needs_its_entry(files: dict[str, str]) -> None:
    with pytest.raises(CandidateError, match=r"no harness\.py"):
        check_candidate_files(files)


def test_content_that_is_not_text_is_refused() -> None:
    with pytest.raises(CandidateError, match=r"content of harness\.py is bytes"):
        check_candidate_files({"harness.py": b""})  # type: ignore[dict-item]


def test_ordinary_names_are_taken_as_they_are(tmp_path: Path) -> None:
    files = {"harness.py": "", **dict.fromkeys(GOOD_NAMES, "content")}
    with new_run(tmp_path) as store:
        number = store.add_iteration(Proposal(files=files), round=0, slot=0).iteration
        assert store.files(number) == files
        assert store.candidate_path(number).is_dir()
