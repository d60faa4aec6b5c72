"""The prompt of the proposer `chat`: all that a model without tools is told about a round.

The same run gives the same prompt: there is no time in it, and no random mark, so that its answer can be found again in
a cache. It shows closed rounds alone, and of those what the run's `history` lets a proposer see.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from metaharness.configuration import ProposerConfig
from metaharness.history import History
from metaharness.memory import lessons_text, lessons_told, offered_to
from metaharness.messages import Message, ModelRequest
from metaharness.proposers.chat_facts import facts_of
from metaharness.proposers.prompts import candidates_asked, filled
from metaharness.records import CaseTrace
from metaharness.run import Round, Run
from metaharness.run.bounds import bound_states, state_line
from metaharness.scoring.scoreboard import Iteration, Scoreboard, format_objectives
from metaharness.store import TraceIndex
from metaharness.tools.cases import case_text
from metaharness.tools.desk import LEVELS
from metaharness.tools.text import cut, fenced

LEAST_ROWS = 50
"""The latest candidates that are in the table in any case."""
SAID = 400
"""Characters of a hypothesis in the table."""
ANSWER = """\
# Your answer

Write {wanted}. For each, first a header of this form, then every file of it, whole, in a fenced block:

## Candidate: name_of_the_mechanism
hypothesis: one sentence that the evaluation can prove wrong
axis: what it changes
components: the parts that it touches, with commas
predicted effect: how much, and in which cases
parents: the numbers of the iterations that it is made from
reasoning: why, with the evidence; as many lines as it needs

````python harness.py
the whole file
````

The path stands after the language; other files, such as `helper.py`, follow in blocks of their own. A fence has four
backticks. No file is shortened ("rest as before"): what is not in a block does not exist. Nothing follows the last
block."""


@dataclass(frozen=True)
class Cases:
    """Cases of the parent that are shown."""

    failed: Sequence[CaseTrace] = ()
    failures: int = 0
    """How many there are."""
    solved: Sequence[CaseTrace] = ()
    successes: int = 0


@dataclass(frozen=True)
class Asked:
    """What is to be asked for now."""

    round: Round
    """With the places that are still open, and the turn that its axes are turned by."""
    written: Sequence[str] = ()
    """Names of the candidates that were written before in this round."""
    budget: Sequence[str] = ()
    """What is left of the budget, a line per bound: as the round began, for what it has spent since depends on time."""


def chat_request(run: Run, asked: Asked, skill: str, cases: Cases) -> ModelRequest:
    """The prompt as it is sent.

    Args:
        run: Open for recording.
        asked: What is asked for.
        skill: The instructions, with their tokens.
        cases: Of the parent, as `chosen_cases` gives them.
    """
    round_, proposing = asked.round, run.config.proposing
    redact = run.domain.redact
    text = redact("\n\n".join(part for part in _parts(run, asked, cases) if part))
    instructions = redact(filled(skill, proposing, round_).strip())
    return ModelRequest(
        messages=[Message(role="user", content=text)],
        system=instructions or None,
        max_tokens=proposing.max_tokens,
    )


def _parts(run: Run, asked: Asked, cases: Cases) -> list[str]:
    round_, proposing, level = asked.round, run.config.proposing, LEVELS[run.config.history]
    seen = closed_part(round_)
    parts = [
        _about_domain(round_),
        _about_run(run, asked),
        _table(seen, round_.history, proposing, told=level >= 1),
        *_sources(seen, round_, proposing),
    ]
    if level >= 1:
        parts.append(_reports(seen, round_.history, proposing.reports_in_prompt, cases=level >= 2))
    if level >= 2:
        parts += _case_parts(round_.parent, cases, proposing)
    return [*parts, _lessons(run), _task(asked, proposing)]


def _lessons(run: Run) -> str:
    """What earlier runs of the domain have taught, where the run is offered it."""
    lessons = offered_to(run.store.path.parent, run.record)
    told = lessons_told(lessons)
    return f"# What earlier runs have taught\n\n{told}\n\n{_data('lessons', lessons_text(lessons))}" if lessons else ""


def closed_part(round_: Round) -> list[Iteration]:
    """The candidates that a prompt may be about: what its own round has brought so far is not among them."""
    return [one for one in round_.history if one.proposal.round < round_.number]


def _about_domain(round_: Round) -> str:
    domain = round_.domain
    parts = [f"# The domain: {domain.name}", domain.instructions().strip() or "There is no description."]
    driver, requirements = domain.driver(), domain.requirements()
    if driver is not None:
        parts.append(f"## How a harness is called: {driver.name}\n\n{_code(driver.read_text(encoding='utf-8'))}")
    if requirements is not None:
        listed = requirements.read_text(encoding="utf-8").strip()
        parts.append(f"## What a harness may import beside the standard library\n\n{_code(listed)}")
    return "\n\n".join(parts)


def budget_lines(run: Run) -> list[str]:
    """Where each bound of the budget stands now."""
    return [state_line(state) for state in bound_states(run.ledger)]


def _about_run(run: Run, asked: Asked) -> str:
    round_, config = asked.round, run.config
    history = round_.history
    made = sum(_counts(one) and one.proposal.round < round_.number for one in run.history)
    baselines = ", ".join(f"{one.number:03d} {one.proposal.name}" for one in history if one.is_baseline)
    facts = [
        f"objectives: {format_objectives(history.objectives)}; the first decides",
        f"frozen model: {config.models['target'].id}; trials: {config.trials}",
        f"candidates handed in before this round: {made} of {config.iterations}",
        f"baselines: {baselines}",
        *history.origin,
        *asked.budget,
    ]
    return "# The search\n\n" + "\n".join(f"- {fact}" for fact in facts)


def _counts(one: Iteration) -> bool:
    """Whether a candidate is one of those that the run was asked for."""
    return not (one.is_baseline or one.is_inherited or one.proposal.by_hand)


def _table(seen: Sequence[Iteration], history: History, proposing: ProposerConfig, *, told: bool) -> str:
    board = Scoreboard.of(seen, history.objectives)
    latest = seen[-max(proposing.summary_max_rows, LEAST_ROWS) :]
    shown = {one.number for one in latest} | {one.number for one in seen if one.is_baseline}
    shown |= set() if board.incumbent is None else {board.incumbent}
    parts = ["# Who stands where", _data("scoreboard", board.text(only=shown))]
    if len(shown) < len(seen):
        parts.append(f"{len(seen) - len(shown)} earlier candidates are left out.")
    said = [_hypothesis(one) for one in seen if one.number in shown and one.proposal.hypothesis]
    if told and said:
        parts += ["What each was for:", _data("hypotheses", "\n".join(said))]
    return "\n\n".join(parts)


def _hypothesis(one: Iteration) -> str:
    axis = f" [{' '.join(one.proposal.axis.split())[:80]}]" if one.proposal.axis else ""
    return f"{one.number:03d}{axis} {cut(' '.join(one.proposal.hypothesis.split()), SAID)}"


def _sources(seen: Sequence[Iteration], round_: Round, proposing: ProposerConfig) -> list[str]:
    """The parent's source in full, then the best baseline's and those of the best others."""
    objective, parent = round_.history.objectives[0], round_.parent
    sign = -1 if objective.direction == "max" else 1

    def rank(one: Iteration) -> tuple[float, int]:
        found = None if one.score is None else one.score.objectives.get(objective.name)
        return (0.0 if found is None else sign * found.mean, one.number)

    ranked = sorted((one for one in seen if one.state == "complete" and one is not parent), key=rank)
    ranked = [one for one in ranked if parent is None or one.number != parent.number]
    baseline = [] if parent is not None and parent.is_baseline else [one for one in ranked if one.is_baseline][:1]
    best = [one for one in ranked if one not in baseline][: proposing.top_k_sources]
    parts = [] if parent is None else [_source(round_.history, parent, "what you build on")]
    parts += [_source(round_.history, one, "among the best") for one in best]
    return parts + [_source(round_.history, one, "the best baseline") for one in baseline]


def _source(history: History, one: Iteration, why: str) -> str:
    files = sorted(history.store.files(one.number).items())
    text = "\n".join(f"--- {path}\n{content.rstrip()}" for path, content in files)
    return f"# Source of {one.number:03d}: {why}\n\n{_data('source', text)}"


def _reports(seen: Sequence[Iteration], history: History, most: int, *, cases: bool) -> str:
    """The newest reports; of a candidate that nobody has reported on, what the numbers say."""
    newest = [one for one in seen if not one.is_baseline][-most:] if most else []
    parts = []
    for one in newest:
        report = history.store.report(one.number)
        said = report.strip() if report and report.strip() else facts_of(history, one, cases=cases)
        parts.append(f"--- {one.number:03d}\n{said}")
    return "" if not parts else f"# What came of the latest candidates\n\n{_data('reports', chr(10).join(parts))}"


def chosen_cases(index: TraceIndex, proposing: ProposerConfig, best: float | None, turn: int) -> Cases:
    """Cases of an iteration to show: each turn others, until all were shown.

    Args:
        index: Of its trace, up to date.
        proposing: How many.
        best: The best that a case can score; None where that is not bounded.
        turn: Whose turn it is.
    """
    failed, solved = [], []
    for row in sorted(index.rows().rows, key=lambda row: (row.case_id, row.trial)):
        right = row.status == "ok" and (best is None or row.value == best)
        if right:
            solved.append(row)
        elif row.status not in ("infrastructure", "budget", "evaluator_error", "skipped"):
            failed.append(row)
    order = random.Random(0)
    shown = []
    for rows, most in ((failed, proposing.trace_errors), (solved, proposing.trace_successes)):
        order.shuffle(rows)
        first = turn * most % len(rows) if rows else 0
        turned = rows[first:] + rows[:first]
        shown.append([index.trace(row) for row in turned[:most]])
    return Cases(shown[0], len(failed), shown[1], len(solved))


def _case_parts(parent: Iteration | None, cases: Cases, proposing: ProposerConfig) -> list[str]:
    number = 0 if parent is None else parent.number
    parts = []
    for what, shown, total in (
        ("failed", cases.failed, cases.failures),
        ("came out right", cases.solved, cases.successes),
    ):
        if shown:
            texts = [shortened(case_text(one, calls=True, timed=False), proposing.trace_max_chars) for one in shown]
            head = f"# Cases that {what} with {number:03d}: {len(shown)} of {total:,}"
            parts.append(f"{head}\n\n{_data('trace', chr(10).join(texts))}")
    return parts


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters, beside the words that say how many are left out of its middle."""
    if len(text) <= most:
        return text
    head = max(1, most * 2 // 3)
    tail = most - head
    return (
        f"{text[:head]}\n[... {len(text) - most:,} characters left out ...]\n{text[len(text) - tail :] if tail else ''}"
    )


def _task(asked: Asked, proposing: ProposerConfig) -> str:
    count = candidates_asked(proposing, asked.round)
    text = ANSWER.format(wanted="1 candidate" if count == 1 else f"{count} candidates")
    if asked.written:
        text = f"In this round you have already written: {', '.join(asked.written)}. Write others.\n\n{text}"
    return text


def _data(kind: str, text: str) -> str:
    return fenced(kind, text, same=True)


def _code(text: str) -> str:
    return f"````\n{text.strip()}\n````"
