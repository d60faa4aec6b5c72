"""The proposer `chat`: one call per prompt to any model, without tools.

The calls go through the run's own gateway, so they are journalled, bounded and priced like any other. A prompt is in
the transcript before it is sent: a round that is resumed asks in the same words, and what was answered is not paid
again.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import anyio.to_thread

from metaharness.configuration import RunConfig
from metaharness.errors import MetaharnessError, ModelFailure, UsageError
from metaharness.messages import Completion, ModelRequest
from metaharness.pages import packaged
from metaharness.proposers.chat_answer import Answer, read_answer
from metaharness.proposers.chat_prompt import Asked, Cases, budget_lines, chat_request, chosen_cases, closed_part
from metaharness.proposers.prompts import skill_text
from metaharness.records import Attribution, Call, Proposal, Role
from metaharness.run import Round, Run
from metaharness.run.sessions import Session
from metaharness.store import TraceIndex
from metaharness.tools.desk import LEVELS

SKILL = "proposers/skills/chat.md"
SEALED_BY = "prompts alone"
"""It has no tools and opens no file: what it sees is what its prompts hold."""
_ROLE: Role = "proposer"
_FORMS = "--proposer-model anthropic:NAME, openai:NAME or scripted:PATH"


def check_chat(config: RunConfig) -> None:
    """Make sure that a run with this configuration can ask a model for candidates.

    Raises:
        UsageError: No model is named, it cannot write, or the skill cannot be read.
    """
    spec = config.models.get(_ROLE)
    if spec is None:
        raise UsageError("the proposer `chat` needs a model", hint=f"name it: {_FORMS}")
    if spec.provider == "embedded":
        raise UsageError(f"{spec.id} classifies and cannot write code", hint=f"name another: {_FORMS}")
    skill_text(config.proposing.skill, shipped_skill)


def shipped_skill() -> str:
    """The instructions that are shipped for a proposer without tools, with their tokens."""
    found = packaged(SKILL)
    if found is None:
        raise MetaharnessError(f"this installation lacks {SKILL}", hint="install metaharness again")
    return found.read_text(encoding="utf-8")


class ChatProposer:
    """Asks a model for candidates once a round, or so often as `candidates_per_proposal` goes into its places."""

    def __init__(self, run: Run) -> None:
        """Take its model, its skill and its knobs from a run that is open for recording.

        Raises:
            UsageError: As `check_chat`.
        """
        check_chat(run.config)
        self._run = run
        self._skill = skill_text(run.config.proposing.skill, shipped_skill)
        self._index: TraceIndex | None = None

    async def propose(self, round_: Round) -> AsyncGenerator[Proposal]:
        """The candidates of its answers; fewer than the round has places, where the model writes fewer.

        Raises:
            ModelFailure: There was no answer, or no candidate in one; what came before it was handed in.
            ConfigurationError: The model cannot be used.
        """
        before = _prompts(self._run, round_)
        with Session(self._run, round_, model=self._run.config.models[_ROLE], sealed_by=SEALED_BY) as session:
            asking = _Asking(self._run, round_, session, before)
            budget = next((row["lines"] for row in _rows(self._run, round_, "budget")), budget_lines(self._run))
            session.say("budget", lines=budget)
            taken = sum(one.proposal.round == round_.number for one in self._run.history)
            places = taken + len(round_.open_slots)
            written: list[Proposal] = []
            calls = math.ceil(places / (self._run.config.proposing.candidates_per_proposal or places))
            while len(written) < places and asking.calls < calls:
                room = places - len(written)
                turned = replace(round_, open_slots=round_.open_slots[-room:], turn=round_.turn + asking.calls)
                names = [one.name or f"candidate {place}" for place, one in enumerate(written, 1)]
                request = before.get(asking.calls) or await self._request(Asked(turned, names, budget))
                answer = await asking.ask(request)
                for proposal in answer.proposals[:room]:
                    written.append(proposal)
                    if len(written) > taken:  # those before it were submitted before the round was interrupted
                        yield replace(proposal, session=session.name)
                        session.handed_in(self._run.history.iterations[-1].number)
                if len(answer.proposals) > room:
                    session.say("left", candidates=[one.name for one in answer.proposals[room:]])

    async def _request(self, asked: Asked) -> ModelRequest:
        return chat_request(self._run, asked, self._skill, await self._cases(asked.round))

    async def _cases(self, round_: Round) -> Cases:
        """Cases of what the candidates are made from, where the run shows them."""
        run, parent = self._run, round_.parent
        if parent is None or LEVELS[run.config.history] < LEVELS["full"]:
            return Cases()
        if self._index is None or self._index.iteration != parent.number:
            self._index = run.store.trace_index(parent.number)
        await anyio.to_thread.run_sync(self._index.update)
        return chosen_cases(self._index, run.config.proposing, round_.history.objectives[0].best, round_.turn)


class _Asking:
    """The calls of one session."""

    def __init__(self, run: Run, round_: Round, session: Session, before: dict[int, ModelRequest]) -> None:
        self._run = run
        self._round = round_
        self._session = session
        self._paid = set() if not before else _answered(run, round_)
        self._began = time.monotonic()
        self.calls = 0
        """How many there were; also the ordinal of the next one."""

    async def ask(self, request: ModelRequest) -> Answer:
        """Ask once, and read what comes.

        Raises:
            ModelFailure: There is no answer or no candidate in it, or the session may not ask any more.
        """
        session, number = self._session, self.calls
        deadline = self._seconds_left()
        self.calls += 1
        session.say("prompt", call=number, request=request.model_dump(mode="json", exclude_none=True))
        attribution = Attribution(role=_ROLE, trial=self._round.number)  # each round asks anew, also in the same words
        door = self._run.machinery.doors.model
        call = await door.complete(request, attribution=attribution, ordinal=number, deadline=deadline)
        if call.error is not None:
            session.say("failed", call=number, error=call.error.model_dump(mode="json"))
            kind = "refused" if call.error.kind == "limit" else call.error.kind
            raise ModelFailure(kind, call.error.message, status_code=call.error.status_code)
        completion = Completion.model_validate(call.response)
        session.turn()
        if number not in self._paid:
            session.count(call)
        session.say("answer", call=number, text=completion.text, stop_reason=completion.stop_reason)
        return self._read(completion, call)

    def _read(self, completion: Completion, call: Call) -> Answer:
        known = [one.number for one in closed_part(self._round)]
        answer = read_answer(completion.text, known=known, cut=completion.stop_reason == "max_tokens")
        if answer.faults:
            self._session.say("unusable", candidates=answer.faults)
        if not answer.proposals:
            raise ModelFailure("refused", _nothing(completion, answer, call))
        return answer

    def _seconds_left(self) -> float:
        """How long the next call may take, where the session may make one."""
        proposing, record = self._run.config.proposing, self._session.record
        left = proposing.timeout - (time.monotonic() - self._began)
        if self.calls and left <= 0:
            raise ModelFailure("refused", f"the session took more than its {proposing.timeout:,.0f} seconds")
        if self.calls and proposing.usd is not None and (record.usd or 0) >= proposing.usd:
            raise ModelFailure("refused", f"the session has spent its ${proposing.usd:g}")
        return max(left, 1.0)


def _nothing(completion: Completion, answer: Answer, call: Call) -> str:
    """Why an answer holds no candidate that can be used."""
    if completion.stop_reason == "refusal":
        return f"{call.model} refused to answer: {completion.text[:200]!r}"
    told = "; ".join(answer.faults[:5])
    if completion.stop_reason == "max_tokens":
        return (
            f"the answer of {call.model} ended at the bound on its length before a candidate was whole {told}".strip()
        )
    if not completion.text.strip():
        return f"{call.model} answered nothing"
    return told or f"the answer of {call.model} holds no candidate: no fenced block of a file"


def _prompts(run: Run, round_: Round) -> dict[int, ModelRequest]:
    """What was asked in this round before it was interrupted, by the number of the call."""
    return {row["call"]: ModelRequest.model_validate(row["request"]) for row in _rows(run, round_, "prompt")}


def _answered(run: Run, round_: Round) -> set[int]:
    """The calls that an earlier session of this round has counted."""
    return {row["call"] for row in _rows(run, round_, "answer")}


def _rows(run: Run, round_: Round, kind: str) -> list[dict[str, Any]]:
    sessions = run.store.sessions
    names = [name for name in sessions.names() if name.startswith(f"{round_.number:03d}-")]
    return [row for name in names for row in sessions.transcript(name) if row["kind"] == kind]
