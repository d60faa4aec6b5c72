"""What calls have cost, added up."""

from __future__ import annotations

from dataclasses import dataclass

from metaharness.records import Call


@dataclass(slots=True)
class Total:
    """What one model in one role has cost."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    """Known costs only."""
    unpriced: int = 0
    """Calls whose cost is unknown."""
    cached: int = 0
    """Calls answered by the shared cache. They cost nothing, and are in none of the numbers above."""
    saved_input_tokens: int = 0
    saved_output_tokens: int = 0
    saved_usd: float = 0.0
    """What those would have cost; known costs only."""

    def add(self, call: Call) -> None:
        """Count one call: as paid for, or as saved."""
        if call.cached:
            self.cached += 1
            self.saved_input_tokens += call.input_tokens
            self.saved_output_tokens += call.output_tokens
            self.saved_usd += call.usd or 0.0
            return
        self.calls += 1
        self.input_tokens += call.input_tokens
        self.output_tokens += call.output_tokens
        self.usd += call.usd or 0.0
        self.unpriced += call.usd is None
