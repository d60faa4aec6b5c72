"""The tools that write: begin a run, try and hand in a candidate, evaluate it, report on it.

None of them can raise a budget, choose a model, weaken the sandbox or open the sealed test.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
from pydantic import BaseModel, Field

from metaharness.configuration import AGENT, RunConfig
from metaharness.errors import MetaharnessError, UsageError
from metaharness.history import History
from metaharness.loading import shipped_domains
from metaharness.records import Rejection
from metaharness.run import Run
from metaharness.run.outside import end_round
from metaharness.run.trying import try_out
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import RunStore, list_runs
from metaharness.tools.candidates import candidate_of, placed
from metaharness.tools.cases import case_text
from metaharness.tools.desk import Call, Desk
from metaharness.tools.reading import InRun, Number
from metaharness.tools.recordings import Job
from metaharness.tools.text import cut, page_of_lines

REPORT_LINES = 30
Files = Annotated[dict[str, str], Field(description="Path to text: harness.py and what lies beside it")]
FilePath = Annotated[str, Field(description="Instead: a file or folder in the project")]
Diff = Annotated[str, Field(description="Instead: unified diff from `base`")]
Base = Annotated[int, Field(ge=-1, description="Iteration the diff is from; -1: incumbent")]
Wait = Annotated[float, Field(ge=0, le=3600, description="Seconds until it answers with progress")]


class Evaluated(BaseModel):
    """Where an evaluation stands."""

    run: str = Field(description="The run")
    state: str = Field(description="running, stopped, complete, incomplete, rejected or pending")
    iteration: int | None = Field(description="Which; null for the baselines of a new run")
    ended: int = Field(description="Cases that have ended since it began")
    planned: int = Field(description="Of how many, as far as known")
    seconds_left: float | None = Field(description="A guess; null when not running")
    mean: float | None = Field(description="Of the first objective")
    low: float | None = Field(description="Lower end of the 95% interval")
    high: float | None = Field(description="Upper end of the 95% interval")
    context_chars: float | None = Field(description="Characters sent to the model per case")
    verdict: str | None = Field(description="better, worse or indecisive against the round's incumbent")
    delta: float | None = Field(description="Mean difference to that incumbent")
    p: float | None = Field(description="Of the paired test")
    note: str = Field(description="What to do next")


async def start_run(
    call: Call,
    *,
    name: Annotated[str, Field(description="Id of the run; default: the time")] = "",
    domain: Annotated[str, Field(description="Folder or shipped name; default: that of the server")] = "",
    wait_seconds: Wait = 45,
) -> Evaluated:
    """Begin a run: its baselines are evaluated. An open run of the domain is gone on with instead.

    Model, budget and sandbox are those that the person has set.
    """
    desk = call.desk
    config = _config(desk, domain)
    async with desk.beginning():
        path = await desk.in_thread(lambda: _open_run_of(desk, config))
        if path is None:
            opening = partial(Run.create, config, desk.settings.root, name=name or None)
            run, job = await desk.recordings.begin(opening, end_round)
            path = run.store.path
        elif (history := desk.history(path)).closed_rounds:
            return _known(history, None, f"run {path.name} is open and is gone on with; call scoreboard")
        else:
            job = desk.recordings.job(path) or await desk.recordings.work(path, end_round)
    return await _waited(call, path, None, job, wait_seconds)


def _config(desk: Desk, domain: str) -> RunConfig:
    fields = dict(desk.settings.config)
    set_, wanted = fields.pop("domain", None), domain
    if set_ is not None and wanted and wanted != set_ and placed(desk.settings.project, wanted) != Path(set_).resolve():
        raise UsageError(f"the person has set the domain {set_}", hint="leave `domain` out")
    if set_ is None and not wanted:
        raise UsageError("no domain is set", hint=f"name one: a folder here, or {', '.join(shipped_domains())}")
    return RunConfig(domain=set_ or _domain_of_project(desk.settings.project, wanted), proposer=AGENT, **fields)


def _domain_of_project(project: Path, wanted: str) -> str:
    if wanted in shipped_domains():
        return wanted
    path = placed(project, wanted)
    if not path.is_relative_to(project.resolve()) or not path.is_dir():
        raise UsageError(f"there is no domain folder {wanted} in {project}", hint="`metaharness init NAME` makes one")
    return str(path)


def _open_run_of(desk: Desk, config: RunConfig) -> Path | None:
    """The open run of a domain: a new one beside it would have a budget of its own."""
    for path in reversed(list_runs(desk.settings.root)):
        if desk.is_open(path):
            of = RunStore.open(path, record=False).record.config
            if (of.domain, of.domain_options) == (config.domain, config.domain_options):
                return path
    return None


async def evaluate(
    call: Call,
    *,
    iteration: Annotated[int, Field(ge=-1, description="Which; -1: the one handed in last")] = -1,
    wait_seconds: Wait = 45,
    cancel: Annotated[bool, Field(description="Stop the evaluation that goes on")] = False,
    run: InRun = "",
) -> Evaluated:
    """Evaluate a candidate on the search split. It goes on when `wait_seconds` are over: the same call picks it up."""
    desk = call.desk
    path = desk.path(run)
    history = desk.history(path)
    job = desk.recordings.job(path)
    number = _asked(history, iteration)
    if cancel and job is not None:
        await desk.recordings.stop(path)
        return _known(desk.history(path), number, "")
    if cancel:
        return _known(history, number, "nothing was going on")
    if history.closed_rounds and (number is None or not _to_do(history, number)):
        return _known(history, number, "")
    if job is None:
        job = await desk.recordings.work(path, lambda opened: _evaluated(opened, number))
    return await _waited(call, path, number, job, wait_seconds)


def _asked(history: History, iteration: int) -> int | None:
    """The iteration that is meant; None for the baselines of a run that has no more yet."""
    if iteration >= 0:
        return history.iteration(iteration).number
    return history.iterations[-1].number if history.closed_rounds and len(history) else None


def _to_do(history: History, number: int) -> bool:
    """Whether it is not evaluated to the end, or its round is not closed."""
    one = history.iteration(number)
    return one.unfinished or one.verdict is None


async def _evaluated(run: Run, number: int | None) -> None:
    incomplete = number is not None and run.history.iteration(number).state == "incomplete"
    if incomplete and number is not None:
        await run.reopen(only=[number])
    else:
        await end_round(run)


async def _waited(call: Call, path: Path, number: int | None, job: Job, seconds: float) -> Evaluated:
    """Where it stands when it has ended, or when the time is over."""
    with anyio.move_on_after(seconds):
        while not job.done.is_set():
            with anyio.move_on_after(1.0):
                await job.done.wait()
            await call.progress(job.ended, job.planned or None, f"{job.ended} cases, {job.rate:.1f}/s")
    if not job.done.is_set():
        left = (job.planned - job.ended) / job.rate if job.ended and job.planned else None
        note = "it goes on; call evaluate again to wait for it, evaluate(cancel=true) stops it"
        return _known(call.desk.history(path), number, note, running=job, left=left)
    if job.error is not None:
        raise job.error
    return _known(call.desk.history(path), number, "")


def _known(
    history: History, number: int | None, note: str, *, running: Job | None = None, left: float | None = None
) -> Evaluated:
    """What is recorded of an iteration; of None: of the run."""
    one = None if number is None else history.iteration(number)
    score = None if one is None else one.score
    found = None if score is None else score.objectives.get(history.objectives[0].name)
    verdict = None if one is None else one.verdict
    scores = [each.score for each in history if each.score is not None and (one is None or each is one)]
    state = "running" if running is not None else _state(history, one)
    return Evaluated(
        run=history.record.run_id,
        state=state,
        iteration=number,
        ended=running.ended if running is not None else sum(each.ended for each in scores),
        planned=running.planned if running is not None else sum(each.planned for each in scores),
        seconds_left=left,
        mean=None if found is None else found.mean,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
        context_chars=None if score is None else score.context_chars,
        verdict=None if verdict is None else verdict.verdict,
        delta=None if verdict is None else verdict.delta,
        p=None if verdict is None else verdict.p,
        note=note or _next(state, one),
    )


_STOPPED = "stopped; call evaluate to go on"


def _state(history: History, one: Iteration | None) -> str:
    if one is not None:
        return one.state
    return "complete" if history.closed_rounds else "stopped"


def _next(state: str, one: Iteration | None) -> str:
    if one is None:
        return "the baselines are scored; call scoreboard" if state == "complete" else _STOPPED
    if state == "incomplete":
        if one.is_inherited:
            return "cases have no value; it is inherited from another run, so they are not asked again here"
        if one.score is not None and "budget" in one.score.statuses:
            return "the budget does not reach the cases that have no value; a person may raise it"
        return "cases have no value, for reasons outside the harness; call evaluate again to ask them once more"
    if state == "rejected":
        return f"read_trace(iteration={one.number}) shows why; mend it and hand it in again with write_harness"
    return "read what it got wrong with read_trace, then write_report" if state == "complete" else _STOPPED


class Written(BaseModel):
    """What became of files that were handed in."""

    run: str = Field(description="The run")
    iteration: int = Field(description="Its number")
    accepted: bool = Field(description="Whether it may be evaluated")
    stage: str | None = Field(description="Where the ladder rejected it")
    message: str | None = Field(description="Why")
    flags: list[str] = Field(description="What readers of its score are told")
    note: str = Field(description="What to do next")


async def write_harness(
    call: Call,
    *,
    name: Annotated[str, Field(max_length=80, description="Short name")],
    hypothesis: Annotated[str, Field(min_length=10, description="One sentence its evaluation can prove wrong")],
    files: Files = {},  # noqa: B006 - never changed
    path: FilePath = "",
    diff: Diff = "",
    base: Base = -1,
    reasoning: Annotated[str, Field(description="Why, with the evidence from traces")] = "",
    parents: Annotated[list[int], Field(description="Iterations it comes from; default: base or incumbent")] = [],  # noqa: B006
    axis: Annotated[str, Field(description="What it changes, such as retrieval")] = "",
    components: Annotated[list[str], Field(description="Parts it touches")] = [],  # noqa: B006
    predicted_effect: Annotated[str, Field(description="How much you expect")] = "",
    run: InRun = "",
) -> Written:
    """Hand in a candidate as the next iteration. Answers with what the ladder found; a rejected one is recorded too."""
    desk = call.desk
    where = desk.path(run)
    found = candidate_of(desk.history(where), files, path, diff, base, near=desk.settings.project)
    proposal = replace(
        found,
        reasoning=reasoning or found.reasoning,
        hypothesis=hypothesis,
        parents=tuple(parents) or found.parents,
        axis=axis or found.axis,
        components=tuple(components) or found.components,
        predicted_effect=predicted_effect or found.predicted_effect,
        name=name,
    )
    reads, known = desk.take_reads(where), len(desk.history(where))
    try:
        one = await desk.recordings.hand_in(where, replace(proposal, reads=tuple(reads)))
    except MetaharnessError:
        if len(desk.history(where)) == known:
            desk.give_back_reads(where, reads)
        raise
    rejection = one.rejection
    return Written(
        run=where.name,
        iteration=one.number,
        accepted=rejection is None,
        stage=None if rejection is None else rejection.stage,
        message=None if rejection is None else _told(rejection),
        flags=one.proposal.flags,
        note="mend it and hand it in again" if rejection is not None else f"call evaluate(iteration={one.number})",
    )


def _told(rejection: Rejection) -> str:
    trace = (rejection.traceback or "").strip()
    return rejection.message if not trace else f"{rejection.message}\n{trace[-2000:]}"


async def check_harness(
    call: Call,
    *,
    files: Files = {},  # noqa: B006 - never changed
    path: FilePath = "",
    diff: Diff = "",
    base: Base = -1,
    cases: Annotated[list[str], Field(max_length=3, description="Up to three train cases; default: the first")] = [],  # noqa: B006
    start_line: Annotated[int, Field(ge=1, description="First line of the traces")] = 1,
    run: InRun = "",
) -> str:
    """Try files on train cases before handing them in: what the ladder finds, and the full traces. Costs budget."""
    desk = call.desk
    where = desk.path(run)
    found = candidate_of(desk.history(where), files, path, diff, base, near=desk.settings.project).files
    async with desk.recordings.recording(where) as recorded:
        tried = await try_out(recorded, found, cases)
    named = ", ".join(cut(" ".join(case.split()), 100) for case in tried.cases)
    head = [f"train cases {named}; what `learn` is shown leaves them out"]
    if tried.rejection is not None:
        head.append(f"the ladder would reject it at {tried.rejection.stage}:")
    if tried.order_dependent:
        head.append("it answers otherwise in another order: `predict` must not depend on earlier calls")
    told = [] if tried.rejection is None else [_told(tried.rejection)]
    if desk.shows(desk.history(where), "full"):
        cases_text = [case_text(trace, calls=True) for trace in tried.traces]
    else:  # whether it works, and nothing of how
        cases_text = [f"{trace.case_id}: {trace.status}\n{trace.error or ''}".rstrip() for trace in tried.traces]
    text = "\n".join(told + cases_text)
    page = page_of_lines("trace", text, start_line) if text else "no case was asked"
    return call.seen(where, "try", "\n".join([*head, page]))


class Reported(BaseModel):
    """A report that was kept."""

    run: str = Field(description="The run")
    iteration: int = Field(description="The iteration it is about")
    path: str = Field(description="Where it lies")


async def write_report(
    call: Call,
    *,
    iteration: Number,
    text: Annotated[str, Field(min_length=1, description="What changed, what got better or worse and why; takeaway")],
    run: InRun = "",
) -> Reported:
    """Write the report of an evaluated iteration, at most 30 lines; a later one replaces it."""
    desk = call.desk
    where = desk.path(run)
    one = desk.history(where).iteration(iteration)
    if one.state == "pending":
        raise UsageError(
            f"iteration {iteration:03d} is not evaluated yet", hint=f"call evaluate(iteration={iteration})"
        )
    lines = text.strip().splitlines()
    if not lines:
        raise UsageError("the report is empty", hint="say what changed, what got better or worse, and why")
    if len(lines) > REPORT_LINES or len(text) > REPORT_LINES * 300:
        raise UsageError(
            f"a report of {len(lines)} lines and {len(text):,} characters is too long",
            hint=f"at most {REPORT_LINES} lines and {REPORT_LINES * 300:,} characters",
        )
    async with desk.recordings.recording(where) as recorded:
        path = recorded.store.write_report(iteration, "\n".join(lines) + "\n")
        recorded.store.event("reported", iteration=iteration)
    return Reported(run=where.name, iteration=iteration, path=str(path))
