"""What the providers behind an official SDK share: the package, the key, sending, and whose doing a failure is.

`CLOSED` lists the parameters a harness may not set in `extra`: they would change which model answers, what it costs,
where the request goes, or give the model tools of its own beyond the sandbox. What this does not guard: such
parameters of an endpoint that is not listed there.
"""

from __future__ import annotations

import inspect
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module, metadata
from typing import Any, TypeVar
from urllib.parse import urlsplit

from metaharness import variables
from metaharness.errors import ConfigurationError, FailureKind, ModelFailure
from metaharness.gateway.deadline import within
from metaharness.gateway.providers.installing import install_command
from metaharness.messages import Completion, ModelRequest

MAX_RETRIES = 2
"""The SDKs' own retries on 408, 409, 429, 5xx and connection errors, inside the deadline of the call."""
MESSAGE_CHARS = 2_000
"""A provider's error message is cut to this length."""
MOONSHOT_HOSTS = ("api.moonshot.ai", "api.moonshot.cn")
MOONSHOT_KEY = "MOONSHOT_API_KEY"
BLOCKS = ("text", "image", "tool_use", "tool_result")
CLOSED: frozenset[str] = frozenset(
    {
        *("model", "messages", "system", "tools", "max_tokens", "max_completion_tokens", "temperature"),
        *("response_format", "n", "stream", "stream_options", "timeout"),
        *("extra_headers", "extra_query", "extra_body", "user_profile_id", "workspace_id"),
        *("service_tier", "speed", "inference_geo", "models", "provider", "route", "fallbacks"),
        *("container", "mcp_servers", "plugins", "web_search_options", "functions"),
    }
)

_Wanted = TypeVar("_Wanted")


def load_sdk(package: str) -> Any:
    """Import the official SDK of a provider.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ConfigurationError(f"the package {package!r} is not installed", hint=install_hint(package)) from error


def sdk_bounds(package: str) -> str:
    """The versions of an SDK that fit, such as `<3,>=2.10`, as this package states them; empty when not known."""
    try:
        lines = metadata.requires("metaharness") or []
    except metadata.PackageNotFoundError:  # run from a folder that is not installed
        return ""
    found = (re.fullmatch(rf"{package}([^;]*);.*extra.*", line) for line in lines)
    return next((match[1].strip() for match in found if match), "")


def install_hint(package: str, *, extra: str | None = None) -> str:
    """The command that installs a package of an extra; None: the extra has its name."""
    return install_command(f"{package}{sdk_bounds(package)}", extra or package)


def read_key(variable: str, *, placeholder: str | None = None) -> str:
    """The key from the environment; the placeholder, where there is one, for a server that needs none.

    Raises:
        ConfigurationError: The variable is not set.
    """
    key = variables.get(variable) or placeholder
    if not key:
        raise ConfigurationError(f"no key: {variable} is not set", hint=f"export {variable}=...")
    return key


def key_variable(own: str, url: str | None) -> str:
    """The variable with the key for an address: its own for Moonshot, so that no service gets the key of another.

    Args:
        own: The variable of the provider whose wire format is spoken.
        url: Where the model is asked; None is that provider's own address.
    """
    try:
        host = urlsplit(url).hostname if url else None
    except ValueError:
        return own  # no address at all; whoever opens it is told
    return MOONSHOT_KEY if host in MOONSHOT_HOSTS else own


def is_loopback(base_url: str | None) -> bool:
    """Whether a URL points to this machine, by its text alone."""
    try:
        host = urlsplit(base_url).hostname if base_url else None
    except ValueError:
        return False  # no address at all; whoever opens it is told
    if not host:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def failure_kind(status: int) -> FailureKind:
    """Whose doing an HTTP status is: the configuration's, the request's, or nobody's here."""
    if status in (401, 403, 404):
        return "configuration"  # 404: the model or the address is not there, and a harness can set neither (CLOSED)
    if 400 <= status < 500 and status not in (402, 408, 409, 429):
        return "refused"  # 402 is an unpaid bill: no doing of the request
    return "infrastructure"


def refused(message: str) -> ModelFailure:
    """A request that cannot be sent as it is; its message is written for the author of the harness."""
    return ModelFailure("refused", message)


def extra_parameters(request: ModelRequest) -> dict[str, Any]:
    """The further parameters of a request.

    Raises:
        ModelFailure: One of them is closed to a harness.
    """
    extra = dict(request.extra or {})
    closed = sorted(CLOSED & extra.keys())
    if closed:
        raise refused(f"the parameter {closed[0]!r} cannot be set by a harness")
    return extra


def checked_tools(request: ModelRequest) -> list[dict[str, Any]]:
    """The tools of a request, each with a name and an input schema.

    Raises:
        ModelFailure: One is malformed, or is a tool that the provider would run itself.
    """
    tools = request.tools or []
    for tool in tools:
        if tool.get("type", "custom") != "custom":
            raise refused(f"a tool of type {tool['type']!r} is not open to a harness; define name and input_schema")
        field(tool, "name", str, "a tool")
        field(tool, "input_schema", dict, "a tool")
    return tools


def field(record: Mapping[str, Any], name: str, kind: type[_Wanted], what: str) -> _Wanted:
    """A field of a part of the request.

    Raises:
        ModelFailure: It is missing or of another type.
    """
    value = record.get(name)
    if not isinstance(value, kind):
        raise refused(f"{what} needs {name!r} as {kind.__name__}, got {type(value).__name__}")
    return value


def check_blocks(blocks: Iterable[Any]) -> None:
    """Make sure that every block, also inside tool results, is of a known type and every image of a known source.

    Raises:
        ModelFailure: One is not.
    """
    for block in blocks:
        kind = block.get("type") if isinstance(block, dict) else type(block).__name__
        if kind not in BLOCKS:
            raise refused(f"a content block of type {kind!r} is not known; valid: {', '.join(BLOCKS)}")
        source = block.get("source")
        if kind == "image" and (not isinstance(source, dict) or source.get("type") not in ("base64", "url")):
            raise refused("an image block needs a 'source' of type base64 or url")
        if kind == "tool_result" and isinstance(block.get("content"), list):
            check_blocks(block["content"])


class Endpoint:
    """One method of an SDK that takes a request and answers with JSON."""

    def __init__(self, sdk: Any, base_error: type[Exception], create: Callable[..., Any], key_variable: str) -> None:
        """Wrap a method.

        Args:
            sdk: The module of the SDK, for its `APIStatusError`.
            base_error: What every exception of the SDK is derived from.
            create: The method; it returns the SDK's raw response.
            key_variable: Named in the hint when the key is refused.
        """
        self._status_error: type[Exception] = sdk.APIStatusError
        self._base_error = base_error
        self._create = create
        self._key_variable = key_variable
        self._known = frozenset(inspect.signature(create).parameters)

    async def ask(
        self,
        parameters: dict[str, Any],
        read: Callable[[Any], Completion],
        *,
        deadline: float,
        headers: Mapping[str, str] | None = None,
    ) -> Completion:
        """Send parameters and read the answer.

        Args:
            parameters: Arguments of the method where the installed SDK has them, fields of the body otherwise.
            read: Makes a completion of the decoded body.
            deadline: Seconds, retries included.
            headers: Further headers.

        Raises:
            ModelFailure: There is no answer.
        """
        arguments = {name: value for name, value in parameters.items() if name in self._known}
        body = {name: value for name, value in parameters.items() if name not in self._known}
        with within(deadline):
            response = await self.send(
                {**arguments, "extra_body": body or None, "extra_headers": headers, "timeout": deadline}
            )
        try:
            return read(response.http_response.json())
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise ModelFailure(
                "infrastructure", f"the answer is not in the provider's format: {error}"[:MESSAGE_CHARS]
            ) from error

    async def send(self, arguments: dict[str, Any]) -> Any:
        """Call the method with arguments of its own.

        Raises:
            ModelFailure: It has failed.
        """
        try:
            return await self._create(**arguments)
        except self._status_error as error:
            raise self._status_failure(error) from error
        except self._base_error as error:
            cause = f": {error.__cause__!r}" if error.__cause__ is not None else ""
            raise ModelFailure("infrastructure", f"{error}{cause}"[:MESSAGE_CHARS]) from error
        except (ValueError, TypeError) as error:
            # raised by the SDK before anything is sent: text that is not Unicode, numbers that are not JSON
            raise refused(f"the request cannot be sent: {error}"[:MESSAGE_CHARS]) from error

    def _status_failure(self, error: Any) -> ModelFailure:
        status: int = error.status_code
        kind = failure_kind(status)
        hint = None
        if kind == "configuration":
            absent = "check the model's name and the base URL: the provider knows no such model there"
            hint = absent if status == 404 else f"check {self._key_variable} and what it may use"
        return ModelFailure(kind, str(error)[:MESSAGE_CHARS], status_code=status, hint=hint)
