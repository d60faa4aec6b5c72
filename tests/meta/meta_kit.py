"""What the rules read: source files as syntax trees, what each imports, and what it makes public."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "metaharness"
EXAMPLES = ROOT / "reference_examples"


@dataclass(frozen=True)
class Module:
    """One source file."""

    path: Path
    tree: ast.Module

    @property
    def place(self) -> str:
        """Its path in the repository, as a person writes it."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def unit(self) -> str:
        """What the layers speak of: the module, or the package right below `metaharness`."""
        return self.path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def modules(folder: Path) -> list[Module]:
    """The Python files below a folder."""
    paths = sorted(folder.rglob("*.py"))
    assert paths, f"there are no Python files below {folder}: the rule would hold for nothing"
    return [Module(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


@dataclass(frozen=True)
class Import:
    """One imported module, or one name imported from it."""

    module: str
    name: str | None
    """None for `import module`."""
    line: int


def imports(tree: ast.AST) -> Iterator[Import]:
    """Every import of a file: at its top, inside functions, and under `if TYPE_CHECKING` alike."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, None, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are written whole, so that a search finds them"
            yield from (Import(node.module or "", alias.name, node.lineno) for alias in node.names)


def engine_units(found: Import) -> set[str]:
    """The units of the engine that an import reaches; `metaharness` alone (its version) is none."""
    parts = found.module.split(".")
    if parts[0] != "metaharness":
        return set()
    if len(parts) > 1:
        return {parts[1]}
    return {found.name} if found.name and not found.name.startswith("__") else set()


def public_names(tree: ast.Module) -> list[str]:
    """`__all__` where a module has it; else what it defines at its top without an underscore. Sorted."""
    defined: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            if "__all__" in names:
                return sorted(ast.literal_eval(node.value))
            if not _is_type_variable(node.value):
                defined |= names
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined.add(node.target.id)
    return sorted(name for name in defined - {"TYPE_CHECKING"} if not name.startswith("_"))


def _is_type_variable(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func) in ("TypeVar", "ParamSpec")


def enclosing(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Every node with the qualified name of the function or class around it; `""` at the top of the file."""

    def walk(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            yield name, child
            if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from walk(child, f"{name}.{child.name}".lstrip("."))
            else:
                yield from walk(child, name)

    return walk(tree, "")


TEXT_FILES = {".py", ".md", ".toml", ".sh", ""}


def texts() -> dict[str, str]:
    """Every text file of the project that a person writes, by path."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    paths = [ROOT / name for name in listed] or [path for path in _walk() if path.is_file()]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(paths)
        if path.is_file() and path.suffix in TEXT_FILES
    }


def _walk() -> Iterator[Path]:
    """The same outside a git clone, such as in an unpacked source distribution."""
    for name in ("metaharness", "reference_examples", "skills", "tests", "scripts", "benchmarks"):
        yield from (path for path in (ROOT / name).rglob("*") if "__pycache__" not in path.parts)
    yield from ROOT.glob("*.md")


FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fenced(text: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [body for found, body in FENCE.findall(text) if found == language]
