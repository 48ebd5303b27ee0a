# SPDX-License-Identifier: Apache-2.0
"""Converts images to sRGB, by the color profile that their file contains.

Images are compared as a viewer shows them. Otherwise a result that was rightly converted from Adobe RGB would
differ from its source, and one that only lost the profile would not.
"""

from __future__ import annotations

import io
from functools import lru_cache
from itertools import product
from typing import Any, Final

from PIL import Image, ImageCms

MAX_PROFILE_BYTES: Final = 4 * 1024 * 1024
"""Largest size of a profile that is used. Those of printing presses have up to 2.5 MB."""

_SPACES: Final = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "LAB": "LAB"}
"""Pillow's mode of the pixels that a profile describes, by the profile's color space."""

_LEAST_DIFFERENCE: Final = 2
"""Steps of 256 by which a profile must change a color, so that it is not one of sRGB."""


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an image in sRGB.

    A profile that is damaged, or that describes other pixels than the image has, is ignored, as by viewers.

    :param image: ``L``, ``LA``, ``RGB``, ``RGBA``, ``CMYK`` or ``LAB``.
    :param profile: the ICC profile of its file, if it has one.
    :return: the image, ``L`` if it is gray and its values are those of sRGB, otherwise ``RGB``; with its
        transparency, ``RGBA``.
    """
    if image.mode in ("L", "RGB", "RGBA") and not profile:
        return image
    if image.mode in ("LA", "RGBA"):
        alpha = image.getchannel("A")
        opaque = to_srgb(image.convert("L" if image.mode == "LA" else "RGB"), profile).convert("RGB")
        opaque.putalpha(alpha)
        return opaque
    if profile and len(profile) <= MAX_PROFILE_BYTES:
        mode, transform = _transform(profile)
        if image.mode == "L" and mode == "RGB":
            image = image.convert("RGB")  # a gray image with the profile of its camera
        if transform is not None and image.mode == mode:
            return ImageCms.applyTransform(image, transform) or image
    if image.mode == "LAB":
        return ImageCms.applyTransform(image, _from_lab()) or image
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def changes_colors(profile: bytes | None) -> bool:
    """Return whether a profile describes other colors than those of sRGB."""
    return profile is not None and len(profile) <= MAX_PROFILE_BYTES and _transform(profile)[1] is not None


@lru_cache(32)
def _transform(profile: bytes) -> tuple[str, Any]:
    """The mode of the pixels that a profile describes, and how they become sRGB; ``None`` for no change."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _SPACES[opened.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(opened, _srgb(), mode, "RGB")
        return mode, None if _is_srgb(mode, transform) else transform
    except Exception:  # whatever the library raises for a damaged profile, or if it is not installed
        return "", None


def _is_srgb(mode: str, transform: Any) -> bool:
    """Whether a transform changes nothing that can be seen: most profiles are those of sRGB."""
    steps = range(0, 256, 51)
    if mode == "RGB":
        cube = bytes(value for color in product(steps, repeat=3) for value in color)
    elif mode == "L":
        cube = bytes(steps)
    else:
        return False
    colors = Image.frombytes(mode, (len(cube) // len(Image.new(mode, (1, 1)).tobytes()), 1), cube)
    converted = ImageCms.applyTransform(colors, transform) or colors
    pairs = zip(colors.convert("RGB").tobytes(), converted.tobytes(), strict=True)
    return all(abs(before - after) < _LEAST_DIFFERENCE for before, after in pairs)


@lru_cache(1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@lru_cache(1)
def _from_lab() -> Any:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), "LAB", "RGB")
