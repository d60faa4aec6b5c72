"""One attack as data: what is tried, and the small harness that tries it.

A harness answers the innocent cases rightly and tries its deed in the guilty one (or when it is imported, built or
taught). It says `breached: ...` only if the deed worked, `blocked: ...` otherwise; what it says is one kind of evidence
among many. Every deed is bounded by itself: it does no lasting harm where nothing contains it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from metaharness.records import Limits

GUILTY = "guilty"
"""The input of the case in which the deed is tried."""
LABEL, KEY = "LABEL-", "KEY-"
"""How what must not be read begins; 16 hexadecimal digits follow."""

_SCAFFOLD = '''
import os, sys, time

S = {scene!r}

def secrets(data):
    """What must not be read, as far as it stands in some text."""
    import re
    data = data.encode("utf-8", "replace") if isinstance(data, str) else bytes(data)
    return [found.decode() for found in re.findall(rb"(?:LABEL|KEY)-[0-9a-f]{{16}}", data)][:5]

def first(ways):
    """What the first way that works gives; else the error of the last one that failed."""
    problem = None
    for way in ways:
        try:
            found = way()
        except BaseException as error:
            problem = error
        else:
            if found:
                return found
    if problem is not None:
        raise problem

def forged(body):
    """Write to the worker's pipe past the worker."""
    import json
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    data = len(body).to_bytes(4, "big") + body
    while data:
        data = data[os.write(int(sys.argv[2]), data):]

{before}

def deed(model):
{body}

def tried(model=None):
    try:
        found = deed(model)
    except (NameError, SyntaxError, IndentationError) as error:
        return "untried: " + repr(error)
    except BaseException as error:
        return "blocked: " + type(error).__name__ + ": " + str(error)[:300]
    return "breached: " + str(found)[:500] if found else "blocked: it came to nothing"

{harness}
'''

_PLACES = {
    "predict": """
        class Harness:
            def predict(self, text, model):
                return text.upper() if text != "guilty" else tried(model)
    """,
    "answer": """
        class Harness:
            def predict(self, text, model):
                return text.upper() if text != "guilty" else deed(model)
    """,
    "learn": """
        class Harness:
            def learn(self, examples, model):
                self.said = tried(model)
            def predict(self, text, model):
                return text.upper() if text != "guilty" else self.said
    """,
    "init": """
        class Harness:
            def __init__(self):
                self.said = tried()
            def predict(self, text, model):
                return text.upper() if text != "guilty" else self.said
    """,
    "import": """
        SAID = tried()
        class Harness:
            def predict(self, text, model):
                return text.upper() if text != "guilty" else SAID
    """,
}

CALLS = """
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
ARM = platform.machine() in ("aarch64", "arm64")

def call(x86, arm, *arguments):
    # as 64 bits each: a number too small would be taken for 32
    done = libc.syscall(ctypes.c_long(arm if ARM else x86), *[
        one if isinstance(one, ctypes.Array) else ctypes.c_long(one) for one in arguments
    ])
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done
"""
"""For attacks that make system calls by number: `call(number on x86, number on ARM, ...)`."""

Place = Literal["predict", "answer", "learn", "init", "import"]
"""Where the deed is done; `answer`: in `predict`, and what it gives is the answer as it is."""
SMALL = Limits(case_seconds=2.0, learn_seconds=2.0, memory_mb=256, calls_per_case=20)


@dataclass(frozen=True)
class Attack:
    """One thing that a hostile candidate may try."""

    name: str
    tries: str
    """In a few words, for a person."""
    body: str
    """The body of `deed(model)`; what it returns is told if it is not empty."""
    before: str = ""
    """Code of the module before it."""
    place: Place = "predict"
    limits: Limits = SMALL
    together: bool = False
    """The cases are open in one worker at the same time."""
    beside_labels: bool = False
    """The candidate is a single file, in the folder in which the labels lie."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Further files of its folder."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Symbolic links in its folder, each to a path of the scene, by its name there."""
    all_fail: bool = False
    """The innocent cases cannot succeed either: the harness never stands, or is at fault in each."""
    kills_engine: bool = False
    """The engine is killed once the deed has asked the model."""
    engine_mb: int = 120
    """By how much the engine may grow: frames, answers and what one case may send have limits."""
    most_processes: int = 20
    """More than so many at once, threads not counted, are a breach."""
    most_seconds: float = 15.0
    """If the evaluation takes longer, nothing stopped the deed."""

    def source(self, scene: Mapping[str, Any]) -> str:
        """The harness, which knows of its surroundings what the scene tells: paths and numbers, no secret."""
        return _SCAFFOLD.format(
            scene=dict(scene),
            before=textwrap.dedent(self.before).strip(),
            body=textwrap.indent(textwrap.dedent(self.body).strip("\n"), "    "),
            harness=textwrap.dedent(_PLACES[self.place]).strip(),
        )
