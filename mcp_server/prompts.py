"""Prompts: one round of a search, and the way to a domain of one's own."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server import MCPServer
from pydantic import Field

from metaharness.pages import onboarding_page, skill_page

REFERENCES = "Pages under references/ are resources of the server: skill://meta-harness/references/NAME.md."


def add_prompts(server: MCPServer[Any]) -> None:
    """Add them."""

    @server.prompt(title="Propose a better harness")
    def propose(
        goal: Annotated[str, Field(description="What to improve; default: the first objective")] = "",
        rounds: Annotated[str, Field(description="How many rounds; default: one")] = "1",
    ) -> str:
        """Work rounds of a search: read, think, write, evaluate, report."""
        wanted = f"The goal: {goal}\n" if goal else ""
        asked = f"Now do {rounds} round(s) of this with the metaharness tools.\n{wanted}"
        return f"{skill_page('meta-harness')}\n\n{REFERENCES}\n\n{asked}"

    @server.prompt(title="Onboard a domain")
    def onboard(
        what: Annotated[str, Field(description="What should get better, in a sentence")] = "",
    ) -> str:
        """Turn something of one's own into a domain that can be searched."""
        wanted = f"\n\nWhat should get better: {what}" if what else ""
        return f"{onboarding_page()}{wanted}"
