# SPDX-License-Identifier: Apache-2.0
"""Describes a plain background: its color at each pixel, as if the product were not there.

A smooth surface is fitted to the strip along the image's edges. Then it follows what is connected with this
strip and has nearly its color, so that it takes up lighting that no simple surface describes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np

from airflow_provider_bgrep.masks.colors import (
    Flags,
    Floats,
    blurred,
    edge_of,
    length,
    resized,
    touching,
)

_REDUCTION: Final = 4
"""The surface is fitted in an image that is smaller by this."""

_ROUNDS: Final = 8
"""Rounds of a fit, and of following the background, at most."""

_SAMPLES: Final = 4000
"""Pixels that a surface is fitted to, at most."""

_REACH: Final = 0.02
"""How far the background's color is taken from its surroundings, as a share of the shorter side."""

_NOISES: Final = 4.5
_LEAST, _MOST = 1.2, 4.0
"""A pixel has the background's color up to this many times the noise, in these limits: distances in Lab."""

_QUIETEST: Final = 0.15
"""Least noise that is assumed: JPEG and sRGB round as much."""


@dataclass(frozen=True, slots=True)
class Background:
    """A plain background.

    :param lab: its color at each pixel, height x width x 3.
    :param noise: its noise: a robust standard deviation, as a distance in Lab.
    :param evenness: share of the strip along the image's edges that one smooth surface describes, 0 to 1.
    """

    lab: Floats
    noise: float
    evenness: float

    @property
    def tolerance(self) -> float:
        """The distance in Lab up to which a pixel has the background's color."""
        return min(max(_NOISES * self.noise, _LEAST), _MOST)


def fitted_background(lab: Floats) -> Background:
    """Fit a plain background to an image.

    :param lab: the image, height x width x 3, each side at least 64 pixels.
    """
    height, width = lab.shape[:2]
    size = (width // _REDUCTION, height // _REDUCTION)
    small = np.asarray(cv2.resize(lab, size, interpolation=cv2.INTER_AREA), np.float32)
    strip = edge_of(small.shape, 2)
    surface, spread = _fitted(small, strip, order=2)
    is_near = length(small - surface) < max(3.0, 4 * spread)
    evenness = float(is_near[strip].mean())
    known = touching(is_near, strip)
    if np.count_nonzero(known) > _SAMPLES // 80:
        surface, _ = _fitted(small, known, order=4)
    noise = _noise(lab, resized(known, lab.shape))
    background = Background(surface, noise, evenness)
    surface = _followed(small, surface, strip, background.tolerance)
    full = np.asarray(cv2.resize(surface, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    return Background(full, noise, evenness)


def _fitted(lab: Floats, where: Flags, order: int) -> tuple[Floats, float]:
    """Fit a polynomial of the coordinates to the colors of some pixels; what differs most counts least.

    :return: the surface, and the robust standard deviation from it.
    """
    terms = _terms(lab.shape, order)
    step = max(1, np.count_nonzero(where) // _SAMPLES)
    given, colors = terms[where][::step].astype(np.float64), lab[where][::step].astype(np.float64)
    weights = np.ones(len(given))
    spread = 1.0
    factors: Any = None
    for number in range(_ROUNDS):
        weighted = given * weights[:, None]
        factors = np.linalg.solve(weighted.T @ given + 1e-6 * np.eye(terms.shape[-1]), weighted.T @ colors)
        away = np.linalg.norm(given @ factors - colors, axis=1)
        spread = max(1.0, 1.4826 * float(np.median(away)))
        away /= (6 if number < 3 else 4) * spread
        weights = np.where(away < 1, (1 - away**2) ** 2, 0) + 1e-4
    return (terms @ factors.astype(np.float32)).astype(np.float32), spread


def _terms(shape: tuple[int, ...], order: int) -> Floats:
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    powers = [(i, j) for i in range(order + 1) for j in range(order + 1 - i)]
    return np.stack([np.broadcast_to(x**i * y**j, shape[:2]) for i, j in powers], -1)


def _noise(lab: Floats, known: Flags) -> float:
    if not known.any():
        return _MOST
    return max(_QUIETEST, 1.4826 * float(np.median(length(lab - blurred(lab, 2.0))[known])))


def _followed(lab: Floats, surface: Floats, strip: Flags, tolerance: float) -> Floats:
    """Correct a surface by what is known of the background near each pixel, and then knows more of it."""
    sigma = _REACH * min(lab.shape[:2])
    known = touching(length(lab - surface) < tolerance, strip)
    found = surface
    for _ in range(_ROUNDS):
        counts = known.astype(np.float32)
        weights = blurred(counts, sigma)
        away = blurred((lab - surface) * counts[:, :, None], sigma)
        away /= np.maximum(weights, np.float32(1e-4))[:, :, None]
        found = surface + away * np.clip(weights / np.float32(0.02), 0, 1)[:, :, None]
        now = touching(length(lab - found) < tolerance, strip)
        if np.count_nonzero(now & ~known) < 0.0005 * now.size:
            break
        known = now
    return found
