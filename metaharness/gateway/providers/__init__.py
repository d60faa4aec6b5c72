"""Where answers come from: one module per provider, each imported when its first model is opened."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from metaharness import variables
from metaharness.errors import UsageError
from metaharness.messages import Completion, ModelRequest, ModelSpec
from metaharness.records import Role

FORMS = "embedded:icl, scripted:PATH, anthropic:NAME or openai:NAME"
IN_PROCESS = ("embedded", "scripted")
"""Answer inside this process."""
_REMOTE = ("anthropic", "openai")


class Provider(Protocol):
    """A source of answers."""

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        """Answer one request.

        Args:
            request: What the harness asks.
            deadline: Seconds for this call, all retries included.

        Raises:
            ModelFailure: There is no answer; its kind says whose doing that is.
        """
        ...

    async def aclose(self) -> None:
        """Give back connections. No call follows."""
        ...


def open_provider(spec: ModelSpec) -> Provider:
    """Make the provider of a model ready: its package is imported, its key is read.

    Raises:
        UsageError: There is no such provider, or its script cannot be read.
        ConfigurationError: A package or a key is missing.
    """
    if spec.provider not in IN_PROCESS + _REMOTE:
        raise _unknown(spec.provider, spec.id)
    module = _module(spec.provider)
    if spec.provider == "embedded":
        return cast("Provider", module.EmbeddedProvider(spec.name))
    if spec.provider == "scripted":
        return cast("Provider", module.ScriptedProvider.read(spec.name))
    return cast("Provider", module.open_model(spec))


def open_providers(models: Mapping[Role, ModelSpec]) -> dict[Role, Provider]:
    """The provider of every role; roles with the same model share one.

    Raises:
        UsageError: As `open_provider`.
        ConfigurationError: As `open_provider`.
    """
    opened: dict[ModelSpec, Provider] = {}
    for spec in models.values():
        if spec not in opened:
            opened[spec] = open_provider(spec)
    return {role: opened[spec] for role, spec in models.items()}


def parse_model(text: str, base_url: str | None = None) -> ModelSpec:
    """Read a model as a person writes it: `provider:name`.

    Raises:
        UsageError: It does not name a provider and a model, or the base URL does not fit.
    """
    provider, colon, name = text.partition(":")
    if not colon:
        raise UsageError(
            f"{text!r} does not say which provider the model belongs to",
            hint=f"valid forms: {FORMS}; perhaps anthropic:{text or 'NAME'} or openai:{text or 'NAME'}",
        )
    if provider not in IN_PROCESS + _REMOTE:
        raise _unknown(provider, text)
    if not name:
        raise UsageError(f"{text!r} names no model", hint=f"valid forms: {FORMS}")
    if provider == "embedded":
        _module(provider).EmbeddedProvider(name)  # knows its names, and holds nothing
    if base_url is not None:
        _check_base_url(provider, base_url)
    return ModelSpec(provider=provider, name=name, base_url=base_url)


def address(spec: ModelSpec) -> str | None:
    """Where a model is really asked, as its SDK decides: the base URL, or that of the environment; None: its own."""
    if spec.provider in IN_PROCESS:
        return None
    return spec.base_url or variables.get(f"{spec.provider.upper()}_BASE_URL") or None


def _module(provider: str) -> Any:
    return import_module(f"{__name__}.{provider}")


def _check_base_url(provider: str, base_url: str) -> None:
    if provider in IN_PROCESS:
        raise UsageError(
            f"a base URL does not fit {provider} models: they answer without a network", hint="leave the base URL out"
        )
    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as http://[ or a port that is no number
        valid = False
    if not valid:
        raise UsageError(
            f"the base URL {base_url!r} is not an http or https address",
            hint="write it whole, such as http://127.0.0.1:11434/v1",
        )


def _unknown(provider: str, text: str) -> UsageError:
    return UsageError(
        f"there is no provider {provider!r}",
        hint=f"valid forms: {FORMS}; a server that speaks the OpenAI format is openai:{text} with a base URL",
    )
