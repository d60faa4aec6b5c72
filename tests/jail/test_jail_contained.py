"""What a jailed program tries and does not get, each with the control that the same program gets it unjailed."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jail_kit import answering, answering_at, needs_bubblewrap, printed, program, told, unjailed

from metaharness.jail import Attempt, Jail

pytestmark = needs_bubblewrap

SECRET = "the label is turnip"
GOT = {SECRET, "reached", "written", "there"}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "one" / "workspace"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def tries(tmp_path: Path, workspace: Path) -> Iterator[list[tuple[str, str, Any]]]:
    """What the agent tries: each works for a program of this user."""
    test = tmp_path / "data" / "test.jsonl"
    other = tmp_path / "runs" / "two" / "score.json"
    login = tmp_path / "home" / ".ssh" / "key"
    for path in (test, other, login):
        path.parent.mkdir(parents=True)
        path.write_text(SECRET)
    (workspace / "file").symlink_to(test)
    (workspace / "folder").symlink_to(tmp_path / "data")
    abstract = f"\0jail-{os.getpid()}"
    by_path = str(tmp_path / "socket") if len(str(tmp_path)) < 90 else "/tmp/jail-test-socket"
    with (
        answering("127.0.0.1") as near,
        answering("127.0.0.2") as far,
        answering("127.0.0.2", socket.SOCK_DGRAM) as datagrams,
        answering_at(abstract),
        answering_at(by_path),
    ):
        yield [
            ("file", "the test file", str(test)),
            ("file", "the test file through /proc", f"/proc/*/root{test}"),
            ("file", "the test file through a folder that a process is in", "/proc/*/cwd/../../../data/test.jsonl"),
            ("file", "the test file through a link", str(workspace / "file")),
            ("file", "the test file through a linked folder", str(workspace / "folder" / "test.jsonl")),
            ("file", "the test file beside the workspace", "../../../data/test.jsonl"),
            ("file", "another run", str(other)),
            ("file", "the home", str(login)),
            ("file", "the environment of other processes", "/proc/*/environ"),
            ("variable", "a key in the environment", "KEY"),
            ("written", "writing the test file", str(test.with_name("copy.jsonl"))),
            ("signalled", "a process outside", os.getpid()),
            ("tcp", "a port of this machine", ["127.0.0.1", near]),
            ("tcp", "another host", ["127.0.0.2", far]),
            ("udp", "a name server", ["127.0.0.2", datagrams]),
            ("unix", "an abstract socket", abstract),
            ("unix", "a socket by its path", by_path),
            ("connect", "CONNECT to another host", ["127.0.0.2", far]),
            ("http", "HTTP to another host", ["127.0.0.2", far]),
        ]


async def test_what_a_program_of_this_user_gets_a_jailed_one_does_not(
    workspace: Path, tries: list[tuple[str, str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", SECRET)
    command = told(workspace, {"secret": SECRET, "tries": tries})
    free = {one["what"]: one["got"] for one in map(json.loads, unjailed(command, workspace))}
    assert [what for what, got in free.items() if got not in GOT] == []

    ended, lines = await printed(Jail(command, workspace, destinations=("https://api.example.com",)))
    jailed = {one["what"]: one["got"] for one in map(json.loads, lines)}

    assert ended.exit_code == 0, ended.stderr_tail
    assert set(jailed) == set(free)
    assert [what for what, got in jailed.items() if got in GOT] == []
    port = tries[-2][2][1]
    assert "403" in jailed["CONNECT to another host"]
    assert f"no way to 127.0.0.2:{port}; allowed: api.example.com:443" in jailed["HTTP to another host"]
    assert ended.attempts == (Attempt("127.0.0.2", port, allowed=False, count=2),)


async def test_an_allowed_name_leads_to_its_port_alone(workspace: Path) -> None:
    with answering("127.0.0.1") as port, answering("127.0.0.1") as other:
        command = told(
            workspace,
            {
                "secret": SECRET,
                "tries": [("connect", "its port", ["LOCALHOST", port]), ("connect", "another", ["localhost", other])],
            },
        )
        ended, lines = await printed(Jail(command, workspace, destinations=(f"localhost:{port}",)))
    got = [json.loads(line)["got"] for line in lines]
    assert got[0] == "reached"
    assert got[1].startswith("refused: HTTP/1.1 403")
    assert ended.attempts == (
        Attempt("localhost", other, allowed=False, count=1),
        Attempt("localhost", port, allowed=True, count=1),
    )


async def test_what_is_hidden_is_not_there_even_in_what_may_be_read(tmp_path: Path) -> None:
    project = tmp_path / "project"
    workspace = project / "runs" / "one" / "workspace"
    workspace.mkdir(parents=True)
    (project / "data").mkdir()
    (project / "data" / "test.jsonl").write_text(SECRET)
    (project / "answers.txt").write_text(SECRET)
    (project / "readme.txt").write_text("public")
    (project / "runs" / "score.json").write_text(SECRET)
    source = f"""
import os, pathlib
for folder, _, names in os.walk({str(project)!r}):
    for name in names:
        print(name, pathlib.Path(folder, name).read_text()[:20])
"""
    command = program(workspace, source)
    hidden = (project / "data", project / "answers.txt", project / "runs")
    ended, lines = await printed(Jail(command, workspace, readable=(project,), hidden=hidden))
    assert ended.exit_code == 0, ended.stderr_tail
    assert SECRET not in "\n".join(lines)
    assert sorted(line for line in lines if ".txt" in line) == ["answers.txt ", "readme.txt public"]


async def test_no_setting_of_the_kernel_can_be_written(workspace: Path) -> None:
    """Under root they belong to the very user that the program is."""
    source = """
import os
for folder, _, names in os.walk("/proc"):
    if folder.split("/")[2:3] and folder.split("/")[2].isdigit():
        continue
    for name in names:
        try:
            os.close(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            continue
        print(os.path.join(folder, name))
print("tried")
"""
    ended, lines = await printed(Jail(program(workspace, source), workspace))
    assert lines == ["tried"], ended.stderr_tail


async def test_it_writes_only_where_it_may(workspace: Path, tmp_path: Path) -> None:
    (workspace / "candidate").mkdir()
    (workspace / "history").mkdir()
    home = tmp_path / "home of the agent"
    home.mkdir()
    login = tmp_path / "login.json"
    login.write_text("{}")
    places = ["candidate/a", "history/b", "c", "~/d", "~/.agent/login.json", "/tmp/e", "/usr/f", "/g"]
    source = f"""
import os, pathlib
for place in {places!r}:
    try:
        pathlib.Path(os.path.expanduser(place)).write_text("x")
    except OSError:
        continue
    print(place)
"""
    command = program(workspace, source)
    jail = Jail(command, workspace, writable=("candidate",), home=home, home_files={".agent/login.json": login})
    ended, lines = await printed(jail)
    assert ended.exit_code == 0, ended.stderr_tail
    assert lines == ["candidate/a", "~/d", "/tmp/e"]
    assert (workspace / "candidate" / "a").read_text() == (home / "d").read_text() == "x"
    assert "workspace" in ended.sealed_by
    assert "(writes candidate)" in ended.sealed_by
