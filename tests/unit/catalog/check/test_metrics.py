# SPDX-License-Identifier: Apache-2.0
"""Scores of an image: product and background are measured apart, and each damage by its score."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from airflow_provider_bgrep.catalog.check.metrics import (
    Reference,
    Regions,
    UnfitMaskError,
    detail,
    everywhere,
    regions,
)

SIZE = (120, 100)
BOX = (30, 25, 90, 80)


def mask_of(box: tuple[int, int, int, int] = BOX, keep: int = 255, ground: int = 0) -> Image.Image:
    mask = Image.new("L", SIZE, ground)
    mask.paste(keep, box)
    return mask


def noise(seed: int, mean: int = 128) -> Image.Image:
    values = np.random.default_rng(seed).normal(mean, 30, (SIZE[1] // 4, SIZE[0] // 4, 3)).clip(0, 255)
    return Image.fromarray(values.astype(np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)


SOURCE = noise(1)


def result(product: Image.Image = SOURCE, background: Image.Image | None = None) -> Image.Image:
    """A result: a product on another background."""
    return Image.composite(product, background or noise(2, 90), mask_of())


def measure(candidate: Image.Image, where: Regions | None = None) -> dict[str, float]:
    return Reference(SOURCE, where or regions(mask_of())).measure(candidate)


# --- regions ------------------------------------------------------------------------------------------


def test_a_rim_is_cut_off_both():
    found = regions(mask_of())
    assert found.product is not None
    assert not (found.product & found.background).any()
    left, upper, right, lower = BOX
    assert found.product[upper + 4 : lower - 4, left + 4 : right - 4].all()
    assert found.background[: upper - 5].all()
    assert not found.product[upper, left]
    assert not found.background[upper - 1, left - 1]
    assert 0 < Reference(SOURCE, found).area < 0.3


def test_a_thin_product_keeps_enough_to_be_measured():
    found = regions(mask_of((20, 40, 100, 43)))
    assert found.product is not None
    assert found.product.sum() > 50


@pytest.mark.parametrize("keep", [235, 250, 255])
@pytest.mark.parametrize("ground", [0, 20])
def test_nearly_white_and_nearly_black_count(keep, ground):
    found = regions(mask_of(keep=keep, ground=ground))
    assert found.product is not None
    assert found.product.any()
    assert found.background.any()


@pytest.mark.parametrize(
    ("mask", "word"),
    [
        (mask_of(keep=0), "white"),
        (mask_of(keep=128), "128"),
        (mask_of(ground=255), "everywhere"),
        (mask_of((0, 0, 2, 2)), "white"),
        (mask_of(ground=128), "background"),
    ],
    ids=["black", "gray", "white", "speck", "gray ground"],
)
def test_a_mask_without_product_or_background_is_unfit(mask, word):
    with pytest.raises(UnfitMaskError) as caught:
        regions(mask)
    assert word in str(caught.value)


def test_without_a_mask_everything_is_background():
    found = everywhere(SIZE)
    assert found.product is None
    assert found.background.shape == SIZE[::-1]
    assert found.background.all()
    assert Reference(SOURCE, found).area == 0
    assert measure(SOURCE, found).keys() == {"background_changed", "detail"}


# --- scores -------------------------------------------------------------------------------------------


def test_an_untouched_product_has_the_best_scores():
    found = measure(result())
    assert (found["ssim"], found["ssim_low"]) == (pytest.approx(1), pytest.approx(1))
    assert (found["delta_e"], found["delta_e_high"], found["psnr"]) == (0, 0, 100)
    assert found["background_changed"] > 5


def test_the_source_itself_has_an_unchanged_background():
    assert measure(SOURCE)["background_changed"] == 0


def damaged(how: str) -> Image.Image:
    product = SOURCE.copy()
    if how == "blurred":
        product = product.filter(ImageFilter.GaussianBlur(3))
    elif how == "patched":
        product.paste((255, 0, 0), (50, 45, 62, 57))
    elif how == "darker":
        product = ImageEnhance.Brightness(product).enhance(0.6)
    else:
        product = Image.merge("RGB", product.split()[::-1])
    return result(product)


@pytest.mark.parametrize(
    ("how", "name"),
    [("blurred", "ssim"), ("blurred", "ssim_low"), ("patched", "ssim_low"), ("darker", "psnr")],
)
def test_a_damage_lowers_its_score(how, name):
    assert measure(damaged(how))[name] < 0.85 * measure(result())[name]


@pytest.mark.parametrize(
    ("how", "name"), [("darker", "delta_e"), ("hue", "delta_e"), ("patched", "delta_e_high")]
)
def test_a_change_of_color_raises_its_score(how, name):
    assert measure(damaged(how))[name] > 5


def test_a_patch_is_found_where_the_mean_hardly_changes():
    found = measure(damaged("patched"))
    assert found["delta_e_high"] > 4 * found["delta_e"]
    assert found["ssim_low"] < found["ssim"]


def test_the_background_says_nothing_about_the_product():
    one, other = (measure(result(background=noise(seed, 60 * seed))) for seed in (1, 3))
    for name in ("delta_e", "delta_e_high", "psnr"):
        assert one[name] == other[name]
    assert one["ssim"] == pytest.approx(other["ssim"], abs=0.01)


def test_detail_is_the_spread_of_brightness_in_a_region():
    where = regions(mask_of()).background
    assert detail(Image.new("RGB", SIZE, "gray"), where) == 0
    assert detail(result(background=Image.new("RGB", SIZE, "gray")), where) == 0
    assert detail(noise(2), where) > 10
