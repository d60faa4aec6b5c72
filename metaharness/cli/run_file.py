"""A run as a file says it: YAML, TOML or JSON with the fields of `RunConfig`, and `root` and `name`.

Paths in it are relative to the file.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from metaharness.configuration import Budget, ProposerConfig, RoleBudget, RunConfig
from metaharness.errors import UsageError
from metaharness.gateway.providers import parse_model
from metaharness.messages import ModelSpec
from metaharness.records import Role

VALUE_CHARS = 60
"""Of a wrong value so much is told."""


class _Spec(ModelSpec):
    model_config = ConfigDict(extra="forbid")


class _RoleBudget(RoleBudget):
    model_config = ConfigDict(extra="forbid")


class _Budget(Budget):
    model_config = ConfigDict(extra="forbid")
    roles: dict[Role, _RoleBudget] = {}  # type: ignore[assignment] # noqa: RUF012 - pydantic copies defaults


class _File(RunConfig):
    domain: str = ""
    models: dict[Role, _Spec] = {}  # type: ignore[assignment] # noqa: RUF012 - as above
    budget: _Budget = _Budget()
    root: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class RunFile:
    """What a file says of a run."""

    values: Mapping[str, Any]
    """The fields of `RunConfig` that it gives, as data; models as mappings."""
    root: Path | None = None
    """The folder of all runs; None where it says nothing."""
    name: str | None = None
    """The run's id; None where it says nothing."""


def read_run_file(path: Path) -> RunFile:
    """Read it.

    Raises:
        UsageError: It cannot be read, or it has fields that there are not, or values that do not fit: each is told.
    """
    raw = _raw(path)
    faults = list(_prepare(raw))
    try:
        found = _File.model_validate(raw)
    except ValidationError as error:
        faults += faults_of(error, _File)
    if faults:
        told = f": {faults[0]}" if len(faults) == 1 else "".join(f"\n  {fault}" for fault in faults)
        raise UsageError(f"{path}{told}", hint="`metaharness run --print-config` shows every field with its value")
    values = found.model_dump(exclude_unset=True)
    root, name = values.pop("root", None), values.pop("name", None)
    folder = path.expanduser().resolve().parent
    return RunFile(_with_paths(values, folder), None if root is None else folder / Path(root).expanduser(), name)


def faults_of(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Every fault in a line: the path of the field, what is wrong, what is valid.

    Args:
        error: What pydantic says.
        model: What was to be made.
    """
    return [_fault(one["loc"], one["type"], one["msg"], one["input"], model) for one in error.errors()]


def _fault(place: tuple[int | str, ...], kind: str, message: str, value: Any, model: type[BaseModel]) -> str:
    path = ".".join(str(part) for part in place if part != "[key]")
    if kind == "extra_forbidden":
        return f"{path} is not a field; valid: {', '.join(_names(place[:-1], model))}"
    if kind == "missing":
        return f"{path} is missing"
    said = message.removeprefix("Input ").removeprefix("Value error, ")
    return f"{path} {said}, not {repr(value)[:VALUE_CHARS]}"


def _names(place: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """The fields that there are at a place."""
    match list(place):
        case ["budget"]:
            return list(Budget.model_fields)
        case ["budget", "roles", _]:
            return list(RoleBudget.model_fields)
        case ["models", _]:
            return list(ModelSpec.model_fields)
        case ["proposing"]:
            return list(ProposerConfig.model_fields)
        case _:
            return list(model.model_fields)


# --- reading ----------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML in which no field is given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names: list[Any] = []
        for key, _ in node.value:
            if key.value in names:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            names.append(key.value)
        return super().construct_mapping(node, deep=deep)


def _yaml(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 - a safe loader


READERS: Mapping[str, Callable[[str], Any]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".toml": tomllib.loads,
    ".json": json.loads,
}


def _raw(path: Path) -> dict[str, Any]:
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise UsageError(
            f"{path} is no file that says what a run is", hint=f"valid: a file that ends with {', '.join(READERS)}"
        )
    try:
        raw = read(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", hint="a run is a file, or --domain") from error
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} is not {path.suffix[1:].upper()}: {_syntax(error)}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(name, str) for name in raw):
        raise UsageError(f"{path} holds no fields", hint="for example `domain: my_domain`")
    return raw


def _syntax(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    return str(error) if mark is None or problem is None else f"line {mark.line + 1}: {problem}"


def _prepare(raw: dict[str, Any]) -> Iterator[str]:
    """Read models from how a person writes them, and numbers among the domain's options; says what does not fit."""
    models = raw.get("models")
    if isinstance(models, dict):
        raw["models"] = models = dict(models)
        for role, told in models.items():
            try:
                if isinstance(told, str):
                    models[role] = parse_model(told).model_dump()
                elif isinstance(told, dict) and isinstance(told.get("name"), str):
                    parse_model(f"{told.get('provider')}:{told['name']}", told.get("base_url"))
            except UsageError as error:
                models[role] = {"provider": "embedded", "name": "icl"}  # it is told once
                yield f"models.{role}: {error.message}; {error.hint}"
    told = raw.get("domain_options")
    if isinstance(told, dict):
        numbers = {name: str(value) for name, value in told.items() if type(value) in (int, float)}
        raw["domain_options"] = {**told, **numbers}
    if raw.get("sandbox_command") is not None:
        if raw.get("sandbox", "auto") not in ("auto", "command"):
            yield f"sandbox {raw['sandbox']} and sandbox_command exclude each other; leave out one of them"
        raw["sandbox"] = "command"


# --- paths ------------------------------------------------------------------------------------------------------


def _with_paths(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same with paths made absolute: `data` always, what may be something else where there is such a file."""

    def there(told: str) -> str:
        path = folder / Path(told).expanduser()
        return str(path.resolve()) if told and path.exists() else told

    values = dict(values)
    if "domain" in values:
        values["domain"] = there(values["domain"])
    given = dict(values.get("domain_options", {}))
    if "data" in given:
        values["domain_options"] = {**given, "data": str((folder / Path(given["data"]).expanduser()).resolve())}
    if isinstance(values.get("cache"), str):
        values["cache"] = str(folder / Path(values["cache"]).expanduser())
    for spec in values.get("models", {}).values():
        if spec["provider"] == "scripted":
            spec["name"] = there(spec["name"])
    proposing = values.get("proposing", {})
    if proposing.get("skill") not in (None, "none"):
        proposing["skill"] = there(proposing["skill"])
    if proposing.get("files"):
        proposing["files"] = [there(told) for told in proposing["files"]]
    return values
