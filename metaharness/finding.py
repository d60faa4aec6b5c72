r"""Regular expressions over what a run has recorded: over one trace, or over sources, reasoning, reports and traces.

A search stops when its page is full or its time is over, and says with a cursor where it goes on. A line of a trace is
searched as it lies there: JSON, in which a line break is `\n` and a quote `\"`; excerpts are shown without these.
A pattern cannot hang: it is given the time of its page, measured in seconds of the processor, so on a busy machine a
page takes longer. Not guarded: the memory of a pattern that tries very many ways through a very long line.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import regex
from pydantic import BaseModel, ValidationError

from metaharness.errors import StoreError, UsageError
from metaharness.store import Filter, RunStore, TraceIndex

Where = Literal["sources", "reasoning", "reports", "traces"]
WHERE: tuple[Where, ...] = get_args(Where)
"""What can be searched, in the order in which it is."""

SECONDS = 1.0
"""Of one page."""
PAGE = 20
EXCERPT = 300
"""Characters, at most."""
LONGEST_PATTERN = 2000
"""Characters: to compile one takes longer, the longer it is."""


@dataclass(frozen=True)
class Hit:
    """A line in which the pattern was found, by its first match."""

    iteration: int
    where: Where
    line: int
    """Its number in the file, from 1."""
    excerpt: str
    """The match with what stands around it."""
    file: str | None = None
    """Of a source: its path in the candidate."""
    case_id: str | None = None
    """Of a trace: `<learn>` for what `learn` did."""
    trial: int | None = None
    """Of a trace."""


@dataclass(frozen=True)
class Hits:
    """One page."""

    hits: tuple[Hit, ...]
    cursor: str | None
    """Gives the next page; None: everything was searched."""
    unreadable: tuple[str, ...] = ()
    """What could not be searched on the way, and why."""


def grep_trace(
    index: TraceIndex,
    pattern: str,
    wanted: Filter | None = None,
    *,
    differs_from: TraceIndex | None = None,
    cursor: str | None = None,
    limit: int = PAGE,
    seconds: float = SECONDS,
) -> Hits:
    """The lines of a trace that hold a pattern: of those that count, and are in the index.

    Args:
        index: Brought up to date before.
        pattern: A regular expression, as the package `regex` reads it.
        wanted: Only lines that this filter lets through; None: all.
        differs_from: Only those that ended otherwise than in this index.
        cursor: Of the page before.
        limit: At most so many hits.
        seconds: The time of the page, about; one line at least is searched.

    Raises:
        UsageError: The pattern is none, or takes too long on one line; the cursor is none, or of another search.
    """
    wanted = wanted or Filter()
    other = None if differs_from is None else differs_from.iteration
    search = _Search(pattern, limit, seconds, f"{index.iteration} {wanted} {other}")
    (start,) = search.place(cursor, 1) or (0,)
    with closing(index.read_lines(wanted, differs_from=differs_from, start=start)) as lines:
        return search.page(
            _Line((place,), line, index.iteration, "traces", row.line, case_id=row.case_id, trial=row.trial)
            for place, row, line in lines
        )


def search_history(
    store: RunStore,
    pattern: str,
    *,
    where: Sequence[str] = WHERE,
    iterations: Iterable[int] | None = None,
    cursor: str | None = None,
    limit: int = PAGE,
    seconds: float = SECONDS,
) -> Hits:
    """The lines that hold a pattern, in everything that is recorded of the iterations of a run, in their order.

    In traces every attempt is searched, also those that were repeated.

    Args:
        store: The run.
        pattern: A regular expression, as the package `regex` reads it.
        where: Which of `WHERE`.
        iterations: Their numbers; None: all.
        cursor: Of the page before.
        limit: At most so many hits.
        seconds: The time of the page, about; one line at least is searched.

    Raises:
        UsageError: The pattern is none, or takes too long on one line; the cursor is none, or of another search; there
            is no such iteration, or nothing of that name to search.
    """
    for name in where:
        if name not in WHERE:
            raise UsageError(f"{name!r} cannot be searched", hint=f"valid: {', '.join(WHERE)}")
    chosen = None if iterations is None else sorted({store.proposal(number).iteration for number in iterations})
    search = _Search(pattern, limit, seconds, f"{sorted(where)} {chosen}")
    begin = search.place(cursor, _DEPTH) or (0,) * _DEPTH
    numbers = [proposal.iteration for proposal in store.iterations()] if chosen is None else chosen
    return search.page(
        line
        for number in numbers
        for kind in WHERE
        if kind in where and (number, WHERE.index(kind)) >= begin[:2]
        for line in _lines_of(store, number, kind, begin, search.unreadable)
    )


# --- what is searched -------------------------------------------------------------------------------------------

_DEPTH = 5
"""Numbers that say where a line is: iteration, kind, which file of it, offset in it, number of the line."""


class _Line(NamedTuple):
    """One line, and what it is of."""

    place: tuple[int, ...]
    text: str | bytes
    """Bytes: a line of a trace, as it lies there."""
    iteration: int
    where: Where
    number: int
    file: str | None = None
    case_id: str | None = None
    """None in a trace: it has not been read yet."""
    trial: int | None = None

    def hit(self, excerpt: str) -> Hit:
        """It, as it is told."""
        case_id, trial = self.case_id, self.trial
        if isinstance(self.text, bytes) and case_id is None:
            with suppress(ValidationError):  # it is damaged; that is no reason to hide it
                whose = _Whose.model_validate_json(self.text)
                case_id, trial = whose.case_id, whose.trial
        return Hit(self.iteration, self.where, self.number, excerpt, self.file, case_id, trial)


class _Whose(BaseModel):
    """Of a line of a trace, what it is of."""

    case_id: str
    trial: int


def _lines_of(
    store: RunStore, number: int, kind: Where, begin: tuple[int, ...], unreadable: list[str]
) -> Iterator[_Line]:
    """The lines of one kind of one iteration, from a place on. Where they cannot be read, that is told instead."""
    here = (number, WHERE.index(kind))
    part, offset, line = begin[2:] if begin[:2] == here else (0, 0, 1)
    try:
        if kind == "traces":
            yield from _trace_lines(store, number, part, offset, line)
        else:
            for place, (file, text) in enumerate(_texts(store, number, kind)):
                first = line if place == part else 1
                for at, one in enumerate(text.split("\n") if place >= part else (), 1):
                    if at >= first:
                        yield _Line((*here, place, 0, at), one, number, kind, at, file)
    except StoreError as error:
        unreadable.append(error.message)


def _trace_lines(store: RunStore, number: int, part: int, offset: int, line: int) -> Iterator[_Line]:
    """Those of a trace, and then of what `learn` did (part 1)."""
    for learn in range(part, 2):
        begin, first = (offset, line) if learn == part else (0, 1)
        lines = store.trace_lines(number, learn=learn == 1, offset=begin, line=first)
        try:
            for at, begun, text in lines:
                yield _Line((number, WHERE.index("traces"), learn, begun, at), text, number, "traces", at)
        except ValueError as error:
            raise UsageError(f"the cursor does not fit: {error}", hint=_ANEW) from error


def _texts(store: RunStore, number: int, kind: Where) -> Iterator[tuple[str | None, str]]:
    """The texts of one kind, each with its path in the candidate where it is a part of it."""
    if kind == "sources":
        yield from sorted(store.files(number).items())
    else:
        yield None, (store.reasoning(number) if kind == "reasoning" else store.report(number)) or ""


# --- one page ---------------------------------------------------------------------------------------------------

_ANEW = "give the cursor of the page before it, with everything else as it was there; or none, to begin anew"
_LEAST = 0.1
"""Seconds that the first line of a page is given at least."""
_SIMPLER = "make it simpler: no repeated group in a repeated group, such as (a+)+"


class _Search:
    """A pattern at work, and what it has found."""

    def __init__(self, pattern: str, limit: int, seconds: float, over: str) -> None:
        if limit < 1:
            raise UsageError(f"a page of {limit} hits", hint="it holds 1 or more")
        self._pattern = _compiled(pattern)
        plain = regex.escape(pattern, special_only=True) == pattern
        self._needle = pattern.encode(errors="replace") if plain else b""
        """What every line of a trace with a match has in it; finding that is quicker."""
        self._limit = limit
        self._seconds = seconds
        self._digest = hashlib.sha256(f"{pattern}\n{over}".encode(errors="replace")).hexdigest()[:8]
        self.unreadable: list[str] = []

    def place(self, cursor: str | None, numbers: int) -> tuple[int, ...] | None:
        """Where a cursor says that the search goes on; None without one.

        Raises:
            UsageError: It is no cursor, or of another search.
        """
        if cursor is None:
            return None
        if not re.fullmatch(rf"([0-9]{{1,18}}\.){{{numbers}}}[0-9a-f]{{8}}", cursor):
            raise UsageError(f"{cursor[:80]!r} is not a cursor", hint=_ANEW)
        *place, digest = cursor.split(".")
        if digest != self._digest:
            raise UsageError(f"the cursor {cursor} is of another search", hint=_ANEW)
        return tuple(map(int, place))

    def page(self, lines: Iterable[_Line]) -> Hits:
        """Search the lines until the page is full or its time is over."""
        deadline = time.monotonic() + self._seconds
        hits: list[Hit] = []
        for searched, line in enumerate(lines):
            left = deadline - time.monotonic() if searched else max(self._seconds, _LEAST)
            if len(hits) >= self._limit or left <= 0:
                return self._ended(hits, line)
            try:
                excerpt = self._found(line.text, left)
            except TimeoutError:
                if searched:  # the next page begins with it, and has more time for it
                    return self._ended(hits, line)
                raise self._too_slow(line) from None
            except MemoryError:
                raise self._too_slow(line) from None
            if excerpt is not None:
                hits.append(line.hit(excerpt))
        return self._ended(hits, None)

    def _found(self, text: str | bytes, seconds: float) -> str | None:
        """What to show of a line; None without a match."""
        if isinstance(text, str):
            found = self._pattern.search(text, timeout=seconds, concurrent=True)
            return None if found is None else text[slice(*_around(text, *found.span()))]
        if self._needle not in text:
            return None
        decoded = text.decode(errors="replace").rstrip("\n")
        found = self._pattern.search(decoded, timeout=seconds, concurrent=True)
        return None if found is None else _readable(decoded, *_around(decoded, *found.span()))

    def _ended(self, hits: Sequence[Hit], following: _Line | None) -> Hits:
        cursor = None if following is None else ".".join([*map(str, following.place), self._digest])
        return Hits(tuple(hits), cursor, tuple(self.unreadable))

    def _too_slow(self, line: _Line) -> UsageError:
        where = f"line {line.number:,} of the {line.where} of iteration {line.iteration:03d}"
        return UsageError(f"the pattern takes too long on {where} ({len(line.text):,} characters)", hint=_SIMPLER)


def _compiled(pattern: str) -> regex.Pattern[str]:
    if not 0 < len(pattern) <= LONGEST_PATTERN:
        raise UsageError(
            f"a pattern of {len(pattern):,} characters", hint=f"give one of 1 to {LONGEST_PATTERN:,} characters"
        )
    try:
        return regex.compile(pattern)
    except (regex.error, ValueError, LookupError, OverflowError, RecursionError, MemoryError) as error:
        raise UsageError(
            f"{pattern[:80]!r} is not a regular expression: {error}",
            hint="as Python's `re` reads them; a backslash before a character such as ( or [ takes it as it is",
        ) from error


# --- what is shown ----------------------------------------------------------------------------------------------

_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)
_LONGEST_ESCAPE = 6
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def _around(text: str, begin: int, end: int) -> tuple[int, int]:
    """The part of a text to show: the match in the middle, or its beginning where it is long."""
    first = max(0, begin - (EXCERPT - min(end - begin, EXCERPT)) // 2)
    last = min(len(text), first + EXCERPT)
    return max(0, last - EXCERPT), last


def _readable(text: str, begin: int, end: int) -> str:
    """A part of a line of JSON, whole escapes only, each as the character that it stands for."""
    begin, end = _escape_at(text, begin)[1], _escape_at(text, end)[0]
    shown = _ESCAPE.sub(lambda found: _character(found[0]), text[begin:end])
    return shown.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _escape_at(text: str, place: int) -> tuple[int, int]:
    """Where the escape that a place lies within begins and ends; the place itself where it lies within none."""
    for begin in range(max(0, place - _LONGEST_ESCAPE + 1), place):
        before = text[max(0, begin - EXCERPT) : begin]
        backslashes = len(before) - len(before.rstrip("\\"))
        found = _ESCAPE.match(text, begin) if backslashes % 2 == 0 else None
        if found is not None and found.end() > place:
            return begin, found.end()
    return place, place


def _character(escape: str) -> str:
    if escape[1] == "u" and len(escape) == _LONGEST_ESCAPE:
        return chr(int(escape[2:], 16))
    return _SHORT.get(escape[1], escape[1])
