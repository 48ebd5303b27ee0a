# SPDX-License-Identifier: Apache-2.0
"""Conversions of colors, and filters, as the other modules of this package use them: height x width x 3."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.uint8]

_VALUES: Final = np.arange(256, dtype=np.float32) / np.float32(255)
_LINEAR: Final[Floats] = np.where(
    _VALUES <= 0.04045, _VALUES / 12.92, ((_VALUES + np.float32(0.055)) / np.float32(1.055)) ** 2.4
).astype(np.float32)
"""Linear light of each level of sRGB."""


def lab_of(rgb: Levels) -> Floats:
    """Return sRGB as CIE Lab: ``L`` from 0 to 100."""
    return _floats(cv2.cvtColor(rgb.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB))


def rgb_of(lab: Floats) -> Levels:
    """Return CIE Lab as sRGB."""
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).clip(0, 1) * 255 + 0.5, np.uint8)


def light_of(rgb: Levels) -> Floats:
    """Return sRGB as linear light, 0 to 1."""
    return _LINEAR[rgb]


def lab_of_light(light: Floats) -> Floats:
    """Return linear light, which is clipped to 0 to 1, as CIE Lab."""
    light = light.clip(0, 1)
    srgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 1e-6) ** (1 / 2.4) - 0.055)
    return _floats(cv2.cvtColor(srgb.astype(np.float32), cv2.COLOR_RGB2LAB))


def length(colors: Floats) -> Floats:
    """Return the length of each pixel's vector: of differences in Lab, the distance of two colors."""
    return _floats(np.sqrt(np.einsum("...i,...i->...", colors, colors)))


def slope_of(lab: Floats) -> Floats:
    """Return how much the color changes from pixel to pixel, as a distance in Lab."""
    changes = [
        cv2.Scharr(lab[:, :, channel], cv2.CV_32F, 1 - axis, axis) for channel in range(3) for axis in (0, 1)
    ]
    return length(np.stack(changes, -1)) / np.float32(32)


def blurred(values: Floats, sigma: float) -> Floats:
    """Return values after a Gaussian filter.

    :param sigma: its width in pixels.
    """
    return _floats(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))


def shrunk(area: Flags, side: int = 3) -> Flags:
    """Return an area without its rim. The image's edges do not cut it off.

    :param side: side in pixels of the square that must be in the area.
    """
    return _flags(cv2.erode(area.view(np.uint8), np.ones((side, side), np.uint8), borderValue=1))


def grown(area: Flags, side: int = 3) -> Flags:
    """Return an area with a rim around it.

    :param side: side in pixels of the square that must touch the area.
    """
    return _flags(cv2.dilate(area.view(np.uint8), np.ones((side, side), np.uint8), borderValue=0))


def opened(area: Flags) -> Flags:
    """Return an area without its parts that are narrower than 3 pixels."""
    return grown(shrunk(area))


def resized(area: Flags, shape: tuple[int, ...]) -> Flags:
    """Return an area in another size.

    :param shape: height and width.
    """
    size = (shape[1], shape[0])
    return _flags(cv2.resize(area.view(np.uint8), size, interpolation=cv2.INTER_NEAREST))


def edge_of(shape: tuple[int, ...], least: int, *, share: float = 0.02) -> Flags:
    """Return the strip along the image's edges.

    :param shape: height and width.
    :param least: minimum width of the strip in pixels.
    :param share: its width, as a share of the shorter side.
    """
    width = max(least, round(share * min(shape[:2])))
    strip = np.ones(shape[:2], bool)
    strip[width:-width, width:-width] = False
    return strip


def touching(area: Flags, where: Flags) -> Flags:
    """Return the connected parts of an area that have a pixel in another one."""
    count, labels = cv2.connectedComponents(area.view(np.uint8), connectivity=4)
    kept = np.zeros(count, bool)
    kept[np.unique(labels[where & area])] = True
    kept[0] = False
    return _flags(kept[labels])


def _floats(values: Any) -> Floats:
    return np.asarray(values, np.float32)


def _flags(values: Any) -> Flags:
    return np.asarray(values).astype(np.bool_, copy=False)
