"""Where the test cases also are, beside the file that is moved: told, never changed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from metaharness.errors import MetaharnessError
from metaharness.fingerprints import Fingerprint, hash_of, windows, words_of
from metaharness.seals import FoundSeal
from metaharness.store import is_run, openings

GIT_SECONDS = 20.0
MOST_BYTES = 16 << 20
"""Of a file that is looked into."""
SKIPPED = frozenset({"__pycache__", "node_modules"})


def warnings_about(found: FoundSeal, root: Path, runs: Path | None) -> list[str]:
    """What still holds the cases, and what to do about each.

    Args:
        found: The seal; the cases need not be there.
        root: The folder of the domain.
        runs: The folder of all runs; None looks at none.
    """
    return [*_in_history(found.file), *_in_files(found, root), *_in_runs(found, runs)]


def tree_of(folder: Path) -> Path | None:
    """The folder with `.git` that a folder lies in; None where there is none."""
    folder = folder.resolve()
    return next((one for one in (folder, *folder.parents) if (one / ".git").exists()), None)


def _in_history(file: Path) -> Iterator[str]:
    tree = tree_of(file.parent)
    if tree is None:
        return
    relative = file.parent.resolve().relative_to(tree) / file.name
    known = _git(tree, "log", "--all", "--format=%h", "-1", "--", str(relative))
    staged = _git(tree, "ls-files", "--", str(relative))
    if known == "" and staged == "":
        return
    unsure = "may still be" if known is None or staged is None else "are still"
    yield (
        f"the cases {unsure} in the git history of {tree}: `git show` of an older commit gives {relative}. Commit its "
        f"removal; then let agents work in a copy without that history (`git clone --depth 1 file://{tree} COPY`), or "
        f"rewrite it (`git filter-repo --invert-paths --path {relative}`), which changes every later commit"
    )


def _git(tree: Path, *arguments: str) -> str | None:
    """What git says; None where it does not."""
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(tree), *arguments]
    try:
        done = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def _in_files(found: FoundSeal, root: Path) -> Iterator[str]:
    prints = list(found.fingerprints().values())
    folders = {root.resolve(): None, found.path.parent.resolve(): None}
    paths = dict.fromkeys(path for folder in folders for path in _below(folder))
    for path in paths:
        if path in (found.path.resolve(), found.file.resolve()):
            continue
        held = _held(path, prints)
        if held:
            yield (
                f"{held} of the {len(prints)} cases also stand in {path}: move it out of the tree, unless everybody "
                "may know them"
            )


def _below(folder: Path) -> Iterator[Path]:
    """The files below a folder, also hidden ones; but for git's own and folders of runs."""
    for place, names, files in os.walk(folder):
        here = Path(place)
        names[:] = sorted(
            name for name in names if name not in SKIPPED and name != ".git" and not _holds_runs(here / name)
        )
        yield from (here / name for name in sorted(files))


def _holds_runs(folder: Path) -> bool:
    try:
        return any(is_run(inner) for inner in folder.iterdir())
    except OSError:
        return True  # it cannot be looked into


def _held(path: Path, prints: list[Fingerprint]) -> int:
    """How many inputs stand whole in a file."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_BYTES:
            return 0
        words = words_of(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return 0
    grams = set(windows(words))
    lengths = {one.short[0] for one in prints if one.short is not None}
    shorts = {hash_of(words[place : place + size]) for size in lengths for place in range(len(words) - size + 1)}
    return sum(one.grams <= grams if one.grams else one.short is not None and one.short[2] in shorts for one in prints)


def _in_runs(found: FoundSeal, runs: Path | None) -> Iterator[str]:
    if runs is None:
        return
    try:
        names = [path.name for path, opening in openings(runs) if opening.get("test_hash") == found.seal.test_hash]
    except MetaharnessError as error:
        yield f"it is not known whether runs in {runs} hold the cases: {error.message}"
        return
    if names:
        yield (
            f"runs in {runs} that have opened the test hold its cases in their folder sealed/: {', '.join(names)}. "
            "Move those runs out of the tree"
        )
