"""The folder of all runs: making a run directory in it, reading what one is, finding one again.

runs/.gitignore                    "*": what is recorded does not belong to a repository
runs/2026-04-23_17-21-21/          a run
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from metaharness.configuration import RunRecord
from metaharness.errors import CorruptRecordError, NewerSchemaError, UsageError
from metaharness.records import SCHEMA_VERSION
from metaharness.store.files import parse, read_optional, store_errors
from metaharness.store.lock import LOCK
from metaharness.store.sealed import read_opening
from metaharness.store.transfers import transfer_openings

CONFIG = "config.json"
LATEST = "latest"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHOWN = 10


def new_run_folder(root: Path, name: str | None) -> Path:
    """Make the folder of a new run; nobody else gets the same one.

    Args:
        root: The folder of all runs; made when it is not there.
        name: The id; None for the current time. If it is taken, -2, -3, ... is added.

    Raises:
        UsageError: The name is not one.
    """
    if name is not None and (not _NAME.fullmatch(name) or name == LATEST):
        raise UsageError(
            f"{name!r} cannot be the name of a run",
            hint=f"up to 100 letters, digits, '.', '_' and '-', the first a letter or digit, and not {LATEST!r}",
        )
    base = name or datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S")
    with store_errors("make a run in", root):
        root.mkdir(parents=True, exist_ok=True)
        ignore = root / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
        path, number = root / base, 2
        while True:
            try:
                path.mkdir()
            except FileExistsError:
                path, number = root / f"{base}-{number}", number + 1
            else:
                return path


def load_record(path: Path) -> RunRecord:
    """What a run directory says of itself.

    Raises:
        UsageError: It is not a run directory.
        NewerSchemaError: A newer version of this package made it.
        CorruptRecordError: Its `config.json` is damaged.
    """
    if not path.is_dir():
        raise UsageError(f"there is no run directory {path}", hint=_what_there_is(path.parent))
    file = path / CONFIG
    data = read_optional(file)
    if data is None:
        raise UsageError(f"{path} is not a run directory: it has no {CONFIG}", hint=_what_there_is(path))
    version = _json_object(file, data).get("schema_version")
    if not isinstance(version, int):
        raise CorruptRecordError(file, None, "schema_version: not a number")
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{path} has schema version {version}; this metaharness reads up to version {SCHEMA_VERSION}",
            hint="update metaharness to a version that reads it",
        )
    return parse(RunRecord, data, file)


def last_change(run: Path) -> tuple[int, int]:
    """Size and time of what is recorded of a run: another one after every fact. Zeros where there is nothing."""
    try:
        status = (run / "events.jsonl").stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def is_run(folder: Path) -> bool:
    """Whether a folder is a run directory, and not one with somebody's `config.json`; it may be a damaged run."""
    marks = (LOCK, "events.jsonl", "calls.jsonl", "iterations")
    return (folder / CONFIG).is_file() and any((folder / mark).exists() for mark in marks)


def list_runs(root: Path) -> list[Path]:
    """The runs in a folder, oldest first; none when there is no such folder."""
    with store_errors("list", root):
        try:
            folders = [folder for folder in root.iterdir() if (folder / CONFIG).is_file()]
        except (FileNotFoundError, NotADirectoryError):
            return []
    return sorted(folders, key=_age)


def find_run(root: Path, name: str | None) -> Path:
    """The run that a person means.

    Args:
        root: The folder of all runs.
        name: An id, a path, or the beginning of one id; None or `latest` for the newest run.

    Raises:
        UsageError: No run, or more than one, fits; the hint lists what is there.
    """
    if name is not None and name != LATEST:
        for path in (root / name, Path(name)):
            if name and _is_file(path / CONFIG):
                return path
    runs = list_runs(root)
    if name is None or name == LATEST:
        if not runs:
            raise UsageError(f"there is no run in {root}", hint="`metaharness run` makes one")
        return runs[-1]
    fitting = [path for path in runs if path.name.startswith(name)] if name else []
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(f"{name!r:.100} is the beginning of {len(fitting)} runs", hint=_names(fitting))
    raise UsageError(
        f"there is no run {name!r:.100} in {root}", hint=_names(runs) if runs else "there are no runs in it"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or no name
        return False


def forked_from(run: Path) -> list[str]:
    """The runs that a run is a fork of, the nearest first; as far as they still are in its folder."""
    names: list[str] = []
    source = load_record(run).forked_from
    while source is not None and source not in names:
        names.append(source)
        source = load_record(run.parent / source).forked_from if is_run(run.parent / source) else None
    return names


def command_on(run: Path, verb: str, *more: str) -> str:
    """What a person types to do something with this very run, such as `metaharness resume --root runs first`.

    Args:
        run: Its directory.
        verb: The command.
        more: Further options, as they are typed.
    """
    return " ".join(["metaharness", verb, shlex.join(["--root", str(run.parent), run.name]), *more])


def openings(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The openings of test splits in all runs of a folder, with the run each belongs to, oldest run first.

    Those of data that was given to a finished run name it as `data`.
    """
    for path in list_runs(root):
        opening = read_opening(path)
        if opening is not None:
            yield path, opening
        for given in transfer_openings(path):
            yield path, given


def openings_before(run: Path) -> list[str]:
    """The runs that have opened the test split of this one: it, those it is a fork of, and others with the same cases.

    Those that it has inherited are among them, wherever they are now. Sorted.
    """
    own, record = run.resolve(), load_record(run)
    family = {own.name, *forked_from(own), *record.openings}
    found = {path.name: opening.get("test_hash") for path, opening in openings(own.parent)}
    hashes = {test_hash for name, test_hash in found.items() if name in family}
    return sorted({name for name, test_hash in found.items() if test_hash in hashes}.union(record.openings))


@contextmanager
def openings_locked(root: Path) -> Iterator[None]:
    """Let one process at a time count the openings of a folder and add its own; others wait for that moment."""
    with store_errors("lock the openings of", root):
        lock = FileLock(root / ".openings.lock", fallback_to_soft=False)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def may_begin(root: Path) -> Callable[[], None] | None:
    """The right to begin a run in a folder, for those who look first whether there is one to go on with.

    Returns what gives it back; None while another process has it.
    """
    with store_errors("make or lock", root):
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / ".starting.lock", fallback_to_soft=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
    return lock.release


def _age(path: Path) -> tuple[str, int, str]:
    """When it was created; a run whose config cannot be read counts as the oldest."""
    try:
        created = str(_json_object(path / CONFIG, (path / CONFIG).read_bytes()).get("created", ""))
    except (OSError, CorruptRecordError):
        created = ""
    return created, len(path.name), path.name  # created in the same moment: -10 comes after -9


def _json_object(file: Path, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise CorruptRecordError(file, None, str(error)) from error
    if not isinstance(value, dict):
        raise CorruptRecordError(file, None, "not an object")
    return value


def _what_there_is(root: Path) -> str:
    runs = list_runs(root)
    return _names(runs) if runs else "`metaharness runs` lists the runs"


def _names(runs: list[Path]) -> str:
    newest = [path.name for path in reversed(runs[-_SHOWN:])]
    more = f" and {len(runs) - _SHOWN} older" if len(runs) > _SHOWN else ""
    return f"runs here, newest first: {', '.join(newest)}{more}"
