"""What goes out of a run, and how it is written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaharness import __version__
from metaharness.configuration import RunRecord
from metaharness.domain import REQUIREMENTS, Case, Domain, Split, cases_hash, domain_hash, split_cases
from metaharness.errors import DomainError, MetaharnessError, StoreError, UsageError
from metaharness.exporting.texts import page, program, requirements
from metaharness.history import History
from metaharness.holdout import read_result
from metaharness.loading import load_domain
from metaharness.records import Limits, now
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import RunStore
from metaharness.store.encoding import json_page, map_text
from metaharness.store.files import free_name


@dataclass(frozen=True)
class Export:
    """What was written."""

    path: Path
    numbers: Mapping[str, Any]
    """The content of `numbers.json`."""
    files: Sequence[str]
    """Relative to `path`, sorted."""
    warnings: Sequence[str]
    """What the person has to know; they are in the README of the export as well."""


@dataclass
class _FromDomain:
    """What only the domain can give."""

    examples: bytes | None = None
    """None: none go out."""
    driver: bytes | None = None
    requirements: str = ""
    call_seconds: float = Limits().call_seconds
    warnings: list[str] = field(default_factory=list)


def export(history: History, number: int | None = None, to: Path | None = None, *, examples: bool = True) -> Export:
    """Write a candidate and what it needs into a folder of its own, whole or not at all.

    Args:
        history: The run.
        number: The iteration; None for the best complete one.
        to: The folder, which does not exist or is empty; None for `RUN-NNN` in the working directory.
        examples: False to leave `examples.jsonl` out; then the domain may be gone, and the driver with it.

    Raises:
        UsageError: There is no such iteration, it was rejected, or the folder is not empty.
        DomainError: The domain cannot be loaded, or is not the one that the run was begun with.
        StoreError: The candidate cannot be read, or the folder cannot be written.
    """
    chosen = _chosen(history, number)
    record, store = history.record, history.store
    model = record.config.models["target"]
    target = _target(to if to is not None else Path(f"{record.run_id}-{chosen.number:03d}"))
    given = _from_domain(record, examples=examples)
    warnings = [*_doubts(chosen), *given.warnings]
    candidate = store.files(chosen.number)
    folder = chosen.proposal.layout == "folder"
    numbers = _numbers(store, record, chosen)
    files = {f"harness/{path}" if folder else path: text.encode() for path, text in candidate.items()}
    if given.driver is not None:
        files["driver.py"] = given.driver
    if given.examples is not None:
        files["examples.jsonl"] = given.examples
    files["numbers.json"] = json_page(numbers)
    files["requirements.txt"] = requirements(model.provider, [candidate.get(REQUIREMENTS, ""), given.requirements])
    texts = _asks_texts(store, chosen.number)
    files["use.py"] = program(
        model,
        seed=record.config.seed,
        call_seconds=given.call_seconds,
        examples=given.examples is not None,
        texts=texts,
    )
    files["README.md"] = page(
        numbers, sorted([*files, "README.md"]), warnings, shown=_first_input(given.examples), texts=texts
    )
    _write(target, files)
    return Export(target, numbers, sorted(files), warnings)


def sealed_test(store: RunStore, number: int) -> dict[str, Any] | None:
    """What the sealed test of the run said of an iteration; None while there is none, or where it was not tested."""
    result = read_result(store)
    row = next((row for row in result.rows if row.iteration == number), None) if result is not None else None
    if result is None or row is None:
        return None
    about = result.model_dump(mode="json", include={"look", "cases", "trials", "objective", "winner", "baseline"})
    test = result.model_dump(mode="json", include={"verdict", "delta", "low", "high", "p", "finished", "missing"})
    return {**about, **test, **row.model_dump(mode="json", include={"role", "objectives", "context_chars"})}


# --- what goes out ----------------------------------------------------------------------------------------------


def _chosen(history: History, number: int | None) -> Iteration:
    run = history.record.run_id
    if number is None:
        best = history.best()
        if best is None:
            raise UsageError(
                f"run {run} has no complete candidate yet",
                hint=f"`metaharness scoreboard {run}` shows what there is; `metaharness resume {run}` goes on",
            )
        return best
    chosen = history.iteration(number)
    if chosen.rejection is not None:
        raise UsageError(
            f"iteration {number:03d} was rejected at {chosen.rejection.stage}: it does not work",
            hint=f"leave the number out for the best one; `metaharness scoreboard {run}` shows the others",
        )
    return chosen


def _doubts(chosen: Iteration) -> list[str]:
    score = chosen.score
    if score is None:
        return [f"iteration {chosen.number:03d} has no score yet: nothing is known of it"]
    if not score.complete:
        return [
            f"iteration {chosen.number:03d} is incomplete: {score.missing} of {score.planned} cases are missing, "
            "and its numbers are over the rest"
        ]
    return []


def _from_domain(record: RunRecord, *, examples: bool) -> _FromDomain:
    try:
        domain, train = _unchanged(record, examples=examples)
        driver = domain.driver()
        beside = domain.requirements()
        found = _FromDomain(
            driver=driver.read_bytes() if driver is not None else None,
            requirements=beside.read_text(encoding="utf-8") if beside is not None else "",
            call_seconds=domain.limits.call_seconds,
        )
    except (DomainError, OSError, UnicodeDecodeError) as error:
        if not examples:
            return _FromDomain(warnings=[f"without driver and examples: {error}"])
        if isinstance(error, DomainError):
            raise
        raise DomainError(f"a file of the domain {record.domain_name} cannot be read: {error}", hint=_HINT) from error
    if train is None:
        found.warnings.append("without examples: the harness has to be taught before it is asked")
    else:
        found.examples = _examples(domain, train, found.warnings)
    if domain.online:
        found.warnings.append("in the run it learned from each answer in turn; use.py shows it the examples alone")
    if domain.python is not None:
        found.warnings.append(f"in the run it was executed by {domain.python}, with the packages installed there")
    return found


_HINT = "put the domain back as it was, or use --no-examples to go on without examples and driver"


def _unchanged(record: RunRecord, *, examples: bool) -> tuple[Domain, list[Case] | None]:
    """The domain of the run, and its training cases where examples are wanted."""
    try:
        domain = load_domain(record.config.domain, record.config.domain_options)
        train = split_cases(domain, Split.TRAIN) if examples else None
    except MetaharnessError as error:
        raise DomainError(
            f"the domain {record.domain_name} of run {record.run_id} cannot be loaded any more: {error.message}",
            hint=_HINT,
        ) from error
    changed = ["its code"] if domain_hash(domain) != record.domain_hash else []
    if train is not None and cases_hash(train) != record.split_hashes.get(Split.TRAIN.value):
        changed.append("the train split")
    if changed:
        raise DomainError(
            f"the domain in {domain.root} is not the one that run {record.run_id} was begun with; "
            f"changed: {', '.join(changed)}",
            hint=_HINT,
        )
    return domain, train


def _examples(domain: Domain, train: Sequence[Case], warnings: list[str]) -> bytes:
    """One line per training case, in the order in which `learn` sees them."""
    rows = [{"input": case.input, "expected": case.expected} for case in train]
    if type(domain).redact is not Domain.redact:
        kept = [{name: map_text(value, domain.redact) for name, value in row.items()} for row in rows]
        differing = sum(before != after for before, after in zip(rows, kept, strict=True))
        if differing:
            warnings.append(f"{differing} examples were redacted: the run was taught with the texts as they are")
        rows = kept
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _first_input(examples: bytes | None) -> Any:
    """Of the examples that go out; None where there are none."""
    return json.loads(examples.partition(b"\n")[0])["input"] if examples else None


def _numbers(store: RunStore, record: RunRecord, chosen: Iteration) -> dict[str, Any]:
    score, model = chosen.score, record.config.models["target"]
    estimates = score.objectives if score is not None else {}
    return {
        "run": record.run_id,
        "iteration": chosen.number,
        "name": chosen.proposal.name,
        "state": chosen.state,
        "domain": record.domain_name,
        "model": model.id,
        "base_url": model.base_url,
        "split": score.split if score is not None else None,
        "sandbox": score.sandbox if score is not None else None,
        "objectives": {
            one.name: {"direction": one.direction, "unit": one.unit, **estimates[one.name].model_dump()}
            for one in record.objectives
            if one.name in estimates
        },
        "bounds": score.bounds if score is not None else None,
        "cases": score.model_dump(include={"planned", "ended", "missing", "statuses", "trials"}) if score else None,
        "context_chars": score.context_chars if score is not None else None,
        "verdict": chosen.verdict.model_dump() if chosen.verdict is not None else None,
        "test": sealed_test(store, chosen.number),
        "candidate_hash": chosen.proposal.candidate_hash,
        "scored": score.finished if score is not None else None,
        "exported": now(),
        "version": __version__,
    }


def _asks_texts(store: RunStore, number: int) -> bool:
    """Whether all inputs that the candidate was asked are texts, so that a text that looks like JSON stays one."""
    return all(isinstance(trace.input, str) for trace in store.traces(number))


# --- writing ----------------------------------------------------------------------------------------------------


def _target(to: Path) -> Path:
    """The folder to make, checked before anything else is done."""
    with _system_errors(to):
        target = to.expanduser().resolve()
        if target == Path.cwd():
            raise UsageError("an export cannot take the place of the working directory", hint="name it: --to NAME")
        if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
            raise UsageError(
                f"{target} is there already, and is not an empty folder",
                hint="choose another place with --to; an export overwrites nothing",
            )
    return target


def _write(target: Path, files: Mapping[str, bytes]) -> None:
    """All files in a folder beside the target, which then takes its name."""
    with _system_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = free_name(target.with_name(f".{target.name}.tmp"))
        temporary.mkdir()
        try:
            for path, content in files.items():
                (temporary / path).parent.mkdir(parents=True, exist_ok=True)
                (temporary / path).write_bytes(content)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


@contextmanager
def _system_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write the export {target}: {error.strerror or error}",
            hint="check the place, its permissions and the space left, or choose another with --to",
        ) from error
