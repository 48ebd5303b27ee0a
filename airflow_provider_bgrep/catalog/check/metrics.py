# SPDX-License-Identifier: Apache-2.0
"""Measures of an image beside its source, taken with scikit-image: product and background apart.

The product is where the mask is white, without a rim: there a service may blend. The background is where the
mask is black, without a rim likewise.
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
"""A mask's values from and up to which it says "kept" and "new": JPEG's ringing, and video's range."""
_RIM: Final = 2
"""Pixels of the small image, some five in a thousand of its side, that are taken off the product."""
_KEPT_SHARE: Final = 0.1
"""If less than this is left of the product (a chain, a wire), a narrower rim is taken off."""
_ALL: Final = 0.999
"""Share of an image that is all of it, but for specks."""
_FEWEST: Final = 16
"""Pixels that a region must have to be measured."""

_FLOOR: Final = 32.0
"""Levels added to both before SSIM. It compares brightness by ratio: near black, JPEG's ringing of 3 levels
would weigh like a hole in the product."""
_WINDOW: Final = 9
"""Side of the part whose likeness is ``ssim_low``: a fortieth of the image's."""
_FILLED: Final = 0.3
"""Share of such a part that must be product."""

_CELL: Final = 3
"""Side of the cells whose mean colours are compared: the eye sees colour coarsely, and noise averages out."""
_WIDE_CELL: Final = 8
"""Of the background, where only "has it changed?" is asked."""

_BEST_PSNR: Final = 100.0


class UnfitMaskError(ValueError):
    """A mask tells nothing. Says why in words that follow "the mask"."""


@dataclass(frozen=True, slots=True)
class Regions:
    """Where the product is, and where the background, in the small image.

    :param product: ``None`` where nobody knows.
    :param background: all of the image where nobody knows.
    """

    product: Flags | None
    background: Flags


def everywhere(size: tuple[int, int]) -> Regions:
    """Regions of an image without a mask."""
    return Regions(None, np.ones(size[::-1], bool))


def regions(mask: Image.Image) -> Regions:
    """Regions by a mask in one channel.

    :raises UnfitMaskError: if all of it is kept, or nothing.
    """
    most = mask.width * mask.height
    share = np.count_nonzero(np.asarray(mask) >= 128) / most
    kept = mask.point(lambda value: 255 if value >= _WHITE else 0)
    for rim in range(_RIM, -1, -1):
        product = _shrunk(kept, rim)
        if np.count_nonzero(product) >= _KEPT_SHARE * share * most:
            break
    if np.count_nonzero(product) < _FEWEST:
        raise UnfitMaskError("has no white area: there is no product to compare")
    if share > _ALL:
        raise UnfitMaskError("is white all over: there is no background to be new")
    background = _shrunk(mask.point(lambda value: 255 if value <= _BLACK else 0), _RIM + 1)
    return Regions(product, background if np.count_nonzero(background) >= _FEWEST else np.ones_like(product))


def _shrunk(area: Image.Image, rim: int) -> Flags:
    # One black pixel in the widest box lowers the mean by more than two.
    return np.asarray(area.filter(ImageFilter.BoxBlur(rim))) > 253


class Reference:
    """A source, made ready for its candidates.

    :param source: the source made small, ``RGB``.
    :param where: its regions.
    """

    def __init__(self, source: Image.Image, where: Regions) -> None:
        self._where = where
        self._background = _Cells(where.background, _WIDE_CELL)
        self._background_colours = self._background.lab(source)
        self._product = None if where.product is None else _Product(source, where.product)

    @property
    def area(self) -> float:
        """Share of the image on which the product is compared; 0 where nobody knows where it is."""
        return 0.0 if self._where.product is None else float(self._where.product.mean())

    def measure(self, candidate: Image.Image) -> dict[str, float]:
        """Scores of a candidate; those of the product only where it is known where that is.

        :param candidate: ``RGB``, as large as the source.
        """
        changes = _difference(self._background_colours, self._background.lab(candidate))
        return {
            **(self._product.measure(candidate) if self._product else {}),
            "background_changed": float(changes.mean()),
            "detail": detail(candidate, self._where.background),
        }


class _Product:
    """The product of a source. Only what holds it is compared, with as much around as SSIM's windows want."""

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
        self._grey = _grey(part)
        self._levels = self._grey[self._where]
        self._light = self._levels.mean()
        self._cells = _Cells(self._where, _CELL)
        self._colours = self._cells.lab(part)

    def measure(self, candidate: Image.Image) -> dict[str, float]:
        part, where = candidate.crop(self._box), self._where
        grey = _grey(part)
        # Around the product both get the source's surroundings, in the candidate's light: the windows at its
        # edge shall not see the new background.
        levels = grey[where]
        around = np.where(where, grey, self._grey * (levels.mean() / self._light))
        _, alike = structural_similarity(  # type: ignore[no-untyped-call]
            self._grey, around, data_range=255, full=True
        )
        sums = uniform_filter(np.where(where, alike, np.float32(0)), _WINDOW)
        differences = _difference(self._colours, self._cells.lab(part))
        return {
            "ssim": float(alike[where].mean()),
            "ssim_low": float((sums[self._parts] / self._filled).min()),
            "delta_e": float(np.average(differences, weights=self._cells.weights)),
            "delta_e_high": self._cells.highest(differences),
            "psnr": _psnr(self._levels, levels),
        }


def detail(image: Image.Image, where: Flags) -> float:
    """How much there is to see: the standard deviation of the brightness, in levels of 0 to 255."""
    return float(ImageStat.Stat(image.convert("L"), Image.fromarray(where)).stddev[0])


def _grey(image: Image.Image) -> npt.NDArray[np.float32]:
    return np.asarray(image.convert("L"), np.float32) + np.float32(_FLOOR)


def _difference(source: Floats, candidate: Floats) -> Floats:
    return deltaE_ciede2000(source, candidate)  # type: ignore[no-any-return, no-untyped-call]


def _psnr(source: Floats, candidate: Floats) -> float:
    error = float(mean_squared_error(source, candidate))
    return min(_BEST_PSNR, 10 * math.log10(255**2 / error)) if error else _BEST_PSNR


class _Cells:
    """Mean colours of a region, in cells.

    :param region: the pixels that count.
    :param side: of a cell, in pixels.
    """

    def __init__(self, region: Flags, side: int) -> None:
        self._region, self._side = Image.fromarray(region), side
        shares = np.asarray(Image.fromarray(region.astype(np.uint8) * 255).reduce(side), np.float32) / 255
        # A cell of which a pixel or two count is as noisy as they are.
        self._used = shares >= min(_FILLED, float(shares.max()))
        self._weights = np.where(self._used, shares, 0)
        self._around = uniform_filter(self._weights, 3)[self._used]
        self.weights = shares[self._used]

    def lab(self, image: Image.Image) -> Floats:
        """Mean colours of the cells, as CIE Lab, one a row."""
        kept = Image.composite(image, Image.new("RGB", image.size), self._region)
        means = np.asarray(kept.reduce(self._side))[self._used] / self.weights[:, np.newaxis]
        return rgb2lab((means / np.float32(255)).clip(0, 1))  # type: ignore[no-any-return]

    def highest(self, differences: Floats) -> float:
        """The mean of the 3 x 3 cells around a cell, where that is highest."""
        weighted = np.zeros_like(self._weights)
        weighted[self._used] = differences * self.weights
        return float((uniform_filter(weighted, 3)[self._used] / self._around).max())
