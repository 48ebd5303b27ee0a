# SPDX-License-Identifier: Apache-2.0
"""Holds an image task's images against their source, and says in words what is wrong with each."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_provider_bgrep.catalog.check.image import (
    Decoded,
    ScaledImage,
    Sized,
    UnreadableError,
    decode,
    thumbnail,
)
from airflow_provider_bgrep.catalog.check.metrics import (
    Reference,
    Regions,
    UnfitMaskError,
    detail,
    everywhere,
    regions,
)
from airflow_provider_bgrep.catalog.config.thresholds import MEASURES, Thresholds
from airflow_provider_bgrep.catalog.model.states import Verdict


@dataclass(frozen=True, slots=True)
class Thumbs:
    """Thumbnails: WebP, the longest side 160 pixels.

    :param source: of the source; ``None`` if it cannot be had.
    :param mask: of the mask; ``None`` if there is none.
    :param candidates: of each image; ``None`` for those that cannot be decoded.
    """

    source: bytes | None = None
    mask: bytes | None = None
    candidates: tuple[bytes | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the checks say of an image task's images.

    :param verdict: passed if at least one image passes.
    :param chosen: the best of those that pass, from 0.
    :param flags: what was found, for people. Images are counted from 1 there.
    :param scores: an image's scores by the names of :data:`MEASURES`; none of one that cannot be decoded.
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
    candidates: Sequence[bytes],
    thresholds: Thresholds,
    *,
    why_no_source: str = "",
) -> Judgement:
    """Look at an image task's images. Hostile or broken files are told of; they do not raise.

    Unchecked is what may come whole another time: a source that cannot be had, a source or mask that cannot
    be decoded. A mask that can and says nothing (black or white all over, of another shape) is flagged: it
    will say no more tomorrow.

    :param source: the source image; ``None`` if it cannot be had.
    :param mask: its mask; ``None`` if there is none. Then the source's transparency stands for it, if it has
        any; else the product is not compared, and its score ``area`` is 0.
    :param candidates: what was generated.
    :param thresholds: what they are held against.
    :param why_no_source: why there is no source, for people.
    """
    look = ImageComparison(thresholds)
    look.at_source(source, why_no_source)
    look.at_mask(mask)
    for candidate in candidates:
        look.at_candidate(candidate)
    return look.judgement()


class ImageComparison:
    """One look at an image task's images: at the source, then at its mask, then at each candidate.

    :param thresholds: what the candidates are held against.
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._flags: list[str] = []
        self._scores: list[dict[str, float]] = []
        self._passing: list[int] = []
        self._is_unchecked = self._is_unfit = False
        self._source: ScaledImage | None = None
        self._reference: Reference | None = None
        self._source_thumb: bytes | None = None
        self._mask_thumb: bytes | None = None
        self._thumbs: list[bytes | None] = []

    def at_source(self, data: bytes | None, why: str) -> None:
        """Look at the source, or say why there is none."""
        if data is None:
            self._is_unchecked = True
            self._flags.append(f"the source could not be had: {why or 'nobody says why'}")
            return
        try:
            self._source = decode(data).shrunk()
        except UnreadableError as error:
            self._is_unchecked = True
            self._flags.append(f"the source {error}")
        else:
            self._source_thumb = thumbnail(self._source.small)

    def at_mask(self, data: bytes | None) -> None:
        """Look where the product is."""
        where = self._regions(data) if data is not None else self._regions_without()
        if self._source is not None:
            self._reference = Reference(self._source.small, where or everywhere(self._source.small.size))

    def _regions(self, data: bytes) -> Regions | None:
        source = self._source
        try:
            mask = decode(data)
            small = mask.shrunk_mask(source.small.size if source else None)
            self._mask_thumb = thumbnail(small)
            if source is None:
                return None
            if not _is_met("aspect", _aspect(mask, source), self._thresholds):
                raise UnfitMaskError(f"is {mask.sides}, another shape than the source's {source.sides}")
            return regions(small)
        except UnreadableError as error:
            self._is_unchecked = True
            self._flags.append(f"the mask {error}")
        except UnfitMaskError as error:
            self._is_unfit = True
            self._flags.append(f"the mask {error}")
        return None

    def _regions_without(self) -> Regions | None:
        """The source's transparency tells the product, if it has any."""
        if self._source is not None and self._source.alpha is not None:
            with contextlib.suppress(UnfitMaskError):
                return regions(self._source.alpha)
        if self._thresholds.need_mask:
            self._is_unfit = True
            self._flags.append("there is no mask: the product cannot be compared (need_mask is true)")
        return None

    def at_candidate(self, data: bytes) -> None:
        """Look at the next candidate."""
        index = len(self._scores)
        self._scores.append({})
        try:
            image = decode(data)
            found = self._measured(image)
        except UnreadableError as error:
            self._thumbs.append(None)
            self._flags.append(f"image {index + 1} {error}")
            return
        scores = {name: round(found[name], 3) for name in MEASURES if name in found}
        self._scores[index] = scores
        missed = [name for name, score in scores.items() if not _is_met(name, score, self._thresholds)]
        self._flags += [f"image {index + 1}: {self._told(name, scores[name], image)}" for name in missed]
        if not missed:
            self._passing.append(index)

    def _measured(self, image: Decoded) -> dict[str, float]:
        source, reference = self._source, self._reference
        scores: dict[str, float] = {}
        if source is not None:
            scores["aspect"] = _aspect(image, source)
            scores["size"] = max(image.width, image.height) / max(source.width, source.height)
        if source is None or reference is None or not _is_met("aspect", scores["aspect"], self._thresholds):
            # Nothing in it lies where it lies in the source.
            small = image.shrunk().small
            scores["detail"] = detail(small, everywhere(small.size).background)
        else:
            small = image.shrunk(source.small.size).small
            scores |= {**reference.measure(small), "area": reference.area}
        self._thumbs.append(thumbnail(small))
        return scores

    def _told(self, name: str, score: float, image: Decoded) -> str:
        measure, limit = MEASURES[name], getattr(self._thresholds, name)
        found = measure.found.format(sides=image.sides, source=self._source.sides if self._source else "")
        return f"{found} ({name} {score:g}, {'at least' if measure.is_least else 'at most'} {limit:g})"

    def judgement(self) -> Judgement:
        """What all of it comes to."""
        if not self._scores:
            self._flags.append("there is no image")
        verdict, chosen = Verdict.FLAGGED, None
        if self._is_unchecked:
            verdict = Verdict.UNCHECKED
        elif self._passing and not self._is_unfit:
            # Where the product is not compared all are equal, and the first is taken.
            verdict, chosen = Verdict.PASSED, min(self._passing, key=self._infidelity)
        thumbs = Thumbs(self._source_thumb, self._mask_thumb, tuple(self._thumbs))
        return Judgement(verdict, chosen, self._flags, self._scores, thumbs)

    def _infidelity(self, index: int) -> tuple[float, float, int]:
        scores = self._scores[index]
        # What nobody can see does not decide.
        return -round(scores.get("ssim", 0.0), 2), round(scores.get("delta_e", 0.0), 1), index


def _aspect(image: Sized, source: Sized) -> float:
    return abs(image.width * source.height / (image.height * source.width) - 1)


def _is_met(name: str, score: float, thresholds: Thresholds) -> bool:
    limit: float | None = getattr(thresholds, name, None)
    if limit is None:
        return True
    return score >= limit if MEASURES[name].is_least else score <= limit
