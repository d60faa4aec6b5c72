"""The help is the manual: every command has examples, they parse, and every option says what it does."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from cli_kit import command_names, parse, tree

COMMANDS = command_names()


def examples(command: Any) -> list[str]:
    return [line.strip() for line in command.epilog.splitlines() if line.strip().startswith("metaharness ")]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_ends_with_examples_of_it(name: str) -> None:
    command = tree().commands[name]
    assert command.epilog.startswith("Examples:")
    assert examples(command)
    assert all(shlex.split(example)[1] == name for example in examples(command))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_command_line_that_is_taken(name: str) -> None:
    for example in examples(tree().commands[name]):
        parse(shlex.split(example)[1:])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_does(name: str) -> None:
    command = tree().commands[name]
    assert command.help
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", None)] == []


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "serve"])  # it prints nothing: it speaks MCP
def test_what_a_command_prints_can_be_had_as_json(name: str) -> None:
    """A table is for a person; a program has to read the same."""
    assert any("--json" in parameter.opts for parameter in tree().commands[name].params)


def test_an_unknown_option_in_an_example_is_seen() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["runs", "--no-such-option"])
