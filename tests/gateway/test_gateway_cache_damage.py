"""The shared cache where its file goes bad, or cannot be written, while it is in use."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cache_process import key

from metaharness.gateway import answers
from metaharness.gateway.shared import SharedCache, Stored

NUMBERS = range(200)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "answers.sqlite"


def answer(number: int) -> Stored:
    return Stored({"text": f"answer {number}", "filling": "x" * 500}, float(number))


def fill(file: Path) -> None:
    cache = SharedCache(file)
    for number in NUMBERS:
        cache.keep(key(number), answer(number))
    cache.close()
    assert cache.off is None, cache.off


def opened(file: Path) -> SharedCache:
    """A cache that has the file open, and knows none of its answers."""
    cache = SharedCache(file)
    assert cache.lookup(key(-1)) is None
    return cache


def spoil(file: Path) -> None:
    file.write_bytes(b"this is no database " * 20_000)


def put_aside(file: Path) -> list[str]:
    return sorted(path.name for path in file.parent.glob("*.damaged-*") if path.name[-1].isdigit())


def test_a_file_that_goes_bad_while_it_is_open_is_moved_aside_and_told(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(file)
    with closing(opened(file)) as cache:
        spoil(file)
        assert cache.lookup(key(1)) is None
        assert cache.lookup(key(2)) is None
    assert put_aside(file) == ["answers.sqlite.damaged-1"]
    [record] = caplog.records
    assert "the damaged file was moved aside" in record.getMessage()


def test_of_two_that_find_the_same_damage_one_moves_it_aside_and_a_new_file_stays(file: Path) -> None:
    fill(file)
    with closing(opened(file)) as first, closing(opened(file)) as second:
        spoil(file)
        assert first.lookup(key(1)) is None
        fill(file)
        assert second.lookup(key(1)) is None
    assert put_aside(file) == ["answers.sqlite.damaged-1"]
    with closing(SharedCache(file)) as cache:
        assert cache.lookup(key(1)) == answer(1)


def test_where_the_damaged_file_is_gone_already_none_is_made_in_its_place(file: Path) -> None:
    fill(file)
    with closing(opened(file)) as first, closing(opened(file)) as second:
        spoil(file)
        assert first.lookup(key(1)) is None
        assert second.lookup(key(1)) is None
    assert not file.exists(), "whoever opens it next makes it, for its user alone"


def test_every_damaged_file_is_kept_under_a_number_of_its_own(file: Path) -> None:
    for _ in range(2):
        fill(file)
        spoil(file)
    fill(file)
    assert put_aside(file) == ["answers.sqlite.damaged-1", "answers.sqlite.damaged-2"]


def test_a_damaged_file_that_cannot_be_moved_is_told_and_calls_go_on(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Path, target: object) -> Path:
        raise PermissionError(1, "Operation not permitted", str(self))

    fill(file)
    with closing(opened(file)) as cache:
        spoil(file)
        monkeypatch.setattr(Path, "rename", refuse)
        assert cache.lookup(key(1)) is None
        assert cache.lookup(key(2)) is None
    [record] = caplog.records
    assert "the damaged file could not be moved aside: " in record.getMessage()
    assert file.exists()


def test_a_folder_in_place_of_the_file_is_told_once_and_left_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "answers.sqlite"
    folder.mkdir()
    with closing(SharedCache(folder)) as cache:
        assert cache.lookup(key(1)) is None
        assert cache.lookup(key(2)) is None
    assert "unable to open database file" in caplog.text
    assert len(caplog.records) == 1
    assert folder.is_dir()
    assert put_aside(folder) == []


def test_what_cannot_be_written_is_told_once_and_still_answers_in_this_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with closing(SharedCache(tmp_path / "file" / "answers.sqlite")) as cache:
        cache.keep(key(1), answer(1))
        assert cache.lookup(key(1)) == answer(1)
    assert cache.off is not None
    assert cache.lookup(key(1)) == answer(1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_answers_that_do_not_fit_on_the_disk_are_taken_back_whole(file: Path) -> None:
    """SQLite's own bound on the pages of a file stands for a full disk."""
    one, many = {bytes(32): b"first"}, {bytes([number]) * 32: b"x" * 5_000 for number in range(1, 101)}
    with closing(answers.open_answers(file, writing=True)) as connection:
        answers.write(connection, one)
        before = answers.size(connection)
        connection.execute("PRAGMA max_page_count = 20")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            answers.write(connection, many)
        assert answers.size(connection) == before
        connection.execute("PRAGMA max_page_count = 10000")
        answers.write(connection, many)
        assert answers.size(connection).entries == 101
