# SPDX-License-Identifier: Apache-2.0
"""Solids as signed distances: of points in space, how far each is from the surface.

A solid is a function of three arrays of coordinates (y is up) that returns an array of distances,
negative inside. Products are put together from these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Solid = Callable[[Array, Array, Array], Array]
Vector = tuple[float, float, float]


def rgb(color: Any) -> Array:
    """A color to reckon with."""
    return np.asarray(color, np.float32)


def ball(radius: float) -> Solid:
    """A ball around the origin."""
    return lambda x, y, z: np.sqrt(x * x + y * y + z * z) - np.float32(radius)


def ellipsoid(a: float, b: float, c: float) -> Solid:
    """An ellipsoid around the origin; its distances are good near its surface."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        p, q, r = x / np.float32(a), y / np.float32(b), z / np.float32(c)
        near = np.sqrt(p * p + q * q + r * r)
        p, q, r = p / np.float32(a), q / np.float32(b), r / np.float32(c)
        slope = np.sqrt(p * p + q * q + r * r)
        return _array(near * (near - 1) / np.maximum(slope, 1e-6))

    return distance


def box(a: float, b: float, c: float, rounding: float = 0.0) -> Solid:
    """A box of these half sides, its edges rounded."""
    f = np.float32

    def distance(x: Array, y: Array, z: Array) -> Array:
        p, q, r = np.abs(x) - f(a - rounding), np.abs(y) - f(b - rounding), np.abs(z) - f(c - rounding)
        inside = np.minimum(np.maximum(np.maximum(p, q), r), 0)
        p, q, r = np.maximum(p, 0), np.maximum(q, 0), np.maximum(r, 0)
        return _array(np.sqrt(p * p + q * q + r * r) + inside - f(rounding))

    return distance


def cylinder(radius: float, half: float, rounding: float = 0.0) -> Solid:
    """An upright cylinder of this radius and half height."""
    f = np.float32

    def distance(x: Array, y: Array, z: Array) -> Array:
        p = np.sqrt(x * x + z * z) - f(radius - rounding)
        q = np.abs(y) - f(half - rounding)
        inside = np.minimum(np.maximum(p, q), 0)
        p, q = np.maximum(p, 0), np.maximum(q, 0)
        return _array(np.sqrt(p * p + q * q) + inside - f(rounding))

    return distance


def rod(a: Vector, b: Vector, radius: float, end: float | None = None) -> Solid:
    """A round rod from a to b; with ``end`` it tapers to that radius."""
    start, axis = np.array(a, np.float32), np.array(b, np.float32) - np.array(a, np.float32)
    length = np.float32(axis @ axis)
    more = np.float32((radius if end is None else end) - radius)

    def distance(x: Array, y: Array, z: Array) -> Array:
        x, y, z = x - start[0], y - start[1], z - start[2]
        along = np.clip((x * axis[0] + y * axis[1] + z * axis[2]) / length, 0, 1)
        x, y, z = x - along * axis[0], y - along * axis[1], z - along * axis[2]
        return _array(np.sqrt(x * x + y * y + z * z) - (np.float32(radius) + along * more))

    return distance


def ring(radius: float, thickness: float) -> Solid:
    """A horizontal torus."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        p = np.sqrt(x * x + z * z) - np.float32(radius)
        return _array(np.sqrt(p * p + y * y) - np.float32(thickness))

    return distance


def lathe(profile: Sequence[tuple[float, float]]) -> Solid:
    """A turned solid.

    :param profile: heights, rising, and the radius at each; between them it is smooth.
    """
    heights, radii = (np.array(column, np.float64) for column in zip(*profile, strict=True))
    low, high = heights[0], heights[-1]
    steps = 2048
    at = np.linspace(low, high, steps)
    table = np.interp(at, heights, radii)
    width = steps // 40
    kernel = np.hanning(width + 2)[1:-1]
    padded = np.pad(table, (width // 2, width - width // 2 - 1), mode="edge")
    table = np.convolve(padded, kernel / kernel.sum(), "valid")[:steps]
    slope = np.abs(np.gradient(table, at))
    ease = (1 / np.sqrt(1 + np.minimum(slope, 3.0) ** 2)).astype(np.float32)
    smooth = table.astype(np.float32)
    scale, half, middle = (
        np.float32((steps - 1) / (high - low)),
        np.float32((high - low) / 2),
        (high + low) / 2,
    )

    def distance(x: Array, y: Array, z: Array) -> Array:
        index = np.clip((y - np.float32(low)) * scale, 0, steps - 1).astype(np.int32)
        p = (np.sqrt(x * x + z * z) - smooth[index]) * ease[index]
        return _array(np.maximum(p, np.abs(y - np.float32(middle)) - half))

    return distance


def at(solid: Solid, x: float = 0, y: float = 0, z: float = 0) -> Solid:
    """The solid, moved."""
    f = np.float32
    return lambda p, q, r: solid(p - f(x), q - f(y), r - f(z))


def turned(solid: Solid, axis: str, degrees: float) -> Solid:
    """The solid, turned about an axis through the origin."""
    c, s = np.float32(np.cos(np.radians(degrees))), np.float32(np.sin(np.radians(degrees)))
    if axis == "x":
        return lambda x, y, z: solid(x, y * c + z * s, z * c - y * s)
    if axis == "y":
        return lambda x, y, z: solid(x * c - z * s, y, z * c + x * s)
    return lambda x, y, z: solid(x * c + y * s, y * c - x * s, z)


def mirrored(solid: Solid, *axes: str) -> Solid:
    """The solid and its mirror images."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        return solid(np.abs(x) if "x" in axes else x, y, np.abs(z) if "z" in axes else z)

    return distance


def union(*solids: Solid) -> Solid:
    """All of them."""
    return lambda x, y, z: reduce(np.minimum, [solid(x, y, z) for solid in solids])


def blend(width: float, *solids: Solid) -> Solid:
    """All of them, melted together where they meet."""
    w = np.float32(width)

    def melt(p: Array, q: Array) -> Array:
        h = np.maximum(w - np.abs(p - q), 0) / w
        return _array(np.minimum(p, q) - h * h * w * np.float32(0.25))

    return lambda x, y, z: reduce(melt, [solid(x, y, z) for solid in solids])


def without(solid: Solid, other: Solid) -> Solid:
    """The first, without the second."""
    return lambda x, y, z: _array(np.maximum(solid(x, y, z), -other(x, y, z)))


def within(solid: Solid, other: Solid) -> Solid:
    """What is in both."""
    return lambda x, y, z: _array(np.maximum(solid(x, y, z), other(x, y, z)))


def shell(solid: Solid, thickness: float) -> Solid:
    """The skin of a solid."""
    return lambda x, y, z: _array(np.abs(solid(x, y, z)) - np.float32(thickness))


def grown(solid: Solid, by: float) -> Solid:
    """The solid, larger all around; its edges become round."""
    return lambda x, y, z: _array(solid(x, y, z) - np.float32(by))


def _array(value: Any) -> Array:
    return np.asarray(value, np.float32)
