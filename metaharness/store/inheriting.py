"""What a fork takes over of another run: the folders of its iterations, whole.

A copy shares its blocks with the original where the file system can (btrfs, XFS), else its bytes are copied. Two files
are not the same: `proposal.json` says that the candidate is inherited, and `score.json` names the files as they lie
here. What follows from the others (the index of a trace) and what was set aside is left out. The session in which a
candidate was written comes with it.

The folder of a run that is being made holds a mark until it has its `config.json`, so that what a kill leaves of it is
known for what it is.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from pathlib import Path

from metaharness.errors import RunLockedError
from metaharness.marks import content_hash, mark_of
from metaharness.records import FileMark, Score
from metaharness.store.encoding import json_page
from metaharness.store.evaluations import LEARN_TRACE, SCORE, TRACE
from metaharness.store.files import store_errors, temporary_name, write_atomic, write_new
from metaharness.store.iterations import PROPOSAL
from metaharness.store.lock import RunLock
from metaharness.store.run_store import RunStore
from metaharness.store.runs import CONFIG
from metaharness.store.sessions import SESSIONS

BEGUN = temporary_name(Path("fork")).name
"""Stands in the folder of a fork while it is being made; a name that opening a run clears away."""
_FICLONE: int = getattr(fcntl, "FICLONE", 0x40049409)  # Python 3.11 does not name it
_SET_ASIDE = re.compile(r"\.(?:torn|refused)(?:-\d+)?$")


def begin(fork: RunStore) -> None:
    """Mark a folder as that of a fork that is being made."""
    write_new(fork.path / BEGUN, b"")


def inherit(source: RunStore, fork: RunStore, number: int) -> str | None:
    """Copy an iteration of a closed round. Logs that have grown since its score was written are cut to what it is of.

    Returns the SHA-256 of the score as it lies in the fork; None where the iteration has none.

    Raises:
        StoreError: It cannot be read or written.
    """
    record, score = source.proposal(number), source.score(number)
    old, new = (run.path / "iterations" / f"{number:03d}" for run in (source, fork))
    with store_errors("copy", old):
        new.mkdir(parents=True)
        for path in sorted(old.iterdir()):
            derived = path.name.startswith(".") or _SET_ASIDE.search(path.name)
            if path.name not in (PROPOSAL, SCORE) and not derived:
                _copy(path, new / path.name)
        session = Path(SESSIONS, Path(record.session).name)
        if record.session and not (fork.path / session).exists():  # one session may have written several candidates
            _copy(source.path / session, fork.path / session)
    maker = record.inherited or source.record.run_id  # not the run in between, where a fork is forked
    write_atomic(new / PROPOSAL, json_page(record.model_copy(update={"inherited": maker})), durable=True)
    if score is None:
        return None
    _cut(new, score)
    write_atomic(new / SCORE, json_page(score.model_copy(update={"marks": _marks(new, score)})), durable=True)
    return content_hash(new / SCORE)


def clear_unmade(root: Path) -> list[Path]:
    """Remove what killed processes left of forks that they were making. Returns the folders that are gone."""
    gone: list[Path] = []
    with store_errors("list", root):
        begun = [mark.parent for mark in root.glob(f"*/{BEGUN}") if not (mark.parent / CONFIG).exists()]
    for folder in begun:
        lock = RunLock(folder)
        try:
            lock.acquire()
        except RunLockedError:
            continue
        try:
            if not (folder / CONFIG).exists():  # asked under the lock: its process may have come to the end just now
                with store_errors("remove", folder):
                    shutil.rmtree(folder)
                gone.append(folder)
        finally:
            lock.release()
    return gone


def _copy(source: Path, target: Path) -> None:
    """A file, or a folder of a candidate."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_copy_file)
    elif source.is_file():
        _copy_file(source, target)


def _copy_file(source: str | Path, target: str | Path) -> None:
    if not _shared(Path(source), Path(target)):
        shutil.copyfile(source, target)


def _shared(source: Path, target: Path) -> bool:
    """Whether the copy could be made to share the blocks of the original."""
    with source.open("rb") as old, target.open("wb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:  # another file system, or one that cannot
            return False
    return True


def _cut(folder: Path, score: Score) -> None:
    sizes = {TRACE: score.trace_bytes} | {name: mark.size for name, mark in score.marks.items()}
    for name in (TRACE, LEARN_TRACE):
        path = folder / name
        with store_errors("cut", path):
            if name in sizes and path.is_file() and path.stat().st_size > sizes[name]:
                os.truncate(path, sizes[name])


def _marks(folder: Path, score: Score) -> dict[str, FileMark]:
    """The files that the score is made of, as they lie here; they were what was recorded, so they are not read."""
    known = {name: None if name == PROPOSAL else mark.sha256 for name, mark in score.marks.items()}
    found = {name: mark_of(folder / name, sha256) for name, sha256 in known.items()}
    return {name: mark for name, mark in found.items() if mark is not None}
