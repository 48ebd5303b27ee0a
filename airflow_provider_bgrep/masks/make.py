# SPDX-License-Identifier: Apache-2.0
"""Makes the mask of one image file."""

from __future__ import annotations

import io
from dataclasses import dataclass
from enum import Enum
from typing import Final

import cv2
import numpy as np
from PIL import Image

from airflow_provider_bgrep.images.colors import to_srgb
from airflow_provider_bgrep.images.decode import UnreadableError, load, turned_back
from airflow_provider_bgrep.masks.colors import Levels
from airflow_provider_bgrep.masks.confidence import confidence_of
from airflow_provider_bgrep.masks.plain import segment
from airflow_provider_bgrep.masks.soft_edge import softened
from airflow_provider_bgrep.protocol.limits import MAX_SIDE, MIN_SIDE

SIDE: Final = 640
"""Longest side of the image in which the product is looked for."""

_LEAST_SIDE: Final = 64
"""Least shorter side of that image."""

_LEAST: Final = 0.005
"""An alpha channel is a mask if it keeps at least this share of the image, and drops as much."""

_ORIENTATION: Final = 0x0112


class MaskMethod(str, Enum):
    """How a mask was made."""

    ALPHA = "alpha"
    """It is the image's own transparency."""
    PLAIN = "plain"
    """It is what differs from the plain background, and is not its shadow."""


@dataclass(frozen=True, slots=True)
class MadeMask:
    """A mask that was made.

    :param image: the mask, mode ``L``, upright, in the size of its image: 255 keeps a pixel.
    :param method: how it was made.
    :param confidence: how certain it is that it is right, 0 to 1.
    :param doubts: what speaks against it, in words.
    """

    image: Image.Image
    method: MaskMethod
    confidence: float
    doubts: tuple[str, ...] = ()

    @property
    def area(self) -> float:
        """Share of the image that is kept, 0 to 1."""
        return float(np.asarray(self.image, np.float32).mean()) / 255

    def file(self, source: bytes) -> bytes:
        """Return the mask as a PNG file.

        :param source: the image's file. The mask is stored as the image is, with the same EXIF orientation.
        """
        image, orientation = turned_back(self.image, source)
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        out = io.BytesIO()
        image.save(out, "PNG", exif=exif.tobytes())
        return out.getvalue()


def make_mask(data: bytes) -> MadeMask:
    """Make the mask of an image.

    An image with transparency has its mask already. Otherwise its background must be plain: white, or of an
    even color. A mask of any other image has a low confidence.

    :param data: the image's file.
    :raises UnreadableError: if it cannot be decoded, or has sides that the service does not take.
    """
    upright = load(data)
    width, height = upright.size
    if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
        raise UnreadableError(
            f"is {width} x {height}; the service takes {MIN_SIDE} to {MAX_SIDE} pixels a side"
        )
    image = to_srgb(upright, upright.info.get("icc_profile"))
    if image.mode == "RGBA":
        alpha = image.getchannel("A")
        if (found := _of_alpha(alpha)) is not None:
            return found
    rgb = np.asarray(image.convert("RGB"))
    scale = max(SIDE / max(width, height), _LEAST_SIDE / min(width, height))
    small = rgb if scale >= 1 else _small(rgb, scale)
    segmentation = segment(small)
    confidence = confidence_of(segmentation)
    values = softened(rgb, segmentation.product, segmentation.background.lab)
    return MadeMask(Image.fromarray(values), MaskMethod.PLAIN, confidence.value, confidence.doubts)


def _small(rgb: Levels, scale: float) -> Levels:
    size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _of_alpha(alpha: Image.Image) -> MadeMask | None:
    """Return the mask that an alpha channel is; ``None`` if it drops hardly anything."""
    values = np.asarray(alpha)
    kept, dropped = float((values >= 128).mean()), float((values < 128).mean())
    if kept >= _LEAST and dropped >= _LEAST:
        return MadeMask(alpha, MaskMethod.ALPHA, 1.0)
    if dropped < _LEAST:
        return None
    return MadeMask(alpha, MaskMethod.ALPHA, 0.0, (f"the image is transparent, except {kept:.1%} of it",))
