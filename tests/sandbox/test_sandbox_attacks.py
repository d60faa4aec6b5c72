"""Every sandbox contains every attack, and an attack that works is seen: in a plain process most of them do."""

from __future__ import annotations

from collections import Counter

import pytest
from sandbox_kit import needs_bubblewrap

from metaharness.attacks import (
    ATTACKS,
    ATTACKS_WITH_PROCESSES,
    CONTROLS,
    DEPENDS_ON_THE_MACHINE,
    NOT_CONTAINED_BY_PROCESS,
    Attack,
)
from metaharness.attacks.several import ONLY_START_ONE, SEVERAL
from metaharness.errors import SandboxError, UsageError
from metaharness.sandbox import process
from metaharness.testing import SandboxReport, check_sandbox

NAMES = {attack.name: attack for attack in ATTACKS}
WORK_IN_A_PROCESS = frozenset(name for names in NOT_CONTAINED_BY_PROCESS.values() for name in names)


def told(report: SandboxReport) -> str:
    """What a person needs to know of a failure."""
    return "\n".join(f"{one.attack} ({one.tries}): {one.evidence}" for one in report.escaped)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
async def test_a_sandbox_contains_every_attack_and_lets_an_honest_harness_work(name: str) -> None:
    try:
        report = await check_sandbox(name, controls=())
    except SandboxError as error:
        pytest.skip(f"{name} does not work here: {error.message}")
    assert told(report) == ""
    assert report.honest is None
    assert report.contained
    assert [one.attack for one in report.results] == list(NAMES)


@pytest.mark.slow
@needs_bubblewrap
async def test_bubblewrap_contains_every_attack_also_where_a_harness_may_start_processes() -> None:
    report = await check_sandbox("bubblewrap", subprocess=True, controls=())
    assert told(report) == ""
    assert report.contained
    assert [one.attack for one in report.results] == [attack.name for attack in ATTACKS_WITH_PROCESSES]


@pytest.mark.slow
async def test_the_attacks_with_processes_work_in_a_plain_process_so_they_would_be_seen() -> None:
    report = await check_sandbox("process", subprocess=True, attacks=SEVERAL, controls=())
    held_by_the_clock = {"process that holds the pipe"}
    assert {one.attack for one in report.escaped} == {attack.name for attack in SEVERAL} - held_by_the_clock


@pytest.mark.slow
async def test_what_a_plain_process_does_not_contain_is_what_is_documented() -> None:
    report = await check_sandbox("process")
    escaped = {one.attack for one in report.escaped}
    assert report.unseen == (), "evidence was planted and not seen"
    assert report.honest is None
    assert not report.contained
    assert WORK_IN_A_PROCESS - escaped == set(), "documented, but contained"
    assert escaped - WORK_IN_A_PROCESS - set(DEPENDS_ON_THE_MACHINE) == set(), told(report)


def test_the_module_of_the_plain_process_has_the_table_of_what_it_does_not_contain() -> None:
    table = {**NOT_CONTAINED_BY_PROCESS, "on some machines, or under root": tuple(DEPENDS_ON_THE_MACHINE)}
    documented = " ".join((process.__doc__ or "").partition("work in it:")[2].split())
    assert documented == " ".join(f"{group} {', '.join(names)}" for group, names in table.items())


async def test_a_check_that_cannot_see_what_is_planted_does_not_call_anything_contained() -> None:
    silent = Attack("silent", "nothing at all", 'return ""')
    report = await check_sandbox("process", attacks=[silent], controls=[("reached", silent)])
    assert report.escaped == ()
    assert report.unseen == ("reached: silent",)
    assert not report.contained


async def test_an_attack_that_is_broken_itself_does_not_count_as_contained() -> None:
    broken = Attack("broken", "a name that is not there", "return no_such_name")
    report = await check_sandbox("process", attacks=[broken], controls=())
    [result] = report.results
    assert not result.contained
    assert "the attack itself is broken" in result.evidence


async def test_an_unknown_sandbox_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="castle"):
        await check_sandbox("castle")


def test_where_processes_may_be_started_all_is_tried_but_to_start_one() -> None:
    assert {one.name for one in ATTACKS_WITH_PROCESSES} == set(NAMES) - set(ONLY_START_ONE) | {
        one.name for one in SEVERAL
    }
    assert set(ONLY_START_ONE) < set(NAMES)


def test_there_are_attacks_of_every_kind_and_each_has_a_name_of_its_own() -> None:
    assert len(ATTACKS) >= 28
    assert [name for name, count in Counter(attack.name for attack in ATTACKS).items() if count > 1] == []
    assert all(attack.tries for attack in ATTACKS)


def test_what_is_documented_of_a_plain_process_are_attacks_that_there_are() -> None:
    assert set(NAMES) >= WORK_IN_A_PROCESS | set(DEPENDS_ON_THE_MACHINE)
    assert WORK_IN_A_PROCESS & set(DEPENDS_ON_THE_MACHINE) == set()


def test_every_kind_of_evidence_has_a_control() -> None:
    kinds = {kind for kind, _ in CONTROLS}
    seen_from_outside = {
        "told",
        "reached",
        "served",
        "file",
        "changed",
        "signal",
        "limit",
        "left",
        "survived",
        "processes",
    }
    seen_in_the_numbers = {"memory", "engine memory", "shared", "grade", "innocent", "absent", "slow", "engine"}
    assert kinds >= seen_from_outside | seen_in_the_numbers | {"said", "untried"}
