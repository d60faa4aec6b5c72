"""What both formats can say and each spells in its own way, among the further parameters of a request.

Code that was written for one provider so runs with the other's model as well. A value that is in neither spelling goes
on as it is: the provider is the one to refuse it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHOICES = {"auto": "auto", "none": "none", "required": "any"}
"""OpenAI's words for which tool is to be called, and Anthropic's."""
WORDS = {theirs: ours for ours, theirs in CHOICES.items()}


def for_openai(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Stop sequences, the choice of a tool and whether calls may be parallel, as chat completions have them."""
    found = dict(extra)
    if "stop_sequences" in found:
        found.setdefault("stop", found.pop("stop_sequences"))
    choice = found.get("tool_choice")
    if isinstance(choice, dict):
        if choice.get("type") in WORDS:
            found["tool_choice"] = WORDS[choice["type"]]
        elif choice.get("type") == "tool":
            found["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
        if choice.get("disable_parallel_tool_use"):
            found.setdefault("parallel_tool_calls", False)
    return found


def for_anthropic(extra: Mapping[str, Any]) -> dict[str, Any]:
    """The same as the Messages API has it."""
    found = dict(extra)
    if "stop" in found:
        stop = found.pop("stop")
        found.setdefault("stop_sequences", [stop] if isinstance(stop, str) else stop)
    choice = found.get("tool_choice")
    if isinstance(choice, str) and choice in CHOICES:
        found["tool_choice"] = {"type": CHOICES[choice]}
    elif isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        found["tool_choice"] = {"type": "tool", "name": choice["function"].get("name")}
    parallel = found.pop("parallel_tool_calls", None)
    if parallel is False:
        choice = found.get("tool_choice", {"type": "auto"})
        if isinstance(choice, dict) and choice.get("type") != "none":
            found["tool_choice"] = {**choice, "disable_parallel_tool_use": True}
    return found
