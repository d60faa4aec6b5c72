"""What counts as evidence that an attack has worked: what was seen decides, and each kind of it has a name."""

from __future__ import annotations

from typing import Any

import pytest

from metaharness.attacks.attack import GUILTY, Attack
from metaharness.attacks.judging import Seen, breaches, how_it_ended

ATTACK = Attack("nothing", "nothing at all", 'return ""')
INNOCENT = "innocent"
EXPECTED = {GUILTY: "right", INNOCENT: "right"}
SECRETS = {"the label": "the secret label"}


def trace(case_id: str, **changes: Any) -> dict[str, Any]:
    harmless = case_id != GUILTY
    return {
        "case_id": case_id,
        "status": "ok",
        "output": "right" if harmless else "",
        "grades": [{"value": 1.0 if harmless else 0.0}],
        "calls": 0,
        "error": None,
        **changes,
    }


def done(*traces: dict[str, Any], **changes: Any) -> dict[str, Any]:
    told = {"traces": list(traces), "error": None, "limits_changed": False, "late": False, "seconds": 1.0, "copied": []}
    return {**told, **changes}


def evidence(page: dict[str, Any] | None, **seen: Any) -> dict[str, str]:
    return dict(breaches(ATTACK, Seen(done=page, **seen), SECRETS, EXPECTED))


def test_where_every_case_ends_as_it_should_there_is_no_evidence() -> None:
    assert evidence(done(trace(GUILTY), trace(INNOCENT))) == {}


def test_a_case_without_a_trace_is_evidence() -> None:
    assert evidence(done(trace(GUILTY))) == {"case": "case innocent has no trace"}


@pytest.mark.parametrize("why", [{"error": ["OSError", "no"]}, {"late": True}])
def test_a_trace_that_an_evaluation_cut_short_has_not_written_is_none_besides(why: dict[str, Any]) -> None:
    assert set(evidence(done(trace(GUILTY), **why))) <= {"engine", "slow"}


def test_more_calls_than_the_limit_and_the_one_that_tells_of_it_are_evidence() -> None:
    most = ATTACK.limits.calls_per_case
    assert evidence(done(trace(GUILTY, calls=most + 1), trace(INNOCENT))) == {}
    found = evidence(done(trace(GUILTY, calls=most + 2), trace(INNOCENT)))
    assert found == {"calls": f"case {GUILTY} has {most + 2} calls"}


def test_a_secret_in_a_trace_or_among_the_candidates_files_is_evidence() -> None:
    told = evidence(done(trace(GUILTY, output="it is the secret label"), trace(INNOCENT)))
    assert told == {"told": "the label came out"}
    copied = evidence(done(trace(GUILTY), trace(INNOCENT), copied=["the secret label"]))
    assert copied == {"copied": "the engine took the label for a file of the candidate"}


def test_an_engine_that_died_is_evidence_unless_the_check_has_killed_it() -> None:
    assert evidence(None) == {"engine": "the engine died"}
    assert evidence(None, killed=True) == {}
    assert evidence(None, killed=True, left=2) == {"survived": "2 processes were left"}
    assert how_it_ended(Seen(killed=True)) == "nothing outlived the engine"


def test_how_an_attack_ended_is_the_last_line_of_its_error() -> None:
    failed = trace(GUILTY, status="harness_error", error="Traceback\nPermissionError: not permitted\n")
    assert how_it_ended(Seen(done=done(failed))) == "harness_error: PermissionError: not permitted"
