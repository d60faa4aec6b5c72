"""Completion of what stands in the address of a resource: the run, the number of an iteration, the name of a file."""

from __future__ import annotations

from typing import Any

from mcp.server import MCPServer
from mcp.types import Completion, ResourceTemplateReference

from metaharness.errors import MetaharnessError
from metaharness.store import list_runs
from metaharness.tools import Desk

MOST_VALUES = 100
"""More than so many the protocol does not take."""


def add_completion(server: MCPServer[Any], desk: Desk) -> None:
    """Add it."""

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]
    async def complete(ref: Any, argument: Any, context: Any) -> Completion | None:
        if not isinstance(ref, ResourceTemplateReference):
            return None
        given = dict((context.arguments if context is not None else None) or {})
        values = await desk.in_thread(lambda: _values(desk, argument.name, given))
        found = [value for value in values if value.startswith(argument.value)]
        return Completion(values=found[:MOST_VALUES], total=len(found), has_more=len(found) > MOST_VALUES)


def _values(desk: Desk, name: str, given: dict[str, str]) -> list[str]:
    """What there is, the newest first; nothing where what it hangs on is not known yet."""
    try:
        if name == "run":
            runs = [desk.path()] if desk.settings.alone else list_runs(desk.settings.root)
            return [path.name for path in reversed(runs)]
        history = desk.history(desk.path(given.get("run", "")))
        if name == "iteration":
            return [f"{one.number:03d}" for one in reversed(list(history))]
        number = given.get("iteration", "")
        if name == "file" and number.isdecimal():
            store = history.store
            return [*sorted(store.files(history.iteration(int(number)).number)), *store.parts(int(number))]
    except MetaharnessError:  # completion is help with typing: the resource itself says what is wrong
        return []
    return []
