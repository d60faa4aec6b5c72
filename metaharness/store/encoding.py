"""From values to JSON that can be read back, and the redaction that comes before it.

Three things that a harness or a model can produce would make a line that cannot be written or cannot be read
back: half of a surrogate pair, nesting beyond what the JSON reader takes, a number that is not finite. The first
becomes U+FFFD, the second a note in its place, the third null (outside the fields that have to be finite).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic_core import from_json, to_json

R = TypeVar("R", bound=BaseModel)
Redact = Callable[[str], str]

_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACED = "\N{REPLACEMENT CHARACTER}".encode()
"""In a key pydantic writes half of a surrogate pair as three of these; two keys could become one that way."""
_MAX_DEPTH = 100
_DEPTH_IS_SAFE = 150
"""With fewer opening brackets than this a line cannot reach the 200 levels at which reading it back fails."""
TOO_DEEP = "(not stored: nested more than 100 levels deep)"

IDENTITY = frozenset(
    {
        "actor",
        "candidate_hash",
        "case_id",
        "door",
        "evaluator_hash",
        "group",
        "key",
        "kind",
        "layout",
        "metrics",
        "model",
        "role",
        "stage",
        "status",
        "submitted",
        "time",
    }
)
"""Fields of records that tell one thing from another and hold no text of a case, a harness or a model."""


def scrub(text: str) -> str:
    """The text with every lone surrogate replaced by U+FFFD: anything else can be written as UTF-8."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def text_bytes(text: str) -> bytes:
    """The text as UTF-8."""
    return scrub(text).encode()


def json_bytes(value: BaseModel | Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """The value as JSON in UTF-8 that `parse` reads back.

    Raises:
        ValueError: It holds something that is not JSON, such as an open file.
    """
    try:
        data = to_json(value, indent=indent, inf_nan_mode="null")
        if _REPLACED not in data:
            if data.count(b"[") + data.count(b"{") >= _DEPTH_IS_SAFE:
                from_json(data)  # raises where it is too deep to be read
            return data
    except ValueError:
        pass
    return to_json(map_text(value, scrub), indent=indent, inf_nan_mode="null")


def json_line(value: BaseModel | Mapping[str, Any]) -> bytes:
    """The value as one line."""
    return json_bytes(value) + b"\n"


def json_page(value: BaseModel | Mapping[str, Any]) -> bytes:
    """The value as a file that people read."""
    return json_bytes(value, indent=2) + b"\n"


def needle(text: str) -> bytes:
    """The bytes by which a line holding this string can be found before it is parsed."""
    return to_json(scrub(text))


def redacted(record: R, redact: Redact | None) -> R:
    """The record with every string redacted, those that identify it excepted."""
    if redact is None:
        return record
    copy: R = map_text(record, redact, keep=IDENTITY)
    return copy


def map_text(value: Any, change: Redact, *, keep: frozenset[str] = frozenset(), depth: int = 0) -> Any:
    """A copy with `change` applied to every string and every key of a mapping.

    Args:
        value: A record or any JSON value.
        change: What to make of a string.
        keep: Fields of records to leave alone.
        depth: How deep `value` lies; beyond 100 levels a note takes its place.
    """
    if isinstance(value, str):
        return change(value)
    if not isinstance(value, BaseModel | Mapping | list | tuple):
        return value
    if depth > _MAX_DEPTH:
        return TOO_DEEP
    depth += 1
    if isinstance(value, BaseModel):
        fields = {**value.__dict__, **(value.model_extra or {})}
        changed = {n: map_text(v, change, keep=keep, depth=depth) for n, v in fields.items() if n not in keep}
        return value.model_copy(update=changed)
    if isinstance(value, Mapping):
        return _map_keys(value, change, keep, depth)
    return [map_text(item, change, keep=keep, depth=depth) for item in value]


def _map_keys(value: Mapping[Any, Any], change: Redact, keep: frozenset[str], depth: int) -> dict[Any, Any]:
    """Two keys may become one, such as "[name]": the later ones are numbered, so that no value is lost."""
    result: dict[Any, Any] = {}
    for key, item in value.items():
        name = unique = change(key) if isinstance(key, str) else key
        number = 2
        while unique in result:
            unique, number = f"{name}-{number}", number + 1
        result[unique] = map_text(item, change, keep=keep, depth=depth)
    return result
