"""A recorded case as text: what was asked, what was answered, how it was graded, every model call."""

from __future__ import annotations

import json
from typing import Any

from metaharness.records import Call, CaseTrace

LINE = 100
"""Characters of JSON in one line; what is longer is indented."""
SHOWN = 500
"""Characters of an input or an output in the short form."""


def case_text(found: CaseTrace, *, calls: bool, timed: bool = True) -> str:
    """One case. With calls: everything, each call with its whole prompt; else in short.

    Args:
        found: The case.
        calls: Whether with calls.
        timed: Whether it says how long the harness took, which is never the same twice.
    """
    grade = found.grades[-1] if found.grades else None
    value = _text if calls else _short
    lines = [
        f"--- {' '.join(found.case_id.split())} trial {found.trial}: {found.status}"
        + (f", score {grade.value:g}" if grade is not None else ""),
        f"input:    {value(found.input)}",
        f"output:   {value(found.output)}",
        f"expected: {value(found.expected)}",
    ]
    if grade is not None and grade.metrics:
        lines.append("metrics:  " + ", ".join(f"{name} {number:g}" for name, number in grade.metrics.items()))
    if grade is not None and grade.notes:
        lines.append(f"notes:    {grade.notes}")
    if found.error:
        lines.append(f"error:    {found.error.rstrip()}")
    if found.stdout_tail:
        lines.append(f"printed:  {found.stdout_tail.rstrip()}")
    took = f", {found.duration_ms:.1f} ms of its own" if timed else ""
    lines.append(f"calls:    {len(found.calls)}{took}")
    if calls:
        lines += [_call_text(place, call) for place, call in enumerate(found.calls)]
    return "\n".join(lines)


def _call_text(place: int, call: Call) -> str:
    model = " ".join(call.model.split())
    head = f"call {place} ({call.door}, {model}, {call.input_tokens}+{call.output_tokens} tokens)"
    messages = [f"[{message['role']}] {_text(message['content'])}" for message in call.request.get("messages", ())]
    answer = call.error.message if call.error is not None else (call.response or {}).get("text", "")
    return "\n".join([head, *messages, f"[answer] {_text(answer)}"])


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text):,} characters)"


def _text(value: Any) -> str:
    """A text as it is, with its lines; anything else as JSON, indented below where it is longer than a line."""
    if isinstance(value, str):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LINE else "\n" + json.dumps(value, ensure_ascii=False, indent=2)
