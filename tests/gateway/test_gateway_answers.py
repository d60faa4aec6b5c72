"""The file of the shared cache: its bound, its users at the same time, and what becomes of it when it is damaged."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest
from cache_process import key

from metaharness.errors import CacheError
from metaharness.gateway.answers import ROW
from metaharness.gateway.shared import SharedCache, Stored, default_path, empty, look

PROGRAM = Path(__file__).with_name("cache_process.py")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "answers.sqlite"


def answer(number: int, filling: int = 0) -> Stored:
    return Stored({"text": f"answer {number}", "filling": "x" * filling}, float(number))


def kept(file: Path, numbers: Iterable[int], *, filling: int = 0, limit: int = 1 << 30) -> None:
    cache = SharedCache(file, limit=limit)
    for number in numbers:
        cache.keep(key(number), answer(number, filling))
    cache.close()
    assert cache.off is None, cache.off


def there(file: Path, numbers: Iterable[int]) -> list[int]:
    """Those that are found, and as they were kept."""
    cache, found = SharedCache(file), []
    for number in numbers:
        stored = cache.lookup(key(number))
        if stored is not None:
            assert stored.response["text"] == f"answer {number}"
            found.append(number)
    cache.close()
    return found


def bytes_of(path: Path) -> bytes:
    """The file with all in it: what SQLite still has beside it is written into it first."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


# --- what it holds ------------------------------------------------------------------------------------------------


def test_an_answer_is_found_at_once_and_after_the_process(file: Path) -> None:
    cache = SharedCache(file)
    cache.keep(key(1), answer(1))
    assert cache.lookup(key(1)) == answer(1)
    cache.close()
    assert there(file, [1, 2]) == [1]


def test_the_file_and_its_folder_are_its_users_alone(file: Path) -> None:
    kept(file, [1])
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in file.parent.iterdir()} == {0o600}


def test_the_whole_stays_within_its_bound_and_the_least_recently_used_go_first(file: Path) -> None:
    limit = 50 * (1000 + ROW)
    kept(file, range(40), filling=900, limit=limit)
    assert there(file, range(20)) == list(range(20)), "these were used last"
    kept(file, range(40, 60), filling=900, limit=limit)
    size = look(file)
    assert size is not None
    assert size.bytes <= limit
    left = there(file, range(60))
    assert set(left) >= {*range(10, 20), *range(40, 60)}
    assert not set(left) & set(range(20, 30))
    assert size.entries == len(left)


def test_the_bound_is_over_what_the_entries_measure(file: Path) -> None:
    kept(file, range(500), filling=2000, limit=100_000)
    size = look(file)
    assert size is not None
    with closing(sqlite3.connect(file)) as connection:
        measured = sum(len(blob) + ROW for (blob,) in connection.execute("SELECT answer FROM answers"))
    assert size.bytes == measured <= 100_000
    assert len(bytes_of(file)) < 400_000


def test_an_answer_larger_than_the_bound_is_not_kept(file: Path) -> None:
    kept(file, [1], filling=5000, limit=1000)
    assert there(file, [1]) == []


def test_of_two_answers_to_one_question_the_first_is_kept(file: Path) -> None:
    first, second = SharedCache(file), SharedCache(file)
    assert first.lookup(key(1)) is second.lookup(key(1)) is None
    first.keep(key(1), answer(1))
    first.close()
    second.keep(key(1), answer(2))
    second.close()
    assert there(file, [1]) == [1]


def test_it_can_be_emptied_while_another_uses_it(file: Path) -> None:
    kept(file, range(3))
    cache = SharedCache(file)
    assert cache.lookup(key(1)) is not None
    empty(file)
    assert cache.lookup(key(2)) is None
    cache.keep(key(9), answer(9))
    cache.close()
    assert there(file, range(10)) == [9]


def test_the_users_own_lies_where_the_platform_keeps_such_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("METAHARNESS_CACHE", str(tmp_path / "mine.sqlite"))
    assert default_path() == tmp_path / "mine.sqlite"
    monkeypatch.delenv("METAHARNESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert default_path() == tmp_path / "caches" / "metaharness" / "answers.sqlite"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert default_path().is_relative_to(Path.home())


# --- many processes -----------------------------------------------------------------------------------------------


def started(file: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), str(file), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_many_processes_write_and_read_at_once(file: Path) -> None:
    """From the first moment on: the file is not there yet when they start."""
    processes = [started(file, f"process {place}", 300) for place in range(6)]
    said = [process.communicate(timeout=120) for process in processes]
    assert [(process.returncode, errors) for process, (_, errors) in zip(processes, said, strict=True)] == [(0, "")] * 6
    cache = SharedCache(file)
    for number in range(300):
        stored = cache.lookup(key(number))
        assert stored is not None
        assert stored.response["text"].startswith(f"{number} by process ")
    cache.close()
    for out, _ in said:
        lines = [json.loads(line) for line in out.splitlines()]
        assert [number for number, text in lines if text.startswith(f"{number} by process ")] == list(range(300))
    size = look(file)
    assert size is not None
    assert size.entries == 300
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_process_killed_while_it_writes_leaves_a_sound_file(file: Path) -> None:
    with started(file, "one", 100_000) as process:
        assert process.stdout is not None
        for _ in range(2000):
            process.stdout.readline()
        process.kill()
    kept(file, [-1])
    assert there(file, [-1]) == [-1]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# --- damage -------------------------------------------------------------------------------------------------------


def test_a_damaged_answer_is_not_given_out_and_is_replaced(file: Path) -> None:
    kept(file, [1], filling=100)
    whole = bytes_of(file)
    file.write_bytes(whole.replace(b"answer 1", b"answer 7"))
    assert there(file, [1]) == []
    kept(file, [1])
    assert there(file, [1]) == [1]


@pytest.mark.parametrize("damage", ["not a database", "nothing but zeros", "a damaged page", "cut in half"])
def test_a_damaged_file_never_fails_a_call_and_the_next_user_has_a_sound_one(
    damage: str, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept(file, range(200), filling=500)
    whole = bytearray(bytes_of(file))
    match damage:
        case "not a database":
            whole = bytearray(b"this is no database " * 500)
        case "nothing but zeros":
            whole = bytearray(len(whole))
        case "a damaged page":
            whole[4096:] = os.urandom(len(whole) - 4096)
        case _:
            del whole[len(whole) // 2 :]
    file.write_bytes(whole)
    with caplog.at_level(logging.WARNING):
        assert set(there(file, range(200))) <= set(range(200))
    kept_later = SharedCache(file)
    kept_later.keep(key(1), answer(1))
    assert kept_later.lookup(key(1)) == answer(1)
    kept_later.close()
    assert kept_later.off is None, kept_later.off
    assert there(file, [1]) == [1]
    assert [path.name for path in file.parent.glob("*.damaged-1")] == ["answers.sqlite.damaged-1"]


def test_a_file_of_another_kind_that_was_named_by_mistake_is_left_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    letter, other = tmp_path / "letter.txt", tmp_path / "other.sqlite"
    letter.write_text("Dear friend, " * 100)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE people (name)")
    for path in (letter, other):
        before = path.read_bytes()
        cache = SharedCache(path)
        assert cache.lookup(key(1)) is None
        cache.keep(key(1), answer(1))
        cache.close()
        assert path.read_bytes() == before
        assert cache.off is not None
        with pytest.raises(CacheError, match=path.name):
            empty(path)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"], "it is told once for each"


def test_a_file_of_a_later_version_is_left_as_it_is(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept(file, [1])
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 2")
    assert there(file, [1]) == []
    assert "version 2" in caplog.text
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (1,)


def test_a_place_that_cannot_be_written_is_told_once_and_calls_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = SharedCache(tmp_path / "file" / "answers.sqlite")
    for number in range(3):
        assert cache.lookup(key(number)) is None
        cache.keep(key(number), answer(number))
    cache.close()
    assert cache.off is not None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "answers.sqlite" in caplog.text
