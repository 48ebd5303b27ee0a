# SPDX-License-Identifier: Apache-2.0
"""Source and result are compared in sRGB, by the profiles of their files (D8)."""

from __future__ import annotations

import functools
import io

import pytest
from bgrep_harness.profiles import ADOBE_RGB, DISPLAY_P3, WIDE, converted, encoded
from PIL import Image, ImageChops, ImageEnhance, features

from airflow_provider_bgrep.catalog.check.comparison import judge
from airflow_provider_bgrep.catalog.config.thresholds import Thresholds
from airflow_provider_bgrep.emulator.render.compose import compose
from airflow_provider_bgrep.emulator.samples import PROMPTS, drawn

NAME = "bottle"
TASK = {"positive_prompt": PROMPTS[NAME], "guidance_scale": 7.5, "strength": 0.5, "steps": 50, "seed": 7}
CONTAINERS = ["PNG", "JPEG", "WEBP", "TIFF", *(["AVIF"] if features.check("avif") else [])]


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@functools.cache
def scene() -> tuple[Image.Image, bytes, Image.Image]:
    """A source with strong colors, its mask, and what is made of it."""
    source, mask = drawn(f"{NAME}.jpg")[0], drawn(f"{NAME}-mask.png")[0]
    colored = opened(source).convert("RGB")
    tint = Image.new("RGB", colored.size, (230, 40, 40))
    colored = ImageChops.multiply(colored, tint)
    return colored, mask, opened(compose(encoded(colored, "PNG"), mask, TASK, 0, "")).convert("RGB")


def verdict_of(source: bytes, result: bytes) -> tuple[str, list[str]]:
    found = judge(source, scene()[1], [result], Thresholds())
    return found.verdict.value, found.flags


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("profile", WIDE.values(), ids=WIDE)
def test_a_result_that_was_rightly_converted_passes(profile, container):
    source, _, result = scene()
    stored = encoded(converted(source, profile), container, profile)
    assert verdict_of(stored, encoded(result, "PNG")) == ("passed", [])


@pytest.mark.parametrize("profile", WIDE.values(), ids=WIDE)
def test_a_result_that_lost_its_profile_is_flagged(profile):
    source, _, result = scene()
    dull = encoded(converted(result, profile), "PNG")
    verdict, flags = verdict_of(encoded(converted(source, profile), "PNG", profile), dull)
    assert verdict == "flagged"
    assert "without its color profile" in str(flags)


def test_a_product_that_was_made_darker_did_not_lose_its_profile():
    source, _, result = scene()
    darker = ImageEnhance.Brightness(result).enhance(0.8)
    stored = encoded(converted(source, DISPLAY_P3), "PNG", DISPLAY_P3)
    verdict, flags = verdict_of(stored, encoded(darker, "PNG"))
    assert verdict == "flagged"
    assert "without its color profile" not in str(flags)


@pytest.mark.slow
def test_a_result_may_have_a_profile_too():
    source, _, result = scene()
    stored = encoded(converted(source, ADOBE_RGB), "JPEG", ADOBE_RGB)
    for profile in (ADOBE_RGB, DISPLAY_P3):
        assert verdict_of(stored, encoded(converted(result, profile), "PNG", profile)) == ("passed", [])
    assert verdict_of(encoded(source, "PNG"), encoded(converted(result, ADOBE_RGB), "WEBP", ADOBE_RGB)) == (
        "passed",
        [],
    )


@pytest.mark.slow
def test_the_emulator_converts_as_a_good_service_does():
    source, mask, _ = scene()
    stored = encoded(converted(source, DISPLAY_P3), "PNG", DISPLAY_P3)
    assert verdict_of(stored, compose(stored, mask, TASK, 0, "")) == ("passed", [])


def test_a_masks_profile_is_ignored():
    source, mask, result = scene()
    with_profile = encoded(opened(mask).convert("RGB"), "PNG", ADOBE_RGB)
    found = judge(encoded(source, "PNG"), with_profile, [encoded(result, "PNG")], Thresholds())
    assert (found.verdict.value, found.flags) == ("passed", [])
