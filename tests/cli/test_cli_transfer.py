"""`evaluate RUN --frontier`: what a run has found, over a grid of models and data."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
from finish_kit import SEARCH, finish_toy, finished, searched_run, write_test
from run_kit import COLOURS, Toy, assert_complains, count_lines, lines, recorded, say, started, wait_until

from metaharness.run.accounts import read_cost
from metaharness.run.transfer import Transfer
from metaharness.store import damage_in

NEWS, TALES = 5, 4
"""Test cases of the data that is given."""
FOUND = 4
"""Both baselines, and the frontier: the best on `search`, and one that needs less context for nearly as much."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return finish_toy(tmp_path_factory.mktemp("transfer") / "domain")


@pytest.fixture(scope="module")
def over(toy: Toy) -> Path:
    """A run whose search is over; copy it."""
    return anyio.run(searched_run, toy, toy.folder.parent / "runs")


@pytest.fixture(scope="module")
def done(over: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, finished; copy it."""
    run = shutil.copytree(over, tmp_path_factory.mktemp("done") / "run")
    anyio.run(finished, run)
    return run


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    """One that says red, and one that says green."""
    found = []
    for colour in COLOURS[:2]:
        path = tmp_path / f"{colour}.jsonl"
        path.write_text(json.dumps({"text": colour}) + "\n")
        found.append(f"scripted:{path}")
    return found


@pytest.fixture
def data(tmp_path: Path) -> list[Path]:
    """Two folders of data with splits of their own."""
    folders = []
    for name, count in (("news", NEWS), ("tales", TALES)):
        folder = tmp_path / name / "data"
        folder.mkdir(parents=True)
        (folder / "train.jsonl").write_text('{"id": "t", "text": "a line to learn from", "colour": "red"}\n')
        write_test(Toy(folder.parent, folder), count, mark=f"{name} item")
        folders.append(folder.rename(tmp_path / f"{name}-data"))
    return folders


def grid(run: Path, models: list[str], data: list[Path], *more: object) -> list[object]:
    given = ["--data", ",".join(map(str, data))] if data else []
    return ["evaluate", run, "--frontier", "--models", ",".join(models), *given, *more]


def copied(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "runs" / "run")


def means(page: dict[str, Any]) -> dict[tuple[str, str | None], set[float]]:
    """(model, data) to the means there."""
    found: dict[tuple[str, str | None], set[float]] = {}
    for cell in page["cells"]:
        data = None if cell["data"] is None else Path(cell["data"]).name
        found.setdefault((Path(cell["model"]).stem, data), set()).add(round(cell["metrics"]["accuracy"]["mean"], 3))
    return found


def test_models_alone_are_compared_on_search_also_before_finish(
    toy: Toy, over: Path, models: list[str], tmp_path: Path
) -> None:
    run = copied(over, tmp_path)
    before = read_cost(recorded(run))
    own = f"scripted:{toy.script}"
    said = say(*grid(run, [*models, own], [], "--json"))
    assert said.code == 0, said.err
    page = said.page
    marks = {one["iteration"]: (one["baseline"], one["frontier"]) for one in page["candidates"]}
    assert marks == {0: (True, False), 1: (True, True), 2: (False, True), 3: (False, True)}
    assert means(page) == {("red", None): {0.333}, ("green", None): {0.333}, ("model", None): {0.667, 0.0, 1.0, 0.833}}
    assert page["spent"]["calls"] == 2 * FOUND * SEARCH, "the model of the run has answered already"
    assert read_cost(recorded(run)) == before, "nothing of it is counted in the run"
    assert not (run / "sealed").exists()
    table = say(*grid(run, [*models, own], [])).out.splitlines()
    assert table[0].split()[:2] == ["iter", "name"]
    assert table[1].split()[:3] == ["000", "baseline", "00_plain"]
    assert table[1].count("6/6") == 3
    assert "optimistic" in table[6]
    assert f"{2 * FOUND * SEARCH} calls" in table[7], "nothing was asked again, and what it has cost is told again"


def test_given_data_stays_sealed_until_the_run_is_finished(
    over: Path, models: list[str], data: list[Path], tmp_path: Path
) -> None:
    run = copied(over, tmp_path)
    said = say(*grid(run, models, data))
    assert_complains(said, 2, "run run is not finished: data that is given stays sealed", "finish")
    assert not (run / "sealed").exists()


def test_given_data_is_asked_once_behind_an_opening_that_counts(
    done: Path, models: list[str], data: list[Path], tmp_path: Path
) -> None:
    run = copied(done, tmp_path)
    other = shutil.copytree(done, tmp_path / "runs" / "other")
    before = read_cost(recorded(run))
    page = say(*grid(run, models, data, "--json")).page
    assert page["split"] == "test"
    assert means(page) == {
        ("red", "news-data"): {0.4},
        ("red", "tales-data"): {0.5},
        ("green", "news-data"): {0.4},
        ("green", "tales-data"): {0.25},
    }
    assert {cell["look"] for cell in page["cells"]} == {1}
    assert {(cell["planned"], cell["ended"]) for cell in page["cells"]} == {(NEWS, NEWS), (TALES, TALES)}
    calls = 2 * FOUND * (NEWS + TALES)
    assert page["spent"]["calls"] == calls
    assert read_cost(recorded(run)) == before
    assert list(damage_in(run, deep=True)) == []
    outside = [path for path in run.rglob("*.jsonl") if "sealed" not in path.relative_to(run).parts]
    assert [path for path in outside if "news item" in path.read_text()] == []

    again = say(*grid(run, models[:1], data[:1]))
    assert "look 1" in again.out
    assert sum(count_lines(path) for path in run.glob("sealed/transfer/*/calls.jsonl")) == calls
    assert Counter(line["kind"] for line in lines(run / "events.jsonl"))["transfer_opened"] == 2
    elsewhere = say(*grid(other, models[:1], data[:1], "--json")).page
    assert {cell["look"] for cell in elsewhere["cells"]} == {2}


def test_the_test_split_of_the_run_itself_is_no_longer_unseen(
    toy: Toy, done: Path, models: list[str], tmp_path: Path
) -> None:
    run = copied(done, tmp_path)
    said = say(*grid(run, models[:1], [toy.folder / "data"]))
    assert said.code == 0, said.err
    assert "look 2: these cases were opened before" in said.out


def test_killed_in_the_middle_the_same_command_goes_on(done: Path, tmp_path: Path, data: list[Path]) -> None:
    run = copied(done, tmp_path)
    slow = tmp_path / "slow.jsonl"
    slow.write_text('{"text": "red", "delay_ms": 20}\n')
    asking = grid(run, [f"scripted:{slow}"], data, "--json")

    def asked() -> list[str]:
        return [line["key"] for path in run.glob("sealed/transfer/*/calls.jsonl") for line in lines(path)]

    with started(*asking) as process:
        assert wait_until(process, lambda: len(asked()) > NEWS)
        process.kill()
        process.wait()
    kept = asked()
    assert len(kept) < FOUND * (NEWS + TALES)
    page = say(*asking).page
    assert len(asked()) == len(set(asked())) == page["spent"]["calls"] == FOUND * (NEWS + TALES)
    assert set(kept) <= set(asked())
    assert {cell["look"] for cell in page["cells"]} == {1}


async def test_what_was_evaluated_while_the_data_changed_is_not_accepted(
    done: Path, models: list[str], data: list[Path], tmp_path: Path
) -> None:
    from metaharness.errors import DomainError
    from metaharness.gateway.providers import parse_model

    run = copied(done, tmp_path)
    file = data[0] / "test.jsonl"
    with Transfer.open(run, models=[parse_model(models[0])], data=[str(data[0])]) as transfer:
        transfer.listener = lambda kind, _fields: file.write_text("") and None if kind == "evaluating" else None
        with pytest.raises(DomainError, match=r"test\.jsonl has changed"):
            await transfer.run()
    assert list(run.glob("sealed/transfer/*/*/score.json")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "2"], "--trials and --frontier exclude each other"),
        (["--text-field", "title"], "--text-field goes with --data"),
    ],
)
def test_what_the_run_decides_is_refused(arguments: list[str], message: str, over: Path, models: list[str]) -> None:
    assert_complains(say(*grid(over, models, [], *arguments)), 2, message, "run")


def test_models_without_a_run_are_refused(toy: Toy, models: list[str]) -> None:
    harness = toy.folder / "baselines" / "00_plain.py"
    said = say("evaluate", harness, *toy.arguments("--models", models[0]))
    assert_complains(said, 2, "--models goes with --frontier", "one --model")
    assert_complains(say("evaluate", harness), 2, "no domain is named", "--domain")


def test_a_budget_is_kept_and_what_is_missing_is_told(over: Path, models: list[str], tmp_path: Path) -> None:
    run = copied(over, tmp_path)
    said = say(*grid(run, models[:1], [], "--budget-calls", 10))
    assert said.code == 0, said.err
    assert f"{FOUND * SEARCH - 10} pairs without a value; the same command asks again" in said.out
    assert f"{FOUND * SEARCH} calls" in say(*grid(run, models[:1], [])).out
