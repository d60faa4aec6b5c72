"""What a worker tells of its candidate: answers and requests as JSON within their limits, errors, what was printed.

One file, standard library only, Python 3.9 and later; sent over the pipe as worker.py is. What it needs is bound when
it is loaded, so that a candidate that replaces parts of `json` or the builtins does not break what tells of it.

It guards nothing: it runs beside the candidate. The parent holds the same limits against what comes out.
"""

from __future__ import annotations

import io
import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TAIL_CHARS = 4000
SHOWN = 200
"""Characters of a value that a message shows."""
OURS = (
    "<driver>",
    "<metaharness worker>",
    "<metaharness telling>",
    "<metaharness following>",
    "metaharness/harness.py",
)


class Reading:
    """How JSON is read: as `json` reads it by default."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def no_value(value: Any) -> Any:
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def parts_of_json() -> tuple[Any, Any]:
    """What writes JSON and what reads it, of which `json` is made: to import all of that takes several milliseconds."""
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    how: Any = Reading()
    read = make_scanner(how)

    def write(value: Any) -> str:
        make: Any = make_encoder({}, no_value, encode_basestring_ascii, None, ": ", ", ", False, False, False)
        return "".join(make(value, 0))

    return write, lambda body: read(body, 0)[0]


def whole_json() -> tuple[Any, Any]:
    """The same, of an interpreter that has no such parts."""
    import json

    return json.JSONEncoder(allow_nan=False).encode, json.JSONDecoder().decode


try:
    encode, decode = parts_of_json()
except ImportError:
    encode, decode = whole_json()


class StageError(Exception):
    """The candidate is not what it has to be; the message says what is missing."""


class Tail(io.TextIOBase):
    """Stands in for stdout and stderr: keeps the last characters that the thread of each scope has printed."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self) -> None:
        self.local = threading.local()

    def write(self, text: object) -> int:
        text = str(text)
        self.local.text = (getattr(self.local, "text", "") + text)[-TAIL_CHARS:]
        return len(text)

    def take(self) -> str:
        text, self.local.text = getattr(self.local, "text", ""), ""
        return text


class Teller:
    """For one candidate, whose files lie in `folder`; `depth` and `values` bound each answer and each request."""

    def __init__(self, folder: str = "", depth: int = 0, values: int = 0) -> None:
        self.folder = folder
        self.depth = depth
        self.values = values

    def as_json(self, what: str, value: Any, limit: int, given: str = "") -> str:
        """The value as JSON, or StageError where it is none, ValueError where it is beyond a bound.

        `given` stands before the value in a message: who has given it.
        """
        try:
            body: str = encode(value)
        except (TypeError, ValueError, RecursionError) as error:
            rule = "an answer must" if what == "answer" else "a " + what + " must"
            cause = self.describe(error)
            raise StageError("%s%s: %s be a JSON value (%s)" % (given, shown(value), rule, cause)) from None
        if len(body) > limit:
            raise ValueError("the %s has %d bytes; at most %d fit" % (what, len(body), limit))
        count = marks(body)
        if count > self.values:
            count = marks(without_strings(body))
        if count > self.values:
            raise ValueError("the %s has %d values; at most %d fit: send a text instead" % (what, count, self.values))
        level = [decode(body)] if body.count("[") + body.count("{") > self.depth else []
        for _ in range(self.depth + 1):
            level = [one for one in level if isinstance(one, (dict, list))]
            level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
        if level:
            raise ValueError("the %s is nested deeper than %d levels" % (what, self.depth))
        return body

    def describe(self, error: BaseException) -> str:
        try:
            text = str(error)
        except BaseException:
            text = "(its message cannot be shown)"
        name = type(error).__name__
        return text[:2000] if isinstance(error, StageError) else (name + ": " + text)[:2000]

    def traceback(self, error: BaseException) -> str:
        """The candidate's own frames; paths are relative to its folder."""
        try:
            import traceback

            lines = traceback.TracebackException(type(error), error, error.__traceback__, limit=-30)
            self.prune(lines)
            text = "".join(lines.format())
        except BaseException as broken:
            text = self.describe(error) + " (no traceback: " + type(broken).__name__ + ")"
        return text.replace(self.folder + os.sep, "")[-8000:]

    def prune(self, lines: Any) -> None:
        """Leave the candidate's frames and what it called, in the causes of an exception as well."""
        todo = [lines]
        while todo:
            one = todo.pop()
            frames = [frame for frame in one.stack if frame.filename not in OURS]
            own = [place for place, frame in enumerate(frames) if frame.filename.startswith(self.folder + os.sep)]
            one.stack = type(one.stack).from_list(frames[own[0] if own else 0 :])
            parts = [one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ())]
            todo += [part for part in parts if part is not None]


def shown(value: Any) -> str:
    """The first characters of its repr. That is the candidate's code: it may say or raise anything."""
    try:
        text = repr(value)
        return str.__getitem__(text, slice(SHOWN)) + (
            "..." if str.__len__(text) > SHOWN else ""
        )  # no method of its own
    except BaseException:
        return "something that cannot be shown"


def marks(body: str) -> int:
    """Commas and brackets that open: every value but one comes after such a mark. Those in strings count as well."""
    return body.count(",") + body.count("[") + body.count("{")


def without_strings(body: str) -> str:
    """JSON without what stands in its strings: once no quote is escaped, every second part is outside of them."""
    return "".join(body.replace("\\\\", "").replace('\\"', "").split('"')[::2])
