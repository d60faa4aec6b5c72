"""A file `STOP` in the run's directory stops the run, whoever leaves it there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from run_kit import harness, lines, write_toy

from metaharness.proposers.scripted import ScriptedProposer
from metaharness.records import Proposal
from metaharness.run import Round, Run
from metaharness.search import search


async def test_it_ends_a_proposer_at_work_and_is_gone_once_the_run_goes_on(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", proposals={"1_good.py": harness("good")})
    path = tmp_path / "runs" / "run"

    class Thinking:
        async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
            (path / "STOP").touch()
            await anyio.sleep_forever()
            yield Proposal(files={})

    async with Run.create(toy.config(), tmp_path / "runs", name="run") as run:
        with anyio.fail_after(30):
            assert await search(run, Thinking()) == "stopped"
    assert [row["file"] for row in lines(path / "events.jsonl") if row["kind"] == "stop_asked"] == ["STOP"]
    async with Run.open(path) as run:
        assert await search(run, ScriptedProposer()) == "the one candidate was proposed"
    assert not (path / "STOP").exists()
