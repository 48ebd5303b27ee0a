# SPDX-License-Identifier: Apache-2.0
"""Images and masks as the checks and the thumbnails need them: scaled, in RGB, as a viewer shows them.

They are upright by their EXIF, in sRGB by their color profile, and on white where they are transparent. The
values of a mask are not colors: its profile is ignored.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from PIL import Image

from airflow_provider_bgrep.images.colors import changes_colors, to_srgb
from airflow_provider_bgrep.images.decode import UnreadableError, load
from airflow_provider_bgrep.images.polarity import mask_channel

SIDE: Final = 384
"""Longest side in pixels at which images are compared.

At this size, harmless changes and damage are farthest apart. Measured with ssim_low: a shift by a thousandth
of the width scores 0.83 at 256, 0.81 at 384, 0.64 at 512; a blur by half a hundredth of it 0.83, 0.71, 0.60;
a faint patch 0.72, 0.69, 0.69. And 512 costs twice as much.
"""

_LEAST_SIDE: Final = 8
"""Pixels that each side of a scaled image must have: the window of the comparison."""

_THUMB_SIDE: Final = 256
_THUMB_QUALITY: Final = 50
_THUMB_METHOD: Final = 2
"""WebP's effort, 0 to 6: half of the default's time, for files that are a twentieth larger."""

_SMOOTH: Final = Image.Resampling.BILINEAR
"""The cheapest of Pillow's filters that distinguishes a shift from a blur as well as BICUBIC does."""


@dataclass(frozen=True, slots=True)
class Sized:
    """Something with a width and a height.

    :param width: pixels of the whole image, as a viewer shows it.
    :param height: pixels of the whole image, as a viewer shows it.
    """

    width: int
    height: int

    @property
    def sides(self) -> str:
        """Width and height, for messages."""
        return f"{self.width} x {self.height}"


@dataclass(frozen=True, slots=True)
class ScaledImage(Sized):
    """A scaled image.

    :param small: ``RGB``.
    :param alpha: its transparency, as large as ``small``, ``L``; ``None`` if it has none.
    """

    small: Image.Image
    alpha: Image.Image | None


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in an image, in shares of its sides."""

    left: float
    upper: float
    right: float
    lower: float

    def of(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the rectangle in pixels.

        :param size: width and height of the image.
        """
        width, height = size
        left, upper = int(self.left * width), int(self.upper * height)
        right, lower = round(self.right * width), round(self.lower * height)
        return left, upper, max(left + 1, right), max(upper + 1, lower)


@dataclass(frozen=True, slots=True)
class Decoded(Sized):
    """A decoded image.

    :param pixels: ``L``, ``LA``, ``RGB``, ``RGBA``, ``CMYK`` or ``LAB``, upright; of a JPEG they may be fewer
        than its sides say.
    :param profile: the ICC profile of its colors, if it has one.
    """

    pixels: Image.Image
    profile: bytes | None = None

    @property
    def has_other_colors(self) -> bool:
        """Whether its profile gives its values other colors than sRGB does."""
        return changes_colors(self.profile)

    def shrunk(self, size: tuple[int, int] | None = None, *, ignores_profile: bool = False) -> ScaledImage:
        """The image, scaled, in sRGB, on white.

        :param size: width and height. By default the longest side becomes :data:`SIDE`, or stays if shorter.
        :param ignores_profile: whether to take its values for those of sRGB, as if the profile were lost.
        """
        size = size or _fitted(self.width, self.height, SIDE)
        # Few pixels are converted faster than many.
        profile = None if ignores_profile else self.profile
        small = to_srgb(self.pixels.resize(size, _SMOOTH, reducing_gap=1.0), profile)
        if small.mode != "RGBA":
            return ScaledImage(self.width, self.height, small.convert("RGB"), None)
        alpha = small.getchannel("A")
        white = Image.new("RGBA", small.size, "white")
        white.alpha_composite(small)
        is_solid = alpha.getextrema() == (255, 255)
        return ScaledImage(self.width, self.height, white.convert("RGB"), None if is_solid else alpha)

    def part(self, box: Box, size: tuple[int, int]) -> Image.Image:
        """A part of the image, scaled to a size, ``RGB`` in sRGB, on white.

        :param box: the part.
        :param size: width and height.
        """
        pixels = self.pixels.crop(box.of(self.pixels.size))
        return replace(self, pixels=pixels).shrunk(size).small

    def shrunk_mask(self, size: tuple[int, int] | None = None) -> Image.Image:
        """The image as a mask, scaled, in one channel: 255 is kept. Takes the API's three forms of masks.

        :param size: width and height, the source's. By default as in :meth:`shrunk`.
        """
        mask = mask_channel(to_srgb(self.pixels, None))
        # BOX: each pixel is the mean of what it covers, so that 255 means "all of it is kept". Enlarging
        # takes the nearest pixel.
        box = Image.Resampling.BOX
        return mask.resize(size or _fitted(self.width, self.height, SIDE), box, reducing_gap=1.0)


def decode(data: bytes, *, is_sharp: bool = False) -> Decoded:
    """Decode an image whole, and turn it upright.

    :param data: the file.
    :param is_sharp: whether to keep all pixels of a JPEG; otherwise as many as the comparison needs.
    :raises UnreadableError: if it cannot be decoded whole.
    """
    image = load(data, draft_side=None if is_sharp else SIDE)
    width, height = image.info["full_size"]
    if min(_fitted(width, height, SIDE)) < _LEAST_SIDE:
        raise UnreadableError(f"is {width} x {height}: too narrow to be compared")
    return Decoded(width, height, _plain(image), image.info.get("icc_profile"))


def thumbnail(small: Image.Image) -> bytes:
    """A thumbnail, WebP of some 3 to 8 KB, its longest side 256 pixels."""
    tiny = small.resize(_fitted(*small.size, _THUMB_SIDE), _SMOOTH, reducing_gap=1.0)
    out = io.BytesIO()
    tiny.save(out, "WEBP", quality=_THUMB_QUALITY, method=_THUMB_METHOD)
    return out.getvalue()


def _plain(image: Image.Image) -> Image.Image:
    """An image in ``L``, ``LA``, ``RGB``, ``RGBA``, ``CMYK`` or ``LAB``, 8 bits a channel."""
    if image.mode.startswith(("I", "F")):
        # Pillow cuts off what is over 255 instead of scaling it.
        values = np.nan_to_num(np.asarray(image).astype(np.float32))
        wide = 65535 if image.mode.startswith("I;16") or values.max() > 255 else 255
        top = 1 if image.mode == "F" and values.max() <= 1 else wide
        return Image.fromarray((values * (255 / top)).clip(0, 255).astype(np.uint8))
    if image.mode == "LA":
        return image
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _fitted(width: int, height: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
