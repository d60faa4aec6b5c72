"""Whose code is running, and where an HTTP library is met: what a worker has in place before its candidate loads.

`openai` and `anthropic` both send through `httpx` or `httpx2`. Once a candidate imports one of these, its transports
are replaced (transports.py) and a request becomes a call of the case whose code makes it. Which case that is stands in
a context variable, which the threads and executors that a candidate uses take over from whoever hands them work.

One file, standard library only, Python 3.9 and later; sent over the pipe as worker.py is. Nothing else is imported,
and the other files of this folder are not even unpacked, before an HTTP library is.

What it does not guard: anything; see worker.py. What it does not follow: work that reaches a thread of an earlier case
through a queue of the candidate's own, and threads that are started below `threading`. A call from there belongs to no
open case and fails, also when a single case is open: else it would depend on `--concurrency` whether it works.
"""

from __future__ import annotations

import os
import sys
import threading
from contextvars import ContextVar, copy_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
PLACEHOLDER = "no-key-in-here-the-gateway-has-it"
"""So that clients can be made without arguments. It reaches nobody."""
HTTP = ("httpx", "httpx2")
EXECUTORS = "concurrent.futures.thread"
KIND = "x-metaharness-kind"
"""The header of a failed answer that says of which kind the ModelError was."""


class Following:
    """Knows the scope of the running code."""

    def __init__(self, unpack: Callable[[], dict[str, CodeType]], model_error: type[Exception]) -> None:
        """Put everything in place. `unpack` gives the other files of this folder, by name."""
        self.scope: ContextVar[Any] = ContextVar("metaharness_scope", default=None)
        self.enter = self.scope.set
        self.unpack = unpack
        self.model_error = model_error
        self.late: dict[str, Callable[[Any], None]] = dict.fromkeys(HTTP, self.replace_transports)
        self.late[EXECUTORS] = follow_into_executors
        for name in KEYS:
            os.environ.setdefault(name, PLACEHOLDER)
        follow_into_threads()
        for name in [name for name in self.late if name in sys.modules]:
            self.late.pop(name)(sys.modules[name])
        sys.meta_path.insert(0, self)

    def kind_of(self, error: BaseException) -> str | None:
        """Of which kind the failed call was that a client has made this exception of; None where it is another."""
        headers: Any = getattr(getattr(error, "response", None), "headers", None)
        kind = headers.get(KIND) if hasattr(headers, "get") else None
        return kind if isinstance(kind, str) else None

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Stands first among the finders: lets the others find a module, and has it changed once it is loaded."""
        change = self.late.get(name)
        if change is None:
            return None
        found = (one.find_spec(name, path, target) for one in sys.meta_path if one is not self)
        spec = next((spec for spec in found if spec is not None), None)
        loader = getattr(spec, "loader", None)
        if loader is not None and not isinstance(loader, type):  # a class loads other modules too
            self.change_after(loader, name, change)
        return spec

    def change_after(self, loader: Any, name: str, change: Callable[[Any], None]) -> None:
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            del loader.exec_module  # this shadows the method of the class
            execute(module)
            self.late.pop(name, None)
            change(module)

        loader.exec_module = exec_module

    def replace_transports(self, library: Any) -> None:
        """Lead the requests of an HTTP library to the door."""
        if not hasattr(library, "HTTPTransport"):
            return  # a module of the candidate's that has this name
        parts: dict[str, dict[str, Any]] = {}
        for name, code in self.unpack().items():
            parts[name] = {"__name__": "metaharness_" + name}
            exec(code, parts[name])
            parts[name].update(PARTS=parts, KIND=KIND, ModelError=self.model_error)
        parts["transports"]["replace"](library, self.scope.get)


def follow_into_threads() -> None:
    """A thread runs in the context of whoever has started it."""
    start = threading.Thread.start

    def followed(thread: Any) -> None:
        run, context = thread.run, copy_context()

        def run_inside() -> None:
            del thread.run  # so that no cycle is left
            context.run(run)

        thread.run = run_inside
        start(thread)

    threading.Thread.start = followed  # type: ignore[assignment, method-assign]


def follow_into_executors(module: Any) -> None:
    """Each task runs in the context of whoever has submitted it: the threads may be of an earlier case."""
    submit = module.ThreadPoolExecutor.submit

    def followed(executor: Any, function: Any, /, *arguments: Any, **named: Any) -> Any:
        return submit(executor, copy_context().run, function, *arguments, **named)

    module.ThreadPoolExecutor.submit = followed
