"""What `evaluate` is asked beside a score: a comparison, gates for CI jobs, a saved score, a report."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import complain
from metaharness.cli.text import printable

if TYPE_CHECKING:
    from metaharness.configuration import RunConfig
    from metaharness.domain import Split
    from metaharness.run.reference import Reference, Standing
    from metaharness.run.standalone import Evaluation
    from metaharness.scoring.gates import Gate
    from metaharness.scoring.verdicts import Judgement

Against = Annotated[
    str | None, typer.Option(help="Compare case by case with RUN/N, an iteration of a run, or a file of --save.")
]
FailIf = Annotated[
    str | None, typer.Option(help="worse: exit 4 after a significant loss. not-better: unless a gain is significant.")
]
Least = Annotated[float | None, typer.Option("--min", help="Exit 4 when the primary mean is below this.")]
Save = Annotated[Path | None, typer.Option(help="Write the score there, for a later --against.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Trial numbers that nobody has used: nothing is replayed.")]
Report = Annotated[str | None, typer.Option(help="junit or markdown, instead of the table.")]
ReportFile = Annotated[Path | None, typer.Option(help="Write the report there, beside what is printed.")]

NOT_PASSED = 4
REPORTS = ("junit", "markdown")
_SHOWN = 10
"""Cases listed on the terminal."""


@dataclass(frozen=True)
class Gating:
    """What was asked for."""

    against: str | None = None
    fail_if: str | None = None
    least: float | None = None
    save: Path | None = None
    fresh: bool = False
    report: str | None = None
    report_file: Path | None = None
    root: Path = options.DEFAULT_ROOT

    def begin(self, config: RunConfig, split: Split, *, as_json: bool) -> Begun:
        """Find what is needed for it, before anything is paid for.

        Raises:
            UsageError: Options do not fit each other, or what it would be compared with is about something else.
        """
        from metaharness.run.standalone import fresh_trial

        self._check_options(as_json=as_json)
        begun = Begun(self, first_trial=fresh_trial() if self.fresh else 0)
        if self.against is None and self.least is None and self.save is None and self.report is None:
            return begun
        return self._stand(begun, config, split)

    def _stand(self, begun: Begun, config: RunConfig, split: Split) -> Begun:
        from metaharness.errors import UsageError
        from metaharness.run.ground import prepare
        from metaharness.run.reference import check_comparable, find_reference, standing_of

        ground = prepare(config, split)
        begun.standing = standing_of(config, ground)
        primary = begun.standing.objective
        if self.least is not None and primary.direction == "min":
            raise UsageError(
                f"of {primary.name} less is better, so --min says nothing about it",
                hint="compare with a score instead: --against SCORE.json --fail-if worse",
            )
        if self.least is not None and primary.range is not None and self.least > primary.range[1]:
            low, high = primary.range
            raise UsageError(
                f"--min {self.least:g} can never be reached: {primary.name} lies between {low:g} and {high:g}",
                hint=f"give a mean of {primary.name} in that range",
            )
        if self.against is not None:
            begun.reference = find_reference(self.against, self.root)
            for note in check_comparable(begun.standing, ground.cases, begun.reference):
                begun.note(note)
        return begun

    def _check_options(self, *, as_json: bool) -> None:
        from metaharness.errors import UsageError
        from metaharness.scoring.gates import FAIL_IF

        for option, value, valid in (("--fail-if", self.fail_if, FAIL_IF), ("--report", self.report, REPORTS)):
            if value is not None and value not in valid:
                raise UsageError(f"{option} {value!r} is not known", hint=f"valid: {', '.join(valid)}")
        if self.fail_if is not None and self.against is None:
            raise UsageError("--fail-if compares with nothing", hint="say with what: --against RUN/N or SCORE.json")
        if self.least is not None and not math.isfinite(self.least):
            raise UsageError(f"--min {self.least} is not a mean", hint="for example --min 0.8")
        if self.report_file is not None and self.report is None:
            raise UsageError("--report-file without --report", hint="say its form: --report junit or markdown")
        if as_json and self.report is not None and self.report_file is None:
            raise UsageError("--json and --report both go to stdout", hint="write the report with --report-file PATH")
        self._check_files()

    def _check_files(self) -> None:
        """What is written replaces nothing that is read, no two are one file, and each can be written: told at once."""
        from metaharness.errors import UsageError

        if self.save is not None and self.report_file is not None and _same_file(self.save, self.report_file):
            raise UsageError(f"--save and --report-file are both {self.save}", hint="give each a file of its own")
        if self.save is not None and self.against is not None and _same_file(self.save, Path(self.against)):
            raise UsageError(
                f"--save would replace {self.against}, which this is compared with",
                hint="save to another file, and move it where the gate has passed",
            )
        for path in (self.save, self.report_file):
            if path is not None:
                _check_writable(path)


@dataclass
class Begun:
    """An evaluation that is about to be made, with what its score will be held against."""

    asked: Gating
    first_trial: int
    standing: Standing | None = None
    reference: Reference | None = None
    judgement: Judgement | None = None
    gates: list[Gate] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What else differs from what it is compared with."""

    def note(self, text: str) -> None:
        """Say it on stderr, and with `--json`."""
        self.notes.append(text)
        typer.echo(f"note: {printable(text)}", err=True)

    def judge(self, result: Evaluation) -> None:
        """Compare, and hold it against the gates. Without a score none of them is passed."""
        from metaharness.run.reference import sandbox_note
        from metaharness.scoring.gates import Gate, least_gate, verdict_gate
        from metaharness.scoring.verdicts import judge_both

        score, asked, there = result.score, self.asked, self.reference
        primary = result.objectives[0]
        if score is None:
            names = ([f"fail-if {asked.fail_if}"] if asked.fail_if else []) + (
                ["min"] if asked.least is not None else []
            )
            self.gates = [Gate(name, False, "there is no score") for name in names]
            return
        if there is not None:
            self.judgement = judge_both(result.rows, there.rows, primary)
            if (differs := sandbox_note(score, there)) is not None:
                self.note(differs)
            if asked.fail_if is not None:
                self.gates.append(
                    verdict_gate(asked.fail_if, self.judgement, missing=score.missing, missing_there=there.missing)
                )
        if asked.least is not None:
            found = score.objectives.get(primary.name)
            mean = None if found is None else found.mean
            self.gates.append(least_gate(asked.least, mean, missing=score.missing, objective=primary.name))

    def keep(self, harness: Path, result: Evaluation) -> None:
        """Write the score where it is to be saved."""
        from metaharness.run.reference import saved_score

        if self.asked.save is None or result.score is None or self.standing is None:
            return
        saved = saved_score(harness, result, self.standing, first_trial=self.first_trial)
        _write(self.asked.save, saved.model_dump_json(indent=1) + "\n")
        if result.score.missing:
            typer.echo(f"note: {self.asked.save} is incomplete, so no gate passes against it", err=True)

    def tell_report(self, harness: Path, config: RunConfig, result: Evaluation) -> bool:
        """Write or print the report; whether it was printed. There is none of an evaluation that was stopped."""
        from metaharness.cli.reports import Reported, junit, markdown

        if self.asked.report is None or self.standing is None or (result.score is None and result.rejection is None):
            return False
        reported = Reported(harness, config, self.standing, result, self.reference, self.judgement, self.gates)
        text = junit(reported) if self.asked.report == "junit" else markdown(reported)
        if self.asked.report_file is None:
            typer.echo(text)
            return True
        _write(self.asked.report_file, text + "\n")
        return False

    def record(self) -> dict[str, Any]:
        """What `--json` says of it; nothing that was not asked for."""
        page: dict[str, Any] = {"first_trial": self.first_trial} if self.asked.fresh else {}
        if self.judgement is not None and self.reference is not None:
            page["comparison"] = {**comparison_record(self.reference, self.judgement), "notes": self.notes}
        if self.gates:
            page["gates"] = [vars(gate) for gate in self.gates]
        return page

    def lines(self) -> list[str]:
        """What a person is told of it."""
        from metaharness.scoring.verdicts import delta_text

        lines: list[str] = []
        if self.judgement is not None and self.reference is not None and self.standing is not None:
            found, primary = self.judgement.comparison, self.standing.objective.name
            lines.append(f"{primary} against {self.reference.name}: {delta_text(found)}: {self.judgement.said}")
            lines += [_listed("fixed", found.improved), _listed("broken", found.regressed)]
        lines += [f"gate {one.name}: {'passed' if one.passed else 'did not pass'}: {one.reason}" for one in self.gates]
        return lines

    def exit(self) -> None:
        """End with exit code 4 where a gate did not pass."""
        failed = [gate for gate in self.gates if not gate.passed]
        if failed:
            gates = "; ".join(f"{gate.name}: {gate.reason}" for gate in failed)
            complain(f"a gate did not pass: {gates}", "`--report markdown` lists the cases that failed or were broken")
            raise typer.Exit(NOT_PASSED)


def comparison_record(reference: Reference, judgement: Judgement) -> dict[str, Any]:
    """The comparison as JSON."""
    found = judgement.comparison
    return {
        "against": reference.name,
        "mean_there": reference.mean,
        "missing_there": reference.missing,
        "sandbox_there": reference.sandbox,
        "verdict": judgement.said,
        "delta": found.delta,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "method": found.method,
        "units": found.units,
        "fixed": list(found.improved),
        "broken": list(found.regressed),
        "same": len(found.unchanged),
    }


def _listed(title: str, units: Sequence[str]) -> str:
    more = f" and {len(units) - _SHOWN} more" if len(units) > _SHOWN else ""
    return f"{title}: {len(units)}" + (f" ({', '.join(units[:_SHOWN])}{more})" if units else "")


def _same_file(one: Path, other: Path) -> bool:
    return one.expanduser().resolve() == other.expanduser().resolve()


def _check_writable(path: Path) -> None:
    """A path that cannot be written is told before anything is paid for; nothing is left there before the end."""
    from metaharness.errors import UsageError

    reason = None
    if not path.absolute().parent.is_dir():
        reason = "there is no such folder"
    elif path.is_dir():
        reason = "it is a folder"
    elif not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        reason = "permission denied"
    if reason is not None:
        raise UsageError(f"cannot write {path}: {reason}", hint="give a path in an existing folder")


def _write(path: Path, text: str) -> None:
    from metaharness.errors import UsageError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="give a path in an existing folder") from error
