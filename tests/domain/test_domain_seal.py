"""A sealed test split: what stays in the tree, what works without the cases, and that nothing is lost on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from finish_kit import finish_toy, finished, sealed_essence, searched_run
from run_kit import Toy, harness, recorded, searched, write_toy

from metaharness.errors import DomainError, UsageError
from metaharness.holdout import sealed_fingerprints, sealed_size
from metaharness.loading import load_domain
from metaharness.machine.interpreter import find_interpreter
from metaharness.proposers.scripted import ScriptedProposer
from metaharness.records import Proposal
from metaharness.run import Round
from metaharness.run.ground import hashes, prepare
from metaharness.sealing import Outcome, export_cases, import_cases, seal, unseal
from metaharness.seals import FoundSeal, find_seal, sealed_root
from metaharness.testing import check_domain

NAME = "test.sealed.json"


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return finish_toy(tmp_path / "domain")


def cases_file(toy: Toy) -> Path:
    return toy.folder / "data" / "test.jsonl"


def sealed(toy: Toy) -> Outcome:
    return seal(str(toy.folder), {})


def standing(toy: Toy) -> FoundSeal:
    found = find_seal(load_domain(str(toy.folder)))
    assert found is not None
    return found


def sentence(number: int) -> str:
    """More than ten words, of which no ten in a row stand in another case."""
    return (
        " ".join(f"{word}{number}" for word in ("a", "long", "text", "of", "the", "sealed", "split", "says", "what"))
        + f" nobody {number} should know {number}"
    )


def write_sentences(folder: Path, **options: Any) -> Toy:
    """A domain whose test cases are sentences."""
    toy = write_toy(folder, baselines={"00_plain.py": harness("plain")}, **options)
    rows = [{"id": f"hidden-{number:02d}", "text": sentence(number), "colour": "red"} for number in range(6)]
    cases_file(toy).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return toy


def everywhere(folder: Path) -> str:
    """All that can be read below a folder."""
    return "".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*")) if path.is_file())


# --- what stays and what goes -----------------------------------------------------------------------------------


def test_no_text_and_no_id_of_a_case_stays_in_the_tree(tmp_path: Path) -> None:
    toy = write_sentences(tmp_path / "domain", proposals={})
    outcome = sealed(toy)
    assert (outcome.done, outcome.cases, outcome.here, outcome.warnings) == ("sealed", 6, True, [])
    text = everywhere(toy.folder)
    for number in range(6):
        assert sentence(number) not in text
        assert f"hidden-{number:02d}" not in text
    assert str(Path.home()) not in (toy.folder / "data" / NAME).read_text()
    assert str(sealed_root()) not in (toy.folder / "data" / NAME).read_text()


def test_the_cases_are_where_their_owner_alone_can_read_them(toy: Toy) -> None:
    place = sealed(toy).place
    assert place is not None
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (sealed_root(), place.parent, place)}
    assert list(modes.values()) == [0o700, 0o700, 0o600]
    assert place.is_relative_to(os.environ["XDG_DATA_HOME"])
    mounted = [Path(path) for path in find_interpreter(None, programs=True).paths]
    assert not any(place.is_relative_to(path) for path in mounted), "a worker would see it"


def test_what_the_split_says_of_itself_is_the_same_before_and_after(toy: Toy) -> None:
    config = toy.config()
    before, size = hashes(prepare(config)), sealed_size(load_domain(str(toy.folder)))
    prints = list(sealed_fingerprints(load_domain(str(toy.folder))).values())
    sealed(toy)
    assert hashes(prepare(config)) == before
    assert sealed_size(load_domain(str(toy.folder))) == size
    assert list(sealed_fingerprints(load_domain(str(toy.folder))).values()) == prints


def test_undo_brings_back_the_very_file_and_running_either_twice_says_so(toy: Toy) -> None:
    cases_file(toy).chmod(0o640)
    content = cases_file(toy).read_bytes()
    assert [sealed(toy).done, sealed(toy).done] == ["sealed", "already sealed"]
    assert not cases_file(toy).exists()
    assert [unseal(str(toy.folder), {}).done, unseal(str(toy.folder), {}).done] == ["brought back", "not sealed"]
    assert cases_file(toy).read_bytes() == content
    assert stat.S_IMODE(cases_file(toy).stat().st_mode) == 0o640
    assert sorted(path.name for path in (toy.folder / "data").iterdir()) == [
        "search.jsonl",
        "test.jsonl",
        "train.jsonl",
    ]


def test_the_file_of_any_name_is_found_by_what_the_domain_opens(toy: Toy) -> None:
    held_out = toy.folder / "cases" / "held_out.txt"
    held_out.parent.mkdir()
    cases_file(toy).rename(held_out)
    source = (toy.folder / "domain.py").read_text()
    changed = """        path = self.data / f"{split.value}.jsonl"
        if split == "test":
            path = Path(__file__).parent / "cases" / "held_out.txt"
        for line in path.read_text().splitlines():"""
    old = """        for line in (self.data / f"{split.value}.jsonl").read_text().splitlines():"""
    assert old in source
    (toy.folder / "domain.py").write_text(source.replace(old, changed))
    assert sealed(toy).seal == held_out.with_name("held_out.sealed.json")
    assert sealed_size(load_domain(str(toy.folder))) == (8, 8)


def test_a_folder_of_data_that_an_option_names_is_sealed_for_that_folder(toy: Toy, tmp_path: Path) -> None:
    other = shutil.copytree(toy.folder / "data", tmp_path / "other")
    outcome = seal(str(toy.folder), {"data": str(other)})
    assert outcome.seal == other / NAME
    assert cases_file(toy).exists()
    assert sealed_size(load_domain(str(toy.folder), {"data": str(other)})) == (8, 8)
    moved = other.rename(tmp_path / "moved")
    assert sealed_size(load_domain(str(toy.folder), {"data": str(moved)})) == (8, 8)


# --- what is refused --------------------------------------------------------------------------------------------

GENERATED = """        if split == "test":
            yield Case(id="1", input="made up", expected="red")
            return
"""
SHARED = """        for line in (self.data / "all.jsonl").read_text().splitlines():
            row = json.loads(line)
            if row["id"].startswith(str(split)[:2]) or split == "test" and row["id"].startswith("hi"):
                yield Case(id=row["id"], input=row["text"], expected=row["colour"])
        return
"""
TUPLES = """        if split == "test":
            (self.data / "test.jsonl").read_text()
            yield Case(id="1", input="made up", expected=("red", "blue"))
            return
"""


@pytest.mark.parametrize(
    ("inserted", "message", "hint"),
    [
        (GENERATED, "made by code", "data/test.jsonl"),
        (SHARED, "as other splits are", "data/test.jsonl"),
        (TUPLES, "would not come back as it is", "not tuples"),
    ],
    ids=["generated", "shared", "tuples"],
)
def test_a_layout_that_cannot_be_sealed_is_refused_and_nothing_moves(
    toy: Toy, inserted: str, message: str, hint: str
) -> None:
    data = toy.folder / "data"
    (data / "all.jsonl").write_text(
        "".join((data / f"{name}.jsonl").read_text() for name in ("train", "search", "test"))
    )
    source = (toy.folder / "domain.py").read_text()
    head = "    def cases(self, split):\n"
    (toy.folder / "domain.py").write_text(source.replace(head, head + inserted))
    before = everywhere(toy.folder)
    with pytest.raises(DomainError, match=message) as raised:
        sealed(toy)
    assert hint in str(raised.value.hint)
    assert everywhere(toy.folder) == before


def test_a_domain_that_wants_the_file_when_it_is_loaded_gets_it_back(toy: Toy) -> None:
    source = (toy.folder / "domain.py").read_text()
    head = "        self.data = Path(data)\n"
    check = '        assert (self.data / "test.jsonl").is_file(), "no test split"\n'
    (toy.folder / "domain.py").write_text(source.replace(head, head + check))
    before = everywhere(toy.folder)
    with pytest.raises(DomainError, match="cannot be loaded without"):
        sealed(toy)
    assert everywhere(toy.folder) == before


def test_cases_do_not_go_to_a_place_in_the_same_tree(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(toy.folder / "data"))
    with pytest.raises(UsageError, match="lies in the tree"):
        sealed(toy)
    assert cases_file(toy).exists()


def test_an_example_that_comes_with_the_package_is_not_sealed() -> None:
    with pytest.raises(UsageError, match="comes with the package"):
        seal("starter", {})


def test_undo_overwrites_no_other_cases(toy: Toy) -> None:
    sealed(toy)
    cases_file(toy).write_text("mine\n")
    with pytest.raises(UsageError, match="nothing is overwritten"):
        unseal(str(toy.folder), {})
    assert cases_file(toy).read_text() == "mine\n"
    cases_file(toy).unlink()
    assert unseal(str(toy.folder), {}).done == "brought back"


# --- killed -----------------------------------------------------------------------------------------------------

CHANGES = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.chmod"})


def killed_before(change: int, act: Callable[[], object]) -> bool:
    """Whether a process that does this was killed right before that change of a file; False: it came to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that tests before have left: the child runs nothing of theirs
        child = os.fork()
    if child == 0:
        seen = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event not in CHANGES or (event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)):
                return
            seen += 1
            if seen == change:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            act()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def whole(toy: Toy) -> bool:
    """Whether the cases are where they are looked for: in their file, or at the place that the seal names."""
    if cases_file(toy).exists():
        return sealed_size(load_domain(str(toy.folder))) == (8, 8)
    return len(standing(toy).cases()) == 8


@pytest.mark.slow
def test_killed_before_any_step_it_has_lost_nothing_and_goes_on(toy: Toy) -> None:
    content, killed = cases_file(toy).read_bytes(), 0
    while killed_before(killed + 1, lambda: sealed(toy)):
        killed += 1
        assert whole(toy)
        assert cases_file(toy).read_bytes() == content if cases_file(toy).exists() else True
        sealed(toy)
        assert not cases_file(toy).exists()
        assert whole(toy)
        unseal(str(toy.folder), {})
        assert cases_file(toy).read_bytes() == content
        shutil.rmtree(sealed_root())
    assert killed > 8
    assert standing(toy).here


@pytest.mark.slow
def test_undo_killed_before_any_step_has_lost_nothing_and_goes_on(toy: Toy) -> None:
    content, killed = cases_file(toy).read_bytes(), 0
    sealed(toy)
    while killed_before(killed + 1, lambda: unseal(str(toy.folder), {})):
        killed += 1
        assert whole(toy)
        assert unseal(str(toy.folder), {}).done in ("brought back", "not sealed")
        assert cases_file(toy).read_bytes() == content
        sealed(toy)
    assert killed > 3
    assert cases_file(toy).read_bytes() == content


def test_one_that_was_killed_before_the_file_went_is_completed(toy: Toy) -> None:
    content = cases_file(toy).read_bytes()
    sealed(toy)
    cases_file(toy).write_bytes(content)
    assert sealed(toy).done == "completed"
    assert not cases_file(toy).exists()


def test_new_cases_beside_an_old_seal_are_sealed_and_the_old_ones_stay(toy: Toy) -> None:
    first = sealed(toy)
    cases_file(toy).write_text('{"id": "1", "text": "another", "colour": "red"}\n')
    second = sealed(toy)
    assert (second.done, second.cases) == ("sealed", 1)
    assert first.place is not None
    assert first.place.is_file()
    assert f"the 8 cases it stood for stay at {first.place}" in second.warnings[0]


# --- runs -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_finish_gives_the_same_numbers_whether_sealed_or_not_and_when_it_was_begun(
    toy: Toy, tmp_path: Path
) -> None:
    before = await searched_run(toy, tmp_path / "before")
    twin = shutil.copytree(before, tmp_path / "twin" / "run")
    plain = await finished(twin)
    sealed(toy)
    assert (await finished(before)).look == plain.look == 1
    assert sealed_essence(before) == sealed_essence(twin)
    after = await searched_run(toy, tmp_path / "after")
    await finished(after)
    assert sealed_essence(after) == sealed_essence(twin)


@pytest.mark.slow
async def test_openings_are_counted_across_sealing(toy: Toy, tmp_path: Path) -> None:
    await finished(await searched_run(toy, tmp_path / "runs", name="first"))
    outcome = seal(str(toy.folder), {}, runs=tmp_path / "runs")
    assert any("runs in" in told and "first" in told for told in outcome.warnings)
    assert (await finished(await searched_run(toy, tmp_path / "runs", name="second"))).look == 2
    unseal(str(toy.folder), {})
    assert (await finished(await searched_run(toy, tmp_path / "runs", name="third"))).look == 3


class Meddler(ScriptedProposer):
    """Does something before it proposes, while the run is recorded."""

    def __init__(self, acts: Iterable[Callable[[], object]]) -> None:
        super().__init__()
        self._acts = iter(acts)

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        """One more act, then what the script says."""
        next(self._acts, lambda: None)()
        async for proposal in super().propose(round_):
            yield proposal


@pytest.mark.slow
async def test_sealing_and_bringing_back_do_not_disturb_a_run_that_is_recorded(toy: Toy, tmp_path: Path) -> None:
    folder = str(toy.folder)
    acts = [lambda: seal(folder, {}), lambda: unseal(folder, {})]
    undisturbed = await searched(toy.config(), tmp_path / "undisturbed", name="run")
    history = await searched(toy.config(), tmp_path / "runs", Meddler(acts), name="run")
    assert [it.state for it in history] == [it.state for it in undisturbed]
    sealed(toy)
    history = await searched(toy.config(), tmp_path / "again", Meddler(acts[::-1]), name="run")
    assert [it.state for it in history] == [it.state for it in undisturbed]
    assert (await finished(tmp_path / "runs" / "run")).cases == 8


async def test_a_changed_seal_is_refused_as_a_changed_domain_is(toy: Toy, tmp_path: Path) -> None:
    sealed(toy)
    run = await searched_run(toy, tmp_path / "runs")
    path = toy.folder / "data" / NAME
    page = json.loads(path.read_text())
    path.write_text(json.dumps({**page, "prints": page["prints"][:1] * len(page["prints"])}))
    with pytest.raises(DomainError, match="is not what was put there"):
        await finished(run)
    path.write_text(json.dumps(page))
    assert (await finished(run)).cases == 8


async def test_other_cases_put_where_the_sealed_ones_lay_are_refused(toy: Toy, tmp_path: Path) -> None:
    sealed(toy)
    run = await searched_run(toy, tmp_path / "runs")
    cases_file(toy).write_text('{"id": "1", "text": "easy", "colour": "red"}\n')
    with pytest.raises(DomainError, match=r"changed: data/test\.jsonl"):
        await finished(run)


async def test_the_leak_gate_knows_the_sealed_cases(tmp_path: Path) -> None:
    leaks = harness("good", before=f"TEXT = {sentence(1)!r}")
    toy = write_sentences(tmp_path / "domain", proposals={"01_leaks.py": leaks, "02_good.py": harness("good")})
    sealed(toy)
    shutil.rmtree(sealed_root())  # as on another machine
    history = await searched(toy.config(), tmp_path / "runs", name="run")
    assert [it.rejection.stage if it.rejection else None for it in history] == [None, "leak", None]


# --- another machine --------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_without_the_cases_all_but_finish_works_and_it_says_how_to_bring_them(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(toy)
    copy = tmp_path / "stick" / "cases.json"
    copy.parent.mkdir()
    assert export_cases(str(toy.folder), {}, copy).done == "exported"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    report = await check_domain(toy.config())
    assert report.valid
    assert report.splits["test"] == 8
    assert len(report.warnings) == 1
    assert "no run can be finished on this machine" in report.warnings[0]
    assert "--import FILE" in report.warnings[0]
    run = await searched_run(toy, tmp_path / "runs", budget={"case_evaluations": 200})
    with pytest.raises(DomainError, match="not on this machine") as raised:
        await finished(run)
    assert "--import FILE" in str(raised.value.hint)
    assert not (run / "sealed").exists()
    assert recorded(run).incumbent() is not None
    assert not seal(str(toy.folder), {}).here
    assert import_cases(str(toy.folder), {}, copy).here
    assert (await finished(run)).cases == 8
    assert (await check_domain(toy.config())).warnings == []


def test_only_the_very_cases_are_taken_in(toy: Toy, tmp_path: Path) -> None:
    sealed(toy)
    place = standing(toy).place
    data = place.read_bytes()
    place.unlink()
    wrong = tmp_path / "wrong.json"
    wrong.write_bytes(data.replace(b"red", b"blu"))
    with pytest.raises(DomainError, match="does not hold the cases"):
        import_cases(str(toy.folder), {}, wrong)
    assert not place.exists()
    place.write_bytes(wrong.read_bytes())
    with pytest.raises(DomainError, match="does not hold the cases"):
        unseal(str(toy.folder), {})


def test_other_options_than_it_was_sealed_with_are_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "search", "test"):
        row = {"q": f"how is the {split} today", "text": f"the other {split} text", "a": "x", "label": "y"}
        (data / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    fields = {"data": str(data), "text_field": "q", "label_field": "a"}
    folder = shutil.copytree(load_domain("text_classification").root, tmp_path / "mine")
    seal(str(folder), fields)
    assert sealed_size(load_domain(str(folder), fields)) == (1, 1)
    with pytest.raises(DomainError, match="with text_field=q, label_field=a"):
        sealed_size(load_domain(str(folder), {"data": str(data)}))


# --- what else holds the cases ----------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, env=environment)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_file_in_the_git_history_is_told_and_the_history_is_left_alone(toy: Toy) -> None:
    git(toy.folder, "init")
    assert sealed(toy).warnings == []
    unseal(str(toy.folder), {})
    git(toy.folder, "add", ".")
    git(toy.folder, "commit", "-m", "all")
    head = (toy.folder / ".git" / "logs" / "HEAD").read_text()
    told = sealed(toy).warnings
    assert len(told) == 1
    assert "still in the git history" in told[0]
    assert "--path data/test.jsonl" in told[0]
    assert (toy.folder / ".git" / "logs" / "HEAD").read_text() == head


def test_other_files_that_hold_the_cases_are_named(tmp_path: Path) -> None:
    toy = write_sentences(tmp_path / "domain", proposals={})
    (toy.folder / "notes.txt").write_text(f"remember: {sentence(1)}; and {sentence(2)}")
    (toy.folder / "data" / "backup.bin").write_bytes(b"\xff\x00")
    told = sealed(toy).warnings
    assert len(told) == 1
    assert f"2 of the 6 cases also stand in {toy.folder / 'notes.txt'}" in told[0]
