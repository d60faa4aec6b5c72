"""`trace`: inputs and outputs as they are, or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_kit import DOMAIN, EVALUATOR, harness, say, write_toy

GRADES = EVALUATOR.replace("class Exact", "from metaharness.domain import Grade\n\n\nclass Exact").replace(
    "return context.output == context.case.expected", "return Grade(0.5, metrics={'f1': 0.25, 'exact': 1})"
)
STRUCTURED = DOMAIN.replace('input=row["text"], expected=row["colour"]', 'input=row["input"], expected=row["colour"]')
ANSWERS = """
class Harness:
    def predict(self, item, model):
        if item == "two\\nlines":
            return "one\\nanswer"
        model.complete([{"role": "user", "content": [{"type": "text", "text": "caf\u00e9"}]}])
        return {"label": None, "sure": True} if item is None else {"words": ["word"] * 30}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trace")
    toy = write_toy(folder / "domain", baselines={"00.py": ANSWERS}, proposals={})
    (toy.folder / "domain.py").write_text(STRUCTURED)
    (toy.folder / "evaluator.py").write_text(GRADES)
    inputs = ["two\nlines", None, {"n": 1}]
    rows = [{"id": f"c{place}", "input": value, "colour": ["a", True]} for place, value in enumerate(inputs)]
    (toy.folder / "data" / "search.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split in ("train", "test"):
        (toy.folder / "data" / f"{split}.jsonl").write_text("")
    said = say("run", *toy.arguments("--root", folder / "runs", "-n", 0, "-q"))
    assert said.code == 0, said.err
    return folder / "runs"


def shown(root: Path, case: str) -> str:
    return say("trace", 0, "--root", root, "--case", case).out


def test_a_text_keeps_its_lines(root: Path) -> None:
    head = '--- c0 trial 0: ok, score 0.5\ninput:    two\nlines\noutput:   one\nanswer\nexpected: ["a", true]\n'
    assert shown(root, "c0").startswith(f"{head}metrics:  f1 0.25, exact 1\ncalls:    0, ")


def test_a_value_is_shown_as_json(root: Path) -> None:
    out = shown(root, "c1").splitlines()
    assert out[1:3] == ["input:    null", 'output:   {"label": null, "sure": true}']
    assert '[user] [{"type": "text", "text": "caf\u00e9"}]' in out


def test_a_value_longer_than_a_line_is_indented(root: Path) -> None:
    out = shown(root, "c2")
    words = json.dumps({"words": ["word"] * 30}, indent=2)
    assert f'input:    {{"n": 1}}\noutput:   \n{words}\nexpected: ' in out


def test_a_harness_without_metrics_has_no_such_line(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain")}, proposals={})
    assert say("run", *toy.arguments("--root", tmp_path / "runs", "-n", 0, "-q")).code == 0
    out = say("trace", 0, "--root", tmp_path / "runs").out
    assert "metrics:" not in out
    assert "--- search-11 trial 0: ok, score 0\n" in out
