"""A model that answers from a script: for tests, examples and demonstrations.

A script is a file of JSON lines, each a rule:

    {"contains": "capital of France", "text": "Paris"}
    {"text": "I do not know", "delay_ms": 5, "times": 3}
    {"error": {"kind": "infrastructure", "message": "overloaded", "status_code": 529}}

The first rule that matches answers; a rule whose `times` are used up is passed over. Empty lines and lines that begin
with `#` are skipped. The count of `times` begins anew in each process, also when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metaharness.errors import FailureKind, ModelFailure, UsageError
from metaharness.gateway.deadline import within
from metaharness.gateway.text import count_chars, last_user_text
from metaharness.messages import Completion, ModelRequest, StopReason, ToolCall, Usage

CHARS_PER_TOKEN = 4
"""For the usage of rules that state none."""


class ScriptedToolCall(BaseModel):
    """A tool the scripted model asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = ""
    """Empty: numbered within the answer."""
    name: str
    input: Any = Field(default_factory=dict)


class ScriptedError(BaseModel):
    """How a scripted call fails."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FailureKind
    message: str = "scripted failure"
    status_code: int | None = None


class Rule(BaseModel):
    """One line of a script."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contains: str | None = None
    """Matches when the last user text contains it, tool results included; None matches always."""
    text: str = ""
    tool_calls: tuple[ScriptedToolCall, ...] = ()
    stop_reason: StopReason | None = None
    """None: `tool_use` with tool calls, `end_turn` without."""
    usage: Usage | None = None
    """None: counted from the characters."""
    delay_ms: float = Field(default=0, ge=0)
    error: ScriptedError | None = None
    """Fail in this way instead of answering."""
    times: int | None = Field(default=None, ge=1)
    """How many requests it serves; None serves all."""

    def answer(self, request: ModelRequest) -> Completion:
        """What the rule answers.

        Raises:
            ModelFailure: The rule is one that fails.
        """
        if self.error is not None:
            raise ModelFailure(self.error.kind, self.error.message, status_code=self.error.status_code)
        calls = [
            ToolCall(id=call.id or f"call_{number}", name=call.name, input=call.input)
            for number, call in enumerate(self.tool_calls)
        ]
        return Completion(
            text=self.text,
            tool_calls=calls,
            stop_reason=self.stop_reason or ("tool_use" if calls else "end_turn"),
            usage=self.usage or _usage(request, self.text),
            model="scripted",
        )


class ScriptedProvider:
    """Answers by rules, or by a function."""

    def __init__(self, rules: Sequence[Rule | Mapping[str, Any]] | Callable[[ModelRequest], Completion]) -> None:
        """Take the rules.

        Args:
            rules: In their order; or a function that answers a request, or raises ModelFailure.

        Raises:
            UsageError: A rule is malformed.
        """
        self._function = rules if callable(rules) else None
        self._rules = [] if callable(rules) else _rules((f"rule {i}", rule) for i, rule in enumerate(rules, 1))
        self._served = [0] * len(self._rules)

    @classmethod
    def read(cls, path: str | Path) -> ScriptedProvider:
        """Read a script.

        Raises:
            UsageError: The file cannot be read, or a line is not a rule; file and line are named.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the script {path} cannot be read: {error}", hint="give scripted:PATH") from error
        numbered = [(f"{path}, line {number}", line) for number, line in enumerate(lines, 1)]
        return cls(_rules((where, line) for where, line in numbered if line.strip() and not line.startswith("#")))

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        """Answer one request.

        Raises:
            ModelFailure: No rule matches, the rule fails, or its delay is longer than the deadline.
        """
        if self._function is not None:
            return self._function(request)
        rule = self._match(last_user_text(request))
        if rule.delay_ms:
            with within(deadline):
                await anyio.sleep(rule.delay_ms / 1000)
        return rule.answer(request)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _match(self, text: str) -> Rule:
        for number, rule in enumerate(self._rules):
            left = rule.times is None or self._served[number] < rule.times
            if left and (rule.contains is None or rule.contains in text):
                self._served[number] += 1
                return rule
        raise ModelFailure("refused", f"no rule of the script matches the request: {text[:200]!r}")


def _rules(given: Iterable[tuple[str, Rule | Mapping[str, Any] | str]]) -> list[Rule]:
    rules = []
    for where, rule in given:
        try:
            if isinstance(rule, str):
                rules.append(Rule.model_validate_json(rule))
            else:
                rules.append(Rule.model_validate(rule))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
            field = ".".join(map(str, problem["loc"]))
            raise UsageError(
                f"{where}: {f'{field}: ' if field else ''}{problem['msg']}",
                hint=f"a rule is one JSON object; its fields are {', '.join(Rule.model_fields)}",
            ) from error
    return rules


def _usage(request: ModelRequest, answer: str) -> Usage:
    return Usage(
        input_tokens=-(-count_chars(request) // CHARS_PER_TOKEN), output_tokens=-(-len(answer) // CHARS_PER_TOKEN)
    )
