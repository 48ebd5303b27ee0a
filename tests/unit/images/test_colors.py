# SPDX-License-Identifier: Apache-2.0
"""Images are converted to sRGB by their profile, whatever their mode (D8)."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from bgrep_harness.profiles import ADOBE_RGB, GRAY, PROPHOTO, SRGB, WIDE, converted
from PIL import Image, ImageCms

from airflow_provider_bgrep.images.colors import MAX_PROFILE_BYTES, to_srgb

COLORS = Image.fromarray(
    np.array([[[200, 60, 60], [60, 180, 70], [128, 128, 128], [255, 255, 255]]], np.uint8).repeat(4, axis=0)
)


def difference(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max())


@pytest.mark.parametrize("profile", WIDE.values(), ids=WIDE)
def test_colors_of_a_wide_profile_are_those_that_a_viewer_shows(profile):
    stored = converted(COLORS, profile)
    assert difference(stored, COLORS) > 10
    assert difference(to_srgb(stored, profile), COLORS) <= 3


def test_an_image_in_srgb_is_not_changed():
    assert to_srgb(COLORS, None) is COLORS
    assert to_srgb(COLORS, SRGB) is COLORS


def test_transparency_stays():
    stored = converted(COLORS, ADOBE_RGB).convert("RGBA")
    stored.putalpha(Image.linear_gradient("L").resize(stored.size))
    found = to_srgb(stored, ADOBE_RGB)
    assert difference(found.convert("RGB"), COLORS) <= 3
    assert found.getchannel("A").tobytes() == stored.getchannel("A").tobytes()


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_gray_images_have_gray_profiles_or_those_of_a_camera(mode):
    gray = Image.new("L", (4, 4), 55).convert(mode)
    # Linear light: 55 of 255 is 127 in sRGB.
    assert abs(np.asarray(to_srgb(gray, GRAY).convert("RGB"))[0, 0, 0] - 127) <= 2
    # A profile for RGB describes the three equal values: gray stays gray.
    found = np.asarray(to_srgb(gray, PROPHOTO).convert("RGB"))[0, 0].astype(int)
    assert found.max() - found.min() <= 1
    assert found[0] > 60


def test_lab_images_have_their_own_space():
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = ImageCms.applyTransform(COLORS, transform)
    assert difference(to_srgb(lab, None), COLORS) <= 6  # LAB in 8 bits


@pytest.mark.parametrize(
    "profile",
    [b"x", ADOBE_RGB[:200], b"\0" * 500, zlib.compress(SRGB), ADOBE_RGB + b"\0" * MAX_PROFILE_BYTES, GRAY],
    ids=["text", "cut", "zeros", "compressed", "huge", "of gray images"],
)
def test_a_profile_that_cannot_be_used_is_ignored(profile):
    assert to_srgb(COLORS, profile) is COLORS
    assert to_srgb(COLORS.convert("CMYK"), profile).mode == "RGB"
