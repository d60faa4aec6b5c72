"""The files that run inside the sandbox, perhaps under another, older Python and with nothing installed."""

from __future__ import annotations

import ast
import sys

import pytest
from meta_kit import PACKAGE, Module, imports

from metaharness.sandbox.bootstrap import BOOT

OLDEST = (3, 9)
NEWER_THAN_OLDEST = {"tomllib"}
"""Standard library modules that Python 3.9 does not have."""

CLIENTS = ("following", "transports", "chat", "responses", "messages")
SANDBOXED = (
    *("sandbox/worker.py", "sandbox/guard.py", "sandbox/telling.py", "harness.py", "jail/relay.py"),
    *(f"sandbox/clients/{name}.py" for name in CLIENTS),
)


def sandboxed(name: str) -> Module:
    path = PACKAGE / name
    return Module(path, ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", SANDBOXED)
def test_it_parses_as_the_oldest_python_a_domain_may_bring(name: str) -> None:
    ast.parse((PACKAGE / name).read_text(encoding="utf-8"), feature_version=OLDEST)


def test_what_starts_the_worker_parses_as_the_oldest_python() -> None:
    ast.parse(BOOT, feature_version=OLDEST)


@pytest.mark.parametrize("name", SANDBOXED)
def test_it_imports_the_standard_library_alone(name: str) -> None:
    """Nothing else is there: the package itself is a synthetic one made of harness.py."""
    found = {one.module.split(".")[0] for one in imports(sandboxed(name).tree)}
    assert found - (sys.stdlib_module_names - NEWER_THAN_OLDEST) == set()


@pytest.mark.parametrize("name", SANDBOXED)
def test_its_annotations_are_never_evaluated(name: str) -> None:
    """`dict[str, int] | None` in a signature is an error at run time in Python 3.9, unless it stays text."""
    assert any(one.module == "__future__" and one.name == "annotations" for one in imports(sandboxed(name).tree))


@pytest.mark.parametrize("source", ["match x:\n case 1: ...", "try: ...\nexcept* ValueError: ..."])
def test_newer_syntax_is_seen(source: str) -> None:
    with pytest.raises(SyntaxError):
        ast.parse(source, feature_version=OLDEST)
