"""One word per concept, in code and in what a person reads. Two words for one thing are read as two things."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from meta_kit import PACKAGE, ROOT, modules

INSTEAD = {
    "benchmark": "domain",
    "champion": "incumbent",
    "dataset": "domain, or split",
    "epoch": "round",
    "fitness": "score",
    "generation": "round",
    "generations": "round",
    "genome": "harness",
    "leaderboard": "scoreboard",
    "mutant": "proposal",
    "mutation": "proposal",
    "optimizer": "proposer",
    "optimiser": "proposer",
    "population": "frontier, or history",
    "scorer": "evaluator",
    "trajectory": "trace",
    "validation": "search (the split), or check",
}
"""A word that is not used here, and the one that is."""

PROSE = (
    "README.md",
    "CHANGELOG.md",
    "ONBOARDING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "skills").rglob("*.md")),
)


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """What the code names itself: classes, functions, parameters, variables, attributes it sets."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node.lineno
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno


def words(name: str) -> set[str]:
    """The words of an identifier, of snake_case and CamelCase alike."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_the_code_uses_one_word_per_concept() -> None:
    found = [
        f"{module.place}:{line}: {name}: say {INSTEAD[word]}"
        for module in modules(PACKAGE)
        for name, line in identifiers(module.tree)
        for word in words(name) & INSTEAD.keys()
    ]
    assert found == []


@pytest.mark.parametrize("file", PROSE)
def test_what_users_read_uses_one_word_per_concept(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    found = {word: INSTEAD[word] for word in set(re.findall(r"[a-z]+", text.lower())) & INSTEAD.keys()}
    assert found == {}


def test_the_command_line_uses_one_word_per_concept() -> None:
    found = [
        f"{module.place}:{node.lineno}: {word}: say {INSTEAD[word]}"
        for module in modules(PACKAGE / "cli")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for word in set(re.findall(r"[a-z]+", node.value.lower())) & INSTEAD.keys()
    ]
    assert found == []


@pytest.mark.parametrize("name", ["best_fitness", "FitnessTable", "fitness"])
def test_a_word_is_seen_inside_a_name(name: str) -> None:
    assert "fitness" in words(name)
