# SPDX-License-Identifier: Apache-2.0
"""Scenes of cloth, rooms, tables and studios."""

from __future__ import annotations

import colorsys
from typing import Any

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
)
from airflow_provider_bgrep.emulator.render.streets import bokeh
from airflow_provider_bgrep.emulator.render.words import Color


def silk(canvas: Canvas) -> Array:
    """Folds of soft cloth in the color the prompt names."""
    rng = canvas.rng
    x, y = canvas.x * canvas.aspect, canvas.y
    bend_x, bend_y = canvas.noise(1.6, 1.6, 3, 0.4) - 0.5, canvas.noise(1.6, 1.6, 3, 0.4) - 0.5
    height = np.zeros((canvas.height, canvas.width), np.float32)
    turn = rng.uniform(0.35, 0.95) * rng.choice((-1, 1))
    for fold in range(7):
        angle = turn + rng.normal(0, 0.32)
        pitch = rng.uniform(1.2, 2.6) * (1 + 0.33 * fold)
        along = (x + 0.9 * bend_x) * np.cos(angle) + (y + 0.9 * bend_y) * np.sin(angle)
        crest = 0.5 + 0.5 * np.sin(along * pitch * 2 * np.pi + rng.uniform(0, 7))
        height += np.float32(0.95 / (1 + 0.55 * fold)) * crest**1.6
    height = blurred(height, canvas.width / 240)
    flat = smooth(0.0, 0.55, np.hypot((canvas.x - 0.5) * 1.1, (canvas.y - canvas.base) * 1.7))
    height *= 0.35 + 0.65 * flat
    relief = canvas.width / 16
    shade = lit(height, (-0.55, -0.65, 0.52), relief)
    gloss = lit(height, (0.20, -0.72, 0.66), relief) ** 14
    base = rgb(canvas.wish.color)
    if canvas.wish.has("pale|soft|light|浅|淡"):
        base = mix(base, (1, 1, 1), 0.30)
    dark = base**1.9 * 0.50
    image = mix(dark, base, smooth(0.05, 0.85, shade)[:, :, None])
    image = mix(image, mix(base, (1, 1, 1), 0.72), 0.75 * gloss)
    return np.clip(image * (0.99 + 0.02 * canvas.noise(300, 300, 1)[:, :, None]), 0, 1)


def living_room(canvas: Canvas) -> Array:
    """A wall with an image, a plant, a floor lamp and a sofa; a floor of boards; light from a window."""
    rng, wish = canvas.rng, canvas.wish
    floor = float(np.clip(canvas.base - 0.36 * (canvas.base - canvas.top), 0.50, 0.80))
    walls = (
        (0.86, 0.83, 0.78),
        (0.74, 0.80, 0.78),
        (0.88, 0.80, 0.74),
        (0.80, 0.82, 0.86),
        (0.83, 0.84, 0.76),
    )
    wall = rgb(mix(wish.color, (1, 1, 1), 0.35) if wish.named else walls[int(rng.integers(len(walls)))])
    image = (
        np.broadcast_to(wall, (canvas.height, canvas.width, 3))
        * (0.97 + 0.05 * canvas.noise(5, 5, 3))[:, :, None]
    )
    image = image * (1.04 - 0.22 * np.abs(canvas.x - 0.35))[:, :, None]
    image = _window_light(canvas, image, floor)
    image = mix(image, _boards(canvas, floor), smooth(floor, floor + 0.002, canvas.y))
    drawing, draw, k = canvas.painting()
    w, h = canvas.width * k, canvas.height * k
    left = bool(rng.integers(2))
    _skirting(draw, w, h, floor)
    _framed(canvas, draw, w, h, 0.60 if left else 0.16)
    _sofa(canvas, draw, w, h, floor, 0.50 if left else -0.06)
    _floor_lamp(draw, w, h, floor, 0.93 if left else 0.07)
    _plant(canvas, draw, w, h, floor, 0.10 if left else 0.90)
    image = canvas.over(image, drawing, 2.2)
    lamp = np.exp(
        -np.hypot((canvas.x - (0.93 if left else 0.07)) * canvas.aspect, canvas.y - floor + 0.47) * 4.5
    )
    image = image + lamp[:, :, None] * rgb((0.34, 0.24, 0.10)) * (1.6 if wish.light == "night" else 0.8)
    tones = {"night": (0.50, 0.45, 0.48), "warm": (1.05, 0.98, 0.88), "sunset": (1.08, 0.90, 0.76)}
    return np.clip(image * rgb(tones.get(wish.light, (1, 1, 1))), 0, 1)


def _window_light(canvas: Canvas, image: Array, floor: float) -> Array:
    start = canvas.rng.uniform(0.05, 0.4)
    lean = canvas.x + 0.35 * (canvas.y - 0.1)
    panes = np.zeros((canvas.height, canvas.width), np.float32)
    for column in range(2):
        for row in range(2):
            x, y = start + 0.15 * column, 0.10 + 0.21 * row
            inside = smooth(x, x + 0.012, lean) * smooth(x + 0.135, x + 0.123, lean)
            panes += inside * smooth(y, y + 0.012, canvas.y) * smooth(y + 0.19, y + 0.178, canvas.y)
    leaves = smooth(0.40, 0.55, canvas.noise(9, 9, 3))
    soft = 0.20 * blurred(panes, canvas.width / 170) * leaves
    return np.asarray(image + soft[:, :, None] * rgb((1.0, 0.93, 0.78)))


def _boards(canvas: Canvas, floor: float) -> Array:
    near = 1 / np.clip(canvas.y - floor + 0.28, 0.05, 2)
    u = (canvas.x - 0.5) * canvas.aspect * near * 2.6 + 50
    v = near * 3.1
    board = np.floor(u)
    tone = np.sin(board * 12.9898 + np.floor(v + board * 0.37) * 4.1) * 0.5 + 0.5
    grain = fractal(canvas.rng, 256, 512, 90, 4, 4, 0.6)
    fine = grain[(v * 80 % 256).astype(int) + np.zeros_like(u, int), (u * 60 % 512).astype(int)]
    woods: tuple[tuple[Color, Color], ...] = (
        ((0.62, 0.46, 0.31), (0.80, 0.64, 0.46)),
        ((0.42, 0.27, 0.17), (0.58, 0.40, 0.26)),
        ((0.70, 0.60, 0.48), (0.85, 0.76, 0.64)),
    )
    dark, light = woods[int(canvas.rng.integers(len(woods)))]
    image = mix(dark, light, np.clip(0.55 * tone + 0.45 * fine, 0, 1)[:, :, None])
    gap = smooth(0.035, 0.0, np.minimum(u - board, 1 - (u - board)))
    image = image * (1 - 0.45 * gap[:, :, None])
    sheen = np.exp(-(((canvas.x - 0.35) * 2.2) ** 2)) * np.clip(1 - (canvas.y - floor) * 2.5, 0, 1)
    return np.asarray(image + 0.10 * sheen[:, :, None], np.float32)


def _skirting(draw: Any, w: int, h: int, floor: float) -> None:
    draw.rectangle((0, (floor - 0.028) * h, w, floor * h), (240, 238, 233, 255))
    draw.rectangle((0, (floor - 0.031) * h, w, (floor - 0.028) * h), (190, 186, 178, 255))


def _framed(canvas: Canvas, draw: Any, w: int, h: int, x: float) -> None:
    rng = canvas.rng
    left, top, right, bottom = x * w, 0.09 * h, (x + 0.25) * w, 0.40 * h
    draw.rectangle(
        (left + w * 0.008, top + h * 0.012, right + w * 0.008, bottom + h * 0.012), (60, 55, 50, 70)
    )
    draw.rectangle((left, top, right, bottom), (52, 42, 36, 255))
    inner = w * 0.008
    draw.rectangle((left + inner, top + inner, right - inner, bottom - inner), (246, 243, 236, 255))
    inner = w * 0.030
    l, t, r, b = left + inner, top + inner, right - inner, bottom - inner  # noqa: E741
    draw.rectangle((l, t, r, b), (233, 214, 190, 255))
    hues = rng.random() + np.arange(4) * 0.11
    for layer, hue in enumerate(hues):
        red, green, blue = (
            int(255 * c) for c in colorsys.hsv_to_rgb(float(hue) % 1, 0.42, 0.82 - 0.13 * layer)
        )
        crest = b - (b - t) * (0.62 - 0.16 * layer)
        points = [
            (l + (r - l) * i / 24, crest - (b - t) * 0.13 * np.sin(i / 24 * 5 + hue * 20)) for i in range(25)
        ]
        draw.polygon([(l, b), *points, (r, b)], (red, green, blue, 255))
    cx, cy, radius = l + (r - l) * rng.uniform(0.25, 0.75), t + (b - t) * 0.24, (b - t) * 0.12
    draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), (222, 110, 66, 255))


def _sofa(canvas: Canvas, draw: Any, w: int, h: int, floor: float, x: float) -> None:
    hue, rng = canvas.rng.random(), canvas.rng

    def tone(value: float, gray: float = 0.26) -> tuple[int, ...]:
        return (*(int(255 * c) for c in colorsys.hsv_to_rgb(hue, gray, value)), 255)

    def cushion(a: float, b: float, c: float, d: float, color: tuple[int, ...]) -> None:
        draw.rounded_rectangle(((x + a) * w, (floor + b) * h, (x + c) * w, (floor + d) * h), 0.022 * w, color)

    draw.ellipse(((x - 0.01) * w, (floor + 0.035) * h, (x + 0.57) * w, (floor + 0.085) * h), (30, 25, 20, 90))
    for foot in (0.04, 0.51):
        draw.rectangle(
            ((x + foot) * w, (floor + 0.02) * h, (x + foot + 0.012) * w, (floor + 0.065) * h),
            (70, 50, 35, 255),
        )
    cushion(0.03, -0.235, 0.53, 0.0, tone(0.60))
    cushion(0.06, -0.215, 0.275, -0.03, tone(0.66))
    cushion(0.285, -0.215, 0.50, -0.03, tone(0.66))
    cushion(0.05, -0.075, 0.28, 0.005, tone(0.74))
    cushion(0.282, -0.075, 0.51, 0.005, tone(0.74))
    cushion(0.02, -0.010, 0.54, 0.045, tone(0.55))
    cushion(-0.01, -0.135, 0.055, 0.045, tone(0.68))
    cushion(0.505, -0.135, 0.57, 0.045, tone(0.64))
    accent = tuple(int(255 * c) for c in colorsys.hsv_to_rgb((hue + rng.uniform(0.35, 0.6)) % 1, 0.55, 0.80))
    cushion(0.08, -0.155, 0.17, -0.055, (*accent, 255))
    cushion(0.395, -0.150, 0.48, -0.055, (236, 228, 214, 255))


def _floor_lamp(draw: Any, w: int, h: int, floor: float, x: float) -> None:
    draw.line(
        (x * w, (floor + 0.03) * h, x * w, (floor - 0.42) * h), (55, 48, 42, 255), max(2, int(0.006 * w))
    )
    draw.ellipse(((x - 0.04) * w, (floor + 0.02) * h, (x + 0.04) * w, (floor + 0.042) * h), (55, 48, 42, 255))
    top, low = floor - 0.55, floor - 0.41
    shade = [
        ((x - 0.038) * w, top * h),
        ((x + 0.038) * w, top * h),
        ((x + 0.072) * w, low * h),
        ((x - 0.072) * w, low * h),
    ]
    draw.polygon(shade, (255, 240, 205, 255))


def _plant(canvas: Canvas, draw: Any, w: int, h: int, floor: float, x: float) -> None:
    rng = canvas.rng
    rim = floor - 0.08
    for _ in range(30):
        angle, reach = rng.normal(0, 0.62), rng.uniform(0.16, 0.40)
        tip_x, tip_y = x + np.sin(angle) * reach * 0.55, rim - np.cos(angle) * reach
        mid_x, mid_y = x + np.sin(angle) * reach * 0.22, rim - np.cos(angle) * reach * 0.66
        wide = rng.uniform(0.016, 0.030)
        green = (int(rng.integers(30, 80)), int(rng.integers(85, 145)), int(rng.integers(45, 85)), 255)
        draw.line((x * w, rim * h, mid_x * w, mid_y * h), (60, 90, 50, 255), max(2, int(0.004 * w)))
        draw.polygon(
            [
                (mid_x * w, mid_y * h),
                ((mid_x + tip_x) / 2 * w - wide * w, (mid_y + tip_y) / 2 * h),
                (tip_x * w, tip_y * h),
                ((mid_x + tip_x) / 2 * w + wide * w, (mid_y + tip_y) / 2 * h),
            ],
            green,
        )
    pot = [
        ((x - 0.062) * w, rim * h),
        ((x + 0.062) * w, rim * h),
        ((x + 0.046) * w, (floor + 0.05) * h),
        ((x - 0.046) * w, (floor + 0.05) * h),
    ]
    draw.polygon(pot, (226, 219, 208, 255))


def table(canvas: Canvas) -> Array:
    """A wooden table top before a warm room out of focus."""
    edge = float(np.clip(canvas.base - 0.30 * (canvas.base - canvas.top), 0.45, 0.85))
    image = canvas.vertical((0, (0.42, 0.30, 0.22)), (edge, (0.72, 0.55, 0.38)), (1, (0.5, 0.35, 0.2)))
    if canvas.wish.named:
        image = mix(image, canvas.wish.color, 0.45)
    shapes, draw, k = canvas.painting()
    for _ in range(9):
        x, wide, top = (
            canvas.rng.uniform(-0.1, 1),
            canvas.rng.uniform(0.06, 0.22),
            canvas.rng.uniform(0.05, 0.4),
        )
        shade = int(canvas.rng.integers(40, 200))
        box = (
            x * canvas.width * k,
            top * canvas.height * k,
            (x + wide) * canvas.width * k,
            edge * canvas.height * k,
        )
        draw.rectangle(box, (shade, int(shade * 0.78), int(shade * 0.58), 120))
    image = canvas.blurred(canvas.over(image, shapes, 20), 8) + bokeh(
        canvas, 46, (0.02, edge), 0.75, (0.05, 0.14)
    )
    near = 1 / np.clip(canvas.y - edge + 0.30, 0.05, 2)
    v, u = (canvas.y - edge) * near * 9, (canvas.x - 0.5) * canvas.aspect * near * 1.3 + 20
    plank = np.floor(v * 1.1)
    bend = fractal(canvas.rng, 256, 256, 6, 6, 3, 0.5)
    warp = bend[(v * 28 % 256).astype(int) + np.zeros_like(u, int), (u * 22 % 256).astype(int)]
    rings = 0.5 + 0.5 * np.sin(v * 26 + warp * 22 + np.sin(plank * 77) * 9)
    fine = fractal(canvas.rng, 512, 256, 8, 200, 3, 0.7)[
        (v * 150 % 512).astype(int) + np.zeros_like(u, int), (u * 40 % 256).astype(int)
    ]
    tone = np.sin(plank * 33.1) * 0.12
    wood = mix(
        (0.30, 0.16, 0.075), (0.72, 0.46, 0.25), np.clip(0.35 * rings + 0.65 * fine + tone, 0, 1)[:, :, None]
    )
    gap = smooth(0.03, 0.0, np.abs((v * 1.1) % 1 - 0.0))
    wood = wood * (1 - 0.55 * gap[:, :, None]) + 0.14 * np.exp(-((canvas.y - edge) * 7))[:, :, None]
    return np.clip(mix(image, wood, smooth(edge - 0.001, edge + 0.003, canvas.y)), 0, 1)


def studio(canvas: Canvas) -> Array:
    """A podium before colored paper, with the shadow of leaves on it."""
    rng = canvas.rng
    base = mix(canvas.wish.color, (1, 1, 1), 0.15)
    image: Array
    hue, gray, value = colorsys.rgb_to_hsv(*(float(c) for c in base))
    near = rgb(colorsys.hsv_to_rgb((hue + rng.uniform(-0.05, 0.05)) % 1, gray * 0.75, min(1, value * 1.05)))
    image = mix(near, base, smooth(0, 1, canvas.y + 0.3 * canvas.x)[:, :, None]) * np.float32(0.94)
    light = np.exp(-np.hypot((canvas.x - 0.35) * canvas.aspect, canvas.y - 0.3) * 1.6)
    image = image * (0.86 + 0.24 * light)[:, :, None]
    drawing, draw, k = canvas.painting()
    w, h = canvas.width * k, canvas.height * k
    if rng.random() < 0.65:
        cx, r = rng.uniform(0.3, 0.7), rng.uniform(0.26, 0.36)
        pale = tuple(int(255 * min(1, c * 1.10)) for c in near)
        draw.ellipse(((cx - r) * w, canvas.base * h - 2 * r * w, (cx + r) * w, canvas.base * h), (*pale, 255))
        image = canvas.over(image, drawing, 0.8)
    image = _leaf_shadows(canvas, image)
    return np.clip(_podium(canvas, image, near), 0, 1)


def _leaf_shadows(canvas: Canvas, image: Array) -> Array:
    rng = canvas.rng
    drawing, draw, k = canvas.painting()
    w, h = canvas.width * k, canvas.height * k
    x, y = rng.uniform(0.55, 1.0), rng.uniform(-0.1, 0.2)
    for stem in range(3):
        way = 2.2 + 0.45 * stem + rng.normal(0, 0.1)
        for t in np.linspace(0.15, 1, 9):
            px, py = (x + np.cos(way) * t * 0.75) * w, (y + np.sin(way) * t * 0.65) * h
            for side in (-1, 1):
                a = way + side * 0.8
                tip = (
                    px + np.cos(a) * 0.16 * w * (1.1 - 0.5 * t),
                    py + np.sin(a) * 0.16 * w * (1.1 - 0.5 * t),
                )
                mid = ((px + tip[0]) / 2, (py + tip[1]) / 2)
                out = (np.cos(a + 1.57) * 0.022 * w, np.sin(a + 1.57) * 0.022 * w)
                leaf = [(px, py), (mid[0] + out[0], mid[1] + out[1]), tip, (mid[0] - out[0], mid[1] - out[1])]
                draw.polygon(leaf, (0, 0, 0, 255))
    shadow = (
        np.asarray(drawing.resize((canvas.width, canvas.height)).getchannel("A")).astype(np.float32) / 255
    )
    return np.asarray(image * (1 - 0.22 * blurred(shadow, canvas.width / 110))[:, :, None], np.float32)


def _podium(canvas: Canvas, image: Array, color: Array) -> Array:
    middle, wide, flat = 0.5, 0.48, 0.125
    low = canvas.base - 0.05
    across = (canvas.x - middle) / wide
    disc = across**2 + ((canvas.y - low) / flat) ** 2
    rim = low + flat * np.sqrt(np.clip(1 - across**2, 0, 1))
    side = (np.abs(across) < 1) & (canvas.y > low) & (canvas.y < rim + 0.10)
    shade = 0.97 - 0.32 * np.clip(across, -1, 1) ** 2 * np.sign(across) - 0.10
    white = mix(color, (1, 1, 1), 0.45)
    marble = 1 - 0.10 * smooth(0.035, 0.0, np.abs(canvas.noise(4, 4, 5, 0.6) - 0.5)) * canvas.wish.has(
        "marble|大理石"
    )
    image = mix(
        image, white * (0.82 * shade * np.ones_like(canvas.y) * marble)[:, :, None], side.astype(np.float32)
    )
    top = smooth(1.0, 0.985, disc)
    return mix(image, white * (1.02 * marble)[:, :, None], top)
