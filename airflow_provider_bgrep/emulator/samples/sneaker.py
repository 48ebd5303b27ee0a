# SPDX-License-Identifier: Apache-2.0
"""The sneaker, the one sample product whose shape no simple solid has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from airflow_provider_bgrep.emulator.samples.solids import (
    Array,
    Solid,
    at,
    box,
    ellipsoid,
    grown,
    mirrored,
    rgb,
    ring,
    rod,
    turned,
    union,
    within,
    without,
)
from airflow_provider_bgrep.emulator.samples.studio import Part, Shot


def _curve(*points: tuple[float, float]) -> Callable[[Array], Array]:
    """A smooth curve through points, as a table."""
    knots, values = (np.array(column) for column in zip(*points, strict=True))
    table = np.interp(np.linspace(knots[0], knots[-1], 1024), knots, values)
    kernel = np.hanning(99)[1:-1]
    table = np.convolve(np.pad(table, 48, mode="edge"), kernel / kernel.sum(), "valid").astype(np.float32)
    scale = np.float32(1023 / (knots[-1] - knots[0]))

    def curve(x: Array) -> Array:
        return np.asarray(table[np.clip((x - np.float32(knots[0])) * scale, 0, 1023).astype(np.int32)])

    return curve


def sneaker() -> Shot:
    """A running shoe, seen from its side."""
    broad = _curve(
        (-0.60, 0.125), (-0.45, 0.130), (-0.15, 0.118), (0.20, 0.160), (0.40, 0.165), (0.60, 0.150)
    )
    high = _curve((-0.58, 0.44), (-0.46, 0.485), (-0.34, 0.43), (-0.14, 0.445), (0.0, 0.385), (0.20, 0.275),
                  (0.40, 0.240), (0.60, 0.225))  # fmt: skip

    def rounded(x: Array, end: float, power: int) -> Array:
        return np.asarray(np.sqrt(np.maximum(1 - np.abs(x / np.float32(end)) ** power, 0.004)))

    def width(x: Array) -> Array:
        return np.asarray(broad(x) * rounded(x, 0.60, 6), np.float32)

    def height(x: Array) -> Array:
        return np.asarray(high(x) * np.where(x > 0, rounded(x, 0.585, 7), 1), np.float32)

    thick = _curve((-0.6, 0.135), (-0.3, 0.125), (0.1, 0.10), (0.6, 0.085))
    spring = _curve((-0.6, 0.030), (-0.45, 0.004), (0.25, 0.0), (0.45, 0.022), (0.62, 0.075))

    def sole(x: Array, y: Array, z: Array) -> Array:
        out = broad(x) * rounded(x, 0.625, 6) + np.float32(0.022)
        p = np.maximum((np.abs(z) - out) * np.float32(0.6), np.abs(x) - np.float32(0.628)) + np.float32(0.03)
        half = thick(x) / 2
        q = np.abs(y - spring(x) - half) - half + np.float32(0.03)
        inside = np.minimum(np.maximum(p, q), 0)
        p, q = np.maximum(p, 0), np.maximum(q, 0)
        return np.asarray((np.sqrt(p * p + q * q) + inside - np.float32(0.03)) * np.float32(0.85), np.float32)

    def last(x: Array, y: Array, z: Array) -> Array:
        rise = np.maximum(height(x), 0.02)
        p, q = np.abs(z) / width(x), np.maximum(y, 0) / rise
        side = (p**2.5 + q**2.9) ** np.float32(1 / 2.6)
        ends = np.abs(x) - np.float32(0.575)
        around = (side - 1) * np.maximum(np.minimum(width(x), rise), 0.06)
        below = np.float32(0.06) + spring(x) - y
        return np.asarray(np.maximum(np.maximum(around, ends), below) * np.float32(0.62), np.float32)

    ankle = at(turned(ellipsoid(0.185, 0.24, 0.082), "z", -10), -0.315, 0.56, 0)
    upper = without(grown(last, 0.012), ankle)
    collar = within(grown(without(grown(last, 0.012), grown(ankle, 0.004)), 0.010), grown(ankle, 0.050))
    tongue = at(turned(box(0.13, 0.016, 0.072, 0.016), "z", -42), -0.165, 0.49, 0)
    navy, coral, white = (rgb(one) for one in ((0.030, 0.085, 0.20), (0.88, 0.20, 0.09), (0.88, 0.88, 0.86)))

    def knit(x: Array, y: Array, z: Array) -> Array:
        swoosh = np.abs((x - 0.02) * 0.62 + (y - 0.24) + 0.9 * (x - 0.05) ** 2)
        mark = (swoosh < 0.030 - 0.05 * (x + 0.1)) & (x > -0.34) & (x < 0.26)
        mesh = (1 + 0.16 * np.sin(x * 150) * np.sin((y + np.abs(z)) * 150))[:, None]
        cap = ((y < 0.175 - 0.10 * (x < 0.3)) | (x < -0.47) & (y < 0.30))[:, None] & (np.abs(x) > 0.30)[
            :, None
        ]
        throat = ((np.abs(z) < 0.062) & (x > -0.14) & (x < 0.27) & (y > 0.2))[:, None]
        base = np.where(cap, coral, np.where(throat, navy * 1.9, navy)) * mesh
        return np.asarray(np.where(mark[:, None], white, base), np.float32)

    def foam(x: Array, y: Array, z: Array) -> Array:
        low = y - spring(x)
        tread = (low < 0.028)[:, None]
        line = (np.abs(low - thick(x) * 0.72) < 0.005)[:, None]
        return np.asarray(np.where(line, rgb((0.5, 0.5, 0.5)), np.where(tread, coral, white)), np.float32)

    def lace(x: float) -> Solid:
        top = float(height(np.array([x], np.float32))[0]) + 0.036 + 0.12 * max(0.0, 0.12 - x)
        return mirrored(rod((x - 0.014, top, 0), (x + 0.012, top - 0.022, 0.070), 0.0135), "z")

    knot = mirrored(at(turned(turned(ring(0.038, 0.011), "x", 35), "z", -35), -0.075, 0.47, 0.045), "z")
    return Shot(
        (
            Part(sole, foam, 0.03, 0.2),
            Part(upper, knit, 0.02, 0.05),
            Part(collar, (0.88, 0.20, 0.09), 0.02, 0.05),
            Part(tongue, (0.05, 0.13, 0.29), 0.02, 0.05),
            Part(
                union(*(lace(x) for x in (-0.06, 0.0, 0.06, 0.12, 0.18)), knot), (0.88, 0.88, 0.86), 0.02, 0.1
            ),
        ),
        target=(0.0, 0.25, 0),
        azimuth=24,
        elevation=17,
        distance=2.75,
    )
