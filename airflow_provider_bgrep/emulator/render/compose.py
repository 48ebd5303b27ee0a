# SPDX-License-Identifier: Apache-2.0
"""Puts the kept foreground on a drawn background, with its shadow."""

from __future__ import annotations

import colorsys
import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
from PIL import Image, PngImagePlugin

from airflow_provider_bgrep.emulator.images import UnfitError, as_mask, in_srgb, opened
from airflow_provider_bgrep.emulator.render import indoors, outdoors, streets
from airflow_provider_bgrep.emulator.render.canvas import (
    Array,
    Canvas,
    blurred,
    mix,
    smooth,
)
from airflow_provider_bgrep.emulator.render.words import understand

DRAWN: Final[dict[str, Callable[[Canvas], Array]]] = {
    "graffiti": streets.graffiti,
    "silk": indoors.silk,
    "living room": indoors.living_room,
    "mountains": outdoors.mountains,
    "sea": outdoors.sea,
    "forest": outdoors.forest,
    "city": streets.city,
    "meadow": outdoors.meadow,
    "desert": outdoors.desert,
    "sky": outdoors.blue_sky,
    "table": indoors.table,
    "space": outdoors.space,
    "studio": indoors.studio,
}
"""How each scene is drawn."""

_DRAWN_SIDE: Final = 1000
"""Longest side of a drawn background, which is then enlarged: an image of 4096 pixels takes no longer."""

_WARM_SHARE: Final = 0.35

_LOST_SIDE: Final = 1024
"""Side of a result whose source can no longer be read."""


def compose(
    image: bytes | None,
    mask: bytes | None,
    task: dict[str, Any],
    number: int,
    seed: str,
    backgrounds: str = "scenes",
) -> bytes:
    """Return a result as PNG. The same arguments give the same bytes.

    :param image: the source image; without one only the background is drawn.
    :param mask: its mask; without one, the image's own alpha or what differs from its border.
    :param task: the image task.
    :param number: number of the output image.
    :param seed: takes the place of the seed if the task has none.
    :param backgrounds: ``scenes`` or ``plain``, see :class:`~.settings.Settings`.
    """
    source, keep = _sources(image, mask)
    rng = np.random.default_rng(_entropy(task, number, seed))
    if backgrounds == "plain":
        behind, foreground = _gradient(source.size, rng), source
    else:
        behind, foreground = _scene(source.size, keep, rng, task), _without_fringe(source, keep)
    # Below full strength, the service keeps some of the original background.
    share = min(1.0, 0.3 + 1.4 * float(task["strength"]))
    if share < 1:
        behind = Image.blend(source, behind, share)
    behind.paste(foreground, mask=keep)
    behind.paste(source, mask=keep.point(lambda value: 255 if value == 255 else 0))
    return _png(behind, task, number)


def _gradient(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Draw a background of two colors, light at the top and dark at the bottom: it is not blank."""
    width, height = size
    light, dark = (
        np.array(colorsys.hsv_to_rgb(rng.uniform(0, 1), *tone)) * 255 for tone in ((0.6, 0.95), (0.9, 0.35))
    )
    ys = np.linspace(0, 1, height)[:, None]
    column = (light + (dark - light) * ys).astype(np.uint8)
    return Image.fromarray(np.repeat(column[:, None, :], width, axis=1))


def _scene(
    size: tuple[int, int], keep: Image.Image, rng: np.random.Generator, task: dict[str, Any]
) -> Image.Image:
    """Draw the scene that the words of the prompt choose, with the foreground's shadow."""
    scale = min(1.0, _DRAWN_SIDE / max(size))
    small = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    alpha = np.asarray(keep.resize(small, Image.Resampling.BOX)).astype(np.float32) / 255
    wish = understand(task["positive_prompt"], task.get("negative_prompt", ""))
    if wish.light == "day" and rng.random() < _WARM_SHARE:
        # Outputs of one prompt should differ visibly: some have a lower sun.
        wish = replace(wish, light="warm")
    base, top = _stance(alpha)
    canvas = Canvas(small[0], small[1], rng, wish, base, top)
    canvas.rng_shift = float(rng.uniform(-0.05, 0.05))
    scene = np.clip(DRAWN[wish.scene](canvas), 0, 1)
    scene = _developed(canvas, scene, task)
    scene = scene * (1 - _shadow(canvas, alpha, wish.scene))[:, :, None]
    drawn = Image.fromarray((np.clip(scene, 0, 1) * 255 + 0.5).astype(np.uint8))
    return drawn if drawn.size == size else drawn.resize(size, Image.Resampling.BICUBIC)


def _sources(image: bytes | None, mask: bytes | None) -> tuple[Image.Image, Image.Image]:
    lost = Image.new("RGB", (_LOST_SIDE, _LOST_SIDE)), Image.new("L", (_LOST_SIDE, _LOST_SIDE), 0)
    if image is None:
        return lost
    try:
        whole = opened(image)
        kept = as_mask(opened(mask)) if mask is not None else None
    except UnfitError:
        # Accepted without a check, or changed since: there is nothing to keep.
        return lost
    source = in_srgb(whole)
    if kept is not None:
        return source, kept if kept.size == source.size else kept.resize(source.size)
    if whole.mode == "RGBA":
        return source, whole.getchannel("A")
    return source, _guessed(source)


def _guessed(source: Image.Image) -> Image.Image:
    """Return a mask of what differs from the image's border, if none was given."""
    small = np.asarray(source.resize((200, 200))).astype(np.float32)
    border = np.concatenate(
        (small[:4].reshape(-1, 3), small[:, :4].reshape(-1, 3), small[:, -4:].reshape(-1, 3))
    )
    away = np.abs(small - np.median(border, axis=0)).max(2)
    found = blurred(smooth(24, 60, away), 1.0)
    return Image.fromarray((found * 255).astype(np.uint8)).resize(source.size, Image.Resampling.BICUBIC)


def _entropy(task: dict[str, Any], number: int, seed: str) -> list[int]:
    """Return the entropy of the random generator: seed, output number and all other fields."""
    told = [task.get("seed", seed), number, task["positive_prompt"], task.get("negative_prompt", "")]
    digest = hashlib.sha256(repr(told).encode("utf-8", "replace")).digest()
    return [int.from_bytes(digest[i : i + 4], "big") for i in range(0, 32, 4)]


def _stance(alpha: Array) -> tuple[float, float]:
    """Return the top and the foot of the product, as shares of the height."""
    rows = np.flatnonzero((alpha > 0.5).any(axis=1))
    if not len(rows):
        return 0.85, 0.3
    return float(rows[-1] + 1) / alpha.shape[0], float(rows[0]) / alpha.shape[0]


def _shadow(canvas: Canvas, alpha: Array, scene: str) -> Array:
    """Return the product's shadow on the ground: contact shadow and cast shadow."""
    height, width = alpha.shape
    base, top = canvas.base * height, canvas.top * height
    if base - top < 2:
        return np.zeros_like(alpha)
    solid = (alpha > 0.5).astype(np.float32)
    # Feet: where the product ends downward, within its lower third.
    feet = solid.copy()
    feet[:-1] *= 1 - solid[1:]
    feet *= smooth(
        top + 0.60 * (base - top), base - 0.12 * (base - top), np.arange(height, dtype=np.float32)
    )[:, None]
    contact = np.zeros_like(alpha)
    for size, weight in ((0.004, 5.0), (0.012, 8.0), (0.030, 10.0)):
        dark = blurred(np.roll(feet, round(size * height * 0.4), axis=0), size * width)
        contact += np.clip(dark * np.float32(weight * size * width * 0.16), 0, 0.55)
    # Cast: the silhouette, laid down on the ground behind and to the right.
    lean, flat = 0.55, 0.20 if scene != "silk" else 0.34
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    up = (base - 1 - ys) / np.float32(flat)
    from_y = np.clip(base - 1 - up, -1, height - 1)
    from_x = xs - lean * up
    inside = (from_y >= 0) & (from_x >= 0) & (from_x < width - 1) & (ys <= base)
    cast = np.where(inside, solid[from_y.astype(int).clip(0), from_x.astype(int).clip(0, width - 1)], 0)
    cast = np.asarray(cast, np.float32)
    far = smooth(0, 0.8 * (base - top), up)
    soft = mix(blurred(cast, width / 130)[:, :, None], blurred(cast, width / 38)[:, :, None], far)[:, :, 0]
    soft = soft * (1 - 0.75 * far)
    pool = blurred(np.roll(solid, round(0.012 * height), axis=0), width / 45)
    pool = pool * smooth(base - 0.10 * (base - top), base, np.arange(height, dtype=np.float32))[:, None]
    night = 0.6 if canvas.wish.light == "night" else 1.0
    dark = 1 - (1 - np.clip(contact, 0, 0.75)) * (1 - 0.42 * night * soft) * (1 - 0.45 * pool)
    return np.asarray(np.clip(dark, 0, 0.88), np.float32)


def _developed(canvas: Canvas, scene: Array, task: dict[str, Any]) -> Array:
    """Apply guidance and steps: saturation and contrast; grain if the steps are few."""
    guidance, steps = float(task["guidance_scale"]), int(task["steps"])
    gray = scene.mean(2, keepdims=True)
    scene = gray + (scene - gray) * np.float32(0.82 + 0.024 * guidance)
    scene = 0.5 + (scene - 0.5) * np.float32(0.94 + 0.008 * guidance)
    rough = 0.006 + max(0, 50 - steps) * 0.0012
    grain = canvas.rng.normal(0, rough, scene.shape[:2]).astype(np.float32)[:, :, None]
    away = np.hypot((canvas.x - 0.5) * 1.1, canvas.y - 0.5)
    return (scene + grain) * (1 - 0.20 * smooth(0.45, 0.95, away))[:, :, None]


def _without_fringe(source: Image.Image, keep: Image.Image) -> Image.Image:
    """Return the source with the product's colors extended over its soft edge.

    Pixels that the mask keeps whole are pasted as they are; only half-kept ones, which have some of
    the old background in them, take their color from whole ones beside them.
    """
    solid = (np.asarray(keep) == 255).astype(np.float32)
    if not solid.any() or solid.all():
        return source
    radius = max(1.5, source.width / 400)
    colors = np.asarray(source).astype(np.float32)
    weight = blurred(solid, radius)[:, :, None]
    spread = blurred(colors * solid[:, :, None], radius) / np.maximum(weight, 1e-4)
    return Image.fromarray(np.clip(np.where(weight > 0.01, spread, colors), 0, 255).astype(np.uint8))


def _png(image: Image.Image, task: dict[str, Any], number: int) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "airflow-provider-bgrep emulator: drawn by code, no diffusion model")
    prompt = task["positive_prompt"].encode("utf-8", "replace").decode()
    info.add_itxt("Description", f"{prompt} | seed {task.get('seed', 'drawn')} | output {number}")
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=2, pnginfo=info)
    return out.getvalue()
