"""What a harness finds around it: an old or a new Python, the synthetic package, and nothing of ours."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from metaharness.configuration import Budget
from metaharness.domain import Case, Domain, Objective
from metaharness.evaluation.runner import SandboxRunner
from metaharness.evaluation.session import Doors
from metaharness.evaluation.workbench import Material
from metaharness.gateway import Gateway, MemoryJournal
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers.scripted import ScriptedProvider
from metaharness.harness import LabeledExample
from metaharness.messages import ModelSpec
from metaharness.records import CaseTrace, EvaluationPlan
from metaharness.sandbox.process import ProcessSandbox

PACKAGE = Path(__file__).resolve().parents[2] / "metaharness"
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")


class Anything:
    def grade(self, context: object) -> float:
        return 1.0


class One(Domain):
    name = "one"
    objectives = (Objective("accuracy", range=(0, 1)),)
    evaluator = Anything()


async def inside(folder: Path, body: str, *, python: str | None = None, whole: bool = False) -> CaseTrace:
    """What one case of a harness sees, by the body of its `predict`."""
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    source = f"class Harness:\n    def predict(self, text, model):\n{lines}"
    return await evaluate(folder, source, python=python, whole=whole)


async def evaluate(folder: Path, source: str, *, python: str | None = None, whole: bool = False) -> CaseTrace:
    """The trace of one case, as a file or as a whole folder; the model answers every call with `yes`."""
    (folder / "harness.py").write_text(source)
    domain = One()
    domain.python = python
    domain.root = folder
    models: dict[Any, ModelSpec] = {"target": ModelSpec(provider="scripted", name="none")}
    prices = PriceTable({})
    provider = ScriptedProvider([{"contains": "refuse", "error": {"kind": "refused"}}, {"text": "yes"}])
    gateway = Gateway(
        models,
        journal=MemoryJournal(),
        ledger=Ledger(Budget(), prices),
        prices=prices,
        concurrency=4,
        providers={"target": provider},
    )
    examples = [{"input": "text", "expected": "label"}]
    material = Material(domain, ProcessSandbox(), {"case": Case("case", "input")}, lambda: examples)
    plan = EvaluationPlan(
        candidate_path=str(folder if whole else folder / "harness.py"),
        candidate_hash="",
        pairs=(("case", 0),),
        split="search",
        models=models,
        limits=domain.limits,
        seed=0,
    )
    with anyio.fail_after(60):
        async with SandboxRunner(material).run(plan, Doors(gateway)) as traces:
            return [trace async for trace in traces][-1]


def interpreter(version: str) -> str | None:
    """A Python of that version on this machine that starts with an empty environment, as a worker does."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [str(path) for path in sorted(root.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)]
    found += [path for path in [shutil.which(f"python{version}")] if path is not None]
    return next((path for path in found if subprocess.run([path, "-c", ""], env={}, check=False).returncode == 0), None)


async def test_the_environment_holds_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a key that nobody may see")
    trace = await inside(tmp_path, "import os\nreturn [dict(os.environ), os.getcwd(), os.listdir('/proc/self/fd')]")
    environment, folder, descriptors = trace.output
    keys = {name: environment.pop(name) for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")}
    assert set(keys.values()) == {"no-key-in-here-the-gateway-has-it"}
    assert set(environment) - {"LC_CTYPE"} == {"LANG", "MALLOC_ARENA_MAX", "PYTHONHASHSEED"}
    assert folder == "/"
    assert len(descriptors) <= 5, "stdin, stdout, stderr, the pipe, and the listing itself"


async def test_the_package_inside_is_one_module(tmp_path: Path) -> None:
    trace = await inside(
        tmp_path,
        """
import importlib, sys
found = []
ours = ('metaharness.harness', 'metaharness', 'metaharness.errors', 'metaharness.sandbox.worker')
for name in (*ours, 'pydantic', 'anyio'):
    try:
        importlib.import_module(name)
        found.append(name)
    except ImportError:
        pass
package = sys.modules['metaharness']
return [found, sorted(name for name in vars(package) if not name.startswith('_')), package.__path__]
""",
    )
    assert trace.output == [["metaharness.harness", "metaharness"], ["harness"], []]


async def test_only_the_standard_library_is_on_the_path(tmp_path: Path) -> None:
    trace = await inside(tmp_path, "import sys\nreturn [sys.path, [name for name in sys.modules]]")
    path, modules = trace.output
    assert path
    assert not any("site-packages" in entry or entry in ("", "/", str(PACKAGE.parent)) for entry in path)
    assert {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names) <= {
        "__main__",
        "harness",
        "metaharness",
        "sitecustomize",
    }


async def test_a_harness_file_cannot_import_what_lies_beside_it_and_a_folder_can(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("x = 1\n")
    alone = await inside(tmp_path, "import beside\nreturn beside.x")
    assert alone.status == "harness_error"
    assert "No module named 'beside'" in (alone.error or "")
    assert (await inside(tmp_path, "import beside\nreturn beside.x", whole=True)).output == 1


async def test_text_hashes_are_the_same_in_every_worker(tmp_path: Path) -> None:
    first, second = [await inside(tmp_path, "return hash('text')") for _ in range(2)]
    assert first.output == second.output


async def test_nothing_is_written_beside_the_candidate(tmp_path: Path) -> None:
    await inside(tmp_path, "return 1")
    assert os.listdir(tmp_path) == ["harness.py"]  # noqa: PTH208


EVERYTHING = """
import asyncio
from concurrent.futures import ThreadPoolExecutor
from metaharness.harness import LabeledExample, ModelError


class Harness:
    def learn(self, examples, model):
        self.learned = [examples == [LabeledExample("text", "label")], model.complete("learn").text]

    async def predict(self, text, model):
        texts = [answer.text for answer in model.complete_many(["a", "b"])]
        texts += [answer.text for answer in await asyncio.gather(model.acomplete("c"), model.acomplete("d"))]
        with ThreadPoolExecutor(2) as pool:
            texts += [answer.text for answer in pool.map(model.complete, ["e", "f"])]
        try:
            model.complete("refuse this")
        except ModelError as error:
            texts.append(error.kind)
        print("printed")
        return [texts, self.learned, model.random.randrange(10**9), repr(model.complete("last"))]
"""
FAILING = EVERYTHING.replace("async def predict(self, text, model):", "def predict(self, text, model):\n        1 / 0")


@pytest.mark.parametrize("version", VERSIONS)
async def test_everything_works_in_every_python_a_domain_may_bring(tmp_path: Path, version: str) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on this machine")
    trace = await evaluate(tmp_path, EVERYTHING, python=python)
    assert trace.status == "ok", trace.error
    assert trace.output[:2] == [["yes"] * 6 + ["refused"], [True, "yes"]]
    assert trace.output[2:] == (await evaluate(tmp_path, EVERYTHING)).output[2:], "chance is the same in all of them"
    assert trace.stdout_tail == "printed\n"
    failed = await evaluate(tmp_path, FAILING.replace("await ", ""), python=python)
    lines = (failed.error or "").splitlines()
    assert lines[1].startswith('  File "harness.py", line 12, in predict')
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_examples_are_equal_by_text_and_label_and_say_what_they_are() -> None:
    example = LabeledExample("a text", "a label")
    assert example == LabeledExample("a text", "a label")
    assert example != LabeledExample("a text", "another")
    assert example != ("a text", "a label")
    assert len({example, LabeledExample("a text", "a label"), LabeledExample("another", "a label")}) == 2
    assert repr(example) == "LabeledExample(text='a text', label='a label')"


# --- the files that run inside ----------------------------------------------------------------------------------

INSIDE = ("harness.py", "sandbox/worker.py", "sandbox/guard.py", "sandbox/telling.py")


@pytest.mark.parametrize("name", INSIDE)
def test_a_file_that_runs_inside_is_valid_in_python_3_9(name: str) -> None:
    ast.parse((PACKAGE / name).read_text(encoding="utf-8"), feature_version=(3, 9))


@pytest.mark.parametrize("name", INSIDE)
def test_a_file_that_runs_inside_imports_the_standard_library_alone(name: str) -> None:
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in found} <= set(sys.stdlib_module_names)
