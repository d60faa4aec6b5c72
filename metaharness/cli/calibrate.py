"""`calibrate`: how much of a score is noise, and what a search could see through it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import command
from metaharness.cli.evaluate import SplitName, TraceFile, check_ended, chosen_split, cost_line, evaluated, write_traces
from metaharness.cli.plan import gain_text

if TYPE_CHECKING:
    from metaharness.configuration import RunConfig
    from metaharness.run.calibrating import Calibration

Harness = Annotated[Path | None, typer.Argument(help="A harness file or folder. Default: the first baseline.")]
SeveralTrials = Annotated[int, typer.Option(min=2, help="Fresh trials of every case.")]
SHOWN_TRIALS = (1, 2, 5, 10)
"""How many trials a search might use: what each would see and cost."""


@command(
    """
    metaharness calibrate --domain my_domain
    metaharness calibrate harness.py -d my_domain -m openai:qwen3 --trials 10 --limit 50 -c 16
    metaharness calibrate -d my_domain --json
    """
)
def calibrate(
    harness: Harness = None,
    *,
    domain: options.Domain,
    data: options.Data = None,
    text_field: options.TextField = None,
    label_field: options.LabelField = None,
    domain_option: options.DomainOption = None,
    split: SplitName = "search",
    limit: options.Limit = None,
    trials: SeveralTrials = 5,
    model: options.Model = "embedded:icl",
    base_url: options.BaseUrl = None,
    judge: options.Judge = None,
    price: options.Price = None,
    no_cache: options.NoCache = False,
    concurrency: options.Concurrency = 8,
    seed: options.Seed = 0,
    sandbox: options.Sandbox = "auto",
    sandbox_command: options.SandboxCommand = None,
    trace_file: TraceFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure the noise of a score with fresh trials: variance between and within cases, and what could be seen.

    It sets no bar. `plan --calibration FILE` takes what --json prints.
    """
    from metaharness.configuration import RunConfig

    config = RunConfig(
        domain=options.domain_reference(domain),
        domain_options=options.domain_options(data, text_field, label_field, domain_option),
        models=options.models(model, base_url, judge),
        concurrency=concurrency,
        trials=trials,
        limit=limit,
        seed=seed,
        **options.means(sandbox, sandbox_command, price, no_cache),
    )
    _calibrate(harness, config, split, trace_file, as_json=as_json)


def _calibrate(
    named: Path | None, config: RunConfig, split_name: str, trace_file: Path | None, *, as_json: bool
) -> None:
    from metaharness.run.calibrating import calibration_of, first_baseline
    from metaharness.run.standalone import fresh_trial

    split = chosen_split(split_name)
    harness = first_baseline(config) if named is None else named
    if trace_file is not None:
        write_traces(trace_file, [], mode="a")
    first_trial = fresh_trial()
    stopped, result = evaluated(harness, config, split, first_trial=first_trial)
    if trace_file is not None:
        write_traces(trace_file, [trace for _, trace in sorted(result.traces.items())], mode="w")
    check_ended(harness, result.rejection, stopped=stopped)
    found = calibration_of(harness, config, split, result, first_trial)
    if as_json:
        options.print_json({**found.model_dump(mode="json"), "sight": _sights(found)})
    else:
        typer.echo("\n".join(_lines(found)))


def _sights(found: Calibration) -> list[dict[str, Any]]:
    """What a search would see and cost for each number of trials."""
    from metaharness.run.planning import sight
    from metaharness.run.rates import cost

    return [
        {
            **sight(found.units, trials, found.spreads, assumed=False).model_dump(mode="json"),
            "per_candidate": cost(found.rate, found.cases, trials, trials).model_dump(mode="json"),
        }
        for trials in SHOWN_TRIALS
    ]


def _lines(found: Calibration) -> list[str]:
    from metaharness.scoring.scoreboard import align, format_interval

    total = found.between + found.within
    share = f" ({found.within / total:.0%} of that of a single trial)" if total else ""
    rows = [
        ["harness", found.harness],
        ["mean", f"{found.objective.name} {format_interval(found.mean, found.objective)}"],
        ["asked", f"{found.cases:,} cases in {found.trials} fresh trials, concurrency {found.concurrency}"],
        ["variance between cases", f"{found.between:.4f}"],
        ["variance within cases", f"{found.within:.4f}{share}"],
        ["intraclass correlation", "-" if found.correlation is None else f"{found.correlation:.3f}"],
        ["flip rate", f"{found.flip_rate:.3f} ({len(found.flipped)} cases were answered in more than one way)"],
    ]
    if found.left_out:
        rows.append(["left out", f"{found.left_out} without a value in every trial ({found.missing} missing)"])
    return [
        align(rows),
        cost_line(found.spent),
        "",
        *_seen(found),
    ]


def _seen(found: Calibration) -> list[str]:
    from metaharness.cli.plan import basis_lines, cost_cells, halving_lines
    from metaharness.run.planning import sight
    from metaharness.run.rates import cost
    from metaharness.scoring.scoreboard import align

    sign = 1 if found.objective.direction == "max" else -1
    table = [["trials", "smallest gain seen", "case evaluations", "calls", "tokens", "dollars (each candidate)"]]
    for trials in SHOWN_TRIALS:
        one = sight(found.units, trials, found.spreads, assumed=False)
        table.append([f"{trials}", gain_text(one, sign), *cost_cells(cost(found.rate, found.cases, trials, trials))])
    once = sight(found.units, 1, found.spreads, assumed=False)
    return [
        f"smallest gain in {found.objective.name} that the paired test sees with 80% power at 0.05 "
        f"over {found.units:,} cases:",
        align(table),
        *basis_lines(once),
        *halving_lines(once, sign),
    ]
