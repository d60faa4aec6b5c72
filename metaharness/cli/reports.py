"""The report of an evaluation, for CI jobs: JUnit XML or a markdown table. Only text is made here.

JUnit: each gate is a test case, and the only one that fails, beside a harness that the ladder rejects (an `error`): a
viewer is red where the exit code is, as a harness may be good enough and wrong in some cases. One test case per case
passes, and says in its output what was not answered as well as can be, and whether it was `broken` since the score it
is compared with; one without a value is `skipped`. The verdict and the numbers are properties of the suite.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from metaharness.records import MISSING

if TYPE_CHECKING:
    from metaharness.configuration import RunConfig
    from metaharness.records import CaseTrace, ObjectiveRecord
    from metaharness.run.reference import Reference, Standing
    from metaharness.run.standalone import Evaluation
    from metaharness.scoring.gates import Gate
    from metaharness.scoring.verdicts import Judgement

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write; a harness may answer with anything."""
_LONG = 120
"""Characters of an answer in one line."""
_MOST = 50
"""Cases listed in a markdown table."""


@dataclass(frozen=True)
class Reported:
    """What a report is made from."""

    harness: Path
    config: RunConfig
    standing: Standing
    result: Evaluation
    reference: Reference | None
    judgement: Judgement | None
    gates: Sequence[Gate]


@dataclass(frozen=True)
class CaseLine:
    """One case over its trials."""

    case_id: str
    traces: Sequence[CaseTrace]
    failed: Sequence[CaseTrace]
    """The trials that were not answered as well as can be; for an unbounded objective those without an answer."""
    missing: bool
    now: float | None
    """The mean of its unit; None where every pair is missing."""
    before: float | None
    change: str
    """`fixed`, `broken`, or empty."""


def case_lines(reported: Reported) -> list[CaseLine]:
    """Every case, by id."""
    from metaharness.scoring.measures import row_means

    rows = reported.result.rows
    now = row_means(rows)
    before = row_means(reported.reference.rows) if reported.reference is not None else {}
    found = reported.judgement.comparison if reported.judgement is not None else None
    improved, regressed = (set(found.improved), set(found.regressed)) if found is not None else (set(), set())
    units = {row.case_id: row.unit for row in rows}
    missing = {row.case_id for row in rows if row.missing}
    by_case: dict[str, list[CaseTrace]] = {}
    for _, trace in sorted(reported.result.traces.items()):
        by_case.setdefault(trace.case_id, []).append(trace)
    primary = reported.result.objectives[0]
    return [
        CaseLine(
            case_id,
            traces,
            [trace for trace in traces if not _succeeded(trace, primary)],
            case_id in missing,
            now.get(unit),
            before.get(unit),
            "fixed" if unit in improved else "broken" if unit in regressed else "",
        )
        for case_id, traces in by_case.items()
        for unit in (units[case_id],)
    ]


def _succeeded(trace: CaseTrace, objective: ObjectiveRecord) -> bool:
    if trace.status != "ok" or not trace.grades:
        return False
    if objective.range is None:
        return True
    best = objective.range[1] if objective.direction == "max" else objective.range[0]
    return trace.grades[-1].value == best


def facts(reported: Reported) -> list[tuple[str, str]]:
    """Name and value of everything that is said of the whole evaluation."""
    from metaharness.scoring.scoreboard import format_estimate, format_gap, format_p

    standing, score = reported.standing, reported.result.score
    found = [
        ("harness", str(reported.harness)),
        ("domain", standing.domain),
        ("split", standing.split),
        ("model", standing.model),
        ("trials", str(standing.trials)),
    ]
    if reported.result.rejection is not None:
        found.append(("rejected", f"at {reported.result.rejection.stage}: {reported.result.rejection.message}"))
    if score is not None:
        found.append(("sandbox", score.sandbox))
        found += [(one.name, format_estimate(score, one)) for one in reported.result.objectives]
        found.append(("missing", format_gap(score).replace(" missing", "") if score.missing else "0"))
    if reported.judgement is not None and reported.reference is not None:
        test = reported.judgement.comparison
        interval = "-" if test.low is None else f"[{test.low:+.3f}, {test.high:+.3f}]"
        found += [
            ("against", reported.reference.name),
            ("sandbox there", reported.reference.sandbox),
            ("verdict", reported.judgement.said),
            ("delta", "-" if test.delta is None else f"{test.delta:+.3f}"),
            ("interval", interval),
            ("p", format_p(test.p)),
            ("fixed", str(len(test.improved))),
            ("broken", str(len(test.regressed))),
        ]
    found += [
        (f"gate {one.name}", f"{'passed' if one.passed else 'did not pass'}: {one.reason}") for one in reported.gates
    ]
    return found


# --- JUnit ------------------------------------------------------------------------------------------------------


def junit(reported: Reported) -> str:
    """The evaluation as JUnit XML."""
    lines = case_lines(reported)
    rejected = reported.result.rejection
    suite = ET.Element("testsuite", name=_xml(f"metaharness {reported.standing.domain} {reported.standing.split}"))
    properties = ET.SubElement(suite, "properties")
    for name, value in facts(reported):
        ET.SubElement(properties, "property", name=_xml(name), value=_xml(value))
    if rejected is not None:
        case = ET.SubElement(suite, "testcase", classname="metaharness", name="ladder", time="0.000")
        problem = ET.SubElement(case, "error", type=rejected.stage, message=_xml(_short(rejected.message)))
        problem.text = _xml(rejected.traceback or rejected.message)
    for line in lines if rejected is None else ():
        _test_case(suite, line, reported)
    whole = ET.Element("testsuites", name="metaharness")
    whole.append(suite)
    if reported.gates:
        whole.append(_gates(reported.gates))
    seconds = f"{sum(_seconds(line) for line in lines):.3f}"
    for part, time in ((whole, seconds), (suite, seconds), *((other, "0.000") for other in whole[1:])):
        part.attrib.update({**_counts(part), "time": time})
    ET.indent(whole)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(whole, encoding="unicode")


def _counts(part: ET.Element) -> dict[str, str]:
    """Of a suite, or of all of them."""
    found = {"tests": "testcase", "failures": "failure", "errors": "error"}
    if part.tag == "testsuite":  # the schema has no such attribute for all of them
        found["skipped"] = "skipped"
    return {name: str(len(list(part.iter(tag)))) for name, tag in found.items()}


def _gates(gates: Sequence[Gate]) -> ET.Element:
    suite = ET.Element("testsuite", name="metaharness gates")
    for gate in gates:
        case = ET.SubElement(suite, "testcase", classname="metaharness.gates", name=_xml(gate.name), time="0.000")
        if not gate.passed:
            problem = ET.SubElement(case, "failure", type="gate", message=_xml(gate.reason))
            problem.text = _xml(f"the gate {gate.name} did not pass: {gate.reason}")
    return suite


def _test_case(suite: ET.Element, line: CaseLine, reported: Reported) -> None:
    place = f"{reported.standing.domain}.{reported.standing.split}"
    case = ET.SubElement(
        suite, "testcase", classname=_xml(place), name=_xml(line.case_id), time=f"{_seconds(line):.3f}"
    )
    if not line.failed:
        return
    first = next((one for one in line.failed if one.status in MISSING), line.failed[0])
    if line.missing:
        ET.SubElement(case, "skipped", message=_xml(_problem(first)))
    why = "broken: " if line.change == "broken" else "wrong: " if first.status == "ok" else ""
    output = ET.SubElement(case, "system-out")
    output.text = _xml("\n\n".join([f"{why}{_problem(first)}", *map(_account, line.failed)]))


def _problem(trace: CaseTrace) -> str:
    """What went wrong, in one line."""
    if trace.status != "ok":
        last = next((one.strip() for one in reversed((trace.error or "").splitlines()) if one.strip()), "")
        return f"{trace.status}: {_short(last)}" if last else trace.status
    notes = _short(trace.grades[-1].notes) if trace.grades else ""
    if notes.startswith("expected "):
        return notes
    return f"expected {_short(trace.expected)}, got {_short(trace.output)}" + (f": {notes}" if notes else "")


def _account(trace: CaseTrace) -> str:
    """All that is known of one trial, without its calls."""
    grade = trace.grades[-1] if trace.grades else None
    parts = [
        f"trial:    {trace.trial}",
        f"status:   {trace.status}",
        f"input:    {_text(trace.input)}",
        f"expected: {_text(trace.expected)}",
        f"got:      {_text(trace.output)}",
    ]
    if grade is not None:
        parts.append(f"score:    {grade.value:g}")
    if grade is not None and grade.notes:
        parts.append(f"notes:    {grade.notes}")
    if trace.error:
        parts.append(f"error:    {trace.error.rstrip()}")
    return "\n".join(parts)


def _seconds(line: CaseLine) -> float:
    """The harness's own time and what it waited for models, over all trials."""
    return sum(trace.duration_ms + sum(call.latency_ms for call in trace.calls) for trace in line.traces) / 1000


def _xml(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


# --- markdown ---------------------------------------------------------------------------------------------------


def markdown(reported: Reported) -> str:
    """The evaluation as markdown: a table of numbers, then the cases that changed or failed."""
    failed = [gate for gate in reported.gates if not gate.passed]
    state = "no gate" if not reported.gates else "a gate did not pass" if failed else "gates passed"
    if reported.result.rejection is not None:
        state = "rejected"
    lines = [f"## metaharness: {state}", "", "| | |", "|---|---|"]
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts(reported)]
    cases = case_lines(reported) if reported.result.rejection is None else []
    if reported.judgement is not None:
        for title in ("broken", "fixed"):
            lines += _table(title, [line for line in cases if line.change == title])
    else:
        lines += _table("failed", [line for line in cases if line.failed and not line.missing])
    lines += _table("without a value", [line for line in cases if line.missing])
    return "\n".join(lines)


def _table(title: str, cases: Sequence[CaseLine]) -> list[str]:
    if not cases:
        return []
    lines = ["", f"### {title[0].upper()}{title[1:]}: {len(cases)}", "", "| case | before | now | expected | got |"]
    lines.append("|---|---|---|---|---|")
    for line in cases[:_MOST]:
        trace = (line.failed or line.traces)[0]
        got = _short(trace.output) if trace.status == "ok" else _problem(trace)
        cells = [line.case_id, _mean(line.before), _mean(line.now), _short(trace.expected), got]
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    if len(cases) > _MOST:
        lines += ["", f"... and {len(cases) - _MOST} more"]
    return lines


def _mean(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _cell(text: str) -> str:
    """A text that stays one cell: what markdown or HTML would read as its own is written out."""
    one_line = "".join(character if character.isprintable() else " " for character in text)
    return re.sub(r"([\\|`*<>]|(?<=\])\()", r"\\\1", " ".join(one_line.split()))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str:
    text = " ".join(_text(value).split())
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."
