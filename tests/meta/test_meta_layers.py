"""Imports point down. What is below can then be read, tested and reused without what is above it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from meta_kit import EXAMPLES, PACKAGE, ROOT, engine_units, imports, modules, public_names

import metaharness
from metaharness import production

LAYERS = {
    0: ("errors", "messages", "limits", "records", "configuration", "openings", "variables"),
    1: ("domain", "harness", "loading", "fingerprints", "seals", "marks", "scaffold", "pages", "machine", "ungroup"),
    2: ("store", "gateway", "sandbox", "jail", "scoring"),
    3: ("evaluation", "holdout", "history", "memory", "finding", "leaks", "production", "exported", "lineage"),
    4: ("run",),
    5: ("tools",),
    6: ("search", "proposers", "testing", "attacks", "exporting", "doctor", "sealing"),
    7: ("cli", "__main__"),
}
LEVEL = {unit: level for level, units in LAYERS.items() for unit in units}

SIDEWAYS = {
    ("records", "messages"): "a record of a run names the model it was made with",
    ("records", "limits"): "a plan says what its evaluation may use",
    ("configuration", "errors"): "what a person has chosen wrongly is wrong usage",
    ("configuration", "messages"): "it names the models of a run",
    ("openings", "messages"): "what is written of a test is a record",
    ("openings", "records"): "it holds estimates and verdicts",
    ("configuration", "records"): "`config.json` is a record beside the others",
    ("variables", "errors"): "a file that cannot be read is told",
    ("limits", "messages"): "limits travel as every record does",
    ("loading", "domain"): "it loads domains",
    ("loading", "machine"): "what an agent names is read without the links that it makes meanwhile",
    ("fingerprints", "domain"): "it takes the fingerprints of cases",
    ("memory", "history"): "lessons are read from what runs have come to",
    ("seals", "domain"): "it holds cases of a domain",
    ("seals", "fingerprints"): "it holds the fingerprints of those cases",
    ("scaffold", "loading"): "it copies an example that comes with the package",
    ("search", "proposers"): "the loop is the only caller of the Protocol Proposer",
    ("testing", "proposers"): "the test kit re-exports the scripted proposer",
    ("testing", "attacks"): "the test kit re-exports check_sandbox()",
    ("__main__", "cli"): "`python -m metaharness` is the command line",
}
"""Imports within a layer, each with its reason. Any other would tie two parts together that can change alone."""

LAZY = {"production"}
"""What `metaharness` itself names, and imports only when it is asked for: `metaharness.connect`."""

EXAMPLES_MAY_IMPORT = {
    "metaharness.cli": "cli/__init__.py",
    "metaharness.domain": "domain.py",
    "metaharness.errors": "errors.py",
    "metaharness.harness": "harness.py",
}

THEIR_TESTS_MAY_ALSO_IMPORT = {
    "metaharness.configuration": "configuration.py",
    "metaharness.records": "records.py",
    "metaharness.testing": "testing.py",
}
"""The test kit, and the configuration that it takes."""

REJECTED_ON_PURPOSE = ("reference_examples/text_classification/proposals/02_engine_index/harness.py",)
"""Candidates that import what is not there, to show that the ladder stops them."""

ALSO_IMPORTED = {
    "metaharness/gateway/providers/anthropic.py": ("anthropic",),  # the extra of that name
    "metaharness/gateway/providers/openai.py": ("openai",),  # the extra of that name
    "metaharness/cli/serve.py": ("mcp_server",),  # the server beside this package, which imports it
    "metaharness/cli/searching.py": ("mcp_server",),  # for proposers whose agent speaks MCP
    "metaharness/cli/run_file.py": ("yaml",),  # pyyaml
    "metaharness/cli/configured.py": ("yaml",),  # pyyaml
    "metaharness/variables.py": ("dotenv",),  # python-dotenv
    "metaharness/store/trace_file.py": ("pydantic_core",),  # as below
    "metaharness/store/encoding.py": ("pydantic_core",),  # comes with pydantic, which asks for one exact version of it
}
"""Packages that are not among the dependencies, by the one module that may import each."""

# `if TYPE_CHECKING` imports count as well, without exception: a type from above is knowledge of what is above,
# and whoever changes it has to change the lower module with it.


def edges() -> list[tuple[str, str, str]]:
    """(place, importing unit, imported unit) for every import within the engine that crosses units."""
    return [
        (f"{module.place}:{found.line}", module.unit, unit)
        for module in modules(PACKAGE)
        for found in imports(module.tree)
        for unit in engine_units(found)
        if unit != module.unit
    ]


def test_every_unit_of_the_engine_has_a_layer() -> None:
    units = {module.unit for module in modules(PACKAGE)} - {"__init__"}
    assert units == set(LEVEL), "place a new module in LAYERS, in AGENTS.md, and in the layer it belongs to"


def test_nothing_imports_upwards() -> None:
    wrong = [
        f"{place}: {a} imports {b}"
        for place, a, b in edges()
        if (b not in LAZY if a == "__init__" else LEVEL[b] > LEVEL[a])
    ]
    assert wrong == []


def test_siblings_do_not_know_each_other() -> None:
    wrong = [
        f"{place}: {a} imports {b}"
        for place, a, b in edges()
        if a in LEVEL and LEVEL[a] == LEVEL[b] and (a, b) not in SIDEWAYS
    ]
    assert wrong == []


def test_every_listed_import_between_siblings_still_exists() -> None:
    """A stale exception would let a new one in unseen."""
    assert set(SIDEWAYS) - {(a, b) for _, a, b in edges()} == set()


def test_importing_the_package_imports_nothing() -> None:
    """So `--version` and `--help` are quick, and a harness's `import metaharness.harness` costs nothing."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    eager = [node for node in tree.body if not isinstance(node, ast.FunctionDef) and not _is_for_types(node)]
    assert [found for node in eager for found in imports(node)] == []
    program = "import sys; before = set(sys.modules); import metaharness; print(*sorted(set(sys.modules) - before))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["metaharness"]


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse


def test_what_the_package_imports_late_is_there_when_asked_for() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    assert {unit for found in imports(tree) for unit in engine_units(found)} == LAZY
    assert metaharness.connect is production.connect
    with pytest.raises(AttributeError, match="has no attribute 'conect'"):
        _ = metaharness.conect  # type: ignore[attr-defined]


def test_the_engine_imports_only_what_it_declares() -> None:
    """An undeclared import works on the developer's machine alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[^\w-]", name)[0] for name in project["dependencies"]}
    wrong = [
        f"{module.place}:{found.line}: {found.module}"
        for module in modules(PACKAGE)
        for found in imports(module.tree)
        if (top := found.module.split(".")[0]) not in sys.stdlib_module_names | declared | {"metaharness"}
        and top not in ALSO_IMPORTED.get(module.place, ())
    ]
    assert wrong == []


def test_examples_import_only_public_names() -> None:
    """An example is what a stranger copies: whatever it reaches for becomes a promise."""
    public = {
        name: public_names(ast.parse((PACKAGE / path).read_text(encoding="utf-8")))
        for name, path in {**EXAMPLES_MAY_IMPORT, **THEIR_TESTS_MAY_ALSO_IMPORT}.items()
    }

    def allowed(path: Path, module: str) -> list[str]:
        in_tests = "tests" in path.relative_to(EXAMPLES).parts
        return public.get(module, []) if in_tests or module in EXAMPLES_MAY_IMPORT else []

    wrong = [
        f"{module.place}:{found.line}: {found.module}.{found.name}"
        for module in modules(EXAMPLES)
        for found in imports(module.tree)
        if found.module.split(".")[0] == "metaharness" and found.name not in allowed(module.path, found.module)
        if module.place not in REJECTED_ON_PURPOSE
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "source",
    [
        "from metaharness.run import Run",
        "import metaharness.run.facade",
        "from metaharness import run",
        "def f():\n    from metaharness.run import Run",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from metaharness.run import Run",
    ],
)
def test_an_import_is_seen_wherever_it_stands(source: str) -> None:
    assert {unit for found in imports(ast.parse(source)) for unit in engine_units(found)} == {"run"}


def test_the_layers_are_drawn_from_the_bottom() -> None:
    assert all(low < high for low, high in pairwise(LAYERS))
