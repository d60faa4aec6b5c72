"""In which form `embedded:icl` is asked to answer: the label alone, JSON, a field, or a tag."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from metaharness.gateway.providers.embedded_blocks import OUTPUT_WORDS, Shapes, is_template, json_label, last_word
from metaharness.gateway.providers.embedded_lists import strip_answer

_JSON_TEMPLATE = re.compile(r"\{\s*[\"']\w+[\"']\s*:[^{}]*")
_JSON_KEYS = re.compile(r"[\"'](\w+)[\"']\s*:")
_JSON_ASKED = re.compile(
    r"\b(?:respond|answer|reply|return|output|give|write|produce|format|form|as|in)\b[^\n]{0,40}\bjson\b[^\n]{0,200}",
    re.I,
)
_NAMED_KEYS = re.compile(r"\b(?:key|field|property|propertie)s?\b(.{0,120})", re.I)
_NAME = re.compile(r"[\"'`](\w+)[\"'`]")
_WORD = re.compile(r"\s+(\w+)")
_TAG = re.compile(rf"<({'|'.join(sorted(OUTPUT_WORDS))})>[^<\n]{{0,60}}</\1>", re.I)
_FIELD = re.compile(
    r"(?:^|[\"'`:]\s*|\b(?:as|with|form|format|by)\s+)([^\W\d_]+(?: [^\W\d_]+)?):"
    r"[ \t]*(?:<[^>\n]+>|\[[^\]\n]+\]|X\b|\.\.\.)",
    re.M,
)
_HEADED = re.compile(r"\s*[*_]{0,2}([^\W\d_]+(?: [^\W\d_]+)?)[*_]{0,2}\s?:[*_]{0,2}\s+(\S[^\n]*)$")


@dataclass(frozen=True)
class Form:
    """How the answer is written: the label alone, `{"key": label}`, `key: label`, or `<key>label</key>`."""

    kind: Literal["plain", "json", "field", "tag"] = "plain"
    key: str = ""


def wants_json(response_format: Mapping[str, Any] | None) -> bool:
    """Whether a `response_format` asks for JSON."""
    return response_format is not None and response_format.get("type") in ("json_object", "json_schema")


def schema_form(response_format: Mapping[str, Any] | None) -> tuple[list[str], Form | None]:
    """Labels and form that the schema of a `response_format` asks for."""
    if response_format is None or not wants_json(response_format):
        return [], None
    schema: Any = response_format
    for step in ("json_schema", "schema"):
        schema = schema[step] if isinstance(schema.get(step), Mapping) else schema
    fields = schema.get("properties")
    if not isinstance(fields, Mapping) or not fields:
        return [], None
    key = _label_key([str(name) for name in fields])
    field = next(value for name, value in fields.items() if str(name) == key)
    values = field.get("enum") if isinstance(field, Mapping) else None
    labels = [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
    return labels, Form("json", key)


def asked_form(prose: Sequence[Shapes]) -> Form | None:
    """The form that the instructions ask for; None where they say nothing."""
    instructions = "\n".join(line for shapes in prose for _, line in shapes.free)
    template = _JSON_TEMPLATE.search(instructions)
    if template:
        return Form("json", _label_key(_JSON_KEYS.findall(template.group())))
    asked = _JSON_ASKED.search(instructions)
    if asked:
        return Form("json", _named_key(asked.group()))
    tag = _TAG.search(instructions)
    if tag:
        return Form("tag", tag.group(1))
    line = next((shapes.template for shapes in prose if shapes.template), None)
    field = _FIELD.search(instructions)
    return _field_form(line or (field.group(1) if field else None), prose)


def shown_form(answers: Sequence[str], prose: Sequence[Shapes]) -> Form:
    """The form of the last demonstration's answer."""
    answer = answers[-1] if answers else ""
    inner = json_label(answer)
    if inner is not None and not is_template(answer):
        return Form("json", inner[0])
    headed = _HEADED.match(answer)
    if headed and last_word(headed.group(1)) in OUTPUT_WORDS:
        return _field_form(headed.group(1), prose) or Form()
    return Form()


def bare_answer(answer: str) -> str:
    """The label of an answer in any form: `{"label": "x"}`, `Label: x`, `**x**`."""
    inner = json_label(answer)
    if inner is not None:
        return strip_answer(inner[1])
    headed = _HEADED.match(answer)
    if headed and last_word(headed.group(1)) in OUTPUT_WORDS:
        return strip_answer(headed.group(2))
    return strip_answer(answer)


def _label_key(keys: Sequence[str]) -> str:
    """The key that holds the label: one named like an answer, else the first."""
    return next((key for key in keys if last_word(key) in OUTPUT_WORDS), keys[0])


def _named_key(request: str) -> str:
    """The key that a request such as `JSON with the keys "why" and "label"` names."""
    named = _NAMED_KEYS.search(request)
    if named is None:
        return "label"
    word = _WORD.match(named.group(1))
    keys = _NAME.findall(named.group(1)) or ([word.group(1)] if word else [])
    return _label_key(keys) if keys else "label"


def _field_form(key: str | None, prose: Sequence[Shapes]) -> Form | None:
    """`key: label`, unless the prompt ends with that very key, so that only the label is missing."""
    asked = prose[-1].asked if prose else None
    if key is None or (asked is not None and asked.casefold() == key.casefold()):
        return None
    return Form("field", key)
