"""Search over harness code. Import the submodule you need; nothing is imported eagerly here."""

__version__ = "0.1.0"
