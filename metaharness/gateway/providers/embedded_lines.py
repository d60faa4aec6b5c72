"""How `embedded:icl` finds demonstrations that take one line each, such as `text -> label`."""

from __future__ import annotations

import re

from metaharness.gateway.providers.embedded_blocks import OUTPUT_WORDS, Shapes

BULLET = re.compile(r"\s*(?:[-*\u2022+]|\d+[.)])\s+(?=\S)")
_ARROW = re.compile(r"(?P<text>.*\S)\s*(?:->|=>|\u2192|\u21d2|\t)\s*(?P<label>\S.{0,119})?$")
_FIELD = re.compile(
    rf"(?P<text>.*\S)\s*(?:[|;,(\[]|\s[-\u2013\u2014])\s*(?:{'|'.join(sorted(OUTPUT_WORDS))})\s*[:=]\s*"
    r"(?P<label>[^\s)\]][^)\]]{0,119})?[)\]]?$",
    re.I,
)
_BRACKET = re.compile(r"\s*(?:[-*]\s+)?\[(?P<label>[^\]\d][^\]]{0,119})\]:?\s+(?P<text>\S.*)$")


def has_answer(line: str) -> bool:
    """Whether a line looks like a text with its answer behind it."""
    return _ARROW.match(line) is not None or _FIELD.match(line) is not None


def take_lines(shapes: Shapes) -> None:
    """Move demonstrations out of the free lines: `text -> label`, `text (label: x)` or `[x] text`.

    One shape is taken, the first of which there are two, or whose last line waits for its label.
    """
    for pattern in (_ARROW, _FIELD, _BRACKET):
        found = [(place, match) for place, (_, line) in enumerate(shapes.free) if (match := pattern.match(line))]
        answered = [place for place, match in found if match["label"]]
        if len(answered) < 2 and (not found or found[-1][1]["label"]):
            continue
        for place, match in found:
            position = shapes.free[place][0]
            text = BULLET.sub("", match["text"], count=1).strip()
            if match["label"]:
                shapes.pairs.append((position, text, match["label"].strip()))
            else:
                shapes.open.append((position, text))
            shapes.free[place] = (position, "")
        return
