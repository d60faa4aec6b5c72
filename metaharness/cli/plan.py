"""`plan`: what a search would take and could see, before anything is spent."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaharness.cli import options
from metaharness.cli.app import command
from metaharness.cli.flags import (
    Iterations,
    MaxCalls,
    MaxCandidates,
    MaxCases,
    MaxTokens,
    MaxUsd,
    PerRound,
    ProposerName,
    budget,
)
from metaharness.cli.text import counted, dollars

if TYPE_CHECKING:
    from metaharness.configuration import RunConfig
    from metaharness.run.planning import Plan, Sight
    from metaharness.run.rates import Cost

Probe = Annotated[
    bool, typer.Option("--probe", help="Ask the smoke cases of the first baseline, to estimate calls and their price.")
]
FromCalibration = Annotated[
    Path | None, typer.Option("--calibration", help="A file that `calibrate --json` has printed, instead of assuming.")
]


@command(
    """
    metaharness plan --domain my_domain
    metaharness plan -d my_domain -n 20 --trials 2 --limit 50
    metaharness plan -d my_domain -m openai:qwen3 --price openai:qwen3=0.6,2.5 --probe
    metaharness plan -d my_domain --calibration noise.json --json
    """
)
def plan(
    domain: options.Domain,
    data: options.Data = None,
    text_field: options.TextField = None,
    label_field: options.LabelField = None,
    domain_option: options.DomainOption = None,
    proposer: ProposerName = "scripted",
    model: options.Model = "embedded:icl",
    base_url: options.BaseUrl = None,
    judge: options.Judge = None,
    price: options.Price = None,
    no_cache: options.NoCache = False,
    iterations: Iterations = None,
    candidates_per_round: PerRound = 1,
    concurrency: options.Concurrency = 8,
    trials: options.Trials = 1,
    limit: options.Limit = None,
    objective: options.Objectives = None,
    seed: options.Seed = 0,
    sandbox: options.Sandbox = "auto",
    sandbox_command: options.SandboxCommand = None,
    budget_candidates: MaxCandidates = None,
    budget_cases: MaxCases = None,
    budget_calls: MaxCalls = None,
    budget_tokens: MaxTokens = None,
    budget_usd: MaxUsd = None,
    probe: Probe = False,
    calibration: FromCalibration = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what a search would take, and the smallest gain that it could see. Options as for `run`; nothing is asked."""
    from metaharness.configuration import RunConfig

    config = RunConfig(
        domain=options.domain_reference(domain),
        domain_options=options.domain_options(data, text_field, label_field, domain_option),
        models=options.models(model, base_url, judge),
        proposer=proposer,
        candidates_per_round=candidates_per_round,
        **options.scored(trials, limit, concurrency, seed, objective),
        **options.means(sandbox, sandbox_command, price, no_cache),
        budget=budget(budget_candidates, budget_cases, budget_calls, budget_tokens, budget_usd),
    )
    from metaharness.cli.configured import with_iterations

    _plan(with_iterations(config, iterations), probe, calibration, as_json=as_json)


def _plan(config: RunConfig, ask: bool, calibration: Path | None, *, as_json: bool) -> None:
    import anyio

    from metaharness.run.calibrating import read_calibration
    from metaharness.run.planning import make_plan, probe

    found = None if calibration is None else read_calibration(calibration)
    made = make_plan(config, calibration=found)  # what is wrong is told before the probe asks
    if ask:
        made = make_plan(config, calibration=found, probed=anyio.run(probe, config))
    if as_json:
        options.print_json(made.model_dump(mode="json"))
    else:
        typer.echo("\n".join(_lines(made)))


def _lines(made: Plan) -> list[str]:
    from metaharness.scoring.scoreboard import align, format_objectives

    per_round = "" if made.candidates_per_round == 1 else f", {made.candidates_per_round} a round"
    asked = f"{made.cases:,} cases" + ("" if made.trials == 1 else f" in {made.trials} trials")
    harnesses = f"{counted(made.baselines, 'baseline')} and {counted(made.candidates, 'candidate')}{per_round}"
    rows = [
        ["", "case evaluations", "calls", "tokens", "dollars"],
        ["search", *cost_cells(made.search)],
        ["of it, each candidate", *cost_cells(made.per_candidate)],
        ["sealed test, once", *cost_cells(made.test)],
    ]
    lines = [
        f"{made.domain}, model {made.model}: {harnesses}, each on {asked}",
        f"frontier over {format_objectives(made.objectives)}; the first decides",
        align(rows),
        f"smoke cases: the first {made.smoke_cases} of each candidate, in both orders; they are in these numbers, "
        "and a candidate that fails there costs no more",
    ]
    if made.rate is None:
        lines.append("calls are not known: --probe asks the smoke cases of the first baseline")
    else:
        lines.append(
            f"calls: as many per case as {made.rate_from} makes ({made.rate.calls:.3g}); a candidate may differ"
        )
        if made.rate.usd is None:
            lines.append(f"dollars are not known: --price {made.model}=IN,OUT tells the price")
    lines += [f"the budget of {bound} ends the search before that" for bound in made.beyond]
    if made.test_cases:
        lines.append(f"sealed test: {made.test_cases:,} cases; what it takes is kept back of every bound of a budget")
    else:
        lines.append("sealed test: none, there are no cases")
    return [*lines, "", *sight_lines(made)]


def sight_lines(made: Plan) -> list[str]:
    """What the comparisons of a search can see, as a person reads it."""
    if made.sight is None:
        return [
            f"the smallest gain that would be seen is not known: {made.objective.name} is not in 0 to 1; "
            "`calibrate` measures what it takes"
        ]
    lines = [f"smallest gain in {made.objective.name} that the paired test sees with 80% power at 0.05:"]
    sign = 1 if made.objective.direction == "max" else -1
    lines.append(f"  search       {gain_text(made.sight, sign)}  ({counted(made.sight.cases, 'case')})")
    if made.test_sight is not None:
        lines.append(f"  sealed test  {gain_text(made.test_sight, sign)}  ({counted(made.test_sight.cases, 'case')})")
    return [*lines, *basis_lines(made.sight), *halving_lines(made.sight, sign)]


def basis_lines(found: Sight) -> list[str]:
    """What the smallest gain rests on."""
    low, high = found.apart
    if found.assumed:
        return [
            f"assumed: cases are right or wrong, and for two harnesses {low:.0%} to {high:.0%} of them come out "
            "differently; `calibrate` measures a harness instead"
        ]
    return [
        f"measured: variance within cases {found.within:.3g}; the least gain is that of a candidate which answers as "
        "this harness does except where it gains, the greatest that of one with other easy and hard cases"
    ]


def halving_lines(found: Sight, sign: int) -> list[str]:
    """What it would take to see half of it."""
    from metaharness.scoring.power import MOST_CASES

    if found.halve is None:
        return []
    cases = sorted({half.cases or MOST_CASES for half in found.halve})
    lines = [f"to halve it: {' to '.join(f'{number:,}' for number in cases)} cases"]
    if found.assumed:
        lines.append("more trials help only with what differs between trials of one case: `calibrate` measures that")
        return lines
    trials = [half.trials for half in found.halve]
    if all(trial is None for trial in trials) and found.endless is not None:
        endless = found.model_copy(update={"low": found.endless[0], "high": found.endless[1]})
        lines.append(f"trials do not halve it: endless ones would see {gain_text(endless, sign)}")
    else:
        known = sorted({trial for trial in trials if trial is not None})
        never = "; the greatest is not halved by any number of them" if None in trials else ""
        lines.append(f"or {' to '.join(f'{number:,}' for number in known)} trials{never}")
    return lines


def gain_text(found: Sight, sign: int = 1) -> str:
    """The smallest gain from least to greatest spread, rounded up."""
    if found.low is None or found.high is None:
        return "none: too few cases"
    texts = [_rounded_up(gain, sign) for gain in sorted((found.low, found.high))]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"


def _rounded_up(gain: float, sign: int) -> str:
    digits = 2 if gain == 0 or gain >= 0.1 else 1 - math.floor(math.log10(gain))
    digits = max(0, digits if gain < 10 else 0)
    step = 10.0**digits
    return f"{sign * math.ceil(gain * step - 1e-9) / step:+,.{digits}f}"


def cost_cells(cost: Cost) -> list[str]:
    """Case evaluations, calls, tokens and dollars; what is not known is a question mark."""
    usd = "?" if cost.usd is None else dollars(cost.usd)
    return [f"{cost.case_evaluations:,}", *("?" if n is None else f"{n:,}" for n in (cost.calls, cost.tokens)), usd]
