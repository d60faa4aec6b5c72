"""The configuration of a run: what its file says, and over it what the options say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from metaharness import variables
from metaharness.cli import options
from metaharness.cli.flags import BudgetFlags, DomainFlags, EvaluationFlags, ModelFlags, ProposerFlags, SearchFlags
from metaharness.cli.run_file import RunFile, faults_of
from metaharness.configuration import AGENT, Budget, RunConfig, parse_objective
from metaharness.errors import UsageError
from metaharness.gateway.providers import parse_model
from metaharness.run.objectives import BUILT_IN
from metaharness.run.recording import with_raised

TARGET_VARIABLE = "EVALUATOR_MODEL"
PROPOSER_VARIABLE = "PROPOSER_MODEL"
NO_MODEL = ("scripted", AGENT)
"""Proposers that ask no model of ours."""
PROPOSING = {
    "proposer_command": "command",
    "unjailed_proposer": "unjailed",
    "proposer_turns": "max_turns",
    "proposer_timeout": "timeout",
    "proposer_usd": "usd",
    "proposer_destination": "destinations",
    "proposer_file": "files",
    "proposer_env": "environment",
    "skill": "skill",
}
"""The options that are fields of `RunConfig.proposing`."""


@dataclass(frozen=True)
class Flags:
    """Everything that the options of `run` say of its configuration."""

    domain: DomainFlags
    models: ModelFlags
    search: SearchFlags
    proposer: ProposerFlags
    evaluation: EvaluationFlags
    budget: BudgetFlags

    def config(self, file: RunFile) -> RunConfig:
        """The configuration: the file, the options over it, and what follows from both.

        Raises:
            UsageError: Something does not fit, or there is no domain.
        """
        values = {"cache": True, **file.values}
        values |= self._plain()
        values |= _domain(self.domain, values)
        values |= self._evaluation()
        values["models"] = self._models(values)
        values["proposing"] = {**values.get("proposing", {}), **self._proposing()}
        values["prices"] = {**values.get("prices", {}), **options.prices(self.models.price)}
        values["budget"] = with_raised(Budget.model_validate(values.get("budget", {})), self.budget.budget())
        if not values.get("domain"):
            hint = "name it with --domain, or in a file; `metaharness run --help` shows both"
            raise UsageError("nothing says which domain is searched", hint=hint)
        try:
            config = RunConfig.model_validate(values)
        except ValidationError as error:
            raise UsageError("; ".join(faults_of(error, RunConfig))) from error
        for objective in config.objectives:
            parse_objective(objective, BUILT_IN)
        return with_iterations(config, values.get("iterations"))

    def _plain(self) -> dict[str, Any]:
        """Options that are fields as they are."""
        search, proposer = given(self.search), given(self.proposer)
        return search | {name: proposer[name] for name in ("proposer", "history", "memory") if name in proposer}

    def _evaluation(self) -> dict[str, Any]:
        told = given(self.evaluation)
        told.pop("sandbox_command", None)
        if "objective" in told:
            told["objectives"] = tuple(told.pop("objective"))
        if self.models.no_cache:
            told["cache"] = False
        if self.evaluation.sandbox_command is not None:
            told |= options.sandbox(self.evaluation.sandbox or "auto", self.evaluation.sandbox_command)
        elif self.evaluation.sandbox not in (None, "command"):
            told["sandbox_command"] = None
        return told

    def _proposing(self) -> dict[str, Any]:
        told = given(self.proposer)
        return {field: told[flag] for flag, field in PROPOSING.items() if flag in told}

    def _models(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The model of each role: an option, else the file, else a variable."""
        models = dict(values.get("models", {}))
        flags, proposer = self.models, self.proposer
        target = flags.model or ("target" not in models and (variables.get(TARGET_VARIABLE) or "embedded:icl"))
        if target:
            models["target"] = options.model(target, flags.base_url).model_dump()
        elif flags.base_url is not None:
            models["target"] = _elsewhere(models["target"], flags.base_url)
        if flags.judge is not None:
            same = flags.judge.partition(":")[0] == models["target"]["provider"]
            url = models["target"]["base_url"] if same else None
            models["judge"] = options.model(flags.judge, url).model_dump()
        asked = proposer.proposer_model
        if asked is None and "proposer" not in models and values.get("proposer", "scripted") not in NO_MODEL:
            asked = variables.get(PROPOSER_VARIABLE)
        if asked:
            models["proposer"] = options.model(asked, proposer.proposer_base_url).model_dump()
        elif proposer.proposer_base_url is not None:
            if "proposer" not in models:
                raise UsageError(
                    "--proposer-base-url says where a model is, and none is named", hint="--proposer-model"
                )
            models["proposer"] = _elsewhere(models["proposer"], proposer.proposer_base_url)
        return models


def given(group: Any) -> dict[str, Any]:
    """The options of a group that were given."""
    return {
        name: value
        for name, value in vars(group).items()
        if value is not None and value != [] and (value is not False or name == "memory")
    }


def _elsewhere(spec: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    """The same model at another endpoint."""
    return parse_model(f"{spec['provider']}:{spec['name']}", base_url).model_dump()


def _domain(flags: DomainFlags, values: Mapping[str, Any]) -> dict[str, Any]:
    told = options.domain_options(flags.data, flags.text_field, flags.label_field, flags.domain_option)
    found: dict[str, Any] = {"domain_options": {**values.get("domain_options", {}), **told}}
    if flags.domain is not None:
        found["domain"] = options.domain_reference(flags.domain)
    return found


def with_iterations(config: RunConfig, wanted: int | None) -> RunConfig:
    """The configuration with as many candidates to propose as were asked for, but no more than a script has.

    Raises:
        UsageError: The proposer cannot be had.
    """
    from metaharness.loading import load_domain
    from metaharness.proposers import check_proposer
    from metaharness.proposers.scripted import read_proposals

    check_proposer(config)
    chosen = config.iterations if wanted is None else wanted
    if config.proposer == "scripted" and wanted != 0:
        available = len(read_proposals(load_domain(config.domain, config.domain_options)))
        chosen = available if wanted is None else min(wanted, available)
    return config.model_copy(update={"iterations": chosen})


def page(config: RunConfig, root: Path, name: str | None) -> dict[str, Any]:
    """A configuration as data that can be read back from a file."""
    return {**config.model_dump(mode="json"), "root": str(root.resolve()), **({} if name is None else {"name": name})}


def as_yaml(value: Mapping[str, Any]) -> str:
    """The same as YAML."""
    import yaml

    return str(yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=100))


def within(flags: Flags, file: RunFile) -> RunConfig:
    """The configuration of one of several runs: options that hold over all never widen what its file bounds.

    Raises:
        UsageError: As `Flags.config`.
    """
    own = RunFile({name: value for name, value in file.values.items() if name in ("budget", "concurrency")})
    config = flags.config(file)
    bounds = Budget.model_validate(own.values.get("budget", {}))
    concurrency = min(config.concurrency, own.values.get("concurrency", config.concurrency))
    return config.model_copy(update={"budget": _tighter(bounds, flags.budget.budget()), "concurrency": concurrency})


def _tighter(one: Budget, other: Budget) -> Budget:
    """Of each bound the lower one."""
    pages = one.model_dump(exclude_none=True), other.model_dump(exclude_none=True)
    roles = [page.pop("roles") for page in pages]
    found = _lower(*pages)
    return Budget.model_validate(
        {
            **found,
            "roles": {
                role: _lower(roles[0].get(role, {}), roles[1].get(role, {})) for role in {**roles[0], **roles[1]}
            },
        }
    )


def _lower(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {name: min(bounds[name] for bounds in (one, other) if name in bounds) for name in {**one, **other}}
