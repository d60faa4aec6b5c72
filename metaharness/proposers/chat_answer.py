"""The answer of a model without tools, read as candidates: a header each, and one fenced block per file.

What a model writes is read leniently, and each candidate by itself: one that cannot be used is told, and the others
stay. Nothing is invented: a file that was cut off is no file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from metaharness.errors import CandidateError
from metaharness.proposers.chat_json import json_candidates
from metaharness.records import Proposal
from metaharness.store.candidates import ENTRY, check_candidate_files

FIELDS = ("hypothesis", "axis", "components", "predicted effect", "parents", "reasoning")
"""What a header says, in the order in which it is asked for."""
MOST_ENDS = 40
"""Ends of a block that are tried, where the file itself holds such lines."""

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*(.*?)[ \t]*$")
_HEADER = re.compile(
    r"[ \t]*(?:#{1,6}|\*\*|={2,})[ \t*]*(?:candidate|proposal)\b[ \t]*(?:#?\d+\b)?[ \t*]*[:.\u2013\u2014-]*[ \t]*(.*)$",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"[ \t]*(?:[-*+][ \t]+)?(?:#{1,6}[ \t]*)?[*_]{0,2}"
    r"(name|hypothesis|axis|components?|predicted[ _-]effect|expected[ _-]effect|parents?|reasoning|rationale)"
    r"[*_]{0,2}[ \t]*:[*_]{0,2}[ \t]*(.*)$",
    re.IGNORECASE,
)
_ALIASES = {"component": "components", "expected effect": "predicted effect", "parent": "parents"}
_ALIASES["rationale"] = "reasoning"
_PATH = r"[\w./][\w./-]*\.\w{1,8}"
_NAMED = re.compile(rf"""(?:file|filename|path|title|name)\s*[=:]\s*["'`]?({_PATH})""", re.IGNORECASE)
_BARE = re.compile(rf"(?:^|[\s:`])({_PATH})(?=$|[\s`\"'}}])")
_BEFORE = re.compile(rf"[-*+# \t]*(?:file\b[ \t]*:?[ \t]*)?[*`_\"]*({_PATH})[*`_\"]*:?[*_ \t]*", re.IGNORECASE)
_FIRST = re.compile(rf"#[ \t]*(?:file(?:name)?[ \t]*:?[ \t]*)?({_PATH})[ \t]*", re.IGNORECASE)
_THOUGHT = re.compile(r"\A\s*<(think|thinking)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_CODE = ("python", "py", "python3")


@dataclass
class Answer:
    """What was read of an answer."""

    proposals: list[Proposal] = field(default_factory=list)
    """In the order in which they were written."""
    faults: list[str] = field(default_factory=list)
    """Why others could not be used, a line each."""


@dataclass
class _Block:
    path: str | None
    language: str
    text: str
    closed: bool


@dataclass
class _Draft:
    """A candidate while it is read."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    fault: str = ""

    @property
    def begun(self) -> bool:
        """Whether it is one: it has a header of its own, or a file."""
        return "name" in self.fields or bool(self.files or self.fault)


def read_answer(text: str, *, known: Sequence[int] = (), cut: bool = False) -> Answer:
    """The candidates of an answer; none where it holds prose alone.

    Args:
        text: What the model has said.
        known: Numbers that parents may have; others are left out.
        cut: Whether it ended at the bound on its length, so that a block without an end is not whole.
    """
    text = _THOUGHT.sub("", text.replace("\r\n", "\n"))
    drafts = [_Draft(found.fields, found.files) for found in json_candidates(text)]
    drafts = drafts or list(_Reader(text.split("\n"), cut=cut).drafts())
    answer = Answer()
    for place, draft in enumerate(drafts, 1):
        fault = draft.fault or _fault_of(draft.files)
        if fault:
            name = draft.fields.get("name", "").strip("`*_\"' ") or f"candidate {place}"
            answer.faults.append(f"{name}: {fault}")
        else:
            answer.proposals.append(_proposal(draft, known))
    return answer


def _fault_of(files: Mapping[str, str]) -> str:
    """Why these cannot be the files of a candidate; empty where they can."""
    try:
        check_candidate_files(files)
    except CandidateError as error:
        return error.message
    return ""


def _proposal(draft: _Draft, known: Sequence[int]) -> Proposal:
    said = {key: value.strip() for key, value in draft.fields.items()}
    components = [part.strip(" `*-") for part in re.split(r"[,;\n]", said.get("components", ""))]
    parents = dict.fromkeys(int(number) for number in re.findall(r"\d{1,6}", said.get("parents", "")))
    return Proposal(
        files=draft.files,
        name=said.get("name", "").strip("`*_\"' ")[:80],
        hypothesis=said.get("hypothesis", ""),
        axis=said.get("axis", ""),
        components=tuple(part for part in components if part),
        predicted_effect=said.get("predicted effect", ""),
        parents=tuple(number for number in parents if number in known),
        reasoning=said.get("reasoning", ""),
    )


class _Reader:
    """Goes through an answer. A candidate begins with its header, or with a file that the one before has already."""

    def __init__(self, lines: Sequence[str], *, cut: bool) -> None:
        self._lines = lines
        self._cut = cut
        self._draft = _Draft()
        self._key = ""
        """The field of the header that goes on in the next line; empty when none does."""
        self._before = ""
        """The last line that is not empty."""

    def drafts(self) -> Iterator[_Draft]:
        place = 0
        while place < len(self._lines):
            line = self._lines[place]
            if (opened := _FENCE.match(line)) is not None:
                block, place = _block(self._lines, place, opened)
                yield from self._take(block)
                continue
            place += 1
            if (header := _HEADER.match(line)) is not None:
                yield from self._begin(name=header[1].strip("*= \t"))
            else:
                self._read(line)
            self._before = line if line.strip() else self._before
        yield from self._begin()

    def _begin(self, **fields: str) -> Iterator[_Draft]:
        if self._draft.begun:
            yield self._draft
        self._draft, self._key = _Draft(fields), ""

    def _take(self, block: _Block) -> Iterator[_Draft]:
        path = _path_of(block, self._before, self._draft.files)
        self._before = ""
        if path is None:
            if self._key:
                self._draft.fields[self._key] += f"\n{block.text}"
            return
        if path in self._draft.files:
            yield from self._begin()
        self._key = ""
        _add(self._draft, path, block, self._cut)

    def _read(self, line: str) -> None:
        if (said := _KEY.match(line)) is not None:
            name = re.sub(r"[_-]", " ", said[1].lower())
            self._key = _ALIASES.get(name, name)
            self._draft.fields[self._key] = said[2]
        elif self._key and not _is_heading(line):
            self._draft.fields[self._key] += f"\n{line}"
        elif line.strip():
            self._key = ""


def _is_heading(line: str) -> bool:
    return line.lstrip().startswith("#") or (_BEFORE.fullmatch(line) is not None and bool(line.strip()))


def _add(draft: _Draft, path: str, block: _Block, cut: bool) -> None:
    whole = block.closed or (not cut and (not path.endswith(".py") or _parses(block.text)))
    if whole:
        draft.files[path] = block.text
    else:
        draft.fault = f"{path} is not whole: the answer ended in it"


def _block(lines: Sequence[str], start: int, opened: re.Match[str]) -> tuple[_Block, int]:
    """The block that begins at a line, and the line after it.

    A file may hold lines that look like its end, such as a prompt with an example in fences: of a Python file the first
    end counts that makes it one.
    """
    fence, info = opened[1], opened[2]
    path, language = _told_in(info)
    end = re.compile(rf" {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*$")
    ends = [place for place in range(start + 1, len(lines)) if end.match(lines[place])][:MOST_ENDS]

    def text_to(place: int) -> str:
        return "".join(f"{line}\n" for line in lines[start + 1 : place])

    if not ends:
        return _Block(path, language, text_to(len(lines)).removesuffix("\n"), closed=False), len(lines)
    chosen = ends[0]
    if language in _CODE or (path or "").endswith(".py"):
        chosen = next((place for place in ends if _parses(text_to(place))), ends[0])
    return _Block(path, language, text_to(chosen), closed=True), chosen + 1


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _told_in(info: str) -> tuple[str | None, str]:
    """Path and language of a block, as the line that opens it says."""
    found = _NAMED.search(info) or _BARE.search(info)
    language = re.match(r"\w*", info)
    return (found[1] if found else None), (language[0].lower() if language else "")


def _path_of(block: _Block, before: str, files: Mapping[str, str]) -> str | None:
    """Which file a block is; None where it is none."""
    if block.path is not None:
        return block.path
    if (named := _BEFORE.fullmatch(before)) is not None:
        return named[1]
    first = _FIRST.fullmatch(block.text.split("\n", 1)[0])
    if first is not None:
        return first[1]
    code = block.language in _CODE or (not block.language and "class Harness" in block.text)
    return ENTRY if code and (ENTRY not in files or "class Harness" in block.text) else None
