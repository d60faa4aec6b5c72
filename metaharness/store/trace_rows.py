"""What an index knows of the lines of a trace: one row for each case and trial, in columns, and what is asked of them.

A hundred thousand rows take about 20 MB, and a look at all of them some ten milliseconds.
"""

from __future__ import annotations

import math
import weakref
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import BaseModel, Field

from metaharness.errors import UsageError
from metaharness.records import Finite, Status
from metaharness.store.encoding import scrub
from metaharness.store.evaluations import Pair

T = TypeVar("T")

STATUSES: tuple[Status, ...] = get_args(Status)
_CODES: dict[str, int] = {status: code for code, status in enumerate(STATUSES)}
_OK = _CODES["ok"]


class LineGrade(BaseModel):
    """Of a grade, what a row holds."""

    value: Finite


class TraceLine(BaseModel):
    """Of a line, what a row holds; the rest is read over, so that it costs no memory."""

    case_id: str
    trial: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    status: Status
    grades: list[LineGrade] = []
    error: str | None = None


@dataclass(frozen=True)
class TraceRow:
    """The line that counts for a case and a trial: the latest."""

    case_id: str
    trial: int
    status: Status
    value: float | None
    """Of its last grade; None without one."""
    has_error: bool
    line: int
    """Its number in the trace, from 1."""
    offset: int
    """Where it begins, in bytes."""
    length: int
    """In bytes, with its end."""


@dataclass(frozen=True)
class Filter:
    """Which rows are asked for; all conditions hold at once."""

    case_id: str | None = None
    """None: every case."""
    statuses: tuple[str, ...] = ()
    """Empty: any."""
    failures: bool = False
    """Only those that are not `ok`, or whose value is not `best`."""
    best: float | None = None
    """The best that a case can score; None where that is not bounded: then a case that is `ok` is no failure."""

    def __post_init__(self) -> None:
        """Refuse a status that there is not.

        Raises:
            UsageError: Which one, and the valid ones.
        """
        for status in self.statuses:
            if status not in _CODES:
                raise UsageError(f"no case has the status {status!r}", hint=f"valid: {', '.join(STATUSES)}")


EVERY = Filter()


@dataclass(frozen=True)
class Difference:
    """A case and trial whose status or value is another one in the other iteration, or that only one of them has."""

    row: TraceRow | None
    """None: only the other one has it."""
    other: TraceRow | None
    """None: only this one has it."""

    @property
    def only_in(self) -> Literal["this", "other"] | None:
        """The side that alone has it; None when both have it."""
        if self.row is None:
            return "other"
        return "this" if self.other is None else None


Key = str | Pair
"""The case id alone for the first trial: looked up in half the time."""


def key_of(case_id: str, trial: int) -> Key:
    """By which a row is found."""
    return (case_id, trial) if trial else case_id


def pair_of(key: Key) -> Pair:
    """What a key stands for."""
    return (key, 0) if isinstance(key, str) else key


class Rows:
    """The rows of a trace in the order in which their cases and trials were first written."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.statuses = bytearray()
        self.errors = bytearray()
        self.values = array("d")
        """NaN: no grade. No stored value is NaN."""
        self.lines, self.offsets, self.lengths = array("q"), array("q"), array("q")
        self._alignment: tuple[weakref.ref[Rows], tuple[int, int], list[int | None]] | None = None

    def __len__(self) -> int:
        """The number of different cases and trials."""
        return len(self.keys)

    @cached_property
    def places(self) -> dict[Key, int]:
        """Where the row of each key is."""
        return dict(zip(self.keys, range(len(self.keys)), strict=True))

    def put(self, found: TraceLine, line: int, offset: int, length: int) -> None:
        """Take a line in; it replaces the one that its case and trial had."""
        key = key_of(found.case_id, found.trial)
        value = found.grades[-1].value if found.grades else math.nan
        place = self.places.get(key)
        if place is None:
            place = len(self.keys)
            for column in (self.lines, self.offsets, self.lengths, self.statuses, self.errors):
                column.append(0)
            self.values.append(math.nan)
            self.keys.append(key)
            self.places[key] = place
        self.statuses[place] = _CODES[found.status]
        self.errors[place] = found.error is not None
        self.values[place] = value
        self.lines[place], self.offsets[place], self.lengths[place] = line, offset, length

    def row(self, place: int) -> TraceRow:
        """The row at a place."""
        case_id, trial = pair_of(self.keys[place])
        value = self.values[place]
        return TraceRow(
            case_id,
            trial,
            STATUSES[self.statuses[place]],
            None if math.isnan(value) else value,
            bool(self.errors[place]),
            self.lines[place],
            self.offsets[place],
            self.lengths[place],
        )

    def counts(self) -> dict[str, int]:
        """How many rows have each status; those that none has are left out."""
        found = Counter(self.statuses)
        return {status: found[code] for code, status in enumerate(STATUSES) if found[code]}

    def chosen(self, wanted: Filter) -> Sequence[int]:
        """The places of the rows that a filter lets through, in order."""
        places: Sequence[int] = range(len(self))
        if wanted.case_id is not None:
            case_id = scrub(wanted.case_id)
            places = [
                place for place, key in enumerate(self.keys) if (key if isinstance(key, str) else key[0]) == case_id
            ]
        if wanted.statuses:
            codes, statuses = {_CODES[status] for status in wanted.statuses}, self.statuses
            places = [place for place in places if statuses[place] in codes]
        if wanted.failures:
            statuses, values, best = self.statuses, self.values, wanted.best
            places = [
                place
                for place in places
                if statuses[place] != _OK or (best is not None and values[place] != best)  # NaN is not the best
            ]
        return places

    def differences(self, other: Rows, wanted: Filter) -> list[tuple[int | None, int | None]]:
        """The places, here and there, of what differs: in the order here, then what only the other one has.

        The filter is asked of the row here, and of the row there where there is none here.
        """
        aligned = self._aligned(other)
        statuses, values, statuses_there, values_there = self.statuses, self.values, other.statuses, other.values
        found: list[tuple[int | None, int | None]] = [
            (here, there)
            for here in self.chosen(wanted)
            if (there := aligned[here]) is None
            or statuses[here] != statuses_there[there]
            or (values[here] != values_there[there] and not _both_nan(values[here], values_there[there]))
        ]
        if len(aligned) - aligned.count(None) < len(other):
            found += ((None, place) for place in other.chosen(wanted) if other.keys[place] not in self.places)
        return found

    def _aligned(self, other: Rows) -> list[int | None]:
        """Where the other one has each row. Rows are only ever added, so it holds until one of the two has more."""
        known = self._alignment
        if known is None or known[0]() is not other or known[1] != (len(self), len(other)):
            places = list(map(other.places.get, self.keys))
            known = self._alignment = (weakref.ref(other), (len(self), len(other)), places)
        return known[2]


def _both_nan(a: float, b: float) -> bool:
    return math.isnan(a) and math.isnan(b)


def page_of(places: Sequence[T], offset: int, limit: int | None) -> Sequence[T]:
    """One page of them; None takes all that follow.

    Raises:
        UsageError: It begins before the first row, or holds none.
    """
    if offset < 0 or (limit is not None and limit < 1):
        raise UsageError(
            f"no page of {limit} rows begins at {offset}", hint="it begins at 0 or later and holds 1 row or more"
        )
    return places[offset : None if limit is None else offset + limit]
