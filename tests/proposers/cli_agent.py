"""A small coding agent for the command line: reads its task, speaks MCP over stdio, does what its script says.

    python -I -S cli_agent.py MCP_CONFIG SCRIPT

SCRIPT is JSON: a list of [tool, arguments], of ["try", {...}], which reads files, connects to places and prints what
came of it, or of ["plant", {...}], which leaves links in its home. `$last` stands for the number of the iteration that
was handed in last.
"""

# ruff: noqa: T201, SIM115, PTH123, PTH208, PLW2901 - a program of its own, as short as can be

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    config = json.load(open(sys.argv[1]))["mcpServers"]["metaharness"]
    script = json.load(open(sys.argv[2]))
    print("task:", len(sys.stdin.read()), "characters", flush=True)
    server = subprocess.Popen(
        [config["command"], *config["args"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    ids = iter(range(1, 1000))

    def ask(method, **params):
        number = next(ids)
        print(
            json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}),
            file=server.stdin,
            flush=True,
        )
        while True:
            line = server.stdout.readline()
            if not line:
                sys.exit("the tools have gone")
            found = json.loads(line)
            if found.get("id") == number:
                return found

    client = {"name": "cli-agent", "version": "1"}
    ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
    print(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}), file=server.stdin, flush=True)
    last = None
    for name, given in script:
        if name == "try":
            tried(given)
        elif name == "plant":
            planted(given)
        elif name == "fail":
            sys.exit("it broke")
        elif name == "hang":
            time.sleep(1000)
        else:
            given = {key: last if value == "$last" else value for key, value in given.items()}
            answer = ask("tools/call", name=name, arguments=given)
            found = answer.get("result", {})
            last = (found.get("structuredContent") or {}).get("iteration", last)
            print(
                name, "error" if found.get("isError") else "ok", json.dumps(found.get("structuredContent")), flush=True
            )


def planted(given) -> None:
    """Put links where the tools are configured the next time, and take the rights from their folders."""
    home = Path(os.environ["HOME"])
    for place, target in given.items():
        path = home / place
        print("link" if path.is_symlink() else "found", place, len(os.listdir("candidate")), "drafts", flush=True)
        path.unlink()
        path.symlink_to(target)
        path.parent.chmod(0o500)
    Path("candidate/draft.py").touch()
    for folder in (home, Path("candidate")):
        folder.chmod(0o500)


def tried(given) -> None:
    for path in given.get("read", ()):
        try:
            print("read", path, repr(open(path).read()[:40]), flush=True)
        except OSError as error:
            print("refused", path, error.strerror, flush=True)
    for path in given.get("list", ()):
        try:
            print("list", path, sorted(os.listdir(path)), flush=True)
        except OSError as error:
            print("refused", path, error.strerror, flush=True)
    for host, port in given.get("connect", ()):
        try:
            socket.create_connection((host, port), timeout=5).close()
            print("connected", host, port, flush=True)
        except OSError as error:
            print("refused", host, port, error, flush=True)
    for name in given.get("environment", ()):
        print("variable", name, os.environ.get(name), flush=True)


main()
