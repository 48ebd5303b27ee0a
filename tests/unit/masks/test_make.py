# SPDX-License-Identifier: Apache-2.0
"""The mask of one image file: right where it says that it is certain, and doubtful where it is not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from bgrep_harness.cutouts import BACKGROUNDS, busy, drawn_product, even, on_background
from PIL import Image

from airflow_provider_bgrep.images.decode import UnreadableError, load, sides_of
from airflow_provider_bgrep.images.polarity import overlap
from airflow_provider_bgrep.masks.confidence import ENOUGH
from airflow_provider_bgrep.masks.make import MaskMethod, make_mask


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_product_on_a_plain_background_is_cut_out(name):
    product = drawn_product()
    made = make_mask(on_background(product, BACKGROUNDS[name]))
    assert overlap(np.asarray(made.image) >= 128, product.is_kept) > 0.97
    assert made.confidence >= ENOUGH, made.doubts
    assert made.method is MaskMethod.PLAIN
    assert made.area == pytest.approx(product.alpha.mean(), rel=0.03)


@pytest.mark.parametrize("background", [busy, even(255, 255, 255)], ids=["busy", "nearly of its color"])
def test_what_cannot_be_told_apart_is_doubtful(background):
    made = make_mask(on_background(drawn_product(color="#f9f9f9"), background))
    assert made.confidence < ENOUGH
    assert made.doubts


def test_transparency_is_the_mask():
    product = drawn_product()
    pixels = np.dstack([product.colors, product.alpha * 255]).astype(np.uint8)
    made = make_mask(png(Image.fromarray(pixels)))
    assert (made.method, made.confidence) == (MaskMethod.ALPHA, 1.0)
    assert np.array_equal(np.asarray(made.image), pixels[:, :, 3])


def test_transparency_that_is_opaque_is_ignored():
    product = drawn_product()
    image = Image.open(io.BytesIO(on_background(product, even(255, 255, 255)))).convert("RGBA")
    made = make_mask(png(image))
    assert made.method is MaskMethod.PLAIN
    assert overlap(np.asarray(made.image) >= 128, product.is_kept) > 0.97


def test_an_image_that_is_all_transparent_is_doubtful():
    made = make_mask(png(Image.new("RGBA", (480, 480), (0, 0, 0, 0))))
    assert (made.method, made.confidence) == (MaskMethod.ALPHA, 0.0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_stored_as_its_image_is(orientation):
    product = drawn_product()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = on_background(product, even(255, 255, 255), exif=exif.tobytes())
    made = make_mask(data)
    file = made.file(data)
    assert sides_of(file) == sides_of(data)
    stored = Image.open(io.BytesIO(file))
    assert overlap(np.asarray(stored) >= 128, product.is_kept) > 0.97, "whoever ignores EXIF"
    assert np.array_equal(np.asarray(load(file)), np.asarray(made.image)), "whoever does not"


@pytest.mark.parametrize("size", [(399, 500), (500, 4097)])
def test_sides_that_the_service_refuses_are_named(size):
    with pytest.raises(UnreadableError, match=f"{size[0]} x {size[1]}"):
        make_mask(png(Image.new("RGB", size, "white")))


def test_an_image_without_a_product_is_doubtful():
    made = make_mask(png(Image.new("RGB", (480, 640), "white")))
    assert (made.confidence, made.area) == (0.0, 0.0)
    assert made.image.size == (480, 640)
