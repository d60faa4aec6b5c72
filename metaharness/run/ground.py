"""What a run stands on: its domain, its cases in the run's order, and the check that none of it has changed."""

from __future__ import annotations

import platform
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from metaharness import __version__
from metaharness.configuration import RunConfig, RunRecord
from metaharness.domain import Case, Domain, Split, cases_hash, domain_hash, evaluator_hash, split_cases
from metaharness.errors import ConfigurationError, DomainError, UsageError
from metaharness.evaluation.workbench import Material
from metaharness.gateway.prices import PriceTable
from metaharness.loading import load_domain
from metaharness.records import now
from metaharness.sandbox import Sandbox, open_sandbox


@dataclass(frozen=True)
class Ground:
    """A loaded domain with the cases of one split."""

    domain: Domain
    split: Split
    cases: dict[str, Case]
    """By id, in the order in which they are evaluated."""
    train: Sequence[Case]

    def material(self, sandbox: Sandbox, stop: Callable[[], bool]) -> Material:
        """What evaluations are made of."""
        examples: list[dict[str, Any]] = []

        def shown() -> list[dict[str, Any]]:
            if not examples:
                examples.extend({"input": case.input, "expected": case.expected} for case in self.train)
            return examples

        return Material(self.domain, sandbox, self.cases, shown, stop)

    @property
    def redact(self) -> Callable[[str], str] | None:
        """The domain's redaction; None where it has none, so that no text is walked for nothing."""
        return None if type(self.domain).redact is Domain.redact else self.domain.redact

    def pairs(self, trials: int) -> list[tuple[str, int]]:
        """(case id, trial) for every case and trial: trial by trial, in order."""
        return [(case_id, trial) for trial in range(trials) for case_id in self.cases]


def prepare(config: RunConfig, split: Split = Split.SEARCH) -> Ground:
    """Load the domain and one split, shuffled once by the seed.

    Raises:
        UsageError: The domain is not there, or the split has no cases.
        DomainError: It is not valid.
    """
    domain = load_domain(config.domain, config.domain_options)
    cases = split_cases(domain, split)
    if not cases:
        raise UsageError(f"split {split.value} of {domain.name} has no cases", hint="check the domain's data")
    train = list(cases) if split is Split.TRAIN else split_cases(domain, Split.TRAIN)
    chosen = in_order(cases, config.seed)[: config.limit]
    return Ground(domain, split, {case.id: case for case in chosen}, train)


def in_order(cases: Iterable[Case], seed: int) -> list[Case]:
    """Cases shuffled once by the seed; the order does not depend on how the domain happens to read its files."""
    ordered = sorted(cases, key=lambda case: case.id)
    random.Random(seed).shuffle(ordered)
    return ordered


def sandbox_of(config: RunConfig, ground: Ground) -> Sandbox:
    """Where the candidates of a domain run.

    Raises:
        UsageError: There is no such sandbox.
        SandboxError: It does not work on this machine.
    """
    domain = ground.domain
    return open_sandbox(
        config.sandbox, python=domain.python, command=config.sandbox_command, subprocess=domain.subprocess
    )


def check_start(config: RunConfig, ground: Ground) -> None:
    """Make sure that a run can get past its baselines, before there is a directory and before anything is spent.

    Raises:
        DomainError: There are none.
        UsageError: The budget of case evaluations does not reach them, or there is no such sandbox.
        SandboxError: The sandbox does not work on this machine.
        ConfigurationError: Dollars are an objective, and the model has no price.
    """
    sandbox_of(config, ground)
    _check_priced(config, ground)
    count = len(ground.domain.baselines())
    if not count:
        raise DomainError(
            f"{ground.domain.name} has no baselines in {ground.domain.root / 'baselines'}",
            hint="add at least one harness there, such as baselines/zero_shot.py: it becomes iteration 000",
        )
    needed, bound = count * len(ground.cases) * config.trials, config.budget.case_evaluations
    if bound is not None and bound < needed:
        raise UsageError(
            f"a budget of {bound} case evaluations does not reach the {count} baselines: they need {needed}",
            hint="raise --budget-cases, or evaluate fewer cases with --limit",
        )


def _check_priced(config: RunConfig, ground: Ground) -> None:
    target = config.models["target"]
    if any(o.name == "usd" for o in ground.domain.objectives) and PriceTable(config.prices).price(target) is None:
        raise ConfigurationError(
            f"usd is an objective of {ground.domain.name}, and the price of {target.id} is unknown",
            hint=f"tell it: --price {target.id}=INPUT,OUTPUT in dollars per million tokens",
        )


def record_factory(config: RunConfig, ground: Ground) -> Callable[[str], RunRecord]:
    """Makes `config.json` once the id of the run is known."""
    domain = ground.domain
    return partial(
        _record,
        config=config,
        domain_name=domain.name,
        objectives=[objective.record() for objective in domain.objectives],
        **_hashes(ground),
    )


def _record(run_id: str, **fields: Any) -> RunRecord:
    provenance = {"metaharness": __version__, "python": sys.version.split()[0], "platform": platform.platform()}
    return RunRecord(run_id=run_id, created=now(), provenance=provenance, **fields)


def _hashes(ground: Ground) -> dict[str, Any]:
    by_id = sorted(ground.cases.values(), key=lambda case: case.id)
    return {
        "domain_hash": domain_hash(ground.domain),
        "evaluator_hash": evaluator_hash(ground.domain),
        "split_hashes": {Split.TRAIN.value: cases_hash(ground.train), Split.SEARCH.value: cases_hash(by_id)},
    }


def check_unchanged(record: RunRecord, ground: Ground) -> None:
    """Make sure that the run goes on with the domain it was begun with.

    Raises:
        DomainError: Naming what has changed.
    """
    found = _hashes(ground)
    changed = [name for name in ("domain_hash", "evaluator_hash") if found[name] != getattr(record, name)]
    splits = found["split_hashes"].items()
    changed += [f"{split} split" for split, value in splits if record.split_hashes.get(split) != value]
    if changed:
        what = ", ".join(name.replace("_hash", "") for name in changed)
        raise DomainError(
            f"the domain in {ground.domain.root} is not the one this run was begun with; changed: {what}",
            hint="undo the change, or start a new run: scores before and after it cannot be compared",
        )
