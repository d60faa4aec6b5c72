"""A jailed program from its start to its end: what it is given, what it reaches, and how it is ended."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream
from jail_kit import PYTHON, needs_bubblewrap, printed, program

from metaharness.errors import UsageError
from metaharness.jail import Attempt, Bounds, Jail, opened, run_jailed

pytestmark = needs_bubblewrap

SECONDS = 20
"""After which a test fails that would wait forever."""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@contextmanager
def held_open(workspace: Path) -> Iterator[int]:
    """A pipe in the workspace, to read from until all have ended that hold it."""
    os.mkfifo(workspace / "held")
    reader = os.open(workspace / "held", os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield reader
    finally:
        os.close(reader)


HOLDS = """
import os, signal, sys, time
held = open("held", "w")
held.write("x")
held.flush()
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        time.sleep(600)
    time.sleep(600)
"""
"""Holds the pipe, in two processes besides that leave its session and do not end by themselves."""


def gone(reader: int) -> bool:
    """Whether all that held the pipe have ended, within `SECONDS`."""
    while select.select([reader], [], [], SECONDS)[0]:
        if not os.read(reader, 100):
            return True
    return False


async def test_stdin_lines_variables_and_the_exit_code_pass(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_KEY", "dummy")
    monkeypatch.setenv("OTHER_KEY", "secret")
    source = """
import os, sys
print(sys.stdin.read())
print(os.environ["AGENT_KEY"], os.environ["MODE"], "OTHER_KEY" in os.environ, *sys.argv[1:])
print("without an end", end="")
sys.stderr.write("that is all")
sys.exit(7)
"""
    jail = Jail(program(workspace, source), workspace, passed=("AGENT_KEY", "ABSENT"), environment={"MODE": "quiet"})
    ended, lines = await printed(jail, stdin=b"a question", arguments=("one word", "--two"))
    assert lines == ["a question", "dummy quiet False one word --two", "without an end"]
    assert (ended.exit_code, ended.stderr_tail, ended.ended_because) == (7, "that is all", None)
    assert ended.sealed_by == (
        f"bubblewrap jail: workspace {workspace} (read and write); home in memory; destinations none; "
        "variables AGENT_KEY, ABSENT"
    )


class Streaming(BaseHTTPRequestHandler):
    """An answer of two lines, the second of which is sent when the first has been seen."""

    seen = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"first\n")
        self.wfile.flush()
        assert self.seen.wait(SECONDS)
        self.wfile.write(b"second\n")

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.mark.parametrize("through", ["its own address", "the proxy"])
async def test_an_allowed_api_answers_and_its_answer_streams(workspace: Path, through: str) -> None:
    source = """
import os, sys, urllib.request
proxies = {"http": os.environ["HTTP_PROXY"]} if sys.argv[2] == "the proxy" else {}
with urllib.request.build_opener(urllib.request.ProxyHandler(proxies)).open(sys.argv[1], timeout=10) as answer:
    for line in answer:
        print(line.decode(), end="", flush=True)
"""
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        Streaming.seen.set()

    Streaming.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Streaming) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            port = server.server_address[1]
            jail = Jail(program(workspace, source), workspace, destinations=(f"http://127.0.0.1:{port}/v1",))
            ended = await run_jailed(jail, on_line=on_line, arguments=(f"http://127.0.0.1:{port}/v1/x", through))
        finally:
            server.shutdown()
            thread.join()
    assert lines == ["first", "second"], ended.stderr_tail
    assert ended.attempts == (Attempt("127.0.0.1", port, allowed=True, count=1),)


async def test_what_is_served_outside_is_spoken_with_over_stdio_inside(workspace: Path) -> None:
    source = """
import subprocess, sys
with subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bridge:
    for line in ("one", "two"):
        bridge.stdin.write(line + "\\n")
        bridge.stdin.flush()
        print(bridge.stdout.readline(), end="")
    bridge.stdin.close()
    print(bridge.stdout.read())
"""

    async def serve(stream: ByteStream) -> None:
        async for data in stream:
            await stream.send(data.upper())
        await stream.send(b"goodbye")

    ended, lines = await printed(
        Jail(program(workspace, source), workspace),
        serve={"mcp": serve},
        arguments=lambda cell: tuple(cell.bridge("mcp")),
    )
    assert lines == ["ONE", "TWO", "goodbye"], ended.stderr_tail


async def test_the_executable_file_stands_in_for_the_program(workspace: Path) -> None:
    """As for a library that is told where the program lies, and hands on more than it should."""
    (workspace / "below").mkdir()
    source = """
import os, sys
print(sys.stdin.readline().strip(), os.getcwd(), os.environ.get("KEY"), os.environ.get("OTHER"), *sys.argv[1:])
print([number for number in range(3, 50) if os.path.exists(f"/proc/self/fd/{number}")])
sys.exit(3)
"""
    jail = Jail(program(workspace, source), workspace, passed=("KEY",))
    outside = os.open(workspace.parent, os.O_RDONLY)
    async with opened(jail) as cell:
        done = await anyio.run_process(
            [str(cell.wrapper), "--print", "a b"],
            input=b"hello\n",
            env={"KEY": "dummy", "OTHER": "secret", "PATH": ""},
            cwd=workspace / "below",
            check=False,
            pass_fds=[outside],
        )
        assert done.stdout.decode().splitlines() == [f"hello {workspace / 'below'} dummy None --print a b", "[]"]
        assert done.returncode == 3
    os.close(outside)
    assert not cell.wrapper.exists()


async def test_a_program_that_is_cancelled_is_asked_to_end_and_all_it_started_is_killed(workspace: Path) -> None:
    source = f"""{HOLDS}
def end(*_):
    with open("said", "w") as file:
        file.write("goodbye")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""
    lines: list[str] = []
    with held_open(workspace) as reader:
        with anyio.CancelScope() as scope:
            await run_jailed(
                Jail(program(workspace, source), workspace),
                on_line=lambda line: (lines.append(line), scope.cancel()),
            )
        assert gone(reader)
    assert lines == ["ready"]
    assert (workspace / "said").read_text() == "goodbye"


async def test_what_is_raised_for_a_line_ends_the_program_and_reaches_the_caller(workspace: Path) -> None:
    def on_line(line: str) -> None:
        raise LookupError(line)

    source = f"{HOLDS}\nprint('ready', flush=True)\ntime.sleep(600)"
    with held_open(workspace) as reader:
        with pytest.raises(LookupError, match="ready"):
            await run_jailed(Jail(program(workspace, source), workspace), on_line=on_line)
        assert gone(reader)


ALONE = "import time\nheld = open('held', 'w')"


@pytest.mark.parametrize(
    ("runs", "holds"),
    [
        ("run_jailed", HOLDS),
        pytest.param(
            "run_unjailed", ALONE, marks=pytest.mark.skipif(sys.platform != "linux", reason="others do not tell it")
        ),
    ],
)
def test_a_program_dies_with_the_engine(workspace: Path, runs: str, holds: str) -> None:
    engine = f"""
import sys, anyio
from pathlib import Path
from metaharness.jail import Jail, {runs}
say = lambda line: print(line, flush=True)
jail = Jail(tuple(sys.argv[2:]), Path(sys.argv[1]))
anyio.run(lambda: {runs}(jail, on_line=say, arguments=lambda cell: ()))
"""
    command = program(workspace, f"{holds}\nprint('ready', flush=True)\ntime.sleep(600)")
    with held_open(workspace) as reader:
        with subprocess.Popen(
            [sys.executable, "-c", engine, str(workspace), *command], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGKILL)
        assert gone(reader)


@pytest.mark.parametrize(
    ("body", "bounds", "why"),
    [
        ("filled = bytearray(400 << 20)", Bounds(memory_mb=200), "MB of memory, more than 200"),
        ("[os.fork() for _ in range(6)]", Bounds(processes=20), "processes, more than 20"),
        ("signal.signal(signal.SIGTERM, signal.SIG_DFL)", Bounds(seconds=0.3), "longer than 0.3 s"),
    ],
)
async def test_what_it_uses_is_bounded(workspace: Path, body: str, bounds: Bounds, why: str) -> None:
    if "processes" in why and os.geteuid() != 0:
        pytest.skip("for another user than root the kernel refuses the process itself")
    source = f"{HOLDS}\n{body}\ntime.sleep(600)"
    with held_open(workspace) as reader:
        ended, _ = await printed(Jail(program(workspace, source), workspace, bounds=bounds))
        assert gone(reader)
    assert why in (ended.ended_because or ""), ended
    assert ended.exit_code in {137, 143}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"program": ("no-such-program",)}, "no program 'no-such-program'"),
        ({"destinations": ("api.example.com",)}, "'api.example.com' is no destination"),
        ({"destinations": ("ftp://api.example.com:21",)}, "is no destination"),
        ({"destinations": ("http://127.0.0.1",)}, "127.0.0.1:80 cannot be reached"),
        ({"destinations": ("127.0.0.1:8123", "localhost:8123")}, "8123 cannot be reached"),
        ({"passed": ("A=B",)}, "'A=B' is no name of a variable"),
        ({"writable": ("../..",)}, "leads out of its folder"),
        ({"readable": (Path("no such folder"),)}, "is not there"),
        ({"readable": (Path(__file__),), "hidden": (Path(__file__).parent,)}, "is hidden from the jail"),
    ],
)
async def test_a_jail_that_is_described_wrongly_says_what_is_wrong(
    workspace: Path, wrong: dict[str, object], message: str
) -> None:
    given: dict[str, object] = {"program": PYTHON, "workspace": workspace, **wrong}
    with pytest.raises(UsageError, match=message) as caught:
        await printed(Jail(**given))  # type: ignore[arg-type]
    assert caught.value.hint
