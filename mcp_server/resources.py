"""The files of a run as resources: what the tools show, whole, for hosts that attach them to a conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.types import Resource

from metaharness.configuration import Shown
from metaharness.errors import MetaharnessError
from metaharness.history import History
from metaharness.pages import skill_reference
from metaharness.store import list_runs
from metaharness.tools import Desk

MOST_BYTES = 4_000_000
"""Of a resource; a longer trace is read with the tool."""


PARTS: Mapping[str, Shown] = {
    "score.json": "scores",
    "proposal.json": "scores+summaries",
    "reasoning.md": "scores+summaries",
    "report.md": "scores+summaries",
}
"""From which level of the history on a file of an iteration is shown; others from `full` on."""
MOST_RUNS = 20
"""Whose resources are listed; those of older ones can be read all the same."""


def run_resources(desk: Desk) -> list[Resource]:
    """Configuration and scoreboard of the newest runs."""
    kinds = (("config", "Configuration", "application/json"), ("scoreboard", "Scoreboard", "text/plain"))
    return [
        Resource(
            uri=f"run://{quote(path.name, safe='')}/{kind}",
            name=f"{path.name}/{kind}",
            title=f"{title} of {path.name}",
            description=f"{title} of the run {path.name}",
            mime_type=mime_type,
        )
        for path in ([desk.path()] if desk.settings.alone else reversed(list_runs(desk.settings.root)[-MOST_RUNS:]))
        for kind, title, mime_type in kinds
    ]


def add_resources(server: MCPServer[Any], desk: Desk) -> None:
    """Add the templates; nothing under `sealed/` can be reached through one."""

    @server.resource("run://{run}/config", mime_type="application/json", title="Configuration of a run")
    async def config(run: str) -> str:
        """The run's record: domain, models, budget, objectives."""
        return await _found(desk, lambda: _noted(desk, run, "config", lambda of: of.record.model_dump_json(indent=2)))

    @server.resource("run://{run}/scoreboard", mime_type="text/plain", name="scoreboard", title="Scoreboard of a run")
    async def board(run: str) -> str:
        """Every iteration with its numbers."""
        return await _found(desk, lambda: _noted(desk, run, "scoreboard", lambda of: of.scoreboard().text()))

    @server.resource(
        "run://{run}/iterations/{iteration}/{file}", mime_type="text/plain", name="file", title="File of an iteration"
    )
    async def part(run: str, iteration: str, file: str) -> str:
        """Source by its path, or proposal.json, reasoning.md, score.json, report.md, eval_trace.jsonl."""
        return await _found(desk, lambda: _part(desk, run, iteration, file))


def add_skills(server: MCPServer[Any]) -> None:
    """Add the pages that the skills refer to, for hosts where only their prompts are known."""

    @server.resource(
        "skill://{skill}/references/{page}", mime_type="text/markdown", name="reference", title="Page of a skill"
    )
    async def reference(skill: str, page: str) -> str:
        """A page that a skill refers to as references/NAME.md."""
        try:
            return skill_reference(skill, f"references/{page}")
        except MetaharnessError as error:
            raise ResourceNotFoundError(error.message + (f"; {error.hint}" if error.hint else "")) from None


def _noted(desk: Desk, run: str, name: str, text_of: Callable[[History], str]) -> str:
    path = desk.path(run)
    text = text_of(desk.history(path))
    desk.note_read(path, name, len(text.encode("utf-8", "replace")), "resource")
    return text


def _part(desk: Desk, run: str, iteration: str, file: str) -> str:
    path = desk.path(run)
    history = desk.history(path)
    if not iteration.isdecimal():
        raise ResourceNotFoundError(f"{iteration!r} is no number of an iteration")
    number = history.iteration(int(iteration)).number
    if file not in history.store.files(number):
        desk.require_shown(history, PARTS.get(file, "full"), "such files")
    source = history.store.files(number)
    text = source[file] if file in source else history.store.part(number, file, most=MOST_BYTES)
    if text is None:
        raise ResourceNotFoundError(f"iteration {number:03d} has no {file}")
    desk.note_read(path, f"iterations/{number:03d}/{file}", len(text.encode("utf-8", "replace")), "resource")
    return text


async def _found(desk: Desk, doing: Any) -> str:
    try:
        return str(await desk.in_thread(doing))
    except MetaharnessError as error:
        raise ResourceNotFoundError(error.message + (f"; {error.hint}" if error.hint else "")) from None
