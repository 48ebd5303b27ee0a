# SPDX-License-Identifier: Apache-2.0
"""Images whose mask is known: products on backgrounds of many kinds."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Product:
    """A product without a background.

    :param colors: height x width x 3, 0 to 255.
    :param alpha: its true mask, height x width, 0 to 1.
    """

    colors: Array
    alpha: Array

    @property
    def is_kept(self) -> npt.NDArray[np.bool_]:
        """Its pixels."""
        return self.alpha >= 0.5


def drawn_product(side: int = 480, color: str = "#2c6e8f", *, has_handle: bool = True) -> Product:
    """Return a mug of a color, with a darker band, and a handle that can be seen through."""
    times = 4
    mask = Image.new("L", (side * times, side * times), 0)
    colors = Image.new("RGB", (side, side), color)
    pen, unit = ImageDraw.Draw(mask), side * times / 100
    pen.rounded_rectangle((30 * unit, 25 * unit, 62 * unit, 75 * unit), 4 * unit, fill=255)
    if has_handle:
        pen.ellipse((55 * unit, 35 * unit, 80 * unit, 62 * unit), fill=255)
        pen.ellipse((61 * unit, 41 * unit, 74 * unit, 56 * unit), fill=0)
        pen.rectangle((30 * unit, 30 * unit, 62 * unit, 70 * unit), fill=255)
    ImageDraw.Draw(colors).rectangle((0, 0.45 * side, side, 0.55 * side), fill="#a33b2a")
    alpha = np.asarray(mask.resize((side, side), Image.Resampling.BOX), np.float32) / 255
    return Product(np.asarray(colors, np.float32), alpha)


def sample_product(name: str, side: int = 900) -> Product:
    """Return one of the emulator's sample products."""
    from airflow_provider_bgrep.emulator.render.compose import _without_fringe
    from airflow_provider_bgrep.emulator.samples.products import PRODUCTS
    from airflow_provider_bgrep.emulator.samples.studio import Studio

    photo, mask = Studio(PRODUCTS[name](), side).photograph()
    return Product(
        np.asarray(_without_fringe(photo, mask), np.float32), np.asarray(mask, np.float32) / np.float32(255)
    )


def even(*color: float) -> Callable[[Product], Array]:
    """Return a background of one color."""
    return lambda product: np.broadcast_to(np.float32(color), product.colors.shape).copy()


def gradient(product: Product) -> Array:
    """A gray background, lit from above, with a shadow."""
    height, width = product.alpha.shape
    column = np.linspace(245, 190, height, dtype=np.float32)[:, None, None]
    return np.broadcast_to(column, (height, width, 3)) * shadow(product)


def white_with_shadow(product: Product) -> Array:
    """A white background with the product's shadow."""
    return even(255, 255, 255)(product) * shadow(product)


def busy(product: Product) -> Array:
    """A background of many shapes and colors."""
    random = np.random.default_rng(5)
    height, width = product.alpha.shape
    image = Image.new("RGB", (width, height), "#777")
    pen = ImageDraw.Draw(image)
    for _ in range(400):
        x, y, size = random.integers(0, width), random.integers(0, height), random.integers(8, width // 8)
        pen.ellipse((x, y, x + size, y + size), fill=tuple(map(int, random.integers(0, 255, 3))))
    return np.asarray(image, np.float32)


def shadow(product: Product) -> Array:
    """Return how much of a background's light is left around the foot of a product: height x width x 1."""
    height, width = product.alpha.shape
    rows, columns = np.nonzero(product.is_kept)
    half = (columns.max() - columns.min()) / 2
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across = (x - columns.min() - 1.1 * half) / (1.1 * half)
    down = (y - rows.max() + 0.02 * height) / (0.06 * height)
    return np.asarray(1 - 0.45 * np.exp(-(across**2) - down**2), np.float32)[:, :, None]


BACKGROUNDS: Final[dict[str, Callable[[Product], Array]]] = {
    "white": even(255, 255, 255),
    "white with a shadow": white_with_shadow,
    "pale blue": even(205, 220, 232),
    "dark gray": even(60, 62, 66),
    "gray gradient with a shadow": gradient,
}
"""Backgrounds that are plain."""


def on_background(
    product: Product, background: Callable[[Product], Array], *, noise: float = 1.5, **save: Any
) -> bytes:
    """Return a product on a background, as JPEG.

    :param noise: standard deviation of the noise, in levels.
    :param save: how to save it, for Pillow.
    """
    alpha = product.alpha[:, :, None]
    random = np.random.default_rng(3)
    image = product.colors * alpha + background(product) * (1 - alpha)
    return as_jpeg(image + random.normal(0, noise, image.shape), **save)


def as_jpeg(pixels: npt.NDArray[Any], **save: Any) -> bytes:
    """Return pixels, 0 to 255, as JPEG."""
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(out, "JPEG", **{"quality": 92, **save})
    return out.getvalue()
