# SPDX-License-Identifier: Apache-2.0
"""The products of the image pairs: the emulator's samples, and drawn ones that are hard to compare.

White on white, black on black, thin, transparent, finely woven, tightly cropped, with text on a label.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from airflow_provider_bgrep.emulator.render.compose import compose
from airflow_provider_bgrep.emulator.samples import PROMPTS
from airflow_provider_bgrep.emulator.samples.products import PRODUCTS as SAMPLES
from airflow_provider_bgrep.emulator.samples.studio import Studio

SIDE: Final = 640
"""Width and height in pixels."""

_FINE: Final = 2
"""Products are drawn this much larger, for soft edges."""

LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    "carton": ("AURORA", "Morning Tea", "20 bags 50 g", "Store in a dry place"),
    "jar": ("HAND CREAM", "with almond oil", "75 ml"),
    "case": ("NOCTURNE", "Model 4402"),
    "tin": ("Rosso", "Pomodori pelati", "Peso netto 450 g"),
}
"""The lines of text on the labels, the largest first."""


@dataclass(frozen=True)
class Product:
    """A product's image and its mask.

    :param name: its name.
    :param source: ``RGB``, or ``RGBA`` if its transparency is its mask.
    :param mask: ``L``; 255 is the product.
    :param prompt: the background to generate.
    """

    name: str
    source: Image.Image
    mask: Image.Image
    prompt: str

    @property
    def has_alpha(self) -> bool:
        """Whether the row has no mask, because the source's transparency is one."""
        return self.source.mode == "RGBA"

    @functools.cached_property
    def source_file(self) -> bytes:
        """The source as a file."""
        return png(self.source) if self.has_alpha else bmp(self.source)

    @functools.cached_property
    def mask_file(self) -> bytes | None:
        """The mask as a file; ``None`` if the source's transparency is the mask."""
        return None if self.has_alpha else bmp(self.mask)

    def generated(self, seed: int, mask: Image.Image | None = None) -> Image.Image:
        """What the emulator generates for it.

        :param mask: a mask to use instead of the product's own.
        """
        task = {"positive_prompt": self.prompt, "guidance_scale": 7.5, "strength": 0.5, "steps": 50}
        kept = None if self.has_alpha and mask is None else png(mask or self.mask)
        return opened(compose(png(self.source), kept, {**task, "seed": seed}, 0, "")).convert("RGB")

    @functools.cached_property
    def good(self) -> Image.Image:
        """A generated image to which nothing was done."""
        return self.generated(7)

    @functools.cached_property
    def scenery(self) -> Image.Image:
        """The background of :attr:`good`, continued behind the product."""
        mirrored, kept = ImageOps.mirror(self.good), ImageOps.mirror(self.mask)
        filled = Image.composite(_covered(self.good, self.mask), mirrored, kept)
        return Image.composite(filled, self.good, grown(self.mask, 2))

    @functools.cached_property
    def shown(self) -> Image.Image:
        """The source as a viewer shows it, on white."""
        white = Image.new("RGBA", self.source.size, "white")
        white.alpha_composite(self.source.convert("RGBA"))
        return white.convert("RGB")


def grown(mask: Image.Image, pixels: int) -> Image.Image:
    """Return a mask whose product is wider on all sides."""
    return Image.fromarray(maximum_filter(np.asarray(mask), 2 * pixels + 1))


def shrunk(mask: Image.Image, pixels: int) -> Image.Image:
    """Return a mask whose product is narrower on all sides."""
    return Image.fromarray(minimum_filter(np.asarray(mask), 2 * pixels + 1))


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG file."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def bmp(image: Image.Image) -> bytes:
    """Return an image as a BMP file, which takes the least time."""
    out = io.BytesIO()
    image.save(out, "BMP")
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    """Return an image, decoded whole."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _covered(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Return an image whose product is covered by the colors of its background."""
    away = np.asarray(mask.reduce(4)) < 8
    levels = np.asarray(image.reduce(4), np.float32) * away[:, :, None]
    weight = gaussian_filter(away.astype(np.float64), 16, truncate=12)
    filled = [gaussian_filter(levels[..., i].astype(np.float64), 16, truncate=12) / weight for i in range(3)]
    cover = Image.fromarray(np.stack(filled, 2).clip(0, 255).astype(np.uint8))
    return Image.composite(image, cover.resize(image.size), mask.point(lambda value: 255 if value < 8 else 0))


@functools.cache
def product(name: str, lines: tuple[str, ...] | None = None) -> Product:
    """Return a product.

    :param name: one of :data:`NAMES`.
    :param lines: other lines of text than those of :data:`LABELS`.
    """
    if name in SAMPLES:
        image, mask = Studio(SAMPLES[name](), SIDE).photograph()
        return Product(name, image, mask, PROMPTS[name])
    if name.startswith("tight "):
        return _cropped(product(name.removeprefix("tight ")))
    draw, prompt = _DRAWN[name]
    image, mask = draw(lines or LABELS.get(name, ()))
    if image.mode != "RGBA":
        image = Image.composite(image, _ground(_GROUNDS.get(name, 226)), mask)
    return Product(name, image, mask, prompt)


def _cropped(whole: Product) -> Product:
    """A product that nearly fills its image."""
    left, upper, right, lower = whole.mask.getbbox() or (0, 0, SIDE, SIDE)
    margin = SIDE // 100
    box = (left - margin, upper - margin, right + margin, lower + margin)
    box = (max(0, box[0]), max(0, box[1]), min(SIDE, box[2]), min(SIDE, box[3]))
    scale = SIDE / max(box[2] - box[0], box[3] - box[1])
    size = (round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale))
    image, mask = (one.crop(box).resize(size, Image.Resampling.LANCZOS) for one in (whole.source, whole.mask))
    return Product(f"tight {whole.name}", image, mask, whole.prompt)


# --- drawn ----------------------------------------------------------------------------------------

_Box = tuple[int, int, int, int]


def _ground(level: int) -> Image.Image:
    """A studio's backdrop of this brightness, slightly darker at its foot, with grain."""
    rows = np.linspace(level + 4, level - 10, SIDE, dtype=np.float32)[:, None, None]
    grain = np.random.default_rng(level).normal(0, 1.2, (SIDE, SIDE, 1))
    levels = (rows + grain).clip(0, 255) * np.ones(3, np.float32)
    return Image.fromarray(levels.astype(np.uint8))


def _canvas() -> tuple[Image.Image, Image.Image]:
    side = SIDE * _FINE
    return Image.new("RGB", (side, side)), Image.new("L", (side, side))


def _finished(image: Image.Image, mask: Image.Image) -> tuple[Image.Image, Image.Image]:
    size = (SIDE, SIDE)
    return image.resize(size, Image.Resampling.LANCZOS), mask.resize(size, Image.Resampling.BOX)


def _shaded(color: tuple[int, int, int], strength: float = 0.12, seed: int = 1) -> Image.Image:
    """A surface of one color, lit from the left, with a little grain."""
    side = SIDE * _FINE
    light = np.linspace(1 + strength, 1 - strength, side, dtype=np.float32)[None, :, None]
    grain = np.random.default_rng(seed).normal(0, 1.5, (side, side, 1))
    levels = light * np.array(color, np.float32) + grain
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def text(draw: ImageDraw.ImageDraw, middle: tuple[float, float], words: str, height: int, fill: Any) -> None:
    """Draw a line of text around a point, ``height`` pixels high."""
    draw.text(middle, words, fill=fill, font=ImageFont.load_default(height), anchor="mm")


def _labeled(image: Image.Image, lines: tuple[str, ...], place: _Box, fill: Any) -> None:
    """Write the lines into a rectangle, in sizes from large to small."""
    draw = ImageDraw.Draw(image)
    left, upper, right, lower = place
    y = float(upper)
    for number, line in enumerate(lines):
        height = round((lower - upper) * (0.3, 0.22, 0.18, 0.12)[number])
        text(draw, ((left + right) / 2, y + height / 2), line, height, fill)
        y += height * 1.15


def _carton(lines: tuple[str, ...]) -> tuple[Image.Image, Image.Image]:
    image, mask = _canvas()
    box = (300, 200, 980, 1180)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    image.paste(_shaded((196, 160, 112)))
    draw = ImageDraw.Draw(image)
    draw.rectangle((300, 200, 980, 330), fill=(38, 92, 104))
    draw.ellipse((560, 860, 720, 1020), fill=(206, 84, 50))
    draw.polygon([(560, 1100), (640, 950), (720, 1100)], fill=(66, 118, 66))
    draw.rectangle((350, 400, 930, 830), fill=(246, 240, 226))
    _labeled(image, lines, (350, 430, 930, 800), (46, 36, 30))
    return _finished(image, mask)


def _jar(lines: tuple[str, ...]) -> tuple[Image.Image, Image.Image]:
    image, mask = _canvas()
    draw = ImageDraw.Draw(mask)
    draw.rounded_rectangle((330, 460, 950, 1160), 70, fill=255)
    draw.rounded_rectangle((370, 300, 910, 470), 30, fill=255)
    image.paste(_shaded((243, 243, 241), 0.03, seed=2))
    ImageDraw.Draw(image).rounded_rectangle((370, 300, 910, 470), 30, fill=(229, 229, 228))
    _labeled(image, lines, (360, 680, 920, 960), (128, 128, 132))
    return _finished(image, mask)


def _case(lines: tuple[str, ...]) -> tuple[Image.Image, Image.Image]:
    image, mask = _canvas()
    ImageDraw.Draw(mask).rounded_rectangle((160, 430, 1120, 1050), 90, fill=255)
    image.paste(_shaded((22, 22, 24), 0.3, seed=3))
    draw = ImageDraw.Draw(image)
    draw.rectangle((160, 700, 1120, 708), fill=(9, 9, 10))
    draw.rectangle((600, 680, 680, 740), fill=(64, 62, 60))
    _labeled(image, lines, (300, 470, 980, 700), (176, 172, 164))
    return _finished(image, mask)


def _tin(lines: tuple[str, ...]) -> tuple[Image.Image, Image.Image]:
    """With text in colors, and a line that is turned by 90 degrees."""
    image, mask = _canvas()
    ImageDraw.Draw(mask).rounded_rectangle((360, 280, 920, 1140), 40, fill=255)
    image.paste(_shaded((168, 30, 26), 0.3, seed=9))
    draw = ImageDraw.Draw(image)
    draw.rectangle((360, 280, 920, 330), fill=(200, 204, 206))
    draw.rectangle((360, 1090, 920, 1140), fill=(200, 204, 206))
    draw.ellipse((560, 860, 720, 1020), fill=(236, 92, 40))
    text(draw, (680, 450), lines[0], 150, (252, 226, 120))
    text(draw, (680, 620), lines[1], 62, (255, 255, 255))
    side = Image.new("RGB", (560, 70))
    kept = Image.new("L", side.size)
    side.paste((250, 240, 230), (0, 0, *side.size))
    text(ImageDraw.Draw(kept), (280, 35), lines[2], 52, 255)
    image.paste(
        side.transpose(Image.Transpose.ROTATE_90), (385, 430), kept.transpose(Image.Transpose.ROTATE_90)
    )
    return _finished(image, mask)


def _ring(_: tuple[str, ...]) -> tuple[Image.Image, Image.Image]:
    image, mask = _canvas()
    ImageDraw.Draw(mask).ellipse((260, 300, 1020, 1060), outline=255, width=22)
    image.paste(_shaded((206, 168, 84), 0.25, seed=4))
    ImageDraw.Draw(image).ellipse((266, 306, 1014, 1054), outline=(244, 220, 160), width=6)
    return _finished(image, mask)


def _cable(_: tuple[str, ...]) -> tuple[Image.Image, Image.Image]:
    image, mask = _canvas()
    t = np.linspace(0, 1, 200)
    x, y = 160 + 960 * t, 700 + 260 * np.sin(9 * t) * (1 - 0.4 * t)
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    draw = ImageDraw.Draw(mask)
    draw.line(points, fill=255, width=30, joint="curve")
    draw.rectangle((90, 650, 200, 760), fill=255)
    image.paste(_shaded((238, 238, 236), 0.05, seed=5))
    ImageDraw.Draw(image).rectangle((90, 650, 140, 760), fill=(150, 152, 156))
    return _finished(image, mask)


def _glass(_: tuple[str, ...]) -> tuple[Image.Image, Image.Image]:
    """A tumbler, photographed: its mask is white, though one sees through it."""
    image, mask = _canvas()
    body = [(400, 320), (880, 320), (820, 1140), (460, 1140)]
    ImageDraw.Draw(mask).polygon(body, fill=255)
    image.paste(_shaded((222, 227, 229), 0.05, seed=6))
    draw = ImageDraw.Draw(image)
    draw.line([*body, body[0]], fill=(168, 178, 184), width=14)
    draw.line([(470, 340), (520, 1120)], fill=(250, 252, 252), width=26)
    draw.polygon([(452, 1040), (828, 1040), (820, 1140), (460, 1140)], fill=(196, 206, 210))
    return _finished(image.filter(ImageFilter.GaussianBlur(4)), mask)


def _tumbler(lines: tuple[str, ...]) -> tuple[Image.Image, Image.Image]:
    """The same, cut out: its transparency is its mask, half-transparent where one sees through it."""
    image, mask = _glass(lines)
    levels = np.asarray(image.convert("L"), np.float32)
    solid = np.clip(np.abs(levels - 222) * 9 + 90, 0, 255)
    rim = np.asarray(shrunk(mask, 4), np.float32)
    alpha = np.where(rim > 128, solid, 255) * (np.asarray(mask, np.float32) / 255)
    kept = Image.fromarray(alpha.astype(np.uint8))
    image.putalpha(kept)
    return image, kept


def _pillow(_: tuple[str, ...]) -> tuple[Image.Image, Image.Image]:
    image, mask = _canvas()
    ImageDraw.Draw(mask).rounded_rectangle((220, 300, 1060, 1080), 120, fill=255)
    side = SIDE * _FINE
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    weave = 0.86 + 0.14 * np.sin(x / 2.6) * np.sin(y / 2.6) + 0.10 * np.sin((x + y) / 31)
    grain = np.random.default_rng(8).normal(0, 0.05, (side, side))
    levels = (weave + grain)[:, :, None] * np.array((176, 96, 104), np.float32)
    image.paste(Image.fromarray(levels.clip(0, 255).astype(np.uint8)))
    return _finished(image, mask)


def _blocks(_: tuple[str, ...]) -> tuple[Image.Image, Image.Image]:
    image, mask = _canvas()
    colors = [(214, 40, 40), (244, 190, 32), (30, 110, 200), (40, 160, 90), (236, 120, 180), (250, 250, 250)]
    draw, kept = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    for number, color in enumerate(colors):
        row, column = divmod(number, 3)
        left, upper = 250 + 270 * column - 60 * row, 880 - 250 * row
        kept.rectangle((left, upper, left + 262, upper + 244), fill=255)
        draw.rectangle((left, upper, left + 262, upper + 244), fill=color)
        draw.ellipse((left + 90, upper + 80, left + 170, upper + 160), fill=tuple(v * 3 // 4 for v in color))
    return _finished(image, mask)


_DRAWN: Final[Mapping[str, tuple[Callable[[tuple[str, ...]], tuple[Image.Image, Image.Image]], str]]] = {
    "carton": (_carton, PROMPTS["table"]),
    "jar": (_jar, PROMPTS["bottle"]),
    "case": (_case, PROMPTS["car"]),
    "tin": (_tin, PROMPTS["car"]),
    "ring": (_ring, PROMPTS["bottle"]),
    "cable": (_cable, PROMPTS["lamp"]),
    "glass": (_glass, PROMPTS["handbag"]),
    "tumbler": (_tumbler, PROMPTS["mug"]),
    "pillow": (_pillow, PROMPTS["armchair"]),
    "blocks": (_blocks, PROMPTS["chair"]),
}
_GROUNDS: Final = {"jar": 248, "cable": 250, "case": 30, "glass": 232}
"""Brightness of backdrops that are not light gray: white on white, black on black."""

NAMES: Final = (*SAMPLES, *_DRAWN, "tight handbag", "tight carton")
"""All products."""
