"""What a harness may import: the door to the model, and the examples it learns from.

Inside the sandbox this file is the whole package `metaharness`. It uses the standard library only,
runs on Python 3.9 and later, and imports nothing that is slow to import.

    class Harness:
        def __init__(self) -> None: ...
        def learn(self, examples, model) -> None: ...      # optional, once per worker
        def predict(self, text, model) -> str: ...         # may be `async def`
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Protocol, Union

    Prompt = Union[str, Sequence[Mapping[str, Any]]]

    class Pending(Protocol):
        """An answer on its way."""

        def wait(self) -> dict[str, Any]:
            """Block the calling thread until the answer is there."""

        async def wait_async(self) -> dict[str, Any]:
            """Wait for the answer on the running asyncio loop."""


class ModelError(Exception):
    """A model call gave no answer.

    `kind` is `refused` (the request itself is at fault: too long, malformed, filtered), `infrastructure`,
    `budget`, `limit` (the case made too many calls) or `closed` (the case has ended). Catching it is allowed;
    a case in which a call failed for reasons outside the harness counts as missing all the same.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class LabeledExample:
    """One training example: `.text` and its `.label`."""

    __slots__ = ("label", "text")

    def __init__(self, text: str, label: str) -> None:
        self.text = text
        self.label = label

    def __repr__(self) -> str:
        return f"LabeledExample(text={self.text!r}, label={self.label!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabeledExample) and (self.text, self.label) == (other.text, other.label)

    def __hash__(self) -> int:
        return hash((self.text, self.label))


class Completion:
    """An answer of the model.

    `.text` is the concatenated text; `.tool_calls` a list of `{"id", "name", "input"}`; `.stop_reason` one of
    `end_turn`, `max_tokens`, `stop_sequence`, `tool_use`, `refusal`; `.usage` a dict of token counts;
    `.model` the name the provider reports.
    """

    __slots__ = ("model", "stop_reason", "text", "tool_calls", "usage")

    def __init__(self, record: dict[str, Any]) -> None:
        self.text: str = record.get("text", "")
        self.tool_calls: list[dict[str, Any]] = list(record.get("tool_calls") or ())
        self.stop_reason: str = record.get("stop_reason", "end_turn")
        self.usage: dict[str, int] = dict(record.get("usage") or {})
        self.model: str = record.get("model", "")

    def __repr__(self) -> str:
        return f"Completion(text={self.text!r}, stop_reason={self.stop_reason!r})"


class Model:
    """The door to the frozen model, for one case alone.

    It carries the case, so a call is attributed rightly from whichever thread makes it. After the case has
    ended every call raises `ModelError` of kind `closed`.
    """

    def __init__(self, send: Callable[[dict[str, Any]], Pending], seed: int) -> None:
        self._send = send
        self._seed = seed
        self._random: random.Random | None = None

    @property
    def random(self) -> random.Random:
        """A generator seeded by the run's seed, the case and the trial; the only randomness that replays."""
        if self._random is None:
            import random  # noqa: PLC0415 - slow to import and rarely needed

            self._random = random.Random(self._seed)
        return self._random

    def complete(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        **extra: Any,
    ) -> Completion:
        """Ask the model once and wait.

        Args:
            prompt: A string (one user message) or a list of `{"role", "content"}` messages, where content is a
                string or a list of blocks (`text`, `image`, `tool_use`, `tool_result`).
            system: The system prompt; None for none.
            tools: `{"name", "description", "input_schema"}` of each tool the model may call.
            response_format: Passed to the provider where it has one.
            max_tokens: Upper bound of the answer in tokens; None for the provider's default.
            temperature: Sampling temperature; None for the provider's default.
            extra: Any further parameter of the provider, passed on as it is.

        Raises:
            ModelError: The call gave no answer; `kind` says why.
        """
        named = {
            "system": system,
            "tools": list(tools) if tools is not None else None,
            "response_format": response_format,
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        return _completion(self._send(_request(prompt, {**extra, **named})).wait())

    def complete_many(self, prompts: Sequence[Prompt], **options: Any) -> list[Completion]:
        """Ask several prompts at the same time; the answers come in the order of the prompts.

        The options are those of `complete`. The first failure is raised after all calls have ended.
        """
        pending: list[Pending] = []
        try:
            for prompt in prompts:
                pending.append(self._send(_request(prompt, options)))
        finally:
            answers = [one.wait() for one in pending]
        return [_completion(answer) for answer in answers]

    async def acomplete(self, prompt: Prompt, **options: Any) -> Completion:
        """`complete` for an `async def predict`; the options are the same."""
        return _completion(await self._send(_request(prompt, options)).wait_async())


_NAMED = ("system", "tools", "response_format", "max_tokens", "temperature")


def _request(prompt: Prompt, options: dict[str, Any]) -> dict[str, Any]:
    if isinstance(prompt, str):
        messages: list[Any] = [{"role": "user", "content": prompt}]
    else:
        messages = [dict(message) for message in prompt]
    extra = {name: value for name, value in options.items() if name not in _NAMED}
    named = {name: options[name] for name in _NAMED if options.get(name) is not None}
    return {"messages": messages, **named, **({"extra": extra} if extra else {})}


def _completion(answer: dict[str, Any]) -> Completion:
    failure = answer.get("error")
    if failure is not None:
        raise ModelError(failure["kind"], failure["message"])
    return Completion(answer["completion"])
