"""An index answers for its trace what reading all of the trace would answer, whatever has become of either."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from disk_kit import make_read_only, mounted_disk
from store_kit import files_below, line_from, new_run, proposal, recording_process, score, trace

from metaharness.errors import CorruptRecordError, StoreError, UsageError
from metaharness.records import CaseTrace, GradeRecord
from metaharness.store import Filter, RunStore, TraceIndex, TraceRow, damage_in, torn_lines
from metaharness.store.trace_index import INDEX, SAVED_FROM

TRACE = "iterations/000/eval_trace.jsonl"
SAVED = f"iterations/000/{INDEX}"
PADDING = "x" * 100_000
ENOUGH = SAVED_FROM // len(PADDING) + 2
"""So many padded lines that an index of them is worth a file."""


def graded(value: float) -> list[GradeRecord]:
    return [GradeRecord(evaluator_hash="e" * 64, value=value)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run with one iteration and no traces."""
    with new_run(tmp_path) as store:
        store.add_iteration(proposal(), round=0, slot=0)
        yield store


def pad(store: RunStore, first: int = 0, count: int = ENOUGH) -> None:
    for case in range(first, first + count):
        store.append_trace(0, trace(f"case-{case}", output=PADDING, calls=[]))


def reader(store: RunStore) -> RunStore:
    return RunStore.open(store.path, record=False)


def up_to_date(store: RunStore, number: int = 0) -> TraceIndex:
    """An index as another process has it, which knows nothing but what lies on the disk."""
    index = reader(store).trace_index(number)
    assert index.update() is True
    return index


def ids(rows: tuple[TraceRow, ...]) -> list[str]:
    return [row.case_id for row in rows]


def agrees(index: TraceIndex, store: RunStore) -> bool:
    """Whether the index says and reads what the trace itself says."""
    expected = list(store.latest_traces(index.iteration).values())
    rows = index.rows().rows
    assert [(row.case_id, row.trial, row.status) for row in rows] == [
        (one.case_id, one.trial, one.status) for one in expected
    ]
    return [index.trace(row) for row in rows] == expected


# --- what it answers --------------------------------------------------------------------------------------------


def test_every_line_is_a_row_with_its_status_value_error_and_place(store: RunStore) -> None:
    store.append_trace(0, trace("a", grades=[*graded(1.0), *graded(0.25)]))
    store.append_trace(0, trace("b", status="timeout", grades=[], error="too late"))
    index = up_to_date(store)
    a, b = index.rows().rows
    assert (a.case_id, a.trial, a.status, a.value, a.has_error, a.line, a.offset) == ("a", 0, "ok", 0.25, False, 1, 0)
    assert (b.case_id, b.trial, b.status, b.value, b.has_error, b.line) == ("b", 0, "timeout", None, True, 2)
    assert b.offset == a.length
    assert b.offset + b.length == (store.path / TRACE).stat().st_size
    assert agrees(index, store)


def test_the_latest_line_of_a_case_and_trial_counts_in_the_place_of_the_first(store: RunStore) -> None:
    store.append_trace(0, trace("a", status="infrastructure", grades=[]))
    store.append_trace(0, trace("b"))
    store.append_trace(0, trace("a", trial=1, grades=graded(0.0)))
    store.append_trace(0, trace("a", grades=graded(0.5)))
    index = up_to_date(store)
    assert [(row.case_id, row.trial, row.value, row.line) for row in index.rows().rows] == [
        ("a", 0, 0.5, 4),
        ("b", 0, 1.0, 2),
        ("a", 1, 0.0, 3),
    ]
    assert (len(index), index.lines, index.counts()) == (3, 4, {"ok": 3})
    assert agrees(index, store)


@pytest.fixture
def mixed(store: RunStore) -> TraceIndex:
    """Good, middling, ungraded, timed out, missing; and a second trial of the first."""
    store.append_trace(0, trace("good", grades=graded(1.0)))
    store.append_trace(0, trace("middling", grades=graded(0.5)))
    store.append_trace(0, trace("ungraded", grades=[]))
    store.append_trace(0, trace("late", status="timeout", grades=[], error="too late"))
    store.append_trace(0, trace("missing", status="infrastructure", grades=[], error="no network"))
    store.append_trace(0, trace("good", trial=1, grades=graded(0.0)))
    return up_to_date(store)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(), ["good", "middling", "ungraded", "late", "missing", "good"]),
        (Filter(case_id="good"), ["good", "good"]),
        (Filter(case_id="nobody"), []),
        (Filter(statuses=("timeout",)), ["late"]),
        (Filter(statuses=("timeout", "infrastructure")), ["late", "missing"]),
        (Filter(failures=True), ["late", "missing"]),
        (Filter(failures=True, best=1.0), ["middling", "ungraded", "late", "missing", "good"]),
        (Filter(failures=True, best=0.0), ["good", "middling", "ungraded", "late", "missing"]),
        (Filter(failures=True, best=1.0, statuses=("ok",)), ["middling", "ungraded", "good"]),
        (Filter(failures=True, best=1.0, case_id="good"), ["good"]),
    ],
)
def test_a_filter_lets_through_what_meets_all_its_conditions(
    mixed: TraceIndex, wanted: Filter, expected: list[str]
) -> None:
    page = mixed.rows(wanted)
    assert ids(page.rows) == expected
    assert page.total == len(expected)


def test_pages_follow_each_other_and_each_tells_how_many_rows_there_are(mixed: TraceIndex) -> None:
    pages = [mixed.rows(offset=offset, limit=4) for offset in (0, 4, 8)]
    assert [len(page.rows) for page in pages] == [4, 2, 0]
    assert {page.total for page in pages} == {6}
    assert pages[0].rows + pages[1].rows == mixed.rows().rows


def test_what_cannot_be_asked_is_refused_with_what_can(mixed: TraceIndex) -> None:
    with pytest.raises(UsageError, match="no case has the status 'failed'") as caught:
        Filter(statuses=("failed",))
    assert "harness_error" in str(caught.value.hint)
    for offset, limit in ((-1, 5), (0, 0)):
        with pytest.raises(UsageError, match="no page of"):
            mixed.rows(offset=offset, limit=limit)
        with pytest.raises(UsageError, match="no page of"):
            mixed.differences(mixed, offset=offset, limit=limit)


def test_one_row_is_found_by_its_case_and_trial(mixed: TraceIndex) -> None:
    row = mixed.row("good", 1)
    assert row is not None
    assert mixed.trace(row).grades == graded(0.0)
    assert mixed.row("good", 2) is None


def test_what_differs_from_another_iteration_is_told_with_both_sides(store: RunStore) -> None:
    store.add_iteration(proposal(), round=0, slot=1)
    for number, ends in enumerate(
        (
            {"same": 1.0, "value": 1.0, "status": 1.0, "graded": 1.0, "both without": None, "only a": 1.0},
            {"only b": 0.0, "status": "timeout", "both without": None, "value": 0.5, "graded": None, "same": 1.0},
        )
    ):
        for case, end in ends.items():
            failed = isinstance(end, str)
            grades = graded(end) if isinstance(end, float) else []
            store.append_trace(number, trace(case, status=end if failed else "ok", grades=grades))
    a, b = up_to_date(store, 0), up_to_date(store, 1)
    page = a.differences(b)
    told = [
        (one.row and (one.row.case_id, one.row.value), one.other and (one.other.status, one.other.value), one.only_in)
        for one in page.differences
    ]
    assert told == [
        (("value", 1.0), ("ok", 0.5), None),
        (("status", 1.0), ("timeout", None), None),
        (("graded", 1.0), ("ok", None), None),
        (("only a", 1.0), None, "this"),
        (None, ("ok", 0.0), "other"),
    ]
    assert page.total == 5
    assert a.differences(b, offset=1, limit=2).differences == page.differences[1:3]
    assert a.differences(a).total == 0
    below = a.differences(b, Filter(failures=True, best=1.0)).differences
    assert [(one.row, one.other and one.other.case_id) for one in below] == [(None, "only b")]
    assert [one.row and one.row.case_id for one in b.differences(a, Filter(statuses=("timeout",))).differences] == [
        "status"
    ]


def test_what_differs_follows_both_sides_as_they_grow_and_are_rewritten(store: RunStore) -> None:
    store.add_iteration(proposal(), round=0, slot=1)
    a, b = store.trace_index(0), store.trace_index(1)

    def differing() -> list[tuple[str | None, str | None]]:
        a.update()
        b.update()
        page = a.differences(b)
        assert page == up_to_date(store, 0).differences(up_to_date(store, 1))
        return [(one.row and one.row.case_id, one.other and one.other.case_id) for one in page.differences]

    store.append_trace(0, trace("x"))
    assert differing() == [("x", None)]
    store.append_trace(1, trace("x"))
    assert differing() == []
    store.append_trace(1, trace("x", status="timeout", grades=[]))
    store.append_trace(1, trace("y"))
    assert differing() == [("x", "x"), (None, "y")]
    store.append_trace(0, trace("y"))
    assert differing() == [("x", "x")]
    store.refuse(1)
    store.append_trace(1, trace("y"))
    store.append_trace(1, trace("x"))
    assert differing() == []


HOSTILE = [
    "'; DROP TABLE rows; --",
    'quote " and \\ backslash',
    "line\nbreak\r\n\u2028",
    "nul\x00inside",
    "nul\x00other",
    "",
    " ",
    "ä" * 3000,
    "a\u0301",
    "á",
    '","trial":7,"status":"timeout',
    "half \ud800 pair",
]


def test_case_ids_may_be_any_text(store: RunStore) -> None:
    for case_id in HOSTILE:
        store.append_trace(0, trace(case_id, input=HOSTILE, output={"case_id": "other", "trial": 9}, error=case_id))
    index = up_to_date(store)
    assert agrees(index, store)
    for place, case_id in enumerate(HOSTILE):
        found = index.rows(Filter(case_id=case_id)).rows
        assert [row.line for row in found] == [place + 1]
        assert index.row(case_id, 0) == found[0]


# --- keeping up -------------------------------------------------------------------------------------------------


def test_an_iteration_without_traces_has_an_empty_index(store: RunStore) -> None:
    index = up_to_date(store)
    assert (len(index), index.rows().total, index.progress) == (0, 0, (0, 0))
    with pytest.raises(UsageError, match="no iteration 7"):
        store.trace_index(7)


def test_a_trace_may_grow_while_it_is_read(store: RunStore) -> None:
    index = store.trace_index(0)
    for case in range(4):
        store.append_trace(0, trace(f"case-{case}"))
        assert index.update() is True
        assert len(index) == case + 1
        assert agrees(index, store)
    store.append_trace(0, trace("case-1", status="refused", grades=[]))
    index.update()
    assert index.counts() == {"ok": 3, "refused": 1}
    assert store.trace_index(0) is index


def test_a_line_that_is_being_written_is_left_for_later(store: RunStore) -> None:
    store.append_trace(0, trace("a"))
    path = store.path / TRACE
    line = path.read_bytes().replace(b'"a"', b'"b"')
    index = reader(store).trace_index(0)
    for cut in (1, len(line) // 2, len(line) - 1):
        with path.open("ab") as file:
            file.write(line[:cut])
        assert index.update() is True
        assert ids(index.rows().rows) == ["a"]
        os.truncate(path, len(line))
    with path.open("ab") as file:
        file.write(line)
    index.update()
    assert ids(index.rows().rows) == ["a", "b"]


def test_indexing_stops_in_time_and_goes_on_where_it_was(store: RunStore) -> None:
    pad(store, count=3)
    index = reader(store).trace_index(0)
    assert [index.update(seconds=0) for _ in range(3)] == [False, False, True]
    assert agrees(index, store)


def test_another_process_goes_on_where_the_first_was_stopped(store: RunStore) -> None:
    pad(store, count=ENOUGH + 3)
    first = reader(store).trace_index(0)
    while first.progress[0] < SAVED_FROM:
        assert first.update(seconds=0) is False
    second = reader(store).trace_index(0)
    assert second.update(seconds=0) is False
    assert second.lines == first.lines + 1
    assert second.update() is True
    assert agrees(second, store)


def test_indexing_tells_how_far_it_is_and_can_be_cancelled(store: RunStore) -> None:
    pad(store, count=3 * ENOUGH)
    size = (store.path / TRACE).stat().st_size
    index, told = reader(store).trace_index(0), list[tuple[int, int]]()
    assert index.update(cancelled=lambda: True) is False
    stopped = index.progress[0]
    assert 0 < stopped < size
    assert index.update(cancelled=lambda: False, progress=lambda done, of: told.append((done, of))) is True
    assert told == sorted(told)
    assert {of for _, of in told} == {size}
    assert (told[0][0] > stopped, told[-1]) == (True, (size, size))
    assert agrees(index, store)


def test_an_error_of_whoever_is_told_is_not_taken_for_one_of_the_disk(store: RunStore) -> None:
    pad(store)
    index = reader(store).trace_index(0)

    def gone(done: int, of: int) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        index.update(progress=gone)
    assert index.update() is True
    assert agrees(index, store)


def test_a_damaged_line_is_named_and_what_stands_before_it_is_indexed(store: RunStore) -> None:
    for case in range(3):
        store.append_trace(0, trace(f"case-{case}"))
    path = store.path / TRACE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b'{"case_id": 3}\n', lines[2]]))
    index = reader(store).trace_index(0)
    for _ in range(2):
        with pytest.raises(CorruptRecordError, match=r"eval_trace\.jsonl, line 2: case_id"):
            index.update()
        assert ids(index.rows().rows) == ["case-0"]
    path.write_bytes(b"".join(lines))
    index.update()
    assert agrees(index, store)


# --- a trace that is another one --------------------------------------------------------------------------------


def rewritten_longer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"case-", b"other-case-"))


def rewritten_but_for_its_first_line(path: Path) -> None:
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(first + b"\n" + rest.replace(b"case-", b"other-case-"))


def rewritten_in_its_size(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"case-", b"CASE-"))


def rewritten_shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])


def replaced(path: Path) -> None:
    longer = path.read_bytes() + path.read_bytes().replace(b"case-", b"new-")
    path.with_name("new").write_bytes(longer)
    path.with_name("new").replace(path)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def removed(path: Path) -> None:
    path.unlink()


CHANGES = (
    *(rewritten_longer, rewritten_but_for_its_first_line, rewritten_in_its_size, rewritten_shorter),
    *(replaced, emptied, removed),
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_trace_that_was_rewritten_is_indexed_anew(store: RunStore, change: Callable[[Path], None]) -> None:
    pad(store)
    held = up_to_date(store)
    assert (store.path / SAVED).is_file()
    change(store.path / TRACE)
    held.update()
    assert agrees(held, store)
    assert agrees(up_to_date(store), store)


def test_a_row_from_before_a_trace_was_rewritten_is_refused(store: RunStore) -> None:
    pad(store, count=3)
    index = up_to_date(store)
    row = index.rows().rows[1]
    path = store.path / TRACE
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
    with pytest.raises(StoreError, match="was rewritten while it was read") as caught:
        index.trace(row)
    assert "ask again" in str(caught.value.hint)
    os.truncate(path, 0)
    with pytest.raises(StoreError, match="was rewritten"):
        index.trace(row)


def test_what_was_evaluated_anew_is_not_answered_from_the_evaluation_before(store: RunStore) -> None:
    pad(store)
    assert len(up_to_date(store)) == ENOUGH
    store.refuse(0)
    store.append_trace(0, trace("anew"))
    assert ids(up_to_date(store).rows().rows) == ["anew"]


# --- the file of the index --------------------------------------------------------------------------------------


def test_a_small_trace_gets_no_file_and_a_large_one_gets_one(store: RunStore) -> None:
    pad(store, count=2)
    before = files_below(store.path)
    up_to_date(store)
    assert files_below(store.path) == before
    pad(store, first=2)
    up_to_date(store)
    assert set(files_below(store.path)) == {*before, SAVED}


def test_a_file_is_not_written_for_every_line_that_is_added(store: RunStore) -> None:
    pad(store)
    up_to_date(store)
    saved = (store.path / SAVED).read_bytes()
    pad(store, first=ENOUGH, count=1)
    assert agrees(up_to_date(store), store)
    assert (store.path / SAVED).read_bytes() == saved
    pad(store, first=ENOUGH + 1)
    assert agrees(up_to_date(store), store)
    assert (store.path / SAVED).read_bytes() != saved


def test_a_file_holds_every_trial_and_whatever_text_an_id_is(store: RunStore) -> None:
    for case_id in HOSTILE:
        for trial in (3, 0, -1):
            store.append_trace(0, trace(case_id, trial=trial, output=PADDING, calls=[]))
    written = up_to_date(store)
    assert (store.path / SAVED).is_file()
    read = up_to_date(store)
    assert read.rows() == written.rows()
    assert agrees(read, store)
    assert [row.trial for row in read.rows(Filter(case_id=HOSTILE[0])).rows] == [3, 0, -1]


def turned(content: bytes, place: int) -> bytes:
    place %= len(content)
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "its beginning": lambda content: content[:20],
    "half": lambda content: content[: len(content) // 2],
    "all but the last byte": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "something else": lambda content: b"SQLite format 3\0" * 100,
    "of a version to come": lambda content: content.replace(b"index 1", b"index 2", 1),
    "a bit in its head": lambda content: turned(content, 60),
    "a bit in its middle": lambda content: turned(content, len(content) // 2),
    "a bit at its end": lambda content: turned(content, -1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_file_is_read_over_and_written_anew(store: RunStore, damage: str) -> None:
    pad(store)
    up_to_date(store)
    path = store.path / SAVED
    content = path.read_bytes()
    path.write_bytes(DAMAGES[damage](content))
    assert agrees(up_to_date(store), store)
    assert path.read_bytes() == content


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_in_its_place_does_no_harm(store: RunStore, make: Callable[[Path], None]) -> None:
    pad(store)
    make(store.path / SAVED)
    assert agrees(up_to_date(store), store)


def test_an_index_of_another_trace_is_not_believed(store: RunStore) -> None:
    pad(store)
    up_to_date(store)
    store.add_iteration(proposal(), round=0, slot=1)
    for case in range(ENOUGH):
        store.append_trace(1, trace(f"case-{case}", status="timeout", output=PADDING, grades=[]))
    shutil.copy(store.path / SAVED, store.path / SAVED.replace("000", "001"))
    assert up_to_date(store, 1).counts() == {"timeout": ENOUGH}


def test_a_copied_run_is_indexed_anew(store: RunStore, tmp_path: Path) -> None:
    pad(store)
    up_to_date(store)
    shutil.copytree(store.path, tmp_path / "copy")
    copy = RunStore.open(tmp_path / "copy", record=False)
    index = copy.trace_index(0)
    index.update()
    assert agrees(index, copy)


def test_a_run_on_a_read_only_disk_is_indexed_in_memory(tmp_path: Path) -> None:
    with mounted_disk(tmp_path / "disk", "8m") as disk:
        with new_run(disk) as store:
            store.add_iteration(proposal(), round=0, slot=0)
            pad(store)
        make_read_only(disk)
        index = up_to_date(store)
        assert agrees(index, store)
        assert index.update() is True
        assert not (store.path / SAVED).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_indexed_in_memory(store: RunStore) -> None:
    pad(store)
    folder = (store.path / TRACE).parent
    folder.chmod(0o555)
    try:
        assert agrees(up_to_date(store), store)
    finally:
        folder.chmod(0o755)
    assert not (store.path / SAVED).exists()


def test_a_full_disk_does_not_fail_the_read(tmp_path: Path) -> None:
    with mounted_disk(tmp_path / "disk", "8m") as disk, new_run(disk) as store:
        store.add_iteration(proposal(), round=0, slot=0)
        pad(store)
        ballast = disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        index = up_to_date(store)
        assert agrees(index, store)
        assert [path.name for path in store.path.rglob("*.index*")] == []
        ballast.unlink()
        assert agrees(up_to_date(store), store)
        assert (store.path / SAVED).is_file()


def test_two_processes_index_at_once_while_the_trace_grows(store: RunStore) -> None:
    pad(store)
    with recording_process("index", store.path) as one, recording_process("index", store.path) as other:
        said = []
        for step in range(ENOUGH + 3):
            if step == ENOUGH - 2:
                store.append_trace(0, trace("late", status="timeout", output=PADDING))
            for process in (one, other):
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            said = [json.loads(line_from(process)) for process in (one, other)]
    expected = [[f"case-{case}", 0, "ok"] for case in range(ENOUGH)] + [["late", 0, "timeout"]]
    assert said == [[True, ENOUGH + 1, expected]] * 2
    assert agrees(up_to_date(store), store)


# --- what it must not disturb -----------------------------------------------------------------------------------


def test_an_index_is_no_part_of_what_a_run_has_recorded(store: RunStore) -> None:
    pad(store)
    written = store.write_score(0, score())
    recorded = store.recorded_files(0)
    up_to_date(store)
    assert (store.path / SAVED).is_file()
    assert store.damage(0, None) is None
    assert store.recorded_files(0) == recorded
    assert SAVED not in written.marks
    assert list(damage_in(store.path, deep=True)) == []
    assert torn_lines(store.path) == []
    store.close()
    with RunStore.open(store.path, record=True) as again:
        assert list(again.events("torn")) == []
        assert again.score(0) == written
    assert (store.path / SAVED).is_file()


def test_what_a_killed_writer_of_an_index_leaves_is_removed_when_the_run_is_opened(store: RunStore) -> None:
    left = store.path / f"iterations/000/.{INDEX}.0123456789abcdef.tmp"
    left.write_bytes(b"half")
    assert list(damage_in(store.path, deep=True)) == []
    store.close()
    RunStore.open(store.path, record=True).close()
    assert not left.exists()


def test_the_sealed_traces_have_no_index(store: RunStore) -> None:
    assert not hasattr(store.sealed, "trace_index")


def test_a_trace_read_by_its_row_is_whole(store: RunStore) -> None:
    written = trace("a", input={"q": "?"}, stdout_tail="printed", group="g")
    store.append_trace(0, written)
    found: CaseTrace = up_to_date(store).trace(up_to_date(store).rows().rows[0])
    assert found == written
