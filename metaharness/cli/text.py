"""What others have written, as a terminal may be given it: candidates, their authors, models, providers.

Not guarded: `--json`, which is for programs and keeps every character, escaped where JSON asks for it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any


def printable(text: str) -> str:
    """A text as a terminal may be given it: lines stay, and what would control the terminal is written out."""
    return "".join(map(_shown, text.replace("\r\n", "\n")))


def one_line(text: str) -> str:
    """The same in one line: of a name or a sentence that a model has written."""
    return printable(" ".join(text.split()))


def numbered(iteration: int, name: str) -> str:
    """An iteration and its name, where it has one: `002 nearest_examples`."""
    return f"{iteration:03d} {one_line(name)}".rstrip()


def counted(number: int, noun: str) -> str:
    """How many of it there are: `1 candidate`, `2 candidates`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def dollars(usd: float) -> str:
    """An amount with cents, or with as many digits as it takes to show two that are not 0."""
    digits = 1 - math.floor(math.log10(usd)) if 0 < usd < 1 else 2
    return f"${usd:,.{digits}f}"


def paid(spent: Mapping[str, Any]) -> str:
    """What was paid, from the fields of a `Spent`: calls whose price nobody knows are told beside it, or instead."""
    known, unpriced = f"${spent['usd']:.4f}", spent["unpriced_calls"]
    if not unpriced:
        return known
    calls = counted(unpriced, "unpriced call")
    return f"{known} + {calls}" if spent["usd"] else calls


def sandbox_line(told: str) -> str:
    """Which sandbox it is, as it is said before anything runs in it; a reason may quote what the machine has said."""
    return f"sandbox: {one_line(told)}"


def totals(spent: Mapping[str, Any]) -> str:
    """What a run has spent, in a line, from the fields of a `Spent`."""
    tokens = spent["input_tokens"] + spent["output_tokens"]
    done = [
        *(counted(spent["candidates"], "candidate"), counted(spent["case_evaluations"], "case evaluation")),
        *(counted(spent["calls"], "call"), counted(tokens, "token"), paid(spent), f"{spent['seconds']:.1f} s"),
    ]
    return ", ".join(done) + saved(spent)


def saved(spent: Mapping[str, Any]) -> str:
    """What the shared cache has answered, to be said behind what was spent; empty for nothing."""
    if not spent["cached_calls"]:
        return ""
    tokens = spent["saved_input_tokens"] + spent["saved_output_tokens"]
    return f"; the shared cache saved {spent['cached_calls']:,} calls, {tokens:,} tokens, ${spent['saved_usd']:.4f}"


def _shown(character: str) -> str:
    if character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()
