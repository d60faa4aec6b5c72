"""The folder of all runs: can runs be recorded in it? Found out by writing, locking and deleting a probe file.

The probe lies beside the runs, or in the nearest folder that is there. Not guarded: whether a folder that is not there
yet would lie on another file system once it is made.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from filelock import Timeout

from metaharness.doctor.findings import Finding, guarded
from metaharness.store import is_run
from metaharness.store.files import store_errors
from metaharness.store.lock import system_lock

AREA = "run folder"
PROBE = ".metaharness-doctor-"
LEAST_FREE = 1 << 30
"""Bytes; with less a warning is given."""
NETWORK = frozenset(
    {
        *(
            "nfs",
            "nfs4",
            "cifs",
            "smb3",
            "smbfs",
            "9p",
            "afs",
            "ceph",
            "glusterfs",
            "lustre",
            "beegfs",
            "gpfs",
            "davfs",
        ),
        *("ocfs2", "gfs2", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.glusterfs", "fuse.ceph"),
        *("fuse.mount-s3", "fuse.blobfuse2", "fuse.juicefs", "fuse.davfs", "virtiofs"),
    }
)
"""File systems of another machine, as /proc/mounts names them; 9p is also how WSL shows the disks of Windows."""
MOUNTS = Path("/proc/mounts")
ELSEWHERE = "choose a folder on a local disk: --root FOLDER"


def root_folder(root: Path) -> Iterator[Finding]:
    """Whether runs can be recorded there."""
    place = _nearest(root)
    run = next((folder for folder in (place, *place.parents) if is_run(folder)), None)
    if run is not None:
        found = f"{root} lies in a run" if run != root.absolute() else f"{root} is a run, not the folder of runs"
        yield Finding(AREA, "place", "problem", found, f"name the folder of runs: --root {run.parent}")
        return
    if not place.is_dir():
        yield Finding(AREA, "place", "problem", f"{place} is not a folder", "choose another place: --root FOLDER")
        return
    there = f"{root} is there" if root.exists() else f"{root} is not there yet; `metaharness run` makes it in {place}"
    yield Finding(AREA, "place", "ok", there)
    checks: Mapping[str, Callable[[], Iterator[Finding]]] = {
        "writing": partial(_writing, place),
        "locks": partial(_locks, place),
        "free space": partial(_space, place),
        "file system": partial(_file_system, place),
    }
    for name, check in checks.items():
        yield from guarded(AREA, name, check)


def _nearest(root: Path) -> Path:
    """The root, or the nearest thing above it that is there."""
    place = root.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    return place.resolve()


def _writing(place: Path) -> Iterator[Finding]:
    with store_errors("write into", place), tempfile.NamedTemporaryFile(prefix=PROBE, dir=place) as file:
        file.write(b"probe")
        file.flush()
        os.fsync(file.fileno())
    yield Finding(AREA, "writing", "ok", "a file can be written and deleted")


def _locks(place: Path) -> Iterator[Finding]:
    with store_errors("lock a file in", place), tempfile.NamedTemporaryFile(prefix=PROBE, dir=place) as file:
        excluded = _excludes(Path(file.name))
    if excluded:
        yield Finding(AREA, "locks", "ok", "a lock keeps a second process away")
        return
    found = "a lock was given twice: two processes could record one run"
    yield Finding(AREA, "locks", "problem", found, ELSEWHERE)


def _excludes(path: Path) -> bool:
    """Whether a lock as the store takes it cannot be taken again."""
    first, second = system_lock(path), system_lock(path)
    first.acquire(blocking=False)
    try:
        second.acquire(blocking=False)
    except Timeout:
        return True
    else:
        second.release()
        return False
    finally:
        first.release()


def _space(place: Path) -> Iterator[Finding]:
    yield space(shutil.disk_usage(place).free)


def space(free: int) -> Finding:
    """Whether there is room for runs; `free` in bytes."""
    found = f"{free / (1 << 30):,.1f} GiB free" if free >= LEAST_FREE else f"{free / (1 << 20):,.0f} MiB free"
    if free >= LEAST_FREE:
        return Finding(AREA, "free space", "ok", found)
    advice = "free space on this disk, or choose another place: --root FOLDER; a full disk stops a run"
    return Finding(AREA, "free space", "warning", found, advice)


def _file_system(place: Path) -> Iterator[Finding]:
    if not MOUNTS.is_file():
        yield Finding(AREA, "file system", "ok", "this platform does not tell which one it is: use a local disk")
        return
    yield file_system(place, MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))


def file_system(place: Path, mounts: str) -> Finding:
    """Whether a folder lies on the disk of another machine.

    Args:
        place: The folder, absolute and without symbolic links.
        mounts: What mounts there are, in the form of /proc/mounts.
    """
    point, kind = Path("/"), "unknown"
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mounted = Path(re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), fields[1]))
        if place.is_relative_to(mounted) and mounted.is_relative_to(point):  # a later mount hides an earlier one
            point, kind = mounted, fields[2]
    if kind in NETWORK:
        found = f"{kind}, mounted at {point}, is a network file system: locks and renames are not promised there"
        return Finding(AREA, "file system", "warning", found, ELSEWHERE)
    return Finding(AREA, "file system", "ok", f"{kind}, mounted at {point}")
