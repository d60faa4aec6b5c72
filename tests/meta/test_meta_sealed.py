"""One module touches the test split: `holdout.py`. Whoever asks who can see the sealed cases reads that one.

`test_meta_rules.py` looks for the plain spellings; here are the roundabout ones, and the way over the store. Not seen:
a name that is put together at run time, and a text that comes from a user (`evaluate --split`, which is checked there).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from meta_kit import EXAMPLES, PACKAGE, modules

DEFINES = "metaharness/domain.py"
"""`Split` is defined here, and `domain.cases` is."""
STORE = "metaharness/store/"
"""Implements the folder `sealed/` without knowing what lies in it."""
HOLDOUT = "metaharness/holdout.py"

TRANSFER = "metaharness/run/transfer.py"
"""The only one that asks for what lies in `sealed/transfer/`; the cases themselves it has from holdout."""

TAKES_A_SPLIT = {"Split", "cases", "split_cases", "prepare", "Ground", "_listed"}
"""Calls in which the text `test` stands for the split: `Split` is a StrEnum, so a plain text does as well."""


def uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) for everything that reaches the test split, or may."""
    names = {"Split"} | {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == "Split" and alias.asname
    }
    allowed = {id(part) for node in ast.walk(tree) for part in _in_annotations(node)}
    for node in ast.walk(tree):
        what = _names_it(node, names) or _takes_all(node, names, allowed) or _opens_the_store(node)
        if what:
            yield getattr(node, "lineno", 0), what


def _is_split(node: ast.AST, names: set[str]) -> bool:
    """`Split`, or `domain.Split`."""
    return (isinstance(node, ast.Name) and node.id in names) or (
        isinstance(node, ast.Attribute) and node.attr == "Split"
    )


def _names_it(node: ast.AST, names: set[str]) -> str | None:
    match node:
        case ast.Attribute(value=value, attr="TEST") if _is_split(value, names):
            return "Split.TEST"
        case ast.Subscript(value=value, slice=ast.Constant(value="TEST")) if _is_split(value, names):
            return "Split['TEST']"
        case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)) if called in TAKES_A_SPLIT | names:
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            if any(isinstance(one, ast.Constant) and one.value == "test" for one in given):
                return f"{called}('test')"
    return None


def _takes_all(node: ast.AST, names: set[str], allowed: set[int]) -> str | None:
    """`Split` itself as a value: iterated over, passed on, looked up in. Only its members are taken one by one."""
    match node:
        case ast.Attribute(value=value, attr=attr) if _is_split(value, names) and attr not in (
            "TRAIN",
            "SEARCH",
            "TEST",
        ):
            return f"Split.{attr}"
        case ast.Subscript(value=value, slice=key) if _is_split(value, names) and not isinstance(key, ast.Constant):
            return "Split[...]"
    for child in ast.iter_child_nodes(node):
        if _is_split(child, names) and id(child) not in allowed and not _takes_one(node, child):
            return "Split as a whole"
    return None


def _takes_one(node: ast.AST, child: ast.AST) -> bool:
    """`Split.SEARCH`, `Split["SEARCH"]`, `Split(text)`: what they take is looked at elsewhere."""
    if isinstance(node, (ast.Attribute, ast.Subscript)):
        return node.value is child
    return isinstance(node, ast.Call) and node.func is child


def _in_annotations(node: ast.AST) -> Iterator[ast.AST]:
    """Every node of the type annotations of a function or a variable: they name `Split` and take nothing of it."""
    found: list[ast.expr | None] = []
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        found.append(node.returns)
    if isinstance(node, (ast.arg, ast.AnnAssign)):
        found.append(node.annotation)
    for annotation in found:
        if annotation is not None:
            yield from ast.walk(annotation)


def _opens_the_store(node: ast.AST) -> str | None:
    match node:
        case ast.Attribute(attr="sealed"):
            return ".sealed"
        case ast.Attribute(attr="transfers"):
            return ".transfers"
        case ast.Name(id="Sealed") | ast.Attribute(attr="Sealed") | ast.alias(name="Sealed"):
            return "Sealed"
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value="sealed" | "transfers" | "TEST"), *_]):
            return "getattr"
    return None


def test_no_module_but_holdout_touches_the_test_split() -> None:
    found = {
        f"{module.place}:{line}: {what}"
        for module in modules(PACKAGE)
        if module.place not in (DEFINES, HOLDOUT) and not module.place.startswith(STORE)
        for line, what in uses(module.tree)
        if (module.place, what) != (TRANSFER, ".transfers")
    }
    assert found == set(), "ask holdout.py for what is needed: only values leave it"


def test_holdout_does_and_the_store_does_not_know_what_a_split_is() -> None:
    """Else the rule above would hold for nothing, or what it allows would be a way around it."""
    place = {module.place: module for module in modules(PACKAGE)}
    assert {what for _, what in uses(place[HOLDOUT].tree)} == {"Split.TEST", ".sealed", "Sealed"}
    in_store = {what for name, module in place.items() if name.startswith(STORE) for _, what in uses(module.tree)}
    assert in_store == {".sealed", ".transfers", "Sealed"}
    assert {what for _, what in uses(place[TRANSFER].tree)} == {".transfers"}
    assert [what for _, what in uses(place[DEFINES].tree)] == []


def test_examples_say_only_where_the_test_split_lies() -> None:
    """A domain has to say what each split is read from; it opens no run and walks over no splits."""
    found = {(module.place, what) for module in modules(EXAMPLES) for _, what in uses(module.tree)}
    assert {what for _, what in found} <= {"Split.TEST"}
    assert {place.rsplit("/", 1)[-1] for place, _ in found} <= {"domain.py"}


@pytest.mark.parametrize(
    "source",
    [
        "split_cases(domain, Split.TEST)",
        "domain.Split.TEST",
        "from metaharness.domain import Split as S\nS.TEST",
        "Split('test')",
        "Split(value='test')",
        "domain.Split('test')",
        "Split['TEST']",
        "Split[name]",
        "domain.cases('test')",
        "split_cases(domain, 'test')",
        "prepare(config, split='test')",
        "getattr(Split, 'TEST')",
        "for split in Split: ...",
        "hashes = {split: 1 for split in Split}",
        "list(Split)",
        "print(*Split)",
        "first, *rest = Split",
        "every = Split",
        "map(load, Split)",
        "[*Split]",
        "Split.__members__",
        "Split._member_map_",
        "store.sealed.opening()",
        "sealed = run.store.sealed",
        "getattr(store, 'sealed')",
        "run.store.transfers.cell(name, {}, None)",
        "from metaharness.store import Sealed",
        "from metaharness.store.sealed import Sealed as Folder",
        "import metaharness.store as s\ns.Sealed(access)",
    ],
)
def test_every_way_to_the_test_split_is_seen(source: str) -> None:
    assert list(uses(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "split_cases(domain, Split.SEARCH)",
        "if split not in (Split.TRAIN, Split.SEARCH): ...",
        "Split(text)",
        "def prepare(config, split: Split = Split.SEARCH) -> Split: ...",
        "split: Split | None = None",
        "{'test': result}",
        "sealed_fingerprints(domain)",
        "from metaharness.holdout import SealedResult",
        "text = 'test'",
    ],
)
def test_what_does_not_reach_it_is_allowed(source: str) -> None:
    assert list(uses(ast.parse(source))) == []
