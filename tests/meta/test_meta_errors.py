"""The exception tree as it is drawn is the one that is there: whoever handles errors reads the drawing."""

from __future__ import annotations

import inspect
import re

import pytest

from metaharness import errors

LINE = re.compile(r"^    (?P<branch>[│ ├└─]*)(?P<name>\w+)\s+(?:exit code )?(?P<code>\d)\s{3}\S", re.MULTILINE)
EXIT_CODES = {1, 2, 3, 4}
"""1 a failure of ours or of the environment, 2 wrong usage, 3 an invalid candidate or domain, 4 a gate."""


def classes() -> dict[str, type[errors.MetaharnessError]]:
    return {
        name: found
        for name, found in vars(errors).items()
        if inspect.isclass(found) and issubclass(found, errors.MetaharnessError)
    }


def drawn() -> dict[str, tuple[str | None, int]]:
    """Name to (parent, exit code), from the indentation of the drawing."""
    tree: dict[str, tuple[str | None, int]] = {}
    path: list[str] = []
    for found in LINE.finditer(errors.__doc__ or ""):
        depth = len(found["branch"]) // 4
        path[depth:] = [found["name"]]
        tree[found["name"]] = (path[depth - 1] if depth else None, int(found["code"]))
    return tree


def test_every_error_is_drawn_below_its_parent_with_its_exit_code() -> None:
    there = {
        name: (None if name == "MetaharnessError" else found.__bases__[0].__name__, found.exit_code)
        for name, found in classes().items()
    }
    assert drawn() == there


@pytest.mark.parametrize("name", sorted(classes()))
def test_every_error_ends_the_command_with_a_documented_code(name: str) -> None:
    assert classes()[name].exit_code in EXIT_CODES


def test_all_errors_of_the_package_stand_in_one_file() -> None:
    """A caller that catches MetaharnessError has to know only this one file."""

    def below(one: type[BaseException]) -> set[type[BaseException]]:
        return {one}.union(*(below(child) for child in one.__subclasses__()))

    assert {
        found.__module__ for found in below(errors.MetaharnessError) if not found.__module__.startswith("test")
    } == {"metaharness.errors"}
