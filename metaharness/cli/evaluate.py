"""`evaluate`: the standalone evaluator; what a job is gated by stands in `gates`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaharness.cli import gates, options, transfer
from metaharness.cli.app import INTERRUPTED, command, complain
from metaharness.cli.flags import MaxCalls, MaxTokens, MaxUsd, budget
from metaharness.cli.progress import Line
from metaharness.cli.text import counted, paid, printable, sandbox_line, saved

if TYPE_CHECKING:
    from metaharness.configuration import RunConfig
    from metaharness.domain import Split
    from metaharness.records import CaseTrace, Rejection, Spent
    from metaharness.run.standalone import Evaluation

HarnessPath = Annotated[
    Path, typer.Argument(help="A harness file, or a folder that holds harness.py; with --frontier a run.")
]
OfHarness = Annotated[
    str | None,
    typer.Option("--domain", "-d", help="A domain folder, module:attribute, or the name of a shipped example."),
]
SplitName = Annotated[str, typer.Option("--split", help="search or train; the test split is sealed.")]
Unchecked = Annotated[bool, typer.Option("--no-ladder", help="Evaluate at once, without the checks before it.")]
TraceFile = Annotated[Path | None, typer.Option("--trace-file", help="Write the raw traces there, a line per case.")]
INVALID = 3


@command(
    """
    metaharness evaluate harness.py --domain my_domain
    metaharness evaluate harness.py -d text_classification --data DATA --limit 20 --trials 3 --json
    metaharness evaluate harness.py -d my_domain -m openai:qwen3 --base-url http://127.0.0.1:8000/v1
    metaharness evaluate harness.py -d my_domain --save main.json
    metaharness evaluate harness.py -d my_domain --against main.json --fail-if worse --report junit --report-file r.xml
    metaharness evaluate harness.py -d my_domain --against latest/3 --min 0.8 --fresh --report markdown
    metaharness evaluate latest --frontier --models openai:a,anthropic:b,openai:c@http://127.0.0.1:8000/v1
    metaharness evaluate first --frontier --models openai:a,openai:b --data data/news,data/reviews --budget-usd 5 --json
    """
)
def evaluate(
    context: typer.Context,
    harness: HarnessPath,
    domain: OfHarness = None,
    data: options.Data = None,
    text_field: options.TextField = None,
    label_field: options.LabelField = None,
    domain_option: options.DomainOption = None,
    split: SplitName = "search",
    limit: options.Limit = None,
    trials: options.Trials = 1,
    model: options.Model = "embedded:icl",
    base_url: options.BaseUrl = None,
    judge: options.Judge = None,
    price: options.Price = None,
    no_cache: options.NoCache = False,
    concurrency: options.Concurrency = 8,
    seed: options.Seed = 0,
    sandbox: options.Sandbox = "auto",
    sandbox_command: options.SandboxCommand = None,
    no_ladder: Unchecked = False,
    trace_file: TraceFile = None,
    against: gates.Against = None,
    fail_if: gates.FailIf = None,
    least: gates.Least = None,
    save: gates.Save = None,
    fresh: gates.Fresh = False,
    report: gates.Report = None,
    report_file: gates.ReportFile = None,
    frontier: transfer.Frontier = False,
    models: transfer.Models = None,
    budget_calls: MaxCalls = None,
    budget_tokens: MaxTokens = None,
    budget_usd: MaxUsd = None,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Score one harness on the cases of a domain, without a run; or with --frontier what a run has found, elsewhere.

    With --against it is compared case by case; with --fail-if or --min the exit code is 4 when that is not passed.
    """
    if frontier:
        return transfer.evaluate_frontier(context)
    transfer.refuse(context)
    asked = gates.Gating(against, fail_if, least, save, fresh, report, report_file, root)
    config = _config(context.params)
    return _evaluate(harness, config, split, asked, ladder=not no_ladder, trace_file=trace_file, as_json=as_json)


def _config(given: Mapping[str, Any]) -> RunConfig:
    """What the options say, as a run is configured."""
    from metaharness.configuration import RunConfig

    return RunConfig(
        domain=options.domain_reference(given["domain"]),
        domain_options=options.domain_options(
            given["data"], given["text_field"], given["label_field"], given["domain_option"]
        ),
        models=options.models(given["model"], given["base_url"], given["judge"]),
        concurrency=given["concurrency"],
        trials=given["trials"],
        limit=given["limit"],
        seed=given["seed"],
        budget=budget(None, None, given["budget_calls"], given["budget_tokens"], given["budget_usd"]),
        **options.means(given["sandbox"], given["sandbox_command"], given["price"], given["no_cache"]),
    )


def _evaluate(
    harness: Path,
    config: RunConfig,
    split_name: str,
    asked: gates.Gating,
    *,
    ladder: bool,
    trace_file: Path | None,
    as_json: bool,
) -> None:
    split = chosen_split(split_name)
    begun = asked.begin(config, split, as_json=as_json)
    if trace_file is not None:
        write_traces(trace_file, [], mode="a")  # a path that cannot be written is told before anything is paid for
    stopped, result = evaluated(harness, config, split, ladder=ladder, first_trial=begun.first_trial)
    if trace_file is not None:
        write_traces(trace_file, [trace for _, trace in sorted(result.traces.items())], mode="w")
    begun.judge(result)
    begun.keep(harness, result)
    printed = begun.tell_report(harness, config, result)
    if as_json:
        options.print_json({**_record(harness, config, split.value, result), **begun.record()})
    elif result.rejection is None and not printed:
        _print(split.value, result)
        for line in begun.lines():
            typer.echo(line)
    for note in result.notes:
        typer.echo(f"note: {harness}: {printable(note)}", err=True)
    _tell_missing(harness, result)
    check_ended(harness, result.rejection, stopped=stopped)
    begun.exit()


def chosen_split(name: str) -> Split:
    """The split that a person names; the sealed one cannot be."""
    from metaharness.domain import Split
    from metaharness.errors import UsageError

    if name not in ("search", "train"):
        raise UsageError(f"--split {name!r} cannot be evaluated", hint="valid: search, train; test is sealed")
    return Split(name)


def evaluated(
    harness: Path, config: RunConfig, split: Split, *, ladder: bool = True, first_trial: int = 0
) -> tuple[bool, Evaluation]:
    """Evaluate until the end or a signal. Returns whether it was stopped, and what came out.

    Raises:
        KeyboardInterrupt: A second signal dropped what was in the air.
    """
    import anyio

    stopped, result = anyio.run(_until_signal, harness, config, split, ladder, first_trial)
    if result is None:
        raise KeyboardInterrupt
    return stopped, result


async def _until_signal(
    harness: Path, config: RunConfig, split: Split, ladder: bool, first_trial: int
) -> tuple[bool, Evaluation | None]:
    """The evaluation beside a task that listens for signals: the first lets what is in the air end."""
    from metaharness.cli.signals import until_signal
    from metaharness.run.standalone import evaluate_harness

    line, stop = Line(), _Stop()
    doing = partial(
        evaluate_harness,
        harness,
        config,
        split=split,
        ladder=ladder,
        first_trial=first_trial,
        announce=lambda told: line.say(sandbox_line(told)),
        listen=_Counter(line),
        stop=lambda: stop.stopping,
    )
    result = await until_signal(stop, doing, line.clear, fate="finished")
    return stop.stopping, result


class _Stop:
    """Whether a signal has asked for the end."""

    stopping = False

    def stop(self) -> None:
        """Ask for it."""
        self.stopping = True


class _Counter:
    """Cases done and rate, on a terminal."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._started = time.monotonic()
        self._done = 0

    def __call__(self, trace: CaseTrace) -> None:
        self._done += 1
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        self._line.show(lambda: [f"{self._done} cases, {rate:.1f}/s"], at_once=True)


def _record(harness: Path, config: RunConfig, split: str, result: Evaluation) -> dict[str, Any]:
    """The evaluation as JSON: the contract of `--json`."""
    score = result.score
    cases = [
        {
            "case_id": trace.case_id,
            "trial": trace.trial,
            "status": trace.status,
            "output": trace.output,
            "score": trace.grades[-1].value if trace.grades else None,
        }
        for trace in sorted(result.traces.values(), key=lambda trace: (trace.case_id, trace.trial))
    ]
    return {
        "harness": str(harness),
        "domain": config.domain,
        "split": split,
        "model": config.models["target"].id,
        "trials": config.trials,
        "seed": config.seed,
        "rejected": result.rejection.model_dump(exclude={"time"}) if result.rejection else None,
        "notes": result.notes,
        "metrics": {name: value.model_dump() for name, value in score.objectives.items()} if score else {},
        **(score.model_dump(include=_SHOWN) if score else {}),
        "cases": cases,
    }


_SHOWN = {
    "sandbox",
    "planned",
    "ended",
    "missing",
    "statuses",
    "bounds",
    "context_chars",
    "learn_chars",
    "order_dependent",
    "spent",
}


def check_ended(harness: Path, rejection: Rejection | None, *, stopped: bool) -> None:
    """Say what went wrong, if anything did, and end the command there."""
    if rejection is not None:
        if rejection.traceback:
            typer.echo(printable(rejection.traceback), err=True)
        complain(
            f"{harness} does not pass the ladder at {rejection.stage}: {rejection.message}",
            "mend it; the domain's DOMAIN.md says what a harness has to define",
        )
        raise typer.Exit(INVALID)
    if stopped:
        complain("interrupted: not every case was evaluated", "nothing is kept of it; `metaharness run` can be resumed")
        raise typer.Exit(INTERRUPTED)


def _print(split: str, result: Evaluation) -> None:
    from metaharness.scoring.scoreboard import align, format_estimate, format_gap

    score = result.score
    if score is None:
        typer.echo(f"{len(result.traces)} cases were evaluated before the stop; there is no score")
        return
    rows = [[objective.name, format_estimate(score, objective), objective.unit] for objective in result.objectives]
    typer.echo(align([["objective", f"mean on {split} [95% interval]", "unit"], *rows]))
    statuses = ", ".join(f"{count} {status}" for status, count in score.statuses.items())
    typer.echo(f"cases: {statuses}" + (f" ({format_gap(score)})" if score.missing else ""))
    if score.order_dependent:
        typer.echo("note: answers depend on the order of the cases, so they were asked serially")
    typer.echo(cost_line(score.spent))


def cost_line(spent: Spent) -> str:
    """What one evaluation has cost."""
    tokens, fields = spent.input_tokens + spent.output_tokens, spent.model_dump()
    asked = f"{counted(spent.calls, 'call')}, {counted(tokens, 'token')}"
    return f"cost: {asked}, {paid(fields)}, {spent.seconds:.2f} s{saved(fields)}"


def _tell_missing(harness: Path, result: Evaluation) -> None:
    """Say on stderr which pairs of a whole evaluation have no value, and why."""
    from metaharness.cli.output import gap_lines, gap_of

    if result.score is None or not result.score.missing:
        return
    gaps = [gap for _, trace in sorted(result.traces.items()) if (gap := gap_of(trace)) is not None]
    for line in gap_lines(harness.stem, result.score.planned, gaps):
        typer.echo(line, err=True)
    if any(gap.evaluator for gap in gaps):
        typer.echo("to have every value: mend the evaluator and evaluate again", err=True)


def write_traces(path: Path, traces: Sequence[CaseTrace], *, mode: str) -> None:
    """Write raw traces, a line each; in mode "a" none, to see whether it can be done."""
    from metaharness.errors import UsageError

    lines = [trace.model_dump_json() + "\n" for trace in traces]
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.writelines(lines)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="give a path in an existing folder") from error
