"""The arguments of a tool: what an agent is shown of them, and what it is told when they do not fit."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ValidationError, create_model

from metaharness.errors import MetaharnessError, UsageError

NAMED = ("properties", "$defs")
"""Keywords of a schema that hold schemas by name."""
EMPTY: tuple[Any, ...] = ("", [], {})
MOST_WRONG = 5
"""Arguments that an error speaks of."""


class Arguments:
    """What one tool takes."""

    def __init__(self, tool: str, parameters: Sequence[inspect.Parameter]) -> None:
        """Take its name and its parameters, with evaluated annotations."""
        self._tool = tool
        self._parameters = {one.name: one for one in parameters}

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the object that an agent gives, without what says nothing."""
        return lean(self._model.model_json_schema()) | {"additionalProperties": False}

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What was given, as the tool's function takes it; what was left out has its default.

        A list or an object that came as the JSON text of one is taken for what it says.

        Raises:
            UsageError: It does not fit; the hint lists what the tool takes.
        """
        wrong = [f"there is no argument {name!r:.100}" for name in given if name not in self._parameters]
        try:
            found = self._model.model_validate({name: self._read(name, value) for name, value in given.items()})
        except ValidationError as error:
            wrong += [_misfit(one) for one in error.errors(include_url=False, include_context=False)]
        if wrong:
            raise UsageError("; ".join(wrong[:MOST_WRONG]), hint=f"{self._tool} takes: {self._valid}")
        return {name: getattr(found, name) for name in self._parameters}

    @cached_property
    def _model(self) -> type[BaseModel]:
        fields: dict[str, Any] = {
            name: (one.annotation, ... if one.default is inspect.Parameter.empty else one.default)
            for name, one in self._parameters.items()
        }
        return create_model(f"{self._tool}Arguments", **fields)

    @property
    def _valid(self) -> str:
        required = self.schema.get("required", ())
        return ", ".join(f"{name} (required)" if name in required else name for name in self._parameters)

    def _read(self, name: str, value: Any) -> Any:
        """Models now and then write an object or a list as a text."""
        if name not in self._parameters or not isinstance(value, str):
            return value
        if self._model.model_fields[name].annotation is str:
            return value
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return value if isinstance(found, str | int | float) else found


def in_words(error: MetaharnessError) -> str:
    """What an agent reads of a call that failed: what was wrong, and what to do."""
    return error.message + (f"\nhint: {error.hint}" if error.hint else "")


def _misfit(error: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{name} is missing"
    given = json.dumps(error["input"], ensure_ascii=False)
    return f"{name}: {error['msg'][:1].lower()}{error['msg'][1:]}, not {given:.100}"


def lean(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without what says nothing, as an agent pays for it in every conversation.

    Left out: titles, which repeat a name, and defaults that are empty.
    """
    kept = {key: value for key, value in schema.items() if key != "title" and not (key == "default" and value in EMPTY)}
    for key, value in kept.items():
        if key in NAMED:
            kept[key] = {name: lean(one) for name, one in value.items()}
        elif key == "anyOf":
            kept[key] = [lean(one) for one in value]
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            kept[key] = lean(value)
    return kept
