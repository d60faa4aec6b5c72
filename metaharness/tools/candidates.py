"""The files of a candidate as an agent hands them in: as they are, as a path, or as a diff from an iteration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from metaharness.errors import UsageError
from metaharness.history import History
from metaharness.loading import read_candidate
from metaharness.records import Proposal
from metaharness.tools.text import lines_of

_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")
_ELSEWHERE = "write the harness into a folder of its own in the project, or hand in its files as text"
_SHAPE = "a unified diff: `--- a/harness.py`, `+++ b/harness.py`, then hunks: @@ -line,count +line,count @@"


def candidate_of(
    history: History, files: Mapping[str, str], path: str, diff: str, base: int, *, near: Path
) -> Proposal:
    """The candidate that is meant: its files, and what lies beside them where they come as a folder.

    Args:
        history: Of the run they are for.
        files: By relative path; empty when they come otherwise.
        path: A Python file, or a folder with `harness.py`, below `near`; empty when they come otherwise.
        diff: A unified diff from the source of iteration `base`; empty when they come otherwise.
        base: The iteration that `diff` begins from; -1 takes the incumbent.
        near: The folder that a path may lie in.

    Raises:
        UsageError: None or several of the three are given, or the one that is cannot be used.
    """
    given = [name for name, value in (("files", files), ("path", path), ("diff", diff)) if value]
    if len(given) != 1:
        said = "nothing" if not given else " and ".join(given)
        raise UsageError(f"{said} was given", hint="give exactly one of: files (path to text), path, diff (with base)")
    if files:
        return Proposal(files=dict(files))
    if path:
        return read_candidate(_allowed(history, path, near), within=near)
    number = base if base >= 0 else getattr(history.incumbent(), "number", 0)
    history.iteration(number)
    return Proposal(files=patched(history.store.files(number), diff), parents=(number,))


def _allowed(history: History, path: str, near: Path) -> Path:
    """A path that may be read: what is read is recorded, and shown to whoever reads the iteration."""
    found = placed(near, path)
    if not found.is_relative_to(near.resolve()):
        raise UsageError(f"{path} is not in {near}", hint=_ELSEWHERE)
    if not found.is_dir() and found.suffix != ".py":
        raise UsageError(f"{path} is no Python file", hint="give harness.py, or a folder that holds harness.py")
    if _holds_more(history, found):
        raise UsageError(f"{path} holds more than a candidate: the domain, its data or runs", hint=_ELSEWHERE)
    return found


def placed(near: Path, path: str) -> Path:
    """Where a path that an agent gives leads, from the project on.

    Raises:
        UsageError: Nowhere: a link to itself, no such user, a name that can be none.
    """
    try:
        found = (near / Path(path).expanduser()).resolve()
        found.stat()
    except FileNotFoundError:
        return found
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{path[:100]!r} cannot be a path: {error}"[:300], hint=f"give one in {near}") from error
    return found


def _holds_more(history: History, found: Path) -> bool:
    """Whether a path would read more than a candidate: it lies in data or among runs, or they and the domain in it."""
    config = history.record.config
    runs = history.store.path.parent.resolve()
    domain = Path(config.domain).resolve()
    given = [Path(value).resolve() for value in config.domain_options.values()]
    data = [folder for folder in (domain / "data", *given) if folder.exists()]
    if any(folder.is_relative_to(found) for folder in (runs, domain, *data) if folder.exists()):
        return True
    if any(found.is_relative_to(folder) for folder in data):
        return True
    return found.is_relative_to(runs) and found.relative_to(runs).parts[1:2] != ("iterations",)


def patched(files: Mapping[str, str], diff: str) -> dict[str, str]:
    """Files with a unified diff applied. A hunk is found by its text; its line number only says which of several.

    Raises:
        UsageError: It is no diff, or does not fit.
    """
    changed = dict(files)
    for change in _changes(diff):
        if not change.hunks:
            raise UsageError(f"the diff of {change.name} has no hunks", hint=_SHAPE)
        if change.removed:
            if change.name not in changed:
                raise UsageError(f"the diff removes {change.name}, which is not there", hint=_there(files))
            del changed[change.name]
            continue
        if change.name not in changed and not change.added:
            raise UsageError(f"the diff changes {change.name}, which is not there", hint=_there(files))
        lines = lines_of(changed.get(change.name, ""))
        for hunk in reversed(change.hunks):
            place = _place(lines, hunk, change.name)
            lines[place : place + len(hunk.old)] = hunk.new
        changed[change.name] = "".join(f"{line}\n" for line in lines)
    return changed


@dataclass(frozen=True)
class _Hunk:
    line: int
    old: list[str]
    new: list[str]


@dataclass(frozen=True)
class _Change:
    name: str
    added: bool
    removed: bool
    hunks: list[_Hunk]


def _changes(diff: str) -> Iterator[_Change]:
    lines = lines_of(diff)
    heads = [
        place for place, line in enumerate(lines[:-1]) if line.startswith("--- ") and lines[place + 1][:4] == "+++ "
    ]
    if not heads:
        raise UsageError("that is no diff", hint=_SHAPE)
    for head, following in zip(heads, [*heads[1:], len(lines)], strict=True):
        between = (place for place in range(head, following) if lines[place].startswith("diff "))
        end = next(between, following)  # what git says of the next file, such as its mode, is no hunk of this one
        before, after = _name(lines[head]), _name(lines[head + 1])
        removed = after == "/dev/null"
        yield _Change(before if removed else after, before == "/dev/null", removed, list(_hunks(lines[head + 2 : end])))


def _name(line: str) -> str:
    name = line[4:].split("\t", maxsplit=1)[0].strip()
    return re.sub(r"^(?:[ab]|\d{3,})/", "", name)


def _hunks(lines: Sequence[str]) -> Iterator[_Hunk]:
    starts = [place for place, line in enumerate(lines) if line.startswith("@@")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=False):
        head = _HUNK.match(lines[start])
        body = [line for line in lines[start + 1 : end] if not line.startswith("\\")]
        wrong = next((line for line in body if line[:1] not in ("", " ", "+", "-")), None)
        if head is None or wrong is not None:
            raise UsageError(f"a line of the diff cannot be read: {(wrong or lines[start])[:100]!r}", hint=_SHAPE)
        while body and not body[-1]:  # the end of the text, not of the file
            body.pop()
        old = [line[1:] for line in body if line[:1] != "+"]
        new = [line[1:] for line in body if line[:1] != "-"]
        yield _Hunk(int(head[1]), old, new)


def _place(lines: Sequence[str], hunk: _Hunk, name: str) -> int:
    """Where the old lines of a hunk begin: the place nearest to what the hunk says."""
    if not hunk.old:
        return min(hunk.line, len(lines))
    count = len(hunk.old)
    places = [place for place in range(len(lines) - count + 1) if list(lines[place : place + count]) == hunk.old]
    if not places:
        raise UsageError(
            f"the hunk at line {hunk.line} of {name} does not fit: {hunk.old[0][:80]!r} and what follows is not there",
            hint="read the source again with read_harness, and make the diff from that iteration",
        )
    return min(places, key=lambda place: abs(place - (hunk.line - 1)))


def _there(files: Mapping[str, str]) -> str:
    return f"its files: {', '.join(sorted(files))}"
