"""`doctor`: what it says of a machine, of keys, models and runs; and that it leaves everything as it was."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from run_kit import (
    Said,
    Toy,
    assert_complains,
    command,
    count_lines,
    executed,
    harness,
    lines,
    say,
    started,
    wait_until,
    write_toy,
)
from wire_server import Reply, serve

import metaharness
from metaharness.doctor.findings import AGAIN, Finding, guarded
from metaharness.doctor.machine import extra, interpreter, open_files, system
from metaharness.doctor.root import file_system, space
from metaharness.errors import StoreError
from metaharness.gateway.providers.remote import install_hint, sdk_bounds
from metaharness.store import owner_of

SECRET = "sk-proj-Zq81mNv0RtYwXc5B"
AREAS = ("python", "environment", "keys", "sandbox", "models", "shared cache", "sealed cases", "run folder", "runs")
VARIABLES = (
    *("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "MOONSHOT_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL"),
    *("PROPOSER_MODEL", "EVALUATOR_MODEL"),
)
Row = dict[str, Any]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one that came to its end."""
    folder = tmp_path_factory.mktemp("doctor")
    toy = write_toy(folder / "domain", proposals={"1_good.py": harness("good")})
    said = say("run", *toy.arguments("--root", folder / "runs", "--name", "first", "--quiet"))
    assert said.code == 0, said.err
    return folder / "runs"


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return shutil.copytree(root, tmp_path / "runs")


@pytest.fixture
def slow(tmp_path: Path) -> Toy:
    """A domain whose model takes a minute for every answer."""
    return write_toy(tmp_path / "domain", proposals={"1_good.py": harness("good")}, delay_ms=60_000)


def examined(*arguments: object, code: int = 0) -> list[Row]:
    said = say("doctor", *arguments, "--json")
    assert (said.code, said.err) == (code, "")
    findings: list[Row] = said.page["findings"]
    return findings


def among(findings: list[Row], area: str, name: str | None = None) -> list[Row]:
    return [finding for finding in findings if finding["area"] == area and name in (None, finding["name"])]


def of_run(findings: list[Row], name: str = "first") -> list[tuple[str, str]]:
    return [(finding["state"], finding["found"]) for finding in among(findings, "runs", name)]


def with_environment(*arguments: object, **variables: str) -> Said:
    """The command in a process that has only these of the variables that `doctor` tells about."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = executed("doctor", *arguments, env={**kept, "NO_PROXY": "127.0.0.1", **variables})
    assert "Traceback" not in done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- a machine that is fit --------------------------------------------------------------------------------------


def test_a_fit_machine_exits_0_with_every_area_and_a_count_at_the_end(root: Path) -> None:
    said = with_environment("--root", root)
    assert (said.code, said.err) == (0, "")
    blocks = said.out.strip().split("\n\n")
    assert tuple(block.splitlines()[0] for block in blocks[:-1]) == AREAS
    for block in blocks[:-1]:
        for line in block.splitlines()[1:]:
            assert line.startswith(("ok ", "warning ", "problem ", "         -> do: "))
    assert blocks[-1].endswith(" warning, 0 problems") or blocks[-1].endswith(" warnings, 0 problems")
    assert "ok       first: ended: the one candidate was proposed; 3 iterations; schema 1, " in said.out


def test_every_warning_and_problem_says_what_to_do(root: Path, copy: Path) -> None:
    (copy / "first" / "events.jsonl").write_bytes(b"{\n")
    for finding in examined("--root", copy, code=1):
        assert set(finding) == {"area", "name", "state", "found", "advice"}
        assert finding["state"] in ("ok", "warning", "problem")
        assert (finding["advice"] is None) is (finding["state"] == "ok"), finding


def test_as_json_it_has_the_findings_and_counts_them(root: Path) -> None:
    page = say("doctor", "--root", root, "--json").page
    assert set(page) == {"findings", "ok", "warning", "problem"}
    for state in ("ok", "warning", "problem"):
        assert page[state] == sum(finding["state"] == state for finding in page["findings"])
    assert {finding["area"] for finding in page["findings"]} == set(AREAS)


def test_a_worker_is_really_started_in_the_sandbox_that_auto_takes(tmp_path: Path) -> None:
    *sandboxes, worker = among(examined("--root", tmp_path), "sandbox")
    assert worker["state"] == "ok"
    assert "first answer " in worker["found"]
    assert " ms after the start, 2 cases scored" in worker["found"]
    taken = [one["name"] for one in sandboxes if "`--sandbox auto` takes it" in one["found"]]
    refused = [one["name"] for one in sandboxes if one["state"] == "problem"]
    assert len(taken + refused) == 1
    assert taken in (["bubblewrap"], ["landlock"], ["sandbox-exec"], [])


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (StoreError("cannot read it", hint="make room"), ("cannot read it", "make room")),
        (FileNotFoundError(2, "No such file", "somewhere"), ("No such file (somewhere)", AGAIN)),
        (OSError(), ("OSError", AGAIN)),
    ],
)
def test_a_check_that_fails_is_a_problem_after_what_it_had_found(error: Exception, found: tuple[str, str]) -> None:
    first = Finding("runs", "a", "ok", "there")

    def check() -> Iterator[Finding]:
        yield first
        raise error

    assert list(guarded("runs", "a", check)) == [first, Finding("runs", "a", "problem", *found)]


def test_without_a_model_only_the_embedded_one_is_asked(tmp_path: Path) -> None:
    (finding,) = among(examined("--root", tmp_path), "models")
    assert (finding["name"], finding["state"]) == ("embedded:icl", "ok")


# --- Python, packages and what surrounds the process ------------------------------------------------------------


def test_an_old_python_and_windows_are_problems_and_macos_is_a_warning() -> None:
    assert interpreter((3, 11, 0), "python").state == "ok"
    old = interpreter((3, 10, 9), "python")
    assert (old.state, "3.11" in (old.advice or "")) == ("problem", True)
    assert [system(name).state for name in ("linux", "darwin", "freebsd14", "win32")] == [
        *("ok", "warning", "warning", "problem")
    ]
    assert "WSL 2" in (system("win32").advice or "")


def test_a_package_is_missed_only_when_a_key_for_it_is_set() -> None:
    assert extra("openai", None, [], "").state == "ok"
    missed = extra("openai", None, ["OPENAI_API_KEY"], "")
    assert (missed.state, missed.found) == ("warning", "not installed, but OPENAI_API_KEY is set")
    assert missed.advice == install_hint("openai")
    assert extra("openai", "3.52.0", [], "<4,>=2").state == "ok"
    assert extra("openai", "1.99.1", [], "<4,>=2").state == "warning"
    assert extra("anthropic", "2.9.3", [], "<3,>=2.10").state == "warning"
    assert extra("anthropic", "3.0.0", [], "<3,>=2.10").state == "warning"


def test_where_the_extras_are_not_installed_it_says_how_to_install_them(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(anyio.__file__).parent.parent.iterdir():
        if not entry.name.startswith(("anthropic", "openai")):
            (packages / entry.name).symlink_to(entry)
    paths = [str(packages), str(Path(metaharness.__file__).parent.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENAI_API_KEY": SECRET}
    arguments = ["doctor", "--root", str(tmp_path), "--model", "openai:x", "--json"]
    done = subprocess.run(
        [sys.executable, "-S", "-m", "metaharness", *arguments],
        env={name: value for name, value in environment.items() if name != "ANTHROPIC_API_KEY"},
        capture_output=True,
        text=True,
        check=False,
    )
    findings = json.loads(done.stdout)["findings"]
    (openai,) = among(findings, "python", "extra openai")
    (anthropic,) = among(findings, "python", "extra anthropic")
    assert (openai["state"], anthropic["state"]) == ("warning", "ok")
    assert openai["advice"].endswith(f" 'openai{sdk_bounds('openai')}'"), openai["advice"]
    (model,) = among(findings, "models", "openai:x")
    assert (model["state"], model["found"]) == ("problem", "the package 'openai' is not installed")
    assert (done.returncode, done.stderr) == (1, "")


def test_a_terminal_that_does_not_write_utf_8_is_a_warning_and_gets_every_line(tmp_path: Path) -> None:
    said = with_environment("--root", tmp_path / "größe", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert said.code == 0
    assert "warning  stdout: writes ascii" in said.out
    assert "gr\\xf6\\xdfe is not there yet" in said.out


def test_a_folder_for_temporary_files_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    page = with_environment("--root", tmp_path, "--json", TMPDIR=str(tmp_path / "file" / "below")).page
    (finding,) = among(page["findings"], "environment", "temporary files")
    assert finding["state"] == "warning"
    assert "which cannot be written" in finding["found"]


def test_a_low_limit_on_open_files_is_a_warning(tmp_path: Path) -> None:
    assert open_files(-1).state == "ok"
    assert open_files(1024).state == "ok"
    script = f"ulimit -n 128 && exec {shlex.join(command('doctor', '--root', tmp_path))}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "warning  open files: at most 128: enough for --concurrency 7" in done.stdout
    assert "ulimit -n 4096" in done.stdout


# --- keys -------------------------------------------------------------------------------------------------------


def test_keys_are_told_by_name_only(tmp_path: Path) -> None:
    for form in ([], ["--json"]):
        said = with_environment("--root", tmp_path, *form, OPENAI_API_KEY=SECRET)
        assert said.code == 0
        assert SECRET[:6] not in said.out + said.err
        assert SECRET[-6:] not in said.out + said.err
    states = {finding["name"]: finding["found"] for finding in among(said.page["findings"], "keys")}
    assert states == {**dict.fromkeys(VARIABLES, "not set"), "OPENAI_API_KEY": "set in the environment"}


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        (f" {SECRET}", "whitespace around it"),
        (f"{SECRET}\n", "whitespace around it"),
        ("", "empty"),
        ("  ", "empty"),
        (f"{SECRET[:9]} {SECRET[9:]}", "a character that cannot be in a key"),
        (f"{SECRET}\N{HORIZONTAL ELLIPSIS}", "a character that cannot be in a key"),
    ],
)
def test_a_key_that_was_copied_badly_is_a_warning(key: str, fault: str, tmp_path: Path) -> None:
    page = with_environment("--root", tmp_path, "--json", ANTHROPIC_API_KEY=key).page
    (finding,) = among(page["findings"], "keys", "ANTHROPIC_API_KEY")
    assert finding["state"] == "warning"
    assert fault in finding["found"]
    assert finding["advice"] == "set ANTHROPIC_API_KEY anew, or unset it"


def test_a_model_that_cannot_be_one_is_a_warning_and_is_not_repeated(tmp_path: Path) -> None:
    said = with_environment("--root", tmp_path, "--json", EVALUATOR_MODEL=SECRET, MOONSHOT_API_KEY=SECRET)
    (finding,) = among(said.page["findings"], "keys", "EVALUATOR_MODEL")
    assert finding["state"] == "warning"
    assert "not a model such as anthropic:NAME" in finding["found"]
    assert SECRET[:6] not in said.out + said.err
    (finding,) = among(said.page["findings"], "keys", "MOONSHOT_API_KEY")
    assert (finding["state"], finding["found"]) == ("ok", "set in the environment")


@pytest.mark.parametrize("url", ["", "api.example.com/v1", "http://[", "http://a:b/", "ftp://host/"])
def test_a_base_url_that_cannot_be_one_is_a_warning_and_is_not_asked(url: str, tmp_path: Path) -> None:
    said = with_environment("--root", tmp_path, "--json", OPENAI_BASE_URL=url, OPENAI_API_KEY=SECRET)
    (finding,) = among(said.page["findings"], "keys", "OPENAI_BASE_URL")
    assert finding["state"] == "warning"
    assert not url or url not in said.out
    if url:
        page = with_environment(
            "--root", tmp_path, "--json", "-m", "openai:x", OPENAI_BASE_URL=url, OPENAI_API_KEY=SECRET
        ).page
        (model,) = among(page["findings"], "models")
        assert model["found"] == "was not asked: OPENAI_BASE_URL is not an http or https address"


# --- models -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("provider", "path"), [("anthropic", ""), ("openai", "/v1")])
def test_a_model_that_answers_is_asked_once_and_shortly(provider: str, path: str, tmp_path: Path) -> None:
    with serve([Reply(text="ready")]) as server:
        url = f"{server.url}{path}"
        arguments = ["--root", tmp_path, "--model", f"{provider}:some", "--base-url", url, "--json"]
        said = with_environment(*arguments, **{f"{provider.upper()}_API_KEY": SECRET})
    assert (said.code, len(server.requests)) == (0, 1)
    (finding,) = among(said.page["findings"], "models")
    assert (finding["name"], finding["state"]) == (f"{provider}:some", "ok")
    assert finding["found"].startswith("answers in ")
    body = server.requests[0].body
    assert body["max_tokens"] == 16
    assert len(json.dumps(body["messages"])) < 100


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (401, "configuration, HTTP 401", "check OPENAI_API_KEY"),
        (403, "configuration, HTTP 403", "may use kimi"),
        (402, "infrastructure, HTTP 402", "pay the bill"),
        (404, "configuration, HTTP 404", "check the name 'kimi'"),
        (400, "refused, HTTP 400", "is a model for chat"),
        (500, "infrastructure, HTTP 500", "try again later"),
        (429, "infrastructure, HTTP 429", "raise the limit of your account"),
    ],
)
def test_a_model_that_refuses_is_a_problem_with_its_kind(status: int, kind: str, advice: str, tmp_path: Path) -> None:
    message = f"Incorrect key {SECRET[:8]}***{SECRET[-4:]}"
    with serve([Reply(status=status, message=message, headers={"retry-after-ms": "1"})]) as server:
        arguments = ["--root", tmp_path, "--model", "openai:kimi", "--base-url", f"{server.url}/v1"]
        said = with_environment(*arguments, OPENAI_API_KEY=SECRET)
    assert said.code == 1
    assert f"problem  openai:kimi: no answer ({kind})" in said.out
    assert advice in said.out
    assert SECRET[:6] not in said.out + said.err
    assert "runs" in said.out.split("openai:kimi")[1]  # the checks after it still run


def test_what_the_server_says_is_shown_when_no_part_of_a_key_is_in_it(tmp_path: Path) -> None:
    with serve([Reply(status=400, message="max_tokens is too small\nfor this model")]) as server:
        arguments = ["--root", tmp_path, "--model", "anthropic:some", "--base-url", server.url]
        said = with_environment(*arguments, ANTHROPIC_API_KEY=SECRET)
    (line,) = [line for line in said.out.splitlines() if line.startswith("problem")]
    assert "max_tokens is too small" in line


@pytest.mark.slow
def test_a_key_that_cannot_be_sent_is_not_in_what_the_sdk_says(tmp_path: Path) -> None:
    with serve([Reply(text="never asked")]) as server:
        arguments = ["--root", tmp_path, "--model", "anthropic:some", "--base-url", server.url]
        said = with_environment(*arguments, ANTHROPIC_API_KEY=f"{SECRET}\n")
    assert (said.code, server.requests) == (1, [])
    assert SECRET[:6] not in said.out + said.err
    assert "set ANTHROPIC_API_KEY anew: it holds what cannot be in a key" in said.out


@pytest.mark.slow
def test_a_port_where_nobody_listens_is_a_problem(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    said = with_environment("--root", tmp_path, "-m", "openai:x", "--base-url", f"http://127.0.0.1:{port}/v1")
    assert said.code == 1
    assert "problem  openai:x: no answer (infrastructure): " in said.out
    assert "that a server runs there" in said.out


@pytest.mark.slow
def test_a_model_without_its_key_is_a_problem_and_every_model_is_asked(tmp_path: Path) -> None:
    said = with_environment("--root", tmp_path, "-m", "anthropic:x", "-m", "embedded:icl")
    assert said.code == 1
    assert "problem  anthropic:x: no key: ANTHROPIC_API_KEY is not set" in said.out
    assert "ok       embedded:icl: answers in " in said.out


def test_a_scripted_model_that_has_no_answer_says_so(tmp_path: Path) -> None:
    script = tmp_path / "model.jsonl"
    script.write_text('{"contains": "another question", "text": "x"}\n')
    (finding,) = among(examined("--root", tmp_path, "-m", f"scripted:{script}", code=1), "models")
    assert finding["found"].startswith("no answer (refused): ")
    assert finding["advice"] == f"check what scripted:{script} takes"


def test_a_proxy_that_the_sdk_cannot_use_is_a_problem(tmp_path: Path) -> None:
    said = with_environment("--root", tmp_path, "-m", "openai:x", OPENAI_API_KEY=SECRET, ALL_PROXY="gopher://127.0.0.1")
    assert said.code == 1
    assert "problem  openai:x: its SDK cannot be set up: " in said.out


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--model", "gpt"], "does not say which provider", "openai:gpt"),
        (["--base-url", "http://127.0.0.1:1/v1"], "--base-url needs models of one provider", "--model openai:"),
        (["-m", "openai:x", "-m", "anthropic:y", "--base-url", "http://a/"], "models of one provider", "for example"),
        (["-m", "openai:x", "--base-url", "http://["], "not an http or https address", "write it whole"),
        (["-m", "embedded:icl", "--base-url", "http://a/"], "a base URL does not fit embedded", "leave"),
    ],
)
def test_a_wrong_choice_of_models_is_told_before_anything_is_examined(
    arguments: list[str], message: str, hint: str, *, tmp_path: Path
) -> None:
    assert_complains(say("doctor", "--root", tmp_path, *arguments), 2, message, hint)


# --- the folder of runs -----------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    findings = among(examined("--root", tmp_path / "a" / "runs"), "run folder")
    assert {finding["state"] for finding in findings} == {"ok"}
    assert [finding["name"] for finding in findings] == ["place", "writing", "locks", "free space", "file system"]
    assert "`metaharness run` makes it" in findings[0]["found"]
    assert list(tmp_path.iterdir()) == []


def test_a_place_below_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = among(examined("--root", tmp_path / "file" / "runs", code=1), "run folder")
    assert (finding["state"], finding["found"]) == ("problem", f"{tmp_path / 'file'} is not a folder")


def test_a_place_that_cannot_be_written_is_a_problem_and_the_checks_after_it_still_run() -> None:
    place = Path("/proc/self")  # nobody can make a file there, whoever asks
    if not place.is_dir():
        pytest.skip("there is no /proc here")
    findings = among(examined("--root", place, code=1), "run folder")
    states = {finding["name"]: finding["state"] for finding in findings}
    assert (states["place"], states["writing"], states["locks"]) == ("ok", "problem", "problem")
    assert {"free space", "file system"} <= set(states)
    assert all(finding["advice"] for finding in findings if finding["state"] != "ok")


def test_a_run_given_as_the_folder_of_runs_is_told_and_not_written_into(copy: Path) -> None:
    before = contents(copy)
    for place in (copy / "first", copy / "first" / "iterations", copy / "first" / "nowhere"):
        findings = examined("--root", place, code=1)
        (finding,) = among(findings, "run folder")
        assert finding["advice"] == f"name the folder of runs: --root {copy}"
    assert contents(copy) == before


def test_little_free_space_is_a_warning() -> None:
    assert (space(5 << 30).state, space(5 << 30).found) == ("ok", "5.0 GiB free")
    assert (space(700 << 20).state, space(700 << 20).found) == ("warning", "700 MiB free")


def test_a_network_file_system_is_a_warning() -> None:
    local = "/dev/a / ext4 rw 0 0\n/dev/b /data/local xfs rw 0 0\n"
    mounts = "server:/x /data nfs4 rw 0 0\n" + local + "host /my\\040disk 9p rw 0 0\n"
    assert file_system(Path("/data/runs"), mounts).state == "warning"
    assert "nfs4, mounted at /data" in file_system(Path("/data/runs"), mounts).found
    assert file_system(Path("/data/local/runs"), mounts).state == "ok"
    assert file_system(Path("/database"), mounts).found == "ext4, mounted at /"
    assert file_system(Path("/my disk/runs"), mounts).state == "warning"


# --- runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [[], ["--deep"]])
def test_a_whole_run_is_ok_with_its_end_schema_and_size(deep: list[str], root: Path) -> None:
    ((state, found),) = of_run(examined("--root", root, *deep))
    assert state == "ok"
    assert found.startswith("ended: the one candidate was proposed; 3 iterations; schema 1, 0.")
    assert found.endswith(" MiB")


def spoil(path: Path, number: int) -> None:
    """Damage one line; the size of the file stays."""
    rows = path.read_bytes().splitlines(keepends=True)
    rows[number - 1] = b'{"half": '.ljust(len(rows[number - 1]) - 1) + b"\n"
    path.write_bytes(b"".join(rows))


def test_a_damaged_line_is_named_with_file_and_line(copy: Path) -> None:
    trace = copy / "first/iterations/001/eval_trace.jsonl"
    last = count_lines(trace)
    spoil(trace, last)
    (damaged, rest) = of_run(examined("--root", copy, code=1))
    assert damaged[0] == "problem"
    assert f"{trace}, line {last}: " in damaged[1]
    assert rest[0] == "warning"


def test_only_a_deep_look_reads_every_line(copy: Path) -> None:
    calls, events = copy / "first/calls.jsonl", copy / "first/events.jsonl"
    spoil(calls, 2)
    spoil(calls, 4)
    spoil(events, 3)
    assert [state for state, _ in of_run(examined("--root", copy))] == ["ok"]
    found = [found for state, found in of_run(examined("--root", copy, "--deep", code=1)) if state == "problem"]
    assert [text.split(": ")[0] for text in found] == [
        f"damaged record in {calls}, line 2",
        f"damaged record in {calls}, line 4",
        f"damaged record in {events}, line 3",
    ]


def test_of_much_damage_the_first_is_named_and_the_rest_is_counted(copy: Path) -> None:
    calls = copy / "first/calls.jsonl"
    count = count_lines(calls)
    calls.write_bytes(b"[]\n" * count)
    found = [found for state, found in of_run(examined("--root", copy, "--deep", code=1)) if state == "problem"]
    assert len(found) == 11
    assert found[-1] == f"{count - 10} more damaged records"


@pytest.mark.parametrize("name", ["proposal.json", "score.json"])
def test_a_damaged_page_is_named(name: str, copy: Path) -> None:
    (copy / "first/iterations/002" / name).write_text("{}")
    problems = [found for state, found in of_run(examined("--root", copy, code=1)) if state == "problem"]
    assert len(problems) == 1
    assert str(copy / "first/iterations/002" / name) in problems[0]


def test_an_event_that_lacks_what_it_should_have_is_a_problem_and_not_a_traceback(copy: Path) -> None:
    events = copy / "first/events.jsonl"
    events.write_text(events.read_text().replace('"incumbent_after"', '"other"'))
    ((state, found),) = of_run(examined("--root", copy, code=1))
    assert (state, "KeyError" in found) == ("problem", True)


def test_a_trace_that_lost_lines_or_was_changed_after_its_score_is_a_problem(copy: Path) -> None:
    trace = copy / "first/iterations/001/eval_trace.jsonl"
    whole = trace.read_bytes()
    trace.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    assert any("lines are gone" in found for _, found in of_run(examined("--root", copy, code=1)))
    trace.write_bytes(whole.replace(b'"status":"ok"', b'"status":"OK"', 0).replace(b"grey", b"gray"))
    assert [state for state, _ in of_run(examined("--root", copy))] == ["ok"]
    assert any("its hash differs" in found for _, found in of_run(examined("--root", copy, "--deep", code=1)))


def test_a_candidate_that_was_edited_is_found_by_a_deep_look(copy: Path) -> None:
    candidate = copy / "first/iterations/002/harness.py"
    candidate.write_text(candidate.read_text() + "# edited\n")
    problems = [found for state, found in of_run(examined("--root", copy, "--deep", code=1)) if state == "problem"]
    assert len(problems) == 1
    assert "are not those that were submitted" in problems[0]
    candidate.unlink()
    problems = [found for state, found in of_run(examined("--root", copy, "--deep", code=1)) if state == "problem"]
    assert len(problems) == 1
    assert f"cannot read {candidate}" in problems[0]


def test_an_iteration_that_was_deleted_from_between_others_is_a_problem(copy: Path) -> None:
    shutil.rmtree(copy / "first/iterations/001")
    for deep in ([], ["--deep"]):
        problem, rest = among(examined("--root", copy, *deep, code=1), "runs", "first")
        assert (problem["state"], rest["state"]) == ("problem", "warning")
        gone = copy / "first/iterations/001"
        assert problem["found"] == f"damaged record in {gone}: it is gone, though there is an iteration 002"
        assert problem["advice"].startswith("restore the folder from a copy")


def test_calls_that_are_in_traces_and_not_in_the_journal_are_a_problem_for_a_deep_look(copy: Path) -> None:
    calls = copy / "first/calls.jsonl"
    count = count_lines(calls)
    calls.write_bytes(b"")
    assert [state for state, _ in of_run(examined("--root", copy))] == ["ok"]
    problem, _ = among(examined("--root", copy, "--deep", code=1), "runs", "first")
    assert problem["state"] == "problem"
    assert problem["found"] == (
        f"damaged record in {calls}: {count} of the calls in traces are not in it: lines are gone"
    )
    assert "restore the file from a copy" in problem["advice"]


def test_a_newer_and_a_damaged_configuration_hide_no_other_run(copy: Path) -> None:
    newer = shutil.copytree(copy / "first", copy / "newer") / "config.json"
    newer.write_text(newer.read_text().replace('"schema_version": 1', '"schema_version": 9'))
    (copy / "broken").mkdir()
    (copy / "broken" / "config.json").write_text("{")
    findings = examined("--root", copy, code=1)
    (newer_one,) = among(findings, "runs", "newer")
    assert newer_one["state"] == "problem"
    assert "has schema version 9" in newer_one["found"]
    assert "update metaharness to a version that reads it" in newer_one["advice"]
    assert "config.json" in of_run(findings, "broken")[0][1]
    assert [state for state, _ in of_run(findings)] == ["ok"]


def test_a_torn_last_line_is_a_harmless_warning_that_resume_puts_right(copy: Path) -> None:
    with (copy / "first/calls.jsonl").open("ab") as file:
        file.write(b'{"key": "ab')
    before = contents(copy)
    for deep in ([], ["--deep"]):
        findings = examined("--root", copy, *deep)
        torn, rest = among(findings, "runs", "first")
        assert (torn["state"], rest["state"]) == ("warning", "ok")
        assert torn["found"].startswith("calls.jsonl ends in a part of a line: left by a killed process, harmless")
        assert torn["advice"] == f"metaharness resume --root {copy} first"
    assert contents(copy) == before
    assert say("resume", "--root", copy, "first", "--quiet").code == 0
    assert [state for state, _ in of_run(examined("--root", copy))] == ["ok"]


def test_a_run_whose_process_was_killed_is_unfinished(slow: Toy, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "r"
    with started("run", *slow.arguments("--root", run.parent, "--name", "r")) as process:
        assert wait_until(process, (run / "iterations/000/proposal.json").exists)
    assert (run / ".lock.json").exists()
    before = contents(run)
    (finding,) = among(examined("--root", run.parent, "--deep"), "runs")
    assert finding["state"] == "warning"
    assert "unfinished: " in finding["found"]
    assert "without a score" in finding["found"]
    assert finding["advice"] == f"metaharness resume --root {run.parent} r"
    assert contents(run) == before


def test_a_run_that_is_being_recorded_names_its_owner_and_is_not_disturbed(slow: Toy, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "r"
    with started("run", *slow.arguments("--root", run.parent, "--name", "r")) as process:
        assert wait_until(process, (run / "iterations/000/proposal.json").exists)
        since = json.loads((run / ".lock.json").read_text())["since"]
        (torn := run / "reads.jsonl").write_bytes(b'{"time')
        (finding,) = among(examined("--root", run.parent, "--deep"), "runs")
        assert (finding["state"], finding["advice"]) == ("ok", None)
        assert f"is being recorded by process {process.pid} since {since}; schema 1, " in finding["found"]
        assert process.poll() is None
        torn.unlink()


def test_nothing_is_changed_and_no_lock_is_taken(copy: Path) -> None:
    (copy / "first" / ".lock").unlink()  # taking the lock would make it anew
    before = contents(copy)
    for deep in ([], ["--deep"]):
        examined("--root", copy, *deep)
    assert contents(copy) == before
    assert [path.name for path in copy.iterdir() if path.name.startswith(".metaharness")] == []


def note(run: Path, **fields: object) -> None:
    own = {"pid": os.getpid(), "command": shlex.join(sys.orig_argv), "since": "2026", "host": socket.gethostname()}
    (run / ".lock.json").write_text(json.dumps({**own, **fields}))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, f"process {os.getpid()} since 2026"),
        ({"command": "another program that had this number"}, None),
        ({"pid": 2**22 + 1}, None),
        ({"pid": 10**30}, None),
        ({"pid": "x"}, None),
        ({"host": "elsewhere"}, f"process {os.getpid()} on elsewhere since 2026"),
    ],
    ids=["as it is", "another program", "no such process", "no number of one", "no number", "another machine"],
)
def test_where_locks_are_not_listed_the_note_counts_while_its_process_lives(
    fields: Mapping[str, object], expected: str | None, tmp_path: Path
) -> None:
    note(tmp_path, **fields)
    owner = owner_of(tmp_path)
    assert (None if owner is None else str(owner)) == expected


def test_a_run_that_another_machine_may_record_says_to_make_sure_first(slow: Toy, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "r"
    with started("run", *slow.arguments("--root", run.parent, "--name", "r")) as process:
        assert wait_until(process, (run / "iterations/000/proposal.json").exists)
    note(run, host="elsewhere")
    (finding,) = among(examined("--root", run.parent), "runs")
    assert finding["state"] == "warning"
    assert "make sure that it has ended, then metaharness resume" in finding["advice"]


def test_a_folder_whose_run_was_killed_while_it_was_made_is_told(copy: Path) -> None:
    (copy / "begun").mkdir()
    (copy / "begun" / ".lock").touch()
    (copy / "notes").mkdir()  # anybody's
    findings = examined("--root", copy)
    assert [state for state, _ in of_run(findings, "begun")] == ["warning"]
    assert of_run(findings, "notes") == []


@pytest.mark.parametrize("reason", ["stopped", None])
def test_a_run_that_was_stopped_or_never_ended_is_unfinished(reason: str | None, copy: Path) -> None:
    events = copy / "first/events.jsonl"
    kept = [row for row in lines(events) if row["kind"] != "ended"]
    ended = [{**kept[-1], "number": len(kept), "kind": "ended", "reason": reason}] if reason else []
    events.write_text("".join(json.dumps(row) + "\n" for row in [*kept, *ended]))
    (finding,) = among(examined("--root", copy), "runs", "first")
    assert finding["state"] == "warning"
    assert "the search was not brought to its end" in finding["found"]


def test_a_test_that_was_begun_is_brought_to_its_end_by_finish(copy: Path) -> None:
    assert say("finish", "--yes", "--root", copy, "first", "--yes", "--quiet").code == 0
    ((state, found),) = of_run(examined("--root", copy, "--deep"))
    assert (state, found.startswith("finished, its test has a result; 3 iterations; ")) == ("ok", True)
    (copy / "first/sealed/result.json").unlink()
    (finding,) = among(examined("--root", copy, "--deep"), "runs", "first")
    assert finding["state"] == "warning"
    assert finding["advice"] == f"metaharness finish --root {copy} first"


def test_what_is_sealed_is_looked_at_and_nothing_of_it_is_shown(copy: Path) -> None:
    (copy / "first/sealed").mkdir()
    (copy / "first/sealed/opening.json").write_text('["the secret"]')
    problems = [found for state, found in of_run(examined("--root", copy, code=1)) if state == "problem"]
    assert problems == [f"damaged record in {copy / 'first/sealed/opening.json'}: not an object"]
