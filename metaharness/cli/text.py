"""What others have written, as a terminal may be given it: candidates, their authors, models, providers.

Not guarded: `--json`, which is for programs and keeps every character, escaped where JSON asks for it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any


def printable(text: str) -> str:
    """A text as a terminal may be given it: lines stay, and what would control the terminal is written out."""
    return "".join(map(_shown, text.replace("\r\n", "\n")))


def one_line(text: str) -> str:
    """The same in one line: of a name or a sentence that a model has written."""
    return printable(" ".join(text.split()))


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
