# SPDX-License-Identifier: Apache-2.0
"""Sample products, drawn by code for this project, with masks in all three forms."""

from __future__ import annotations

import functools
import io
import threading
from dataclasses import dataclass
from typing import Final

from PIL import Image, PngImagePlugin

from airflow_provider_bgrep.emulator.images import REFUSED_MARK
from airflow_provider_bgrep.protocol.limits import MAX_SIDE, MIN_SIDE

SAMPLES_PREFIX: Final = "/samples/"


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample product, by its URLs.

    :param name: its name.
    :param image: URL of the image.
    :param mask: URL of its mask in one channel.
    :param mask_rgb: URL of its mask in three channels.
    :param mask_rgba: URL of its cut-out, whose alpha channel is the mask.
    :param prompt: a prompt that suits it.
    """

    name: str
    image: str
    mask: str
    mask_rgb: str
    mask_rgba: str
    prompt: str


PROMPTS: Final = {
    "bottle": "The perfume bottle is placed on soft pale yellow silk.",
    "car": "The car is driving on the highway, with a backdrop of grasslands and snow-capped mountains.",
    "sneaker": "The shoe stands in front of a wall covered with artistic graffiti.",
    "armchair": "Nordic-style living room, with a tall potted plant and a painting on the wall.",
    "mug": "雪山,蓝天白云",
    "lamp": "A cosy bedroom at night, warm light, a wooden table.",
    "headphones": "Neon lights of a city at night, rain on the street.",
    "chair": "Autumn forest with golden leaves, soft morning light.",
    "handbag": "On the beach by the sea at sunset.",
    "table": "Place the wooden coffee table in a warm and modern living room setting.",
}
"""The samples and a prompt that suits each."""

SIDE: Final = 900
"""Width and height of the samples in pixels."""


def listing(base: str) -> list[Sample]:
    """All samples.

    :param base: URL of the emulator.
    """
    root = base + SAMPLES_PREFIX
    return [
        Sample(
            name,
            f"{root}{name}.jpg",
            f"{root}{name}-mask.png",
            f"{root}{name}-mask-rgb.png",
            f"{root}{name}-mask-rgba.png",
            prompt,
        )
        for name, prompt in PROMPTS.items()
    ]


def _too_small() -> tuple[bytes, str]:
    return _png(Image.new("RGB", (MIN_SIDE - 1, MIN_SIDE), "white")), "image/png"


def _too_large() -> tuple[bytes, str]:
    return _png(Image.new("RGB", (MAX_SIDE + 1, MIN_SIDE), "white")), "image/png"


def _refused() -> tuple[bytes, str]:
    image = Image.new("RGB", (SIDE, SIDE), "black")
    return _png(image, {REFUSED_MARK: "refused"}), "image/png"


def _gif() -> tuple[bytes, str]:
    out = io.BytesIO()
    Image.new("RGB", (MIN_SIDE, MIN_SIDE), "white").save(out, "GIF")
    return out.getvalue(), "image/gif"


def _no_image() -> tuple[bytes, str]:
    return b"<html>no image</html>", "text/html"


def _broken() -> tuple[bytes, str]:
    whole = drawn("bottle.jpg")[0]
    return whole[: len(whole) // 2], "image/jpeg"


def _mask_size() -> tuple[bytes, str]:
    return _png(Image.new("L", (MIN_SIDE, MIN_SIDE), 255)), "image/png"


def _mask_color() -> tuple[bytes, str]:
    return _png(Image.new("RGB", (SIDE, SIDE), "red")), "image/png"


def _mask_gray() -> tuple[bytes, str]:
    return _png(Image.new("L", (SIDE, SIDE), 128)), "image/png"


BAD: Final = {
    "too-small": _too_small,
    "too-large": _too_large,
    "refused": _refused,
    "gif": _gif,
    "no-image": _no_image,
    "broken": _broken,
    "mask-size": _mask_size,
    "mask-color": _mask_color,
    "mask-gray": _mask_gray,
}
"""Images and masks that are refused, by what is wrong; masks are for the sample ``bottle``."""


@functools.lru_cache(maxsize=64)
def drawn(name: str) -> tuple[bytes, str]:
    """A file of the samples and its media type.

    :param name: what follows the prefix of samples in the path.
    :raises KeyError: for an unknown one.
    """
    if name.startswith("bad/"):
        return BAD[name.removeprefix("bad/")]()
    product, _, form = name.rpartition(".")[0].partition("-mask")
    if product not in PROMPTS or name not in {product + suffix for suffix in _SUFFIXES}:
        raise KeyError(name)
    image, mask = _product(product)
    if name == f"{product}.jpg":
        out = io.BytesIO()
        image.save(out, "JPEG", quality=95, subsampling=0)
        return out.getvalue(), "image/jpeg"
    if form == "-rgba":
        cut = image.copy()
        cut.putalpha(mask)
        return _png(cut), "image/png"
    return _png(mask.convert("RGB") if form == "-rgb" else mask), "image/png"


_SUFFIXES: Final = (".jpg", "-mask.png", "-mask-rgb.png", "-mask-rgba.png")
_drawing = {name: threading.Lock() for name in PROMPTS}


def _product(name: str) -> tuple[Image.Image, Image.Image]:
    # Image and masks are asked for at once: who comes second waits, and draws nothing.
    with _drawing[name]:
        return _photographed(name)


@functools.cache
def _photographed(name: str) -> tuple[Image.Image, Image.Image]:
    from airflow_provider_bgrep.emulator.samples.products import PRODUCTS
    from airflow_provider_bgrep.emulator.samples.studio import Studio

    return Studio(PRODUCTS[name](), SIDE).photograph()


def _png(image: Image.Image, texts: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    info = PngImagePlugin.PngInfo()
    for key, value in (texts or {}).items():
        info.add_text(key, value)
    image.save(out, "PNG", compress_level=3, pnginfo=info)
    return out.getvalue()
