# SPDX-License-Identifier: Apache-2.0
"""The sample products, put together from solids. Lengths are such that each is about one high."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from airflow_provider_bgrep.emulator.samples.sneaker import sneaker
from airflow_provider_bgrep.emulator.samples.solids import (
    Array,
    at,
    ball,
    blend,
    box,
    cylinder,
    ellipsoid,
    grown,
    lathe,
    mirrored,
    rgb,
    ring,
    rod,
    turned,
    union,
    within,
    without,
)
from airflow_provider_bgrep.emulator.samples.studio import Color, Paint, Part, Shot

GOLD: Final = (0.83, 0.58, 0.24)
STEEL: Final = (0.62, 0.64, 0.67)
BLACK: Final = (0.018, 0.018, 0.022)


def wood(light: Color = (0.46, 0.25, 0.11), dark: Color = (0.27, 0.125, 0.05), axis: str = "x") -> Paint:
    """Grain along an axis."""
    near, far = np.array(light, np.float32), np.array(dark, np.float32)

    def paint(x: Array, y: Array, z: Array) -> Array:
        along, a, b = {"x": (x, y, z), "y": (y, x, z), "z": (z, x, y)}[axis]
        bend = 0.25 * np.sin(along * 2.1 + a * 3) + 0.1 * np.sin(along * 5.3 + b * 7)
        rings = np.sin(a * 9 + b * 21 + bend * 5) * 0.5 + 0.5
        fine = np.sin(b * 260 + along * 3 + 4 * np.sin(a * 90)) * 0.5 + 0.5
        mix = np.clip(0.65 * rings**2 + 0.25 * fine, 0, 1)[:, None]
        return np.asarray(near * (1 - mix) + far * mix, np.float32)

    return paint


def cloth(color: Color, threads: float = 120.0) -> Paint:
    """A weave."""
    base = np.array(color, np.float32)

    def paint(x: Array, y: Array, z: Array) -> Array:
        weave = np.sin((x + z * 0.6) * threads) * np.sin((y + z * 0.4) * threads)
        return np.asarray(base * (1 + 0.10 * weave[:, None]), np.float32)

    return paint


def bottle() -> Shot:
    """A perfume bottle of amber glass with a gilded cap."""
    body = box(0.36, 0.40, 0.19, 0.075)

    def amber(x: Array, y: Array, z: Array) -> Array:
        # Lighter toward the foot and the edges, where glass gathers light: painted, not traced.
        edge = np.clip(np.abs(x) / 0.36, 0, 1) ** 4
        foot = np.clip((0.16 - y) / 0.12, 0, 1)
        level = np.clip((y - 0.66) / 0.01, 0, 1)
        bright = 0.10 + 0.30 * edge + 0.65 * foot + 0.20 * np.clip((x + 0.1) * 1.2, 0, 1)
        mix = np.clip(bright, 0, 1)[:, None]
        juice = rgb((0.40, 0.10, 0.012)) * (1 - mix) + rgb((1.0, 0.52, 0.13)) * mix
        glass = rgb((0.72, 0.60, 0.47))
        # A window mirrored in the front, which a flat face would otherwise lack.
        slant = x + 0.32 * (y - 0.42)
        window = 0.5 * ((slant > -0.275) & (slant < -0.19)) + 0.3 * ((slant > -0.165) & (slant < -0.145))
        window = window * (z > 0.1) * (y > 0.13)
        filled = np.where(level[:, None] > 0.5, glass, juice)
        return np.asarray(filled + window[:, None] * rgb((0.35, 0.30, 0.24)), np.float32)

    label = within(at(box(0.20, 0.13, 0.3, 0.01), 0, 0.42), at(grown(body, 0.003), 0, 0.42))

    def print_on(x: Array, y: Array, z: Array) -> Array:
        frame = (np.abs(np.abs(x) - 0.178) < 0.004) | (np.abs(np.abs(y - 0.42) - 0.108) < 0.004)
        lines = (np.abs(y - 0.45) < 0.017) & (np.abs(x) < 0.11) & (np.sin(x * 150) > -0.35)
        small = (np.abs(y - 0.375) < 0.006) & (np.abs(x) < 0.075)
        ink = (frame | lines | small)[:, None]
        return np.where(ink, rgb((0.34, 0.20, 0.06)), rgb((0.86, 0.82, 0.72)))

    return Shot(
        (
            Part(at(body, 0, 0.405), amber, 0.09, 0.97, 0.10),
            Part(label, print_on, 0.03, 0.2),
            Part(at(cylinder(0.125, 0.035, 0.01), 0, 0.84), GOLD, 0.8, 0.9),
            Part(at(cylinder(0.155, 0.125, 0.022), 0, 0.985), GOLD, 0.82, 0.93),
        ),
        target=(0, 0.53, 0),
        azimuth=24,
        elevation=11,
        distance=2.75,
    )


def lamp() -> Shot:
    """A table lamp: a turned ceramic foot, a linen shade."""

    def foot(x: Array, y: Array, z: Array) -> Array:
        gourd = blend(
            0.10,
            at(ellipsoid(0.235, 0.19, 0.235), 0, 0.30, 0),
            at(cylinder(0.055, 0.12, 0.02), 0, 0.53, 0),
            at(cylinder(0.15, 0.03, 0.02), 0, 0.10, 0),
        )
        return gourd(x, y, z)

    outer = lathe([(0.62, 0.43), (1.16, 0.27)])
    inner = lathe([(0.50, 0.455), (1.30, 0.22)])

    def linen(x: Array, y: Array, z: Array) -> Array:
        around = np.arctan2(x, z)
        weave = 0.04 * np.sin(around * 230) + 0.04 * np.sin(y * 420)
        warm = np.clip(1.25 - np.abs(y - 0.84) * 1.5, 0.5, 1.3)
        return np.asarray(rgb((0.95, 0.80, 0.58)) * ((0.82 + weave) * warm)[:, None], np.float32)

    return Shot(
        (
            Part(foot, (0.035, 0.17, 0.20), 0.06, 0.95),
            Part(at(cylinder(0.20, 0.025, 0.012), 0, 0.025, 0), wood(axis="x"), 0.05, 0.6),
            Part(at(cylinder(0.022, 0.1), 0, 0.70), GOLD, 0.8, 0.8),
            Part(without(outer, inner), linen, 0.02, 0.0, 0.42),
            Part(at(ball(0.03), 0, 1.2), GOLD, 0.8, 0.8),
            Part(at(cylinder(0.006, 0.05), 0, 1.16), GOLD, 0.8, 0.8),
        ),
        target=(0, 0.60, 0),
        azimuth=18,
        elevation=9,
        distance=3.2,
    )


def chair() -> Shot:
    """A dining chair: a molded seat on slanted legs."""
    seat = blend(
        0.16,
        at(box(0.33, 0.030, 0.31, 0.03), 0, 0.62, 0),
        at(turned(box(0.32, 0.34, 0.028, 0.028), "x", -12), 0, 0.93, -0.33),
    )
    cushion = at(box(0.285, 0.035, 0.26, 0.034), 0, 0.668, 0.03)
    leg = rod((0.24, 0.6, 0.22), (0.36, 0.0, 0.32), 0.034, 0.02)
    hind = rod((0.24, 0.6, -0.22), (0.34, 0.0, -0.36), 0.034, 0.02)
    stay = rod((0.27, 0.46, 0.24), (0.27, 0.46, -0.25), 0.014)
    cross = rod((-0.27, 0.46, 0.0), (0.27, 0.46, 0.0), 0.014)
    return Shot(
        (
            Part(seat, (0.80, 0.79, 0.76), 0.04, 0.75),
            Part(cushion, cloth((0.62, 0.20, 0.10)), 0.02, 0.0),
            Part(mirrored(union(leg, hind), "x"), wood(axis="y"), 0.04, 0.45),
            Part(union(mirrored(stay, "x"), cross), BLACK, 0.05, 0.5),
        ),
        target=(0, 0.62, 0),
        azimuth=33,
        elevation=15,
        distance=3.7,
        backdrop=(0.72, 0.73, 0.74),
    )


def mug() -> Shot:
    """An enamel mug with a blue rim."""
    cup = without(
        at(cylinder(0.36, 0.40, 0.03), 0, 0.40),
        at(cylinder(0.325, 0.40, 0.03), 0, 0.46),
    )
    handle = within(at(turned(ring(0.215, 0.042), "x", 90), 0.40, 0.42), at(box(0.5, 1, 1), 0.845, 0.4))

    def enamel(x: Array, y: Array, z: Array) -> Array:
        rim = (y > 0.765)[:, None]
        around = np.arctan2(x, z)
        hills = 0.30 + 0.055 * np.sin(around * 5) + 0.03 * np.sin(around * 11 + 1)
        peaks = 0.40 + 0.10 * np.abs(((around * 2.2) % 1) - 0.5)
        out = np.full((len(x), 3), np.float32(0.86), np.float32)
        inside = np.hypot(x, z) < 0.34
        out[(y < peaks) & ~inside] = (0.40, 0.58, 0.66)
        out[(y < hills) & ~inside] = (0.055, 0.22, 0.27)
        sun = (around - 0.2) ** 2 + ((y - 0.60) / 0.36) ** 2 < 0.028
        out[sun & ~inside] = (0.88, 0.30, 0.08)
        return np.asarray(np.where(rim, rgb((0.03, 0.10, 0.24)), out), np.float32)

    return Shot(
        (Part(cup, enamel, 0.05, 0.92), Part(handle, (0.86, 0.86, 0.86), 0.05, 0.92)),
        target=(0.09, 0.41, 0),
        azimuth=14,
        elevation=20,
        distance=2.6,
        backdrop=(0.78, 0.76, 0.73),
    )


def headphones() -> Shot:
    """Headphones, standing on their cups."""
    arch = within(at(turned(ring(0.42, 0.035), "x", 90), 0, 0.56), at(box(1, 0.5, 1), 0, 1.03))
    pad = within(at(turned(ring(0.425, 0.058), "x", 90), 0, 0.575), at(box(0.30, 0.5, 1), 0, 1.2))
    arm = rod((0.42, 0.58, 0), (0.44, 0.40, 0), 0.022)
    cup = at(turned(cylinder(0.205, 0.075, 0.05), "z", 84), 0.455, 0.235)
    cap = at(turned(cylinder(0.13, 0.02, 0.012), "z", 84), 0.53, 0.228)
    cushion = at(turned(ring(0.135, 0.072), "z", 84), 0.375, 0.243)
    return Shot(
        (
            Part(arch, STEEL, 0.6, 0.85),
            Part(pad, (0.30, 0.13, 0.055), 0.03, 0.25),
            Part(mirrored(arm, "x"), STEEL, 0.7, 0.85),
            Part(mirrored(cup, "x"), (0.035, 0.037, 0.042), 0.05, 0.7),
            Part(mirrored(cap, "x"), GOLD, 0.75, 0.85),
            Part(mirrored(cushion, "x"), (0.30, 0.13, 0.055), 0.03, 0.3),
        ),
        target=(0, 0.51, 0),
        azimuth=34,
        elevation=13,
        distance=2.75,
    )


def handbag() -> Shot:
    """A leather handbag."""

    def body(x: Array, y: Array, z: Array) -> Array:
        # Wider at its foot: a box whose sides lean in.
        lean = 1 + 0.28 * (0.38 - y)
        return np.asarray(box(0.46, 0.34, 0.19, 0.07)(x / lean, y - 0.34, z / lean) * 0.8, np.float32)

    flap = within(at(box(0.46, 0.19, 0.4, 0.05), 0, 0.56), grown(body, 0.014))
    handle = at(turned(without(ring(0.22, 0.026), at(box(1, 1, 1), 0, 0, 1.0)), "x", 90), 0, 0.66, 0)
    loops = mirrored(at(turned(ring(0.05, 0.013), "x", 90), 0.22, 0.66, 0), "x")

    def leather(x: Array, y: Array, z: Array) -> Array:
        grain = 1 + 0.05 * np.sin(x * 140 + 3 * np.sin(y * 90)) * np.sin(y * 150 + 3 * np.sin(x * 80))
        seam = (np.abs(np.abs(x) - 0.405) < 0.003) & (np.sin(y * 150) > -0.2)
        base = rgb((0.36, 0.045, 0.040)) * grain[:, None]
        return np.asarray(np.where(seam[:, None], rgb((0.75, 0.55, 0.35)), base), np.float32)

    return Shot(
        (
            Part(body, leather, 0.05, 0.55),
            Part(flap, leather, 0.05, 0.55),
            Part(handle, (0.30, 0.04, 0.035), 0.05, 0.5),
            Part(loops, GOLD, 0.8, 0.9),
            Part(at(box(0.075, 0.055, 0.03, 0.015), 0, 0.40, 0.205), GOLD, 0.8, 0.9),
        ),
        target=(0, 0.45, 0),
        azimuth=22,
        elevation=14,
        distance=2.75,
    )


def armchair() -> Shot:
    """An upholstered armchair on wooden feet."""
    base = at(box(0.50, 0.12, 0.42, 0.05), 0, 0.27, 0)
    back = at(turned(box(0.46, 0.40, 0.12, 0.10), "x", -9), 0, 0.66, -0.36)
    arm = at(box(0.105, 0.225, 0.42, 0.09), 0.50, 0.40, 0.02)
    seat = at(box(0.39, 0.095, 0.38, 0.08), 0, 0.44, 0.07)
    pillow = at(turned(box(0.25, 0.20, 0.075, 0.075), "x", -16), 0.08, 0.68, -0.13)
    foot = rod((0.42, 0.16, 0.34), (0.46, 0.0, 0.38), 0.035, 0.022)
    green = cloth((0.085, 0.20, 0.145), 160)

    def stripes(x: Array, y: Array, z: Array) -> Array:
        band = (np.sin(x * 62) > 0.35)[:, None]
        return np.where(band, rgb((0.75, 0.42, 0.12)), rgb((0.84, 0.78, 0.66)))

    return Shot(
        (
            Part(union(base, back), green, 0.02, 0.0),
            Part(mirrored(arm, "x"), green, 0.02, 0.0),
            Part(seat, green, 0.02, 0.0),
            Part(pillow, stripes, 0.02, 0.0),
            Part(mirrored(foot, "x", "z"), wood(axis="y"), 0.04, 0.5),
        ),
        target=(0, 0.50, 0),
        azimuth=30,
        elevation=15,
        distance=3.35,
        backdrop=(0.76, 0.74, 0.71),
    )


def table() -> Shot:
    """A coffee table of oak, with a book and a bowl on it."""
    top = at(box(0.72, 0.035, 0.42, 0.03), 0, 0.50, 0)
    shelf = at(box(0.56, 0.016, 0.30, 0.015), 0, 0.20, 0)
    leg = rod((0.58, 0.48, 0.30), (0.64, 0.0, 0.35), 0.035, 0.022)
    bowl = without(
        within(at(ellipsoid(0.17, 0.12, 0.17), 0.20, 0.655, -0.06), at(box(1, 0.06, 1), 0, 0.595)),
        at(ellipsoid(0.150, 0.10, 0.150), 0.20, 0.665, -0.06),
    )
    books = union(
        at(turned(box(0.15, 0.018, 0.105, 0.004), "y", 12), -0.30, 0.553, 0.02),
        at(turned(box(0.13, 0.014, 0.095, 0.004), "y", -8), -0.29, 0.585, 0.02),
    )

    def covers(x: Array, y: Array, z: Array) -> Array:
        return np.where((y > 0.572)[:, None], rgb((0.72, 0.40, 0.12)), rgb((0.07, 0.17, 0.26)))

    return Shot(
        (
            Part(top, wood(), 0.045, 0.6),
            Part(shelf, wood(), 0.04, 0.5),
            Part(mirrored(leg, "x", "z"), wood(axis="y"), 0.04, 0.5),
            Part(bowl, (0.80, 0.78, 0.74), 0.05, 0.9),
            Part(books, covers, 0.03, 0.3),
        ),
        target=(0, 0.32, 0),
        azimuth=24,
        elevation=20,
        distance=3.5,
    )


def car() -> Shot:
    """A small car, as a die-cast model of it."""
    lower = at(box(0.80, 0.145, 0.34, 0.11), 0, 0.265, 0)
    nose = at(ellipsoid(0.50, 0.15, 0.33), 0.40, 0.33, 0)
    tail = at(ellipsoid(0.42, 0.17, 0.33), -0.44, 0.34, 0)
    body = blend(0.10, lower, nose, tail)
    arch = mirrored(at(turned(cylinder(0.178, 0.4), "x", 90), 0.49, 0.17, 0), "x")
    body = without(body, arch)

    def cabin(x: Array, y: Array, z: Array) -> Array:
        lean = np.clip(1 - (y - 0.40) * 0.85, 0.4, 1.3)
        return np.asarray(
            box(0.44, 0.20, 0.31, 0.09)((x + 0.06) / lean, y - 0.50, z / (lean * 0.5 + 0.5)) * 0.7, np.float32
        )

    def glazing(x: Array, y: Array, z: Array) -> Array:
        roof = y > 0.648
        lean = 1 - (y - 0.40) * 0.85
        post = (np.abs((x + 0.06) / lean - 0.02) < 0.035) | (np.abs(np.abs((x + 0.06) / lean) - 0.40) < 0.030)
        side = np.abs(z) > 0.19
        red = roof | (post & side)
        return np.where(red[:, None], rgb(PAINT), rgb((0.03, 0.045, 0.055)))

    wheel = mirrored(at(turned(cylinder(0.150, 0.065, 0.035), "x", 90), 0.49, 0.15, 0.295), "x", "z")
    rim = mirrored(at(turned(cylinder(0.088, 0.068, 0.012), "x", 90), 0.49, 0.15, 0.300), "x", "z")
    lights = mirrored(at(ellipsoid(0.045, 0.052, 0.062), 0.80, 0.335, 0.205), "z")
    bumper = union(
        at(box(0.045, 0.035, 0.32, 0.03), 0.80, 0.185, 0),
        at(box(0.045, 0.035, 0.32, 0.03), -0.80, 0.185, 0),
    )
    return Shot(
        (
            Part(body, PAINT, 0.06, 0.95),
            Part(cabin, glazing, 0.07, 0.97),
            Part(wheel, BLACK, 0.03, 0.2),
            Part(rim, STEEL, 0.7, 0.8),
            Part(lights, (0.92, 0.90, 0.80), 0.15, 0.95, 0.15),
            Part(bumper, STEEL, 0.7, 0.9),
        ),
        target=(0, 0.31, 0),
        azimuth=36,
        elevation=15,
        distance=3.55,
        backdrop=(0.74, 0.75, 0.77),
    )


PAINT: Final = (0.62, 0.045, 0.030)

PRODUCTS: Final[dict[str, Callable[[], Shot]]] = {
    "bottle": bottle,
    "sneaker": sneaker,
    "armchair": armchair,
    "car": car,
    "mug": mug,
    "lamp": lamp,
    "headphones": headphones,
    "chair": chair,
    "handbag": handbag,
    "table": table,
}
