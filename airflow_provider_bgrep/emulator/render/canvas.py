# SPDX-License-Identifier: Apache-2.0
"""Drawing tools of the scenes: noise, gradients, blur, terrain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from airflow_provider_bgrep.emulator.render.words import Color, Wish

Array = npt.NDArray[Any]


@dataclass
class Canvas:
    """The size of a scene, its random generator, and the place of the product.

    :param width: pixels.
    :param height: pixels.
    :param rng: the only random generator of the scene.
    :param wish: scene, light and colors of the prompt.
    :param base: where the product stands, as a share of the height.
    :param top: where it ends.
    """

    width: int
    height: int
    rng: np.random.Generator
    wish: Wish
    base: float = 0.85
    top: float = 0.2
    x: Array = field(init=False)
    y: Array = field(init=False)

    def __post_init__(self) -> None:
        # Shares of width and height, as a row and a column that broadcast.
        self.x = ((np.arange(self.width, dtype=np.float32) + 0.5) / self.width)[None, :]
        self.y = ((np.arange(self.height, dtype=np.float32) + 0.5) / self.height)[:, None]

    @property
    def aspect(self) -> float:
        """Width per height."""
        return self.width / self.height

    @property
    def horizon(self) -> float:
        """Where the ground meets the sky: behind the product's middle."""
        middle = self.base - 0.45 * (self.base - self.top)
        return float(np.clip(middle + self.rng_shift, 0.34, 0.72))

    rng_shift: float = 0.0

    def noise(self, across: float, down: float | None = None, octaves: int = 4, gain: float = 0.5) -> Array:
        """Smooth noise between 0 and 1, this many waves across and down."""
        down = across / self.aspect if down is None else down
        return fractal(self.rng, self.height, self.width, across, down, octaves, gain)

    def vertical(self, *stops: tuple[float, Color]) -> Array:
        """A gradient from top to bottom, as an image."""
        places = [stop[0] for stop in stops]
        bands = [np.interp(self.y[:, 0], places, [stop[1][i] for stop in stops]) for i in range(3)]
        row = np.stack(bands, 1).astype(np.float32)[:, None, :]
        return np.repeat(row, self.width, 1)

    def painting(self) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
        """A transparent image of twice the size to draw shapes on, and the factor."""
        drawing = Image.new("RGBA", (self.width * 2, self.height * 2), (0, 0, 0, 0))
        return drawing, ImageDraw.Draw(drawing), 2

    def over(self, image: Array, drawing: Image.Image, blur: float = 0.0) -> Array:
        """An image with a painting over it."""
        small = drawing.resize((self.width, self.height), Image.Resampling.BOX)
        if blur:
            small = _soft(small, blur * self.width / 1000)
        layer = np.asarray(small).astype(np.float32) / 255
        return mix(image, layer[:, :, :3], layer[:, :, 3])

    def blurred(self, image: Array, radius: float) -> Array:
        """An image out of focus; the radius is in thousandths of the width."""
        return blurred(image, radius * self.width / 1000)


def fractal(
    rng: np.random.Generator, height: int, width: int, across: float, down: float, octaves: int, gain: float
) -> Array:
    """Fractal noise between 0 and 1.

    :param across: waves of the first octave over the width.
    :param down: the same over the height.
    :param gain: how strong each octave is against the one before.
    """
    total = np.zeros((height, width), np.float32)
    weight, whole = 1.0, 0.0
    for octave in range(octaves):
        cells_x, cells_y = across * 2**octave, down * 2**octave
        if octave and cells_x > width and cells_y > height:  # no detail is left to add
            break
        cells_x, cells_y = min(cells_x, float(width)), min(cells_y, float(height))
        grid = rng.random((int(cells_y) + 3, int(cells_x) + 3), dtype=np.float32)
        x, y = (float(shift) for shift in rng.random(2))
        box = (x, y, x + cells_x, y + cells_y)
        layer = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC, box=box)
        total += np.float32(weight) * np.asarray(layer)
        whole += weight
        weight *= gain
    return np.asarray(np.clip(total / np.float32(whole), 0, 1))


def rgb(color: Any) -> Array:
    """Return a color as an array."""
    return np.asarray(color, np.float32)


def mix(a: Any, b: Any, share: Any) -> Array:
    """Two images, or colors, by a share between 0 and 1."""
    share = np.asarray(share, np.float32)
    if share.ndim == 2:
        share = share[:, :, None]
    return np.asarray(np.asarray(a, np.float32) * (1 - share) + np.asarray(b, np.float32) * share, np.float32)


def smooth(low: float, high: float, value: Any) -> Array:
    """0 at low, 1 at high, smooth between; low may be the larger."""
    t = np.clip((np.asarray(value, np.float32) - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def stretch(noise: Array) -> Array:
    """Noise, stretched to use all of 0 to 1."""
    low, high = np.percentile(noise, (1, 99))
    return np.asarray(np.clip((noise - np.float32(low)) / np.float32(max(high - low, 1e-6)), 0, 1))


def blurred(image: Array, radius: float) -> Array:
    """An image or a plane, blurred by a radius in pixels."""
    if radius < 0.3:
        return image.copy()
    if image.ndim == 3:
        return np.stack(
            [blurred(np.ascontiguousarray(image[:, :, i]), radius) for i in range(image.shape[2])], 2
        )
    if radius < 4:
        return _boxed(_boxed(image, radius), radius)
    # What is blurred wide has no detail to lose: done small, a tenth of the time.
    height, width = image.shape
    factor = radius / 2.5
    small = max(8, round(width / factor)), max(8, round(height / factor))
    reduced = np.asarray(Image.fromarray(image).resize(small, Image.Resampling.BOX))
    soft = _boxed(_boxed(reduced, 2.5), 2.5)
    return np.array(Image.fromarray(soft).resize((width, height), Image.Resampling.BICUBIC))


def _boxed(plane: Array, radius: float) -> Array:
    """A box blur along both axes by a few pixels; the box may end within a pixel."""
    whole, part = int(radius), np.float32(radius - int(radius))
    reach = whole + 1
    for axis in (0, 1):
        size = plane.shape[axis]
        padded = np.pad(plane, [(reach, reach) if one == axis else (0, 0) for one in (0, 1)], mode="edge")
        rows = padded if axis == 0 else padded.T
        total = rows[1 : 1 + size].copy()
        for step in range(2, 2 * whole + 2):
            total += rows[step : step + size]
        if part:
            total += part * (rows[:size] + rows[2 * reach : 2 * reach + size])
        total /= np.float32(2 * whole + 1) + 2 * part
        plane = total if axis == 0 else np.ascontiguousarray(total.T)
    return plane


def _soft(drawing: Image.Image, radius: float) -> Image.Image:
    """A painting out of focus: its colors are weighed by its coverage, or edges would turn black."""
    return (
        drawing.convert("RGBa")
        .filter(ImageFilter.BoxBlur(radius))
        .filter(ImageFilter.BoxBlur(radius))
        .convert("RGBA")
    )


def lit(height: Array, light: Sequence[float] = (-0.6, -0.5, 0.6), relief: float = 8.0) -> Array:
    """How bright a height map is under a light from the given direction (x, y, up)."""
    gy, gx = np.gradient(height * np.float32(relief))
    direction = np.array(light, np.float32) / np.linalg.norm(light)
    shade = (-gx * direction[0] - gy * direction[1] + direction[2]) / np.sqrt(gx * gx + gy * gy + 1)
    return np.asarray(np.clip(shade, 0, 1), np.float32)


def terrain(
    canvas: Canvas,
    heights: Array,
    colors: Array,
    *,
    eye: float,
    near: float,
    far: float,
    lift: float,
    fog: Callable[[Array], Array],
    haze: Color,
) -> tuple[Array, Array]:
    """A height map seen in perspective.

    :param heights: the map between 0 and 1; its last row is nearest.
    :param colors: its colors, lit.
    :param eye: the eye's height above 0.
    :param near: distance of the last row.
    :param far: distance of the first.
    :param lift: height of 1 in the map, in the unit of distances.
    :param fog: from distance as a share of far, how much haze.
    :return: the image, and where it covers the canvas.
    """
    rows, cols = heights.shape
    # Near rows fill more of the image, so that they are taken closer together.
    distance = (near * (far / near) ** np.linspace(0, 1, 420)).astype(np.float32)
    row = np.clip((rows - 1) * (1 - (distance - near) / (far - near)), 0, rows - 1)
    spread = 0.25 + 0.75 * distance / far
    col = (0.5 + (canvas.x[0][None, :] - 0.5) * spread[:, None]) * (cols - 1)
    height = _between(heights, row[:, None], col) * np.float32(lift)
    seen = canvas.horizon - (height - np.float32(eye)) / distance[:, None]
    skyline = np.minimum.accumulate(seen, axis=0)
    ys = canvas.y
    index = np.zeros((canvas.height, canvas.width), np.int16)
    for line in skyline:
        index += line[None, :] > ys
    covered = index < len(distance)
    index = np.minimum(index, len(distance) - 1)
    columns = np.arange(canvas.width)[None, :]
    image = colors[np.rint(row).astype(int)[index], np.rint(col).astype(int)[index, columns]]
    thick = fog(distance / np.float32(far))[index]
    return mix(image, np.array(haze, np.float32), thick), covered.astype(np.float32)


def _between(plane: Array, row: Array, col: Array) -> Array:
    """Values of a plane between its points."""
    r, c = row.astype(int), col.astype(int)
    below, right = np.minimum(r + 1, plane.shape[0] - 1), np.minimum(c + 1, plane.shape[1] - 1)
    a, b = row - r, col - c
    upper = plane[r, c] * (1 - b) + plane[r, right] * b
    return np.asarray(upper * (1 - a) + (plane[below, c] * (1 - b) + plane[below, right] * b) * a, np.float32)
