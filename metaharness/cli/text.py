"""What others have written, as a terminal may be given it: candidates, their authors, models, providers.

Not guarded: `--json`, which is for programs and keeps every character, escaped where JSON asks for it.
"""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """A text as a terminal may be given it: lines stay, and what would control the terminal is written out."""
    return "".join(map(_shown, text.replace("\r\n", "\n")))


def one_line(text: str) -> str:
    """The same in one line: of a name or a sentence that a model has written."""
    return printable(" ".join(text.split()))


def _shown(character: str) -> str:
    if character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()
