"""What a run stands on: its domain, its cases in the run's order, and the check that none of it has changed."""

from __future__ import annotations

import inspect
import platform
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from metaharness import __version__
from metaharness.configuration import RunConfig, RunRecord
from metaharness.domain import Case, Domain, Split, cases_hash, domain_hash, evaluator_hash, split_cases
from metaharness.errors import ConfigurationError, DomainError, UsageError
from metaharness.evaluation.workbench import Material
from metaharness.gateway.prices import PriceTable
from metaharness.holdout import sealed_size
from metaharness.loading import load_domain
from metaharness.marks import Marks, content_hash
from metaharness.records import now
from metaharness.run.objectives import run_objectives
from metaharness.sandbox import Sandbox, open_sandbox
from metaharness.sandbox.choosing import tried
from metaharness.sandbox.environments import Environment, environment_for
from metaharness.seals import SUFFIX, FoundSeal, find_seal
from metaharness.store import is_run

PACKAGES, REQUIREMENTS = "harness_packages", "harness_requirements"
"""What the provenance has of an environment: its packages, and the hash of what the domain asks for."""

TESTED = 2
"""The winner and the best baseline."""


@dataclass(frozen=True)
class Ground:
    """A loaded domain with the cases of one split."""

    domain: Domain
    split: Split
    cases: dict[str, Case]
    """By id, in the order in which they are evaluated."""
    train: Sequence[Case]
    options: Sequence[str] = ()
    """The values of the domain's options: paths among them are data."""
    scripts: frozenset[Path] = frozenset()
    """What scripted models answer from: it may lie beside the domain and is no part of it."""

    @cached_property
    def files(self) -> Marks:
        """The files that decide a score, as they were when this was first asked. A seal is looked at apart."""
        watched = [path for path in self._watched() if not path.name.endswith(SUFFIX)]
        self._seal  # noqa: B018 - as it is now, too
        return Marks.of(watched)

    @cached_property
    def _seal(self) -> tuple[FoundSeal, Marks] | None:
        """What stands for the test split; None where the domain reads that itself."""
        found = find_seal(self.domain)
        return None if found is None else (found, Marks.of([found.path]))

    def changed(self) -> list[Path]:
        """The files that are not what they were then; modules that came to stand beside `domain.py` too.

        A test split that was sealed, or brought back, is what it was.
        """
        new = [path for path in self.domain.root.glob("*.py") if path not in self.files]
        found = [path for path in self.files.changed() if not self._was_sealed(path)]
        return found + sorted(new) + self._seal_changed()

    def _was_sealed(self, path: Path) -> bool:
        """Whether a seal came to stand for exactly this file."""
        try:
            found = None if path.exists() else find_seal(self.domain)
        except DomainError:  # it stands for nothing
            return False
        return found is not None and (found.file, found.seal.file_sha256) == (path, self.files.hashes()[path])

    def _seal_changed(self) -> list[Path]:
        """The seal where it is another one, or the file that it stood for where that has come back as another one."""
        if self._seal is None:
            return []
        found, marks = self._seal
        if found.file.exists():
            return [] if content_hash(found.file) == found.seal.file_sha256 else [found.file]
        return marks.changed()

    def own_hashes(self) -> dict[str, str]:
        """SHA-256 of those files that lie in the domain's folder, by their path from there; of a sealed one too."""
        root, hashes = self.domain.root, self.files.hashes()
        if self._seal is not None:
            hashes[self._seal[0].file] = self._seal[0].seal.file_sha256
        return {path.relative_to(root).as_posix(): sha for path, sha in hashes.items() if path.is_relative_to(root)}

    def _watched(self) -> list[Path]:
        return [path for path in watched_files(self.domain, self.options) if path.resolve() not in self.scripts]

    @cached_property
    def environment(self) -> Environment | None:
        """What was installed for the domain's harnesses; built when it is first asked for. None without requirements.

        Raises:
            DomainError: The file of requirements cannot be used.
            SandboxError: It cannot be installed.
        """
        file = self.domain.requirements()
        return None if file is None else environment_for(file)

    @property
    def python(self) -> str | None:
        """The interpreter of workers; None is the engine's own. Raises what `environment` does."""
        return self.domain.python if self.environment is None else self.environment.python

    def material(self, sandbox: Sandbox, stop: Callable[[], bool]) -> Material:
        """What evaluations are made of."""
        examples: list[dict[str, Any]] = []

        def shown() -> list[dict[str, Any]]:
            if not examples:
                examples.extend({"input": case.input, "expected": case.expected} for case in self.train)
            return examples

        return Material(self.domain, sandbox, self.cases, shown, stop, self.python)

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
    options = tuple(config.domain_options.values())
    scripts = frozenset(Path(model.name).resolve() for model in config.models.values() if model.provider == "scripted")
    return Ground(domain, split, {case.id: case for case in chosen}, train, options, scripts)


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
    several = ground.domain.subprocess
    return open_sandbox(config.sandbox, python=ground.python, command=config.sandbox_command, subprocess=several)


def sandbox_told(config: RunConfig, ground: Ground) -> str:
    """Which sandbox it is, in a line; with why `auto` has passed over a stronger one.

    Raises:
        UsageError: As `sandbox_of`.
        SandboxError: As `sandbox_of`.
    """
    name = sandbox_of(config, ground).name
    if config.sandbox != "auto":
        return name
    over = [one for one in tried(ground.python, ground.domain.subprocess) if one.problem is not None]
    return name + "".join(f"; not {one.name}: {' '.join((one.problem or '').split())}" for one in over)


def finish_pairs(config: RunConfig, domain: Domain) -> int:
    """How many pairs of case and trial `finish` evaluates at most; exact where the winner is no baseline.

    Only the number of test cases is asked for. A run that is to propose nothing tests its best baseline alone.

    Raises:
        DomainError: The test split cannot be read.
    """
    return (TESTED if config.iterations else 1) * sealed_size(domain)[0] * config.trials


def check_start(config: RunConfig, ground: Ground) -> None:
    """Make sure that a run can get past its baselines, before there is a directory and before anything is spent.

    Raises:
        DomainError: There are none.
        UsageError: The budget of case evaluations does not reach them and `finish`, there is no such sandbox, or an
            objective was chosen that cannot be one.
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
    _check_reaches(config, ground, count)


def _check_reaches(config: RunConfig, ground: Ground, count: int) -> None:
    bound = config.budget.case_evaluations
    if bound is None:
        return
    needed = count * len(ground.cases) * config.trials
    hint = "raise --budget-cases, or evaluate fewer cases with --limit"
    if bound < needed:
        raise UsageError(
            f"a budget of {bound} case evaluations does not reach the {count} baselines: they need {needed}", hint=hint
        )
    kept = finish_pairs(config, ground.domain)
    if bound < needed + kept:
        raise UsageError(
            f"a budget of {bound} case evaluations does not reach the {count} baselines and the sealed test: "
            f"they need {needed} and {kept}, {needed + kept} in all",
            hint=hint,
        )


def _check_priced(config: RunConfig, ground: Ground) -> None:
    target = config.models["target"]
    prices = PriceTable(config.prices)
    objectives = run_objectives(config, ground.domain)
    if any(objective.name == "usd" for objective in objectives) and prices.price(target) is None:
        whose = "" if config.objectives else f" of {ground.domain.name}"
        raise ConfigurationError(
            f"usd is an objective{whose}, and the price of {target.id} is unknown",
            hint=prices.advice(target),
        )


LEFT_OUT = frozenset({"__pycache__", "proposals", "tests"})
"""Folders of a domain that decide no score."""
ABOUT = frozenset({".md", ".toml"})
"""Files beside `domain.py` that are about it; `DOMAIN.md` is told to proposers, so it counts."""


def watched_files(domain: Domain, options: Iterable[str]) -> list[Path]:
    """What decides a score: the files of the domain's folder, baselines, driver, evaluator, and data named by options.

    Of the folder: everything that is not hidden, except what is about it, proposals, tests and folders of runs. Where
    the domain is no folder with a `domain.py`: the Python files beside its module, and `data`.
    """
    root = domain.root
    found = {path for path in root.glob("*.py") if path.is_file()}
    if (root / "domain.py").is_file():
        found |= {path for path in _below(root) if path.parent != root or path.suffix not in ABOUT}
    else:
        found |= set(_below(root / "data"))
    for path in (root / "DOMAIN.md", domain.driver(), _evaluator_file(domain), *domain.baselines()):
        if path is not None:
            found |= set(_below(path))
    for option in options:
        found |= set(_below(Path(option).expanduser().absolute()))
    return sorted(found)


def _evaluator_file(domain: Domain) -> Path | None:
    """The source file of the evaluator's `grade`, which may lie anywhere; None where there is none."""
    code = getattr(inspect.unwrap(type(domain.evaluator).grade), "__code__", None)
    return None if code is None else Path(code.co_filename)


def _below(path: Path) -> Iterator[Path]:
    """A file, or the files below a folder."""
    try:
        if path.is_file():
            yield path
        elif path.is_dir():
            for entry in sorted(path.iterdir()):
                if not entry.name.startswith(".") and entry.name not in LEFT_OUT and not _holds_runs(entry):
                    yield from _below(entry)
    except OSError:  # such as an option that is a long text and no path
        return


def _holds_runs(folder: Path) -> bool:
    return folder.is_dir() and any(is_run(inner) for inner in folder.iterdir())


def record_factory(config: RunConfig, ground: Ground) -> Callable[[str], RunRecord]:
    """Makes `config.json` once the id of the run is known."""
    domain = ground.domain
    return partial(
        _record,
        config=config,
        domain_name=domain.name,
        objectives=run_objectives(config, domain),
        packages=_packages(ground),
        **hashes(ground),
    )


def _record(run_id: str, packages: dict[str, str], **fields: Any) -> RunRecord:
    provenance = {"metaharness": __version__, "python": sys.version.split()[0], "platform": platform.platform()}
    provenance |= packages
    return RunRecord(run_id=run_id, created=now(), provenance=provenance, **fields)


def hashes(ground: Ground) -> dict[str, Any]:
    """What a run's record says of its domain, by field."""
    by_id = sorted(ground.cases.values(), key=lambda case: case.id)
    return {
        "domain_hash": domain_hash(ground.domain),
        "evaluator_hash": evaluator_hash(ground.domain),
        "files": ground.own_hashes(),
        "split_hashes": {Split.TRAIN.value: cases_hash(ground.train), Split.SEARCH.value: cases_hash(by_id)},
    }


def _packages(ground: Ground) -> dict[str, str]:
    """What harnesses could import, as the provenance has it; empty without requirements."""
    found = ground.environment
    return {} if found is None else {PACKAGES: " ".join(found.packages), REQUIREMENTS: found.content}


def check_unchanged(record: RunRecord, ground: Ground) -> None:
    """Make sure that the run goes on with the domain it was begun with.

    Raises:
        DomainError: Naming what has changed.
    """
    found = hashes(ground)
    changed = [name for name in ("domain_hash", "evaluator_hash") if found[name] != getattr(record, name)]
    splits = found["split_hashes"].items()
    changed += [f"{split} split" for split, value in splits if record.split_hashes.get(split) != value]
    was, found_now = record.provenance, _packages(ground)
    if not changed and any(was.get(name) != found_now.get(name) for name in (PACKAGES, REQUIREMENTS)):
        # the same lines, installed anew: another release fits them, or a wheel has other content
        changed.append(f"what is installed for harnesses (was {was.get(PACKAGES)}, is {found_now.get(PACKAGES)})")
    paths = sorted(name for name, value in record.files.items() if found["files"].get(name) != value)
    if changed or paths:
        what = ", ".join(name.replace("_hash", "") for name in changed)
        what = what + f" ({', '.join(paths)})" if what and paths else what or ", ".join(paths)
        raise DomainError(
            f"the domain in {ground.domain.root} is not the one this run was begun with; changed: {what}",
            hint="undo the change, or start a new run: scores before and after it cannot be compared; where only the "
            "evaluator or what it expects has changed, `metaharness regrade` grades the stored answers anew",
        )
