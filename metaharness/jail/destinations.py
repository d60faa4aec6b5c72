"""Where a jailed program may connect to, and what came of each attempt."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from metaharness.errors import UsageError

PORTS = {"http": 80, "https": 443}
LOOPBACK_NAMES = ("localhost",)
LONGEST_HOST = 255
MOST_KINDS = 1000
"""Places that are remembered one by one; what is tried beyond is counted together."""
OTHERS = "others"
"""Stands for the host of what is counted together."""


@dataclass(frozen=True, order=True)
class Destination:
    """One host and port; no other port of the host is meant."""

    host: str
    """A name in lower case or an address, without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def on_this_machine(self) -> bool:
        """Whether it is a loopback address."""
        if self.host in LOOPBACK_NAMES:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True)
class Attempt:
    """How often a jailed program asked for one place."""

    host: str
    port: int
    allowed: bool
    count: int
    failed: int = 0
    """Of those that were allowed: how many could not be connected."""


def parse_destination(text: str) -> Destination:
    """A destination from `host:port` or from a base URL, whose path does not count.

    Raises:
        UsageError: It is neither.
    """
    hint = "valid: host:port, or a URL such as https://api.anthropic.com or http://127.0.0.1:8123"
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError as error:
        raise UsageError(f"{text!r} is no destination: {error}", hint=hint) from None
    host = normal(parts.hostname or "")
    if port is None or not re.fullmatch(r"[a-z0-9._:-]+", host) or parts.scheme not in ("", *PORTS):
        raise UsageError(f"{text!r} is no destination", hint=hint)
    return Destination(host, port)


def normal(host: str) -> str:
    """A host as two spellings of it are compared. What is in no host's name is `?`: it is shown to people."""
    return re.sub(r"[^!-~]", "?", host[:LONGEST_HOST]).lower().rstrip(".")


class Attempts:
    """Counts what was tried, whatever a program does."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, bool], list[int]] = {}

    def note(self, host: str, port: int, *, allowed: bool, failed: bool = False) -> None:
        """One attempt more."""
        key = host, port, allowed
        if key not in self._found and len(self._found) >= MOST_KINDS:
            key = OTHERS, 0, allowed
        counts = self._found.setdefault(key, [0, 0])
        counts[0] += 1
        counts[1] += failed

    def all(self) -> tuple[Attempt, ...]:
        """By place, those that were refused first."""
        found = sorted(self._found.items(), key=lambda one: (one[0][2], one[0]))
        return tuple(Attempt(host, port, allowed, *counts) for (host, port, allowed), counts in found)


def listed(destinations: Iterable[Destination]) -> str:
    """For a message."""
    return ", ".join(map(str, destinations)) or "none"
