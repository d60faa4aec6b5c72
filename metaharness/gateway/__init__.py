"""The only door to a model: journal, then budget, then provider."""

from metaharness.gateway.gateway import Gateway, Journal, MemoryJournal

__all__ = ["Gateway", "Journal", "MemoryJournal"]
