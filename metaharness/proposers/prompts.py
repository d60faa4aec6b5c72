"""What every proposer is told: the skill, which says how to work, and the task of its round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from metaharness.configuration import ProposerConfig
from metaharness.errors import UsageError
from metaharness.pages import packaged, skill_page, skill_reference, without_frontmatter
from metaharness.run import Round, Run
from metaharness.run.bounds import bound_states, state_line

NO_SKILL = "none"
SKILL = "meta-harness"
PAGES = ("unattended", "reading-traces", "writing", "judging", "moves")
"""Pages of the skill for whoever has the tools and no files to open; its table of commands is left out."""


def skill_with_pages() -> str:
    """The shipped skill, with the pages that it refers to, as one text: for a proposer with the tools alone."""
    pages = [f"# references/{name}.md\n\n{skill_reference(SKILL, f'references/{name}.md').strip()}" for name in PAGES]
    return "\n\n---\n\n".join([skill_page(SKILL), *pages])


def skill_text(chosen: str | None, shipped: Callable[[], str] = skill_with_pages) -> str:
    """The instructions that a proposer works by, without frontmatter.

    Args:
        chosen: `ProposerConfig.skill`: a file, its path taken from the package, then from the working directory; None
            takes what is shipped, `none` is an empty text.
        shipped: Gives the instructions that are shipped for this kind of proposer.

    Raises:
        UsageError: There is no such file, or it is no text.
    """
    if chosen is None:
        return shipped()
    if chosen == NO_SKILL:
        return ""
    path = packaged(chosen) or Path(chosen)
    try:
        return without_frontmatter(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"the skill {chosen} cannot be read: {why}",
            hint="name a text file, such as skills/meta-harness/SKILL.md, by its path from the package or from here; "
            "or `none`",
        ) from error


def filled(text: str, proposing: ProposerConfig, round_: Round) -> str:
    """A skill with its tokens filled in for a round; other braces stay as they are.

    `{candidates_per_proposal}`: how many candidates are asked for at a time. `{exploitation_axes}`: the axes, a line
    each, of which every round puts the next one first.
    """
    axes = "\n".join(f"- {axis}" for axis in turned(proposing.axes, round_.turn))
    wanted = str(candidates_asked(proposing, round_))
    return text.replace("{candidates_per_proposal}", wanted).replace("{exploitation_axes}", axes)


def candidates_asked(proposing: ProposerConfig, round_: Round) -> int:
    """How many candidates one proposal is to hold: as configured, but no more than the round has places."""
    places = len(round_.open_slots)
    return min(proposing.candidates_per_proposal or places, places)


def turned(axes: Sequence[str], turn: int) -> list[str]:
    """The axes in their order, beginning with the one whose turn it is."""
    first = turn % len(axes) if axes else 0
    return [*axes[first:], *axes[:first]]


def round_lines(run: Run, round_: Round) -> list[str]:
    """What a proposer of any kind may know of its round, a fact a line; nothing of what earlier candidates came to."""
    objectives = ", ".join(f"{one.name} ({one.direction}imise)" for one in round_.history.objectives)
    return [
        f"run {run.record.run_id} of the domain {run.record.domain_name}, round {round_.number}",
        *round_.history.origin,
        f"objectives: {objectives}; the first decides",
        f"candidates that this round takes: {len(round_.open_slots)}",
        *(state_line(state) for state in bound_states(run.ledger)),
    ]


def task_text(run: Run, round_: Round, *, turns: bool = True) -> str:
    """The task of a round, for a proposer with the tools.

    Args:
        run: Open for recording.
        round_: The round.
        turns: Whether the answers of its model are counted against `ProposerConfig.max_turns`.
    """
    proposing = run.config.proposing
    limits = [f"{proposing.max_turns} answers"] if turns else []
    limits += [f"{proposing.timeout:,.0f} seconds"]
    limits += [f"${proposing.usd:g}"] if proposing.usd is not None else []
    places = len(round_.open_slots)
    wanted = "one candidate" if places == 1 else f"up to {places} candidates"
    facts = "\n".join(f"- {line}" for line in round_lines(run, round_))
    return (
        f"A search goes on by itself and has started you for one round; nobody is there to ask.\n\n{facts}\n\n"
        f"Improve the harness: hand in {wanted} with write_harness, evaluate what you handed in, write a report on "
        f"each with write_report, then end. This session has at most {', '.join(limits)}.\n"
    )
