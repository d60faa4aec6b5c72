"""`embedded:icl`: a deterministic in-context classifier in the place of a model. It is not a language model.

It reads a prompt as a model would - demonstrations, label names and their descriptions, the question, the form asked
for - weighs them by lexical similarity inside a window of 16,000 characters, and answers in text. What a harness puts
into the prompt decides the score. It knows no facts, follows no other instruction, and calls no tools.
"""

from __future__ import annotations

import json
import re

import anyio
import anyio.to_thread

from metaharness.errors import UsageError
from metaharness.gateway.providers.embedded_forms import Form
from metaharness.gateway.providers.embedded_reading import read, turns_of
from metaharness.gateway.providers.embedded_vote import choose
from metaharness.messages import Completion, ModelRequest, StopReason, Usage

NAMES = ("icl",)
"""The embedded models there are."""
UNKNOWN = "unknown"
"""What it answers to a prompt that names no label."""
CHARACTERS_PER_TOKEN = 4

_THREADS = 2
_SURROGATES = re.compile("[\ud800-\udfff]")


def answer(request: ModelRequest) -> Completion:
    """Answer a request. The same request has the same answer, and no request raises.

    Tokens are estimated as characters / 4, rounded up; what lies outside the window is counted, as a provider would.
    """
    reading = read(request)
    label = choose(reading.question, reading.evidence, reading.labels)
    text = _write(reading.form, UNKNOWN if label is None else label)
    stop: StopReason = "end_turn"
    if request.max_tokens is not None and len(text) > request.max_tokens * CHARACTERS_PER_TOKEN:
        text = text[: request.max_tokens * CHARACTERS_PER_TOKEN]
        stop = "max_tokens"
    sent = sum(len(part) for _, part in turns_of(request))
    return Completion(
        text=text,
        stop_reason=stop,
        usage=Usage(input_tokens=_tokens(sent), output_tokens=_tokens(len(text))),
        model="icl",
    )


def _write(form: Form, label: str) -> str:
    if form.kind == "json":
        text = json.dumps({form.key: label}, ensure_ascii=False)
    elif form.kind == "field":
        text = f"{form.key}: {label}"
    elif form.kind == "tag":
        text = f"<{form.key}>{label}</{form.key}>"
    else:
        text = label
    return _SURROGATES.sub("\ufffd", text)


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


class EmbeddedProvider:
    """Answers off the event loop, on at most two threads of its own."""

    def __init__(self, name: str) -> None:
        if name not in NAMES:
            raise UsageError(
                f"no embedded model {name!r}", hint="valid names: " + ", ".join(f"embedded:{known}" for known in NAMES)
            )
        self.name = name
        self._limiter = anyio.CapacityLimiter(_THREADS)

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        """Answer a request. `deadline` is not needed: an answer takes milliseconds and waits for nobody."""
        return await anyio.to_thread.run_sync(answer, request, limiter=self._limiter)

    async def aclose(self) -> None:
        """Nothing to close."""
