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
from PIL import Image, ImageChops, ImageStat
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
_KEPT_SHARE: Final = 0.15
"""A narrower rim is cut off where less than this share of the product around would remain: of a chain or
a wire."""
_VICINITY: Final = 28
"""Side in pixels of the square that is meant by that."""
_BLOCK: Final = 4
"""Side in pixels of the blocks for which such squares are evaluated."""
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

_NEAR: Final = (1, 4)
"""Distances in pixels from the mask's edge between which the old background is left as a ring, if the product
was cut out too widely: 0.3 to 1 % of the longest side."""
_FAR: Final = ((8, 16), (20, 36))
"""Distances of the background beside that ring, for narrow and for wide rings."""
_CHANGED: Final = 12.0
"""Levels of 0 to 255 by which the background beside the ring must have changed, so that a ring is visible."""
_LEFT: Final = 0.25
"""The ring is the old background's where it has changed by less than this share of what is beside it."""
_DARK: Final = 40
"""Levels of a source's background below which a new contact shadow looks like what was there before."""

_BEST_PSNR: Final = 100.0


class UnfitMaskError(ValueError):
    """A mask has no usable product or background area. The message continues the words "the mask"."""


@dataclass(frozen=True, slots=True)
class Regions:
    """Product and background pixels of the scaled image.

    :param product: boolean array, height x width; ``None`` if there is no mask.
    :param background: boolean array, height x width; all true if there is no mask.
    :param generated: the background with its rim, height x width; ``None`` if there is no mask.
    """

    product: Flags | None
    background: Flags
    generated: Flags | None = None


def everywhere(size: tuple[int, int]) -> Regions:
    """Return the regions of an image that has no mask."""
    return Regions(None, np.ones(size[::-1], bool))


def regions(mask: Image.Image) -> Regions:
    """Return the regions that a mask defines.

    :param mask: the scaled mask, mode ``L``; 255 keeps the pixel.
    :raises UnfitMaskError: if the mask keeps everything or nothing.
    """
    values = np.asarray(mask)
    share = np.count_nonzero(values >= 128) / values.size
    product = _without_rim(values >= _WHITE)
    if np.count_nonzero(product) < _FEWEST:
        brightest = int(values.max())
        is_gray = _BLACK < brightest < _WHITE
        what = f"is gray (its brightest value is {brightest})" if is_gray else "has no white area"
        raise UnfitMaskError(f"{what}, so there is no product to compare. 255 keeps the product")
    if share > _ALL:
        raise UnfitMaskError("is white everywhere, so there is no background to generate")
    generated = values <= _BLACK
    for rim in range(_RIM + 1, -1, -1):
        background = _shrunk(generated, rim)
        if np.count_nonzero(background) >= (_ENOUGH if rim else _FEWEST):
            return Regions(product, background, generated)
    raise UnfitMaskError("leaves too little background to compare")


def _without_rim(kept: Flags) -> Flags:
    """Return the product without its rim, which is narrower or missing around thin parts."""
    share = _around(kept)
    product = np.zeros_like(kept)
    open_places = np.ones_like(share, bool)
    for rim in range(_RIM, -1, -1):
        core = _shrunk(kept, rim)
        is_enough = _around(core) >= _KEPT_SHARE * share
        product |= core & _enlarged(open_places & is_enough, kept.shape)
        open_places &= ~is_enough
        if not (open_places & (share > 0)).any():
            break
    return product


def _around(area: Flags) -> Floats:
    """Return for each block of pixels how much of an area is around it."""
    return uniform_filter(_blocks(area.astype(np.float32)), _VICINITY // _BLOCK)  # type: ignore[no-any-return]


def _enlarged(blocks: Flags, shape: tuple[int, ...]) -> Flags:
    """Return the pixels of blocks, height x width."""
    return blocks.repeat(_BLOCK, 0).repeat(_BLOCK, 1)[: shape[0], : shape[1]]


def _shrunk(area: Flags, rim: int) -> Flags:
    """Return an area without its rim. The image's edges do not cut it off.

    :param area: height x width.
    :param rim: its width in pixels.
    """
    for axis in (0, 1):
        area = np.pad(area, [(rim, rim) if one == axis else (0, 0) for one in (0, 1)], constant_values=True)
        width, window = 1, 2 * rim + 1
        while width < window:  # all pixels within the window, by halves
            step = min(width, window - width)
            area = area[:-step] & area[step:] if axis == 0 else area[:, :-step] & area[:, step:]
            width += step
    return area


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
        self._outline = None if where.generated is None else _Outline(source, where.generated)

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
            **({"halo": self._outline.halo(candidate)} if self._outline else {}),
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
        self._parts = self._where & (filled >= min(_FILLED, float(filled[self._where].max()) / 2))
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


class _Outline:
    """The background along the product's edge.

    :param source: the scaled source, mode ``RGB``.
    :param generated: the background with its rim, height x width.
    """

    def __init__(self, source: Image.Image, generated: Flags) -> None:
        self._source = source
        self._near = _Band(generated, _NEAR, _WINDOW)
        # Wide enough to reach from the ring to what is beside it.
        self._far = [_Band(generated, distances, 2 * distances[1]) for distances in _FAR]
        self._places = self._near.shares > 0
        lengths = self._near.shares[self._places]
        light = self._near.mean(np.asarray(source.convert("L")))
        self._is_light = light[self._places] >= _DARK
        self._lengths = lengths / lengths.sum() if len(lengths) else lengths

    def halo(self, candidate: Image.Image) -> float:
        """Return the share of the outline, 0 to 1, along which the source's background is left.

        :param candidate: scaled to the size of the source, mode ``RGB``.
        """
        changes = np.asarray(ImageChops.difference(self._source, candidate).convert("L"))
        near = self._near.mean(changes)[self._places]
        far = np.maximum.reduce([band.mean(changes) for band in self._far])[self._places]
        return float(self._lengths[self._is_light & (far > _CHANGED) & (near < _LEFT * far)].sum())


class _Band:
    """A band of the background along the product's edge.

    :param generated: the background with its rim, height x width.
    :param distances: where it begins and ends, in pixels from the edge.
    :param window: side in pixels of the square in which it is averaged.
    """

    def __init__(self, generated: Flags, distances: tuple[int, int], window: int) -> None:
        where = _shrunk(generated, distances[0]) & ~_shrunk(generated, distances[1])
        # A band has few pixels: only they are read.
        self._pixels = np.flatnonzero(where)
        self._shape = where[::_BLOCK, ::_BLOCK].shape
        rows, columns = np.divmod(self._pixels, where.shape[1])
        self._block_of = rows // _BLOCK * self._shape[1] + columns // _BLOCK
        self._window = round(window / _BLOCK) | 1
        self.shares = self._means(np.ones(len(self._pixels), np.float32))
        self._around = np.maximum(uniform_filter(self.shares, self._window), np.float32(1e-6))

    def mean(self, values: Floats) -> Floats:
        """Return the mean of the band's values around each block; 0 where the band is not near.

        :param values: height x width.
        """
        sums = uniform_filter(self._means(values.ravel()[self._pixels]), self._window)
        return sums / self._around  # type: ignore[no-any-return]

    def _means(self, values: Floats) -> Floats:
        """Return the sum of the band's values in each block, over the number of the block's pixels."""
        count = self._shape[0] * self._shape[1]
        sums = np.bincount(self._block_of, values, count).reshape(self._shape)
        return (sums / _BLOCK**2).astype(np.float32)


def _blocks(values: Floats) -> Floats:
    """Return the mean of each block of pixels; beyond the image's edges, they are 0."""
    # By slices: a seventh of the time of Pillow's reduce or of a mean over a reshaped array.
    values = np.pad(values, [(0, -side % _BLOCK) for side in values.shape])
    rows = np.add.reduce([values[place::_BLOCK] for place in range(_BLOCK)])
    sums = np.add.reduce([rows[:, place::_BLOCK] for place in range(_BLOCK)])
    return sums / np.float32(_BLOCK**2)  # type: ignore[no-any-return]


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
        self._used = shares >= min(_FILLED, float(shares.max()) / 2)
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
