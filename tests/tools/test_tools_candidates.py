"""How a candidate is handed in: as files, as a path in the project, or as a diff; and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from run_kit import Toy, harness, recorded, write_toy
from tools_kit import BETTER, CASES, Agent, begun, settings

from metaharness.errors import UsageError
from metaharness.tools.candidates import patched

FILES = {"harness.py": "a = 1\nb = 2\nc = 3\n", "notes.txt": "one\ntwo\n"}


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "project" / "domain", cases=CASES)


@pytest.fixture
def project(toy: Toy) -> Path:
    return toy.folder.parent


@pytest.fixture
async def agent(toy: Toy, project: Path) -> AsyncIterator[Agent]:
    async with begun(settings(toy, project / "runs")) as agent:
        yield agent


def files(agent: Agent, number: int) -> dict[str, str]:
    return recorded(agent.root / "first").store.files(number)


# --- the three ways ---------------------------------------------------------------------------------------------


async def test_a_path_is_read_in_the_project(agent: Agent, project: Path) -> None:
    (project / "mine.py").write_text(harness("good"))
    folder = project / "candidates" / "second"
    folder.mkdir(parents=True)
    (folder / "harness.py").write_text(harness("ok"))
    (folder / "prompt.txt").write_text("Say the colour.\n")
    for number, path in enumerate(("mine.py", str(folder), "candidates/second"), 2):
        written = await agent.record("write_harness", path=path, **BETTER)
        assert (written["accepted"], written["iteration"]) == (True, number)
        assert (await agent.record("evaluate"))["mean"] == 1
    assert files(agent, 2) == {"harness.py": harness("good")}
    (folder / "reasoning.md").write_text("Item 5 is wrong.")
    (folder / "proposal.json").write_text('{"axis": "prompt", "components": ["style"], "hypothesis": "old"}')
    await agent.record("write_harness", path="candidates/second", components=["colour"], **BETTER)
    one = recorded(agent.root / "first").iteration(5)
    assert (one.proposal.axis, one.proposal.components) == ("prompt", ["colour"])
    assert one.proposal.hypothesis == BETTER["hypothesis"]
    assert recorded(agent.root / "first").store.reasoning(5) == "Item 5 is wrong."
    await agent.record("evaluate")
    assert (
        files(agent, 3)
        == files(agent, 4)
        == files(agent, 5)
        == {"harness.py": harness("ok"), "prompt.txt": "Say the colour.\n"}
    )
    again = await agent.record("write_harness", path="runs/first/iterations/003/harness", **BETTER)
    assert again["accepted"]


async def test_a_diff_is_made_from_the_iteration_it_names_or_the_incumbent(agent: Agent) -> None:
    diff = (
        "--- 000/harness.py\n+++ b/harness.py\n@@ -5,1 +5,1 @@\n"
        "-        return model.complete('[plain] ' + text).text\n"
        "+        return model.complete('[good] ' + text).text\n"
    )
    assert "does not fit" in await agent.refused("write_harness", diff=diff, **BETTER)
    await agent.record("write_harness", diff=diff, base=0, **BETTER)
    assert files(agent, 2) == {"harness.py": harness("good")}
    one = recorded(agent.root / "first").iteration(2)
    assert one.proposal.parents == [0]
    assert (await agent.record("evaluate"))["mean"] == 1
    best = diff.replace("plain", "good").replace(
        "+        return model.complete('[good]", "+        return model.complete('[ok]"
    )
    await agent.record("write_harness", diff=best, **BETTER)
    assert files(agent, 3) == {"harness.py": harness("ok")}


async def test_a_diff_as_read_harness_shows_it_can_be_handed_in(agent: Agent) -> None:
    await agent.evaluated("good")
    shown = await agent.text("read_harness", iteration=2, against=0)
    diff = "\n".join(shown.split("\n")[1:-3])
    await agent.record("write_harness", diff=diff, base=0, **BETTER)
    assert files(agent, 3) == files(agent, 2)


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "nothing was given"),
        ({"files": {"harness.py": "x"}, "path": "x.py"}, "files and path was given"),
        ({"path": "../outside.py"}, "is not in"),
        ({"path": "/etc/passwd"}, "is not in"),
        ({"path": "~nobody-at-all/x.py"}, "cannot be a path"),
        ({"path": "a\x00.py"}, "cannot be a path"),
        ({"path": "n" * 5_000 + ".py"}, "cannot be a path"),
        ({"path": "missing.py"}, "there is no harness at"),
        ({"path": "missing"}, "is no Python file"),
        ({"path": "link.py"}, "is not in"),
        ({"path": "circle.py"}, "cannot be a path"),
        ({"path": "latin.py"}, "text in UTF-8"),
        ({"path": "empty"}, "holds no harness.py"),
        ({"path": "linking"}, "leads out of the candidate's folder"),
        ({"path": "."}, "holds more than a candidate"),
        ({"path": "domain"}, "holds more than a candidate"),
        ({"path": "domain/data"}, "holds more than a candidate"),
        ({"path": "runs"}, "holds more than a candidate"),
        ({"path": "runs/first"}, "holds more than a candidate"),
        ({"path": "runs/first/sealed"}, "holds more than a candidate"),
        ({"diff": "nonsense"}, "that is no diff"),
        ({"diff": "--- a/harness.py\n+++ b/harness.py\n"}, "has no hunks"),
        ({"diff": "--- a/other.py\n+++ b/other.py\n@@ -1 +1 @@\n-x\n+y\n"}, "other.py, which is not there"),
        ({"diff": "--- a/other.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"}, "removes other.py, which is not there"),
        ({"diff": "--- a/harness.py\n+++ b/harness.py\n@@ one @@\n-x\n"}, "cannot be read"),
        ({"diff": "--- a/harness.py\n+++ b/harness.py\n@@ -1 +1 @@\nx\n"}, "cannot be read"),
        ({"diff": "--- a/harness.py\n+++ b/harness.py\n@@ -1 +1 @@\n-x\n+y\n"}, "does not fit"),
        ({"diff": "--- a/h\n+++ b/h\n@@ -1 +1 @@\n-x\n+y\n", "base": 9}, "there is no iteration 009"),
    ],
)
@pytest.mark.parametrize("tool", ["write_harness", "check_harness"])
async def test_what_cannot_be_used_is_refused_and_nothing_is_recorded(
    tool: str, given: dict[str, Any], said: str, agent: Agent, project: Path
) -> None:
    secret = project.parent / "outside.py"
    secret.write_text("secret = 1\n")
    (project / "link.py").symlink_to(secret)
    (project / "circle.py").symlink_to(project / "circle.py")
    (project / "latin.py").write_bytes(b"# caf\xe9\n")
    for name in ("empty", "linking"):
        (project / name).mkdir()
    for folder in ("linking", ".", "domain", "domain/data", "runs", "runs/first", "runs/first/sealed"):
        (project / folder).mkdir(exist_ok=True)
        (project / folder / "harness.py").write_text(harness("good"))
    (project / "linking" / "notes.txt").symlink_to(secret)
    about = BETTER if tool == "write_harness" else {}
    error = await agent.refused(tool, **given, **about)
    assert said in error
    assert "hint: " in error
    assert len(error) < 1_000
    assert len(recorded(agent.root / "first")) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"other.py": "x = 1\n"},
        {"harness.py": "x = 1\n", "../up.py": ""},
        {"harness.py": "x = 1\n", "/abs.py": ""},
        {"harness.py": "x = 1\n", "a\nb": ""},
        {"harness.py": "x = 1\x00\n"},
        {"harness.py": ""},
    ],
)
async def test_files_that_are_no_harness_are_recorded_as_rejected(wrong: dict[str, str], agent: Agent) -> None:
    tried = await agent.text("check_harness", files=wrong)
    assert "the ladder would reject it at" in tried
    written = await agent.hand_in(wrong)
    assert not written["accepted"]
    assert written["message"]
    assert (await agent.evaluated("good"))["mean"] == 1


async def test_a_candidate_whose_source_is_gone_can_be_handed_in_again(agent: Agent, project: Path) -> None:
    (project / "mine.py").write_text(harness("good"))
    await agent.record("write_harness", path="mine.py", **BETTER)
    (project / "mine.py").unlink()
    assert (await agent.record("evaluate"))["mean"] == 1
    shutil.copy(agent.root / "first" / "iterations" / "002" / "harness.py", project / "mine.py")
    assert (await agent.record("write_harness", path="mine.py", **BETTER))["accepted"]


# --- diffs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("diff", "wanted"),
    [
        (
            "--- a/harness.py\n+++ b/harness.py\n@@ -2,1 +2,1 @@\n-b = 2\n+b = 4\n",
            {"harness.py": "a = 1\nb = 4\nc = 3\n"},
        ),
        ("--- harness.py\n+++ harness.py\n@@ -90 +90 @@\n a = 1\n-b = 2\n", {"harness.py": "a = 1\nc = 3\n"}),
        ("--- a/harness.py\n+++ b/harness.py\n@@ -3,0 +4 @@\n+d = 4\n", {"harness.py": "a = 1\nb = 2\nc = 3\nd = 4\n"}),
        ("--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1 @@\n+new\n", {"new.txt": "new\n"}),
        ("--- a/notes.txt\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-one\n-two\n", {"notes.txt": None}),
        (
            "diff --git a/notes.txt b/notes.txt\nindex 1..2 100644\n--- a/notes.txt\n+++ b/notes.txt\n"
            "@@ -1,2 +1,2 @@\n-one\n+eins\n two\ndiff --git a/new.txt b/new.txt\nnew file mode 100644\nindex 0..1\n"
            "--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1 @@\n+new\n\\ No newline at end of file\n",
            {"notes.txt": "eins\ntwo\n", "new.txt": "new\n"},
        ),
        (
            "--- a/harness.py\r\n+++ b/harness.py\r\n@@ -1,1 +1,1 @@\r\n-a = 1\r\n+a = 9\r\n",
            {"harness.py": "a = 9\nb = 2\nc = 3\n"},
        ),
    ],
    ids=["change", "far away", "insert", "add", "remove", "git", "line ends"],
)
def test_a_diff_is_applied_where_its_text_is(diff: str, wanted: dict[str, str | None]) -> None:
    expected = {name: text for name, text in {**FILES, **wanted}.items() if text is not None}
    assert patched(FILES, diff) == expected


def test_only_a_line_feed_ends_a_line() -> None:
    source = {"harness.py": "a = 'x\x0cy\u2028z'\nb = 2\n"}
    diff = "--- a/harness.py\n+++ b/harness.py\n@@ -2 +2 @@\n-b = 2\n+b = '\u2028'\n"
    assert patched(source, diff) == {"harness.py": "a = 'x\x0cy\u2028z'\nb = '\u2028'\n"}


def test_of_several_places_the_nearest_is_changed() -> None:
    source = {"harness.py": "x\ny\nx\ny\nx\n"}
    diff = "--- a/harness.py\n+++ b/harness.py\n@@ -{line} +{line} @@\n-x\n+z\n"
    assert patched(source, diff.format(line=3)) == {"harness.py": "x\ny\nz\ny\nx\n"}
    assert patched(source, diff.format(line=5)) == {"harness.py": "x\ny\nx\ny\nz\n"}


def test_a_part_that_does_not_fit_changes_nothing() -> None:
    diff = "--- a/harness.py\n+++ b/harness.py\n@@ -1 +1 @@\n-a = 1\n+a = 2\n@@ -3 +3 @@\n-nowhere\n+there\n"
    with pytest.raises(UsageError, match=r"the hunk at line 3 of harness\.py does not fit"):
        patched(FILES, diff)
    assert FILES["harness.py"] == "a = 1\nb = 2\nc = 3\n"
