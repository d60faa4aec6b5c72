"""The starter, which `init` copies: valid without a warning, whole in the wheel, and worth searching."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from examples_kit import ROOT, Door, load_harness
from examples_kit import score as scored
from run_kit import assert_complains, say

from metaharness.configuration import RunConfig
from metaharness.domain import Split, split_cases
from metaharness.errors import DomainError, UsageError
from metaharness.harness import LabeledExample
from metaharness.loading import load_domain, read_candidate, shipped_domains
from metaharness.messages import ModelSpec
from metaharness.scaffold import FILES
from metaharness.testing import check_domain

STARTER = ROOT / "reference_examples" / "starter"
IN_THE_SANDBOX = sorted(file for file in FILES if file.startswith(("baselines/", "driver", "proposals/01")))


def examples(split: str) -> list[LabeledExample]:
    lines = (STARTER / "data" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [LabeledExample(row["input"], row["expected"]) for row in map(json.loads, lines)]


async def test_the_check_finds_nothing_to_say() -> None:
    config = RunConfig(domain=str(STARTER), models={"target": ModelSpec(provider="embedded", name="icl")})
    report = await check_domain(config)
    assert (report.problems, report.warnings) == ([], [])
    assert report.baselines == ["00_zero_shot.py", "01_all_examples.py"]
    assert report.splits == {"train": 24, "search": 16, "test": 16}


@pytest.mark.parametrize("split", ["train", "search", "test"])
def test_every_label_has_as_many_cases(split: str) -> None:
    counts = Counter(example.label for example in examples(split))
    assert set(counts) == {"plot", "seeds", "tools", "water"}
    assert len(set(counts.values())) == 1


def test_each_step_from_names_to_all_examples_to_the_nearest_is_visible_in_the_scores() -> None:
    train, cases = examples("train"), examples("search")
    zero, everything, nearest = (
        scored(load_harness(STARTER / path), train, cases, str.__eq__)
        for path in ("baselines/00_zero_shot.py", "baselines/01_all_examples.py", "proposals/01_nearest_examples")
    )
    assert 0.25 < zero.accuracy < everything.accuracy < nearest.accuracy < 1
    assert zero.chars < nearest.chars < everything.chars / 2


def test_the_proposal_says_what_it_expects_and_why() -> None:
    proposal = read_candidate(STARTER / "proposals" / "01_nearest_examples")
    assert proposal.name == "nearest_examples"
    assert proposal.hypothesis
    assert proposal.predicted_effect
    assert "**Risk.**" in proposal.reasoning


def test_a_text_without_a_word_of_the_examples_is_answered_all_the_same() -> None:
    harness, door = load_harness(STARTER / "proposals" / "01_nearest_examples"), Door()
    harness.learn(examples("train"), door.model())
    assert harness.predict("?", door.model()) in {"plot", "seeds", "tools", "water"}


@pytest.mark.parametrize("file", [file for file in IN_THE_SANDBOX if file.endswith(".py")])
def test_what_runs_inside_the_sandbox_is_python_3_9(file: str) -> None:
    tree = ast.parse((STARTER / file).read_text(encoding="utf-8"), feature_version=(3, 9))
    top = {node.module.split(".")[0] for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}
    top |= {alias.name.split(".")[0] for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert top <= sys.stdlib_module_names | {"metaharness"}
    assert any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)


def test_a_candidate_without_predict_is_told_by_the_driver_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "harness.py").write_text("class Harness:\n    pass\n")
    said = say("evaluate", tmp_path / "harness.py", "--domain", "starter")
    missing = "does not pass the ladder at interface: harness.py defines no class Harness with a method predict"
    assert_complains(said, 3, missing, "DOMAIN.md")


def test_a_harness_that_learns_nothing_and_answers_later_is_driven_too(tmp_path: Path) -> None:
    (tmp_path / "harness.py").write_text(
        "class Harness:\n    async def predict(self, text, model):\n        return 'water'\n"
    )
    page = say("evaluate", tmp_path / "harness.py", "--domain", "starter", "--json").page
    assert page["metrics"]["accuracy"]["mean"] == 0.25


# --- its data ---------------------------------------------------------------------------------------------------


def test_data_of_another_folder_are_taken_with_any_json_as_input(tmp_path: Path) -> None:
    lines = ['{"input": {"a": [1]}, "expected": 2}', "", '{"input": "b\u2028", "expected": "c"}']
    (tmp_path / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    cases = split_cases(load_domain("starter", {"data": str(tmp_path)}), Split.TRAIN)
    assert [(case.id, case.input, case.expected) for case in cases] == [
        ("train-0001", {"a": [1]}, 2),
        ("train-0003", "b\u2028", "c"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"input": "a", "expected": "b"}\n{"input": "a"', "line 2 is no case: JSONDecodeError"),
        (b'{"input": "a"}', "line 1 is no case: KeyError: 'expected'"),
        (b"[1]", "line 1 is no case: TypeError"),
        (b'{"input": "\xff"}', "cannot read"),
        (None, "cannot read"),
    ],
)
def test_damaged_data_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "train.jsonl").write_bytes(content)
    domain = load_domain("starter", {"data": str(tmp_path)})
    with pytest.raises(DomainError) as caught:
        split_cases(domain, Split.TRAIN)
    assert message in caught.value.message
    assert str(tmp_path / "train.jsonl") in caught.value.message
    assert caught.value.hint


def test_a_data_folder_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no data folder") as caught:
        load_domain("starter", {"data": str(tmp_path / "absent")})
    assert "train.jsonl" in (caught.value.hint or "")


# --- where it lies ----------------------------------------------------------------------------------------------


def test_every_file_of_the_starter_is_copied() -> None:
    """Else a file that is added to it would be missing in every new domain."""
    own = [path.relative_to(STARTER) for path in STARTER.rglob("*") if path.is_file()]
    left = ("__pycache__", "runs", "uv.lock")
    hidden = {path for path in own if any(part.startswith(".") and part != ".gitignore" for part in path.parts)}
    kept = {path.as_posix() for path in own if path not in hidden and not set(path.parts) & set(left)}
    assert kept == set(FILES)


def test_it_is_a_shipped_example() -> None:
    assert "starter" in shipped_domains()


@pytest.mark.skipif(shutil.which("uv") is None, reason="there is no uv to build the wheel with")
def test_the_wheel_holds_all_that_init_copies(tmp_path: Path) -> None:
    built = subprocess.run(
        ["uv", "build", "--wheel", "--offline", "--quiet", "--out-dir", str(tmp_path / "dist"), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "not found in the cache" in built.stderr:
        pytest.skip("what builds the wheel is not in the cache, and the tests stay offline")
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next((tmp_path / "dist").glob("*.whl"))) as wheel:
        inside = {name for name in wheel.namelist() if "/starter/" in name}
    assert inside == {f"metaharness/reference_examples/starter/{file}" for file in FILES}
