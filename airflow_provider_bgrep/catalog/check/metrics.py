# SPDX-License-Identifier: Apache-2.0
"""Similarity metrics of a generated image and its source, computed with scikit-image.

Product and background are measured separately. The product is the white area of the mask and the background
its black area. A rim is cut off both, because the service may blend the two along the edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageStat
from scipy.ndimage import uniform_filter  # type: ignore[import-untyped]
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import mean_squared_error, structural_similarity

Floats = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]

_WHITE: Final = 235
_BLACK: Final = 20
"""Mask values from 235 count as "keep" and up to 20 as "generate": JPEG rings, and video uses 16 to 235."""
_RIM: Final = 2
"""Width of the rim in pixels of the scaled image: about 0.5 % of its longest side."""
_KEPT_SHARE: Final = 0.1
"""A narrower rim is cut off where less than this share of the product would remain (a chain, a wire)."""
_ALL: Final = 0.999
"""Share of white pixels from which a mask counts as white everywhere; specks are ignored."""
_FEWEST: Final = 16
"""Minimum number of pixels of a region that is measured."""

_ENOUGH: Final = 256
"""Number of pixels of the background from which a rim is cut off it. Tight crops have less."""

_FLOOR: Final = 32.0
"""Levels added to both images before SSIM, which compares brightness by ratio: near black, JPEG ringing of
3 levels would otherwise weigh as much as a hole in the product."""
_WINDOW: Final = 9
"""Side in pixels of the window that ``ssim_low`` averages over: 1/40 of the longest side."""
_FILLED: Final = 0.3
"""Minimum share of product pixels in a window or cell."""

_CELL: Final = 3
"""Side in pixels of the cells whose mean colors are compared. Eyes see color coarsely; noise evens out."""
_WIDE_CELL: Final = 8
"""The same for the background, for which only "has it changed?" matters."""

_BEST_PSNR: Final = 100.0


class UnfitMaskError(ValueError):
    """A mask has no usable product or background area. The message continues the words "the mask"."""


@dataclass(frozen=True, slots=True)
class Regions:
    """Product and background pixels of the scaled image.

    :param product: boolean array, height x width; ``None`` if there is no mask.
    :param background: boolean array, height x width; all true if there is no mask.
    """

    product: Flags | None
    background: Flags


def everywhere(size: tuple[int, int]) -> Regions:
    """Return the regions of an image that has no mask."""
    return Regions(None, np.ones(size[::-1], bool))


def regions(mask: Image.Image) -> Regions:
    """Return the regions that a mask defines.

    :param mask: the scaled mask, mode ``L``; 255 keeps the pixel.
    :raises UnfitMaskError: if the mask keeps everything or nothing.
    """
    most = mask.width * mask.height
    share = np.count_nonzero(np.asarray(mask) >= 128) / most
    kept = mask.point(lambda value: 255 if value >= _WHITE else 0)
    for rim in range(_RIM, -1, -1):
        product = _shrunk(kept, rim)
        if np.count_nonzero(product) >= _KEPT_SHARE * share * most:
            break
    if np.count_nonzero(product) < _FEWEST:
        brightest = int(np.asarray(mask).max())
        is_gray = _BLACK < brightest < _WHITE
        what = f"is gray (its brightest value is {brightest})" if is_gray else "has no white area"
        raise UnfitMaskError(f"{what}, so there is no product to compare. 255 keeps the product")
    if share > _ALL:
        raise UnfitMaskError("is white everywhere, so there is no background to generate")
    generated = mask.point(lambda value: 255 if value <= _BLACK else 0)
    for rim in range(_RIM + 1, -1, -1):
        background = _shrunk(generated, rim)
        if np.count_nonzero(background) >= (_ENOUGH if rim else _FEWEST):
            return Regions(product, background)
    raise UnfitMaskError("leaves too little background to compare")


def _shrunk(area: Image.Image, rim: int) -> Flags:
    # One black pixel in the widest box lowers the mean by more than two.
    return np.asarray(area.filter(ImageFilter.BoxBlur(rim))) > 253


class Reference:
    """The source image, prepared for comparison with any number of candidates.

    :param source: the scaled source, mode ``RGB``.
    :param where: its regions.
    """

    def __init__(self, source: Image.Image, where: Regions) -> None:
        self._where = where
        self._background = _Cells(where.background, _WIDE_CELL)
        self._background_colors = self._background.lab(source)
        self._product = None if where.product is None else _Product(source, where.product)

    @property
    def area(self) -> float:
        """Share of the image that is compared as product, 0 to 1; 0 if there is no mask."""
        return 0.0 if self._where.product is None else float(self._where.product.mean())

    def measure(self, candidate: Image.Image) -> dict[str, float]:
        """Return the scores of a candidate by name; product scores only if there is a mask.

        :param candidate: scaled to the size of the source, mode ``RGB``.
        """
        changes = _difference(self._background_colors, self._background.lab(candidate))
        return {
            **(self._product.measure(candidate) if self._product else {}),
            "background_changed": float(changes.mean()),
            "detail": detail(candidate, self._where.background),
        }


class _Product:
    """The product of a source, cropped to its bounding box plus the margin that the SSIM windows need."""

    def __init__(self, source: Image.Image, where: Flags) -> None:
        rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
        self._box = (
            max(0, int(columns[0]) - _WINDOW),
            max(0, int(rows[0]) - _WINDOW),
            min(source.width, int(columns[-1]) + _WINDOW + 1),
            min(source.height, int(rows[-1]) + _WINDOW + 1),
        )
        left, upper, right, lower = self._box
        self._where = where[upper:lower, left:right]
        filled = uniform_filter(self._where.astype(np.float32), _WINDOW)
        self._parts = self._where & (filled >= min(_FILLED, float(filled[self._where].max())))
        self._filled = filled[self._parts]
        part = source.crop(self._box)
        self._gray = _gray(part)
        self._levels = self._gray[self._where]
        self._light = self._levels.mean()
        self._cells = _Cells(self._where, _CELL)
        self._colors = self._cells.lab(part)

    def measure(self, candidate: Image.Image) -> dict[str, float]:
        part, where = candidate.crop(self._box), self._where
        gray = _gray(part)
        # Both get the source's surroundings at the candidate's brightness, so that windows at the product's
        # edge do not include the new background.
        levels = gray[where]
        around = np.where(where, gray, self._gray * (levels.mean() / self._light))
        _, alike = structural_similarity(  # type: ignore[no-untyped-call]
            self._gray, around, data_range=255, full=True
        )
        sums = uniform_filter(np.where(where, alike, np.float32(0)), _WINDOW)
        differences = _difference(self._colors, self._cells.lab(part))
        return {
            "ssim": float(alike[where].mean()),
            "ssim_low": float((sums[self._parts] / self._filled).min()),
            "delta_e": float(np.average(differences, weights=self._cells.weights)),
            "delta_e_high": self._cells.highest(differences),
            "psnr": _psnr(self._levels, levels),
        }


def detail(image: Image.Image, where: Flags) -> float:
    """Return the standard deviation of brightness within a region, in levels of 0 to 255."""
    return float(ImageStat.Stat(image.convert("L"), Image.fromarray(where)).stddev[0])


def _gray(image: Image.Image) -> npt.NDArray[np.float32]:
    return np.asarray(image.convert("L"), np.float32) + np.float32(_FLOOR)


def _difference(source: Floats, candidate: Floats) -> Floats:
    return deltaE_ciede2000(source, candidate)  # type: ignore[no-any-return, no-untyped-call]


def _psnr(source: Floats, candidate: Floats) -> float:
    error = float(mean_squared_error(source, candidate))
    return min(_BEST_PSNR, 10 * math.log10(255**2 / error)) if error else _BEST_PSNR


class _Cells:
    """Mean colors of a region, cell by cell.

    :param region: boolean array of the pixels that count.
    :param side: side of a cell in pixels.
    """

    def __init__(self, region: Flags, side: int) -> None:
        self._region, self._side = Image.fromarray(region), side
        shares = np.asarray(Image.fromarray(region.astype(np.uint8) * 255).reduce(side), np.float32) / 255
        # A cell with only one or two counted pixels is as noisy as those pixels.
        self._used = shares >= min(_FILLED, float(shares.max()))
        self._weights = np.where(self._used, shares, 0)
        self._around = uniform_filter(self._weights, 3)[self._used]
        self.weights = shares[self._used]

    def lab(self, image: Image.Image) -> Floats:
        """Return the mean color of each cell as CIE Lab, one cell a row."""
        kept = Image.composite(image, Image.new("RGB", image.size), self._region)
        means = np.asarray(kept.reduce(self._side))[self._used] / self.weights[:, np.newaxis]
        return rgb2lab((means / np.float32(255)).clip(0, 1))  # type: ignore[no-any-return]

    def highest(self, differences: Floats) -> float:
        """Return the highest weighted mean of the differences in any 3 x 3 block of cells."""
        weighted = np.zeros_like(self._weights)
        weighted[self._used] = differences * self.weights
        return float((uniform_filter(weighted, 3)[self._used] / self._around).max())
