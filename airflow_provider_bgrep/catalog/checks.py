# SPDX-License-Identifier: Apache-2.0
"""Looks at generated pictures before they are published: the product is untouched, the background is new.

Buys nothing, and keeps nothing between two calls: any number of threads may judge at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_bgrep.catalog.judgement import MEASURES, Judgement, Measure, Thresholds, Thumbs

__all__ = ["MEASURES", "Judgement", "Measure", "Thresholds", "Thumbs", "judge"]


def judge(
    source: bytes | None,
    mask: bytes | None,
    candidates: Sequence[bytes],
    thresholds: Thresholds,
    *,
    why_no_source: str = "",
) -> Judgement:
    """Look at an image task's pictures. Hostile or broken files are told of; they do not raise.

    Unchecked is what may come whole another time: a source that cannot be had, a source or mask that cannot
    be decoded. A mask that can and says nothing (black or white all over, of another shape) is flagged: it
    will say no more tomorrow.

    :param source: the source picture; ``None`` if it cannot be had.
    :param mask: its mask; ``None`` if there is none. Then the source's transparency stands for it, if it has
        any; else the product is not compared, and its score ``area`` is 0.
    :param candidates: what was generated.
    :param thresholds: what they are held against.
    :param why_no_source: why there is no source, for people.
    """
    # Here, for it brings scikit-image and SciPy: the task that plans only wants the thresholds.
    from airflow_provider_bgrep.catalog.looking import Look

    look = Look(thresholds)
    look.at_source(source, why_no_source)
    look.at_mask(mask)
    for candidate in candidates:
        look.at_candidate(candidate)
    return look.judgement()
