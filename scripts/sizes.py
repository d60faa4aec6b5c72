#!/usr/bin/env python3
"""Sizes: no function above 50 lines, no module above 400, in the engine and in the examples.

A function counts from its `def` to its last line, signature, docstring and blank lines included, decorators not.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FUNCTION_LINES = 50
MODULE_LINES = 400
FOLDERS = ("metaharness", "reference_examples")

FunctionNode = (ast.FunctionDef, ast.AsyncFunctionDef)


def main() -> int:
    """Print what is too long. Returns 1 when something is."""
    root = Path(__file__).resolve().parent.parent
    files = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    if not files:
        print(f"there are no Python files in {', '.join(FOLDERS)}", file=sys.stderr)
        return 1
    found = [f"{path.relative_to(root)}{problem}" for path in files for problem in too_long(path)]
    for line in found:
        print(line)
    print(f"{len(files)} modules, {len(found)} above {FUNCTION_LINES} lines a function or {MODULE_LINES} a module")
    return 1 if found else 0


def too_long(path: Path) -> Iterator[str]:
    """What is too long in one file, as `:line: what`."""
    source = path.read_text(encoding="utf-8")
    lines = len(source.splitlines())
    if lines > MODULE_LINES:
        yield f":1: the module has {lines} lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, FunctionNode) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f":{node.lineno}: {node.name} has {length} lines"


if __name__ == "__main__":
    sys.exit(main())
