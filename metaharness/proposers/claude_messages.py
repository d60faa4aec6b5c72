"""What the client of claude-agent-sdk says in a session: kept in the transcript, and counted while it goes on.

Each call is charged as its stream ends, so a session that is killed has paid for what it has got. What the client adds
up at the end is charged where it is more; its dollars are not taken: it prices a model that it does not know like one
that it knows.
"""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any

from metaharness.errors import ModelFailure
from metaharness.gateway.providers.anthropic import KEY, read_usage
from metaharness.gateway.providers.remote import MESSAGE_CHARS, failure_kind
from metaharness.messages import Usage
from metaharness.proposers.purse import Purse
from metaharness.run.sessions import Session

LIMITS = {"error_max_turns": "turns", "error_max_budget_usd": "usd"}
"""How the client says that a session has reached a limit, and the state that it then ends in."""
TOTALS = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "cacheReadInputTokens": "cache_read_input_tokens",
    "cacheCreationInputTokens": "cache_creation_input_tokens",
}


class Following:
    """Takes the messages of one session in their order."""

    def __init__(self, session: Session, purse: Purse) -> None:
        self._session = session
        self._purse = purse
        self._answer: dict[str, Any] | None = None
        """The one that is being streamed: its model, and its usage so far."""
        self._began = time.monotonic()
        self._charged = Usage()
        self.answered = False
        """Whether the client has ended its answer to the task."""
        self.over = False
        """Whether a limit was reached, so that the client is to be ended."""

    def take(self, message: Any) -> None:
        """One message of the SDK.

        Raises:
            ModelFailure: The endpoint gives no answer; of kind `configuration` where no further round would get one.
        """
        match type(message).__name__:
            case "StreamEvent":
                self._stream(message.event)
            case "SystemMessage" if message.subtype == "status":
                self._requesting()
            case "ResultMessage":
                self.answered = True
                self._say(message)
                self._rest(message.model_usage or {})
                self._ended(message)
            case kind:
                self._say(message)
                if kind == "SystemMessage" and message.subtype == "api_retry":
                    _check_refused(message.data.get("error_status"), str(message.data.get("error")))

    def close(self) -> None:
        """Charge what an answer that was cut off has cost as far as it is known, and hold nothing any more."""
        self._charge()
        self._purse.release()

    def _say(self, message: Any) -> None:
        row = plain(message)
        self._session.say(row.pop("type"), **row)

    def _requesting(self) -> None:
        self._charge()
        self._began = time.monotonic()
        if not self._purse.allows():
            self._stop("budget", "the budget of the run does not allow another answer")

    def _stop(self, state: str, why: str) -> None:
        self._session.limited(state, why)
        self.over = True

    # -- what it costs ---------------------------------------------------------------------------------------------

    def _stream(self, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "message_start":
                self._charge()
                message = event["message"]
                self._answer = {"model": message.get("model"), "usage": _counts(message)}
                self._session.turn()
            case "message_delta" if self._answer is not None:
                self._answer["usage"] |= _counts(event)
                self._answer["stop_reason"] = (event.get("delta") or {}).get("stop_reason")
            case "message_stop":
                self._charge()

    def _charge(self) -> None:
        if self._answer is None:
            return
        answer, self._answer = self._answer, None
        self._pay(read_usage({"input_tokens": 0, "output_tokens": 0} | answer["usage"]), answer)

    def _rest(self, by_model: dict[str, Any]) -> None:
        """What the client has counted beyond the streams: answers that it asked for without one."""
        self._charge()
        counts = {name: sum(int(one.get(told) or 0) for one in by_model.values()) for told, name in TOTALS.items()}
        whole, paid = read_usage(counts), self._charged
        rest = {name: max(0, getattr(whole, name) - getattr(paid, name)) for name in Usage.model_fields}
        if rest["input_tokens"] or rest["output_tokens"]:
            self._pay(Usage(**rest), {"model": ", ".join(by_model)})

    def _pay(self, usage: Usage, answer: dict[str, Any]) -> None:
        usd = self._purse.cost(usage)
        self._purse.spend(usd)
        paid = self._charged
        self._charged = Usage(**{name: getattr(paid, name) + getattr(usage, name) for name in Usage.model_fields})
        told = {name: answer[name] for name in ("model", "stop_reason") if answer.get(name)}
        latency = (time.monotonic() - self._began) * 1000
        self._session.charge(usage, usd=usd, latency_ms=round(latency, 3), response=told)
        if self._purse.empty:
            self._stop("usd", "it has cost what one session may cost")

    # -- how it ends -----------------------------------------------------------------------------------------------

    def _ended(self, result: Any) -> None:
        said = "; ".join(result.errors or []) or result.result or result.subtype
        if result.subtype in LIMITS:
            self._session.limited(LIMITS[result.subtype], said)
        elif result.is_error:
            _check_refused(result.api_error_status, said)
            kind = "infrastructure" if result.api_error_status is None else failure_kind(result.api_error_status)
            raise ModelFailure(kind, str(said)[:MESSAGE_CHARS], status_code=result.api_error_status)


def _counts(told: dict[str, Any]) -> dict[str, Any]:
    return {name: count for name, count in (told.get("usage") or {}).items() if count is not None}


def _check_refused(status: int | None, said: str) -> None:
    """A key that is refused is not asked with again, as the client would for minutes."""
    if status is None or failure_kind(status) != "configuration":
        return
    absent = "check the model's name and the base URL: the endpoint knows no such model there"
    hint = absent if status == 404 else f"check {KEY} and what it may use"
    raise ModelFailure(
        "configuration",
        f"the proposer's model is refused with status {status}: {said}"[:MESSAGE_CHARS],
        status_code=status,
        hint=hint,
    )


def plain(value: Any) -> Any:
    """A message or a part of one as JSON: `type` says what it is, and what it leaves open is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(value).__name__).lower()
        told = ((one.name, getattr(value, one.name)) for one in dataclasses.fields(value))
        kind = words.removesuffix("_message").removesuffix("_block")
        return {"type": kind} | {name: plain(one) for name, one in told if one is not None}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value
