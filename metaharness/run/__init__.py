"""One run: the facade that every caller uses, from the command line to a tool of an agent."""

from metaharness.run.facade import Run
from metaharness.run.finishing import Finishing
from metaharness.run.forking import fork
from metaharness.run.regrading import Regrading
from metaharness.run.rounds import Round

__all__ = ["Finishing", "Regrading", "Round", "Run", "fork"]
