# SPDX-License-Identifier: Apache-2.0
"""Compares the words on a product with those on its source's product.

Words are found and read in the source once. In each generated image, only the places of these words are read
again. A word is compared only if it can still be read after everything that a service may do to an image, so
that an unreadable word is not taken for a missing one.
"""

from __future__ import annotations

import difflib
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from PIL import Image, ImageStat

from airflow_provider_bgrep.catalog.check.image import Box, decode

Quad = tuple[float, float, float, float, float, float, float, float]
"""The corners of a line of text in pixels: upper left, lower left, lower right, upper right, x before y."""

SIDE: Final = 960
"""Longest side in pixels at which a product is read. At 1280, finding the text takes twice as long."""

_MOST_LINES: Final = 30
"""Lines that are compared, the largest first."""

_LEAST_HEIGHT: Final = 12.0
"""Pixels that a line must be high."""

_LEAST_CONFIDENCE: Final = 0.85
_ON_PRODUCT: Final = 0.7
"""Share of a line that must be on the product."""

_LEAST_LETTERS: Final = 2
"""Letters and digits of the shortest word that is compared."""

_LETTERS_PER_ERROR: Final = 6

_WORN_SCALE, _WORN_QUALITY = 0.7, 60
"""What may happen to a readable image: it is scaled to the smallest size that passes, as JPEG."""

_FOLDED: Final = str.maketrans("015i8", "olslb")
"""Characters that are read for each other."""

_UPRIGHT: Final = 1.5
"""A line that is this much higher than wide is read from its side."""


class TextReader(Protocol):
    """Finds and reads text."""

    def find(self, image: Image.Image) -> list[Quad]:
        """Return where an image has lines of text.

        :param image: mode ``RGB``.
        """

    def read(self, line: Image.Image) -> tuple[str, float]:
        """Return the text of an image of one line, and how certain it is, 0 to 1.

        :param line: mode ``RGB``.
        """


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of text on the source.

    :param quad: where it is.
    :param words: all of its words.
    :param compared: the positions of those that can be compared.
    """

    quad: Quad
    words: tuple[str, ...] = ()
    compared: frozenset[int] = frozenset()


class LabelText:
    """The words on a source's product.

    :param reader: finds and reads text.
    :param source: the source file.
    :param mask: its mask, scaled, mode ``L``; 255 is the product.
    :raises Exception: whatever the reader raises.
    """

    def __init__(self, reader: TextReader, source: bytes, mask: Image.Image) -> None:
        image = decode(source, is_sharp=True)
        kept = mask.point(lambda value: 255 if value >= 128 else 0)
        left, upper, right, lower = kept.getbbox() or (0, 0, *kept.size)
        self._box = Box(left / kept.width, upper / kept.height, right / kept.width, lower / kept.height)
        width, height = (
            (right - left) * image.width / kept.width,
            (lower - upper) * image.height / kept.height,
        )
        scale = min(1.0, SIDE / max(width, height))
        self._size = max(1, round(width * scale)), max(1, round(height * scale))
        self._mask = kept.crop((left, upper, right, lower)).resize(self._size, Image.Resampling.BILINEAR)
        self._reader, self._source = reader, image.part(self._box, self._size)
        found = sorted(reader.find(self._source), key=_area, reverse=True)
        lines = (self._line(quad) for quad in found[:_MOST_LINES])
        self._lines = [line for line in lines if line.compared]

    def _line(self, quad: Quad) -> _Line:
        """Return a line and which of its words stay readable."""
        if min(_sides(quad)) < _LEAST_HEIGHT:
            return _Line(quad)
        if ImageStat.Stat(_part(self._mask, quad)).mean[0] < _ON_PRODUCT * 255:
            return _Line(quad)
        part = _part(self._source, quad)
        text, confidence = self._reader.read(part)
        words = tuple(text.split())
        long = {i for i, word in enumerate(words) if len(_plain(word)) >= _LEAST_LETTERS}
        if confidence < _LEAST_CONFIDENCE or not long:
            return _Line(quad)
        return _Line(quad, words, frozenset(long - lost_words(words, self._reader.read(_worn(part))[0])))

    @property
    def count(self) -> int:
        """The number of words that can be compared."""
        return sum(len(line.compared) for line in self._lines)

    def lost(self, candidate: bytes) -> list[str]:
        """Return the words that a generated image does not show.

        :param candidate: the image file, with the aspect ratio of the source.
        :raises Exception: whatever the reader raises.
        """
        if not self._lines:
            return []
        part = decode(candidate, is_sharp=True).part(self._box, self._size)
        shown = Image.composite(part, self._source, self._mask)  # new scenery can have text as well
        found: list[str] = []
        for line in self._lines:
            text = _part(shown, line.quad)
            lost = line.compared & lost_words(line.words, self._reader.read(text)[0])
            if lost:  # Once more in another size, because a misread letter is not a changed one.
                lost &= lost_words(line.words, self._reader.read(_scaled(text, 1.5))[0])
            found += [line.words[i] for i in sorted(lost)]
        return found


def lost_words(words: Sequence[str], text: str) -> set[int]:
    """Return the positions of the words of a line that a text does not contain in this order.

    Case, blanks, punctuation and accents do not matter, nor does one wrong character in every six of a word,
    unless another digit takes the place of a digit.

    :param words: the words of the line.
    :param text: the text that was read in its place.
    """
    letters = [(letter, i) for i, word in enumerate(words) for letter in _plain(word)]
    found = _plain(text)
    before = "".join(letter for letter, _ in letters).translate(_FOLDED)
    errors = [0] * len(words)
    matcher = difflib.SequenceMatcher(None, before, found.translate(_FOLDED), autojunk=False)
    for tag, start, end, low, high in matcher.get_opcodes():
        if tag == "equal":
            continue
        for offset in range(start, end):
            letter, owner = letters[offset]
            other = found[low + offset - start : low + offset - start + 1]
            is_digit = tag == "replace" and letter.isdigit() and other.isdigit()
            errors[owner] += len(words[owner]) if is_digit else 1
        # What comes in addition belongs to the word that it follows: 50 is not 500.
        if letters and (more := (high - low) - (end - start)) > 0:
            errors[letters[max(0, end - 1)][1]] += more
    return {i for i, word in enumerate(words) if errors[i] > len(_plain(word)) // _LETTERS_PER_ERROR}


def _plain(word: str) -> str:
    """Return the letters and digits of a word, in lower case and without accents."""
    letters = unicodedata.normalize("NFKD", word).casefold()
    return "".join(letter for letter in letters if letter.isalnum())


def _sides(quad: Quad) -> tuple[float, float]:
    """Return width and height of a line in pixels."""
    x0, y0, x1, y1, _, _, x3, y3 = quad
    return ((x3 - x0) ** 2 + (y3 - y0) ** 2) ** 0.5, ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5


def _area(quad: Quad) -> float:
    width, height = _sides(quad)
    return width * height


def _part(image: Image.Image, quad: Quad) -> Image.Image:
    """Return a line of text, upright."""
    width, height = (max(1, round(side)) for side in _sides(quad))
    part = image.transform((width, height), Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)
    return part.transpose(Image.Transpose.ROTATE_90) if height >= _UPRIGHT * width else part


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


def _worn(image: Image.Image) -> Image.Image:
    out = io.BytesIO()
    _scaled(image, _WORN_SCALE).save(out, "JPEG", quality=_WORN_QUALITY)
    return Image.open(out).resize(image.size, Image.Resampling.BICUBIC)
