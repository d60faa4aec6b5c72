"""A jail for a program that is not ours, such as a coding agent: it sees its workspace and reaches its own API.

It knows nothing of what the program is for. `Jail` says what it may, `opened` gives an executable file that starts it,
`run_jailed` runs it once; `run_unjailed` does where somebody wants no jail.
"""

from __future__ import annotations

from metaharness.jail.description import Bounds, Jail
from metaharness.jail.destinations import Attempt
from metaharness.jail.running import Ended, run_jailed
from metaharness.jail.session import Cell, make_sure, opened
from metaharness.jail.unjailed import run_unjailed

__all__ = ["Attempt", "Bounds", "Cell", "Ended", "Jail", "make_sure", "opened", "run_jailed", "run_unjailed"]
