# SPDX-License-Identifier: Apache-2.0
"""Finds masks that keep the background and not the product, as some tools write them.

The corners of a product image are nearly always background. A mask that keeps at least three corners is
suspicious; whether it is inverted then depends on what it does not keep: an area inside the image, or one
with more detail than the rest. A product that touches edges, or fills most of the image, leaves corners, or
a plain area at an edge.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

_SIDE: Final = 256
_CORNER: Final = 0.04
"""Side of a corner, as a share of the image's sides."""

_FLATTER: Final = 0.6
"""An area is plainer than another one if its detail is below this share of the other's."""

_INSIDE: Final = 0.03
"""Share of the edge up to which an area counts as inside the image."""

_FEWEST: Final = 0.005
"""Share of the image that an area has at least, to be judged."""

Flags = npt.NDArray[np.bool_]


def mask_channel(image: Image.Image) -> Image.Image:
    """Return an image as a mask in one channel, ``L``: 255 is kept. Takes the API's three forms of masks.

    :param image: ``L``, ``RGB`` or ``RGBA``. Of an image with transparency, the alpha channel is the mask.
    """
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        return image.getchannel("A")
    return image.convert("L")


def is_inverted(source: Image.Image, mask: Image.Image, alpha: Image.Image | None = None) -> bool:
    """Return whether a mask keeps the background of an image and not the product.

    :param source: the image, mode ``RGB``.
    :param mask: the mask, mode ``L``, with the same aspect ratio: 255 is kept.
    :param alpha: the image's transparency, mode ``L``, if it has one: what is opaque is the product.
    """
    scale = min(1.0, _SIDE / max(source.size))
    size = (max(8, round(source.width * scale)), max(8, round(source.height * scale)))
    kept = np.asarray(mask.resize(size, Image.Resampling.BOX)) >= 128
    if not _FEWEST <= kept.mean() <= 1 - _FEWEST:
        return False
    if alpha is not None:
        opaque = np.asarray(alpha.resize(size, Image.Resampling.BOX)) >= 128
        if _FEWEST <= opaque.mean() <= 1 - _FEWEST:
            return overlap(~kept, opaque) > max(0.5, overlap(kept, opaque))
    if _kept_corners(kept) < 3:
        return False
    gray = np.asarray(source.resize(size, Image.Resampling.BILINEAR).convert("L"), np.float32)
    of_kept, of_rest = _detail(gray, kept), _detail(gray, ~kept)
    edge = np.concatenate([kept[0], kept[-1], kept[1:-1, 0], kept[1:-1, -1]])
    rest_at_edge = 1 - float(edge.mean())
    if rest_at_edge <= _INSIDE:
        return not of_rest < _FLATTER * of_kept
    return rest_at_edge <= 0.5 and of_kept < _FLATTER * of_rest


def _kept_corners(kept: Flags) -> int:
    height, width = (max(1, round(side * _CORNER)) for side in kept.shape)
    corners = (kept[:height, :width], kept[:height, -width:], kept[-height:, :width], kept[-height:, -width:])
    return sum(bool(corner.mean() > 0.5) for corner in corners)


def overlap(one: Flags, other: Flags) -> float:
    """Return the intersection of two areas over their union, 0 to 1."""
    union = np.count_nonzero(one | other)
    return float(np.count_nonzero(one & other) / union) if union else 0.0


def _detail(gray: npt.NDArray[np.float32], where: Flags) -> float:
    """Return the mean difference of neighboring pixels within an area, in levels of 0 to 255."""
    total, count = 0.0, 0
    for axis in (0, 1):
        steps: Any = np.abs(np.diff(gray, axis=axis))
        first, second = (where[:-1], where[1:]) if axis == 0 else (where[:, :-1], where[:, 1:])
        both = first & second
        total += float(steps[both].sum())
        count += int(np.count_nonzero(both))
    return total / count if count else 0.0
