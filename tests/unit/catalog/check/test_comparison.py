# SPDX-License-Identifier: Apache-2.0
"""A product that was touched is flagged, whatever was done to it; one that was only compressed is not."""

from __future__ import annotations

import functools
import io
import json
import math
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from airflow_provider_bgrep.catalog.check.comparison import Judgment, judge
from airflow_provider_bgrep.catalog.config.thresholds import MEASURES, Thresholds
from airflow_provider_bgrep.catalog.model.states import Verdict
from airflow_provider_bgrep.emulator.render.compose import compose
from airflow_provider_bgrep.emulator.samples import PROMPTS, drawn

PRODUCTS = ("bottle", "chair", "lamp")
"""Glossy and of one piece; thin and nearly white; smooth and large."""


# --- images ---------------------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **({"compress_level": 1} if kind == "PNG" else {}), **how)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@functools.cache
def sample(name: str) -> tuple[bytes, bytes]:
    """A product's image and its mask."""
    return drawn(f"{name}.jpg")[0], drawn(f"{name}-mask.png")[0]


@functools.cache
def generated(name: str, number: int = 0) -> bytes:
    """What the emulator makes of it."""
    task = {
        "positive_prompt": PROMPTS[name],
        "guidance_scale": 7.5,
        "strength": 0.5,
        "steps": 50,
        "seed": 7,
    }
    return compose(*sample(name), task, number, "")


class Scene:
    """A product's source, mask and what was generated, as images to spoil."""

    def __init__(self, name: str) -> None:
        source, mask = sample(name)
        self.source, self.mask = opened(source).convert("RGB"), opened(mask)
        self.out = opened(generated(name)).convert("RGB")
        self.width, self.height = self.source.size

    def with_product(self, product: Image.Image, mask: Image.Image | None = None) -> Image.Image:
        out = self.out.copy()
        out.paste(product, mask=mask or self.mask)
        return out

    def on(self, background: Image.Image | str) -> Image.Image:
        ground = Image.new("RGB", self.source.size, background) if isinstance(background, str) else background
        ground.paste(self.source, mask=self.mask)
        return ground

    def patched(self, draw: Callable[[ImageDraw.ImageDraw, tuple[int, int, int, int]], None]) -> Image.Image:
        """Something painted on 3 % of the product, where it is widest."""
        inside = np.asarray(self.mask) >= 128
        side = int((inside.sum() * 0.03) ** 0.5)
        blurred = np.asarray(self.mask.filter(ImageFilter.BoxBlur(side // 2 + 4)))
        y, x = np.unravel_index(int(blurred.argmax()), blurred.shape)
        product = self.source.copy()
        box = (int(x) - side // 2, int(y) - side // 2, int(x) + side // 2, int(y) + side // 2)
        draw(ImageDraw.Draw(product), box)
        return self.with_product(product)


@functools.cache
def scene(name: str) -> Scene:
    return Scene(name)


def resized(image: Image.Image, scale: float) -> Image.Image:
    size = round(image.width * scale), round(image.height * scale)
    return image.resize(size, Image.Resampling.LANCZOS)


def shifted(image: Image.Image, right: float) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, (1, 0, -right, 0, 1, 0), Image.Resampling.BICUBIC
    )


def lit(image: Image.Image, red: float, green: float, blue: float) -> Image.Image:
    levels = np.asarray(image).astype(np.float32) * np.array((red, green, blue), np.float32)
    return Image.fromarray((levels + 0.5).clip(0, 255).astype(np.uint8))


def recolored(image: Image.Image, degrees: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.asarray(hue).astype(int) + round(degrees / 360 * 256)) % 256
    hue = Image.fromarray(turned.astype(np.uint8))
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def jpeg(image: Image.Image, quality: int = 75) -> bytes:
    return encoded(image, "JPEG", quality=quality)


def look(name: str, *candidates: bytes, **thresholds: Any) -> Judgment:
    return judge(*sample(name), candidates, Thresholds(**thresholds))


# --- what passes ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", PROMPTS)
def test_the_emulators_image_of_each_sample_passes_by_a_margin(name):
    found = look(name, generated(name))
    assert (found.verdict, found.chosen, found.flags) == (Verdict.PASSED, 0, [])
    (scores,) = found.scores
    assert scores["ssim"] >= 0.99
    assert scores["ssim_low"] >= 0.95
    assert scores["delta_e"] <= 0.5
    assert scores["delta_e_high"] <= 2.5
    assert scores["background_changed"] >= 3 * MEASURES["background_changed"].default
    assert scores["detail"] >= 3 * MEASURES["detail"].default
    assert (scores["aspect"], scores["size"]) == (0.0, 1.0)
    assert 0.05 < scores["area"] < 0.5


ALLOWED: dict[str, Callable[[Scene], bytes]] = {
    "as JPEG of quality 75": lambda it: jpeg(it.out),
    "as WebP": lambda it: encoded(it.out, "WEBP", quality=75),
    "smaller": lambda it: encoded(resized(it.out, 0.9)),
    "smaller, as JPEG": lambda it: jpeg(resized(it.out, 0.9)),
    "larger": lambda it: jpeg(resized(it.out, 1.5)),
    "moved by half a pixel": lambda it: jpeg(it.with_product(shifted(it.source, 0.5)), 85),
    "a little darker": lambda it: jpeg(it.with_product(lit(it.source, 0.95, 0.95, 0.95)), 85),
    "a little warmer": lambda it: jpeg(it.with_product(lit(it.source, 1.03, 1.0, 0.96)), 85),
    "blended at its edge": lambda it: encoded(
        it.with_product(it.source, ImageChops.darker(it.mask, it.mask.filter(ImageFilter.GaussianBlur(1.5))))
    ),
    "with rounded sides": lambda it: encoded(it.out.resize((it.width - 4, it.height))),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("how", ALLOWED)
def test_what_a_service_may_do_passes(name, how):
    found = look(name, ALLOWED[how](scene(name)))
    assert (found.verdict, found.flags) == (Verdict.PASSED, [])


# --- what does not ----------------------------------------------------------------------------------


def stain(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int]) -> None:
    draw.ellipse(box, fill=(245, 245, 245), outline=(20, 20, 20), width=max(2, (box[2] - box[0]) // 10))


def word(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int]) -> None:
    step = max(3, (box[2] - box[0]) // 6)
    for left in range(box[0], box[2], 2 * step):
        draw.rectangle((left, box[1], left + step, box[3]), fill=(30, 30, 30))


def without_thin_parts(it: Scene) -> Image.Image:
    """Chair legs, a handle, a knob: what a wide brush does not reach into is background."""
    kept = it.mask.filter(ImageFilter.MinFilter(25)).filter(ImageFilter.MaxFilter(29))
    gone = ImageChops.darker(it.mask, ImageChops.invert(kept))
    return Image.composite(it.out.transpose(Image.Transpose.FLIP_TOP_BOTTOM), it.out, gone)


TOUCHED: dict[str, tuple[Callable[[Scene], Image.Image], str]] = {
    "recolored": (lambda it: it.with_product(recolored(it.source, 20)), "color of a part of the product"),
    "recolored, the other way": (lambda it: it.with_product(recolored(it.source, -20)), "delta_e_high"),
    "darkened": (lambda it: it.with_product(lit(it.source, 0.8, 0.8, 0.8)), "colors have changed"),
    "blurred": (
        lambda it: it.with_product(it.source.filter(ImageFilter.GaussianBlur(it.width * 0.005))),
        "a part of the product has changed",
    ),
    "moved": (lambda it: it.with_product(shifted(it.source, 0.03 * it.width)), "the product has changed"),
    "moved with its edge": (
        lambda it: it.with_product(shifted(it.source, 0.03 * it.width), shifted(it.mask, 0.03 * it.width)),
        "the product has changed",
    ),
    "replaced": (
        lambda it: it.with_product(scene("sneaker").source),
        "the product has changed",
    ),
    "a logo on it": (lambda it: it.patched(stain), "a part of the product has changed (ssim_low"),
    "a word on it": (lambda it: it.patched(word), "a part of the product has changed (ssim_low"),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("how", TOUCHED)
def test_a_product_that_was_touched_is_flagged_in_words(name, how):
    spoil, words = TOUCHED[how]
    found = look(name, encoded(spoil(scene(name))))
    assert (found.verdict, found.chosen) == (Verdict.FLAGGED, None)
    assert any(flag.startswith("image 1: ") and words in flag for flag in found.flags), found.flags


@pytest.mark.slow
def test_a_chair_without_its_executions_is_flagged():
    found = look("chair", encoded(without_thin_parts(scene("chair"))))
    assert found.verdict is Verdict.FLAGGED
    assert "a part of the product has changed" in found.flags[0]


def crafted_bomb(side: int) -> bytes:
    """A PNG whose header says more than there is."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


WRONG: dict[str, tuple[Callable[[Scene], bytes], str]] = {
    "the source": (lambda it: encoded(it.source), "the background is still the source's (background_changed"),
    "the source, as JPEG": (lambda it: jpeg(it.source), "the background is still the source's"),
    "the source, darker": (lambda it: jpeg(lit(it.source, 0.99, 0.99, 0.99)), "still the source's"),
    "on a flat color": (lambda it: encoded(it.on("navy")), "the background is blank (detail 0, at least 1)"),
    "on white, as JPEG": (lambda it: jpeg(it.on("white")), "the background is blank"),
    "blank": (lambda it: encoded(Image.new("RGB", it.source.size, "gray")), "the background is blank"),
    "white": (lambda it: encoded(Image.new("RGB", it.source.size, "white")), "the background is blank"),
    "transparent": (
        lambda it: encoded(Image.merge("RGBA", (*it.source.split(), it.mask))),
        "the background is blank",
    ),
    "cropped": (
        lambda it: encoded(it.out.crop((0, 0, round(it.width * 0.9), it.height))),
        "it is 810 x 900, with another aspect ratio than the source (900 x 900) (aspect 0.1, at most 0.02)",
    ),
    "half as large": (
        lambda it: encoded(resized(it.out, 0.5)),
        "it is 450 x 450, smaller than the source (900 x 900) (size 0.5, at least 0.7)",
    ),
    "a part of a PNG": (lambda it: encoded(it.out)[:-20_000], "image 1 is incomplete or damaged"),
    "a part of a JPEG": (lambda it: jpeg(it.out)[:-20_000], "image 1 is incomplete or damaged"),
    "a part of a WebP": (lambda it: encoded(it.out, "WEBP")[:-9000], "image 1 is incomplete or damaged"),
    "a PNG's beginning": (lambda it: encoded(it.out)[:20], "image 1 is incomplete or damaged"),
    "noise": (lambda it: bytes(range(256)) * 40, "image 1 is not an image, or is damaged from its beginning"),
    "a web page": (
        lambda it: b"\n<!DOCTYPE html><html><body>502 Bad Gateway</body></html>",
        "image 1 is not an image, but text such as a web page",
    ),
    "a message": (lambda it: b'{"code": 23500000}', "image 1 is not an image, but text such as a web page"),
    "nothing": (lambda it: b"", "image 1 is empty or missing"),
    "a bomb": (lambda it: crafted_bomb(60_000), "more pixels than are safe to decode: more than any image"),
    "a small bomb": (
        lambda it: crafted_bomb(7_000),
        "image 1 has 7000 x 7000 pixels: more than any image",
    ),
    "a line": (lambda it: encoded(Image.new("RGB", (4000, 5))), "image 1 is 4000 x 5: too narrow"),
    "a dot": (lambda it: encoded(Image.new("RGB", (1, 1))), "image 1 is 1 x 1: too narrow"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_an_image_is_flagged_in_words(what):
    make, words = WRONG[what]
    found = look("bottle", make(scene("bottle")))
    assert (found.verdict, found.chosen) == (Verdict.FLAGGED, None)
    assert any(words in flag for flag in found.flags), found.flags


def test_a_warning_that_is_an_error_is_reported_too():
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        found = look("bottle", crafted_bomb(10_000))
    (flag,) = found.flags
    assert flag.startswith("image 1 has more pixels than are safe to decode: more than any image")


APART = {"need_mask", "label_text", "halo"}
"""Not a score; needs a reader; every image has the best one."""


@pytest.mark.parametrize("name", [field.name for field in fields(Thresholds) if field.name not in APART])
def test_each_threshold_flags_by_its_name(name):
    """Held against more than any image reaches, and against what every image reaches."""
    measure = MEASURES[name]
    hard, easy = measure.highest, measure.lowest
    if not measure.is_least:
        hard, easy = easy, hard
    candidate = jpeg(resized(scene("bottle").out.crop((0, 0, 900, 899)), 0.95))
    found = look("bottle", candidate, **{name: hard})
    assert found.verdict is Verdict.FLAGGED
    (flag,) = found.flags
    assert (
        f"({name} {found.scores[0][name]:g}, at {'least' if measure.is_least else 'most'} {hard:g})" in flag
    )
    assert look("bottle", candidate, **{name: easy}).verdict is Verdict.PASSED


# --- thin parts, and what is left along the edge ----------------------------------------------------


def test_a_ring_is_compared_along_all_of_its_length():
    """A wide rim would leave a few pixels of it, where it is level or upright."""
    it = scene("bottle")
    mask = Image.new("L", it.source.size, 0)
    ImageDraw.Draw(mask).ellipse((200, 200, 700, 700), outline=255, width=15)

    def with_ring(ground: Image.Image, spot: int) -> bytes:
        image = ground.copy()
        image.paste("goldenrod", mask=mask)
        diagonal = (450 - spot + 250 * 0.7, 450 - spot + 250 * 0.7, 450 + 250 * 0.7, 450 + 250 * 0.7)
        image.paste("black", tuple(map(round, diagonal)), mask.crop(tuple(map(round, diagonal))))
        return encoded(image)

    files = encoded(it.source), with_ring(it.source, 0), encoded(mask)
    found = judge(files[1], files[2], [with_ring(it.out, 0), with_ring(it.out, 40)], Thresholds())
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 0), found.flags
    assert any(flag.startswith("image 2: ") for flag in found.flags)
    assert found.scores[0]["area"] > 0.3 * (np.asarray(mask) > 0).mean()


def test_thin_parts_of_a_wide_product_are_compared():
    it = scene("bottle")
    mask = Image.new("L", it.source.size, 0)
    draw = ImageDraw.Draw(mask)
    draw.rectangle((250, 500, 650, 800), fill=255)
    draw.line((300, 100, 300, 500), fill=255, width=11)

    def drawn_on(ground: Image.Image, handle: str) -> bytes:
        image = ground.copy()
        image.paste("steelblue", mask=mask)
        image.paste(handle, (290, 100, 311, 495), mask.crop((290, 100, 311, 495)))
        return encoded(image)

    candidates = [drawn_on(it.out, "steelblue"), drawn_on(it.out, "firebrick")]
    found = judge(drawn_on(it.source, "steelblue"), encoded(mask), candidates, Thresholds())
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 0), found.flags
    assert any(flag.startswith("image 2: ") for flag in found.flags)


def with_halo(it: Scene, pixels: int) -> bytes:
    wide = it.mask.filter(ImageFilter.BoxBlur(pixels)).point(lambda value: 255 if value else 0)
    return encoded(it.with_product(it.source, wide if pixels else it.mask))


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_ring_of_the_old_background_is_flagged(name):
    it = scene(name)
    found = look(name, *(with_halo(it, pixels) for pixels in (0, 14, 30)))
    assert found.chosen == 0
    scores = [one["halo"] for one in found.scores]
    assert scores[0] < 0.2
    assert min(scores[1:]) > 0.8
    for number in (2, 3):
        words = f"image {number}: the source's background is left around the product (halo "
        assert any(flag.startswith(words) for flag in found.flags)


def test_a_shadow_on_a_dark_source_is_not_a_ring():
    it = scene("bottle")
    dark = it.source.copy()
    dark.paste((12, 12, 14), mask=ImageChops.invert(it.mask))
    around = it.mask.filter(ImageFilter.GaussianBlur(20)).point(lambda value: min(255, value * 2))
    shadow = Image.composite(Image.new("RGB", it.out.size, (10, 10, 10)), it.out, around)
    shadow.paste(it.source, mask=it.mask)
    found = judge(encoded(dark), encoded(it.mask), [encoded(shadow)], Thresholds())
    assert found.scores[0]["halo"] == 0.0


# --- several images -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_image_that_keeps_the_product_best_is_chosen():
    it = scene("bottle")
    found = look(
        "bottle",
        jpeg(resized(it.out, 0.8), 40),
        encoded(it.patched(stain)),
        generated("bottle", 1),
        b"<html>",
    )
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 2)
    assert [flag[:7] for flag in found.flags] == ["image 2"] * (len(found.flags) - 1) + ["image 4"]
    assert [bool(scores) for scores in found.scores] == [True, True, True, False]
    assert [thumb is None for thumb in found.thumbs.candidates] == [False, False, False, True]


def test_of_equals_the_first_is_chosen():
    broken, good = b"", generated("bottle")
    assert look("bottle", broken, good, good, generated("bottle", 1)).chosen == 1


def test_no_image_at_all_is_flagged():
    found = look("bottle")
    assert (found.verdict, found.scores) == (Verdict.FLAGGED, [])
    assert found.flags == ["there is no generated image"]


# --- source and mask --------------------------------------------------------------------------------


def test_without_a_source_the_verdict_is_unchecked_with_a_reason():
    mask = sample("bottle")[1]
    candidates = [generated("bottle"), b"<html>"]
    found = judge(None, mask, candidates, Thresholds(), why_no_source="the host answers 404")
    assert (found.verdict, found.chosen) == (Verdict.UNCHECKED, None)
    assert found.flags[0] == "the source could not be fetched: the host answers 404"
    assert "image 2 is not an image" in found.flags[1]
    assert list(found.scores[0]) == ["detail"]
    assert found.thumbs.source is None
    assert found.thumbs.mask
    assert found.thumbs.candidates[0]


@pytest.mark.parametrize("broken", [b"<html>", b"", sample("bottle")[0][:9000], crafted_bomb(7_000)])
def test_a_source_that_cannot_be_decoded_leaves_it_unchecked(broken):
    found = judge(broken, sample("bottle")[1], [generated("bottle")], Thresholds())
    assert (found.verdict, found.chosen) == (Verdict.UNCHECKED, None)
    assert found.flags[0].startswith("the source ")


@pytest.mark.parametrize("broken", [b"<html>", b"", sample("bottle")[1][:2000]])
def test_a_mask_that_cannot_be_decoded_leaves_it_unchecked(broken):
    found = judge(sample("bottle")[0], broken, [generated("bottle")], Thresholds())
    assert (found.verdict, found.chosen) == (Verdict.UNCHECKED, None)
    assert found.flags[0].startswith("the mask ")
    assert found.scores[0]["area"] == 0.0


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (Image.new("L", (900, 900), 0), "the mask has no white area"),
        (Image.new("L", (900, 900), 128), "the mask is gray (its brightest value is 128)"),
        (Image.new("L", (900, 900), 255), "the mask is white everywhere"),
        (Image.new("RGBA", (900, 900), (0, 0, 0, 255)), "the mask has no white area"),
        (Image.new("RGBA", (900, 900), (255, 255, 255, 0)), "the mask has no white area"),
        (Image.new("L", (900, 600), 255), "the mask is 900 x 600, with another aspect ratio than the source"),
    ],
)
def test_an_uninformative_mask_is_flagged(mask, words):
    found = judge(sample("bottle")[0], encoded(mask), [generated("bottle")], Thresholds())
    assert (found.verdict, found.chosen) == (Verdict.FLAGGED, None)
    assert words in found.flags[0]
    assert found.thumbs.mask


@pytest.mark.parametrize("white", [60, 200])
def test_a_gray_mask_is_named(white):
    """E3: the product is gray instead of white, on black."""
    source, mask = sample("bottle")
    gray = opened(mask).convert("L").point(lambda value: value * white // 255)
    found = judge(source, encoded(gray), [generated("bottle")], Thresholds())
    assert (found.verdict, found.chosen) == (Verdict.FLAGGED, None)
    assert f"the mask is gray (its brightest value is {white})" in found.flags[0]


def bars(mask: Image.Image) -> Image.Image:
    """A mask of 16 to 235, as video has black and white."""
    return mask.point(lambda value: 16 + value * 219 // 255)


FORMS: dict[str, Callable[[Image.Image], bytes]] = {
    "one channel": encoded,
    "three channels": lambda mask: encoded(mask.convert("RGB")),
    "alpha": lambda mask: encoded(Image.merge("RGBA", (mask, mask, mask, mask))),
    "a cut-out's alpha": lambda mask: drawn("bottle-mask-rgba.png")[0],
    "three channels and an alpha that says nothing": lambda mask: encoded(mask.convert("RGBA")),
    "gray and alpha": lambda mask: encoded(Image.merge("LA", (mask, mask))),
    "one bit": lambda mask: encoded(mask.convert("1")),
    "a palette": lambda mask: encoded(mask.convert("P")),
    "16 bits": lambda mask: encoded(Image.fromarray(np.asarray(mask).astype(np.uint16) * 257)),
    "JPEG": lambda mask: jpeg(mask, 50),
    "JPEG, three channels": lambda mask: jpeg(mask.convert("RGB"), 75),
    "WebP": lambda mask: encoded(mask.convert("RGB"), "WEBP", quality=60),
    "video's black and white": lambda mask: encoded(bars(mask)),
    "half as large": lambda mask: encoded(resized(mask, 0.5)),
    "a third as large, nearest": lambda mask: encoded(mask.resize((300, 300), Image.Resampling.NEAREST)),
    "twice as large": lambda mask: encoded(resized(mask, 2)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_mask_selects_the_product(form):
    """E3: an opaque alpha channel included."""
    source, mask = sample("bottle")
    same = FORMS[form](opened(mask))
    good, bad = generated("bottle"), encoded(scene("bottle").patched(stain))
    found = judge(source, same, [good, bad], Thresholds())
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 0), found.flags
    assert any(flag.startswith("image 2: a part of the product") for flag in found.flags)
    usual = look("bottle", good, bad)
    assert found.scores[0]["area"] == pytest.approx(usual.scores[0]["area"], rel=0.1)


def test_without_a_mask_all_but_the_product_is_checked():
    it = scene("bottle")
    candidates = [encoded(it.patched(stain)), encoded(it.source), encoded(resized(it.out, 0.5))]
    found = judge(sample("bottle")[0], None, candidates, Thresholds())
    assert (found.verdict, found.chosen) == (Verdict.UNMASKED, 0)
    assert [flag[:9] for flag in found.flags] == ["image 2: ", "image 3: ", "the produ"]
    assert all(scores["area"] == 0.0 and "ssim" not in scores for scores in found.scores)
    assert found.thumbs.mask is None


def test_without_a_mask_a_failed_check_is_flagged():
    it = scene("bottle")
    found = judge(sample("bottle")[0], None, [encoded(it.source)], Thresholds())
    assert (found.verdict, found.chosen) == (Verdict.FLAGGED, None)


def test_a_mask_can_be_asked_for():
    source, mask = sample("bottle")
    found = judge(source, None, [generated("bottle")], Thresholds(need_mask=True))
    assert (found.verdict, found.chosen) == (Verdict.FLAGGED, None)
    assert found.flags == ["there is no mask, so the product cannot be compared (need_mask is true)"]
    assert judge(source, mask, [generated("bottle")], Thresholds(need_mask=True)).chosen == 0


def test_the_sources_own_transparency_stands_for_a_mask():
    cut = drawn("bottle-mask-rgba.png")[0]
    candidates = [encoded(scene("bottle").patched(stain)), generated("bottle")]
    found = judge(cut, None, candidates, Thresholds(need_mask=True))
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 1)
    assert found.scores[1]["area"] > 0.2
    assert {flag[:7] for flag in found.flags} == {"image 1"}


@pytest.mark.parametrize("alpha", [0, 255])
def test_an_uninformative_alpha_channel_is_not_a_mask(alpha):
    image = scene("bottle").source.convert("RGBA")
    image.putalpha(alpha)
    found = judge(encoded(image), None, [generated("bottle")], Thresholds())
    assert (found.verdict, found.scores[0]["area"]) == (Verdict.UNMASKED, 0.0)


@pytest.mark.parametrize("width", [5, 9, 13])
def test_a_product_as_thin_as_a_chain_is_compared(width):
    it = scene("bottle")
    mask = Image.new("L", it.source.size, 0)
    ImageDraw.Draw(mask).arc((200, 200, 700, 700), 0, 360, fill=255, width=width)
    mask = mask.filter(ImageFilter.GaussianBlur(0.7))

    def with_chain(ground: Image.Image, color: str) -> bytes:
        image = ground.copy()
        image.paste(Image.new("RGB", image.size, color), mask=mask)
        return encoded(image)

    candidates = [with_chain(it.out, "gold"), with_chain(it.out, "orange"), encoded(it.out)]
    found = judge(with_chain(it.source, "gold"), encoded(mask), candidates, Thresholds())
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 0), found.flags
    for number in (2, 3):
        assert any(flag.startswith(f"image {number}: the product's colors") for flag in found.flags)


# --- images of every make -------------------------------------------------------------------------


def turned(image: Image.Image, orientation: int, back: Image.Transpose) -> bytes:
    """A JPEG that is rotated, and says so."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image.transpose(back), "JPEG", quality=95, exif=exif)


def test_exif_orientation_is_applied():
    it = scene("bottle")
    box = (100, 0, 800, 900)
    lying = turned(it.source.crop(box), 6, Image.Transpose.ROTATE_90)
    mask = encoded(it.mask.crop(box))
    upright = it.out.crop(box)
    candidates = [
        encoded(upright),
        turned(upright, 8, Image.Transpose.ROTATE_270),
        encoded(upright.transpose(Image.Transpose.ROTATE_90)),
    ]
    found = judge(lying, mask, candidates, Thresholds())
    assert (found.verdict, found.chosen) == (Verdict.PASSED, 0)
    (flag,) = found.flags
    assert flag.startswith("image 3: it is 900 x 700, with another aspect ratio than the source (700 x 900)")
    for thumb in (found.thumbs.source, found.thumbs.mask, *found.thumbs.candidates[:2]):
        assert opened(thumb).size == (199, 256)
    assert opened(found.thumbs.candidates[2]).size == (256, 199)


def test_a_square_image_that_is_on_its_side_is_flagged():
    found = look("bottle", encoded(scene("bottle").out.transpose(Image.Transpose.ROTATE_90)))
    assert found.verdict is Verdict.FLAGGED


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_does_not_stop_the_comparison():
    data = encoded(scene("bottle").out, "JPEG", quality=95, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert look("bottle", data).verdict is Verdict.PASSED


def many(image: Image.Image, kind: str, **how: Any) -> bytes:
    other = Image.new("RGB", image.size, "red")
    return encoded(image, kind, save_all=True, append_images=[other, other], duration=100, **how)


MAKES: dict[str, tuple[Callable[[Image.Image], bytes], bool]] = {
    # how it is made, and whether the colors survive that
    "CMYK, JPEG": (lambda image: encoded(image.convert("CMYK"), "JPEG", quality=95), True),
    "CMYK, TIFF": (lambda image: encoded(image.convert("CMYK"), "TIFF"), True),
    "YCbCr, TIFF": (lambda image: encoded(image.convert("YCbCr"), "TIFF", compression="jpeg"), True),
    "opaque RGBA": (lambda image: encoded(image.convert("RGBA")), True),
    "BMP": (lambda image: encoded(image, "BMP"), True),
    "progressive": (lambda image: encoded(image, "JPEG", quality=95, progressive=True), True),
    "several frames, PNG": (lambda image: many(image, "PNG"), True),
    "several frames, WebP": (lambda image: many(image, "WEBP", quality=95), True),
    "several pages, TIFF": (lambda image: many(image, "TIFF"), True),
    "several frames, GIF": (lambda image: many(image, "GIF"), False),
    "palette": (lambda image: encoded(image.convert("P", palette=Image.Palette.ADAPTIVE)), False),
    "transparent palette": (
        lambda image: encoded(image.convert("P", palette=Image.Palette.ADAPTIVE), transparency=3),
        False,
    ),
    "gray": (lambda image: encoded(image.convert("L")), False),
    "gray, 16 bits": (
        lambda image: encoded(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)),
        False,
    ),
    "gray, 32 bits": (lambda image: encoded(image.convert("I"), "TIFF"), False),
    "gray, floats": (lambda image: encoded(image.convert("F"), "TIFF"), False),
    "gray and alpha": (lambda image: encoded(image.convert("LA")), False),
    "one bit": (lambda image: encoded(image.convert("1")), False),
}


@pytest.mark.parametrize("make", MAKES)
def test_images_of_every_make_are_checked(make):
    it = scene("lamp")
    convert, is_faithful = MAKES[make]
    source, candidate = convert(it.source), convert(it.out)
    as_candidate = look("lamp", candidate)
    as_source = judge(source, sample("lamp")[1], [candidate], Thresholds())
    for found in (as_candidate, as_source):
        json.dumps(found.scores, allow_nan=False)
    if is_faithful:
        assert as_candidate.verdict is as_source.verdict is Verdict.PASSED, as_candidate.flags
    elif make != "one bit":  # whose dots depend on their neighbors
        # Both are alike, whatever was lost.
        assert as_source.scores[0]["ssim"] > 0.9
        assert as_candidate.scores[0]["ssim"] > 0.5


def test_16_bits_are_scaled_not_cut_off():
    gray = scene("lamp").source.convert("L")
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    scores = [
        judge(encoded(one), sample("lamp")[1], [generated("lamp")], Thresholds()).scores
        for one in (gray, deep)
    ]
    assert scores[0] == scores[1]


def test_an_image_as_large_as_the_api_takes_is_checked():
    it = scene("lamp")
    large = it.out.resize((4096, 4096), Image.Resampling.BICUBIC)
    found = look("lamp", jpeg(large, 90))
    assert found.verdict is Verdict.PASSED
    assert found.scores[0]["size"] == pytest.approx(4.551, abs=0.001)


def test_a_make_that_pillow_may_not_know_does_not_raise():
    image = encoded(Image.new("LAB", (900, 900)), "TIFF")
    assert judge(image, image, [image], Thresholds()).verdict is not Verdict.PASSED


# --- hostile bytes ----------------------------------------------------------------------------------

SMALL = Image.effect_mandelbrot((64, 48), (-2, -1.5, 1, 1.5), 50).convert("RGB")
FILES = [
    encoded(SMALL),
    encoded(SMALL, "JPEG"),
    encoded(SMALL, "WEBP"),
    encoded(SMALL, "GIF"),
    encoded(SMALL, "BMP"),
    encoded(SMALL, "TIFF"),
    encoded(SMALL.convert("P"), transparency=0),
    encoded(SMALL.convert("RGBA")),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(0, 6))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)) | st.just(len(data)))])


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    source=st.none() | damaged() | st.binary(max_size=40),
    mask=st.none() | damaged(),
    candidates=st.lists(damaged() | st.binary(max_size=40), max_size=3),
)
def test_no_bytes_raise_and_no_score_is_not_a_number(source, mask, candidates):
    found = judge(source, mask, candidates, Thresholds())
    assert len(found.scores) == len(found.thumbs.candidates) == len(candidates)
    assert (found.chosen is not None) == (found.verdict in (Verdict.PASSED, Verdict.UNMASKED))
    assert found.verdict is Verdict.PASSED or found.flags
    for scores in found.scores:
        assert set(scores) <= set(MEASURES)
        assert all(type(score) is float and math.isfinite(score) for score in scores.values())


@pytest.mark.slow
def test_threads_do_not_disturb_each_other():
    names = [*PRODUCTS] * 3
    alone = {name: look(name, generated(name), generated(name, 1)) for name in PRODUCTS}
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda name: look(name, generated(name), generated(name, 1)), names))
    assert found == [alone[name] for name in names]


# --- thumbnails -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRODUCTS)
def test_thumbnails_are_small_and_whole(name):
    thumbs = look(name, generated(name)).thumbs
    for thumb in (thumbs.source, thumbs.mask, *thumbs.candidates):
        image = opened(thumb)
        assert (image.format, max(image.size)) == ("WEBP", 256)
        assert 200 < len(thumb) < 12_000
    small = np.asarray(opened(thumbs.candidates[0]).convert("L"), np.float32)
    whole = np.asarray(scene(name).out.resize((256, 256), Image.Resampling.BOX).convert("L"), np.float32)
    assert np.abs(small - whole).mean() < 8


@pytest.mark.slow
def test_planning_does_not_import_the_comparison():
    code = (
        "import sys, airflow_provider_bgrep.catalog.plan.create; "
        "print({'scipy', 'skimage', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- tight crops (E2), and masks that are turned (E4) ----------------------------------------------


def cropped(shape: str) -> tuple[Image.Image, Image.Image, Image.Image]:
    """A source that the product nearly fills, its mask, and an image with another background."""
    side = 600
    mask = Image.new("L", (side, side), 255)
    draw = ImageDraw.Draw(mask)
    if shape == "a strip of 3 pixels":
        draw.rectangle((0, 0, side, 2), fill=0)
    elif shape == "a strip of 12 pixels":
        draw.rectangle((0, 0, 11, side), fill=0)
    else:
        for x in (0, side - 24):
            for y in (0, side - 24):
                draw.rectangle((x, y, x + 23, y + 23), fill=0)
    texture = Image.effect_noise((side, side), 60).convert("RGB").filter(ImageFilter.GaussianBlur(2))
    source = Image.composite(texture, Image.new("RGB", (side, side), "white"), mask)
    forest = Image.effect_noise((side, side), 90).convert("RGB")
    out = Image.composite(
        texture, ImageChops.multiply(forest, Image.new("RGB", (side, side), "#205020")), mask
    )
    return source, mask, out


@pytest.mark.parametrize("shape", ["a strip of 3 pixels", "a strip of 12 pixels", "four corners"])
def test_a_tight_crop_is_measured_on_what_background_there_is(shape):
    """E2."""
    source, mask, out = cropped(shape)
    found = judge(encoded(source), encoded(mask), [encoded(out), encoded(source)], Thresholds())
    assert found.verdict is Verdict.PASSED, found.flags
    assert found.chosen == 0
    changed = [score["background_changed"] for score in found.scores]
    assert changed[0] > 10 > 1 > changed[1]
    assert any("image 2" in flag for flag in found.flags), "the background is still the source's"


@pytest.mark.parametrize("turned", ["source", "mask"])
def test_a_mask_that_only_exif_turns_is_named(turned):
    """E4."""
    exif = Image.Exif()
    exif[0x0112] = 6
    source, mask = Image.new("RGB", (600, 400), "white"), Image.new("L", (600, 400))
    ImageDraw.Draw(mask).rectangle((200, 100, 400, 300), fill=255)
    files = {
        "source": encoded(source, exif=exif) if turned == "source" else encoded(source),
        "mask": encoded(mask, exif=exif) if turned == "mask" else encoded(mask),
    }
    found = judge(files["source"], files["mask"], [encoded(source)], Thresholds())
    assert found.verdict is Verdict.FLAGGED
    assert any("EXIF" in flag for flag in found.flags)
