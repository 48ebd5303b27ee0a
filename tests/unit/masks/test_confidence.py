# SPDX-License-Identifier: Apache-2.0
"""The confidence of a mask: each measure is tripped by an image, and left alone by its neighbor."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from bgrep_harness.cutouts import busy, drawn_product, even, on_background
from PIL import Image

from airflow_provider_bgrep.images.polarity import overlap
from airflow_provider_bgrep.masks.confidence import ENOUGH, MEASURES, Measure, confidence_of
from airflow_provider_bgrep.masks.plain import segment

WHITE = even(255, 255, 255)


def judged(product, background=WHITE, **how):
    return confidence_of(
        segment(np.asarray(Image.open(io.BytesIO(on_background(product, background, **how)))))
    )


def moved(product, down):
    """A product that is cut off by an edge of its image."""
    return replace(product, colors=np.roll(product.colors, down, 0), alpha=np.roll(product.alpha, down, 0))


def scaled(product, share):
    side = product.alpha.shape[0]
    size = round(side * share)
    small = Image.fromarray((product.alpha * 255).astype(np.uint8)).resize((size, size))
    alpha = np.zeros_like(product.alpha)
    start = (side - size) // 2
    alpha[start : start + size, start : start + size] = np.asarray(small, np.float32) / 255
    return replace(product, alpha=alpha)


def test_a_measure_counts_proportionally():
    measure = Measure(0.8, 0.4, "{}")
    assert [measure.share(value) for value in (1, 0.8, 0.4, 0.1)] == [1, 1, 0, 0]
    assert measure.share(0.6) == pytest.approx(0.5)
    assert Measure(1, 3, "{}").share(2) == 0.5


def test_a_product_that_is_clear_has_no_doubts():
    found = judged(drawn_product())
    assert (found.value, found.doubts) == (1.0, ())
    assert found.measures.keys() == MEASURES.keys()


@pytest.mark.parametrize(
    ("name", "product", "background"),
    [
        ("contrast", drawn_product(color="#f5f5f5"), WHITE),
        ("faint_edges", drawn_product(color="#f9f9f9"), WHITE),
        ("noise", drawn_product(), busy),
        ("smallest", scaled(drawn_product(), 0.1), WHITE),
    ],
    ids=["contrast", "faint_edges", "noise", "smallest"],
)
def test_each_doubt_is_named(name, product, background):
    found = judged(product, background)
    assert MEASURES[name].share(found.measures[name]) < 1
    assert found.value < ENOUGH


def test_a_product_may_stand_on_the_edge_of_its_image():
    assert judged(moved(drawn_product(), 118)).value >= ENOUGH


@pytest.mark.parametrize("level", [0xF9, 0xF5, 0xF0, 0xE8, 0xD0])
def test_a_pale_product_is_whole_or_doubtful(level):
    product = drawn_product(color=f"#{level:02x}{level:02x}{level:02x}")
    found = segment(np.asarray(Image.open(io.BytesIO(on_background(product, WHITE)))))
    is_whole = overlap(found.product, product.is_kept) > 0.9
    assert is_whole is (confidence_of(found).value >= ENOUGH)


def test_no_product_has_no_confidence():
    product = drawn_product()
    found = judged(replace(product, alpha=product.alpha * 0))
    assert (found.value, found.doubts) == (0.0, ("no product was found",))


@pytest.mark.parametrize("level", [255, 240, 200])
def test_neighbors_of_white_are_sure_too(level):
    assert judged(drawn_product(), even(level, level, level)).value >= ENOUGH


@pytest.mark.parametrize("quality", [40, 70, 95])
def test_compression_is_not_a_doubt(quality):
    assert judged(drawn_product(), quality=quality).value >= ENOUGH
