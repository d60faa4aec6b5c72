"""The test cases of a domain moved, brought back, copied out and taken in: durably, and whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

from filelock import Timeout

from metaharness.errors import DomainError, MetaharnessError, StoreError, UsageError
from metaharness.holdout import packed_split
from metaharness.loading import load_domain, shipped_domains, shipped_folder
from metaharness.sealing.elsewhere import tree_of, warnings_about
from metaharness.sealing.reading import split_file
from metaharness.seals import (
    COMMAND,
    KEPT,
    SUFFIX,
    FoundSeal,
    Seal,
    find_seal,
    other_options,
    parsed,
    read_seal,
    seal_page,
    sealed_root,
    seals_of,
)
from metaharness.store.files import read_optional, sync_folder, temporary_name, write_atomic
from metaharness.store.lock import system_lock

WAIT_SECONDS = 30.0
"""For another process that seals."""
HINT = "check the place, its permissions, the space left and who else seals, then try again: nothing was lost"
Done = Literal["sealed", "completed", "already sealed", "brought back", "not sealed", "exported", "imported"]


@dataclass
class Outcome:
    """What was done."""

    done: Done
    domain: str
    cases: int
    """How many the test split has; 0 where no seal stands."""
    seal: Path | None
    """What stands for the cases in the tree, or stood; None where no seal stands."""
    file: Path | None
    """Where the cases lay, or lie; or what was exported or imported."""
    place: Path | None
    """Where the cases are out of the tree."""
    here: bool
    """Whether they are there, on this machine."""
    warnings: list[str] = field(default_factory=list)


def seal(reference: str, options: Mapping[str, str], *, runs: Path | None = None) -> Outcome:
    """Move the test cases of a domain out of the tree. Repeated, it completes what was begun, or does nothing.

    Args:
        reference: The domain, as for `load_domain`.
        options: Those of its factory: the cases are sealed as they are read with them.
        runs: The folder of all runs, to tell of those that hold the cases; None tells of none.

    Raises:
        DomainError: It cannot be loaded, or its test split has no file of its own.
        UsageError: It comes with the package, has no test cases, or the place lies in the same tree.
        StoreError: Something cannot be written. The file is where it was.
    """
    domain = load_domain(reference, options)
    root = domain.root
    _check_apart(root)
    with _locked():
        found = find_seal(domain)
        if found is not None:
            return _outcome("already sealed", found, warnings=warnings_about(found, root, runs))
        file = split_file(reference, options)
        with _told("read", file):
            content = file.read_bytes()
        contents, made = packed_split(domain, file, content)
        found = FoundSeal(file.with_name(file.name.removesuffix(file.suffix) + SUFFIX), made)
        _put(found, contents)
        begun = read_optional(found.path)
        warnings = _replaced(found, begun)
        _write(found.path, seal_page(made))
        _remove(found)
        _check_loads(reference, options, found)
    done: Done = "completed" if begun == seal_page(made) else "sealed"
    return _outcome(done, found, warnings=[*warnings, *warnings_about(found, root, runs)])


def unseal(reference: str, options: Mapping[str, str]) -> Outcome:
    """Bring the test cases back to where they were. The copy out of the tree stays: another clone may need it.

    Raises:
        DomainError: They are not on this machine.
        UsageError: Other cases lie there now.
        StoreError: The file cannot be written.
    """
    with _locked():
        found = _standing(reference, options)
        if found is None:
            return Outcome("not sealed", "", 0, None, None, None, here=False)
        _bring_back(found)
    return _outcome("brought back", found)


def export_cases(reference: str, options: Mapping[str, str], to: Path) -> Outcome:
    """Copy the sealed cases into a file, for `import_cases` on another machine.

    Raises:
        DomainError: They are not on this machine.
        UsageError: No seal stands there, or the file is there already.
        StoreError: It cannot be written.
    """
    found = _required(reference, options)
    found.contents()
    to = to.expanduser().absolute()
    with _told("write", to):
        data = found.place.read_bytes()
        if os.path.lexists(to) and read_optional(to) != data:
            raise UsageError(f"{to} is there already; nothing is overwritten", hint="name another file")
        _write(to, data, mode=0o600)
    tree = tree_of(found.path.parent) or found.path.parent.resolve()
    warnings = []
    if to.resolve().is_relative_to(tree):
        warnings.append(f"{to} lies in the tree that the cases were moved out of: move it, and delete it after use")
    return _outcome("exported", found, file=to, warnings=warnings)


def import_cases(reference: str, options: Mapping[str, str], file: Path) -> Outcome:
    """Take the sealed cases in from a file that `export_cases` has written.

    Raises:
        DomainError: It does not hold the cases that the seal stands for.
        UsageError: No seal stands there, or there is no such file.
        StoreError: The cases cannot be written.
    """
    found = _required(reference, options)
    file = file.expanduser().absolute()
    if not file.is_file():
        raise UsageError(f"there is no file {file}", hint=f"`{COMMAND} --export FILE` writes one")
    with _told("read", file):
        data = file.read_bytes()
    parsed(data, file, found.seal.place_sha256)
    with _locked():
        _put(found, data)
    return _outcome("imported", found, file=file)


# --- steps ------------------------------------------------------------------------------------------------------


def _put(found: FoundSeal, contents: bytes) -> None:
    """Write the cases, and a copy of the seal, where only their owner reads them; and read them again."""
    folder = found.place.parent
    with _told("write", folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        sync_folder(folder.parent)
        _write(found.place, contents, mode=0o600)
        _write(folder / KEPT, seal_page(found.seal), mode=0o600)
    found.cases()


def _remove(found: FoundSeal) -> None:
    """Take the file away, once both others are on disk; not where it has changed meanwhile."""
    with _told("remove", found.file):
        if sha256(found.file.read_bytes()).hexdigest() != found.seal.file_sha256:
            raise DomainError(f"{found.file} has changed while it was sealed", hint="seal again: it is still there")
        found.file.unlink()
        sync_folder(found.file.parent)


def _bring_back(found: FoundSeal) -> None:
    with _told("write", found.file):
        there = read_optional(found.file)
        if there is None:
            contents = found.contents()
            _write(found.file, contents.file_content, mode=contents.mode)
            there = read_optional(found.file)
        if there is None or sha256(there).hexdigest() != found.seal.file_sha256:
            raise UsageError(
                f"{found.file} holds something else than what was sealed; nothing is overwritten",
                hint=f"move it away, then try again; or delete {found.path.name}, and it counts as it is",
            )
        found.path.unlink()
        sync_folder(found.path.parent)


def _check_loads(reference: str, options: Mapping[str, str], found: FoundSeal) -> None:
    """A domain that wants the file as soon as it is loaded cannot be sealed: then the file comes back."""
    try:
        standing = find_seal(load_domain(reference, options))
    except MetaharnessError as error:
        _bring_back(found)
        raise DomainError(
            f"the domain cannot be loaded without {found.file}, so that file was brought back: {error.message}",
            hint="let `cases` alone look at the file of the test split",
        ) from error
    if standing is None or standing.path != found.path:
        _bring_back(found)
        raise DomainError(
            f"the seal would not be found in {found.path.parent}, so the file was brought back",
            hint="put the data beside domain.py, into a folder right below it, or where an option names the folder",
        )


def _replaced(found: FoundSeal, begun: bytes | None) -> list[str]:
    """What is told where another seal stands: of other cases, which a file has taken the place of."""
    if begun is None or begun == seal_page(found.seal):
        return []
    old = FoundSeal(found.path, read_seal(found.path))
    if old.seal.place_sha256 == found.seal.place_sha256:
        return []
    return [f"another seal stood there, and is replaced; the {old.seal.cases} cases it stood for stay at {old.place}"]


def _outcome(done: Done, found: FoundSeal, *, file: Path | None = None, warnings: list[str] | None = None) -> Outcome:
    told = list(warnings or ())
    if not found.here:
        missing = found.missing()
        told.append(f"{missing.message}; {missing.hint}")
    made: Seal = found.seal
    return Outcome(done, made.domain, made.cases, found.path, file or found.file, found.place, found.here, told)


# --- where ------------------------------------------------------------------------------------------------------


def _required(reference: str, options: Mapping[str, str]) -> FoundSeal:
    found = _standing(reference, options)
    if found is None:
        raise UsageError(f"no seal stands in {reference}", hint=f"`{COMMAND}` seals the test cases of a domain")
    return found


def _standing(reference: str, options: Mapping[str, str]) -> FoundSeal | None:
    """The seal that stands for a domain with these options, also where the domain cannot be loaded; None: none does.

    Raises:
        UsageError: There is more than one.
    """
    found = [one for one in seals_of(_folder(reference, options), options) if _is_meant(one, options)]
    if len(found) > 1:
        raise UsageError(f"{len(found)} seals stand there: {found[0].path}, {found[1].path}", hint="move one away")
    return found[0] if found else None


def _is_meant(found: FoundSeal, options: Mapping[str, str]) -> bool:
    return found.seal.options == other_options(found.path, options)


def _folder(reference: str, options: Mapping[str, str]) -> Path:
    path = Path(reference).expanduser()
    if path.exists():
        return (path if path.is_dir() else path.parent).resolve()
    shipped = shipped_folder(reference)
    return load_domain(reference, options).root if shipped is None else shipped


def _check_apart(root: Path) -> None:
    """Make sure that the cases would leave the tree they are in."""
    shipped = [folder for name in shipped_domains() if (folder := shipped_folder(name)) is not None]
    if root.resolve() in {folder.resolve() for folder in shipped}:
        raise UsageError(
            f"{root} comes with the package, so everybody has its cases",
            hint="`metaharness init NAME` makes a domain of your own",
        )
    tree, place = tree_of(root) or root.resolve(), sealed_root().resolve()
    if place.is_relative_to(tree) or place.is_relative_to(root.resolve()):
        raise UsageError(
            f"the sealed cases would go to {place}, which lies in the tree {tree} itself",
            hint="name a folder outside of it in XDG_DATA_HOME",
        )


@contextmanager
def _locked() -> Iterator[None]:
    """One process at a time seals; in a folder that only its owner reads."""
    folder = sealed_root()
    with _told("make", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    lock = system_lock(folder / ".one_at_a_time")
    with _told("lock", folder):
        try:
            lock.acquire(timeout=WAIT_SECONDS)
        except Timeout as error:
            raise StoreError(f"another process is sealing: it holds a lock in {folder}") from error
    try:
        yield
    finally:
        lock.release()


def _write(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Write a file durably; it has its mode before it has its name."""
    with _told("write", path):
        if mode is not None:
            temporary = temporary_name(path)  # write_atomic goes on with it
            temporary.unlink(missing_ok=True)
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
            temporary.chmod(mode | 0o200)
        write_atomic(path, data, durable=True)
        if mode is not None:
            path.chmod(mode)


@contextmanager
def _told(action: str, path: Path) -> Iterator[None]:
    """What the operating system says, with a hint that fits."""
    try:
        yield
    except StoreError as error:
        raise StoreError(
            error.message, hint=error.hint if error.hint and "resume" not in error.hint else HINT
        ) from error
    except OSError as error:
        raise StoreError(f"cannot {action} {path}: {error.strerror or error}", hint=HINT) from error
