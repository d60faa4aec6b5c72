"""A local server that speaks both wire formats: the Anthropic Messages API and OpenAI chat completions.

    with serve([Reply(text="Paris")]) as server:
        ...                                  # base URL: server.url for Anthropic, f"{server.url}/v1" for OpenAI
    server.requests[0].body["messages"]

A script is a list of replies, served in order, the last one again and again; or a function from a request to a reply.
Standard library only.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Fault = Literal["drop", "cut", "garble"]


@dataclass(frozen=True)
class Reply:
    """What the server answers to one request."""

    text: str = ""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    """`{"id", "name", "input"}`; an input that is a string is sent as it is: for OpenAI as raw arguments, for
    Anthropic as the raw JSON of a stream."""
    stop_reason: str | None = None
    """As the format spells it; None: what fits the answer."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    """Overrides fields of the format's usage record."""
    status: int = 200
    message: str = "scripted error"
    """The message of an error status."""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before the answer begins."""
    slow: float = 0.0
    """Seconds in the middle of the body."""
    fault: Fault | None = None
    """`drop`: close without an answer; `cut`: end the body before its announced length; `garble`: half the JSON."""
    body: Mapping[str, Any] | None = None
    """Sent as it is, instead of an answer made from the fields above."""


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: Mapping[str, str]
    """By lower-case name."""
    body: dict[str, Any]

    @property
    def last_text(self) -> str:
        """The content of the last message, if it is a string."""
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else ""


Script = Sequence[Reply] | Callable[[Received], Reply]


class WireServer:
    """A running server. `requests` holds what it received, in the order of arrival."""

    def __init__(self, script: Script) -> None:
        self.requests: list[Received] = []
        self.in_flight_peak = 0
        """The most requests that were being answered at the same time."""
        self._script = script
        self._in_flight = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._connections: set[socket.socket] = set()
        self._http = _Server(("127.0.0.1", 0), self)

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def run(self) -> None:
        """Serve until `close`."""
        self._http.serve_forever(poll_interval=0.02)

    def close(self) -> None:
        """End every connection and every handler."""
        self._closing.set()
        self._http.shutdown()
        with self._lock:
            for connection in self._connections:
                hang_up(connection)
        self._http.server_close()

    def wait(self, seconds: float) -> None:
        """Sleep, but wake when the server closes."""
        if seconds > 0:
            self._closing.wait(seconds)

    def reply_to(self, request: Received) -> Reply:
        """Record a request and choose its reply."""
        with self._lock:
            self.requests.append(request)
            number = len(self.requests) - 1
        if callable(self._script):
            return self._script(request)
        return self._script[min(number, len(self._script) - 1)]

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count a request while it is being answered."""
        with self._lock:
            self._in_flight += 1
            self.in_flight_peak = max(self.in_flight_peak, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    @contextmanager
    def connected(self, connection: socket.socket) -> Iterator[None]:
        """Know a connection while it is open."""
        with self._lock:
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)


@contextmanager
def serve(script: Script) -> Iterator[WireServer]:
    """Serve a script on a free port of the loopback interface."""
    server = WireServer(script)
    thread = threading.Thread(target=server.run, name="wire-server")
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def hang_up(connection: socket.socket) -> None:
    """Shut a connection down, if it is still up."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], owner: WireServer) -> None:
        self.owner = owner
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        with self.server.owner.connected(self.connection):
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Received(self.path, headers, body)
        with self.server.owner.answering():
            reply = self.server.owner.reply_to(request)
            self.server.owner.wait(reply.delay)
            if reply.fault == "drop":
                self.close_connection = True
                hang_up(self.connection)
            else:
                self._answer(request, reply)

    def do_HEAD(self) -> None:
        """What a client asks to see whether anything is here."""
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def _answer(self, request: Received, reply: Reply) -> None:
        form = _FORMS.get(request.path.partition("?")[0])
        if form is None:
            reply, form = Reply(status=404, message=f"no such path: {request.path}"), _FORMS["/v1/messages"]
        if reply.status >= 400:
            payload, kind = json.dumps(form.error(reply)).encode(), "application/json"
        elif request.body.get("stream"):
            payload, kind = form.events(request, reply).encode(), "text/event-stream"
        else:
            answer = form.answer(request, reply) if reply.body is None else reply.body
            payload, kind = json.dumps(answer).encode(), "application/json"
        if reply.fault == "garble":
            payload = payload[: len(payload) // 2]
        self._send(reply, payload, kind)

    def _send(self, reply: Reply, payload: bytes, kind: str) -> None:
        self.send_response(reply.status)
        for name, value in {"content-type": kind, "content-length": str(len(payload)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        half = len(payload) // 2
        if reply.fault == "cut":
            self.wfile.write(payload[:half])
            self.close_connection = True
        elif reply.slow:
            self.wfile.write(payload[:half])
            self.server.owner.wait(reply.slow)
            self.wfile.write(payload[half:])
        else:
            self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


# --- the two formats ----------------------------------------------------------------------------------------------


def _tokens(request: Received, reply: Reply) -> tuple[int, int]:
    """Invented, but the same for the same texts."""
    return len(json.dumps(request.body.get("messages"))) // 4, len(reply.text) // 4 + 1


def _sse(events: Sequence[tuple[str | None, Any]]) -> str:
    lines = []
    for name, data in events:
        lines.append(f"event: {name}\n" if name else "")
        lines.append(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n")
    return "".join(lines)


class _Anthropic:
    def answer(self, request: Received, reply: Reply) -> dict[str, Any]:
        sent, answered = _tokens(request, reply)
        text = [{"type": "text", "text": reply.text}] if reply.text else []
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": request.body["model"],
            "content": [*text, *({"type": "tool_use", **call} for call in reply.tool_calls)],
            "stop_reason": reply.stop_reason or ("tool_use" if reply.tool_calls else "end_turn"),
            "stop_sequence": None,
            "usage": {"input_tokens": sent, "output_tokens": answered, **reply.usage},
        }

    def error(self, reply: Reply) -> dict[str, Any]:
        return {"type": "error", "error": {"type": f"status_{reply.status}", "message": reply.message}}

    def events(self, request: Received, reply: Reply) -> str:
        whole = self.answer(request, reply)
        start = {**whole, "content": [], "stop_reason": None}
        events: list[tuple[str, dict[str, Any]]] = [("message_start", {"message": start})]
        for index, block in enumerate(whole["content"]):
            empty: dict[str, Any] = {**block, "input": {}}
            if block["type"] == "text":
                empty, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
            else:
                given = block["input"]
                raw = given if isinstance(given, str) else json.dumps(given)
                delta = {"type": "input_json_delta", "partial_json": raw}
            events.append(("content_block_start", {"index": index, "content_block": empty}))
            events.append(("content_block_delta", {"index": index, "delta": delta}))
            events.append(("content_block_stop", {"index": index}))
        stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        events.append(("message_delta", {"delta": stop, "usage": whole["usage"]}))
        events.append(("message_stop", {}))
        return _sse([(name, {"type": name, **data}) for name, data in events])


class _OpenAI:
    def answer(self, request: Received, reply: Reply) -> dict[str, Any]:
        calls = [self._tool_call(call) for call in reply.tool_calls]
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        if calls:
            message["tool_calls"] = calls
        stop = reply.stop_reason or ("tool_calls" if calls else "stop")
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": request.body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": stop}],
            "usage": self._usage(request, reply),
        }

    def error(self, reply: Reply) -> dict[str, Any]:
        return {"error": {"type": f"status_{reply.status}", "message": reply.message, "code": None, "param": None}}

    def events(self, request: Received, reply: Reply) -> str:
        whole = self.answer(request, reply)
        choice = whole["choices"][0]
        delta = dict(choice["message"])
        if "tool_calls" in delta:
            delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(delta["tool_calls"])]
        common = {**whole, "object": "chat.completion.chunk", "usage": None}
        first = {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        last = {**common, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
        chunks: list[Any] = [first, last]
        if (request.body.get("stream_options") or {}).get("include_usage"):
            chunks.append({**common, "choices": [], "usage": whole["usage"]})
        return _sse([(None, chunk) for chunk in [*chunks, "[DONE]"]])

    def _tool_call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        given = call["input"]
        arguments = given if isinstance(given, str) else json.dumps(given)
        return {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": arguments}}

    def _usage(self, request: Received, reply: Reply) -> dict[str, Any]:
        sent, answered = _tokens(request, reply)
        counted = {"prompt_tokens": sent, "completion_tokens": answered, "total_tokens": sent + answered}
        return {**counted, **reply.usage}


_FORMS: Mapping[str, _Anthropic | _OpenAI] = {"/v1/messages": _Anthropic(), "/v1/chat/completions": _OpenAI()}
