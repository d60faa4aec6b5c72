"""Before much is spent: what a search takes, and what its comparisons can see."""

from __future__ import annotations

from metaharness.configuration import RunConfig
from metaharness.errors import DomainError, IncompleteError, UsageError
from metaharness.evaluation.ladder import SMOKE_CASES
from metaharness.holdout import sealed_size
from metaharness.messages import Record
from metaharness.records import ObjectiveRecord
from metaharness.run.calibrating import Calibration, rate_of
from metaharness.run.ground import TESTED, Ground, check_start, prepare
from metaharness.run.objectives import run_objectives
from metaharness.run.rates import Cost, Rate, cost
from metaharness.run.standalone import evaluate_harness
from metaharness.scoring.power import ASSUMED, Spread, cases_to_see, smallest_gain, trials_to_see


class Halving(Record):
    """What it takes to see half the gain."""

    cases: int | None
    """None: more than ten million."""
    trials: int | None
    """None: no number of trials does it, as they leave what differs between cases."""


class Sight(Record):
    """The smallest gain that the paired test sees with 80% power at 0.05, from the least to the greatest spread."""

    cases: int
    """Cases (or groups) that are compared."""
    trials: int
    assumed: bool
    """True: the spread of two harnesses was assumed; False: it follows from the variances of a calibrated one."""
    apart: tuple[float, float]
    """The mean square by which two harnesses differ on a case, noise and gain not counted; for answers that are right
    or wrong the share of cases on which they truly disagree."""
    within: float
    """The variance between trials of one case."""
    low: float | None
    """None: there are too few cases to see any."""
    high: float | None
    halve: tuple[Halving, Halving] | None = None
    """For `low` and for `high`; None where there is nothing to halve."""
    endless: tuple[float | None, float | None] | None = None
    """`low` and `high` with endless trials; None where the variance within cases was not measured."""


class Plan(Record):
    """What a search would take: `plan --json`."""

    domain: str
    model: str
    objective: ObjectiveRecord
    """The first one, which comparisons are about."""
    objectives: list[ObjectiveRecord]
    """All that the frontier would be over; the first is `objective`."""
    cases: int
    units: int
    trials: int
    smoke_cases: int
    """Asked first of every candidate, in both orders; the other order repeats no call."""
    baselines: int
    candidates: int
    candidates_per_round: int
    rate: Rate | None
    """None: not known without asking."""
    rate_from: str | None
    search: Cost
    per_candidate: Cost
    test_cases: int
    test: Cost
    """Of the sealed test: the winner and the best baseline. A search with a budget keeps this much of it back."""
    beyond: list[str]
    """Bounds of the budget that end the search before all candidates are evaluated, as the test is kept back."""
    sight: Sight | None
    """None: the objective is not a share of cases, and nothing was measured."""
    test_sight: Sight | None


def sight(cases: int, trials: int, spreads: tuple[Spread, Spread], *, assumed: bool) -> Sight:
    """What a comparison over these cases can see."""
    least, greatest = sorted(spreads, key=lambda spread: smallest_gain(cases, spread, trials=trials) or 0.0)
    gains = [smallest_gain(cases, spread, trials=trials) for spread in (least, greatest)]
    halves = [
        Halving(
            cases=cases_to_see(gain / 2, spread, trials=trials),
            trials=None if assumed else trials_to_see(gain / 2, cases, spread),
        )
        for gain, spread in zip(gains, (least, greatest), strict=True)
        if gain
    ]
    endless = [smallest_gain(cases, spread, trials=None) for spread in (least, greatest)]
    return Sight(
        cases=cases,
        trials=trials,
        assumed=assumed,
        apart=(least.apart, greatest.apart),
        within=least.within,
        low=gains[0],
        high=gains[1],
        halve=(halves[0], halves[1]) if len(halves) == 2 else None,
        endless=None if assumed else (endless[0], endless[1]),
    )


def make_plan(
    config: RunConfig,
    *,
    calibration: Calibration | None = None,
    probed: tuple[str, Rate] | None = None,
) -> Plan:
    """What a search with this configuration would take. Nothing is asked.

    Args:
        config: As for a run.
        calibration: What was measured of a harness on this domain; None assumes.
        probed: The name of a harness and what its smoke cases have taken; None leaves calls unknown, unless they are
            in the calibration.

    Raises:
        MetaharnessError: A run with this configuration would not start.
        UsageError: The calibration is of another domain or objective.
    """
    ground = prepare(config)
    check_start(config, ground)
    objectives, trials = run_objectives(config, ground.domain), config.trials
    if calibration is not None:
        _check_fits(calibration, ground, objectives[0])
    rate_from, rate = _rate(calibration, probed)
    cases, units = len(ground.cases), len({case.group or case.id for case in ground.cases.values()})
    baselines, (test_cases, test_units) = len(ground.domain.baselines()), sealed_size(ground.domain)
    spreads, assumed = _spreads(calibration, objectives[0]), calibration is None
    search, test = search_cost(config, rate, baselines=baselines, cases=cases), _test_cost(config, rate, test_cases)
    return Plan(
        domain=ground.domain.name,
        model=config.models["target"].id,
        objective=objectives[0],
        objectives=objectives,
        cases=cases,
        units=units,
        trials=trials,
        smoke_cases=min(SMOKE_CASES, cases),
        baselines=baselines,
        candidates=config.iterations,
        candidates_per_round=config.candidates_per_round,
        rate=rate,
        rate_from=rate_from,
        search=search,
        per_candidate=cost(rate, cases, trials, trials),
        test_cases=test_cases,
        test=test,
        beyond=_beyond(config, search, test),
        sight=sight(units, trials, spreads, assumed=assumed) if spreads else None,
        test_sight=sight(test_units, trials, spreads, assumed=assumed) if spreads and test_units else None,
    )


def search_cost(config: RunConfig, rate: Rate | None, *, baselines: int, cases: int) -> Cost:
    """What a whole search takes: the baselines, then as many candidates as may be proposed.

    Args:
        config: Iterations, trials, and the bound on candidates.
        rate: Of one case evaluation; None: not known.
        baselines: How many there are.
        cases: Of the search split, as far as it is evaluated.
    """
    everyone = baselines + config.iterations
    return cost(rate, everyone * cases, everyone * config.trials, config.trials)


def _test_cost(config: RunConfig, rate: Rate | None, cases: int) -> Cost:
    """What the sealed test takes."""
    tested = TESTED if config.iterations else 1
    return cost(rate, tested * cases, tested * config.trials, config.trials)


def _rate(calibration: Calibration | None, probed: tuple[str, Rate] | None) -> tuple[str | None, Rate | None]:
    """Whose cases tell what one takes, and what."""
    if probed is not None:
        return probed
    return (None, None) if calibration is None else (calibration.harness, calibration.rate)


def _spreads(calibration: Calibration | None, objective: ObjectiveRecord) -> tuple[Spread, Spread] | None:
    """How far two harnesses may lie apart; None where nothing is known and nothing can be assumed."""
    if calibration is not None:
        return calibration.spreads
    is_share = objective.range == (0, 1)
    return ASSUMED if is_share else None


def _beyond(config: RunConfig, search: Cost, test: Cost) -> list[str]:
    budget, found = config.budget, []
    for name, bound, needed, kept in (
        ("candidates", budget.candidates, config.iterations, 0),
        ("case evaluations", budget.case_evaluations, search.case_evaluations, test.case_evaluations),
        ("calls", budget.calls, search.calls, test.calls),
        ("tokens", budget.tokens, search.tokens, test.tokens),
        ("dollars", budget.usd, search.usd, test.usd),
    ):
        if bound is not None and needed is not None and needed + (kept or 0) > bound:
            found.append(f"{bound:,} {name}")
    return found


def _check_fits(calibration: Calibration, ground: Ground, objective: ObjectiveRecord) -> None:
    here = (ground.domain.name, objective.name)
    there = (calibration.domain, calibration.objective.name)
    if here != there:
        raise UsageError(
            f"the calibration is of {there[1]} in {there[0]}, and this is {here[1]} in {here[0]}",
            hint="`metaharness calibrate --json` measures this one",
        )


# --- asking -----------------------------------------------------------------------------------------------------


async def probe(config: RunConfig) -> tuple[str, Rate]:
    """Ask the smoke cases of the first baseline. Returns its name and what they have taken.

    Raises:
        DomainError: It does not pass the ladder.
        IncompleteError: A case has no value.
    """
    ground = prepare(config)
    check_start(config, ground)
    harness = ground.domain.baselines()[0]
    smoke = config.model_copy(update={"limit": min(SMOKE_CASES, len(ground.cases)), "trials": 1})
    found = await evaluate_harness(harness, smoke)
    if found.rejection is not None:
        raise DomainError(
            f"the first baseline, {harness.name}, does not pass the ladder at {found.rejection.stage}: "
            f"{found.rejection.message}",
            hint="`metaharness check` tries all of them",
        )
    if found.score is None or found.score.missing:
        errors = [trace.error for trace in found.traces.values() if trace.error]
        raise IncompleteError(
            f"a smoke case of {harness.name} has no value: {errors[0] if errors else 'it was stopped'}",
            hint="without --probe the plan leaves calls open",
        )
    return harness.name, rate_of(found)
