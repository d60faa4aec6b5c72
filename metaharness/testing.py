"""The public test kit: stand-ins that ship with the package, the checks that every domain and every sandbox run."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from metaharness.attacks import SandboxReport, check_sandbox
from metaharness.configuration import RunConfig
from metaharness.domain import Case, Domain, GradeContext, Split, split_cases
from metaharness.errors import DomainError, MetaharnessError
from metaharness.evaluation.grading import grade_record
from metaharness.evaluation.ladder import SMOKE_CASES, check_files
from metaharness.evaluation.runner import SandboxRunner
from metaharness.evaluation.session import Doors
from metaharness.fingerprints import Fingerprint, fingerprints
from metaharness.gateway import Gateway, MemoryJournal
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers.scripted import ScriptedProvider as ScriptedModel
from metaharness.gateway.shared import open_shared
from metaharness.holdout import sealed_fingerprints
from metaharness.loading import read_candidate
from metaharness.proposers.scripted import ScriptedProposer
from metaharness.records import EvaluationPlan
from metaharness.run.ground import prepare, sandbox_of
from metaharness.seals import find_seal, fits, reader_hash, seals_of
from metaharness.ungroup import ungrouped

__all__ = ["DomainReport", "SandboxReport", "ScriptedModel", "ScriptedProposer", "check_domain", "check_sandbox"]

MOST_SHARED = 0.01
"""The share of a split that may stand in another one before the domain is not valid: few sets are free of repeats."""
SHOWN = 5
"""Examples named for each finding."""
HOOKS = frozenset({"ask", "build", "check", "learn"})
"""What a driver may define."""


@dataclass
class DomainReport:
    """What the check has found. A domain is valid when there are no problems; warnings are for its author to judge."""

    domain: str
    splits: dict[str, int] = field(default_factory=dict)
    """Cases by split."""
    baselines: list[str] = field(default_factory=list)
    """Those that pass the ladder."""
    packages: list[str] = field(default_factory=list)
    """What was installed for harnesses, such as `numpy==2.3.0`; empty without harness-requirements.txt."""
    seal: str | None = None
    """What stands for the test cases where they are sealed; None where the domain reads them itself."""
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        """Whether a run can begin."""
        return not self.problems


async def check_domain(config: RunConfig) -> DomainReport:
    """Check that a domain can be searched: splits, evaluator, baselines on the ladder, text shared across splits.

    Args:
        config: The domain, its options and the model that the smoke cases ask.

    Raises:
        MetaharnessError: The domain cannot be loaded at all; the message says what is missing.
    """
    ground = prepare(config)
    report = DomainReport(ground.domain.name)
    report.packages = [] if ground.environment is None else list(ground.environment.packages)
    prints = _splits(ground.domain, report)
    _seal(ground.domain, report)
    _shared_text(prints, report)
    await _evaluator(ground.domain, next(iter(ground.cases.values())), report)
    _driver(ground.domain, report)
    baselines = ground.domain.baselines()
    if not baselines:
        report.problems.append(
            f"no baselines in {ground.domain.root / 'baselines'}: iteration 000 is the first of them"
        )
    for path in baselines:
        await _baseline(path, config, report)
    if not ground.domain.instructions():
        report.warnings.append("there is no DOMAIN.md: a proposer is told nothing about the domain")
    return report


def _splits(domain: Domain, report: DomainReport) -> dict[str, dict[str, Fingerprint]]:
    prints: dict[str, dict[str, Fingerprint]] = {}
    for split in (Split.TRAIN, Split.SEARCH):
        cases = split_cases(domain, split)
        prints[split.value] = fingerprints(cases)
        if split is Split.TRAIN and not cases:
            report.warnings.append("split train has no cases: harnesses have nothing to learn from")
    try:
        prints["test"] = sealed_fingerprints(domain)
    except MetaharnessError as error:
        report.warnings.append(f"split test cannot be read, so no run can be finished: {error.message}")
        prints["test"] = {}
    else:
        if not prints["test"]:
            report.warnings.append("split test has no cases: no run can be finished")
    report.splits = {name: len(cases) for name, cases in prints.items()}
    return prints


def _seal(domain: Domain, report: DomainReport) -> None:
    """Where a seal stands for the test cases: whether `finish` could read them here, and as they are read now."""
    try:
        found = find_seal(domain)
        half = [one for one in seals_of(domain.root, domain.loaded_with) if fits(one, domain) and one.file.exists()]
    except DomainError:
        return  # the split cannot be read, which is told
    report.warnings += [
        f"{one.file} lies beside its seal {one.path.name}, so it counts as it is: `metaharness seal` completes what "
        "was begun"
        for one in half
    ]
    if found is None:
        return
    report.seal = str(found.path)
    if not found.here:
        missing = found.missing()
        report.warnings.append(f"no run can be finished on this machine: {missing.message}; {missing.hint}")
    if found.seal.reader_hash != reader_hash(domain):
        report.warnings.append(
            "the code of the domain has changed since the test cases were sealed: they stay as they were read then; "
            "`metaharness seal --undo`, then `metaharness seal`, reads them anew"
        )


def _shared_text(prints: Mapping[str, Mapping[str, Fingerprint]], report: DomainReport) -> None:
    for name, cases in prints.items():
        wholes: dict[int, str] = {}
        twice = [(case_id, wholes.setdefault(found.whole, case_id)) for case_id, found in cases.items()]
        repeats = [f"{case_id} = {first}" for case_id, first in twice if case_id != first]
        if repeats:
            report.warnings.append(f"{len(repeats)} duplicates within {name}{_examples(repeats, name)}")
    for a, b in (("train", "search"), ("train", "test"), ("search", "test")):
        wholes = {found.whole: case_id for case_id, found in prints[a].items()}
        same = [case_id for case_id, found in prints[b].items() if found.whole in wholes]
        if same:
            found = report.problems if len(same) > MOST_SHARED * len(prints[b]) else report.warnings
            found.append(f"{len(same)} of {len(prints[b])} cases of {b} are also in {a}{_examples(same, b)}")
        grams = frozenset[int]().union(*(found.grams for found in prints[a].values()))
        shared = [case_id for case_id, found in prints[b].items() if found.grams & grams and case_id not in same]
        if shared:
            share = f"{len(shared)} of {len(prints[b])} cases of {b}"
            report.warnings.append(f"{share} share ten words in a row with {a}{_examples(shared, b)}")


def _examples(found: list[str], split: str) -> str:
    """Some names; none of the sealed split."""
    return "" if split == "test" else f": {', '.join(found[:SHOWN])}{', ...' if len(found) > SHOWN else ''}"


async def _evaluator(domain: Domain, case: Case, report: DomainReport) -> None:
    """Grade the expected answer and no answer: both must give a grade, and the first should be the better one."""
    values: list[float] = []
    for output in (case.expected, None):
        context = GradeContext(case=case, output=output, calls=(), trial=0, files=None, judge=None)
        try:
            result = await anyio.to_thread.run_sync(domain.evaluator.grade, context)
            if inspect.isawaitable(result):
                result = await result
            values.append(grade_record(result, "").value)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a domain's own code
            what = "the expected answer" if output is not None else "the answer None"
            report.problems.append(f"grade() fails on {what} of case {case.id}: {type(error).__name__}: {error}")
            return
    primary = domain.objectives[0].record()
    gap = values[0] - values[1] if primary.direction == "max" else values[1] - values[0]
    if gap <= 0:
        # without an expected answer both are None; such a case may be graded by what the harness has done
        found = report.warnings if case.expected is None else report.problems
        found.append(f"grade() gives the expected answer of case {case.id} no better value than None")
    if primary.range is not None and not all(primary.range[0] <= value <= primary.range[1] for value in values):
        report.problems.append(f"grade() leaves the range {primary.range} of {primary.name}: {values}")


async def _baseline(path: Path, config: RunConfig, report: DomainReport) -> None:
    ground = prepare(config)
    try:
        rejection = check_files(read_candidate(path).files)
    except DomainError as error:
        report.problems.append(error.message)
        return
    if rejection is None:
        prices = PriceTable(config.prices)
        gateway = Gateway(
            config.models,
            journal=MemoryJournal(),
            ledger=Ledger(config.budget, prices),
            prices=prices,
            concurrency=config.concurrency,
            redact=ground.redact,
            shared=open_shared(config.cache),
        )
        plan = EvaluationPlan(
            candidate_path=str(path),
            candidate_hash="",
            pairs=tuple(ground.pairs(1)[:SMOKE_CASES]),
            split=ground.split.value,
            models=config.models,
            limits=ground.domain.limits,
            seed=config.seed,
        )
        try:
            gateway.open()
            with ungrouped():
                smoke = await SandboxRunner(ground.material(sandbox_of(config, ground), lambda: False)).smoke(
                    plan, Doors(gateway)
                )
        finally:
            await gateway.aclose()
        rejection = smoke.rejection
        if smoke.order_dependent:
            report.warnings.append(f"baseline {path.name} answers otherwise in another order: it is evaluated serially")
    if rejection is None:
        report.baselines.append(path.name)
    else:
        where = _last_frame(rejection.traceback or "")
        report.problems.append(
            f"baseline {path.name} fails the ladder at {rejection.stage}: {rejection.message}{where}"
        )


def _last_frame(traceback: str) -> str:
    """Where it was raised, such as ` (harness.py, line 3)`: the last frame in a file of the candidate, if any."""
    frames = re.findall(r'^\s*File "(.+)", line (\d+)', traceback, re.MULTILINE)
    own = [(file, line) for file, line in frames if not Path(file).is_absolute()]
    return "".join(f" ({file}, line {line})" for file, line in (own or frames)[-1:])


def _driver(domain: Domain, report: DomainReport) -> None:
    """Find a driver that drives nothing, such as one with a misspelt function. It is read, not executed."""
    driver = domain.driver()
    if driver is None:
        return
    try:
        tree = ast.parse(driver.read_bytes())
    except (OSError, SyntaxError, ValueError):  # no worker can be started with it, which says why
        return
    if not HOOKS & set(_bound(tree.body)):
        report.warnings.append(f"driver.py defines none of {', '.join(sorted(HOOKS))}: it changes nothing")


def _bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    """The names that statements bind at the top of a module, also below `if` and `try`."""
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (alias.asname or alias.name for alias in names)
            case _:
                found = (inner for inner in ast.walk(node) if isinstance(inner, ast.Name))
                yield from (inner.id for inner in found if isinstance(inner.ctx, ast.Store))
                for block in ("body", "orelse", "finalbody"):
                    yield from _bound(getattr(node, block, []))
