"""Strict Pareto dominance over any number of objectives.

A point dominates another when it is at least as good in every objective and better in at least one. Equal points
therefore do not dominate each other: both stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from metaharness.records import Direction


def dominates(a: Sequence[float], b: Sequence[float], directions: Sequence[Direction]) -> bool:
    """Whether a is at least as good as b in every objective and better in one.

    Args:
        a: One value per objective.
        b: One value per objective.
        directions: Which way is better, per objective.

    Raises:
        ValueError: A point has another number of values than there are directions, or holds NaN.
    """
    return _dominates(_gains(a, directions), _gains(b, directions))


def frontier(points: Mapping[int, Sequence[float]], directions: Sequence[Direction]) -> list[int]:
    """The keys of the points that no other point dominates, ascending.

    Args:
        points: Key (an iteration) to one value per objective.
        directions: Which way is better, per objective.

    Raises:
        ValueError: A point has another number of values than there are directions, or holds NaN.
    """
    gains = {key: _gains(point, directions) for key, point in points.items()}
    members: list[int] = []
    # In this order a point comes after all that dominate it. Dominance is transitive, so if any does, a member does.
    for key in sorted(gains, key=gains.__getitem__, reverse=True):
        if not any(_dominates(gains[member], gains[key]) for member in members):
            members.append(key)
    return sorted(members)


class Frontier:
    """The frontier of the points added so far: always `frontier` of all of them."""

    def __init__(self, directions: Sequence[Direction]) -> None:
        self._directions = tuple(directions)
        self._seen: set[int] = set()
        self._members: dict[int, tuple[float, ...]] = {}

    @property
    def keys(self) -> list[int]:
        """The keys on the frontier, ascending."""
        return sorted(self._members)

    def add(self, key: int, point: Sequence[float]) -> bool:
        """Take a point in; whether it is on the frontier now.

        Raises:
            ValueError: The key was added before, or the point has a wrong length or holds NaN; nothing has changed.
        """
        gains = _gains(point, self._directions)
        if key in self._seen:
            raise ValueError(f"point {key} was added before")
        self._seen.add(key)
        if any(_dominates(member, gains) for member in self._members.values()):
            return False
        self._members = {other: member for other, member in self._members.items() if not _dominates(gains, member)}
        self._members[key] = gains
        return True


def _gains(point: Sequence[float], directions: Sequence[Direction]) -> tuple[float, ...]:
    """The point with every objective turned so that more is better."""
    if len(point) != len(directions):
        raise ValueError(f"a point has {len(point)} values for {len(directions)} objectives")
    if any(math.isnan(value) for value in point):
        raise ValueError(f"the point {tuple(point)} holds NaN, which has no order")
    return tuple(value if direction == "max" else -value for value, direction in zip(point, directions, strict=True))


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x >= y for x, y in zip(a, b, strict=True))
