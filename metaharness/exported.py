"""What the `use.py` of an exported harness calls: build it, teach it, ask it, outside a run.

It does what a worker does with the same files, without a sandbox: the harness runs with the rights of this process.
Each harness has modules of its own, so a process may hold several, and several may be asked at once. What this does
not guard: a sibling that is not imported by a statement, but by a name in a text (`importlib.import_module`), is the
one of the harness that was built first.
"""

from __future__ import annotations

import asyncio
import builtins
import importlib
import importlib.util
import inspect
import itertools
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from metaharness.errors import CandidateError, MetaharnessError
from metaharness.harness import LabeledExample, Model, ModelError


class ExportedHarness:
    """The harness of an exported folder, built and taught."""

    def __init__(self, folder: Path, model: Model) -> None:
        """Build it, and teach it `examples.jsonl` where that is there.

        Args:
            folder: What `metaharness export` wrote.
            model: What `metaharness.connect` gave.
        """
        self._folder = folder.resolve()
        self._model = model
        driver, inside = self._folder / "driver.py", self._folder / "harness"
        code = _Code(inside if inside.is_dir() else self._folder, alone=not inside.is_dir())
        self._driver = code.of_file(driver) if driver.is_file() else None
        module = code.entry()
        self._harness = self._hook("build", lambda: module.Harness(), module)  # noqa: PLW0108 - not looked up early
        if self._examples.is_file():
            lines = self._examples.read_text(encoding="utf-8").split("\n")
            self.learn([json.loads(line) for line in lines if line])

    @property
    def _examples(self) -> Path:
        return self._folder / "examples.jsonl"

    def learn(self, examples: list[dict[str, Any]]) -> None:
        """Teach it.

        Args:
            examples: `{"input": ..., "expected": ...}` each.
        """
        _finished(self._hook("learn", lambda: self._learn(examples), self._harness, examples, self._model))

    def ask(self, case_input: Any) -> Any:
        """Its answer to one input, which is of the kind that the run asked.

        It waits, also where the harness is async: inside a running loop, which would stand still, use `ask_async`.
        """
        return _finished(self._asked(case_input))

    async def ask_async(self, case_input: Any) -> Any:
        """What `ask` gives, while the running loop goes on: what is not async runs in a thread of its own."""
        answer = await asyncio.to_thread(self._asked, case_input)
        return await answer if inspect.isawaitable(answer) else answer

    def answer(self, argument: str, *, texts: bool = True) -> str:
        """Its answer as a text: as it is where it is one, else as JSON.

        Args:
            argument: The input.
            texts: Whether inputs are texts. If not, the argument is read as JSON, and as a text where it is none.

        Raises:
            CandidateError: The harness failed; `ask` raises what it raised.
        """
        try:
            answer = self.ask(argument if texts else _json_or_text(argument))
            return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        except (MetaharnessError, ModelError):
            raise
        except (Exception, SystemExit) as error:
            look = "examples.jsonl shows some" if self._examples.is_file() else "its domain says what they are"
            raise CandidateError(
                f"the harness failed: {self._described(error)}",
                hint=f"give an input of the kind that it was asked in its run: {look}",
            ) from error

    def _described(self, error: BaseException) -> str:
        """The error in one line, with its last place in the files of the harness."""
        places = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        own = [f"{path.name}, line {line}" for path, line in places if path.is_relative_to(self._folder)]
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return text + (f" ({own[-1]})" if own else "")

    def _asked(self, case_input: Any) -> Any:
        default = lambda: self._harness.predict(case_input, self._model)  # noqa: E731 - beside its use
        return self._hook("ask", default, self._harness, case_input, self._model)

    def _learn(self, examples: list[dict[str, Any]]) -> Any:
        pairs = [LabeledExample(one["input"], one["expected"]) for one in examples]
        return self._harness.learn(pairs, self._model) if hasattr(self._harness, "learn") else None

    def _hook(self, name: str, default: Callable[[], Any], *arguments: Any) -> Any:
        """What the driver does, or the default where it leaves that out."""
        function = getattr(self._driver, name, None)
        return function(*arguments) if function is not None else default()


@contextmanager
def one_argument() -> Iterator[str]:
    """The only argument of the program; how it is used without one, and an error as two lines, end the program."""
    if len(sys.argv) != 2:
        sys.exit(f'usage: python {Path(sys.argv[0]).name} "some text"')
    try:
        yield sys.argv[1]
    except (MetaharnessError, ModelError) as error:
        hint = getattr(error, "hint", None)
        sys.exit(f"error: {error}" + (f"\nhint: {hint}" if hint else ""))


def _json_or_text(argument: str) -> Any:
    try:
        return json.loads(argument)
    except ValueError:
        return argument


def _finished(result: Any) -> Any:
    """The result itself, once it is there: what a harness does may be async."""
    if not inspect.isawaitable(result):
        return result

    async def wait() -> Any:
        return await result

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    with ThreadPoolExecutor(1) as thread:  # a loop cannot be run inside another one
        return thread.submit(asyncio.run, wait()).result()


# --- the modules of one harness ---------------------------------------------------------------------------------

_THERE_BEFORE = frozenset({*sys.builtin_module_names, "io", "json", "metaharness", "os", "threading"})
"""In a worker these are loaded before the candidate: a file of it with such a name is not what is imported."""
_numbers = itertools.count(1)


class _Code(MetaPathFinder):
    """The modules of one harness, below a package of their own, so that no other harness has them by their names.

    Their `import` statements find the files beside them first, whenever they are executed, as in a worker.
    """

    def __init__(self, folder: Path, *, alone: bool) -> None:
        """Prepare it; nothing is loaded yet.

        Args:
            folder: Where `harness.py` lies.
            alone: Whether it is the only file of the candidate; then nothing else there can be imported.
        """
        self._package = f"metaharness_exported_{next(_numbers)}"
        self._folder = folder
        importlib.invalidate_caches()
        self._own = {"harness", *(() if alone else _importable(folder))} - _THERE_BEFORE
        self._builtins = ModuleType("builtins")
        vars(self._builtins).update({**vars(builtins), "__import__": self._import})
        package = ModuleType(self._package)
        package.__path__ = [str(folder)]
        sys.modules[self._package] = package
        sys.meta_path.insert(0, self)
        if not alone and str(folder) not in sys.path:
            sys.path.append(str(folder))

    def entry(self) -> Any:
        """The module `harness`."""
        return importlib.import_module(f"{self._package}.harness")

    def of_file(self, path: Path) -> ModuleType:
        """A module that is not among those of the candidate, and may import them."""
        name = f"{self._package}_{path.stem}"
        loader = _Loader(name, str(path), self._builtins)
        spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        assert spec is not None, "with a loader there is always a spec"
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        loader.exec_module(module)
        return module

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{self._package}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path, self._builtins)
        return spec

    def _import(
        self,
        name: str,
        globals_: Mapping[str, Any] | None = None,
        locals_: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """What an `import` statement of these modules calls."""
        top = name.partition(".")[0]
        if level or top not in self._own:
            return builtins.__import__(name, globals_, locals_, fromlist or (), level)
        found = builtins.__import__(f"{self._package}.{name}", globals_, locals_, fromlist or (), 0)
        return found if fromlist else sys.modules[f"{self._package}.{top}"]


class _Loader(SourceFileLoader):
    """Loads a module with the `import` of its harness, and leaves no bytecode beside it."""

    def __init__(self, name: str, path: str, given: ModuleType) -> None:
        super().__init__(name, path)
        self._given = given

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._given
        super().exec_module(module)

    def path_stats(self, path: Any) -> Mapping[str, Any]:
        raise OSError("bytecode is neither read nor written")


def _importable(folder: Path) -> Iterator[str]:
    """The names that `import` finds in a folder. One without `__init__.py` stands behind any module of its name."""
    for entry in folder.iterdir():
        if entry.suffix == ".py":
            yield entry.stem
        elif (entry / "__init__.py").is_file():
            yield entry.name
        elif entry.is_dir() and any(entry.rglob("*.py")):
            elsewhere = PathFinder.find_spec(entry.name)
            if elsewhere is None or elsewhere.origin is None:
                yield entry.name
