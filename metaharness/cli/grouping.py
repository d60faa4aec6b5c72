"""Options in groups: a command takes a group as one value, and its help shows them under the group's title."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typer.core import TyperCommand
from typer.models import ParameterInfo


class Grouped(TyperCommand):
    """A command whose help lists its options group by group, those that are in none first."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write them."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            title = "Arguments" if parameter.param_type_name == "argument" else _title(parameter)
            if record is not None:
                groups.setdefault(title, []).append(record)
        first = [title for title in ("Arguments", "Options") if title in groups]
        for title in [*first, *(title for title in groups if title not in first)]:
            with formatter.section(title):
                formatter.write_dl(groups[title])


def _title(parameter: Any) -> str:
    panel = getattr(parameter, "rich_help_panel", None)
    return panel if isinstance(panel, str) else "Options"


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """A command that takes dataclasses of options: each field is an option, `TITLE` of the class is its group's."""
    hints = get_type_hints(function, include_extras=True)
    parameters = []
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in groups:
            parameters += _options(groups[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))

    @functools.wraps(function)
    def expanded(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        function(**given)

    expanded.__dict__["__signature__"] = inspect.Signature(parameters)
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return expanded


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=field.default,
            annotation=_under(hints[field.name], group.TITLE),
        )
        for field in fields(group)
    ]


def _under(annotation: Any, title: str) -> Any:
    """The annotation of an option, with its group's title."""
    assert get_origin(annotation) is Annotated
    kind, *told = get_args(annotation)
    marked = []
    for one in told:
        if isinstance(one, ParameterInfo):
            one = copy(one)  # noqa: PLW2901 - the original belongs to other commands as well
            one.rich_help_panel = title
        marked.append(one)
    return Annotated.__class_getitem__((kind, *marked))
