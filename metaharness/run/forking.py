"""`fork`: a new run that goes on from an iteration of another one.

The fork holds the iterations up to that one whole, and the rounds that they belong to as closed; of the last of these
only what was handed in until then. All of it is inherited: nothing of it is asked again, its rounds count neither for
patience nor as failed ones, and its candidates, case evaluations and calls are in no ledger, journal or table of costs
of the fork, which begins at zero. Model, domain, cases, seed and trials stay: else scores could not be compared.

The source is only read, so it may be recorded meanwhile. `config.json` is written last: a kill before that leaves no
run, and the next fork clears it away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from metaharness.configuration import Budget, RunConfig, RunRecord
from metaharness.errors import UsageError
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.history import ClosedRound, History
from metaharness.messages import ModelSpec
from metaharness.records import Role
from metaharness.run.ground import Ground, check_unchanged, finish_pairs, prepare, record_factory
from metaharness.run.recording import bounds_now, with_raised
from metaharness.run.regradable import require_regraded
from metaharness.run.rounds import check_answered, closed_round, round_facts
from metaharness.run.summaries import read_ledger, run_status, write_derived
from metaharness.run.tampering import INHERITED, check_recorded
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import RunStore, begin, clear_unmade, command_on, inherit, openings_before

BY = "fork"
"""What the event `created` of a fork says of how it was made."""
MAY_DIFFER = ("proposer", "proposing", "iterations", "candidates_per_round")
"""What of the configuration a fork may have otherwise, beside its budget and the model of its proposer."""
MOST_NOTE = 4_000
"""Characters of a note: it stands in every prompt of a proposer."""


def fork(
    path: Path,
    at: int,
    *,
    note: str = "",
    name: str | None = None,
    changes: Mapping[str, Any] | None = None,
    raised: Budget | None = None,
) -> History:
    """Make a run beside another one that goes on from one of its iterations. It is recorded by nobody then.

    Args:
        path: The directory of the run.
        at: The last iteration that is inherited.
        note: What the proposer of the fork is told; empty for nothing.
        name: The id of the fork; None takes the time.
        changes: Fields of `RunConfig` that are others in the fork: those in `MAY_DIFFER`, and `models` where only the
            role `proposer` is another. `iterations` are the candidates still to propose: inherited ones do not count.
        raised: Upper bounds in place of those of the run; what is spent of them counts from 0.

    Raises:
        UsageError: There is no such iteration; it is rejected, not scored, or in a round that has not ended; some
            baselines would be left out; the name is taken; the budget allows nothing.
        DomainError: The domain is not the one that the run was begun with.
        IncompleteError: No case of any baseline has a value.
        MetaharnessError: The run is damaged, or the directory cannot be written.
    """
    source = RunStore.open(path, record=False)
    require_regraded(source)
    history = History(source)
    rounds = inherited_rounds(history, at)
    check_recorded(source, at)
    config = _config(source, changes or {}, raised)
    ground = prepare(config)
    check_unchanged(source.record, ground)
    _check_budget(config, ground)
    clear_unmade(path.parent)

    def record(run_id: str) -> RunRecord:
        return _record(source, config, ground, run_id=run_id, name=name, at=at, note=note)

    def first(store: RunStore) -> None:
        _take_over(history, store, at, rounds)

    with RunStore.create(path.parent, record, name=name, redact=ground.redact, first=first) as store:
        made = History(store)
        write_derived(made, read_ledger(made), run_status(made))
    return History(RunStore.open(store.path, record=False))


@dataclass(frozen=True)
class Inherited:
    """A round of a fork that its source has closed."""

    closed: ClosedRound
    members: Sequence[Iteration]


def inherited_rounds(history: History, at: int) -> list[Inherited]:
    """The rounds that a fork from this iteration begins with.

    Raises:
        UsageError: It cannot be forked from.
        IncompleteError: No case of any baseline has a value.
    """
    _check_point(history, at)
    check_answered(history)
    members = defaultdict(list)
    for iteration in history:
        members[iteration.proposal.round].append(iteration)
    width = history.record.config.candidates_per_round
    found = []
    for told in history.closed_rounds[: history.iteration(at).proposal.round + 1]:
        kept = [one for one in members[told.number] if one.number <= at]
        own = 0 if told.by_hand or told.number == 0 else width
        closed = replace(told, inherited=True, places=told.places if told.inherited else own)
        if len(kept) < len(members[told.number]):
            closed = _cut(history, closed, kept)
        found.append(Inherited(closed, kept))
    return found


def _cut(history: History, closed: ClosedRound, kept: Sequence[Iteration]) -> ClosedRound:
    """A round as it would have ended with its first candidates: a script goes on with the one that came next."""
    standing = None if closed.incumbent_before is None else history.iteration(closed.incumbent_before)
    after = closed_round(closed.number, standing, kept, history.objectives).incumbent_after
    return replace(closed, proposals=len(kept), incumbent_after=after, places=kept[-1].proposal.slot + 1)


def _check_point(history: History, at: int) -> None:
    """Make sure that a fork can begin with what was known when this iteration had its verdict."""
    iteration, run = history.iteration(at), history.record.run_id
    number, closed = f"iteration {at:03d} of run {run}", len(history.closed_rounds)
    if iteration.proposal.round >= closed:
        resume = command_on(history.store.path, "resume")
        raise UsageError(f"{number} is in a round that has not ended", hint=f"{_valid(history)}; `{resume}` ends it")
    if iteration.rejection is not None:
        why = f"was rejected at {iteration.rejection.stage}"
        raise UsageError(f"{number} {why}, so there is nothing to go on from", hint=_valid(history))
    if iteration.score is None:
        raise UsageError(f"{number} has no score", hint=_valid(history))
    if iteration.is_baseline and at < history.closed_rounds[0].proposals - 1:
        raise UsageError(f"{number} is a baseline, and a fork has all of them", hint=_valid(history))


def _valid(history: History) -> str:
    """Which iterations can be forked from."""
    closed = len(history.closed_rounds)
    last_baseline = history.closed_rounds[0].proposals - 1 if closed else 0
    numbers = [
        f"{one.number:03d}"
        for one in history
        if one.proposal.round < closed and one.score is not None and one.number >= last_baseline
    ]
    more = f" and {len(numbers) - 20} before" if len(numbers) > 20 else ""
    return f"valid: {', '.join(numbers[-20:])}{more}" if numbers else "it has none yet"


def _config(source: RunStore, changes: Mapping[str, Any], raised: Budget | None) -> RunConfig:
    """That of the source, with its bounds as they are now, and what is another in the fork."""
    config = source.record.config
    same_models = _scoring(changes.get("models", config.models)) == _scoring(config.models)
    wrong = sorted(set(changes) - {*MAY_DIFFER, *(["models"] if same_models else [])})
    if wrong:
        raise UsageError(
            f"a fork has the {', '.join(wrong)} of its run, so that scores can be compared",
            hint=f"what may differ: {', '.join(MAY_DIFFER)}, the proposer's model, the budget; else begin a new run",
        )
    values = {**config.model_dump(), **changes, "budget": with_raised(bounds_now(source), raised).model_dump()}
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        said = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UsageError(said, hint="see `metaharness fork --help`") from error


def _scoring(models: Mapping[Role, ModelSpec]) -> dict[Role, ModelSpec]:
    """The models that decide a score."""
    return {role: model for role, model in models.items() if role != "proposer"}


def _check_budget(config: RunConfig, ground: Ground) -> None:
    """Make sure that the fork can do what it is for, and that a bound on dollars can be held."""
    Ledger(config.budget, PriceTable(config.prices)).check_models(config.models)
    bound = config.budget.case_evaluations
    needed = len(ground.cases) * config.trials if config.iterations else 0
    if bound is not None and bound < needed + (kept := finish_pairs(config, ground.domain)):
        raise UsageError(
            f"a budget of {bound} case evaluations does not reach a candidate and the sealed test: "
            f"they need {needed} and {kept}, {needed + kept} in all",
            hint="raise --budget-cases",
        )


def _record(
    source: RunStore, config: RunConfig, ground: Ground, *, run_id: str, name: str | None, at: int, note: str
) -> RunRecord:
    if name not in (None, run_id):
        again = command_on(source.path.parent / str(name), "resume")
        raise UsageError(f"there is a run {name} already", hint=f"choose another name; `{again}` goes on with that one")
    if len(note) > MOST_NOTE:
        raise UsageError(
            f"the note has {len(note):,} characters", hint=f"at most {MOST_NOTE:,}: proposers read it often"
        )
    kept = {
        "forked_from": source.record.run_id,
        "forked_at": at,
        "note": note if ground.redact is None else ground.redact(note),
        "openings": openings_before(source.path),
        "memory_used": source.record.memory_used,
    }
    return record_factory(config, ground)(run_id).model_copy(update=kept)


def _take_over(history: History, store: RunStore, at: int, rounds: Sequence[Inherited]) -> None:
    """The iterations and the rounds of the source, as facts of the fork."""
    begin(store)
    source = history.record.run_id
    store.event("created", run=store.record.run_id, forked_from=source, at=at, by=BY)
    for number in range(at + 1):
        sha256 = inherit(history.store, store, number)
        store.event(INHERITED, iteration=number, source=source, sha256=sha256)
    for inherited in rounds:
        verdicts = [one.verdict for one in inherited.members if one.verdict is not None]
        store.event("round_closed", **round_facts(inherited.closed, verdicts))
