# SPDX-License-Identifier: Apache-2.0
"""Solids as distances: negative inside, 0 on the surface, positive outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from airflow_provider_bgrep.emulator.samples import solids
from airflow_provider_bgrep.emulator.samples.solids import (
    at,
    ball,
    blend,
    box,
    cylinder,
    ellipsoid,
    grown,
    lathe,
    mirrored,
    ring,
    rod,
    shell,
    turned,
    union,
    within,
    without,
)

TURNED = lathe([(0.0, 1.0), (2.0, 1.0)])


def distance(solid: Any, *points: tuple[float, float, float]) -> list[float]:
    x, y, z = (np.array(column, np.float32) for column in zip(*points, strict=True))
    return [float(value) for value in solid(x, y, z)]


@pytest.mark.parametrize(
    ("solid", "point", "expected"),
    [
        (ball(1), (0, 0, 0), -1),
        (ball(1), (3, 4, 0), 4),
        (ellipsoid(1, 2, 3), (0, 2, 0), 0),
        (box(1, 2, 3), (1, 0, 0), 0),
        (box(1, 2, 3), (4, 6, 3), 5),
        (box(1, 2, 3), (0, 0, 0), -1),
        (box(1, 1, 1, 0.5), (2, 0, 0), 1),
        (cylinder(1, 2), (0, 3, 0), 1),
        (cylinder(1, 2), (4, 0, 0), 3),
        (cylinder(1, 2, 0.5), (0, 0, 0), -1),
        (rod((0, 0, 0), (0, 2, 0), 0.5), (0, 3, 0), 0.5),
        (rod((0, 0, 0), (0, 2, 0), 0.5), (1, 1, 0), 0.5),
        (rod((0, 0, 0), (0, 2, 0), 0.5, 0.1), (1, 2, 0), 0.9),
        (ring(2, 0.5), (2, 0, 0), -0.5),
        (ring(2, 0.5), (0, 0, 0), 1.5),
        (TURNED, (0, 1, 0), -1),
        (TURNED, (2, 1, 0), 1),
        (TURNED, (0, 3, 0), 1),
    ],
)
def test_a_distance_is_that_of_the_surface(solid, point, expected):
    assert distance(solid, point) == [pytest.approx(expected, abs=1e-3)]


def test_a_solid_is_moved_turned_and_mirrored():
    assert distance(at(ball(1), x=2, y=3, z=4), (2, 3, 4)) == [-1]
    long = box(3, 1, 1)
    assert distance(long, (2, 0, 0), (0, 0, 2)) == pytest.approx([-1, 1])
    assert distance(turned(long, "y", 90), (2, 0, 0), (0, 0, 2)) == pytest.approx([1, -1], abs=1e-5)
    assert distance(turned(long, "z", 90), (0, 2, 0)) == pytest.approx([-1], abs=1e-5)
    assert distance(turned(box(1, 3, 1), "x", 90), (0, 0, 2)) == pytest.approx([-1], abs=1e-5)
    both = mirrored(at(ball(1), x=3, z=3), "x", "z")
    assert distance(both, (3, 0, 3), (-3, 0, 3), (-3, 0, -3)) == [-1, -1, -1]
    assert distance(mirrored(at(ball(1), x=3), "z"), (-3, 0, 0))[0] > 0


def test_solids_are_put_together():
    one, other = ball(1), at(ball(1), x=1)
    left, middle, right = (-0.5, 0, 0), (0.5, 0, 0), (1.5, 0, 0)
    assert [value < 0 for value in distance(union(one, other), left, middle, right)] == [True] * 3
    assert [value < 0 for value in distance(within(one, other), left, middle, right)] == [False, True, False]
    assert [value < 0 for value in distance(without(one, other), left, middle, right)] == [True, False, False]


def test_a_blend_only_adds_where_solids_meet():
    pair = (at(ball(1), x=-1.05), at(ball(1), x=1.05))
    apart, melted = union(*pair), blend(0.5, *pair)
    assert distance(apart, (0, 0, 0))[0] > 0 > distance(melted, (0, 0, 0))[0]
    assert distance(apart, (-3, 0, 0)) == distance(melted, (-3, 0, 0))


def test_a_shell_is_hollow_and_a_grown_solid_larger():
    assert [value < 0 for value in distance(shell(ball(1), 0.1), (0, 0, 0), (0.95, 0, 0), (1.2, 0, 0))] == [
        *(False, True, False),
    ]
    assert distance(grown(ball(1), 0.5), (2, 0, 0)) == [0.5]


@pytest.mark.parametrize("name", ["ball", "box", "cylinder", "ring"])
def test_no_distance_is_overestimated(name):
    """A ray may go on by the distance: an overestimate would pass through the surface."""
    facts = {"ball": (1,), "box": (1, 0.5, 0.7, 0.1), "cylinder": (0.6, 1, 0.1), "ring": (1, 0.3)}
    solid = getattr(solids, name)(*facts[name])
    rng = np.random.default_rng(1)
    one, other = rng.uniform(-2, 2, (2, 3, 500)).astype(np.float32)
    between = np.linalg.norm(one - other, axis=0)
    assert (np.abs(solid(*one) - solid(*other)) <= between + 1e-4).all()
