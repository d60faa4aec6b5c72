"""What a run has found, elsewhere: its frontier and baselines with other models, and on data that is given later.

With a model alone the cases of `search` are asked again. Data that is given is sealed like the test split: its test
cases are read once the run is finished, through `holdout`, and an opening is on disk before the first of them is asked;
openings of the same cases count as looks, over all runs in the folder, wherever they were opened. A harness learns from
the `train` of that data. Nothing of it is counted in the ledger of the run: each cell has a journal of its own, from
which it goes on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from metaharness.configuration import Budget, RunConfig
from metaharness.domain import Split, cases_hash, split_cases
from metaharness.errors import DomainError, UsageError
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers import Provider, open_provider
from metaharness.history import History
from metaharness.holdout import Holdout, read_result
from metaharness.loading import load_domain
from metaharness.messages import ModelSpec, Record
from metaharness.records import LEARN, SCHEMA_VERSION, CaseTrace, Role, Score, Spent, now
from metaharness.run.authors import sealed_from_authors
from metaharness.run.evaluating import Evaluating
from metaharness.run.ground import Ground, in_order
from metaharness.run.machinery import Machinery
from metaharness.run.recording import Owning, Recording, closed_on_error, open_recording
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import RunStore, command_on, openings, openings_locked
from metaharness.ungroup import ungrouped

Listener = Callable[[str, Mapping[str, Any]], None]


class TransferOpening(Record):
    """`sealed/transfer/HASH.json`: the test split of given data, opened for a finished run."""

    schema_version: int = SCHEMA_VERSION
    run: str
    opened: str
    data: str
    """Where it lay, as it was given."""
    look: int
    """The how-manyth opening of these cases below the folder of all runs; 1 for the first."""
    test_hash: str
    """SHA-256 over the cases, by id."""
    cases: int
    candidates: dict[int, str]
    """The iterations that were to be evaluated first, with the hash of their files."""
    sealed_by: tuple[str, ...] = ()
    """How the cases were kept from whoever wrote the candidates, each way once."""


@dataclass(frozen=True)
class Asked:
    """The cases of one column group: `search`, or the test split of given data."""

    ground: Ground
    data: str | None
    """Where the data lies; None: `search`, of the run's own."""
    options: Mapping[str, str]
    """Those of the domain's factory."""
    test_hash: str | None
    """None for `search`."""

    @cached_property
    def identity(self) -> str:
        """A hash over all cases that are asked and learned from."""
        return cases_hash(self.ground.train) + cases_hash(self.ground.cases.values())


@dataclass(frozen=True)
class TransferScore:
    """One candidate with one model on one set of cases."""

    iteration: int
    model: ModelSpec
    data: str | None
    """None: `search`."""
    look: int | None
    """As in the opening; None for `search`."""
    score: Score
    """Its `spent` is that of all cells until then; of the run's own model on `search`, that of the run."""


class Transfer(Owning):
    """Frontier and baselines over a grid of models and data. Made by `open`; a context manager."""

    def __init__(
        self,
        recording: Recording,
        models: Sequence[ModelSpec],
        asked: Sequence[Asked],
        *,
        ledger: Ledger,
        config: RunConfig,
        providers: Mapping[Role, Provider] | None,
    ) -> None:
        self.store = recording.store
        self.history = History(self.store)
        self.ledger = ledger
        self.models = models
        self.asked = asked
        self.listener: Listener = lambda _kind, _fields: None
        """Told `sandbox`, `evaluating` and `case_ended` with their fields; for a display of progress."""
        self.stopping = False
        self._config = config
        self._providers = providers
        self._machinery: Machinery | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        models: Sequence[ModelSpec] = (),
        data: Sequence[str] = (),
        options: Mapping[str, str] | None = None,
        budget: Budget | None = None,
        prices: Mapping[str, tuple[float, float]] | None = None,
        cache: bool | str | None = None,
        providers: Mapping[Role, Provider] | None = None,
    ) -> Self:
        """Take a run, to evaluate what it has found elsewhere.

        Args:
            path: Its directory.
            models: Targets; none takes that of the run.
            data: What the domain's option `data` is to name; none takes the run's own `search`.
            options: Further options of the domain with that data, over those of the run.
            budget: Bounds on the calls of the whole grid, those of earlier sessions included.
            prices: Further prices, as in `RunConfig`.
            cache: The shared cache on `search`, as in `RunConfig`; None: that of the run. Given data never uses it.
            providers: Models to use instead of those that are named, by role.

        Raises:
            UsageError: Data is given and the run is not finished, a split of it is empty, or there is no candidate.
            MetaharnessError: The run is recorded by another process, is damaged, or its domain has changed.
        """
        reader = RunStore.open(path, record=False)
        if data and read_result(reader) is None:
            raise UsageError(
                f"run {reader.record.run_id} is not finished: data that is given stays sealed as its test split does",
                hint=f"`{command_on(path, 'finish')}` makes its claim first; models alone can be compared on `search`",
            )
        config = reader.record.config
        config = config.model_copy(update={"prices": {**config.prices, **(prices or {})}})
        if cache is not None:
            config = config.model_copy(update={"cache": cache})
        models = list(dict.fromkeys(models)) or [config.models["target"]]
        ledger = Ledger(budget or Budget(), PriceTable(config.prices))
        ledger.check_prices([*models, *(config.models[role] for role in ("judge",) if role in config.models)])
        # not the models of the run: what it was searched with may be out of reach by now
        recording = open_recording(path, None, providers or {"target": open_provider(models[0])})
        with closed_on_error(recording.store):
            folders = list(dict.fromkeys(data))
            asked = [_given(recording, folder, options or {}) for folder in folders] or [_search(recording)]
            return cls(recording, models, asked, ledger=ledger, config=config, providers=providers)

    @property
    def spent(self) -> Spent:
        """What the grid has cost, over all sessions."""
        return self.ledger.spent

    @cached_property
    def candidates(self) -> list[Iteration]:
        """The frontier and the baselines, by number.

        Raises:
            UsageError: Nothing of the run is scored.
        """
        frontier = self.history.scoreboard().frontier
        found = [one for one in self.history if one.score is not None and (one.number in frontier or one.is_baseline)]
        if not found:
            run = self.history.record.run_id
            resume = command_on(self.store.path, "resume")
            raise UsageError(f"no candidate of run {run} is scored yet", hint=f"`{resume}` evaluates the baselines")
        return found

    def stop(self) -> None:
        """Start nothing new. What is in the air ends and is written."""
        self.stopping = True
        if self._machinery is not None:
            self._machinery.stopping = True

    async def run(self) -> list[TransferScore] | None:
        """Every cell, in the order of data, models and candidates. None when a stop came between.

        Raises:
            CorruptRecordError: The files of a candidate are not those that were scored. Nothing was asked.
            ConfigurationError: A model cannot be used as configured. Nothing was asked.
            DomainError: A file of the domain or of the data has changed while it was asked.
        """
        for iteration in self.candidates:
            self.store.files(iteration.number)  # raises where they have changed
        for spec in self.models if self._providers is None else ():
            await open_provider(spec).aclose()
        looks = [self._opened(asked) for asked in self.asked]
        scores: list[TransferScore] = []
        for asked, look in zip(self.asked, looks, strict=True):
            for spec in self.models:
                found = await self._cell(asked, spec)
                if found is None:
                    return None
                scores += [TransferScore(number, spec, asked.data, look, score) for number, score in found.items()]
        data = [asked.data for asked in self.asked if asked.data is not None]
        self.store.event("transferred", models=[spec.id for spec in self.models], data=data)
        return scores

    # -- inside --------------------------------------------------------------------------------------------------

    def _opened(self, asked: Asked) -> int | None:
        """Which look it is; the opening is on disk when this returns."""
        if asked.test_hash is None:
            return None
        opening = self._opening(asked.test_hash, asked)
        told = (event.model_dump()["test_hash"] for event in self.store.events("transfer_opened"))
        if asked.test_hash not in told:  # also where a process was killed right after it had written the opening
            self.store.event("transfer_opened", data=asked.data, look=opening.look, test_hash=opening.test_hash)
        return opening.look

    def _opening(self, test_hash: str, asked: Asked) -> TransferOpening:
        """The one that is recorded, or a new one."""
        found = self.store.transfers.opening(test_hash)
        if found is not None:
            return TransferOpening.model_validate(found)
        root = self.store.path.resolve().parent
        with openings_locked(root):
            opening = TransferOpening(
                run=self.store.record.run_id,
                opened=now(),
                data=asked.data or "",
                look=1 + sum(one.get("test_hash") == test_hash for _, one in openings(root)),
                test_hash=test_hash,
                cases=len(asked.ground.cases),
                candidates={one.number: one.proposal.candidate_hash for one in self.candidates},
                sealed_by=sealed_from_authors(self.history),
            )
            self.store.transfers.write_opening(test_hash, opening.model_dump(mode="json"))
        return opening

    async def _cell(self, asked: Asked, spec: ModelSpec) -> dict[int, Score] | None:
        """The score of every candidate, by number; None when a stop came between."""
        own = asked.data is None and spec == self.store.record.config.models["target"]
        known = {one.number: one.score for one in self.candidates if own and one.score is not None}
        if own and all(score.complete for score in known.values()):
            return known
        config = self._config.model_copy(update={"models": {**self._config.models, "target": spec}})
        if asked.data is not None:  # prompts that hold sealed cases stay in this run
            config = config.model_copy(update={"cache": False})
        cell = self.store.transfers.cell(_name(asked, spec), _about(asked, spec), asked.test_hash)
        cell.begin()
        cell.journal.load(lambda entry: self.ledger.restore([(entry.attribution.role, entry.call)]))
        machinery = Machinery(config, asked.ground, cell.journal, self.ledger, runner=None, providers=self._providers)
        machinery.stopping = self.stopping
        self._machinery = machinery
        self.listener("sandbox", {"told": machinery.sandbox_told})
        evaluating = Evaluating(
            self.store, cell, config, asked.ground, machinery.runner, machinery.doors, self.ledger, self._case_ended
        )
        try:
            with ungrouped():
                async with machinery:
                    return await self._scores(asked, evaluating)
        finally:
            cell.close()

    async def _scores(self, asked: Asked, evaluating: Evaluating) -> dict[int, Score] | None:
        scores: dict[int, Score] = {}
        for iteration in self.candidates:
            number = iteration.number
            dependent = iteration.score is not None and iteration.score.order_dependent
            serial = asked.ground.domain.online or dependent
            tally = evaluating.tally(number, order_dependent=dependent)
            left = tally.left(serial=serial)
            model = evaluating.config.models["target"].id
            told = {"iteration": number, "name": iteration.proposal.name, "cases": len(left)}
            self.listener("evaluating", {**told, "model": model, "data": asked.data})
            self.ledger.charge_case_evaluations(len(tally.planned))
            await evaluating.fill(number, serial=serial)
            self._check_unchanged(asked, evaluating, number)
            if not tally.whole or (self.stopping and tally.left(serial=serial)):
                return None
            scores[number] = evaluating.evaluations.current_score(number) or evaluating.score(number)
        return scores

    def _check_unchanged(self, asked: Asked, evaluating: Evaluating, number: int) -> None:
        """Refuse what was evaluated while the domain or the data was changed."""
        changed = asked.ground.changed()
        if changed:
            evaluating.evaluations.refuse(number)
            raise DomainError(
                f"{changed[0]} has changed since this was begun; what was evaluated meanwhile is not accepted",
                hint="undo the change; the same command then evaluates it anew",
            )

    def _case_ended(self, number: int, trace: CaseTrace) -> None:
        if trace.case_id != LEARN:
            self.listener("case_ended", {"iteration": number, "case_id": trace.case_id, "status": trace.status})


def _search(recording: Recording) -> Asked:
    """The run's own `search`, as its candidates were scored on it."""
    ground = recording.ground
    ground.files  # noqa: B018 - as they are now
    return Asked(ground, None, recording.store.record.config.domain_options, None)


def _given(recording: Recording, data: str, options: Mapping[str, str]) -> Asked:
    """The test split of given data, for a run that is finished.

    Raises:
        DomainError: A split of it cannot be read.
        UsageError: The domain takes no data, or there are no cases.
    """
    config = recording.store.record.config
    chosen = {**config.domain_options, **options, "data": data}
    domain = load_domain(config.domain, chosen)
    try:
        holdout = Holdout(recording.store, domain)
    except UsageError as error:
        raise UsageError(
            f"the data in {data} has no test cases",
            hint="what is asked there is its test split",
        ) from error
    cases = holdout.cases()
    train = split_cases(domain, Split.TRAIN)
    ordered = {case.id: case for case in in_order(cases, config.seed)}
    ground = Ground(domain, holdout.split, ordered, train, tuple(chosen.values()), recording.ground.scripts)
    ground.files  # noqa: B018 - as they are now
    return Asked(ground, data, chosen, cases_hash(cases))


def _name(asked: Asked, spec: ModelSpec) -> str:
    """The folder of a cell: readable, and another one for another model or other cases."""
    of = json.dumps([spec.model_dump(), asked.identity])
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", spec.id)[-40:].strip("-.")
    return f"{readable}_{hashlib.sha256(of.encode()).hexdigest()[:12]}"


def _about(asked: Asked, spec: ModelSpec) -> dict[str, Any]:
    return {"model": spec.model_dump(), "data": asked.data, "options": asked.options, "test_hash": asked.test_hash}
