# SPDX-License-Identifier: Apache-2.0
"""Scenes of walls and streets; lights out of focus."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np

from airflow_provider_bgrep.emulator.render.canvas import (
    Array,
    Canvas,
    fractal,
    mix,
    rgb,
    smooth,
    stretch,
)


def graffiti(canvas: Canvas) -> Array:
    """A brick wall, sprayed over; pavement before it."""
    rng = canvas.rng
    floor = float(np.clip(canvas.base - 0.16 * (canvas.base - canvas.top), 0.55, 0.90))
    image = _bricks(canvas)
    drawing, draw, k = canvas.painting()
    w, h = canvas.width * k, canvas.height * floor * k
    hue = rng.random()
    for _ in range(16):
        _cloud_of_paint(canvas, draw, w, h, (hue + 0.45 + rng.uniform(0, 0.4)) % 1)
    for letter in range(6):
        _bubble(
            canvas,
            draw,
            (0.02 + 0.17 * letter) * w,
            rng.uniform(0.10, 0.34) * h,
            0.20 * w,
            (hue + 0.13 * letter) % 1,
        )
    for _ in range(12):
        _squiggle(canvas, draw, w, h)
    wall = np.asarray(canvas.over(image, drawing, 0.8))
    rough = 0.82 + 0.30 * image.mean(2) / max(float(image.mean()), 1e-3) * 0.6
    wall = np.where(np.abs(wall - image).sum(2, keepdims=True) > 0.02, wall * rough[:, :, None], wall)
    wall = (
        wall
        * (1.05 - 0.30 * np.abs(canvas.x - 0.4) - 0.25 * smooth(floor - 0.25, floor, canvas.y))[:, :, None]
    )
    gray = 0.42 + 0.16 * stretch(canvas.noise(120, 60, 4, 0.7)) - 0.10 * smooth(0.02, 0.0, canvas.y - floor)
    slabs = np.abs(((canvas.x - 0.5) / np.clip(canvas.y - floor + 0.25, 0.05, 1) * 0.9) % 1 - 0.5) < 0.006
    pavement = (gray * (1 - 0.35 * slabs))[:, :, None] * rgb((1.0, 0.98, 0.95))
    return np.clip(mix(wall, pavement, smooth(floor, floor + 0.003, canvas.y)), 0, 1)


def _bricks(canvas: Canvas) -> Array:
    tall = 0.034
    row = np.floor(canvas.y / tall)
    across = canvas.x * canvas.aspect / (tall * 2.6) + 0.5 * (row % 2)
    fx, fy = across % 1, (canvas.y / tall) % 1 + np.zeros_like(canvas.x)
    mortar = smooth(0.035, 0.06, np.minimum(fx, 1 - fx)) * smooth(0.07, 0.13, np.minimum(fy, 1 - fy))
    chance = np.abs(np.sin(np.floor(across) * 91.7 + row * 47.3) * 43758.5) % 1
    brick = mix((0.46, 0.24, 0.19), (0.66, 0.40, 0.32), np.asarray(chance, np.float32)[:, :, None])
    brick = brick * (0.82 + 0.36 * canvas.noise(140, 140, 3))[:, :, None]
    return mix((0.58, 0.55, 0.52), brick, mortar)


def _cloud_of_paint(canvas: Canvas, draw: Any, w: float, h: float, hue: float) -> None:
    rng = canvas.rng
    color = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.65, 0.95))
    x, y, size = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.06, 0.15) * w
    for _ in range(9):
        dx, dy, r = rng.normal(0, size * 0.4), rng.normal(0, size * 0.25), size * rng.uniform(0.3, 0.6)
        draw.ellipse((x + dx - r, y + dy - r, x + dx + r, y + dy + r), (*color, 215))


def _bubble(canvas: Canvas, draw: Any, x: float, y: float, size: float, hue: float) -> None:
    """A fat letter that is none: strokes in an outline, with a shine and drips."""
    rng = canvas.rng
    strokes = ("M", "N", "Z", "S", "A", "V")[int(rng.integers(6))]
    shape = {
        "M": ((0.1, 1), (0.15, 0.1), (0.5, 0.7), (0.85, 0.1), (0.9, 1)),
        "N": ((0.1, 1), (0.15, 0.05), (0.8, 0.95), (0.85, 0)),
        "Z": ((0.1, 0.1), (0.9, 0.05), (0.15, 0.9), (0.95, 1)),
        "S": ((0.9, 0.1), (0.2, 0.05), (0.15, 0.45), (0.85, 0.55), (0.8, 1), (0.1, 0.95)),
        "A": ((0.05, 1), (0.5, 0), (0.95, 1), (0.7, 0.62), (0.3, 0.62)),
        "V": ((0.05, 0), (0.45, 1), (0.95, 0.05)),
    }[strokes]
    points = [
        (x + size * (a + rng.normal(0, 0.05)), y + size * 1.55 * (b + rng.normal(0, 0.05))) for a, b in shape
    ]
    wide = size * 0.34
    bright = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.80, 0.98))
    pale = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.35, 1.0))
    for dx, width, color in (
        (size * 0.07, wide * 1.32, (20, 18, 30)), (0, wide * 1.32, (20, 18, 30)),
        (0, wide * 1.10, (250, 250, 250)), (0, wide, bright),
    ):  # fmt: skip
        moved = [(px + dx, py + dx) for px, py in points]
        draw.line(moved, (*color, 255), int(width), joint="curve")
        for px, py in moved:
            draw.ellipse((px - width / 2, py - width / 2, px + width / 2, py + width / 2), (*color, 255))
    draw.line(
        [(px - wide * 0.16, py - wide * 0.16) for px, py in points],
        (*pale, 255),
        int(wide * 0.16),
        joint="curve",
    )
    for px, py in points[:2]:
        drip = size * rng.uniform(0.2, 0.7)
        draw.line((px, py, px, py + wide * 0.5 + drip), (*bright, 255), max(3, int(wide * 0.10)))


def _squiggle(canvas: Canvas, draw: Any, w: float, h: float) -> None:
    rng = canvas.rng
    x, y, size = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.03, 0.10) * w
    bend = rng.uniform(3, 8)
    points = [(x + size * (t / 12 - 0.5) * 2, y + size * 0.4 * np.sin(t / 12 * bend)) for t in range(13)]
    shades = ((255, 255, 255), (20, 20, 28), (255, 220, 60), (60, 230, 220))
    draw.line(points, (*shades[int(rng.integers(4))], 255), max(3, int(w * 0.006)), joint="curve")


def city(canvas: Canvas) -> Array:
    """A street at night: lit windows, neon out of focus, all of it again in the wet road."""
    rng = canvas.rng
    floor = float(np.clip(canvas.base - 0.34 * (canvas.base - canvas.top), 0.45, 0.80))
    image = canvas.vertical((0, (0.02, 0.03, 0.09)), (floor, (0.20, 0.10, 0.30)), (1, (0.05, 0.05, 0.10)))
    for layer in range(3):
        drawing, draw, k = canvas.painting()
        _buildings(canvas, draw, canvas.width * k, canvas.height * k, floor, layer)
        image = canvas.over(image, drawing, 3.2 - 0.5 * layer)
    lights = bokeh(canvas, 70, (0.1, floor), 0.85)
    image = image + lights
    flipped = image[np.clip(((2 * floor - canvas.y[:, 0]) * canvas.height).astype(int), 0, canvas.height - 1)]
    wet = stretch(fractal(rng, canvas.height, canvas.width, 5, 60, 4, 0.6))
    rows = np.clip(
        np.arange(canvas.height)[:, None] + ((wet - 0.5) * 0.07 * canvas.height), 0, canvas.height - 1
    )
    streaked = flipped[rows.astype(int), np.arange(canvas.width)[None, :]]
    road = streaked * (0.42 + 0.42 * wet)[:, :, None] + rgb((0.018, 0.020, 0.032))
    return np.clip(mix(image, road, smooth(floor, floor + 0.004, canvas.y)), 0, 1)


def _buildings(canvas: Canvas, draw: Any, w: int, h: int, floor: float, layer: int) -> None:
    rng, x = canvas.rng, -0.02
    while x < 1:
        wide, top = rng.uniform(0.07, 0.16), floor - rng.uniform(0.22, 0.62) * (1 - 0.22 * layer)
        shade = 26 - 7 * layer
        draw.rectangle((x * w, top * h, (x + wide) * w, floor * h), (shade, shade + 2, shade + 22, 255))
        step_x, step_y = 0.0135, 0.021
        for i in range(int(wide / step_x) - 1):
            for j in range(int((floor - top) / step_y) - 1):
                if rng.random() < 0.38:
                    warm = (
                        255,
                        int(rng.integers(170, 235)),
                        int(rng.integers(90, 170)),
                        int(rng.integers(110, 255)),
                    )
                    px, py = (x + 0.006 + i * step_x) * w, (top + 0.012 + j * step_y) * h
                    draw.rectangle((px, py, px + 0.0078 * w, py + 0.0125 * h), warm)
        if rng.random() < 0.6:
            neon = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(rng.random(), 0.85, 1.0))
            px, py = (x + wide * rng.uniform(0.2, 0.6)) * w, (top + 0.05) * h
            draw.rounded_rectangle(
                (px, py, px + 0.022 * w, py + rng.uniform(0.07, 0.18) * h), 6, (*neon, 235)
            )
        x += wide + rng.uniform(-0.01, 0.02)


def bokeh(canvas: Canvas, count: int, band: tuple[float, float], bright: float, hues: Any = None) -> Array:
    """Lights out of focus, on black.

    :param band: between which shares of the height they are.
    :param hues: between which hues; all by default.
    """
    drawing, draw, k = canvas.painting()
    rng = canvas.rng
    for _ in range(count):
        radius = rng.uniform(0.006, 0.030) * canvas.width * k
        x, y = rng.uniform(0, 1) * canvas.width * k, rng.uniform(*band) * canvas.height * k
        hue = rng.random() if hues is None else rng.uniform(*hues)
        color = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, rng.uniform(0.35, 0.9), 1.0))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), (*color, int(rng.integers(40, 130))))
    black = np.zeros((canvas.height, canvas.width, 3), np.float32)
    return canvas.over(black, drawing, 1.0) * np.float32(bright)
