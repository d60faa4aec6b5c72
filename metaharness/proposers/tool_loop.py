"""The proposer `tool-loop`: a model behind the Messages API in a conversation with the tools, without MCP.

One session a round. A tool call that does not fit is answered with what is valid; a session that hands in nothing is a
failed round. What this does not guard: dollars of a session exceed `ProposerConfig.usd` by what one answer costs.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from metaharness.configuration import RunConfig
from metaharness.errors import ConfigurationError, MetaharnessError, ModelFailure, UsageError
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers import address
from metaharness.gateway.providers.anthropic import KEY
from metaharness.gateway.providers.anthropic_stream import MessagesStream, StreamedMessage
from metaharness.gateway.providers.remote import key_variable, load_sdk, read_key
from metaharness.messages import ModelSpec, ToolCall, Usage
from metaharness.proposers.conversation import Block, Conversation
from metaharness.proposers.prompts import filled, skill_text, task_text
from metaharness.proposers.toolbox import Toolbox
from metaharness.records import Proposal
from metaharness.run import Round, Run
from metaharness.run.sessions import Session
from metaharness.tools import Desk, seat_tools, seated
from metaharness.tools.arguments import in_words

SEALED_BY = "tools alone"
"""Such a proposer runs no code and opens no file: what it sees is what the tools answer."""
TOO_LONG = (400, 413)
"""How an endpoint refuses a conversation that is too long, among others."""
FOR_THE_REPORT = 0.1
"""Share of a session's time that is not waited through, but left for what follows an evaluation."""
LAST_TURNS = 3
"""Answers before the end of which it is told how many are left."""
REMINDER = (
    "Nothing was handed in, and an answer without a tool call ends this session. Hand in a candidate with "
    "write_harness now, or end."
)
LEFT = "Answers left in this session: {left}. Hand in, evaluate, report."
CUT = "The answer was cut at {limit:,} tokens. Go on from there, in shorter steps."
CUT_CALL = (
    "the answer was cut at {limit:,} tokens, in the middle of this call, so it was not made\n"
    "hint: make it again with less around it; write_harness takes a `diff` from `base` instead of whole `files`"
)


def check_tool_loop(config: RunConfig) -> None:
    """Make sure that the proposer can begin, before anything is paid for.

    Raises:
        UsageError: No model of the Messages API is configured, the skill cannot be read, or dollars are bounded and the
            price of the model is not known.
        ConfigurationError: The package or the key is missing.
    """
    spec, proposing, prices = _model(config), config.proposing, PriceTable(config.prices)
    skill_text(proposing.skill)
    if proposing.usd is not None and prices.price(spec) is None:
        raise UsageError(
            f"a session may cost {proposing.usd:g} dollars and the price of {spec.id} is unknown",
            hint=f"bound its turns instead, or {prices.advice(spec)}",
        )
    load_sdk("anthropic")
    read_key(key_variable(KEY, address(spec)))


def _model(config: RunConfig) -> ModelSpec:
    spec = config.models.get("proposer")
    if spec is None or spec.provider != "anthropic":
        what = "names none" if spec is None else f"names {spec.id}"
        raise UsageError(
            f"the proposer tool-loop needs a model behind the Anthropic Messages API; the configuration {what}",
            hint="name it: --proposer-model anthropic:NAME, with --proposer-base-url where it is not Anthropic's own, "
            "such as https://api.moonshot.ai/anthropic",
        )
    return spec


class ToolLoopProposer:
    """Writes the candidates of a round in one conversation."""

    def __init__(self, run: Run) -> None:
        """Take the run that it writes for.

        Raises:
            UsageError: As `check_tool_loop`.
        """
        self._run = run
        self._spec = _model(run.config)
        self._skill = skill_text(run.config.proposing.skill)

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        """What one session hands in.

        Raises:
            ModelFailure: The endpoint gives no answer.
            ConfigurationError: The package or the key is missing.
        """
        system = filled(self._skill, self._run.config.proposing, round_)

        async def work(desk: Desk, session: Session) -> None:
            stream = MessagesStream(self._spec)
            try:
                talk = _Talk(self._run.config, session, stream, Toolbox(desk, seat_tools()), system)
                await talk.hold(task_text(self._run, round_))
            finally:
                with anyio.CancelScope(shield=True):
                    await stream.aclose()

        session = Session(self._run, round_, model=self._spec, sealed_by=SEALED_BY)
        with TemporaryDirectory() as empty:
            async with aclosing(seated(self._run, round_, session, Path(empty), work)) as proposals:
                async for proposal in proposals:
                    yield proposal


class _Talk:
    """The conversation of one session."""

    def __init__(
        self, config: RunConfig, session: Session, stream: MessagesStream, toolbox: Toolbox, system: str
    ) -> None:
        self._proposing = config.proposing
        self._prices = PriceTable(config.prices)
        self._session = session
        self._stream = stream
        self._toolbox = toolbox
        self._said = Conversation(system, toolbox.shown)
        self._scope = anyio.CancelScope()
        self._reminded = False

    async def hold(self, task: str) -> None:
        """Go on until the model ends it, or a limit does; the session's state says which.

        Raises:
            ModelFailure: The endpoint gives no answer.
        """
        self._session.say("system", text=self._said.system)
        self._session.say("tools", tools=self._said.tools)
        self._tell(task)
        with anyio.move_on_after(self._proposing.timeout) as self._scope:
            try:
                await self._turns()
            except ModelFailure as failure:
                if failure.kind != "budget":
                    raise
                self._end("budget", failure.message)
        if self._scope.cancelled_caught:
            self._end("timeout", f"{self._proposing.timeout:g} seconds are over")

    async def _turns(self) -> None:
        limit = self._proposing.usd
        for left in reversed(range(self._proposing.max_turns)):
            spent = self._session.record.usd
            if limit is not None and (spent is None or spent >= limit):
                return self._end("usd", f"{limit:g} dollars are spent")
            answer = await self._ask()
            self._said.add("assistant", answer.content)
            if answer.stop_reason == "refusal":
                return self._end("refusal", "the model refuses to go on")
            if not (await self._run_tools(answer) or self._goes_on(answer)):
                return None
            if 0 < left <= LAST_TURNS:
                self._tell(LEFT.format(left=left))
        return self._end("turns", f"{self._proposing.max_turns} answers were given")

    def _end(self, state: str, why: str) -> None:
        self._session.state = state
        self._session.say("end", state=state, why=why)

    def _tell(self, text: str) -> None:
        self._said.add("user", [{"type": "text", "text": text}])
        self._session.say("user", text=text)

    # -- an answer -----------------------------------------------------------------------------------------------

    async def _ask(self) -> StreamedMessage:
        """The next answer. It is asked for again once where it broke off, and once, shortened, where it is refused."""
        again = {"broken", "refused"}
        while True:
            answer = StreamedMessage()
            try:
                await self._send(answer)
            except ModelFailure as failure:
                broken = failure.kind == "infrastructure" and answer.usage is not None
                how = "broken" if broken else "refused" if failure.status_code in TOO_LONG else None
                if how not in again or (how == "refused" and not self._shorten()):
                    raise
                again.remove(how)
                self._session.say("again", why=failure.message)
            else:
                return answer

    async def _send(self, answer: StreamedMessage) -> None:
        parameters = {"max_tokens": self._proposing.max_tokens, **self._said.parameters()}
        with self._session.allowed(self._said.request(self._proposing.max_tokens)):
            began = time.monotonic()
            try:
                await self._stream.ask(parameters, answer)
            finally:
                self._charge(answer, (time.monotonic() - began) * 1000)
        self._session.turn()
        self._session.say("answer", content=answer.content, stop_reason=answer.stop_reason, model=answer.model)

    def _charge(self, answer: StreamedMessage, latency_ms: float) -> None:
        """Record what an answer has cost, as far as it was told; also of one that broke off."""
        usage, spec = answer.usage, self._session.model
        if spec is None or (usage is None and answer.stop_reason is None):
            return
        self._session.charge(
            usage or Usage(),
            usd=None if usage is None else self._prices.cost(spec, usage),
            latency_ms=latency_ms,
            request={"session": self._session.name, "messages": len(self._said.messages)},
            response={"stop_reason": answer.stop_reason, "usage": None if usage is None else usage.model_dump()},
        )

    def _shorten(self) -> bool:
        gone = self._said.shorten()
        if gone:
            self._session.say("cut", characters=gone)
        return bool(gone)

    # -- what follows it -----------------------------------------------------------------------------------------

    async def _run_tools(self, answer: StreamedMessage) -> bool:
        """Call the tools that an answer asks for, one after another; False where it asks for none."""
        results = [await self._result(call, cut=call.id == answer.cut_call) for call in answer.calls]
        self._said.add("user", results)
        return bool(results)

    async def _result(self, call: ToolCall, *, cut: bool) -> Block:
        failed = True
        room = (self._scope.deadline - anyio.current_time()) - FOR_THE_REPORT * self._proposing.timeout
        try:
            if cut:
                text = CUT_CALL.format(limit=self._proposing.max_tokens)
            else:
                text, failed = await self._toolbox.answer(call, room), False
        except MetaharnessError as error:
            if _ends_the_run(error):
                raise
            text = in_words(error)
        self._session.say("result", tool=call.name, id=call.id, error=failed, text=text)
        block = {"type": "tool_result", "tool_use_id": call.id, "content": text}
        return block | {"is_error": True} if failed else block

    def _goes_on(self, answer: StreamedMessage) -> bool:
        """Whether a conversation goes on after an answer that asks for no tool."""
        if answer.stop_reason == "pause_turn":
            return True
        if answer.stop_reason in ("max_tokens", "model_context_window_exceeded"):
            if answer.stop_reason == "model_context_window_exceeded":
                self._shorten()
            self._tell(CUT.format(limit=self._proposing.max_tokens))
            return True
        if self._session.record.iterations or self._reminded:
            return False
        self._reminded = True
        self._tell(REMINDER)
        return True


def _ends_the_run(error: MetaharnessError) -> bool:
    """Whether an error is nothing that the model could do otherwise, and the same for all that follows."""
    return isinstance(error, ConfigurationError) or (isinstance(error, ModelFailure) and error.kind == "configuration")
