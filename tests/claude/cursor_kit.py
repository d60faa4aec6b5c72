"""How Cursor gets the MCP server: a `.cursor/mcp.json` for one project, and a link that installs it for all.

    python3 tests/claude/cursor_kit.py git+https://HOST/OWNER/REPO

What is started comes from `.mcp.json`, the server's entry in the plugin, so that the two cannot differ.
"""

from __future__ import annotations

import base64
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

NAME = "metaharness"
LINK = "cursor://anysphere.cursor-deeplink/mcp/install?name={name}&config={config}"
PROJECT = ("--project", "${workspaceFolder}")
"""Filled in by Cursor in a project's own mcp.json; a server that is installed for all projects is told otherwise."""


def server(source: str) -> dict[str, Any]:
    """The server's entry for a client that knows nothing of plugins.

    Args:
        source: Where uv finds the repository: git+https://..., or file://... of a clone.
    """
    plugin = json.loads((Path(__file__).resolve().parents[2] / ".mcp.json").read_text(encoding="utf-8"))
    words = plugin["mcpServers"][NAME]["args"]
    extras = [after for word, after in pairwise(words) if word == "--extra"]
    command = words[words.index("--project") + 2 :]
    return {"command": "uvx", "args": ["--from", f"{NAME}[{','.join(extras)}] @ {source}", *command]}


def snippet(source: str) -> str:
    """`.cursor/mcp.json`."""
    entry = server(source)
    entry["args"] += PROJECT
    return json.dumps({"mcpServers": {NAME: entry}}, indent=2)


def link(source: str) -> str:
    """The link that asks Cursor to install the server."""
    packed = base64.b64encode(json.dumps(server(source), separators=(",", ":")).encode()).decode()
    return LINK.format(name=NAME, config=quote(packed, safe=""))


if __name__ == "__main__":
    sys.stdout.write(f"{snippet(sys.argv[1])}\n\n{link(sys.argv[1])}\n")
