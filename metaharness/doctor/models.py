"""Models, really asked: one short question each, through the gateway's provider."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

import anyio

from metaharness import variables
from metaharness.doctor.findings import AGAIN, Finding, guarded
from metaharness.doctor.keys import base_url_fault, key_fault, shown
from metaharness.errors import MetaharnessError, ModelFailure, UsageError
from metaharness.gateway.providers import address, open_provider
from metaharness.gateway.providers.remote import install_hint, key_variable
from metaharness.messages import Completion, Message, ModelRequest, ModelSpec

DEADLINE = 20.0
"""Seconds for the one call, retries included."""
MESSAGE_CHARS = 300
QUESTION = ModelRequest(messages=[Message(role="user", content="Answer with the word: ready")], max_tokens=16)
ADVICE = {
    402: "pay the bill of this service, or use another one",
    404: "check the name {!r}, and the path of the base URL (for openai: models it ends with /v1)",
    429: "wait, or raise the limit of your account; a lower --concurrency sends fewer calls at once",
}
"""What to do, by HTTP status; with a place for the name of the model."""
OTHERWISE = "check that {!r} is a model for chat, and what the server said"
VARIABLES = {"anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"), "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL")}


def check_base_url(url: str) -> None:
    """Refuse a base URL that cannot be one, before a model is asked there.

    Raises:
        UsageError: It is not an http or https address.
    """
    fault = base_url_fault(url)
    if fault is not None:
        raise UsageError(f"the base URL is {fault}", hint="write it whole, such as http://127.0.0.1:11434/v1")


def models(wanted: Sequence[ModelSpec]) -> Iterator[Finding]:
    """Ask each model once."""
    for spec in wanted:
        yield from guarded("models", spec.id, partial(_asked, spec))


def _asked(spec: ModelSpec) -> Iterator[Finding]:
    fault = _fault_of_variables(spec)
    if fault is not None:
        yield fault
        return
    begun = time.perf_counter()
    try:
        completion = anyio.run(_ask, spec)
    except ModelFailure as failure:
        yield Finding("models", spec.id, "problem", _told(failure, spec), _advice(failure, spec))
    except MetaharnessError as error:
        yield Finding("models", spec.id, "problem", shown(error.message, spec.base_url), error.hint or AGAIN)
    except (ImportError, ValueError) as error:  # of an SDK that is being set up, such as a proxy it cannot use
        found = shown(f"its SDK cannot be set up: {type(error).__name__}: {error}", spec.base_url)
        advice = f"check the proxy variables, and install the SDK anew: {install_hint(spec.provider)}"
        yield Finding("models", spec.id, "problem", found, advice)
    else:
        usage = completion.usage
        tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out"
        found = f"answers in {1000 * (time.perf_counter() - begun):.0f} ms ({tokens})"
        yield Finding("models", spec.id, "ok", found)


async def _ask(spec: ModelSpec) -> Completion:
    provider = open_provider(spec)
    try:
        return await provider.complete(QUESTION, deadline=DEADLINE)
    finally:
        await provider.aclose()


def _fault_of_variables(spec: ModelSpec) -> Finding | None:
    """A base URL in the environment that no SDK could use: it is not asked, and not repeated."""
    _, variable = VARIABLES.get(spec.provider, ("", ""))
    fault = base_url_fault(variables.get(variable)) if variable and spec.base_url is None else None
    if fault is None or fault == "empty":
        return None
    advice = f"set {variable} to a whole address, such as http://127.0.0.1:11434/v1, or unset it"
    return Finding("models", spec.id, "problem", f"was not asked: {variable} is {fault}", advice)


def _told(failure: ModelFailure, spec: ModelSpec) -> str:
    """The kind, the status, and what the server said. A server that refuses a key may repeat it in part."""
    status = "" if failure.status_code is None else f", HTTP {failure.status_code}"
    said = " ".join(failure.message.split())
    message = "" if failure.status_code == 401 else f": {shown(said, spec.base_url)[:MESSAGE_CHARS]}"
    return f"no answer ({failure.kind}{status}){message}"


def _advice(failure: ModelFailure, spec: ModelSpec) -> str:
    """What to do about a call that failed, by whose doing it is and by its status."""
    key = _key_variable(spec)
    status = failure.status_code
    if failure.kind == "configuration" and status not in ADVICE:
        return f"check {key}: that it is whole, belongs to this service, and may use {spec.name}"
    if _useless_key(spec):
        return f"set {key} anew: it holds what cannot be in a key"
    if status is None:
        unreached = "check that the address is right, that a server runs there, and the network and proxy"
        return unreached if failure.kind == "infrastructure" else f"check what {spec.id} takes"
    if status >= 500:
        return "the server has a fault of its own: try again later"
    return ADVICE.get(status, OTHERWISE).format(spec.name)


def _useless_key(spec: ModelSpec) -> bool:
    return key_fault(variables.get(_key_variable(spec))) not in (None, "empty")


def _key_variable(spec: ModelSpec) -> str:
    own, _ = VARIABLES.get(spec.provider, ("the key", ""))
    return key_variable(own, address(spec))
