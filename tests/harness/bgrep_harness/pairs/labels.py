# SPDX-License-Identifier: Apache-2.0
"""Packages with text in many looks, and pairs in which some of the text is another."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bgrep_harness.pairs.changes import Pair


@dataclass(frozen=True)
class Look:
    """How a label is drawn.

    :param side: width and height of the image in pixels.
    :param height: height of the text, as a share of the image.
    :param paper: color of the product.
    :param ink: color of the text.
    :param turn: degrees by which the text is turned, counterclockwise.
    """

    side: int = 800
    height: float = 0.05
    paper: tuple[int, int, int] = (235, 228, 214)
    ink: tuple[int, int, int] = (40, 40, 46)
    turn: int = 0


INKS: Final[Mapping[str, Look]] = {
    "dark on light": Look(),
    "light on dark": Look(paper=(24, 28, 40), ink=(230, 226, 220)),
    "gray on white": Look(paper=(248, 248, 248), ink=(168, 168, 172)),
    "red on green": Look(paper=(40, 120, 70), ink=(226, 60, 48)),
}
"""Colors of paper and ink."""


def drawn(lines: Sequence[str | Image.Image], look: Look = Look(), ground: int = 214) -> Image.Image:
    """Return an image of a package.

    :param lines: the lines of its text; an image is one line, white on black.
    :param look: how it looks.
    :param ground: brightness of the background.
    """
    side = look.side
    rng = np.random.default_rng(ground)
    out = Image.fromarray(rng.normal(ground, 18, (side, side, 3)).clip(0, 255).astype(np.uint8))
    package = Image.new("RGB", (side * 7 // 10,) * 2, look.paper)
    kept = Image.new("L", package.size)
    height = round(look.height * side)
    for number, line in enumerate(lines):
        middle = (package.width // 2, package.height * (number + 1) // (len(lines) + 1))
        if isinstance(line, str):
            font = ImageFont.load_default(height)
            ImageDraw.Draw(kept).text(middle, line, fill=255, font=font, anchor="mm")
        else:
            ink = line.resize((line.width * height // line.height, height), Image.Resampling.LANCZOS)
            kept.paste(ink, (middle[0] - ink.width // 2, middle[1] - height // 2))
    package.paste(look.ink, mask=kept.rotate(look.turn, Image.Resampling.BICUBIC))
    out.paste(package, (side * 15 // 100,) * 2)
    return out


def mask(look: Look = Look()) -> Image.Image:
    """Return the mask of a package."""
    out = Image.new("L", (look.side,) * 2)
    corner, end = look.side * 15 // 100, look.side * 15 // 100 + look.side * 7 // 10 - 1
    ImageDraw.Draw(out).rectangle((corner, corner, end, end), fill=255)
    return out


def file(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    """Return an image as a file."""
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


_LINES: Final = ("Cold Pressed", "Apple Juice 250 ml")
_CHANGES: Final[Mapping[str, tuple[str, ...]]] = {
    "unchanged": _LINES,
    "a digit changed": ("Cold Pressed", "Apple Juice 350 ml"),
    "two letters exchanged": ("Cold Pressed", "Appel Juice 250 ml"),
    "a word missing": ("Cold Pressed", "Juice 250 ml"),
}
_HEIGHTS: Final = (0.03, 0.02, 0.015, 0.01)


def fine_print() -> Iterator[tuple[str, str, str, Pair]]:
    """Yield pairs with text that is small for its image, as JPEG: kind, strength, look and pair."""
    for kind, lines in _CHANGES.items():
        for height in _HEIGHTS:
            for name, ink in INKS.items():
                look = replace(ink, side=1600, height=height)
                candidate = file(drawn(lines, look, 90), "JPEG", quality=90)
                pair = Pair(file(drawn(_LINES, look), "BMP"), file(mask(look), "BMP"), candidate)
                yield kind, f"text of {height:.1%} of the height", name, pair
