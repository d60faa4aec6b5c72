"""The small program of the text classification example: a whole search, offline."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from examples_kit import EXAMPLE, synthetic

from metaharness.harness import LabeledExample


def load_program() -> Any:
    spec = importlib.util.spec_from_file_location("example_meta_harness", EXAMPLE / "meta_harness.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path: Path, rows: list[LabeledExample]) -> None:
    path.write_text("".join(json.dumps({"body": row.text, "queue": row.label}) + "\n" for row in rows), "utf-8")


@pytest.mark.slow
def test_it_searches_a_folder_of_texts(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", synthetic(1, 8))
    write(tmp_path / "val.jsonl", synthetic(2, 2))
    write(tmp_path / "test.jsonl", synthetic(3, 2))

    code = load_program().main(
        [
            *("--dataset", str(tmp_path), "--text-field", "body", "--label-field", "queue", "--iterations", "2"),
            *("--root", str(tmp_path / "runs"), "--name", "example", "--quiet"),
        ]
    )

    lines = (tmp_path / "runs" / "example" / "evolution_summary.jsonl").read_text("utf-8").splitlines()
    names = [json.loads(line)["name"] for line in lines]
    assert code == 0
    assert names == ["00_zero_shot", "01_few_shot_random", "02_few_shot_all", "bm25_nearest", "engine_index"]


def test_it_says_what_is_wrong_with_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = load_program().main(["--dataset", str(tmp_path / "absent"), "--root", str(tmp_path / "runs")])

    assert code == 2
    assert "absent does not exist" in capsys.readouterr().err
