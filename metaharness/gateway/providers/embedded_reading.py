"""How `embedded:icl` reads a whole prompt: window, demonstrations, labels, question, and the form asked for.

Tools and parameters other than `response_format` and `max_tokens` are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from metaharness.gateway.providers.embedded_blocks import OUTPUT_WORDS, Shapes, is_template, json_label, last_word
from metaharness.gateway.providers.embedded_shapes import LONGEST_LABEL, find_shapes, strip_answer
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
_HEADED = re.compile(r"\s*[*_]{0,2}([^\W\d_]+(?: [^\W\d_]+)?)[*_]{0,2}\s?:[*_]{0,2}\s+(\S[^\n]*)$")
_HEADING = re.compile(r"\s*(?:[-*#]+\s*)?(\S.{0,118}?):?[*_\s]*$")
_BULLET = re.compile(r"\s*(?:[-*\u2022+]|\d+[.)])\s+(?=\S)")

_JSON_TEMPLATE = re.compile(r"\{\s*[\"'](\w+)[\"']\s*:")
_JSON_ASKED = re.compile(
    r"\b(?:respond|answer|reply|return|output|give|write|produce|format|form|as|in)\b[^\n]{0,40}\bjson\b", re.I
)
_JSON_KEY = re.compile(r"\bjson\b[^\n]{0,60}?\b(?:key|field|property)s?\b\s+[\"'`]?(\w+)", re.I)
_TAG_TEMPLATE = re.compile(rf"<({'|'.join(sorted(OUTPUT_WORDS))})>[^<\n]{{0,60}}</\1>", re.I)
_FIELD_TEMPLATE = re.compile(
    r"(?:^|[\"'`:]\s*|\b(?:as|with|form|format|by)\s+)([^\W\d_]+(?: [^\W\d_]+)?):"
    r"\s*(?:<[^>\n]+>|\[[^\]\n]+\]|X\b|\.\.\.)",
    re.M,
)


@dataclass(frozen=True)
class Form:
    """How the answer is written: the label alone, `{"key": label}`, `key: label`, or `<key>label</key>`."""

    kind: Literal["plain", "json", "field", "tag"] = "plain"
    key: str = ""


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
    schema_labels, form = _schema(request.response_format)
    items = [(name, False) for name in schema_labels] or items
    instructions = "\n".join(line for shapes in prose for _, line in shapes.free)
    form = form or _asked_form(instructions, prose) or _shown_form(pairs, prose)
    if _wants_json(request.response_format) and form.kind != "json":
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
    answers = [(text, _bare(answer)) for text, answer in pairs]
    shown = {_fold(answer) for _, answer in answers}
    listed = _described(items, shown)
    spelling = {_fold(name): name for name in reversed(list(listed))}
    demonstrations: list[Evidence] = []
    for text, answer in answers:
        label = _canonical(answer, spelling)
        if label:
            demonstrations.append(Evidence(text, label))
    used = list(dict.fromkeys(item.label for item in demonstrations))
    agree = any(label in listed for label in used)
    labels = list(listed) if listed and (agree or not used) else list(dict.fromkeys([*used, *listed]))
    demonstrations += _grouped(prose, {_fold(label): label for label in labels})
    names = [Evidence(label, label, weight=NAME_WEIGHT, demonstration=False) for label in labels]
    described = [Evidence(f"{name} {text}", name, demonstration=False) for name, text in listed.items() if text]
    return Reading(question, (*demonstrations, *described, *names), tuple(labels), form)


def _described(items: Sequence[tuple[str, bool]], shown: set[str]) -> dict[str, str]:
    """Names and descriptions of a label list.

    ` - ` inside an entry separates a description, unless a demonstration has the whole entry as its label.
    """
    labels: dict[str, str] = {}
    for entry, may_describe in items:
        name, description = entry, ""
        if may_describe and _fold(strip_answer(entry)) not in shown:
            name, *rest = re.split(r":\s|\s[-\u2013\u2014]\s", entry, maxsplit=1)
            description = rest[0].strip() if rest else ""
        name = strip_answer(name)
        if name and len(name) <= LONGEST_LABEL:
            labels[name] = f"{labels.get(name, '')} {description}".strip()
    return labels


def _bare(answer: str) -> str:
    """The label of an answer in any form: `{"label": "x"}`, `Label: x`, `**x**`."""
    inner = json_label(answer)
    if inner is not None:
        return strip_answer(inner[1])
    headed = _HEADED.match(answer)
    if headed and last_word(headed.group(1)) in OUTPUT_WORDS:
        return strip_answer(headed.group(2))
    return strip_answer(answer)


def _canonical(answer: str, spelling: dict[str, str]) -> str:
    """The label as it is first written. A listed label that an answer begins with is that label."""
    folded = _fold(answer)
    if folded not in spelling:
        longer = [key for key in spelling if folded.startswith(key + " ") or folded.startswith(key + ",")]
        if longer:
            return spelling[max(longer, key=len)]
        spelling[folded] = answer
    return spelling[folded]


def _grouped(prose: Sequence[Shapes], labels: Mapping[str, str]) -> list[Evidence]:
    """Lines under a heading that is a known label: `## label`, then a line per demonstration."""
    found: list[Evidence] = []
    for shapes in prose:
        label: str | None = None
        for _, line in shapes.free:
            heading = _HEADING.match(line) if len(line) <= LONGEST_LABEL * 2 else None
            known = labels.get(_fold(strip_answer(heading.group(1)))) if heading else None
            if known is not None or not line:
                label = known if known is not None else label if line else None
            elif label is not None:
                found.append(Evidence(_BULLET.sub("", line, count=1), label))
    return found


def _fold(label: str) -> str:
    return " ".join(label.casefold().split())


# --- the form of the answer ---------------------------------------------------------------------------------------


def _schema(response_format: Mapping[str, Any] | None) -> tuple[list[str], Form | None]:
    """Labels and form that a `response_format` asks for."""
    if response_format is None or not _wants_json(response_format):
        return [], None
    schema: Any = response_format
    for step in ("json_schema", "schema"):
        schema = schema[step] if isinstance(schema.get(step), Mapping) else schema
    fields = schema.get("properties")
    if not isinstance(fields, Mapping) or not fields:
        return [], None
    key = next((name for name in fields if last_word(str(name)) in OUTPUT_WORDS), next(iter(fields)))
    values = fields[key].get("enum") if isinstance(fields[key], Mapping) else None
    names = [_clean(value) for value in values if isinstance(value, str)] if isinstance(values, list) else []
    return names, Form("json", _clean(str(key)))


def _wants_json(response_format: Mapping[str, Any] | None) -> bool:
    return response_format is not None and response_format.get("type") in ("json_object", "json_schema")


def _asked_form(instructions: str, prose: Sequence[Shapes]) -> Form | None:
    """The form that the instructions ask for; None where they say nothing."""
    template = _JSON_TEMPLATE.search(instructions)
    if template:
        return Form("json", template.group(1))
    if _JSON_ASKED.search(instructions):
        named = _JSON_KEY.search(instructions)
        return Form("json", named.group(1) if named else "label")
    tag = _TAG_TEMPLATE.search(instructions)
    if tag:
        return Form("tag", tag.group(1))
    line = next((shapes.template for shapes in prose if shapes.template), None)
    field = _FIELD_TEMPLATE.search(instructions)
    return _field_form(line or (field.group(1) if field else None), prose)


def _field_form(key: str | None, prose: Sequence[Shapes]) -> Form | None:
    """`key: label`, unless the prompt ends with that very key, so that only the label is missing."""
    asked = prose[-1].asked if prose else None
    if key is None or (asked is not None and asked.casefold() == key.casefold()):
        return None
    return Form("field", key)


def _shown_form(pairs: Sequence[tuple[str, str]], prose: Sequence[Shapes]) -> Form:
    """The form of the last demonstration's answer."""
    answer = pairs[-1][1] if pairs else ""
    inner = json_label(answer)
    if inner is not None and not is_template(answer):
        return Form("json", inner[0])
    headed = _HEADED.match(answer)
    if headed and last_word(headed.group(1)) in OUTPUT_WORDS:
        return _field_form(headed.group(1), prose) or Form()
    return Form()
