"""Is this machine, and is this folder of runs, fit? And what is to be done about each thing that is not?

    for finding in examine(Examination(root=Path("runs"))):
        print(finding.state, finding.found, finding.advice)

It changes nothing but its own probe files, which lie beside the runs and are deleted at once; it never writes into a
run directory and never takes the lock of one. Not guarded: what changes while it looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from metaharness.doctor.cache import shared_cache
from metaharness.doctor.findings import Finding, State, guarded
from metaharness.doctor.keys import keys
from metaharness.doctor.machine import python, surroundings
from metaharness.doctor.models import check_base_url, models
from metaharness.doctor.root import root_folder
from metaharness.doctor.runs import runs
from metaharness.doctor.sealed_cases import sealed_cases
from metaharness.doctor.workers import workers
from metaharness.messages import ModelSpec

__all__ = ["Examination", "Finding", "State", "check_base_url", "examine"]

EMBEDDED = ModelSpec(provider="embedded", name="icl")


@dataclass(frozen=True)
class Examination:
    """What is to be looked at."""

    root: Path
    """The folder of all runs; it need not be there."""
    models: Sequence[ModelSpec] = ()
    """Each is asked once, which costs a few tokens; empty: `embedded:icl`, which costs nothing."""
    deep: bool = False
    """True reads every line of every run; False only what is small, and last lines."""
    encoding: str | None = None
    """Of standard output; None where it is no stream of bytes."""


def examine(wanted: Examination) -> Iterator[Finding]:
    """Every finding, area by area, as it is made. Call it where no event loop runs."""
    yield from guarded("python", "python", python)
    yield from guarded("environment", "environment", partial(surroundings, wanted.encoding))
    yield from guarded("keys", "keys", keys)
    yield from guarded("sandbox", "worker", workers)
    yield from guarded("models", "models", partial(models, wanted.models or [EMBEDDED]))
    yield from guarded("shared cache", "shared cache", shared_cache)
    yield from guarded("sealed cases", "place", sealed_cases)
    yield from guarded("run folder", "run folder", partial(root_folder, wanted.root))
    yield from guarded("runs", "runs", partial(runs, wanted.root, wanted.deep))
