"""The command line: it parses, calls the engine, and prints. Data to stdout, progress and logs to stderr."""

from metaharness.cli.app import main

__all__ = ["main"]
