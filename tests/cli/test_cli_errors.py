"""What a person meets when something is wrong: one message, one hint, the right exit code, and nothing lost.

Every row is a real process. A row that acts on a run names it, and the files of that run are compared byte for byte
before and after; where the row says that the command adds to the run, what was there has to be the beginning of what is
there now. In the other rows that is asked of every run of the folder, and a new one may stand beside them.

A full disk is no row, as it has to be seen that the search goes on afterwards: it is at the end, and what a full disk
leaves in the files is in `tests/store/test_store_full_disk.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from disk_kit import make_read_only, mounted_disk
from run_kit import Toy, essence, executed, harness, say, started, wait_until, write_toy
from wire_server import Reply, serve

Arguments = list[object]


@dataclass
class Place:
    """Where a row happens: a small domain, a folder of runs with one finished search in it."""

    folder: Path
    toy: Toy
    stack: ExitStack
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "runs"

    @property
    def run(self) -> Path:
        return self.root / "first"

    def file(self, name: str, content: str = "") -> Path:
        path = self.folder / name
        path.write_text(content)
        return path

    def data(self, split: str, content: str) -> None:
        (self.toy.folder / "data" / f"{split}.jsonl").write_text(content)

    def labelled(self, **splits: str) -> Path:
        """A folder of labelled texts, as text_classification reads it."""
        good = '{"text": "a fine film", "label": "praise"}\n{"text": "a dull film", "label": "complaint"}\n'
        folder = self.folder / "labelled"
        folder.mkdir()
        for split in ("train", "search", "test"):
            (folder / f"{split}.jsonl").write_text(splits.get(split, good))
        return folder


@dataclass(frozen=True)
class Row:
    """Something that is wrong."""

    what: str
    arguments: Callable[[Place], Arguments]
    code: int
    message: str
    hint: str
    run: str | None = None
    """The run it acts on; None: there is none."""
    adds: bool = False
    """Whether something is recorded in that run: what the command was refused for, or what its owner is at."""


def classify(place: Place, **splits: str) -> Arguments:
    return ["run", "-d", "text_classification", "--data", place.labelled(**splits), "--root", place.root]


def search(place: Place, *more: object) -> Arguments:
    return ["run", *place.toy.arguments(), "--root", place.root, *more]


def on_run(place: Place, command: str, *more: object) -> Arguments:
    return [command, *more, "--root", place.root]


def newer(place: Place, command: str) -> Arguments:
    config = json.loads((place.run / "config.json").read_text())
    (place.run / "config.json").write_text(json.dumps({**config, "schema_version": 99}))
    return on_run(place, command, "first")


def damaged(place: Place, command: str) -> Arguments:
    path = place.run / "iterations" / "000" / "score.json"
    path.write_text(path.read_text()[:40])
    return on_run(place, command, "first")


def two_writers(place: Place) -> Arguments:
    place.toy.write_script([{"text": "grey", "delay_ms": 200}])
    process = place.stack.enter_context(started(*search(place, "--name", "second", "-q", "-c", 1)))
    last_baseline = place.root / "second" / "iterations" / "001" / "proposal.json"
    assert wait_until(process, last_baseline.is_file)  # the next candidate is some seconds away
    return on_run(place, "resume", "second")


def below_a_file(place: Place) -> Arguments:
    return ["run", *place.toy.arguments(), "--root", place.file("occupied") / "runs"]


def read_only(place: Place) -> Arguments:
    disk = place.stack.enter_context(mounted_disk(place.folder / "disk"))
    make_read_only(disk)
    return ["run", *place.toy.arguments(), "--root", disk / "runs"]


def no_key(place: Place) -> Arguments:
    return ["run", "-d", place.toy.folder, "-m", "anthropic:claude-haiku-4-5", "--root", place.root]


def dead_endpoint(place: Place) -> Arguments:
    place.environment["OPENAI_API_KEY"] = "not-a-real-key"
    base = ["run", "-d", place.toy.folder, "-m", "openai:any", "--base-url", "http://127.0.0.1:9/v1"]
    return [*base, "--root", place.root, "--limit", 2, "-n", 0]


def refused_key(place: Place) -> Arguments:
    server = place.stack.enter_context(serve([Reply(status=401, message="no such key")]))
    place.environment["OPENAI_API_KEY"] = "not-a-real-key"
    base = ["run", "-d", place.toy.folder, "-m", "openai:any", "--base-url", f"{server.url}/v1"]
    return [*base, "--root", place.root, "--limit", 2]


UNKNOWN = Reply(status=404, message="The model 'gone' does not exist")


def unknown_model(place: Place) -> Arguments:
    server = place.stack.enter_context(serve([UNKNOWN]))
    place.environment["OPENAI_API_KEY"] = "not-a-real-key"
    return ["run", "-d", place.toy.folder, "-m", "openai:gone", "--base-url", f"{server.url}/v1", "--root", place.root]


def model_that_is_gone(place: Place) -> Arguments:
    """A searched run whose model the provider takes away before the test."""
    known = [True]
    server = place.stack.enter_context(serve(lambda _request: Reply(text="red") if known[0] else UNKNOWN))
    place.environment["OPENAI_API_KEY"] = "not-a-real-key"
    base = ["run", "-d", place.toy.folder, "-m", "openai:gone", "--base-url", f"{server.url}/v1", "-q"]
    executed(*base, "--root", place.root, "--name", "second", env=environment(place)).check_returncode()
    known[0] = False
    return on_run(place, "finish", "--yes", "second")


TABLE = [
    Row("a domain that is not there", lambda p: ["run", "-d", p.folder / "nowhere"], 2, "no domain", "domain.py"),
    Row("a folder without a domain", lambda p: ["check", p.root], 3, "holds no domain.py", "domain.py with"),
    Row(
        "a harness that is not there",
        lambda p: ["evaluate", p.folder / "nothing.py", "-d", p.toy.folder],
        2,
        "there is no harness",
        "Python file",
    ),
    Row("a run that is not there", lambda p: on_run(p, "scoreboard", "third"), 2, "no run 'third'", "first"),
    Row("no runs at all", lambda p: ["scoreboard", "--root", p.folder / "none"], 2, "there is no run", "makes one"),
    Row("an iteration that is not there", lambda p: on_run(p, "show", 99), 2, "no iteration 099", "000 to", "first"),
    Row(
        "a data folder that is not there",
        lambda p: ["check", "starter", "--data", p.folder / "x"],
        2,
        "there is no data folder",
        "train.jsonl, search.jsonl and test.jsonl",
    ),
    Row("an empty file of cases", lambda p: classify(p, search=""), 3, "holds no cases", "one JSON object per line"),
    Row(
        "a line that is not JSON",
        lambda p: classify(p, search='{"text": "a", "label": "praise"}\n{"text": \n'),
        3,
        "search.jsonl, line 2 is not JSON",
        "one JSON object per line",
    ),
    Row(
        "a line without the field",
        lambda p: classify(p, train='{"text": "a", "label": "praise"}\n{"text": "b", "tag": "praise"}\n'),
        3,
        "train.jsonl, line 2",
        "label",
    ),
    Row(
        "an empty harness",
        lambda p: ["evaluate", p.file("empty.py"), *p.toy.arguments()],
        3,
        "defines no class Harness",
        "DOMAIN.md",
    ),
    Row(
        "a harness with a syntax error",
        lambda p: ["submit", p.file("broken.py", "def f(:\n"), "--root", p.root],
        3,
        "at syntax: harness.py, line 1",
        "submit it again",
        "first",
        adds=True,  # the rejected candidate
    ),
    Row("a model without provider", lambda p: search(p, "-m", "gpt"), 2, "which provider", "openai:gpt"),
    Row("a provider that is not there", lambda p: search(p, "-m", "acme:x"), 2, "no provider 'acme'", "valid forms"),
    Row("an embedded model that is not there", lambda p: search(p, "-m", "embedded:big"), 2, "embedded", "icl"),
    Row(
        "an address that is none",
        lambda p: search(p, "-m", "openai:x", "--base-url", "http://["),
        2,
        "not an http or https address",
        "http://127.0.0.1",
    ),
    Row("no key", no_key, 1, "ANTHROPIC_API_KEY", "export ANTHROPIC_API_KEY"),
    Row("a key that is refused", refused_key, 1, "401", "check OPENAI_API_KEY"),
    Row(
        "a model that the provider does not know", unknown_model, 1, "404 - The model 'gone'", "check the model's name"
    ),
    Row(
        "a model that the provider does not know any more",
        model_that_is_gone,
        1,
        "The model 'gone' does not exist",
        "check the model's name",
        "second",
        adds=True,  # the opening: the test goes on once the model is back
    ),
    Row("no network", dead_endpoint, 1, "no case of the baselines", "resume"),
    Row("a folder of runs below a file", below_a_file, 1, "cannot make a run in", "folder"),
    Row("a read-only disk", read_only, 1, "Read-only file system", "mounted read-only"),
    Row("a run of a newer schema", lambda p: newer(p, "scoreboard"), 1, "schema version 99", "update", "first"),
    Row("a newer one to go on with", lambda p: newer(p, "resume"), 1, "schema version 99", "update", "first"),
    Row("a damaged record", lambda p: damaged(p, "scoreboard"), 1, "score.json", "restore the file", "first"),
    Row("a damaged one to go on with", lambda p: damaged(p, "resume"), 1, "score.json", "restore the file", "first"),
    Row("two writers", two_writers, 1, "is being recorded by process", "wait until it ends", "second", adds=True),
    Row("an option that is not there", lambda p: search(p, "--nonsense"), 2, "--nonsense", "--help"),
    Row("a name that is none", lambda p: search(p, "--name", "../x"), 2, "cannot be the name of a run", "letters"),
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    toy = write_toy(tmp_path / "toy", cases=4, proposals={"01_other.py": harness("other")})
    with ExitStack() as stack:
        place = Place(tmp_path, toy, stack)
        assert say(*search(place, "--name", "first", "-q")).code == 0
        yield place


@pytest.mark.slow
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.what)
def test_what_is_wrong_is_told_with_a_hint_and_nothing_is_lost(row: Row, place: Place) -> None:
    arguments = row.arguments(place)
    before = recorded_files(place, row)
    told = executed(*arguments, env=environment(place))
    after = recorded_files(place, row)
    assert "Traceback" not in told.stderr
    assert told.returncode == row.code, told.stderr
    errors = [line for line in told.stderr.splitlines() if line.startswith("error: ")]
    hints = [line for line in told.stderr.splitlines() if line.startswith("hint: ")]
    assert len(errors) == len(hints) == 1, told.stderr
    assert row.message in errors[0]
    assert row.hint in hints[0]
    if row.run is not None and not row.adds:
        assert after == before
    for name, data in before.items():
        if row.adds and name.endswith(".jsonl"):
            assert after[name].startswith(data), name
        elif not (row.adds and name in DERIVED):
            assert after[name] == data, name


DERIVED = ("summary.json", "cost.json")
"""Written anew from what is recorded, whenever something is."""


def recorded_files(place: Place, row: Row) -> dict[str, bytes]:
    """What the row may not lose: the files of its run, else of all runs; not the lock, nor what is half written."""
    folder = place.root if row.run is None else place.root / row.run
    paths = [path for path in sorted(folder.rglob("*")) if not path.name.startswith(".lock") and path.suffix != ".tmp"]
    assert folder / "config.json" in paths or place.run in paths
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def environment(place: Place) -> dict[str, str]:
    """The environment without keys, and without a folder of runs of its own."""
    left = {name: value for name, value in os.environ.items() if "API_KEY" not in name and name != "METAHARNESS_ROOT"}
    return {**left, **place.environment}


@pytest.mark.slow
def test_a_search_on_a_full_disk_stops_with_a_hint_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "toy")
    with mounted_disk(tmp_path / "disk", size="1m") as disk:
        (disk / "ballast").write_bytes(b"x" * 1_000_000)
        told = executed("run", *toy.arguments(), "--root", disk / "runs", "--name", "full", "-q")
        assert told.returncode == 1
        assert "Traceback" not in told.stderr
        assert "No space left on device" in told.stderr
        assert "hint: free space" in told.stderr
        (disk / "ballast").unlink()
        assert executed("resume", "full", "--root", disk / "runs", "-q").returncode == 0
        undisturbed = tmp_path / "runs" / "whole"
        assert executed("run", *toy.arguments(), "--root", undisturbed.parent, "--name", "whole", "-q").returncode == 0
        assert essence(disk / "runs" / "full") == essence(undisturbed)
