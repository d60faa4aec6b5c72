"""What an agent waits for: the tools over a run of 1,000 iterations, through an MCP client and server in one process.

uv run python benchmarks/tools.py
"""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import kit
import loop
from mcp import Client

from mcp_server import make_server
from metaharness.gateway.providers import Provider
from metaharness.records import Role
from metaharness.run import Run
from metaharness.search import search
from metaharness.tools import Desk, Settings

ITERATIONS = 1000
WARM = 50.0
"""Milliseconds of a call once the run is known."""
COLD = 1500.0
"""Milliseconds of the first one, and of one after something was recorded."""


async def make(root: Path) -> None:
    """A run of so many iterations of 50 cases."""
    (root / "baselines").mkdir()
    (root / "baselines" / "base.py").write_text(kit.SILENT)
    kit.numbers.root = root
    models: dict[Role, Provider] = {"target": kit.SlowModel(0)}
    settings = kit.config(iterations=ITERATIONS)
    async with Run.create(settings, root / "runs", name="long", runner=loop.InstantRunner(), providers=models) as run:
        await search(run, loop.InstantProposer())


async def main() -> None:
    """Make the run, and ask."""
    with kit.folder() as root:
        await make(root)
        async with Desk(Settings(root=root / "runs", project=root)) as desk, Client(make_server(desk)) as client:

            async def milliseconds(tool: str, **given: object) -> float:
                began = time.perf_counter()
                result = await client.call_tool(tool, given)
                assert not result.is_error, result.content
                return (time.perf_counter() - began) * 1000

            kit.report("scoreboard of 1,000 iterations, first", [await milliseconds("scoreboard")], COLD, "ms")
            asked: list[tuple[str, dict[str, object]]] = [
                ("scoreboard", {}),
                ("scoreboard", {"all": True, "start": 900}),
                ("list_iterations", {"start": 500}),
                ("read_harness", {"iteration": 700}),
                ("read_trace", {"iteration": 700, "failures": True}),
                ("compare", {"a": 700, "b": 699}),
            ]
            for tool, given in asked:
                name = f"{tool} {' '.join(f'{key}={value}' for key, value in given.items())}"
                kit.report(name, [await milliseconds(tool, **given) for _ in range(20)], WARM, "ms")
            changed = []
            for _ in range(5):
                (root / "runs" / "long" / "events.jsonl").touch()
                changed.append(await milliseconds("scoreboard"))
            kit.report("scoreboard after something was recorded", changed, COLD, "ms")
            given = {"pattern": "no such text"}
            kit.report(
                "search_history, a page without a hit", [await milliseconds("search_history", **given)], COLD, "ms"
            )


if __name__ == "__main__":
    anyio.run(main)
