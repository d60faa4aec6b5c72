"""The transports of httpx and httpx2 inside a worker: a request of a client becomes a call through the door.

Whatever host the client has been told, the path alone decides: POST to .../chat/completions, .../responses and
.../messages. The model that is named there is ignored: the run's answers. All else fails, and says what is supported.
A client's own timeouts and retries are not heeded: a call has the run's deadline, and the gateway does the retrying.
Other ways out, such as clients over aiohttp or on a trio loop, are not led here; the sandbox stops them.

One file, standard library only, Python 3.9 and later; it imports nothing of ours: see following.py.
"""

from __future__ import annotations

import hashlib
import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PARTS: dict[str, dict[str, Any]] = {}
"""The other files of this folder by their names, put here by following.py; so are the two below."""
KIND = ""
"""The header of a failed answer that says of which kind the ModelError was."""
ModelError: type[Any] = Exception
STATUS = {"refused": 400, "limit": 429, "budget": 429, "closed": 409, "infrastructure": 503}
"""What a client is told for each kind of ModelError."""
UNREADABLE, UNSUPPORTED = 400, 404
SUPPORTED = "POST to .../chat/completions, .../responses (openai) and .../messages (anthropic)"
INSTEAD = "Or ask the model that the harness is given: model.complete(messages, tools=...)"
NO_CASE = (
    "this call belongs to no open case: it was made while the harness was being loaded, after its case had ended, or "
    "in a thread that did not get its work from a thread of the case. Start threads, or submit to a "
    "concurrent.futures executor, in predict or learn, or call model.complete there"
)
MISREAD = (ValueError, TypeError, LookupError, AttributeError)
"""What comes of reading a request that is not in its format."""


def replace(library: Any, current: Callable[[], Any]) -> None:
    """Change the transports of a library. `current` gives the `send` of the running code's scope, or None."""
    exchange = Exchange(library, current)
    plain, waiting = library.HTTPTransport, library.AsyncHTTPTransport
    plain.__init__ = waiting.__init__ = make
    plain.handle_request = lambda _, request: exchange.answer(request)
    waiting.handle_async_request = lambda _, request: exchange.answer_async(request)
    plain.__enter__ = lambda transport: transport
    plain.__exit__ = plain.close = lambda *_: None
    waiting.__aenter__ = same
    waiting.__aexit__ = waiting.aclose = nothing


def make(_: Any, *arguments: Any, **named: Any) -> None:
    """No connection is ever opened, so no certificates are read."""


async def same(transport: Any) -> Any:
    return transport


async def nothing(*_: Any) -> None:
    return None


def mark(body: Any, completions: list[Any]) -> str:
    """What the ids of an answer are made of: neither constant, as frameworks take two answers of one id for the same,
    nor random, as what a harness does with an id must not differ from run to run."""
    text = json.dumps([body, completions], sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:24]


class NoAnswerError(Exception):
    """There is no answer of the model."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class Exchange:
    """Turns requests of one library into calls, and their answers into responses."""

    def __init__(self, library: Any, current: Callable[[], Any]) -> None:
        self.library = library
        self.current = current

    def answer(self, request: Any) -> Any:
        """The response to a request, once the calls are answered."""
        request.read()
        form = self.form_of(request)
        try:
            body, pending = self.calls(form, request)
            return self.response(form, body, [one.wait() for one in pending])
        except NoAnswerError as failure:
            return self.failed(form, failure)

    async def answer_async(self, request: Any) -> Any:
        """The same on a running asyncio loop."""
        await request.aread()
        form = self.form_of(request)
        try:
            body, pending = self.calls(form, request)
            return self.response(form, body, [await one.wait_async() for one in pending])
        except NoAnswerError as failure:
            return self.failed(form, failure)

    def form_of(self, request: Any) -> dict[str, Any]:
        """The wire format of a request. One that is no client's of a model is told that there is no network."""
        path = request.url.path.rstrip("/")
        for form in PARTS.values():
            if "PATH" in form and request.method == "POST" and path.endswith(form["PATH"]):
                return form
        if "x-stainless-lang" not in request.headers:  # that of both clients
            message = f"{request.method} {request.url}: there is no network in here. Supported: {SUPPORTED}. {INSTEAD}"
            raise self.library.ConnectError(message, request=request)
        return PARTS["messages" if "anthropic-version" in request.headers else "chat"]

    def calls(self, form: dict[str, Any], request: Any) -> tuple[Any, list[Any]]:
        """The body of a request, and its calls on their way."""
        path = request.url.path.rstrip("/")
        if request.method != "POST" or not path.endswith(form["PATH"]):
            message = f"{request.method} {path} is not supported in here. Supported: {SUPPORTED}. {INSTEAD}"
            raise NoAnswerError(UNSUPPORTED, "unsupported", message)
        try:
            body = json.loads(request.content)
            question = form["question"](body)
            count = form["choices"](body) if "choices" in form else 1
        except MISREAD as error:
            said = str(error) if type(error) is ValueError else type(error).__name__ + ": " + str(error)
            raise NoAnswerError(UNREADABLE, "unreadable", "this request cannot be passed on: " + said) from error
        send = self.current()
        if send is None:
            raise NoAnswerError(STATUS["closed"], "closed", NO_CASE)
        try:
            return body, [send(question) for _ in range(count)]  # equal calls are one each for the gateway
        except ModelError as error:
            raise NoAnswerError(STATUS.get(error.kind, 503), error.kind, str(error)) from error

    def response(self, form: dict[str, Any], body: Any, answers: list[Any]) -> Any:
        for answer in answers:
            failure = answer.get("error")
            if failure is not None:
                raise NoAnswerError(STATUS.get(failure["kind"], 503), failure["kind"], failure["message"])
        completions = [answer["completion"] for answer in answers]
        whole = form["answer"](completions, body, mark(body, completions))
        if not body.get("stream"):
            return self.made(200, "application/json", json.dumps(whole), {})
        lines = []
        for event in form["events"](whole, body):
            name = event.get("type") if isinstance(event, dict) else None
            lines.append(f"event: {name}\n" if name else "")
            lines.append(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n")
        return self.made(200, "text/event-stream", "".join(lines), {})

    def failed(self, form: dict[str, Any], failure: NoAnswerError) -> Any:
        body = form["error"](failure.status, failure.kind, str(failure))
        return self.made(failure.status, "application/json", json.dumps(body), {KIND: failure.kind})

    def made(self, status: int, content_type: str, body: str, more: dict[str, str]) -> Any:
        content = body.encode("utf-8")
        headers = {"content-type": content_type, "content-length": str(len(content)), "x-should-retry": "false", **more}
        return self.library.Response(status, headers=headers, stream=self.library.ByteStream(content))
