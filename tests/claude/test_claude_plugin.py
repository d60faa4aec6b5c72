"""The repository as a plugin: its manifests agree, and the clients' own checks and installation take it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import struct
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from claude_kit import Claude, Use
from cursor_kit import link, snippet
from mcp import Client, StdioServerParameters
from meta_kit import ROOT
from run_kit import recorded

from metaharness import __version__
from metaharness.tools import TOOLS

SCHEMA = "https://agent-plugins.org/schemas/1.0.0/{name}.schema.json"
PARTS = (".claude-plugin", ".mcp.json", "plugin.json", "mcp.json", "icon.png", "hooks", "skills", "README.md")
"""What makes the folder a plugin."""
ENGINE = ("metaharness", "mcp_server", "reference_examples", "pyproject.toml", "uv.lock", "LICENSE", "ONBOARDING.md")
"""What its server is installed from."""


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / name).read_text(encoding="utf-8"))
    return found


def copied(folder: Path) -> Path:
    """The plugin by itself, as a client fetches it."""
    for name in (*PARTS, *ENGINE):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "runs"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def test_both_manifests_say_the_same() -> None:
    ours, theirs = read(".claude-plugin/plugin.json"), read("plugin.json")
    assert {key: ours[key] for key in theirs if key != "$schema"} == {
        key: value for key, value in theirs.items() if key != "$schema"
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert ours["version"] == project["version"] == __version__
    assert ours["license"] == project["license"]
    (listed,) = read(".claude-plugin/marketplace.json")["plugins"]
    assert (listed["name"], listed["source"]) == (ours["name"], "./")


def test_the_manifest_of_an_agent_plugin_has_the_fields_that_its_specification_knows() -> None:
    """By hand, after section 5.2 of Agent Plugins 1.0.0: the schema is closed, and unknown fields do not conform."""
    manifest = read("plugin.json")
    known = {"$schema", "name", "version", "description", "author", "homepage", "repository", "license", "keywords"}
    assert manifest.keys() <= known | {"extensions"}
    assert manifest["$schema"] == SCHEMA.format(name="plugin")
    assert re.fullmatch(r"(?!.*(?:--|\.\.))[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?", manifest["name"])
    assert len(manifest["name"]) <= 64
    assert all(isinstance(manifest[key], str) for key in ("version", "description", "license"))
    assert manifest["author"].keys() <= {"name", "email", "url"}
    assert all(isinstance(word, str) for word in manifest["keywords"])


def test_the_server_of_an_agent_plugin_has_the_form_that_its_specification_asks_for() -> None:
    """By hand, after section 7.2.1."""
    config = read("mcp.json")
    assert config.keys() == {"$schema", "mcpServers"}
    assert config["$schema"] == SCHEMA.format(name="mcp")
    for server in config["mcpServers"].values():
        assert server["type"] == "stdio"
        assert server.keys() <= {"type", "command", "args", "env", "cwd"}
        assert re.fullmatch(r"[\w-]+|\./.+", server["command"])
        assert all(isinstance(word, str) for word in [*server["args"], *server["env"].values()])
        assert not server["env"].keys() & {"PLUGIN_ROOT", "PLUGIN_DATA"}
        assert re.match(r"\./|\$\{PLUGIN_(ROOT|DATA)\}(/|$)", server["cwd"])


def test_both_start_the_same_server() -> None:
    ours, theirs = (read(name)["mcpServers"]["metaharness"] for name in (".mcp.json", "mcp.json"))
    assert ours["command"] == theirs["command"]
    assert [word.replace("CLAUDE_", "") for word in ours["args"]] == theirs["args"]


def test_the_icon_is_a_square_of_512_pixels() -> None:
    picture = (ROOT / "icon.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", picture[16:24]) == (512, 512)
    assert len(picture) < 20_000


def test_the_fence_is_asked_about_every_tool_that_it_knows() -> None:
    (entry,) = read("hooks/hooks.json")["hooks"]["PreToolUse"]
    (hook,) = entry["hooks"]
    assert hook["args"][-1] == "${CLAUDE_PLUGIN_ROOT}/hooks/fence.py"
    source = (ROOT / "hooks" / "fence.py").read_text(encoding="utf-8")
    known = set(re.findall(r'"([A-Z]\w+)"', source[source.index("def check(") : source.index("def text_of")]))
    assert set(entry["matcher"].split("|")) == known


@pytest.mark.slow
def test_claude_code_finds_nothing_to_say_about_the_plugin(claude: Claude, tmp_path: Path) -> None:
    plugin = copied(tmp_path / "plugin")
    said = claude.run("plugin", "validate", "--strict", "--profile", "directory", plugin, cwd=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "Validation passed" in said.stdout
    assert "skills: metaharness:meta-harness" in said.stdout
    assert "hooks: PreToolUse" in said.stdout
    (plugin / "README.md").unlink()
    said = claude.run("plugin", "validate", "--strict", "--profile", "directory", plugin, cwd=tmp_path)
    assert said.returncode == 1


@pytest.mark.slow
def test_it_installs_from_its_own_marketplace_in_one_step_and_its_server_connects(
    claude: Claude, tmp_path: Path
) -> None:
    plugin, project, home = copied(tmp_path / "plugin"), tmp_path / "project", str(tmp_path)
    project.mkdir()
    said = claude.run("plugin", "install", "metaharness", "--marketplace", plugin, cwd=project, HOME=home)
    assert said.returncode == 0, said.stdout + said.stderr
    said = claude.run("mcp", "list", cwd=project, HOME=home)
    assert "plugin:metaharness:metaharness" in said.stdout
    assert "Connected" in said.stdout, said.stdout + said.stderr
    assert list(project.iterdir()) == [], "nothing is written before a run begins"
    assert not (plugin / ".venv").exists()


@pytest.mark.slow
def test_what_the_person_configures_holds_for_the_runs_of_the_installed_plugin(
    claude: Claude, project: Path, tmp_path: Path
) -> None:
    plugin, home = copied(tmp_path / "plugin"), str(tmp_path)
    settings = ["--config", "domain=garden", "--config", "budget_usd=3"]
    said = claude.run("plugin", "install", "metaharness", "--marketplace", plugin, *settings, cwd=project, HOME=home)
    assert said.returncode == 0, said.stdout + said.stderr
    sealed = Use("Read", {"file_path": str(project / "garden" / "data" / "test.jsonl")})
    session = claude.asked("Go.", [Use("start_run", {"name": "first"}), sealed], project, plugin=None, HOME=home)
    assert [result.failed for result in session.results] == [False, True]
    config = recorded(project / "runs" / "first").record.config
    assert (config.domain, config.budget.usd) == (str(project / "garden"), 3)
    assert config.models["target"].id == "embedded:icl", "the default of plugin.json"


# --- Cursor, and any other client -------------------------------------------------------------------------------


def entry_of(source: str) -> dict[str, Any]:
    """The entry for one project."""
    found: dict[str, Any] = json.loads(snippet(source))["mcpServers"]["metaharness"]
    return found


def held_by(link: str) -> dict[str, Any]:
    """The entry that a link installs."""
    parts = urlsplit(link)
    assert (parts.scheme, parts.netloc, parts.path) == ("cursor", "anysphere.cursor-deeplink", "/mcp/install")
    asked = parse_qs(parts.query, strict_parsing=True)
    assert asked["name"] == ["metaharness"]
    held: dict[str, Any] = json.loads(base64.b64decode(asked["config"][0], validate=True))
    return held


def test_the_link_for_cursor_holds_the_entry_that_the_plugin_has() -> None:
    source = "git+https://example.org/owner/repo?a=+/"
    entry = entry_of(source)
    assert held_by(link(source)) == {"command": "uvx", "args": entry["args"][:-2]}
    assert entry["args"][-2:] == ["--project", "${workspaceFolder}"]
    assert entry["args"][1] == f"metaharness[anthropic,openai] @ {source}"


def test_every_link_for_cursor_in_the_readme_is_the_one_that_is_made_today() -> None:
    shown = re.findall(r"cursor://[^\s)>\"`]+", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown
    assert [one for one in shown if one != link(held_by(one)["args"][1].partition(" @ ")[2])] == []


@pytest.mark.slow
async def test_what_cursor_is_told_to_start_is_the_server_of_the_project(tmp_path: Path) -> None:
    """Without the installation before it, for which uvx asks an index."""
    entry = entry_of("git+https://example.org/owner/repo")
    words = [str(tmp_path) if word == "${workspaceFolder}" else word for word in entry["args"][2:]]
    started = StdioServerParameters(command=sys.executable, args=["-m", *words], cwd=ROOT)
    async with Client(started) as client:
        listed = await client.list_tools()
        said = await client.call_tool("scoreboard", {})
    assert {tool.name for tool in listed.tools} == {tool.name for tool in TOOLS}
    assert f"there is no run in {tmp_path / 'runs'}" in str(said.content[0])


@pytest.mark.parametrize("name", ["CLAUDE_PROJECT_DIR", "WORKSPACE_FOLDER_PATHS"])
@pytest.mark.slow
async def test_a_client_says_in_the_environment_which_folder_it_has_open(tmp_path: Path, name: str) -> None:
    opened = f"{tmp_path},/elsewhere" if name == "WORKSPACE_FOLDER_PATHS" else str(tmp_path)
    environment = {"PATH": "/usr/bin:/bin", name: opened, "METAHARNESS_BUDGET_USD": "", "METAHARNESS_DOMAIN": ""}
    words = ["-m", "metaharness", "serve"]
    started = StdioServerParameters(command=sys.executable, args=words, cwd=ROOT, env=environment)
    async with Client(started) as client:
        said = await client.call_tool("scoreboard", {})
    assert f"there is no run in {tmp_path / 'runs'}" in str(said.content[0])
