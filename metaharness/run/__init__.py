"""One run: the facade that every caller uses, from the command line to a tool of an agent."""

from metaharness.run.facade import Run
from metaharness.run.finishing import Finishing
from metaharness.run.rounds import Round

__all__ = ["Finishing", "Round", "Run"]
