"""Places in the air go to the iterations in turn, and none is lost where a call that waits is given up."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from metaharness.gateway.turns import Turns

pytestmark = pytest.mark.anyio


async def test_one_that_asks_for_many_places_at_once_does_not_keep_the_others_waiting() -> None:
    turns, order = Turns(1), list[int]()

    async def call(iteration: int) -> None:
        await turns.take(iteration)
        order.append(iteration)
        await checkpoint()
        turns.give_back()

    async with anyio.create_task_group() as group:
        for iteration in (1, 1, 1, 1, 2, 3, 2):
            group.start_soon(call, iteration)
    assert order == [1, 1, 2, 3, 1, 2, 1]


async def test_a_call_that_is_given_up_while_it_waits_or_just_got_its_place_takes_none_with_it() -> None:
    turns, done = Turns(1), list[str]()

    async def call(name: str) -> None:
        await turns.take(1)
        try:
            await checkpoint()
            done.append(name)
        finally:
            turns.give_back()

    async with anyio.create_task_group() as group:
        await turns.take(0)
        waiting = group.start_soon(call, "given up while it waited")
        chosen = group.start_soon(call, "given up with its place")
        group.start_soon(call, "the last")
        await anyio.wait_all_tasks_blocked()
        waiting.cancel()
        await anyio.wait_all_tasks_blocked()
        turns.give_back()
        chosen.cancel()
    assert done == ["the last"]
    with anyio.fail_after(5):
        await turns.take(2)
