"""The fence of the plugin: what an agent's own tools may not touch, told to the program as Claude Code tells it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from meta_kit import ROOT

FENCE = ROOT / "hooks" / "fence.py"
PASS, STOP = 0, 2


class Judged(NamedTuple):
    code: int
    err: str


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A domain with a run in a project, cases sealed in the home, and a stranger's data that look alike."""
    project = tmp_path / "project"
    write(project / "desk" / "domain.py", "")
    for split in ("train", "search", "test"):
        write(project / "desk" / "data" / f"{split}.jsonl", "{}\n")
    write(project / "desk" / "harness.py", "")
    write(project / "elsewhere" / "test.csv", "")
    run = project / "runs" / "first"
    config = {"config": {"domain": "desk", "domain_options": {"data": str(project / "elsewhere")}}}
    write(run / "config.json", json.dumps(config))
    write(run / "iterations" / "000" / "eval_trace.jsonl", "{}\n")
    write(run / "sealed" / "opening.json", "{}")
    write(project / "runs" / ".gitignore", "*\n")
    write(project / "other" / "data" / "test.jsonl", "not ours\n")
    write(project / "other" / "runs" / "events.out", "not ours\n")
    write(tmp_path / "home" / ".local" / "share" / "metaharness" / "sealed" / "ab" / "cases.json", "[]")
    (project / "link.txt").symlink_to(project / "desk" / "data" / "test.jsonl")
    return project


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def told(project: Path, text: str | bytes, **environment: str) -> Judged:
    """The program's answer to what stands on its stdin."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(FENCE)],
        input=text.encode() if isinstance(text, str) else text,
        cwd=project,
        env={"HOME": str(project.parent / "home"), "CLAUDE_PROJECT_DIR": str(project), **environment},
        capture_output=True,
        check=False,
    )
    assert done.stdout == b""
    return Judged(done.returncode, done.stderr.decode())


def judged(project: Path, tool: str, **given: Any) -> Judged:
    call = {"tool_name": tool, "tool_input": given, "cwd": str(project), "hook_event_name": "PreToolUse"}
    return told(project, json.dumps(call))


SEALED = [
    "desk/data/test.jsonl",
    "desk/data/../data/test.jsonl",
    "link.txt",
    "elsewhere/test.csv",
    "runs/first/sealed/opening.json",
    "runs/first/sealed",
    "runs/not_yet/sealed/result.json",
    "~/.local/share/metaharness/sealed/ab/cases.json",
]


@pytest.mark.parametrize("path", SEALED)
def test_what_is_sealed_is_not_read_and_the_agent_is_told_whose_it_is(project: Path, path: str) -> None:
    answer = judged(project, "Read", file_path=path if path.startswith("~") else str(project / path))
    assert answer.code == STOP
    assert "only a person opens" in answer.err


@pytest.mark.parametrize("tool", ["Read", "Edit", "MultiEdit", "Write", "NotebookEdit", "Grep", "Glob", "LS"])
def test_every_tool_for_files_is_stopped_at_the_test_split(project: Path, tool: str) -> None:
    path = str(project / "desk" / "data" / "test.jsonl")
    field = {"NotebookEdit": "notebook_path", "Grep": "path", "LS": "path", "Glob": "pattern"}.get(tool, "file_path")
    assert judged(project, tool, **{field: path}).code == STOP


@pytest.mark.parametrize(
    "path",
    [
        "desk/data/train.jsonl",
        "desk/data/search.jsonl",
        "desk/harness.py",
        "runs/first/config.json",
        "runs/first/iterations/000/eval_trace.jsonl",
        "other/data/test.jsonl",
        "not/there.txt",
    ],
)
def test_everything_else_is_read(project: Path, path: str) -> None:
    assert judged(project, "Read", file_path=str(project / path)) == Judged(PASS, "")


def test_cases_sealed_elsewhere_are_found_by_the_environment(project: Path) -> None:
    call = {"tool_name": "Read", "tool_input": {"file_path": "/data/metaharness/sealed/ab/x"}, "cwd": "/"}
    assert told(project, json.dumps(call)).code == PASS
    assert told(project, json.dumps(call), XDG_DATA_HOME="/data").code == STOP


@pytest.mark.parametrize("tool", ["Write", "Edit"])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("runs/first/iterations/000/score.json", STOP),
        ("runs/second/config.json", STOP),
        ("runs/notes.md", STOP),
        ("notes.md", PASS),
        ("desk/harness.py", PASS),
        ("other/runs/notes.md", PASS),
    ],
)
def test_the_runs_are_written_by_metaharness_alone(project: Path, tool: str, path: str, code: int) -> None:
    answer = judged(project, tool, file_path=str(project / path))
    assert answer.code == code
    assert ("write_harness" in answer.err) == (code == STOP)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, STOP),
        ({"path": "desk"}, STOP),
        ({"path": "desk", "glob": "*.jsonl"}, STOP),
        ({"path": "desk", "glob": "*.{py,jsonl}"}, STOP),
        ({"path": "desk", "type": "json"}, STOP),
        ({"path": "desk", "glob": "*.py"}, PASS),
        ({"path": "desk", "glob": "!test.*"}, PASS),
        ({"path": "desk", "type": "py"}, PASS),
        ({"path": "desk/data/train.jsonl"}, PASS),
        ({"path": "runs/first"}, STOP),
        ({"path": "runs/first/iterations"}, PASS),
        ({"path": "other"}, PASS),
    ],
)
def test_a_search_through_a_folder_stops_at_what_is_sealed_in_it(
    project: Path, given: dict[str, str], code: int
) -> None:
    answer = judged(project, "Grep", pattern="x", **given)
    assert answer.code == code
    assert ("narrower folder" in answer.err) == (code == STOP)


@pytest.mark.parametrize(
    "command",
    [
        "cat desk/data/test.jsonl",
        "head -3 'desk/data/test.jsonl' | wc",
        "cat desk/data/te*",
        "cat desk/data/{train,test}.jsonl",
        "cd desk/data && cat test.jsonl",
        "python -c \"print(open('desk/data/test.jsonl').read())\"",
        "jq . < desk/data/test.jsonl",
        "wc --files0-from=desk/data/test.jsonl",
        "cat runs/*/sealed/*",
        "ls $HOME/.local/share/metaharness/sealed",
        "grep -rn label desk",
        "grep -r label",
        "rg label",
        "rg -A 3 label desk",
        "find desk -type f -exec cat {} +",
        "tar czf /tmp/x.tgz desk",
        "cp -r desk /tmp/x",
        "rm -rf runs/first",
        "rm -rf runs",
        "echo '{}' > runs/first/iterations/000/score.json",
        "echo x >>runs/first/events.jsonl",
        "sed -i s/0/1/ runs/first/iterations/000/score.json",
        "cp desk/harness.py runs/first/iterations/000/harness.py",
        "true; sudo mv runs/first /tmp/",
        "cat <<EOF\nit's\nEOF\ncat desk/data/test.jsonl",
    ],
)
def test_an_obvious_command_is_stopped(project: Path, command: str) -> None:
    assert judged(project, "Bash", command=command).code == STOP


@pytest.mark.parametrize(
    "command",
    [
        "cat desk/data/train.jsonl",
        "cat runs/first/iterations/000/eval_trace.jsonl | head",
        "grep -rn label desk --include=*.py",
        "grep label desk/data/train.jsonl",
        "rg -t py label desk",
        "rg --files",
        "cp runs/first/iterations/000/eval_trace.jsonl /tmp/trace.jsonl",
        "find . -name '*.py'",
        "pytest test && npm test",
        "metaharness submit candidate/ --run first",
        "git commit -m 'a fence for the test split' > /dev/null 2>&1",
        "cat other/data/test.jsonl",
        "rm -rf other/runs",
        "",
    ],
)
def test_an_ordinary_command_passes(project: Path, command: str) -> None:
    assert judged(project, "Bash", command=command) == Judged(PASS, "")


def test_it_runs_under_the_python3_of_an_older_machine() -> None:
    ast.parse(FENCE.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_a_shell_passes_it(project: Path) -> None:
    """No sandbox: said in the module, in the README, and here."""
    assert judged(project, "Bash", command="cd desk; cat data/t$(echo est).jsonl").code == PASS


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"tool_name": "Read"}',
        b'{"tool_name": "Read", "tool_input": null}',
        b'{"tool_name": "Read", "tool_input": {}}',
        b'{"tool_name": "Read", "tool_input": {"file_path": ["runs/first/sealed"]}}',
        b'{"tool_name": "Read", "tool_input": {"file_path": "a\\u0000b"}}',
        b'{"tool_name": "Bash", "tool_input": {"command": 7}}',
        b'{"tool_name": 7, "tool_input": {}}',
        b'{"a":' * 100_000,
    ],
)
def test_a_call_that_cannot_be_read_does_not_pass(project: Path, text: bytes) -> None:
    answer = told(project, text)
    assert answer.code == STOP
    assert "cannot read this call" in answer.err
    assert "Traceback" not in answer.err


def test_a_tool_that_is_not_about_files_passes(project: Path) -> None:
    assert judged(project, "WebFetch", url="https://example.org/data/test.jsonl").code == PASS


def test_a_run_that_cannot_be_read_does_not_stop_ordinary_work(project: Path) -> None:
    (project / "runs" / "first" / "config.json").write_text("torn {")
    assert judged(project, "Read", file_path=str(project / "other" / "data" / "test.jsonl")).code == PASS


def test_a_folder_that_is_not_there_is_no_fault(project: Path) -> None:
    assert judged(project, "Grep", pattern="x", path="nowhere").code == PASS
