"""The habits of the repository: checks that run the same everywhere, documents that point at what is there, and one
place that knows what lies in a run directory.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from meta_kit import PACKAGE, ROOT, imports, modules, texts

MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work|opt|mnt|srv)/\w+")


def test_the_ci_calls_every_script_and_nothing_else_decides() -> None:
    """A check that only the CI knows cannot be run before pushing."""
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "scripts").iterdir() if path.is_file()}
    assert scripts == set(re.findall(r"scripts/([\w.]+)", run))


def test_the_suite_is_measured_by_the_command_that_the_readme_shows() -> None:
    """Else the README's command could fail while the CI passes."""
    command = "uv run pytest -n auto"
    assert command in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert f'{command} "$@"' in (ROOT / "scripts" / "coverage").read_text(encoding="utf-8")


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts().items()
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line) and path != "tests/meta/test_meta_habits.py"
    ]
    assert found == []


def test_what_agents_read_is_short() -> None:
    """It is read whole, each time."""
    assert len((ROOT / "AGENTS.md").read_text(encoding="utf-8").splitlines()) < 110


@pytest.mark.parametrize("document", ["AGENTS.md", "README.md"])
def test_a_document_points_only_at_files_that_are_there(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    pointed = set(re.findall(r"`((?:[\w.]+/)+[\w.]*)`", text))
    ours = {path for path in pointed if not path.startswith(("runs/", "baselines/", "proposals/", "harness/", "NAME/"))}
    assert {path for path in ours if not any((base / path).exists() for base in (ROOT, PACKAGE))} == set()


def test_a_function_that_is_too_long_is_found(tmp_path: Path) -> None:
    """The gate on sizes is a script of ours, so it is tested like one."""
    for folder in ("metaharness", "reference_examples", "scripts"):
        (tmp_path / folder).mkdir()
    script = tmp_path / "scripts" / "sizes.py"
    script.write_text((ROOT / "scripts" / "sizes.py").read_text(encoding="utf-8"), encoding="utf-8")
    module = tmp_path / "metaharness" / "module.py"

    def sizes() -> tuple[int, str]:
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    module.write_text("def long():\n" + "    pass\n" * 49, encoding="utf-8")
    assert sizes()[0] == 0
    module.write_text("def long():\n" + "    pass\n" * 50, encoding="utf-8")
    assert sizes()[0] == 1
    assert "metaharness/module.py:1: long has 51 lines" in sizes()[1]
    module.write_text("x = 1\n" * 401, encoding="utf-8")
    assert "metaharness/module.py:1: the module has 401 lines" in sizes()[1]


# --- what lies in a run directory -------------------------------------------------------------------------------

STORE = "metaharness/store/"
FILE = re.compile(r"\.?\w[\w.]*\.(?:jsonl?|md|lock)|\.lock")
FOLDERS = {"iterations", "sealed"}
"""Words with other meanings too, such as a column of a table; they count where they stand in a path."""
JOINS = {"Path", "PurePath", "joinpath", "join", "with_name"}
A_CANDIDATES_OWN = "a candidate that is handed in has a file of this name; it lies outside any run"
ELSEWHERE = {
    ("metaharness/seals.py", "sealed"): "the folder of sealed cases in the user's data, not that of a run",
    ("metaharness/loading.py", "proposal.json"): A_CANDIDATES_OWN,
    ("metaharness/loading.py", "reasoning.md"): A_CANDIDATES_OWN,
    ("metaharness/scaffold.py", "proposal.json"): A_CANDIDATES_OWN,
    ("metaharness/scaffold.py", "reasoning.md"): A_CANDIDATES_OWN,
}
"""Where a name from a run directory may stand outside the store, with the reason."""


def words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts of one word. One with a blank in it, such as a docstring or a message, is for people; so is an f-string."""
    for_people = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        and any(isinstance(part, ast.Constant) and re.search(r"\s", str(part.value)) for part in node.values)
        for part in node.values
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(word)) if id(node) not in for_people and not re.search(r"\s", word):
                yield node.lineno, word


@cache
def files_of_a_run() -> frozenset[str]:
    """The names of files that the store's own source has in it, so that a new one counts from its first day."""
    in_store = [module for module in modules(PACKAGE) if module.place.startswith(STORE)]
    found = (part for module in in_store for _, word in words(module.tree) for part in word.split("/"))
    return frozenset(part for part in found if FILE.fullmatch(part))


@cache
def constants_of_the_store() -> frozenset[str]:
    """What the store calls those names: `CONFIG`, `TRACE`."""
    return frozenset(
        target.id
        for module in modules(PACKAGE)
        if module.place.startswith(STORE)
        for node in module.tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        if files_of_a_run() & set(str(node.value.value).split("/"))
        for target in node.targets
        if isinstance(target, ast.Name)
    )


def knowledge_of_a_run(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of everything a path into a run directory could be made with.

    Not seen: a name that is put together at run time, and a constant that is reached as an attribute of its module.
    """
    for line, word in words(tree):
        parts = set(word.split("/"))
        yield from ((line, name) for name in parts & files_of_a_run())
        yield from ((line, name) for name in parts & FOLDERS if "/" in word)
    for node in ast.walk(tree):
        joined: list[ast.expr] = []
        match node:
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                joined = [left, right]
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)) if called in JOINS:
                joined = node.args
        for part in joined:
            if isinstance(part, ast.Constant) and part.value in FOLDERS:
                yield part.lineno, str(part.value)
    for found in imports(tree):
        if found.module.startswith("metaharness.store") and found.name in constants_of_the_store():
            yield found.line, str(found.name)


def test_only_the_store_knows_what_lies_in_a_run_directory() -> None:
    """Else what is on disk could not be changed in one place, and two places could say different things of it."""
    found = {
        (module.place, name): f"{module.place}:{line}: {name}"
        for module in modules(PACKAGE)
        if not module.place.startswith(STORE)
        for line, name in knowledge_of_a_run(module.tree)
    }
    assert [where for key, where in found.items() if key not in ELSEWHERE] == [], "ask the store: give it a method"
    assert set(ELSEWHERE) - set(found) == set(), "a stale exception would let a new one in unseen"


def test_the_names_that_lie_in_a_run_directory_are_known() -> None:
    """Else the rule above would hold for nothing. The README shows people what a run directory holds."""
    tree = (ROOT / "README.md").read_text(encoding="utf-8").partition("\nruns/")[2].partition("```")[0]
    shown = set(FILE.findall(tree))
    assert {"calls.jsonl", "events.jsonl", "eval_trace.jsonl", "score.json", "opening.json"} <= shown
    assert shown | {".lock", ".lock.json", "rejected.json"} <= files_of_a_run()
    assert {"CONFIG", "LOCK", "NOTE", "TRACE", "OPENING"} <= constants_of_the_store()


@pytest.mark.parametrize(
    "source",
    [
        "run / 'calls.jsonl'",
        "run / 'iterations' / name",
        "run.joinpath('sealed')",
        "Path(run, 'iterations')",
        "run / f'iterations/{number:03d}'",
        "open(f'{run}/score.json')",
        "path = run + '/.lock.json'",
        "NAMES = {'events.jsonl': Event}",
        "def f(name='eval_trace.jsonl'): ...",
        "from metaharness.store.runs import CONFIG",
        "def f():\n    from metaharness.store.evaluations import TRACE as NAME",
    ],
)
def test_every_way_to_make_a_path_into_a_run_is_seen(source: str) -> None:
    assert list(knowledge_of_a_run(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        '"""A line of `events.jsonl`."""',
        "hint = 'restore events.jsonl and sealed/ from a copy'",
        "hint = f'see {path}/rejected.json for its traceback'",
        "page = {'iterations': len(history), 'sealed': None}",
        "files['numbers.json'] = data",
        "share = seconds / iterations",
        "from metaharness.store import RunStore, find_run",
    ],
)
def test_what_is_shown_to_people_may_name_what_lies_there(source: str) -> None:
    assert list(knowledge_of_a_run(ast.parse(source))) == []
