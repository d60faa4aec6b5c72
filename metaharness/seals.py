"""The seal of a test split: what stands in the tree instead of its cases, and where the cases are.

    my_domain/data/test.sealed.json        stands where test.jsonl lay: hashes, counts, fingerprints; no text
    $XDG_DATA_HOME/metaharness/sealed/HASH/
      cases.json                           the cases, and the file that was moved, byte by byte
      seal.json                            a copy of the seal

HASH is that of `cases.json`, so a seal means the same on every machine and for every user. Without XDG_DATA_HOME it is
~/.local/share. Folders are 0700, files 0600. Where the file of the split lies beside its seal, that file counts.

Not guarded: a program with the user's own rights, such as an agent with a shell, can read the cases where they are, and
confirm what it guesses (see `fingerprints`): of an input of few words a guess is easy.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from metaharness.domain import Case, Domain, cases_hash, files_hash
from metaharness.errors import DomainError, StoreError
from metaharness.fingerprints import Fingerprint, fingerprints, packed, unpacked
from metaharness.messages import Record

SUFFIX = ".sealed.json"
CASES, KEPT = "cases.json", "seal.json"
SCHEMA = 1
COMMAND = "metaharness seal DOMAIN"


class SealedPrint(Record):
    """The fingerprint of one case, without its id; hashes in hexadecimal, those of 10-grams sorted and in base64."""

    whole: str
    grams: str = ""
    short: tuple[int, str, str] | None = None


class Seal(Record):
    """`test.sealed.json`."""

    sealed: Literal["test"] = "test"
    schema_version: int = SCHEMA
    domain: str
    """Its name: another domain may read other cases from the same file."""
    options: dict[str, str]
    """Those of the domain's factory with which the cases were read, but for the one that names this folder."""
    file: str
    """The name of the file that was moved; it lay in the folder of the seal."""
    file_sha256: str
    place_sha256: str
    """Of `cases.json`, which names its folder too."""
    test_hash: str
    """SHA-256 over the cases of the split, by id: the one openings are counted by."""
    reader_hash: str
    """SHA-256 over the domain's code when the cases were read; the evaluator and the driver do not count."""
    cases: int
    units: int
    """Groups, or cases."""
    prints: list[SealedPrint]
    """In the order of the cases."""


class SealedCases(Record):
    """`cases.json`: the cases as the domain has read them, and the file they were read from."""

    schema_version: int = SCHEMA
    domain: str
    options: dict[str, str]
    file: str
    mode: int
    """The permissions of the file."""
    content: str
    """Of the file, in base64."""
    cases: list[tuple[str, Any, Any, list[str], str | None]]
    """Id, input, expected, tags, group."""

    @property
    def file_content(self) -> bytes:
        """What stood in the file."""
        return base64.b64decode(self.content)

    def as_cases(self) -> list[Case]:
        """The cases in their order."""
        return [Case(one, asked, expected, tuple(tags), group) for one, asked, expected, tags, group in self.cases]


@dataclass(frozen=True)
class FoundSeal:
    """A seal and where it stands."""

    path: Path
    seal: Seal

    @property
    def file(self) -> Path:
        """Where the file of the split lay."""
        return self.path.with_name(self.seal.file)

    @property
    def place(self) -> Path:
        """Where the cases are on this machine, if they are."""
        return place_of(self.seal.place_sha256)

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Fingerprint by the number of the case: ids stay sealed."""
        try:
            return {f"{number:04d}": _print_of(one) for number, one in enumerate(self.seal.prints, start=1)}
        except (ValueError, struct.error) as error:
            raise damaged(self.path, str(error)) from error

    def cases(self) -> list[Case]:
        """The cases, read from where they are and checked against the seal.

        Raises:
            DomainError: They are not on this machine, or they and the seal do not belong together.
        """
        cases = self.contents().as_cases()
        if (cases_hash(sorted(cases, key=lambda case: case.id)), len(cases)) != (self.seal.test_hash, self.seal.cases):
            raise damaged(self.path, "it is not the seal of the cases that it names")
        if prints_of(cases) != self.seal.prints:
            raise damaged(self.path, "its fingerprints are not those of the cases")
        return cases

    def contents(self) -> SealedCases:
        """`cases.json`, checked.

        Raises:
            DomainError: It is not on this machine, or is damaged.
        """
        try:
            data = self.place.read_bytes()
        except FileNotFoundError as error:
            raise self.missing() from error
        except OSError as error:
            raise StoreError(
                f"cannot read the sealed cases {self.place}: {error.strerror}",
                hint="they belong to whoever has sealed them: check who owns the folder",
            ) from error
        return parsed(data, self.place, self.seal.place_sha256)

    @property
    def here(self) -> bool:
        """Whether the cases are on this machine; their content is not looked at."""
        return self.place.is_file()

    def missing(self) -> DomainError:
        """What is said where they are not."""
        return DomainError(
            f"the test cases of {self.seal.domain} are sealed ({self.path}) and not on this machine: there is no "
            f"{self.place}",
            hint=f"where they are: `{COMMAND} --export FILE`; here: `{COMMAND} --import FILE`; all but `finish` works "
            "without them",
        )


# --- finding ----------------------------------------------------------------------------------------------------


def find_seal(domain: Domain) -> FoundSeal | None:
    """The seal that stands for the test split of a domain; None where the domain reads the split itself.

    Raises:
        DomainError: The seal is damaged, or not what was put there, as far as this machine knows. No case is read.
    """
    fitting = (one for one in seals_of(domain.root, domain.loaded_with) if fits(one, domain))
    found = next((one for one in fitting if not one.file.exists()), None)
    if found is not None:
        kept = found.place.with_name(KEPT)
        if kept.is_file() and said(read_seal(kept)) != said(found.seal):
            raise damaged(found.path, f"it is not what was put there; a copy lies at {kept}")
    return found


def said(seal: Seal) -> Seal:
    """What a seal says of its cases: this follows from them alone."""
    return seal.model_copy(update={"reader_hash": ""})


def sealed_for_another(domain: Domain) -> DomainError | None:
    """What is said where this domain cannot read its test split and a seal stands there that does not fit; else None.

    Raises:
        DomainError: A seal is damaged.
    """
    apart = [
        one for one in seals_of(domain.root, domain.loaded_with) if not one.file.exists() and not fits(one, domain)
    ]
    if not apart:
        return None
    path, seal = apart[0].path, apart[0].seal
    options = ", ".join(f"{name}={value}" for name, value in seal.options.items()) or "no options"
    return DomainError(
        f"the test cases in {path.parent} were sealed for the domain {seal.domain} with {options}, not for "
        f"{domain.name} as it is here",
        hint=f"use that one with those options; or `{COMMAND} --undo` with them, and seal the cases for this one",
    )


def seals_of(root: Path, options: Mapping[str, str]) -> list[FoundSeal]:
    """The seals in folders that options name, in the folder of a domain and in those right below it; in this order.

    Raises:
        DomainError: One is damaged.
    """
    paths = dict.fromkeys(path for folder in folders_of(root, options) for path in sorted(folder.glob(f"*{SUFFIX}")))
    return [FoundSeal(path, read_seal(path)) for path in paths]


def folders_of(root: Path, options: Mapping[str, str]) -> Iterator[Path]:
    """Where a seal may stand."""
    for folder in (*option_folders(options).values(), root.absolute()):
        yield folder
        try:
            inner = sorted(folder.iterdir())
        except OSError:
            continue
        yield from (path for path in inner if path.is_dir() and not path.name.startswith("."))


def option_folders(options: Mapping[str, str]) -> dict[str, Path]:
    """The options whose value is a folder that is there."""
    found = {name: Path(value).expanduser().absolute() for name, value in options.items() if value}
    return {name: path for name, path in found.items() if _is_folder(path)}


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # such as an option that is a long text and no path
        return False


def fits(found: FoundSeal, domain: Domain) -> bool:
    """Whether it stands for what this domain, loaded as it was, would read."""
    return found.seal.domain == domain.name and found.seal.options == other_options(found.path, domain.loaded_with)


def other_options(seal: Path, options: Mapping[str, str]) -> dict[str, str]:
    """The options but for those that name a folder around the seal: that may be another one on another machine."""
    around = {
        name for name, folder in option_folders(options).items() if seal.resolve().is_relative_to(folder.resolve())
    }
    return {name: value for name, value in options.items() if name not in around}


def read_seal(path: Path) -> Seal:
    """A seal.

    Raises:
        DomainError: It is damaged, or of a newer version.
    """
    try:
        seal = Seal.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error
    if seal.schema_version > SCHEMA:
        raise damaged(path, f"it has version {seal.schema_version}, and this metaharness reads up to {SCHEMA}")
    if Path(seal.file).name != seal.file or not seal.file:
        raise damaged(path, f"its file {seal.file!r} is not a name")
    if len(seal.place_sha256) != 64 or not set(seal.place_sha256) <= set("0123456789abcdef"):
        raise damaged(path, "place_sha256 is not a hash")
    return seal


def damaged(path: Path, reason: str) -> DomainError:
    """What is said of a seal that cannot be used."""
    return DomainError(
        f"the seal {path} is damaged: {reason}",
        hint="restore it, such as with `git checkout`; the cases it stood for lie unchanged where they were put",
    )


# --- where the cases are ----------------------------------------------------------------------------------------


def sealed_root() -> Path:
    """The folder of all sealed cases of this user."""
    folder = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not folder.is_absolute():
        folder = Path.home() / ".local" / "share"
    return folder / "metaharness" / "sealed"


def place_of(sha256: str) -> Path:
    """Where cases of that hash are on this machine, if they are."""
    return sealed_root() / sha256 / CASES


def parsed(data: bytes, path: Path, sha256: str) -> SealedCases:
    """`cases.json`, or an export of it.

    Raises:
        DomainError: It is not what the seal names.
    """
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DomainError(
            f"{path} does not hold the cases that the seal stands for",
            hint="take the file that `--export` wrote for this very domain; compare its SHA-256 with place_sha256",
        )
    try:
        return _contents(data)
    except ValueError as error:
        raise DomainError(f"{path} is damaged: {error}", hint="restore it from a copy") from error


def _contents(data: bytes) -> SealedCases:
    # not by pydantic's own reader: it refuses lone surrogates, which a text of a case may hold
    return SealedCases.model_validate(json.loads(data))


# --- making -----------------------------------------------------------------------------------------------------


def make_contents(domain: Domain, options: dict[str, str], file: Path, content: bytes, cases: Sequence[Case]) -> bytes:
    """`cases.json`: the same bytes for the same file and cases.

    Raises:
        DomainError: A case would not come back as it is.
    """
    rows = [(case.id, case.input, case.expected, list(case.tags), case.group) for case in cases]
    contents = SealedCases(
        domain=domain.name,
        options=options,
        file=file.name,
        mode=file.stat().st_mode & 0o777,
        content=base64.b64encode(content).decode(),
        cases=rows,
    )
    data = json.dumps(contents.model_dump()).encode() + b"\n"
    back = _contents(data).as_cases()
    for case, again in zip(cases, back, strict=True):
        if type(case) is not Case or case != again or repr(case) != repr(again):
            raise DomainError(
                f"a case of the split (file {file.name}) would not come back as it is from a file",
                hint="input and expected are lists, not tuples, objects with texts as names; and no case has `files`",
            )
    return data


def make_seal(domain: Domain, options: dict[str, str], contents: bytes, cases: Sequence[Case]) -> Seal:
    """The seal of `cases.json`."""
    parts = _contents(contents)
    return Seal(
        domain=domain.name,
        options=options,
        file=parts.file,
        file_sha256=hashlib.sha256(parts.file_content).hexdigest(),
        place_sha256=hashlib.sha256(contents).hexdigest(),
        test_hash=cases_hash(sorted(cases, key=lambda case: case.id)),
        reader_hash=reader_hash(domain),
        cases=len(cases),
        units=len({case.group or case.id for case in cases}),
        prints=prints_of(cases),
    )


def reader_hash(domain: Domain) -> str:
    """SHA-256 over the Python files beside `domain.py`, but for `evaluator.py` and the driver."""
    apart = {domain.root / "evaluator.py", domain.driver()}
    return files_hash({path.name: path.read_bytes() for path in domain.root.glob("*.py") if path not in apart})


def seal_page(seal: Seal) -> bytes:
    """The seal as it is written: a line for each case."""
    head = json.dumps(seal.model_dump(exclude={"prints"}), indent=1)
    rows = ",\n  ".join(json.dumps(one.model_dump(exclude_defaults=True)) for one in seal.prints)
    return f'{head.removesuffix("}").rstrip()},\n "prints": [\n  {rows}\n ]\n}}\n'.encode()


def prints_of(cases: Sequence[Case]) -> list[SealedPrint]:
    """The fingerprints as they are written."""
    return [
        SealedPrint(
            whole=f"{one.whole:016x}",
            grams=base64.b64encode(packed(sorted(one.grams))).decode(),
            short=None if one.short is None else (one.short[0], f"{one.short[1]:016x}", f"{one.short[2]:016x}"),
        )
        for one in fingerprints(cases).values()
    ]


def _print_of(one: SealedPrint) -> Fingerprint:
    short = None if one.short is None else (one.short[0], int(one.short[1], 16), int(one.short[2], 16))
    return Fingerprint(int(one.whole, 16), frozenset(unpacked(base64.b64decode(one.grams))), short)
