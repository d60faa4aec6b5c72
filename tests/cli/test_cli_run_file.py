"""`run FILE`: what a file says of a run, and options over it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from run_kit import Toy, assert_complains, say, write_toy

from metaharness.store import load_record


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain")


def write_file(toy: Toy, **fields: object) -> Path:
    """A file beside the domain that says the toy's run."""
    said = {
        "domain": "domain",
        "domain_options": {"data": "domain/data"},
        "models": {"target": "scripted:domain/model.jsonl"},
        "sandbox": "process",
        "root": "runs",
        "name": "run",
        **fields,
    }
    path = toy.folder.parent / "search.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


def test_an_option_wins_over_the_file_and_one_that_is_not_given_does_not(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = {"calls": 400, "usd": 3, "roles": {"proposer": {"usd": 2, "calls": 9}}}
    proposing = {"max_turns": 7, "axes": ["one"]}
    path = write_file(toy, iterations=2, patience=5, seed=4, concurrency=3, budget=budget, proposing=proposing)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    options = ("--patience", 1, "--budget-calls", 300, "--role-budget", "proposer:usd=0.5", "--proposer-turns", 8)
    said = say("run", path, "--quiet", "-n", 1, "--no-cache", "--memory", *options)
    assert said.code == 0, said.err
    config = load_record(tmp_path / "runs" / "run").config
    assert (config.iterations, config.patience, config.seed, config.concurrency) == (1, 1, 4, 3)
    assert config.budget.model_dump(exclude_none=True) == {
        "calls": 300,
        "usd": 3.0,
        "roles": {"proposer": {"calls": 9, "usd": 0.5}},
    }
    assert (config.proposing.max_turns, config.proposing.axes) == (8, ("one",))
    assert (config.cache, config.memory, config.history) == (False, True, "full")
    assert config.domain == str(toy.folder)
    assert config.domain_options == {"data": str(toy.folder / "data")}
    assert config.models["target"].name == str(toy.script)


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["yaml", "json"])
def test_the_printed_configuration_is_a_file_that_says_the_same(form: list[str], toy: Toy, tmp_path: Path) -> None:
    options = (
        "--price",
        "openai:x=0.5,2",
        "--judge",
        "openai:x",
        "--base-url",
        "http://127.0.0.1:9/v1",
        "-m",
        "openai:x",
    )
    first = say("run", write_file(toy, limit=3), *options, "--role-budget", "target:tokens=5", "--print-config", *form)
    assert first.code == 0, first.err
    copy = tmp_path / ("copy.json" if form else "copy.yaml")
    copy.write_text(first.out)
    assert say("run", copy, "--print-config", *form).out == first.out
    page = yaml.safe_load(first.out)
    assert (page["limit"], page["models"]["judge"]["base_url"]) == (3, "http://127.0.0.1:9/v1")
    assert not (tmp_path / "runs").exists()


def test_every_mistake_is_told_with_its_place_and_what_is_valid(toy: Toy) -> None:
    path = write_file(
        toy,
        patiance=3,
        trials=0,
        models={"target": "kimi", "jury": "embedded:icl"},
        budget={"dollars": 1, "roles": {"proposer": {"usd": "much"}}},
        proposing={"trace_errors": -1},
    )
    said = say("run", path)
    assert said.code == 2
    told = said.err
    assert f"error: {path}\n" in told
    assert "models.target: 'kimi' does not say which provider" in told
    assert "models.jury should be 'target', 'proposer' or 'judge', not 'jury'" in told
    assert "budget.dollars is not a field; valid: candidates, case_evaluations, calls, tokens, usd, roles" in told
    assert "budget.roles.proposer.usd should be a valid number" in told
    assert "proposing.trace_errors should be greater than or equal to 0, not -1" in told
    assert "trials should be greater than or equal to 1, not 0" in told
    assert "patiance is not a field; valid: domain, " in told
    one = write_file(toy, seed="early")
    message = f"{one}: seed should be a valid integer"
    assert_complains(say("run", one), 2, message, "--print-config")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "seed: 1\nseed: 2\n", "a.yaml is not YAML: line 2: seed is given twice"),
        ("a.toml", "seed = \n", "a.toml is not TOML: Invalid value (at line 1"),
        ("a.json", "[]", "a.json holds no fields"),
        ("a.txt", "seed: 1", "a.txt is no file that says what a run is"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    said = say("run", tmp_path / name)
    assert said.code == 2
    assert message in said.err


def test_toml_says_the_same_as_yaml(toy: Toy, tmp_path: Path) -> None:
    text = 'domain = "domain"\nsandbox_command = "env"\n[domain_options]\nsize = 3\n[budget.roles.judge]\ncalls = 1\n'
    (tmp_path / "a.toml").write_text(text)
    said = say("run", tmp_path / "a.toml", "-n", 0, "--print-config", "--json")
    page = json.loads(said.out)
    assert (page["sandbox"], page["sandbox_command"]) == ("command", "env")
    assert page["domain_options"] == {"size": "3"}
    assert page["budget"]["roles"] == {"judge": {"calls": 1, "tokens": None, "usd": None}}
    assert page["models"]["target"] == {"provider": "embedded", "name": "icl", "base_url": None}


def test_a_bound_of_a_role_that_is_none_is_told() -> None:
    for wrong in ("proposer:usd", "proposers:usd=1", "proposer:candidates=1", "target:calls=-1"):
        said = say("run", "-d", "text_classification", "--role-budget", wrong)
        assert_complains(said, 2, f"--role-budget {wrong!r} is not ROLE:BOUND=N", "proposer:usd=2")
