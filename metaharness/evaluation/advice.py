"""What a proposer is told of a failure that it cannot know how to mend: a module that is not there, no network.

Both come from inside the worker as fields of their own, read from exceptions and from the interpreter's audit, never
from the words of a message. A candidate can forge them: then it is told something wrong about itself, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metaharness.domain import REQUIREMENTS, Domain
from metaharness.errors import DomainError
from metaharness.sandbox.requirements import read_requirements

MODULE = re.compile(r"\w+(\.\w+)*")
MOST = 200
"""Characters of a name or an address that are shown."""
SHOWN = 20
"""Requirements that are named."""
NO_NETWORK = (
    "A harness that is contained has no network: it asks the model with model.complete(...), the `model` that predict "
    "and learn are given"
)


@dataclass(frozen=True)
class Facts:
    """What a worker reports beside a failure."""

    missing: str | None = None
    """The module that was not found."""
    connection: str | None = None
    """Where a connection was attempted to, such as `api.openai.com:443`."""

    @classmethod
    def reported(cls, report: Mapping[str, Any]) -> Facts:
        """Those of a frame; what cannot be a name is left out."""
        missing, connection = report.get("missing"), report.get("connection")
        if not isinstance(missing, str) or len(missing) > MOST or not MODULE.fullmatch(missing):
            missing = None
        if isinstance(connection, str):
            connection = "".join(one if one.isprintable() else "?" for one in connection[:MOST])
        return cls(missing, connection or None) if isinstance(connection, str) else cls(missing)


NO_FACTS = Facts()


def advice(facts: Facts, domain: Domain) -> str:
    """What to do about it; empty when there is nothing to add."""
    told = []
    if facts.missing is not None:
        told.append(_missing(facts.missing.partition(".")[0], domain))
    if facts.connection is not None:
        told.append(f"It tried to connect to {facts.connection}. {NO_NETWORK}.")
    return " ".join(told)


def advised(message: str, told: str) -> str:
    """A message followed by advice, as one text."""
    return f"{message.rstrip('.')}. {told}" if told else message


def _missing(module: str, domain: Domain) -> str:
    if module == "metaharness":
        return "Of metaharness a harness can import metaharness.harness alone."
    file = domain.requirements()
    if domain.python is not None:
        place, there = "the environment of Domain.python", f"the standard library and what {domain.python} has"
    else:
        place, there = str(domain.root / REQUIREMENTS), "the standard library alone"
    if file is not None:
        there = f"the standard library and what {file} declares ({_declared(domain)})"
    return (
        f"No module {module} is there: a harness may import {there}. A candidate cannot add to that; "
        f"the author of the domain can, in {place}."
    )


def _declared(domain: Domain) -> str:
    file = domain.requirements()
    try:
        names = read_requirements(file).names if file is not None else []
    except DomainError:  # changed since the workers were started
        names = []
    return ", ".join([*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])]) or "nothing"
