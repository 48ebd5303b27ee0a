# SPDX-License-Identifier: Apache-2.0
"""The photo studio in which the sample products stand: camera, lights, backdrop, shutter.

Rays are marched through distances: coarse cones first, then each pixel from where its cone stopped;
pixels at edges are then sampled several times. One image takes a second or so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from airflow_provider_bgrep.emulator.samples.solids import Array, Solid

Color = tuple[float, float, float]
Paint = Callable[[Array, Array, Array], Array]
"""A pattern: of points, their colors as an array of three columns."""

_FAR: Final = 12.0
_KEY: Final = np.array((-0.52, 0.74, 0.43), np.float32) / np.float32(1.0006)
_OFFSETS: Final = ((-0.33, -0.11), (0.11, -0.33), (0.33, 0.11), (-0.11, 0.33), (0.0, 0.0))


@dataclass(frozen=True)
class Part:
    """A solid and what it is made of.

    :param solid: its shape.
    :param color: its color, linear, or a pattern.
    :param gloss: how strongly it reflects at a right angle, 0.04 for most things, near 1 for metal.
    :param sharp: how sharp reflections are, 0 to 1.
    :param glow: how much light it gives by itself.
    """

    solid: Solid
    color: Color | Paint
    gloss: float = 0.04
    sharp: float = 0.5
    glow: float = 0.0


@dataclass(frozen=True)
class Shot:
    """How a product is photographed.

    :param parts: the product; it stands on the plane y = 0.
    :param target: the point that the camera is aimed at.
    :param distance: how far away it is.
    :param azimuth: from how far to the right it looks, in degrees.
    :param elevation: from how far above, in degrees.
    :param backdrop: color of the studio, linear.
    """

    parts: Sequence[Part]
    target: tuple[float, float, float] = (0.0, 0.5, 0.0)
    distance: float = 4.2
    azimuth: float = 25.0
    elevation: float = 14.0
    backdrop: Color = (0.80, 0.80, 0.81)


class Studio:
    """Takes one shot.

    :param shot: what and how.
    :param size: width and height in pixels.
    """

    def __init__(self, shot: Shot, size: int) -> None:
        self._shot, self._size = shot, size
        up, right = np.radians(shot.elevation), np.radians(shot.azimuth)
        back = np.array((np.sin(right) * np.cos(up), np.sin(up), np.cos(right) * np.cos(up)), np.float32)
        self._eye = np.array(shot.target, np.float32) + back * np.float32(shot.distance)
        side = np.array((np.cos(right), 0, -np.sin(right)), np.float32)
        self._axes = side, np.cross(back, side).astype(np.float32), -back
        self._lens = np.float32(0.29)

    def photograph(self) -> tuple[Image.Image, Image.Image]:
        """The image, and the mask of the product in one channel."""
        size = self._size
        start = self._cones()
        v, u = np.mgrid[0:size, 0:size].astype(np.float32)
        live = np.isfinite(start)
        color = np.zeros((size, size, 3), np.float32)
        alpha = np.zeros((size, size), np.float32)
        depth = np.full((size, size), np.float32(_FAR))
        color[live], alpha[live], depth[live] = self._look(u[live], v[live], start[live])
        again = _edges(color, alpha) & live
        if again.any():
            near = _eroded(np.where(live, start, _FAR))[again]
            many = [self._look(u[again] + du, v[again] + dv, near) for du, dv in _OFFSETS]
            color[again] = sum(one[0] * one[1][:, None] for one in many) / len(many)
            alpha[again] = sum(one[1] for one in many) / len(many)
        whole = color + (1 - alpha[:, :, None]) * self._backdrop()
        grain = np.random.default_rng(7).normal(0, 0.0035, (size, size, 1)).astype(np.float32)
        return _developed(whole, grain), Image.fromarray(np.round(alpha * 255).astype(np.uint8))

    # -- rays ------------------------------------------------------------------------------------

    def _rays(self, u: Array, v: Array) -> tuple[Array, Array, Array]:
        half = np.float32(self._size / 2)
        a, b = (
            (u + np.float32(0.5) - half) / half * self._lens,
            (half - v - np.float32(0.5)) / half * self._lens,
        )
        side, up, ahead = self._axes
        x, y, z = (a * side[i] + b * up[i] + ahead[i] for i in range(3))
        long = 1 / np.sqrt(x * x + y * y + z * z)
        return x * long, y * long, z * long

    def _distance(self, x: Array, y: Array, z: Array) -> Array:
        nearest = self._shot.parts[0].solid(x, y, z)
        for part in self._shot.parts[1:]:
            nearest = np.minimum(nearest, part.solid(x, y, z))
        return nearest

    def _cones(self) -> Array:
        """How far each pixel's ray is free for certain; infinite where it meets nothing."""
        size = self._size
        start = np.full((1, 1), np.float32(self._shot.distance * 0.45))
        for stride in (32, 8, 2):
            cells = -(-size // stride)
            ratio = -(-cells // start.shape[0])
            grid = np.repeat(np.repeat(start, ratio, 0), ratio, 1)[:cells, :cells].copy()
            v, u = (np.mgrid[0:cells, 0:cells].astype(np.float32) + 0.5) * stride - 0.5
            live = np.isfinite(grid)
            width = np.float32(stride * 1.5 * self._lens / size)
            grid[live] = self._march(u[live], v[live], grid[live], width)
            start = grid
        return np.repeat(np.repeat(start, 2, 0), 2, 1)[:size, :size]

    def _march(self, u: Array, v: Array, t: Array, width: np.float32, steps: int = 70) -> Array:
        """March until a cone of this width touches something; infinite if it never does."""
        dx, dy, dz = self._rays(u, v)
        out = t.copy()
        index = np.arange(len(t))
        for _ in range(steps):
            far = out[index]
            d = self._distance(
                self._eye[0] + dx[index] * far, self._eye[1] + dy[index] * far, self._eye[2] + dz[index] * far
            )
            going = d > width * far
            out[index[going]] += d[going] * np.float32(0.92) - (width * far)[going] * np.float32(0.5)
            index = index[going & (out[index] < _FAR)]
            if not len(index):
                break
        out[out >= _FAR] = np.inf
        if steps == 70 and width < 1e-3:
            out[index] = np.inf
        return out

    def _look(self, u: Array, v: Array, start: Array) -> tuple[Array, Array, Array]:
        """Color, coverage and depth of rays."""
        t = self._march(u, v, start, np.float32(0.25 * self._lens / self._size))
        hit = np.isfinite(t)
        color = np.zeros((len(t), 3), np.float32)
        if hit.any():
            ray = np.stack(self._rays(u[hit], v[hit]), 1)
            color[hit] = self._shade(self._eye + ray * t[hit][:, None], ray)
        return color, hit.astype(np.float32), np.where(hit, t, np.float32(_FAR))

    # -- light -----------------------------------------------------------------------------------

    def _shade(self, point: Array, ray: Array) -> Array:
        normal = self._normal(point)
        albedo, gloss, sharp, glow = self._material(point)
        open_sky = self._openness(point, normal)[:, None]
        lit = np.clip(normal @ _KEY, 0, 1) * self._shadow(point + normal * np.float32(0.004))
        height = normal[:, 1:2]
        ambient = (0.40 + 0.28 * height + 0.10 * normal[:, 2:3]) * np.array((0.97, 1.0, 1.04), np.float32)
        warm = np.array((1.04, 1.0, 0.94), np.float32)
        diffuse = albedo * (ambient * open_sky + np.float32(0.78) * lit[:, None] * warm)
        facing = np.clip(-(ray * normal).sum(1), 0, 1)
        mirror = ray + 2 * facing[:, None] * normal
        fresnel = gloss + (1 - gloss) * (1 - facing) ** 5 * (0.25 + 0.75 * sharp)
        shine = _surroundings(mirror, sharp)[:, None] * (0.35 + 0.65 * open_sky)
        tint = np.where(gloss[:, None] > 0.3, albedo / np.maximum(albedo.max(1, keepdims=True), 1e-3), 1)
        dull = 1 - np.clip(gloss[:, None], 0, 0.9)
        return np.asarray(
            diffuse * dull + shine * fresnel[:, None] * tint + albedo * glow[:, None], np.float32
        )

    def _normal(self, point: Array) -> Array:
        out = np.zeros_like(point)
        e = np.float32(0.0012)
        for sign in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
            k = np.array(sign, np.float32)
            moved = point + k * e
            out += self._distance(moved[:, 0], moved[:, 1], moved[:, 2])[:, None] * k
        return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), np.float32(1e-9)))

    def _material(self, point: Array) -> tuple[Array, Array, Array, Array]:
        x, y, z = point.T
        which = np.argmin([part.solid(x, y, z) for part in self._shot.parts], axis=0)
        albedo = np.zeros((len(x), 3), np.float32)
        for index, part in enumerate(self._shot.parts):
            mine = which == index
            if mine.any():
                paint = part.color
                albedo[mine] = paint(x[mine], y[mine], z[mine]) if callable(paint) else paint
        numbers = np.array([(part.gloss, part.sharp, part.glow) for part in self._shot.parts], np.float32)[
            which
        ]
        return albedo, numbers[:, 0], numbers[:, 1], numbers[:, 2]

    def _openness(self, point: Array, normal: Array) -> Array:
        """How much of its sky a point sees, from a few looks along its normal."""
        hidden = np.zeros(len(point), np.float32)
        for step in (0.02, 0.06, 0.14, 0.28):
            p = point + normal * np.float32(step)
            d = np.minimum(self._distance(p[:, 0], p[:, 1], p[:, 2]), p[:, 1])
            hidden += np.float32(0.55) * np.maximum(step - d, 0) / np.float32(step) * np.float32(0.62)
        return np.asarray(np.clip(1 - hidden * 0.62, 0.12, 1), np.float32)

    def _shadow(self, point: Array, soft: float = 7.0, steps: int = 16) -> Array:
        """How much of the key light reaches a point."""
        lit = np.ones(len(point), np.float32)
        t = np.full(len(point), np.float32(0.03))
        index = np.arange(len(point))
        for _ in range(steps):
            p = point[index] + _KEY * t[index][:, None]
            d = self._distance(p[:, 0], p[:, 1], p[:, 2])
            lit[index] = np.minimum(lit[index], np.clip(0.5 + 0.5 * soft * d / t[index], 0, 1))
            t[index] += np.clip(d, 0.02, 0.25)
            index = index[(lit[index] > 0.01) & (t[index] < 3)]
            if not len(index):
                break
        return lit * lit * (3 - 2 * lit)

    def _backdrop(self) -> Array:
        """Floor and wall in one sweep, with the product's shadow, drawn small and enlarged."""
        small = self._size // 4
        v, u = (np.mgrid[0:small, 0:small].astype(np.float32) + 0.5) * 4 - 0.5
        x, y, z = (one.ravel() for one in self._rays(u, v))
        t = np.where(y < -0.02, -self._eye[1] / np.minimum(y, -0.02), _FAR * 2)
        floor = self._eye + np.stack((x, y, z), 1) * t[:, None]
        spread = np.hypot(floor[:, 0], floor[:, 2])
        shade = np.ones(len(t), np.float32)
        near = spread < 3.2
        on_floor = floor[near].astype(np.float32)
        on_floor[:, 1] = 0.002
        lit = self._shadow(on_floor, soft=3.2, steps=18)
        contact = np.ones(len(lit), np.float32)
        for step in (0.03, 0.1, 0.25):
            d = self._distance(on_floor[:, 0], on_floor[:, 1] + np.float32(step), on_floor[:, 2])
            contact -= np.float32(0.25) * np.clip(1 - d / np.float32(step), 0, 1)
        fade = np.clip((3.2 - spread[near]) / 1.2, 0, 1)
        shade[near] = 1 - fade * (1 - (0.62 + 0.38 * lit) * contact)
        across, down = (u / self._size - 0.5).ravel(), (v / self._size).ravel()
        light = 1.0 - 0.55 * (across + 0.10) ** 2 - 0.28 * np.clip(0.45 - down, 0, 1)
        base = np.array(self._shot.backdrop, np.float32)
        image = ((light * shade)[:, None] * base).reshape(small, small, 3).astype(np.float32)
        bands = [
            Image.fromarray(image[:, :, i]).resize((self._size,) * 2, Image.Resampling.BICUBIC)
            for i in range(3)
        ]
        return np.stack([np.asarray(band) for band in bands], 2)


def _surroundings(direction: Array, sharp: Array) -> Array:
    """What a product mirrors: a bright ceiling panel, two strips of light, gray walls, pale floor."""
    x, y, z = direction.T
    soft = np.float32(0.04) + np.float32(0.5) * (1 - sharp) ** 2

    def panel(value: Array, low: float, high: float) -> Array:
        rise = np.clip((value - low) / soft + 0.5, 0, 1)
        fall = np.clip((high - value) / soft + 0.5, 0, 1)
        return np.asarray(rise * fall, np.float32)

    base = 0.34 + 0.22 * np.clip(y, -0.2, 1) + 0.20 * np.clip(-y * 3, 0, 1)
    flat = np.arctan2(x, z)
    ceiling = panel(y, 0.72, 2.0) * 1.1
    left = panel(flat, -1.45, -0.85) * panel(y, -0.15, 0.68) * 1.9
    right = panel(flat, 1.15, 1.45) * panel(y, -0.3, 0.75) * 1.2
    return np.asarray(base + ceiling + left + right, np.float32)


def _edges(color: Array, alpha: Array) -> npt.NDArray[np.bool_]:
    tone = np.sqrt(np.clip(color.mean(2), 0, 1)) + alpha
    across = np.abs(np.diff(tone, axis=1)) > 0.045
    down = np.abs(np.diff(tone, axis=0)) > 0.045
    edge = np.zeros(tone.shape, bool)
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


def _eroded(depth: Array) -> Array:
    """The smallest of each pixel's neighbors."""
    padded = np.pad(depth, 2, mode="edge")
    height, width = depth.shape
    near = [padded[j : j + height, i : i + width] for j in (0, 2, 4) for i in (0, 2, 4)]
    return np.asarray(np.minimum.reduce(near), np.float32)


def _developed(linear: Array, grain: Array) -> Image.Image:
    """Linear light to an image: a soft shoulder for highlights, then sRGB."""
    toned = np.where(linear < 0.7, linear, 0.7 + 0.3 * np.tanh((linear - 0.7) / 0.45))
    srgb = np.where(toned <= 0.0031308, toned * 12.92, 1.055 * np.maximum(toned, 1e-6) ** (1 / 2.4) - 0.055)
    return Image.fromarray((np.clip(srgb + grain, 0, 1) * 255 + 0.5).astype(np.uint8))
