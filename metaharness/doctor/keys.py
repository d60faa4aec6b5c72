"""Which keys are set. What a key is never leaves this module, not even a part of it or its length."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from metaharness import variables
from metaharness.doctor.findings import Finding
from metaharness.errors import UsageError
from metaharness.gateway.providers import parse_model

KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "MOONSHOT_API_KEY")
MODELS = ("PROPOSER_MODEL", "EVALUATOR_MODEL")
"""The models that are taken where no option names one."""
BASE_URLS = ("ANTHROPIC_BASE_URL", "OPENAI_BASE_URL")
"""Read by the SDKs where no --base-url is given."""
SHARED = 6
"""A text that shares so many characters in a row with a key is not shown."""
WITHHELD = "(its message is not shown: it holds a part of a key)"


def keys() -> Iterator[Finding]:
    """`set` or `not set` for every variable, and what would make it useless."""
    for variable in KEYS:
        yield _finding(variable, key_fault(variables.get(variable)))
    for variable in BASE_URLS:
        yield _finding(variable, base_url_fault(variables.get(variable)))
    for variable in MODELS:
        yield _finding(variable, _model_fault(variables.get(variable)))


def _finding(variable: str, fault: str | None) -> Finding:
    origin = variables.origin(variable)
    if origin is None:
        return Finding("keys", variable, "ok", "not set")
    found = f"set in {origin}"
    if fault is not None:
        return Finding("keys", variable, "warning", f"{found}, but {fault}", f"set {variable} anew, or unset it")
    return Finding("keys", variable, "ok", found)


def _model_fault(name: str | None) -> str | None:
    """What makes the name of a model useless, without repeating it."""
    try:
        if name is not None:
            parse_model(name)
    except UsageError:
        return "not a model such as anthropic:NAME or openai:NAME"
    return None


def key_fault(key: str | None) -> str | None:
    """What makes a key useless, without saying anything of it; None for nothing, or no key."""
    if key is None:
        return None
    if not key.strip():
        return "empty"
    if key != key.strip():
        return "with whitespace around it"
    if not (key.isascii() and key.isprintable()) or any(character.isspace() for character in key):
        return "with a character that cannot be in a key"
    return None


def base_url_fault(url: str | None) -> str | None:
    """What makes a base URL useless, without repeating it; None for nothing, or no URL."""
    if url is None:
        return None
    if not url.strip():
        return "empty"
    if url != url.strip():
        return "with whitespace around it"
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    return None if sound and url.isprintable() else "not an http or https address"


def shown(text: str, base_url: str | None = None) -> str:
    """A text from elsewhere, unless it holds a part of a key or of what a base URL has before its `@`."""
    for secret in _secrets(base_url):
        width = min(SHARED, len(secret))
        if any(secret[start : start + width] in text for start in range(len(secret) - width + 1)):
            return WITHHELD
    return text


def _secrets(base_url: str | None) -> Iterator[str]:
    for variable in KEYS:
        yield from (variables.get(variable) or "").split()
    for url in (base_url, *(variables.get(variable) for variable in BASE_URLS)):
        if url is not None and base_url_fault(url) is None:
            parts = urlsplit(url)
            yield from (part for part in (parts.username, parts.password) if part)
