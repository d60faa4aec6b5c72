"""What the `use.py` of an exported harness calls: build it, teach it, ask it, outside a run.

It does what a worker does with the same files, without a sandbox: the harness runs with the rights of this process.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metaharness.errors import MetaharnessError
from metaharness.harness import LabeledExample, Model, ModelError


class ExportedHarness:
    """The harness of an exported folder, built and taught."""

    def __init__(self, folder: Path, model: Model) -> None:
        """Build it, and teach it `examples.jsonl` where that is there.

        Args:
            folder: What `metaharness export` wrote.
            model: What `metaharness.connect` gave.
        """
        driver = folder / "driver.py"
        self._hooks: Mapping[str, Any] = runpy.run_path(str(driver), run_name="driver") if driver.is_file() else {}
        self._model = model
        inside = folder / "harness"
        sys.path.insert(0, str(inside if inside.is_dir() else folder))
        module = importlib.import_module("harness")
        self._harness = self._hook("build", lambda: module.Harness(), module)  # noqa: PLW0108 - not looked up early
        examples = folder / "examples.jsonl"
        if examples.is_file():
            self.learn([json.loads(line) for line in examples.read_text(encoding="utf-8").split("\n") if line])

    def learn(self, examples: list[dict[str, Any]]) -> None:
        """Teach it.

        Args:
            examples: `{"input": ..., "expected": ...}` each.
        """
        _finished(self._hook("learn", lambda: self._learn(examples), self._harness, examples, self._model))

    def ask(self, case_input: Any) -> Any:
        """Its answer to one input, which is of the kind that the run asked."""
        default = lambda: self._harness.predict(case_input, self._model)  # noqa: E731 - beside its use
        return _finished(self._hook("ask", default, self._harness, case_input, self._model))

    def answer(self, argument: str, *, texts: bool = True) -> str:
        """Its answer as a text: as it is where it is one, else as JSON.

        Args:
            argument: The input.
            texts: Whether inputs are texts. If not, the argument is read as JSON, and as a text where it is none.
        """
        answer = self.ask(argument if texts else _json_or_text(argument))
        return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)

    def _learn(self, examples: list[dict[str, Any]]) -> Any:
        pairs = [LabeledExample(one["input"], one["expected"]) for one in examples]
        return self._harness.learn(pairs, self._model) if hasattr(self._harness, "learn") else None

    def _hook(self, name: str, default: Callable[[], Any], *arguments: Any) -> Any:
        """What the driver does, or the default where it leaves that out."""
        return self._hooks[name](*arguments) if name in self._hooks else default()


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

    async def wait() -> Any:
        return await result

    return asyncio.run(wait()) if inspect.isawaitable(result) else result
