"""The run directory: the only code that builds a path under runs/ or changes what lies there.

    with RunStore.create(Path("runs"), record_factory) as store:     owns the run, holds its lock
        iteration = store.add_iteration(proposal, round=0, slot=0)
        store.append_trace(iteration.iteration, trace)
        store.write_score(iteration.iteration, score)
    RunStore.open(find_run(Path("runs"), "latest"), record=False)    reads, also while another process records
    store.trace_index(4).rows(Filter(failures=True))                 asks a trace without reading all of it
    damage_in(run, deep=True), owner_of(run)                         look at a run that may not even open

Not guarded: network file systems, and programs that write into a run directory without taking its lock.
"""

from metaharness.store.candidates import check_candidate_files, lay_out
from metaharness.store.evaluations import Evaluations, Pair
from metaharness.store.forgotten import change_forgotten, read_forgotten
from metaharness.store.health import (
    damage_in,
    damaged_candidates,
    disk_use,
    torn_candidates,
    torn_lines,
    unmade_runs,
)
from metaharness.store.inheriting import begin, clear_unmade, inherit
from metaharness.store.iterations import not_as_recorded
from metaharness.store.journal import Journal
from metaharness.store.lock import Owner
from metaharness.store.owners import owner_of
from metaharness.store.run_store import RunStore
from metaharness.store.runs import (
    command_on,
    find_run,
    forked_from,
    is_run,
    last_change,
    list_runs,
    load_record,
    may_begin,
    openings,
    openings_before,
    openings_locked,
)
from metaharness.store.sealed import Sealed
from metaharness.store.shown import shown_files
from metaharness.store.stop_file import STOP, forget_stop, stop_asked
from metaharness.store.trace_index import TraceIndex
from metaharness.store.trace_rows import Difference, Filter, TraceRow

__all__ = [
    "STOP",
    "Difference",
    "Evaluations",
    "Filter",
    "Journal",
    "Owner",
    "Pair",
    "RunStore",
    "Sealed",
    "TraceIndex",
    "TraceRow",
    "begin",
    "change_forgotten",
    "check_candidate_files",
    "clear_unmade",
    "command_on",
    "damage_in",
    "damaged_candidates",
    "disk_use",
    "find_run",
    "forget_stop",
    "forked_from",
    "inherit",
    "is_run",
    "last_change",
    "lay_out",
    "list_runs",
    "load_record",
    "may_begin",
    "not_as_recorded",
    "openings",
    "openings_before",
    "openings_locked",
    "owner_of",
    "read_forgotten",
    "shown_files",
    "stop_asked",
    "torn_candidates",
    "torn_lines",
    "unmade_runs",
]
