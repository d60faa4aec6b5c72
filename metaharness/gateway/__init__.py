"""The only door to a model: journal, shared cache, budget, provider."""

from metaharness.gateway.gateway import Gateway, Journal, MemoryJournal

__all__ = ["Gateway", "Journal", "MemoryJournal"]
