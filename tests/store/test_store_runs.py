"""Making runs and finding them again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from store_kit import files_below, new_run, run_record

from metaharness.errors import CorruptRecordError, NewerSchemaError, StoreError, UsageError
from metaharness.records import SCHEMA_VERSION
from metaharness.store import RunStore, find_run, list_runs, openings


def runs_in(root: Path, *names: str) -> list[Path]:
    """Runs made in this order, a second apart."""
    paths = []
    for second, name in enumerate(names):
        created = f"2026-04-23T17:21:{second:02d}.000+00:00"

        with RunStore.create(root, lambda run_id, created=created: run_record(run_id, created), name=name) as store:
            paths.append(store.path)
    return paths


def test_a_run_is_named_by_its_time_or_by_its_maker(tmp_path: Path) -> None:
    root = tmp_path / "deep/runs"
    with RunStore.create(root, run_record) as timed, RunStore.create(root, run_record, name="mine") as named:
        assert timed.record.run_id == timed.path.name
        assert len(timed.path.name.split("_")) == 2
        assert named.path == root / "mine"
        assert RunStore.open(named.path, record=False).record == named.record
    assert (root / ".gitignore").read_text() == "*\n"


def test_a_taken_name_gets_a_suffix_and_the_run_that_has_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    assert [path.name for path in runs_in(tmp_path, "a", "a", "a")] == ["a", "a-2", "a-3"]
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "latest", "a b", "x" * 101, "-x", "a\n"])
def test_what_cannot_be_a_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a run"):
        new_run(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_could_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        RunStore.create(tmp_path, lambda _: run_record(str(1 // 0)), name="run")
    assert [path.name for path in tmp_path.iterdir()] == [".gitignore"]


def test_a_folder_for_runs_that_is_a_file_is_an_error_with_its_cause(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StoreError, match="cannot make a run") as caught:
        new_run(tmp_path / "runs")
    assert isinstance(caught.value.__cause__, OSError)
    assert list_runs(tmp_path / "runs") == []


def test_a_run_of_a_newer_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    (path,) = runs_in(tmp_path, "run")
    config = json.loads((path / "config.json").read_text())
    newer = {"schema_version": SCHEMA_VERSION + 1, "everything": "else", "config": config["config"]}
    (path / "config.json").write_text(json.dumps(newer))
    before = files_below(path)
    for record in (True, False):
        with pytest.raises(NewerSchemaError, match=f"version {SCHEMA_VERSION + 1}; .* version {SCHEMA_VERSION}$"):
            RunStore.open(path, record=record)
    assert files_below(path) == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b'{"schema_version": 1', "delimiter"),
        (b"[]", "not an object"),
        (b"{}", "schema_version"),
        (b'{"schema_version": "1"}', "schema_version"),
        (b'{"schema_version": 1}', "run_id: Field required"),
        (b"\xff", "utf-8"),
    ],
)
def test_a_damaged_config_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (path,) = runs_in(tmp_path, "run")
    (path / "config.json").write_bytes(content)
    with pytest.raises(CorruptRecordError, match=reason) as caught:
        RunStore.open(path, record=True)
    assert caught.value.path == path / "config.json"
    assert list_runs(tmp_path) == [path]


def test_what_is_not_a_run_is_answered_with_what_is(tmp_path: Path) -> None:
    runs_in(tmp_path, "one", "two")
    with pytest.raises(UsageError, match="not a run directory") as caught:
        RunStore.open(tmp_path, record=True)
    assert caught.value.hint == "runs here, newest first: two, one"
    with pytest.raises(UsageError, match="no run directory") as caught:
        RunStore.open(tmp_path / "three", record=False)
    assert caught.value.hint == "runs here, newest first: two, one"
    with pytest.raises(UsageError) as caught:
        RunStore.open(tmp_path / "one/nothing", record=False)
    assert caught.value.hint == "`metaharness runs` lists the runs"
    assert not (tmp_path / ".lock").exists()


def test_runs_are_listed_oldest_first_whatever_their_names(tmp_path: Path) -> None:
    paths = runs_in(tmp_path, "zebra", "b", "ape")
    (tmp_path / "not-a-run").mkdir()
    assert list_runs(tmp_path) == paths
    assert list_runs(tmp_path / "nowhere") == []


def test_runs_made_in_the_same_moment_are_ordered_by_their_suffix(tmp_path: Path) -> None:
    for _ in range(11):
        new_run(tmp_path, "run").close()
    assert [path.name for path in list_runs(tmp_path)][-2:] == ["run-10", "run-11"]


def test_a_run_is_found_by_id_path_prefix_or_as_the_latest(tmp_path: Path) -> None:
    first, second, third = runs_in(tmp_path, "alpha", "alphabet", "beta")
    assert find_run(tmp_path, "alpha") == first
    assert find_run(tmp_path, "alphab") == second
    assert find_run(tmp_path, "b") == third
    assert find_run(tmp_path / "elsewhere", str(second)) == second
    assert find_run(tmp_path, None) == third == find_run(tmp_path, "latest")


def test_what_cannot_be_found_is_answered_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run in"):
        find_run(tmp_path, None)
    with pytest.raises(UsageError) as caught:
        find_run(tmp_path, "gamma")
    assert caught.value.hint == "there are no runs in it"
    runs_in(tmp_path, *(f"run{number:02d}" for number in range(12)))
    for name, message in (("run", "beginning of 12 runs"), ("gamma", "no run 'gamma'"), ("", "no run ''")):
        with pytest.raises(UsageError, match=message) as caught:
            find_run(tmp_path, name)
        assert caught.value.hint is not None
        assert caught.value.hint.startswith("runs here, newest first: run11, run10,")
        assert caught.value.hint.endswith("and 2 older")


def test_openings_of_all_runs_can_be_counted(tmp_path: Path) -> None:
    paths = runs_in(tmp_path, "one", "two", "three")
    for path in (paths[2], paths[0]):
        with RunStore.open(path, record=True) as store:
            store.sealed.write_opening({"test_hash": path.name})
    assert list(openings(tmp_path)) == [(paths[0], {"test_hash": "one"}), (paths[2], {"test_hash": "three"})]
