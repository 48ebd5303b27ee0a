# SPDX-License-Identifier: Apache-2.0
"""Scenes under the open sky."""

from __future__ import annotations

from typing import Final

import numpy as np

from airflow_provider_bgrep.emulator.render.canvas import (
    Array,
    Canvas,
    blurred,
    fractal,
    lit,
    mix,
    rgb,
    smooth,
    stretch,
    terrain,
)
from airflow_provider_bgrep.emulator.render.words import Color

_SKIES: Final[dict[str, tuple[Color, Color, Color]]] = {
    # zenith, middle, horizon
    "day": ((0.16, 0.40, 0.76), (0.44, 0.66, 0.90), (0.83, 0.91, 0.96)),
    "warm": ((0.30, 0.50, 0.76), (0.62, 0.74, 0.86), (0.98, 0.91, 0.80)),
    "sunset": ((0.22, 0.20, 0.42), (0.76, 0.42, 0.46), (1.0, 0.74, 0.42)),
    "night": ((0.02, 0.03, 0.09), (0.06, 0.09, 0.22), (0.18, 0.23, 0.38)),
}


def sky(canvas: Canvas, *, cover: float = 0.5, clouds: bool = True) -> Array:
    """A sky for the wish's light, with clouds, sun or stars."""
    light = canvas.wish.light
    zenith, middle, low = _SKIES[light]
    h = canvas.horizon
    image = canvas.vertical((0, zenith), (h * 0.55, middle), (h * 1.02, low))
    if light == "night":
        stars = canvas.rng.random((canvas.height, canvas.width), dtype=np.float32)
        bright = (
            blurred((stars > 0.9990).astype(np.float32), 0.5) * 5 * (1 - canvas.y / max(h, 0.1)).clip(0, 1)
        )
        image = image + bright[:, :, None]
    if light in ("sunset", "warm"):
        at = 0.2 + 0.6 * canvas.rng.random()
        away = np.hypot((canvas.x - at) * canvas.aspect, canvas.y - (h - 0.06))
        glow = np.exp(-away * 3.5) * 0.55 + np.exp(-away * 14) * 0.5
        image = image + glow[:, :, None] * rgb((1.0, 0.72, 0.36))
        if light == "sunset":
            image = mix(image, (1.0, 0.93, 0.72), smooth(0.050, 0.042, away))
    if clouds:
        image = _clouds(canvas, image, cover)
    return np.clip(image, 0, 1)


def _clouds(canvas: Canvas, image: Array, cover: float) -> Array:
    h = canvas.horizon
    # Seen from below: the nearer the horizon, the flatter.
    depth = np.clip((h - canvas.y) / h, 0.02, 1)
    puffs = stretch(canvas.noise(3.2, 4.2, 6, 0.52))
    shape = puffs + 0.25 * (depth - 0.5)
    edge = 1 - cover
    body = smooth(edge - 0.02, edge + 0.24, shape) * smooth(h + 0.01, h - 0.10, canvas.y)
    rows = np.maximum(np.arange(canvas.height) - int(canvas.height * 0.035), 0)
    above = blurred(shape, canvas.width / 90)[rows]
    shade = np.clip(0.5 + (shape - above) * 1.6, 0, 1)
    dark, light = {
        "day": ((0.70, 0.77, 0.86), (1.0, 1.0, 1.0)),
        "warm": ((0.80, 0.76, 0.78), (1.0, 0.98, 0.94)),
        "sunset": ((0.42, 0.27, 0.42), (1.0, 0.70, 0.50)),
        "night": ((0.05, 0.07, 0.15), (0.20, 0.25, 0.38)),
    }[canvas.wish.light]
    return mix(image, mix(dark, light, shade[:, :, None]), body * 0.95)


def _tone(canvas: Canvas) -> Array:
    """The color of what the light falls on."""
    tones = {
        "day": (1, 1, 1),
        "warm": (1.06, 1.0, 0.90),
        "sunset": (1.05, 0.72, 0.62),
        "night": (0.22, 0.28, 0.46),
    }
    return np.array(tones[canvas.wish.light], np.float32)


def _map(canvas: Canvas, cells: float, octaves: int, gain: float = 0.5) -> Array:
    return fractal(canvas.rng, 420, 640, cells, cells * 0.8, octaves, gain)


def mountains(canvas: Canvas) -> Array:
    """Snow-capped mountains over a snowfield, or over grassland where the prompt has it."""
    image = sky(canvas, cover=0.42)
    heights = _alps(canvas)
    shade = lit(heights, (-0.80, -0.25, 0.42), 95)
    snow = mix((0.45, 0.57, 0.80), (1.0, 0.99, 0.97), smooth(0.10, 0.72, shade))
    rock = mix((0.16, 0.17, 0.22), (0.52, 0.47, 0.43), shade)
    green = "meadow" in canvas.wish.others or canvas.wish.has("grass|grasslands?|草原|草")
    steep = np.hypot(*np.gradient(heights * 95))
    bare = smooth(0.90, 1.55, steep + 0.7 * (_map(canvas, 40, 4) - 0.5)) * smooth(1.0, 0.55, heights)
    colors = mix(snow, rock, bare * 0.85)
    if green:
        grass = mix((0.20, 0.31, 0.10), (0.55, 0.62, 0.26), _map(canvas, 50, 4)) * (
            0.45 + 0.75 * shade[:, :, None]
        )
        line = 0.20 + 0.16 * _map(canvas, 16, 4)
        colors = mix(colors, grass, smooth(0.03, -0.03, heights - line))
    view, covered = terrain(
        canvas, heights, colors * _tone(canvas), eye=0.30, near=0.6, far=5.0, lift=1.9,
        fog=lambda d: np.clip(0.60 * d - 0.10, 0, 0.5), haze=_SKIES[canvas.wish.light][2],
    )  # fmt: skip
    image = mix(image, view, covered)
    return _ground(canvas, image, "grass" if green else "snow")


def _alps(canvas: Canvas) -> Array:
    """A range: few broad massifs, each octave of ridges strong only where the one before is high."""
    far_off = np.linspace(1, 0, 420, dtype=np.float32)[:, None]
    total = np.zeros((420, 640), np.float32)
    before, weight = np.ones_like(total), 1.0
    for octave in range(6):
        noise = fractal(canvas.rng, 420, 640, 4.0 * 2**octave, 3.4 * 2**octave, 1, 0.5)
        ridge = (1 - np.abs(2 * noise - 1)) ** 2
        total += np.float32(weight) * ridge * before
        before = np.clip(ridge * 1.4, 0, 1)
        weight *= 0.42
    massif = 0.62 + 0.38 * smooth(0.35, 0.65, fractal(canvas.rng, 420, 640, 3.2, 2.0, 2, 0.4))
    raised = stretch(blurred(total, 0.8)) * massif * (0.06 + 0.94 * smooth(0.22, 0.70, far_off))
    return np.asarray(np.clip(raised, 0, 1), np.float32)


def _ground(canvas: Canvas, image: Array, kind: str) -> Array:
    """The near ground: a plane from below the product to its back, melted into the scene."""
    edge = canvas.base - 0.30 * (canvas.base - canvas.top)
    edge = max(edge, canvas.horizon + 0.04)
    wave = 0.018 * (canvas.noise(4, 1, 3)[:1] - 0.5) * 2
    depth = np.clip((canvas.y - edge - wave) / (1.0 - edge), 0, 1)
    fine = _plane(canvas, edge)
    if kind == "snow":
        base = mix((0.74, 0.82, 0.93), (0.99, 0.99, 1.0), 0.25 + 0.75 * fine)
    elif kind == "grass":
        base = mix((0.16, 0.27, 0.07), (0.52, 0.62, 0.22), fine) * (0.80 + 0.25 * depth[:, :, None])
    else:
        base = mix((0.66, 0.50, 0.33), (0.95, 0.82, 0.60), 0.2 + 0.8 * fine)
    return mix(image, base * _tone(canvas), smooth(0.0, 0.045, canvas.y - edge - wave))


def _plane(canvas: Canvas, edge: float, cells: float = 90.0) -> Array:
    """Texture of a ground that recedes to an edge, between 0 and 1."""
    texture = fractal(canvas.rng, 512, 512, cells, cells, 3, 0.6)
    broad = fractal(canvas.rng, 512, 512, 7, 7, 3, 0.5)
    near = 1 / np.clip(canvas.y - edge + 0.09, 0.05, 2)
    v = (near * 150) % 512
    u = ((canvas.x - 0.5) * near * 190 + 256) % 512
    index = np.broadcast_to(v.astype(int), (canvas.height, canvas.width)), u.astype(int) % 512
    return np.asarray(np.clip(0.55 * stretch(texture)[index] + 0.45 * stretch(broad)[index], 0, 1))


def meadow(canvas: Canvas) -> Array:
    """Green hills under clouds, flowers in the grass."""
    image = sky(canvas, cover=0.5)
    heights = stretch(_map(canvas, 3.2, 3, 0.4)) * np.linspace(1, 0.25, 420, dtype=np.float32)[:, None]
    shade = lit(heights, (-0.7, -0.3, 0.6), 30)
    grass = mix((0.20, 0.34, 0.09), (0.60, 0.70, 0.28), 0.6 * _map(canvas, 40, 4) + 0.4 * _map(canvas, 6, 2))
    view, covered = terrain(
        canvas, heights, grass * (0.5 + 0.65 * shade[:, :, None]) * _tone(canvas), eye=0.34, near=0.6,
        far=6.0, lift=0.55, fog=lambda d: np.clip(0.75 * d - 0.1, 0, 0.62), haze=_SKIES[canvas.wish.light][2],
    )  # fmt: skip
    image = canvas.blurred(mix(image, view, covered), 1.6)
    image = _ground(canvas, image, "grass")
    return _flowers(canvas, image) if canvas.wish.has("flowers?|blossom|spring|garden|花|春|樱") else image


def _flowers(canvas: Canvas, image: Array) -> Array:
    drawing, draw, k = canvas.painting()
    rng, edge = canvas.rng, canvas.base - 0.22 * (canvas.base - canvas.top)
    petals = [(250, 250, 245), (245, 190, 60), (236, 120, 150), (170, 130, 220), (235, 90, 80)]
    named = tuple(int(255 * c) for c in canvas.wish.color)
    for depth in np.sort(rng.random(420)) ** 1.6:
        size = (2 + 13 * depth) * k * canvas.width / 1000
        x, y = rng.random() * canvas.width * k, (edge + 0.02 + depth * (1.02 - edge)) * canvas.height * k
        color = named if canvas.wish.named and rng.random() < 0.6 else petals[int(rng.integers(len(petals)))]
        draw.line((x, y, x + rng.normal() * size, y + size * 2), (60, 95, 30, 200), max(1, int(size / 5)))
        for turn in range(5):
            a = turn * 2 * np.pi / 5 + depth * 9
            px, py = x + np.cos(a) * size * 0.55, y + np.sin(a) * size * 0.36
            draw.ellipse(
                (px - size * 0.42, py - size * 0.32, px + size * 0.42, py + size * 0.32), (*color[:3], 245)
            )
        draw.ellipse((x - size * 0.28, y - size * 0.2, x + size * 0.28, y + size * 0.2), (250, 215, 90, 255))
    return canvas.over(image, drawing, 0.7)


def blue_sky(canvas: Canvas) -> Array:
    """Mostly sky, over a low meadow."""
    canvas.rng_shift += 0.10
    image = sky(canvas, cover=0.62)
    return _ground(canvas, image, "grass")


def desert(canvas: Canvas) -> Array:
    """Dunes."""
    image = sky(canvas, cover=0.22)
    waves = stretch(fractal(canvas.rng, 420, 640, 3.0, 5.0, 2, 0.4))
    crests = 1 - np.abs(2 * waves - 1)
    heights = crests * np.linspace(1, 0.15, 420, dtype=np.float32)[:, None]
    shade = lit(heights, (-0.85, -0.1, 0.35), 42)
    ripples = 0.04 * np.sin(stretch(_map(canvas, 8, 2)) * 160)
    sand = mix((0.55, 0.33, 0.17), (0.98, 0.80, 0.52), np.clip(smooth(0.1, 0.75, shade) + ripples, 0, 1))
    view, covered = terrain(
        canvas, heights, sand * _tone(canvas), eye=0.36, near=0.55, far=5.0, lift=0.72,
        fog=lambda d: np.clip(0.55 * d - 0.1, 0, 0.5), haze=_SKIES[canvas.wish.light][2],
    )  # fmt: skip
    return _ground(canvas, canvas.blurred(mix(image, view, covered), 1.2), "sand")


def sea(canvas: Canvas) -> Array:
    """Water to the horizon, a beach in front, gulls where they are asked for."""
    image = sky(canvas, cover=0.40)
    h = canvas.horizon
    if canvas.wish.has("lake|mountains?|island|erhai|湖|山|岛|洱海"):
        image = _far_shore(canvas, image)
    mirrored = image[np.clip(((2 * h - canvas.y[:, 0]) * canvas.height).astype(int), 0, canvas.height - 1)]
    mirrored = canvas.blurred(mirrored, 6)
    near = 1 / np.clip(canvas.y - h + 0.012, 0.008, 1)
    waves = _waves(canvas, near)
    depth = np.clip((canvas.y - h) / (1 - h), 0, 1)
    deep = mix((0.05, 0.26, 0.42), (0.12, 0.52, 0.58), depth[:, :, None]) * _tone(canvas)
    shine = np.clip(0.72 - 0.75 * depth + 0.55 * (waves - 0.5), 0.05, 0.95)
    water = mix(np.broadcast_to(deep, mirrored.shape), mirrored, shine) + 0.30 * smooth(0.78, 1.0, waves)[
        :, :, None
    ] * np.float32(0.5)
    image = mix(image, water, smooth(h - 0.001, h + 0.002, canvas.y))
    image = _beach(canvas, image)
    return _gulls(canvas, image) if canvas.wish.has("seagulls?|birds?|海鸥|鸟") else image


def _waves(canvas: Canvas, near: Array) -> Array:
    texture = stretch(fractal(canvas.rng, 512, 512, 26, 60, 4, 0.55))
    v = (near * 34) % 512
    u = ((canvas.x - 0.5) * near * 60 + 256) % 512
    index = np.broadcast_to(v.astype(int), (canvas.height, canvas.width)), u.astype(int) % 512
    return blurred(texture[index], canvas.width / 1000)


def _far_shore(canvas: Canvas, image: Array) -> Array:
    for layer in range(3):
        ridge = fractal(canvas.rng, 2, canvas.width, 3 + 3 * layer, 1, 6, 0.5)[0]
        top = canvas.horizon - (0.15 - 0.045 * layer) * stretch(ridge[None])[0] - 0.012
        color = mix((0.58, 0.68, 0.80), (0.24, 0.38, 0.44), layer / 2) * _tone(canvas)
        image = mix(image, color, smooth(0, 0.003, canvas.y - top[None, :]))
    return image


def _beach(canvas: Canvas, image: Array) -> Array:
    edge = max(canvas.base - 0.20 * (canvas.base - canvas.top), canvas.horizon + 0.06)
    curve = 0.035 * (fractal(canvas.rng, 2, canvas.width, 2.2, 1, 4, 0.45)[0] - 0.5)[None, :] + 0.05 * (
        canvas.x - 0.5
    )
    below = canvas.y - edge - curve
    sand = mix((0.72, 0.59, 0.42), (0.96, 0.87, 0.70), _plane(canvas, edge, 130))
    wet = mix(sand * 0.62, image, 0.25)
    sand = mix(wet, sand, smooth(0.02, 0.11, below)) * _tone(canvas)
    image = mix(image, sand, smooth(-0.002, 0.004, below))
    lace = canvas.noise(46, 30, 4)
    foam = smooth(0.022, 0.0, np.abs(below + 0.008)) * smooth(
        0.35, 0.62, lace + 0.25 * smooth(0.02, 0, np.abs(below))
    )
    return mix(image, rgb((1, 1, 1)) * np.minimum(_tone(canvas) * 1.1, 1), foam * 0.95)


def _gulls(canvas: Canvas, image: Array) -> Array:
    drawing, draw, k = canvas.painting()
    for _ in range(14):
        size = canvas.rng.uniform(0.008, 0.026) * canvas.width * k
        x = canvas.rng.uniform(0.04, 0.96) * canvas.width * k
        y = canvas.rng.uniform(0.05, canvas.horizon * 0.85) * canvas.height * k
        lean = canvas.rng.uniform(-0.3, 0.3) * size
        wing = (250, 250, 250, 240) if canvas.wish.light != "sunset" else (60, 40, 60, 240)
        for way in (-1, 1):
            tip = (x + way * size, y - size * 0.35 + way * lean)
            elbow = (x + way * size * 0.5, y - size * 0.5 + way * lean * 0.5)
            draw.line((x, y, *elbow, *tip), wing, max(2, int(size / 7)), joint="curve")
    return canvas.over(image, drawing, 0.6)


def forest(canvas: Canvas) -> Array:
    """Trunks in mist, leaves on the ground."""
    autumn = canvas.wish.has("autumn|golden|leaves|fall|秋|落叶|金")
    leaves: tuple[Color, Color] = (
        ((0.55, 0.22, 0.05), (0.98, 0.70, 0.20)) if autumn else ((0.10, 0.24, 0.07), (0.55, 0.70, 0.25))
    )
    haze = mix((0.86, 0.90, 0.80), (0.99, 0.88, 0.66), 1.0 if autumn else 0.25)
    image = canvas.vertical((0, tuple(haze * 0.92)), (canvas.horizon, tuple(haze)), (1, tuple(haze * 0.8)))
    ground = canvas.base - 0.30 * (canvas.base - canvas.top)
    for layer in range(5):
        near = (layer + 1) / 5
        image = _trunks(canvas, image, near, ground, haze)
        crown = stretch(canvas.noise(14 + 5 * near, 10, 5, 0.62))
        low = (0.62 - 0.34 * near) * ground
        here = smooth(0.42, 0.52, crown + 0.9 * (low - canvas.y)) * (0.75 + 0.2 * near)
        tint = mix(leaves[0], leaves[1], stretch(canvas.noise(30, 24, 4, 0.6))[:, :, None])
        image = mix(image, mix(haze, tint, 0.22 + 0.75 * near), here)
        image = canvas.blurred(image, 3.4 * (1 - near) + 0.6)
    rays = np.clip(np.sin((canvas.x * 1.4 + canvas.y * 0.9) * 17 + 4 * canvas.rng.random()) - 0.35, 0, 1)
    image = image + (0.22 * rays * (1 - canvas.y))[:, :, None] * rgb((1.0, 0.93, 0.72))
    floor = mix(rgb(leaves[0]) * 0.75, leaves[1], _plane(canvas, ground, 150))
    image = mix(image, floor, smooth(0, 0.10, canvas.y - ground))
    return np.asarray(np.clip(image * _tone(canvas), 0, 1))


def _trunks(canvas: Canvas, image: Array, near: float, ground: float, haze: Array) -> Array:
    drawing, draw, k = canvas.painting()
    color = tuple(int(255 * c) for c in mix(haze, (0.13, 0.09, 0.07), 0.25 + 0.65 * near))
    for _ in range(int(13 - 8 * near)):
        x = canvas.rng.uniform(-0.02, 1.02) * canvas.width * k
        wide = (0.006 + 0.024 * near) * canvas.rng.uniform(0.6, 1.5) * canvas.width * k
        foot = (ground + 0.02 + 0.05 * near) * canvas.height * k
        lean = canvas.rng.normal(0, 0.02) * canvas.width * k
        draw.polygon(
            [(x - wide, foot), (x + wide, foot), (x + lean + wide * 0.6, 0), (x + lean - wide * 0.6, 0)],
            (*color, 255),
        )
    return canvas.over(image, drawing, 0.5)


def space(canvas: Canvas) -> Array:
    """A nebula over a moon's dust."""
    base = rgb(canvas.wish.color if canvas.wish.named else (0.35, 0.30, 0.75))
    clouds = stretch(canvas.noise(2.6, 2.6, 6, 0.55)) ** 2
    other = stretch(canvas.noise(3.4, 3.0, 6, 0.55)) ** 2.5
    image = rgb((0.012, 0.014, 0.04)) + clouds[:, :, None] * base * 0.75
    image = image + other[:, :, None] * rgb((0.75, 0.22, 0.42)) * 0.6
    stars = canvas.rng.random((canvas.height, canvas.width), dtype=np.float32)
    image = image + (blurred((stars > 0.9985).astype(np.float32), 0.6) * 5)[:, :, None]
    edge = canvas.base - 0.30 * (canvas.base - canvas.top) + 0.10 * (canvas.x - 0.5) ** 2
    dust = mix((0.10, 0.10, 0.13), (0.55, 0.54, 0.58), _plane(canvas, float(edge.min()), 60))
    return np.clip(mix(image, dust, smooth(0, 0.006, canvas.y - edge)), 0, 1)
