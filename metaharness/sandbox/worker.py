"""The program inside the sandbox: it drives one candidate and passes its model calls through the pipe.

Standard library only, Python 3.9 and later; of the package there is nothing but the files in `PARTS`. The parent sends
their source (or bytecode) over the pipe, so nothing has to be mounted for it; see bootstrap.py.

It guards nothing: a candidate shares this process and can change all of it. The parent treats every frame as
untrusted. What it does is turn what happens here into frames that say it. What it needs for that is bound when it is
loaded, and where it cannot go on the process ends: the parent then asks the open cases again, each alone.

Frames are 4 bytes of length, big-endian, then a JSON object.
    in:   guard, init, learn, case, answer
    out:  ready (no line of the candidate has run), loaded | failed, done (of a learn or a case), call
"""

from __future__ import annotations

import builtins
import os
import sys
import threading
from os import _exit, read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

    PARTS: dict[str, Any]  # the other files that were sent, by their names; put here by the bootstrap

BROKEN = 70
"""Exit status of a worker whose pipe is closed, or that cannot tell any more what happens in it."""
ModuleType = type(sys)
Thread, Lock = threading.Thread, threading.Lock


def part(name: str) -> dict[str, Any]:
    """Run one of the other files, and what it defines."""
    names: dict[str, Any] = {"__name__": "metaharness_" + name}
    exec(PARTS[name], names)  # noqa: F821
    return names


def clients() -> dict[str, CodeType]:
    """What stands in for the transports of HTTP libraries, unpacked; see clients/following.py."""
    return {name.partition("/")[2]: unpack() for name, unpack in PARTS.items() if "/" in name}  # noqa: F821


telling = part("telling")
Teller, Tail, StageError = telling["Teller"], telling["Tail"], telling["StageError"]
encode, decode = telling["encode"], telling["decode"]


class Channel:
    """Frames over two descriptors, which may be the same socket."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.lock = Lock()

    def take(self, size: int) -> bytes | None:
        """Exactly `size` bytes; None at the end of the stream."""
        chunks: list[bytes] = []
        while size:
            chunk = read(self.read_fd, min(size, 1 << 20))
            if not chunk:
                return None
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)

    def receive(self) -> Any:
        header = self.take(4)
        body = header and self.take(int.from_bytes(header, "big"))
        return decode(body.decode("ascii")) if body else None

    def send(self, body: str) -> None:
        """One frame, as JSON."""
        data = memoryview(len(body).to_bytes(4, "big") + body.encode("ascii"))
        try:
            with self.lock:
                while data:
                    data = data[write(self.write_fd, data) :]
        finally:
            if data:
                _exit(BROKEN)


class Pending:
    """The answer to one call, for a waiting thread or a waiting asyncio loop."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.guard = Lock()
        self.arrived = Lock()
        self.arrived.acquire()
        self.wake: Callable[[], None] | None = None

    def resolve(self, answer: Any) -> None:
        with self.guard:
            if self.answer is not None:
                return
            self.answer = answer
            wake = self.wake
        self.arrived.release()
        if wake is not None:
            wake()

    def wait(self) -> Any:
        with self.arrived:
            return self.answer

    async def wait_async(self) -> Any:
        import asyncio

        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(arrived.set)
            except RuntimeError:  # the loop was closed: nobody waits any more
                return

        with self.guard:
            self.wake = wake
            ready = self.answer is not None
        if not ready:
            await arrived.wait()
        return self.answer


class Scope:
    """One learn or one case: the calls made under it end with it."""

    def __init__(self, worker: Worker, number: int) -> None:
        self.worker = worker
        self.number = number
        self.open = True
        self.begun = False
        self.calls: dict[int, Pending] = {}
        self.lock = Lock()
        self.count = 0

    def send(self, request: Any) -> Pending:
        pending = Pending()
        try:
            body = self.worker.teller.as_json("request", request, self.worker.prompt_limit)
        except (StageError, ValueError) as error:
            raise self.worker.model_error("refused", "the request cannot be sent: " + str(error)) from None
        with self.lock:
            if not self.open:
                raise self.worker.model_error("closed", "this case has ended; its model cannot be called any more")
            self.count += 1
            number = self.count
            self.calls[number] = pending
        self.worker.channel.send('{"kind": "call", "scope": %d, "id": %d, "request": %s}' % (self.number, number, body))
        return pending

    def resolve(self, number: int, answer: Any) -> None:
        with self.lock:
            pending = self.calls.pop(number, None)
        if pending is not None:
            pending.resolve(answer)

    def close(self) -> None:
        with self.lock:
            self.open = False
            calls, self.calls = self.calls, {}
        for pending in calls.values():
            pending.resolve({"error": {"kind": "closed", "message": "the case has ended"}})


class Worker:
    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.tail = Tail()
        self.scopes: dict[int, Scope] = {}
        self.driver: Any = ModuleType("driver")
        self.harness: Any = None
        self.api: Any = None
        self.model_error: Any = Exception
        self.teller: Any = Teller()
        self.prompt_limit = self.answer_limit = 0
        self.folder = ""
        self.guard: Any = None
        self.following: Any = None

    def run(self) -> None:
        sys.stdout = sys.stderr = self.tail
        for frame in iter(self.channel.receive, None):
            getattr(self, "on_" + frame["kind"])(frame)

    # -- loading ------------------------------------------------------------------------------------------------

    def on_guard(self, frame: dict[str, Any]) -> None:
        self.guard = part("guard")["Guard"](frame)
        self.install()

    def on_init(self, frame: dict[str, Any]) -> None:
        stage = "start"
        self.folder = frame["folder"]
        try:
            self.guard.close_in(frame)
            threading.stack_size(frame["stack"])
            self.prompt_limit, self.answer_limit, depth, values = frame["most"]
            self.teller = Teller(self.folder, depth, values)
            if frame["driver_source"] is not None:
                self.driver.__builtins__ = builtins
                exec(compile(frame["driver_source"], "<driver>", "exec"), self.driver.__dict__)
            self.channel.send('{"kind": "ready"}')
            stage = "import"
            module = self.load(frame["entry"], frame["importable"])
            stage = "interface"
            self.check(module)
            self.harness = self.hook("build", lambda: module.Harness(), module)  # noqa: PLW0108 - looked up late
        except BaseException as error:
            report: dict[str, Any] = {"kind": "failed", "stage": stage, "message": self.teller.describe(error)}
            report["traceback"] = None if isinstance(error, StageError) else self.teller.traceback(error)
            self.channel.send(encode({**report, **self.guard.facts(error)}))
        else:
            self.channel.send('{"kind": "loaded"}')
        self.tail.take()

    def install(self) -> None:
        """Put the synthetic package `metaharness` in place: it holds `metaharness.harness` alone."""
        package: Any = ModuleType("metaharness")
        package.__path__ = []
        module: Any = ModuleType("metaharness.harness")
        exec(PARTS["harness"], module.__dict__)  # noqa: F821
        sys.modules["metaharness"] = package
        sys.modules["metaharness.harness"] = package.harness = self.api = module
        self.model_error = module.ModelError
        self.following = part("following")["Following"](clients, self.model_error)

    def load(self, entry: str, importable: bool) -> Any:
        sys.dont_write_bytecode = True
        path = os.path.join(self.folder, entry)
        if importable:
            sys.path.insert(0, self.folder)
        with open(path, "rb") as file:
            source = file.read()
        module: Any = ModuleType("harness")
        module.__file__ = path
        module.__builtins__ = builtins
        sys.modules["harness"] = module
        exec(compile(source, path, "exec"), module.__dict__)
        return module

    def check(self, module: Any) -> None:
        problem = self.hook("check", lambda: self.default_check(module), module)
        if problem:
            raise StageError(str(problem))

    def default_check(self, module: Any) -> str | None:
        if hasattr(self.driver, "build") or hasattr(self.driver, "ask"):
            return None
        if not callable(getattr(module, "Harness", None)):
            return "the module defines no class Harness"
        if not callable(getattr(module.Harness, "predict", None)):
            return "class Harness has no method predict(self, text, model)"
        return None

    def hook(self, name: str, default: Callable[[], Any], *arguments: Any) -> Any:
        function = getattr(self.driver, name, None)
        return function(*arguments) if function is not None else default()

    # -- learning and answering ---------------------------------------------------------------------------------

    def on_learn(self, frame: dict[str, Any]) -> None:
        self.start(frame, lambda model: self.learn(frame["examples"], model))

    def on_case(self, frame: dict[str, Any]) -> None:
        self.start(frame, lambda model: self.ask(frame["input"], model))

    def on_answer(self, frame: dict[str, Any]) -> None:
        scope = self.scopes.get(frame["scope"])
        if scope is not None:
            scope.resolve(frame["id"], frame["answer"])

    def start(self, frame: dict[str, Any], work: Callable[[Any], Any]) -> None:
        scope = self.scopes[frame["scope"]] = Scope(self, frame["scope"])
        model = self.api.Model(scope.send, frame["seed"])
        thread: Any = Thread(target=self.work, args=(scope, model, work), daemon=True)
        bootstrap = thread._bootstrap

        def begin() -> None:
            del thread._bootstrap  # so that no cycle is left
            try:
                bootstrap()
            finally:
                if not scope.begun:
                    _exit(BROKEN)  # what threads need was replaced: `start` would wait for this one for ever

        thread._bootstrap = begin
        thread.start()

    def work(self, scope: Scope, model: Any, work: Callable[[Any], Any]) -> None:
        scope.begun = True
        done: dict[str, Any] = {"kind": "done", "scope": scope.number}
        body = ""
        try:
            output = "null"
            try:
                self.following.enter(scope.send)
                output = self.answer(work(model))
            except BaseException as error:
                done["error"] = {**self.report(error), **self.guard.facts(error)}
            scope.close()
            self.scopes.pop(scope.number, None)
            done["stdout_tail"] = self.tail.take()
            body = encode(done)[:-1] + ', "output": ' + output + "}"
        finally:
            if not body:
                _exit(BROKEN)
        self.channel.send(body)

    def answer(self, output: Any) -> str:
        """What the harness answered, as JSON."""
        if hasattr(output, "__await__"):
            output = self.run_async(output)
        who = "ask of the driver" if hasattr(self.driver, "ask") else "predict"
        body: str = self.teller.as_json("answer", output, self.answer_limit, who + " returned ")
        return body

    def run_async(self, awaitable: Any) -> Any:
        import asyncio

        async def wait() -> Any:
            return await awaitable

        return asyncio.run(wait())

    def learn(self, examples: list[dict[str, Any]], model: Any) -> None:
        pairs = [self.api.LabeledExample(example["input"], example["expected"]) for example in examples]
        learn = getattr(self.harness, "learn", lambda *_: None)
        result = self.hook("learn", lambda: learn(pairs, model), self.harness, examples, model)
        if hasattr(result, "__await__"):
            self.run_async(result)

    def ask(self, case_input: Any, model: Any) -> Any:
        return self.hook("ask", lambda: self.harness.predict(case_input, model), self.harness, case_input, model)

    def report(self, error: BaseException) -> dict[str, Any]:
        kind = str(error.kind) if isinstance(error, self.model_error) else self.following.kind_of(error)
        lines = None if isinstance(error, StageError) else self.teller.traceback(error)
        return {"message": self.teller.describe(error), "traceback": lines, "call_kind": kind}


def main(read_fd: int, write_fd: int) -> None:
    if write_fd == 1:  # over stdin and stdout: what a library prints there must not be taken for a frame
        read_fd, write_fd = os.dup(0), os.dup(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
    try:
        Worker(Channel(read_fd, write_fd)).run()
    finally:
        _exit(BROKEN)  # at once: the interpreter would wait for the candidate's threads
