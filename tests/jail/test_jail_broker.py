"""What the broker outside answers, whatever is said to it from inside, and what it remembers of it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from jail_kit import answering, needs_bubblewrap, printed, program

from metaharness.errors import UsageError
from metaharness.jail import Attempt, Jail
from metaharness.jail.destinations import MOST_KINDS, OTHERS, Attempts, Destination, parse_destination

SAYS = """
import json, socket, sys
for line in json.loads(sys.argv[1]):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("/jail/broker")
        one.sendall(line.encode())
        one.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while part := one.recv(4096):
                answer += part
        except ConnectionResetError:
            pass
        print(answer.decode().replace("\\n", " "))
"""


@needs_bubblewrap
async def test_whatever_is_said_to_it_is_answered_or_hung_up_on(tmp_path: Path) -> None:
    with socket.socket() as closed, answering("127.0.0.1") as port:
        closed.bind(("127.0.0.1", 0))
        shut = closed.getsockname()[1]
        said = [
            json.dumps({"host": "LocalHost.", "port": port}) + "\nand at once",
            json.dumps({"host": "127.0.0.1", "port": shut}) + "\n",
            json.dumps({"host": "example.com\n", "port": port}) + "\n",
            json.dumps({"begin": True}) + "\n",
            json.dumps({"host": 5, "port": "x"}) + "\n",
            "[]\n",
            "no json\n",
            "no end",
            "x" * 5000,
            "",
        ]
        jail = Jail(program(tmp_path, SAYS), tmp_path, destinations=(f"localhost:{port}", f"127.0.0.1:{shut}"))
        ended, lines = await printed(jail, arguments=(json.dumps(said),))
    assert ended.exit_code == 0, ended.stderr_tail
    assert lines[0] == '{"status": 200, "text": ""} reached'
    assert json.loads(lines[1])["status"] == 502
    assert json.loads(lines[2])["status"] == 403
    assert json.loads(lines[3]) == {"status": 502, "text": "the jail is closed"}
    assert lines[4:] == [""] * 6
    assert ended.attempts == (
        Attempt("example.com?", port, allowed=False, count=1),
        Attempt("127.0.0.1", shut, allowed=True, count=1, failed=1),
        Attempt("localhost", port, allowed=True, count=1),
    )


def test_places_are_counted_together_where_there_are_too_many() -> None:
    attempts = Attempts()
    for number in range(MOST_KINDS + 5):
        attempts.note(f"host{number}", 443, allowed=False)
    attempts.note("host1", 443, allowed=False)
    assert len(attempts.all()) == MOST_KINDS + 1
    assert Attempt("host1", 443, allowed=False, count=2) in attempts.all()
    assert Attempt(OTHERS, 0, allowed=False, count=5) in attempts.all()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("https://API.anthropic.com", "api.anthropic.com", 443),
        ("http://127.0.0.1:8123/v1", "127.0.0.1", 8123),
        ("http://[::1]:8123", "::1", 8123),
        ("api.example.com.:8443", "api.example.com", 8443),
    ],
)
def test_a_destination_is_one_host_and_one_port(text: str, host: str, port: int) -> None:
    assert parse_destination(text) == Destination(host, port)


@pytest.mark.parametrize("text", ["", "*:443", "*.example.com:443", "host", "https://", "host:99999", "a b:80"])
def test_what_would_be_more_or_less_than_one_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="is no destination"):
        parse_destination(text)
