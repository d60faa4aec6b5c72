"""How `embedded:icl` reads a whole prompt: window, demonstrations, labels, question, and the form asked for.

Tools and parameters other than `response_format` and `max_tokens` are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metaharness.gateway.providers.embedded_blocks import Shapes
from metaharness.gateway.providers.embedded_forms import (
    Form,
    asked_form,
    bare_answer,
    schema_form,
    shown_form,
    wants_json,
)
from metaharness.gateway.providers.embedded_lines import BULLET
from metaharness.gateway.providers.embedded_lists import LONGEST_LABEL, described, fold, strip_answer
from metaharness.gateway.providers.embedded_shapes import find_shapes
from metaharness.gateway.providers.embedded_vote import Evidence
from metaharness.messages import ModelRequest

WINDOW = 16_000
"""Characters of a prompt that are read. Of a longer one the beginning falls out."""
NAME_WEIGHT = 0.5
"""The name of a label is weaker evidence than a demonstration or a description."""

_SURROGATES = re.compile("[\ud800-\udfff]")
_INSTRUCTION = re.compile(
    r"\s*(?:[-*]\s+|\d+[.)]\s+)?(?:please\s+|now\s+)*(?:you are|you will|your task|here (?:are|is)|below|the following|"
    r"classify|answer|respond|reply|return|output|choose|pick|select|assign|label|categori[sz]e|give|use only|only|"
    r"do not|don't|decide|determine|identify|predict|which|what is the|what (?:label|category|class)|examples?\b|"
    r"think|read|consider)\b",
    re.I,
)
_INLINE_QUESTION = re.compile(r"[^:\n]{0,200}:\s+(\S.{9,})$")
_FENCE = re.compile(r"(```|\"\"\")(?:\w*\n)?(.*?)\1", re.S)
_HEADING = re.compile(r"\s*(?:#+\s+(\S.{0,118}?):?|\*\*(\S.{0,118}?)\*\*:?|(?:[-*]\s+)?(\S.{0,118}?):)\s*$")


@dataclass(frozen=True)
class Reading:
    """What a prompt says."""

    question: str
    evidence: tuple[Evidence, ...]
    """Demonstrations, then the names and descriptions of the labels."""
    labels: tuple[str, ...]
    """What may be answered, as written; empty when the prompt names no label."""
    form: Form


@dataclass
class _Turn:
    role: str
    text: str
    torn: bool = False
    """Its beginning fell out of the window."""


def read(request: ModelRequest) -> Reading:
    """Read a request as far as the window reaches."""
    turns = _window(turns_of(request))
    pairs: list[tuple[str, str]] = []
    items: list[tuple[str, bool]] = []
    prose: list[Shapes] = []
    question = ""
    for turn in turns:
        if turn.role == "assistant":
            _add_reply(pairs, question, turn.text, is_last=turn is turns[-1])
            continue
        shapes = find_shapes(turn.text, torn=turn.torn)
        pairs += [(text, answer) for _, text, answer in shapes.pairs]
        items += shapes.items
        prose.append(shapes)
        if turn.role == "user" or not question:
            question = _question(shapes)
    schema_labels, form = schema_form(request.response_format)
    items = [(_clean(name), False) for name in schema_labels] or items
    form = form or asked_form(prose) or shown_form([answer for _, answer in pairs], prose)
    if wants_json(request.response_format) and form.kind != "json":
        form = Form("json", "label")
    return _resolve(question, pairs, items, form, prose)


def turns_of(request: ModelRequest) -> list[tuple[str, str]]:
    """Role and text of the system prompt and of each message; what is not text has no place here."""
    turns = [("system", _clean(request.system))] if request.system else []
    turns += [(message.role, _clean(_content(message.content))) for message in request.messages]
    return turns


def _content(content: str | Sequence[Any]) -> str:
    """The text of a message: of its text blocks, and of the results of tools."""
    if isinstance(content, str):
        return content
    parts = []
    for block in content:
        inner = block.get("text", block.get("content")) if isinstance(block, Mapping) else None
        if isinstance(inner, str):
            parts.append(inner)
        elif isinstance(inner, list):
            parts += [item["text"] for item in inner if isinstance(item, Mapping) and isinstance(item.get("text"), str)]
    return "\n".join(parts)


def _clean(text: str) -> str:
    return _SURROGATES.sub("\ufffd", text).replace("\r\n", "\n").replace("\r", "\n")


def _window(turns: Iterable[tuple[str, str]]) -> list[_Turn]:
    """The last `WINDOW` characters. A torn turn begins at its next paragraph, or at its next line."""
    room = WINDOW
    kept: list[_Turn] = []
    for role, text in reversed(list(turns)):
        if room <= 0:
            break
        turn = _Turn(role, text)
        if len(text) > room:
            turn = _Turn(role, text[-room:], torn=True)
            paragraph, line = turn.text.find("\n\n", 0, 1000), turn.text.find("\n")
            if paragraph >= 0:
                turn = _Turn(role, turn.text[paragraph + 2 :])
            elif line >= 0:
                turn.text = turn.text[line + 1 :]
        room -= len(text)
        kept.append(turn)
    return kept[::-1]


def _add_reply(pairs: list[tuple[str, str]], question: str, reply: str, *, is_last: bool) -> None:
    """A reply in the middle of a chat is a demonstration; the last one is the beginning of the answer."""
    if not is_last and question and 0 < len(reply.strip()) <= LONGEST_LABEL * 2:
        pairs.append((question, reply.strip()))


# --- the question -------------------------------------------------------------------------------------------------


def _question(shapes: Shapes) -> str:
    """The last input without an answer; else what stands after the last demonstration and is no instruction."""
    if shapes.open:
        return shapes.open[-1][1]
    after = shapes.pairs[-1][0] if shapes.pairs else -1
    lines = [line for place, line in shapes.free if place > after and line.strip()]
    lines = lines or [line for _, line in shapes.free if line.strip()]
    text = "\n".join(lines)
    fenced = _FENCE.findall(text)
    if fenced:
        return str(fenced[-1][1]).strip()
    kept = [line for line in map(_without_instruction, lines) if line]
    return "\n".join(kept).strip() or text


def _without_instruction(line: str) -> str:
    """Nothing of `Answer with the label only.`, and the end of `Classify this message: ...`."""
    if not _INSTRUCTION.match(line):
        return line
    match = _INLINE_QUESTION.match(line)
    return match.group(1) if match else ""


# --- labels -------------------------------------------------------------------------------------------------------


def _resolve(
    question: str,
    pairs: Sequence[tuple[str, str]],
    items: Sequence[tuple[str, bool]],
    form: Form,
    prose: Sequence[Shapes],
) -> Reading:
    """Bring labels to one spelling: the list's, or that of the first demonstration."""
    answers = [(text, bare_answer(answer)) for text, answer in pairs]
    listed = described(list(items), {fold(answer) for _, answer in answers})
    spelling = {fold(name): name for name in reversed(list(listed))}
    shown = [Evidence(text, _canonical(answer, spelling)) for text, answer in answers if answer]
    groups = _groups(prose)
    if not shown and not listed and len(groups) > 1:
        spelling = {fold(name): name for name, _ in groups}
    shown += [
        Evidence(line, spelling[fold(name)]) for name, lines in groups if fold(name) in spelling for line in lines
    ]
    used = list(dict.fromkeys(item.label for item in shown))
    agree = any(label in listed for label in used)
    labels = list(listed) if listed and (agree or not used) else list(dict.fromkeys([*used, *listed]))
    about = [Evidence(f"{name} {text}", name, demonstration=False) for name, text in listed.items() if text]
    names = [Evidence(label, label, weight=NAME_WEIGHT, demonstration=False) for label in labels]
    return Reading(question, (*shown, *about, *names), tuple(labels), form)


def _canonical(answer: str, spelling: dict[str, str]) -> str:
    """The label as it is first written. A listed label that an answer begins with is that label."""
    folded = fold(answer)
    if folded not in spelling:
        longer = [key for key in spelling if folded.startswith(key + " ") or folded.startswith(key + ",")]
        if longer:
            return spelling[max(longer, key=len)]
        spelling[folded] = answer
    return spelling[folded]


def _groups(prose: Sequence[Shapes]) -> list[tuple[str, list[str]]]:
    """Headings with the bulleted lines under them: `## label`, then a line per demonstration."""
    groups: list[tuple[str, list[str]]] = []
    for shapes in prose:
        lines: list[str] | None = None
        for _, line in shapes.free:
            heading = _HEADING.match(line) if len(line) <= LONGEST_LABEL * 2 else None
            if heading is not None:
                lines = []
                groups.append((strip_answer(next(filter(None, heading.groups()))), lines))
            elif lines is not None and BULLET.match(line):
                lines.append(BULLET.sub("", line, count=1))
            elif lines or line:
                lines = None
    return [(name, lines) for name, lines in groups if lines]
