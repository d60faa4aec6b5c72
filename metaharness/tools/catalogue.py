"""All tools: the one list from which every way to offer them is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from metaharness.tools.arguments import Arguments
from metaharness.tools.desk import Call
from metaharness.tools.reading import compare, describe_domain, list_iterations, read_harness, scoreboard
from metaharness.tools.traces import read_trace, search_history
from metaharness.tools.writing import check_harness, evaluate, start_run, write_harness, write_report

Answer = str | BaseModel
"""Long text as it is, or a small record; never both."""


@dataclass(frozen=True)
class Tool:
    """One tool. Its function takes a `Call`, then what the agent gives, by name; its docstring describes it."""

    title: str
    function: Callable[..., Any]
    reads: bool
    """Whether it changes nothing."""
    first: bool = False
    """Whether an agent is to have its description from the start."""

    @property
    def name(self) -> str:
        """What an agent calls."""
        return self.function.__name__

    @property
    def description(self) -> str:
        """What an agent is told."""
        return inspect.cleandoc(self.function.__doc__ or "")

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """What the agent gives, with evaluated annotations."""
        return list(inspect.signature(self.function, eval_str=True).parameters.values())[1:]

    @cached_property
    def arguments(self) -> Arguments:
        """The same as an agent is shown it, and how what it gives is checked."""
        return Arguments(self.name, self.parameters)

    @property
    def answer(self) -> type:
        """`str` for text, else the class of its record."""
        found: type = inspect.signature(self.function, eval_str=True).return_annotation
        return found

    async def __call__(self, call: Call, given: Mapping[str, Any]) -> Answer:
        """Call it.

        Args:
            call: Where, and whom to tell how far it is.
            given: Valid arguments by name.

        Raises:
            MetaharnessError: What the agent is to read; with what is valid and what to do next in the hint.
        """
        if inspect.iscoroutinefunction(self.function):
            answer: Answer = await self.function(call, **given)
            return answer
        return await call.desk.in_thread(lambda: self.function(call, **given))


TOOLS = (
    Tool("Start a run", start_run, reads=False),
    Tool("Describe the domain", describe_domain, reads=True, first=True),
    Tool("Scoreboard", scoreboard, reads=True, first=True),
    Tool("List iterations", list_iterations, reads=True),
    Tool("Read a harness", read_harness, reads=True),
    Tool("Read a trace", read_trace, reads=True),
    Tool("Search the history", search_history, reads=True),
    Tool("Compare two iterations", compare, reads=True),
    Tool("Check a harness", check_harness, reads=False),
    Tool("Write a harness", write_harness, reads=False),
    Tool("Evaluate a candidate", evaluate, reads=False),
    Tool("Write a report", write_report, reads=False),
)
