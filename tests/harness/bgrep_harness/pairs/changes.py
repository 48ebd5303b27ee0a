# SPDX-License-Identifier: Apache-2.0
"""What is done to a good image: damage of known kind and strength, and changes that a person accepts."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps
from skimage.color import lab2rgb, rgb2lab

from bgrep_harness.pairs.products import LABELS, Product, bmp, grown, product, shrunk

Floats = np.ndarray[Any, np.dtype[np.float32]]

_ASYMMETRIC: Final = (
    *("bottle", "sneaker", "armchair", "car", "mug", "headphones", "chair", "handbag", "table"),
    *("carton", "jar", "case", "tin", "cable", "blocks", "tight handbag", "tight carton"),
)
"""Products that look different in a mirror."""

_OTHER: Final = {"jar": "blocks", "blocks": "sneaker"}
"""What takes the place of a product; of the others, the drawn blocks."""


@dataclass(frozen=True)
class Pair:
    """A row to check.

    :param source: the source file.
    :param mask: the mask file; ``None`` if there is none.
    :param candidate: the generated file.
    """

    source: bytes
    mask: bytes | None
    candidate: bytes


@dataclass(frozen=True)
class Change:
    """A kind of change in one strength.

    :param kind: what is changed.
    :param strength: how much, in words; may be empty.
    :param make: the pair of a product.
    :param applies: whether it can be done to a product, so that a person sees it.
    """

    kind: str
    strength: str
    make: Callable[[Product], Pair]
    applies: Callable[[Product], bool] = lambda _: True


# --- tools ----------------------------------------------------------------------------------------


def _pair(it: Product, candidate: Image.Image | bytes, mask: Image.Image | None = None) -> Pair:
    file = candidate if isinstance(candidate, bytes) else bmp(candidate)
    return Pair(it.source_file, it.mask_file if mask is None else bmp(mask), file)


def _onto(background: Image.Image, layer: Image.Image, mask: Image.Image) -> Image.Image:
    out = background.copy()
    out.paste(layer.convert("RGB"), mask=mask)
    return out


def _replaced(it: Product, change: Callable[[Image.Image], Image.Image]) -> Pair:
    """The generated image, in which the product's pixels are changed in place."""
    out = it.good
    return _pair(it, _onto(out, change(out), it.mask))


def _moved(image: Image.Image, right: float, down: float = 0.0, scale: float = 1.0) -> Image.Image:
    """An image, enlarged around its middle, then moved. Pixels from outside repeat the edge."""
    pad = 64
    wide = Image.fromarray(
        np.pad(np.asarray(image), [(pad, pad)] * 2 + [(0, 0)] * (len(image.getbands()) > 1), "edge")
    )
    x, y = wide.width / 2, wide.height / 2
    back = (1 / scale, 0, x - (x + right) / scale, 0, 1 / scale, y - (y + down) / scale)
    return wide.transform(wide.size, Image.Transform.AFFINE, back, Image.Resampling.BICUBIC).crop(
        (pad, pad, pad + image.width, pad + image.height)
    )


def _levels(image: Image.Image, change: Callable[[Floats], Floats]) -> Image.Image:
    return Image.fromarray((change(np.asarray(image).astype(np.float32)) + 0.5).clip(0, 255).astype(np.uint8))


def _widest(it: Product, share: float) -> tuple[int, int, int]:
    """The place where a patch of a share of the product's area fits best, and half its side."""
    inside = np.asarray(it.mask) >= 128
    half = max(2, round((inside.sum() * share) ** 0.5 / 2))
    filled, around = (
        np.asarray(it.mask.filter(ImageFilter.BoxBlur(size)), np.float32)
        for size in (half + 4, 4 * half + 40)
    )
    filled = filled + around / 100  # of equal places, the one farthest inside
    y, x = np.unravel_index(int(filled.argmax()), filled.shape)
    return int(x), int(y), half


# --- damage ---------------------------------------------------------------------------------------


def _shifted(share: float) -> Callable[[Product], Pair]:
    def make(it: Product) -> Pair:
        right = share * it.source.width
        layer, mask = _moved(it.source.convert("RGB"), right), _moved(it.mask, right)
        return _pair(it, _onto(it.scenery, layer, mask))

    return make


def _enlarged(scale: float) -> Callable[[Product], Pair]:
    def make(it: Product) -> Pair:
        box = it.mask.getbbox() or (0, 0, *it.mask.size)
        right, down = ((box[i] + box[i + 2]) / 2 - it.mask.size[i] / 2 for i in (0, 1))
        back = (right * (1 - scale), down * (1 - scale), scale)
        layer, mask = _moved(it.source.convert("RGB"), *back), _moved(it.mask, *back)
        return _pair(it, _onto(it.scenery, layer, mask))

    return make


def _tinted(units: float) -> Callable[[Product], Pair]:
    """All colors are moved by a distance in CIE Lab, toward orange."""

    def change(image: Image.Image) -> Image.Image:
        lab = rgb2lab(np.asarray(image))
        lab[..., 1:] += np.array((0.6, 0.8)) * units
        return Image.fromarray((lab2rgb(lab) * 255 + 0.5).astype(np.uint8))

    return lambda it: _replaced(it, change)


def _darkened(share: float) -> Callable[[Product], Pair]:
    return lambda it: _replaced(it, lambda image: _levels(image, lambda levels: levels * (1 - share)))


def _patched(share: float) -> Callable[[Product], Pair]:
    """A soft-edged spot, 40 levels darker, or lighter where the product is dark."""

    def make(it: Product) -> Pair:
        x, y, half = _widest(it, share)
        spot = Image.new("L", it.mask.size)
        ImageDraw.Draw(spot).ellipse((x - half, y - half, x + half, y + half), fill=255)
        spot = spot.filter(ImageFilter.GaussianBlur(1.5))

        def change(image: Image.Image) -> Image.Image:
            is_dark = np.asarray(image.convert("L"))[y, x] < 90
            other = _levels(image, lambda levels: levels + (40 if is_dark else -40))
            return Image.composite(other, image, spot)

        return _replaced(it, change)

    return make


def _cut(share: float) -> Callable[[Product], Pair]:
    """The product's upper end is missing: background takes its place."""

    def make(it: Product) -> Pair:
        rows = np.flatnonzero((np.asarray(it.mask) >= 128).any(1))
        end = int(rows[0] + share * (rows[-1] - rows[0] + 1))
        gone = it.mask.copy()
        gone.paste(0, (0, end, it.mask.width, it.mask.height))
        return _pair(it, Image.composite(it.scenery, it.good, gone))

    return make


def _halo(share: float) -> Callable[[Product], Pair]:
    """A ring of the old background around the product, as wide as a share of the image."""

    def make(it: Product) -> Pair:
        wide = grown(it.mask, round(share * it.mask.width))
        return _pair(it, Image.composite(it.shown, it.good, wide.filter(ImageFilter.GaussianBlur(1))))

    return make


def _white_edge(share: float) -> Callable[[Product], Pair]:
    """A white ring inside the product's edge."""

    def make(it: Product) -> Pair:
        inner = shrunk(it.mask, round(share * it.mask.width))
        ring = ImageChops.subtract(it.mask, inner)
        return _pair(it, _onto(it.good, Image.new("RGB", it.mask.size, "white"), ring))

    return make


def _mask_ignored(it: Product) -> Pair:
    """The mask is right; the service has taken it the other way round."""
    return _pair(it, it.generated(7, ImageOps.invert(it.mask)) if not it.has_alpha else _inside_out(it))


def _inside_out(it: Product) -> Image.Image:
    return Image.composite(it.scenery, it.shown, it.mask)


def _mask_inverted(it: Product) -> Pair:
    """The row's mask is inverted, and the service has followed it."""
    mask = ImageOps.invert(it.mask)
    return _pair(it, _inside_out(it), mask)


def _eroded(it: Product, share: float) -> Image.Image:
    return shrunk(it.mask, round(share * it.mask.width))


def _shrunk_in_image(share: float) -> Callable[[Product], Pair]:
    """The mask is right; the service has kept a narrower product."""
    return lambda it: _pair(it, _onto(it.scenery, it.source, _eroded(it, share)))


def _shrunk_in_row(share: float) -> Callable[[Product], Pair]:
    """The row's mask is too narrow, and the service has followed it."""

    def make(it: Product) -> Pair:
        mask = _eroded(it, share)
        return _pair(it, _onto(it.scenery, it.source, mask), mask)

    return make


def _untouched(share: float) -> Callable[[Product], Pair]:
    """The background is the source's, but for a share of the new one."""
    return lambda it: _pair(it, _jpeg(Image.blend(it.shown, it.good, share), 85))


def _blank(it: Product) -> Pair:
    return _pair(it, _onto(Image.new("RGB", it.mask.size, "white"), it.source, it.mask))


def _blurred(share: float) -> Callable[[Product], Pair]:
    return lambda it: _replaced(it, lambda image: image.filter(ImageFilter.GaussianBlur(share * image.width)))


def _mirrored(it: Product) -> Pair:
    box = it.mask.getbbox() or (0, 0, *it.mask.size)
    layer, mask = it.source.convert("RGB"), it.mask.copy()
    for image in (layer, mask):
        image.paste(ImageOps.mirror(image.crop(box)), box[:2])
    return _pair(it, _onto(it.scenery, layer, mask))


def _exchanged(it: Product) -> Pair:
    other = product(_OTHER.get(it.name, "jar"))
    size = it.mask.size
    return _pair(it, _onto(it.scenery, other.source.resize(size), other.mask.resize(size)))


def _relabeled(change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Callable[[Product], Pair]:
    def make(it: Product) -> Pair:
        other = product(it.name, change(LABELS[it.name]))
        return _pair(it, _onto(it.good, other.source, it.mask))

    return make


def _misspelled(line: str) -> str:
    """The letters of a line in another order, as generated text often is."""
    order = np.random.default_rng(len(line)).permutation(len(line))
    return "".join(line[i] for i in order)


def _one(number: int, change: Callable[[str], str]) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """A change of one line: the largest is 0, the smallest -1."""

    def changed(lines: tuple[str, ...]) -> tuple[str, ...]:
        out = list(lines)
        out[number] = change(out[number])
        return tuple(out)

    return changed


def _other_digits(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(line.translate({ord("5"): "8", ord("4"): "6"}) for line in lines)


def _has_label(it: Product) -> bool:
    return it.name in LABELS  # not those that are cropped, which cannot be drawn with other text


# --- what a person accepts ------------------------------------------------------------------------


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _webp(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=quality)
    return out.getvalue()


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    size = round(image.width * scale), round(image.height * scale)
    return image.resize(size, Image.Resampling.LANCZOS)


def _whole(change: Callable[[Image.Image], Image.Image | bytes]) -> Callable[[Product], Pair]:
    """A change of the whole generated image."""
    return lambda it: _pair(it, change(it.good))


def _lit(red: float, green: float, blue: float) -> Callable[[Image.Image], Image.Image]:
    gains = np.array((red, green, blue), np.float32)
    return lambda image: _levels(image, lambda levels: levels * gains)


def _shaded_rim(it: Product) -> Pair:
    """The product's foot is darkened by a contact shadow, and its edge is blended."""
    out = it.good
    soft = ImageChops.darker(it.mask, it.mask.filter(ImageFilter.GaussianBlur(1.2)))
    out = _onto(it.scenery, out, soft)
    inner = shrunk(it.mask, 2)
    ring = ImageChops.subtract(grown(it.mask, 4), inner)
    dark = _levels(out, lambda levels: levels * 0.75)
    return _pair(it, Image.composite(dark, out, ring.filter(ImageFilter.GaussianBlur(1.5))))


def _blended_rim(share: float) -> Callable[[Product], Pair]:
    def make(it: Product) -> Pair:
        soft = it.mask.filter(ImageFilter.GaussianBlur(share * it.mask.width))
        return _pair(it, Image.composite(it.good, it.scenery, soft))

    return make


def _grain(levels: float) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        noise = np.random.default_rng(11).normal(0, levels, (*image.size[::-1], 1)).astype(np.float32)
        return _levels(image, lambda values: values + noise)

    return change


def _sharper(percent: int) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.filter(ImageFilter.UnsharpMask(1, percent, 0))


def _all_of_it(image: Image.Image) -> bytes:
    return _jpeg(_scaled(_lit(0.98, 0.98, 0.96)(_sharper(30)(image)), 0.85), 75)


def _each(
    kind: str, strength: str, make: Callable[[float], Callable[[Product], Pair]], *values: float
) -> tuple[Change, ...]:
    """Return a change in several strengths.

    :param strength: how a value is shown.
    :param make: makes the pairs of a value.
    """
    return tuple(Change(kind, strength.format(value), make(value)) for value in values)


_OF_WIDTH: Final = "{:.1%} of the width"

DAMAGE: Final[tuple[Change, ...]] = (
    *_each("product shifted", _OF_WIDTH, _shifted, 0.003, 0.005, 0.01, 0.02),
    *_each("product enlarged", "by {:.0%}", lambda share: _enlarged(1 + share), 0.01, 0.02, 0.05),
    *_each("product recolored", "by {} in CIE Lab", _tinted, 6, 10, 20),
    *_each("product darker", "by {:.0%}", _darkened, 0.15, 0.3),
    *_each("spot on the product", "{:.1%} of its area", _patched, 0.003, 0.01, 0.03),
    *_each("upper end missing", "{:.0%} of the height", _cut, 0.05, 0.1, 0.25),
    *_each("product blurred", _OF_WIDTH, _blurred, 0.002, 0.004, 0.008),
    Change("product mirrored", "", _mirrored, lambda it: it.name in _ASYMMETRIC),
    Change("another product", "", _exchanged),
    *_each("old background around the product", _OF_WIDTH, _halo, 0.005, 0.01, 0.02, 0.04),
    *_each("white edge on the product", _OF_WIDTH, _white_edge, 0.005, 0.01, 0.02),
    *_each("narrower product than the mask's", _OF_WIDTH, _shrunk_in_image, 0.005, 0.01, 0.02),
    *_each("mask too narrow, and an image that follows it", _OF_WIDTH, _shrunk_in_row, 0.01, 0.02),
    Change("inverted mask, and an image that follows it", "", _mask_inverted),
    Change("product generated, background kept", "", _mask_ignored),
    *_each("background is the source's", "{:.0%} of it", lambda share: _untouched(1 - share), 1, 0.9),
    Change("background is blank", "", _blank),
    Change("text missing", "all lines", _relabeled(lambda lines: ("",) * len(lines)), _has_label),
    Change("text missing", "smallest line", _relabeled(_one(-1, lambda _: "")), _has_label),
    Change("text misspelled", "largest line", _relabeled(_one(0, _misspelled)), _has_label),
    Change("text misspelled", "smallest line", _relabeled(_one(-1, _misspelled)), _has_label),
    Change("text changed", "one or two digits", _relabeled(_other_digits), _has_label),
)
"""Damage that a person sees."""

HARMLESS: Final[tuple[Change, ...]] = (
    *_each("undamaged", "seed {}", lambda seed: lambda it: _pair(it, it.generated(int(seed))), 7, 8, 9),
    *_each("JPEG", "quality {}", lambda quality: _whole(lambda it: _jpeg(it, int(quality))), 90, 75, 60),
    Change("WebP", "quality 75", _whole(lambda image: _webp(image, 75))),
    *_each("scaled", "to {:.0%}", lambda scale: _whole(lambda it: _scaled(it, scale)), 0.75, 1.3, 2.0),
    *_each("sharpened", "by {} %", lambda percent: _whole(_sharper(int(percent))), 40, 80),
    Change("contact shadow on the edge", "", _shaded_rim),
    *_each("edge blended", _OF_WIDTH, _blended_rim, 0.002, 0.004),
    Change("darker", "by 4 %", _whole(_lit(0.96, 0.96, 0.96))),
    Change("lighter", "by 4 %", _whole(_lit(1.04, 1.04, 1.04))),
    Change("warmer", "by 3 %", _whole(_lit(1.03, 1.0, 0.97))),
    *_each("product shifted", _OF_WIDTH, _shifted, 0.001),
    Change("grain", "of 2 levels", _whole(_grain(2))),
    Change("scaled, sharpened, darker, JPEG", "", _whole(_all_of_it)),
)
"""Changes that a person accepts."""

TEXT_DAMAGE: Final = tuple(change for change in DAMAGE if change.kind.startswith("text "))
"""Damage of the text on a label."""

LABELED: Final = (*LABELS, "tight carton")
"""Products with text."""
