"""Which paths have to be mounted, and which symbolic links made, so that others are there under their own names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

MOST_LINKS = 200


def to_mount(wanted: Iterable[str]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """What is to be mounted for these paths; those that are not there are left out.

    Returns:
        Files and folders without symbolic links on their way, none of which lies beneath another; and (path, target)
        of the symbolic links that lead to them and lie beneath none of them.
    """
    links: dict[str, str] = {}
    reals = sorted({followed(path, links) for path in wanted if Path(path).exists()})
    paths = tuple(path for path in reals if not beneath(path, reals))
    return paths, tuple((link, target) for link, target in sorted(links.items()) if not beneath(link, paths))


def followed(path: str, links: dict[str, str]) -> str:
    """The path without symbolic links; those on the way are added to `links`."""
    done, left = Path("/"), list(Path(path).parts)
    while left:
        part = left.pop(0)
        here = done / part
        if part == "..":
            done = done.parent
        elif here.is_symlink() and len(links) < MOST_LINKS:
            target = here.readlink()
            links[str(here)] = str(target)
            left = [*target.parts, *left]  # an absolute target begins with "/", which starts over
        else:
            done = here
    return str(done)


def beneath(path: str, folders: Iterable[str]) -> bool:
    """Whether it lies in one of these folders, or in one of theirs."""
    return any(path.startswith(folder.rstrip("/") + "/") for folder in folders)
