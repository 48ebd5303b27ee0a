# SPDX-License-Identifier: Apache-2.0
"""Compares the generated images of an image task with its source and reports what differs.

The comparison does not keep state between calls, so any number of threads may run it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from PIL import Image

from airflow_provider_bgrep.catalog.check.image import (
    Decoded,
    ScaledImage,
    Sized,
    decode,
    thumbnail,
)
from airflow_provider_bgrep.catalog.check.label_text import LabelText, TextReader
from airflow_provider_bgrep.catalog.check.metrics import (
    Reference,
    Regions,
    UnfitMaskError,
    detail,
    everywhere,
    regions,
)
from airflow_provider_bgrep.catalog.config.thresholds import MEASURES, Thresholds
from airflow_provider_bgrep.catalog.model.states import INVERTED_MASK, TURNED_MASK, Verdict
from airflow_provider_bgrep.images.decode import Sides, UnreadableError, sides_of
from airflow_provider_bgrep.images.polarity import is_inverted
from airflow_provider_bgrep.protocol.errors import reason_of

_LOST_SHARE: Final = 1 / 3
"""Share of the threshold ``delta_e`` from which a lost profile counts: by default 1.5, which is visible."""

_LOST_RATIO: Final = 4
"""How many times closer the product then is to the source as it looks without its profile."""

_MOST_WORDS: Final = 5
"""Words that a flag names."""

_MOST_LETTERS: Final = 24
"""Letters of a word that a flag shows."""

_EXPIRED: Final = "was not chosen, and has been deleted since (keep_plans)"
_LOST_PROFILE: Final = "the product's colors are those of the source without its color profile"


@dataclass(frozen=True, slots=True)
class Thumbs:
    """Thumbnails as WebP files.

    :param source: the source; ``None`` if it could not be fetched or decoded.
    :param mask: the mask; ``None`` if there is none.
    :param candidates: one for each generated image; ``None`` for an image that cannot be decoded.
    """

    source: bytes | None = None
    mask: bytes | None = None
    candidates: tuple[bytes | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgment:
    """The result of the checks for one image task.

    :param verdict: ``passed`` if at least one image passes every check; ``unmasked`` if there is no mask, and
        an image passes the checks that do not need one.
    :param chosen: index, from 0, of the best image that passes; ``None`` if no image passes.
    :param flags: what is wrong, in words; images are numbered from 1.
    :param scores: one mapping of :data:`MEASURES` names to scores for each image; empty for an image that
        cannot be decoded.
    :param thumbs: thumbnails.
    """

    verdict: Verdict
    chosen: int | None
    flags: list[str]
    scores: list[dict[str, float]]
    thumbs: Thumbs = field(default_factory=Thumbs)


def judge(
    source: bytes | None,
    mask: bytes | None,
    candidates: Sequence[bytes | None],
    thresholds: Thresholds,
    *,
    why_no_source: str = "",
    reader: TextReader | None = None,
) -> Judgment:
    """Compare generated images with their source. Broken files are reported, not raised.

    The verdict is ``unchecked`` if a later attempt may succeed: the source could not be fetched, or the
    source or mask could not be decoded. A mask that decodes but is unusable (all black, all white, another
    aspect ratio) makes the verdict ``flagged``, because a later attempt would find the same mask.

    :param source: the source image file; ``None`` if it could not be fetched.
    :param mask: the mask file; ``None`` if there is none. The alpha channel of the source is used instead, if
        it has one. Otherwise the product is not compared: the score ``area`` is 0, and the verdict is
        ``unmasked`` if an image passes the other checks.
    :param candidates: the generated image files; ``None`` for one that nobody needed any more, and that was
        deleted.
    :param thresholds: the thresholds of the scores.
    :param why_no_source: why the source could not be fetched.
    :param reader: reads the words on the product; ``None`` if they are not compared.
    :return: verdict, best image, flags, scores and thumbnails.
    """
    comparison = ImageComparison(thresholds, reader)
    comparison.add_source(source, why_no_source)
    comparison.add_mask(mask)
    for candidate in candidates:
        comparison.add_candidate(candidate)
    return comparison.result()


class ImageComparison:
    """Compares one image task: first the source is added, then its mask, then each candidate.

    :param thresholds: the thresholds of the scores.
    :param reader: reads the words on the product; ``None`` if they are not compared.
    """

    def __init__(self, thresholds: Thresholds, reader: TextReader | None = None) -> None:
        self._thresholds = thresholds
        self._reader = reader if thresholds.label_text else None
        self._label: LabelText | None = None
        self._source_data = b""
        self._flags: list[str] = []
        self._scores: list[dict[str, float]] = []
        self._passing: list[int] = []
        self._is_unchecked = self._is_unfit = self._is_unmasked = False
        self._source: ScaledImage | None = None
        self._unmanaged: ScaledImage | None = None
        self._source_sides: Sides | None = None
        self._reference: Reference | None = None
        self._unmanaged_reference: Reference | None = None
        self._source_thumb: bytes | None = None
        self._mask_thumb: bytes | None = None
        self._thumbs: list[bytes | None] = []

    def add_source(self, data: bytes | None, why: str) -> None:
        """Decode the source, or record why there is none."""
        if data is None:
            self._is_unchecked = True
            self._flags.append(f"the source could not be fetched: {why or 'no reason was given'}")
            return
        try:
            decoded = decode(data)
            self._source, self._source_sides = decoded.shrunk(), sides_of(data)
            if decoded.has_other_colors:
                self._unmanaged = decoded.shrunk(ignores_profile=True)
        except UnreadableError as error:
            self._is_unchecked = True
            self._flags.append(f"the source {error}")
        else:
            self._source_data, self._source_thumb = data, thumbnail(self._source.small)

    def add_mask(self, data: bytes | None) -> None:
        """Find product and background by the mask."""
        where = self._regions(data) if data is not None else self._regions_without()
        if self._source is not None:
            places = where or everywhere(self._source.small.size)
            self._reference = Reference(self._source.small, places)
            if self._unmanaged is not None:
                self._unmanaged_reference = Reference(self._unmanaged.small, places)

    def _regions(self, data: bytes) -> Regions | None:
        source = self._source
        try:
            mask = decode(data)
            small = mask.shrunk_mask(source.small.size if source else None)
            self._mask_thumb = thumbnail(small)
            if source is None:
                return None
            if not _is_met("aspect", _aspect(mask, source), self._thresholds):
                if self._source_sides is not None and sides_of(data).stored == self._source_sides.stored:
                    raise UnfitMaskError(TURNED_MASK)
                raise UnfitMaskError(
                    f"is {mask.sides}, with another aspect ratio than the source ({source.sides})"
                )
            if is_inverted(source.small, small, source.alpha):
                raise UnfitMaskError(INVERTED_MASK)
            return self._with_label(regions(small), small)
        except UnreadableError as error:
            self._is_unchecked = True
            self._flags.append(f"the mask {error}")
        except UnfitMaskError as error:
            self._is_unfit = True
            self._flags.append(f"the mask {error}")
        return None

    def _regions_without(self) -> Regions | None:
        """Use the alpha channel of the source as its mask, if it has one."""
        if self._source is not None and self._source.alpha is not None:
            with contextlib.suppress(UnfitMaskError):
                return self._with_label(regions(self._source.alpha), self._source.alpha)
        self._is_unmasked = True
        if self._thresholds.need_mask:
            self._is_unfit = True
            self._flags.append("there is no mask, so the product cannot be compared (need_mask is true)")
        return None

    def _with_label(self, places: Regions, mask: Image.Image) -> Regions:
        """Read the words on the source's product, if they are to be compared."""
        if self._reader is not None:
            try:
                self._label = LabelText(self._reader, self._source_data, mask)
            except Exception as error:  # whatever its class: see isolation.py
                self._flags.append(f"the words on the product could not be read: {reason_of(error)}")
        return places

    def add_candidate(self, data: bytes | None) -> None:
        """Decode and score the next candidate."""
        index = len(self._scores)
        self._scores.append({})
        if data is None:
            self._thumbs.append(None)
            self._flags.append(f"image {index + 1} {_EXPIRED}")
            return
        try:
            image = decode(data)
            found = self._measured(image)
            lost = self._lost_words(data, found)
        except UnreadableError as error:
            self._thumbs.append(None)
            self._flags.append(f"image {index + 1} {error}")
            return
        scores = {name: round(found[name], 3) for name in MEASURES if name in found}
        self._scores[index] = scores
        missed = [name for name, score in scores.items() if not _is_met(name, score, self._thresholds)]
        self._flags += [
            f"image {index + 1}: {self._describe(name, scores[name], image, lost)}" for name in missed
        ]
        if self._lost_profile(image, scores):
            self._flags.append(f"image {index + 1}: {_LOST_PROFILE}")
        elif not missed:
            self._passing.append(index)

    def _lost_words(self, data: bytes, scores: dict[str, float]) -> list[str]:
        """Return the words that an image does not show, and add their scores."""
        if self._label is None or "ssim" not in scores:
            return []
        scores["label_words"] = float(self._label.count)
        if not self._label.count:
            return []
        try:
            lost = self._label.lost(data)
        except Exception as error:  # whatever its class: see isolation.py
            what = f"the words on the product could not be compared: {reason_of(error)}"
            self._flags.append(f"image {len(self._scores)}: {what}")
            return []
        scores["label_text"] = 1 - len(lost) / self._label.count
        return lost

    def _lost_profile(self, image: Decoded, scores: Mapping[str, float]) -> bool:
        """Whether the product has the values of the source, but not its colors."""
        found = scores.get("delta_e", 0.0)
        if self._unmanaged_reference is None or self._unmanaged is None:
            return False
        if found < _LOST_SHARE * self._thresholds.delta_e:
            return False
        small = image.shrunk(self._unmanaged.small.size).small
        return self._unmanaged_reference.measure(small)["delta_e"] < found / _LOST_RATIO

    def _measured(self, image: Decoded) -> dict[str, float]:
        source, reference = self._source, self._reference
        scores: dict[str, float] = {}
        if source is not None:
            scores["aspect"] = _aspect(image, source)
            scores["size"] = max(image.width, image.height) / max(source.width, source.height)
        if source is None or reference is None or not _is_met("aspect", scores["aspect"], self._thresholds):
            # The aspect ratio differs, so positions in the image do not correspond to the source.
            small = image.shrunk().small
            scores["detail"] = detail(small, everywhere(small.size).background)
        else:
            small = image.shrunk(source.small.size).small
            scores |= {**reference.measure(small), "area": reference.area}
        self._thumbs.append(thumbnail(small))
        return scores

    def _describe(self, name: str, score: float, image: Decoded, lost: Sequence[str]) -> str:
        measure, limit = MEASURES[name], getattr(self._thresholds, name)
        source = self._source.sides if self._source else ""
        found = measure.found.format(sides=image.sides, source=source, words=_listed(lost))
        return f"{found} ({name} {score:g}, {'at least' if measure.is_least else 'at most'} {limit:g})"

    def result(self) -> Judgment:
        """Return the verdict."""
        if not self._scores:
            self._flags.append("there is no generated image")
        verdict, chosen = Verdict.FLAGGED, None
        if self._is_unchecked:
            verdict = Verdict.UNCHECKED
        elif self._passing and not self._is_unfit:
            # Without a product score, all passing images are equal, and the first is chosen.
            verdict = Verdict.UNMASKED if self._is_unmasked else Verdict.PASSED
            chosen = min(self._passing, key=self._infidelity)
            if self._is_unmasked:
                self._flags.append("the product was not compared: there is no mask")
        thumbs = Thumbs(self._source_thumb, self._mask_thumb, tuple(self._thumbs))
        return Judgment(verdict, chosen, self._flags, self._scores, thumbs)

    def _infidelity(self, index: int) -> tuple[float, float, int]:
        scores = self._scores[index]
        # Rounded, so that invisible differences do not matter.
        return -round(scores.get("ssim", 0.0), 2), round(scores.get("delta_e", 0.0), 1), index


def _listed(words: Sequence[str]) -> str:
    """Return the first words in quotes, shortened."""
    shown = ", ".join(
        repr(word if len(word) <= _MOST_LETTERS else f"{word[:_MOST_LETTERS]}…")
        for word in words[:_MOST_WORDS]
    )
    return shown if len(words) <= _MOST_WORDS else f"{shown} and {len(words) - _MOST_WORDS} more"


def _aspect(image: Sized, source: Sized) -> float:
    return abs(image.width * source.height / (image.height * source.width) - 1)


def _is_met(name: str, score: float, thresholds: Thresholds) -> bool:
    limit: float | None = getattr(thresholds, name, None)
    if limit is None:
        return True
    return score >= limit if MEASURES[name].is_least else score <= limit
