"""docs/first_harness.md is what the tools answer: the round is played again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from mcp_server import make_server
from metaharness.loading import shipped_folder
from metaharness.messages import ModelSpec
from metaharness.tools import Desk, Settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "first_harness.md").read_text(encoding="utf-8")


def shown(beginning: str) -> list[str]:
    """The lines of the page that begin so, without what makes columns."""
    return [" ".join(line.split()) for line in PAGE.splitlines() if line.strip().startswith(beginning)]


@pytest.mark.slow
async def test_every_number_of_the_round_comes_out_again(tmp_path: Path) -> None:
    example = shipped_folder("text_classification")
    assert example is not None
    (tmp_path / "nearest").mkdir()
    source = (example / "proposals" / "01_bm25_nearest" / "harness.py").read_text(encoding="utf-8")
    (tmp_path / "nearest" / "harness.py").write_text(source, encoding="utf-8")
    config: dict[str, Any] = {
        "models": {"target": ModelSpec(provider="embedded", name="icl")},
        "sandbox": "process",
        "iterations": 30,
    }
    said: list[str] = []
    async with Desk(Settings(tmp_path / "runs", tmp_path, config=config)) as desk, Client(make_server(desk)) as client:
        for tool, given in (
            ("start_run", {"name": "first", "domain": "text_classification", "wait_seconds": 600}),
            ("scoreboard", {}),
            ("read_trace", {"iteration": 2, "failures": True}),
            ("read_trace", {"iteration": 2, "case": "search-0009"}),
            ("check_harness", {"path": "nearest/harness.py"}),
            (
                "write_harness",
                {
                    "path": "nearest/harness.py",
                    "name": "nearest_examples",
                    "parents": [2],
                    "axis": "retrieval",
                    "hypothesis": "Examples that share words with the ticket answer better than as many as fit.",
                },
            ),
            ("evaluate", {"wait_seconds": 600}),
            ("compare", {"a": 3, "b": 2}),
            ("scoreboard", {}),
        ):
            found = await client.call_tool(tool, given)
            assert not found.is_error, found
            said.append(found.content[0].text)  # type: ignore[union-attr]
    told = "\n".join(" ".join(line.split()) for line in "\n".join(said).splitlines())
    kinds = ("00", "accuracy:", "fixed:", "broken:", "train cases", "call 0", "[cases", "candidates:", "--- ", "input:")
    lines = [line for kind in kinds for line in shown(kind)]
    tested = {" ".join(line.split()) for line in PAGE[PAGE.index("## 4.") :].splitlines()}
    missing = [line for line in lines if line not in tested and line not in told]
    assert [line for line in missing if not re.match(r"accuracy: .*, p <0.001$", line)] == []
    assert len(lines) > 20
