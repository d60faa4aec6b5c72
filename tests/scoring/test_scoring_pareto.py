from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaharness.records import Direction
from metaharness.scoring.pareto import Frontier, dominates, frontier

Clouds = tuple[dict[int, tuple[float, ...]], list[Direction]]


@st.composite
def clouds(draw: st.DrawFn) -> Clouds:
    """Points on a coarse grid, so that ties and equal points are common."""
    directions: list[Direction] = draw(st.lists(st.sampled_from(("max", "min")), min_size=1, max_size=4))
    point = st.tuples(*[st.integers(0, 4).map(float) for _ in directions])
    return draw(st.dictionaries(st.integers(0, 99), point, max_size=25)), directions


def test_a_point_dominates_when_it_is_as_good_everywhere_and_better_somewhere() -> None:
    directions: list[Direction] = ["max", "min"]
    assert dominates((0.9, 100), (0.8, 100), directions)
    assert dominates((0.9, 90), (0.9, 100), directions)
    assert not dominates((0.9, 110), (0.8, 100), directions)
    assert not dominates((0.9, 100), (0.9, 100), directions)


def test_a_tie_in_one_objective_does_not_keep_a_dominated_point() -> None:
    assert frontier({1: (0.9, 100.0), 2: (0.9, 120.0), 3: (0.8, 100.0)}, ["max", "min"]) == [1]


def test_equal_points_are_both_kept() -> None:
    assert frontier({2: (0.9, 100.0), 1: (0.9, 100.0), 3: (0.1, 100.0)}, ["max", "min"]) == [1, 2]
    assert frontier({1: (0.0,), 2: (-0.0,)}, ["max"]) == [1, 2]


def test_infinite_values_have_an_order() -> None:
    assert frontier({1: (math.inf,), 2: (5.0,), 3: (-math.inf,)}, ["min"]) == [3]


def test_the_frontier_of_nothing_is_empty() -> None:
    assert frontier({}, ["max"]) == []
    assert Frontier(["max"]).keys == []


@settings(deadline=None)
@given(clouds())
def test_members_do_not_dominate_one_another_and_a_member_dominates_every_other_point(cloud: Clouds) -> None:
    points, directions = cloud
    members = frontier(points, directions)
    assert members == sorted(set(members))
    assert not any(dominates(points[a], points[b], directions) for a in members for b in members)
    for key in points.keys() - set(members):
        assert any(dominates(points[member], points[key], directions) for member in members)


@settings(deadline=None)
@given(clouds(), st.randoms(use_true_random=False))
def test_adding_points_one_by_one_gives_the_frontier_of_all_of_them(cloud: Clouds, shuffler: object) -> None:
    points, directions = cloud
    order = list(points)
    shuffler.shuffle(order)  # type: ignore[attr-defined]
    growing = Frontier(directions)
    added: dict[int, Sequence[float]] = {}
    for key in order:
        on_it = growing.add(key, points[key])
        added[key] = points[key]
        assert growing.keys == frontier(added, directions)
        assert on_it == (key in growing.keys)


@settings(deadline=None)
@given(clouds())
def test_turning_an_objective_around_with_its_direction_changes_nothing(cloud: Clouds) -> None:
    points, directions = cloud
    turned: list[Direction] = ["min" if direction == "max" else "max" for direction in directions]
    negated = {key: tuple(-value for value in point) for key, point in points.items()}
    assert frontier(negated, turned) == frontier(points, directions)


@pytest.mark.parametrize("point", [(math.nan, 1.0), (1.0, math.nan)])
def test_a_point_without_an_order_is_refused(point: tuple[float, float]) -> None:
    directions: list[Direction] = ["max", "min"]
    growing = Frontier(directions)
    for call in (
        lambda: dominates(point, (1.0, 1.0), directions),
        lambda: dominates((1.0, 1.0), point, directions),
        lambda: frontier({1: point}, directions),
        lambda: growing.add(1, point),
    ):
        with pytest.raises(ValueError, match="NaN"):
            call()
    assert growing.add(1, (1.0, 1.0))


def test_a_point_with_another_number_of_values_than_objectives_is_refused() -> None:
    with pytest.raises(ValueError, match="3 values for 2 objectives"):
        frontier({1: (1.0, 2.0, 3.0)}, ["max", "min"])


def test_a_key_is_added_once() -> None:
    growing = Frontier(["max"])
    growing.add(1, (2.0,))
    assert not growing.add(2, (1.0,))
    for key in (1, 2):
        with pytest.raises(ValueError, match="was added before"):
            growing.add(key, (3.0,))
    assert growing.keys == [1]
