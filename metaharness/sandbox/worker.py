"""The program inside the sandbox: it drives one candidate and passes its model calls through the pipe.

One file, standard library only, Python 3.9 and later; nothing else of the package is there. The parent sends
this source (or its bytecode) over the pipe, so nothing has to be mounted for it.

It guards nothing: a candidate shares this process and can change all of it. The parent treats every frame as
untrusted. What it does is turn what happens here into frames that say it.

Frames are 4 bytes of length, big-endian, then a JSON object.
    in:   init, learn, case, answer
    out:  loaded | failed, done (of a learn or a case), call
"""

from __future__ import annotations

import json
import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TAIL_CHARS = 4000
ModuleType = type(sys)


class Channel:
    """Frames over two descriptors, which may be the same socket."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.lock = threading.Lock()

    def take(self, size: int) -> bytes | None:
        """Exactly `size` bytes; None at the end of the stream."""
        chunks: list[bytes] = []
        while size:
            chunk = os.read(self.read_fd, min(size, 1 << 20))
            if not chunk:
                return None
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)

    def receive(self) -> Any:
        header = self.take(4)
        body = header and self.take(int.from_bytes(header, "big"))
        return json.loads(body) if body else None

    def send(self, frame: dict[str, Any]) -> None:
        body = json.dumps(frame, allow_nan=False).encode("ascii")
        data = memoryview(len(body).to_bytes(4, "big") + body)
        with self.lock:
            while data:
                data = data[os.write(self.write_fd, data) :]


class Tail:
    """Stands in for stdout and stderr: keeps the last characters each scope has printed."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self) -> None:
        self.local = threading.local()

    def write(self, text: object) -> int:
        text = str(text)
        self.local.text = (getattr(self.local, "text", "") + text)[-TAIL_CHARS:]
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False

    def take(self) -> str:
        text, self.local.text = getattr(self.local, "text", ""), ""
        return text


class Pending:
    """The answer to one call, for a waiting thread or a waiting asyncio loop."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.guard = threading.Lock()
        self.arrived = threading.Lock()
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
        future = loop.create_future()

        def finish() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(finish)
            except RuntimeError:  # the loop was closed: nobody waits any more
                return

        with self.guard:
            self.wake = wake
            ready = self.answer is not None
        if not ready:
            await future
        return self.answer


def failure(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"kind": kind, "message": message}}


class Scope:
    """One learn or one case: the calls made under it end with it."""

    def __init__(self, worker: Worker, number: int) -> None:
        self.worker = worker
        self.number = number
        self.open = True
        self.calls: dict[int, Pending] = {}
        self.lock = threading.Lock()
        self.count = 0

    def send(self, request: Any) -> Pending:
        pending = Pending()
        try:
            body = json.dumps(request, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise self.worker.model_error("refused", "the request is not JSON: " + str(error)) from None
        if len(body) > self.worker.prompt_limit:
            message = "the request has %d bytes; at most %d fit" % (len(body), self.worker.prompt_limit)
            raise self.worker.model_error("refused", message)
        with self.lock:
            if not self.open:
                raise self.worker.model_error("closed", "this case has ended; its model cannot be called any more")
            self.count += 1
            number = self.count
            self.calls[number] = pending
        self.worker.channel.send({"kind": "call", "scope": self.number, "id": number, "request": request})
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
            pending.resolve(failure("closed", "the case has ended"))


class StageError(Exception):
    """The candidate does not get past a stage of loading."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


class Worker:
    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.tail = Tail()
        self.scopes: dict[int, Scope] = {}
        self.driver: Any = ModuleType("driver")
        self.harness: Any = None
        self.api: Any = None
        self.model_error: Any = Exception
        self.prompt_limit = self.answer_limit = 0
        self.folder = ""

    def run(self) -> None:
        sys.stdout = sys.stderr = self.tail
        while True:
            frame = self.channel.receive()
            if frame is None:
                os._exit(0)
            getattr(self, "on_" + frame["kind"])(frame)

    # -- loading ------------------------------------------------------------------------------------------------

    def on_init(self, frame: dict[str, Any]) -> None:
        stage = "import"
        try:
            self.limit(frame["limits"])
            self.prompt_limit = frame["prompt_limit"]
            self.answer_limit = frame["answer_limit"]
            self.install(frame["harness_source"])
            if frame["driver_source"] is not None:
                exec(compile(frame["driver_source"], "<driver>", "exec"), self.driver.__dict__)
            module = self.load(frame["folder"], frame["entry"], frame["importable"])
            stage = "interface"
            self.check(module)
            self.harness = self.hook("build", lambda: module.Harness(), module)  # noqa: PLW0108 - looked up late
        except BaseException as error:
            stage = getattr(error, "stage", stage)
            own = isinstance(error, StageError)
            report: dict[str, Any] = {"kind": "failed", "stage": stage, "message": self.describe(error)}
            report["traceback"] = None if own else self.traceback(error)
            report["stdout_tail"] = self.tail.take()
            self.channel.send(report)
        else:
            self.channel.send({"kind": "loaded", "stdout_tail": self.tail.take()})

    def limit(self, limits: dict[str, int]) -> None:
        try:
            import resource
        except ImportError:
            return
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        size = limits["memory_mb"] << 20
        resource.setrlimit(resource.RLIMIT_AS, (size, size))

    def install(self, source: str) -> None:
        """Put the synthetic package `metaharness` in place: it holds `metaharness.harness` alone."""
        package: Any = ModuleType("metaharness")
        package.__path__ = []
        module: Any = ModuleType("metaharness.harness")
        exec(compile(source, "metaharness/harness.py", "exec"), module.__dict__)
        package.harness = module
        sys.modules["metaharness"] = package
        sys.modules["metaharness.harness"] = module
        self.api = module
        self.model_error = module.ModelError

    def load(self, folder: str, entry: str, importable: bool) -> Any:
        sys.dont_write_bytecode = True
        self.folder = folder
        path = os.path.join(folder, entry)
        if importable:
            sys.path.insert(0, folder)
        with open(path, "rb") as file:
            source = file.read()
        module = ModuleType("harness")
        module.__file__ = path
        sys.modules["harness"] = module
        exec(compile(source, path, "exec"), module.__dict__)
        return module

    def check(self, module: Any) -> None:
        problem = self.hook("check", lambda: self.default_check(module), module)
        if problem:
            raise StageError("interface", str(problem))

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
        scope = Scope(self, frame["scope"])
        self.scopes[scope.number] = scope
        model = self.api.Model(scope.send, frame["seed"])
        threading.Thread(target=self.work, args=(scope, model, work), daemon=True).start()

    def work(self, scope: Scope, model: Any, work: Callable[[Any], Any]) -> None:
        done: dict[str, Any] = {"kind": "done", "scope": scope.number}
        try:
            output = work(model)
            if hasattr(output, "__await__"):
                output = self.run_async(output)
            done["output"] = output
            size = len(json.dumps(output, allow_nan=False))
            if size > self.answer_limit:
                raise ValueError("the answer has %d bytes; at most %d fit" % (size, self.answer_limit))
        except BaseException as error:
            done["output"] = None
            done["error"] = self.report(error)
        scope.close()
        self.scopes.pop(scope.number, None)
        done["stdout_tail"] = self.tail.take()
        self.channel.send(done)

    def run_async(self, awaitable: Any) -> Any:
        import asyncio

        async def wait() -> Any:
            return await awaitable

        return asyncio.run(wait())

    def learn(self, examples: list[dict[str, Any]], model: Any) -> None:
        def default() -> Any:
            learn = getattr(self.harness, "learn", None)
            if learn is None:
                return None
            pairs = [self.api.LabeledExample(example["input"], example["expected"]) for example in examples]
            return learn(pairs, model)

        result = self.hook("learn", default, self.harness, examples, model)
        if hasattr(result, "__await__"):
            self.run_async(result)

    def ask(self, case_input: Any, model: Any) -> Any:
        return self.hook("ask", lambda: self.harness.predict(case_input, model), self.harness, case_input, model)

    # -- telling what went wrong --------------------------------------------------------------------------------

    def report(self, error: BaseException) -> dict[str, Any]:
        kind = error.kind if isinstance(error, self.model_error) else None
        return {"message": self.describe(error), "traceback": self.traceback(error), "call_kind": kind}

    def describe(self, error: BaseException) -> str:
        try:
            text = str(error)
        except Exception:
            text = "(its message cannot be shown)"
        name = type(error).__name__
        return text[:2000] if isinstance(error, StageError) else (name + ": " + text)[:2000]

    def traceback(self, error: BaseException) -> str:
        """The candidate's own frames; paths are relative to its folder."""
        import traceback

        try:
            lines = traceback.TracebackException(type(error), error, error.__traceback__, limit=-30)
            lines.stack = type(lines.stack).from_list(
                [frame for frame in lines.stack if frame.filename not in (__file__, "<driver>")]
            )
            text = "".join(lines.format())
        except Exception as broken:
            text = self.describe(error) + " (no traceback: " + type(broken).__name__ + ")"
        return text.replace(self.folder + os.sep, "")[-8000:]


def main(read_fd: int, write_fd: int) -> None:
    Worker(Channel(read_fd, write_fd)).run()
