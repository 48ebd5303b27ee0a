# SPDX-License-Identifier: Apache-2.0
"""The examples of the documentation: a source beside a damaged image, and the score that finds the damage."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

from PIL import Image

from bgrep_harness.pairs.changes import DAMAGE, HARMLESS, Change
from bgrep_harness.pairs.products import opened, product

_SIDE: Final = 240
"""Width and height of each of the two images in pixels."""
_GAP: Final = 8


@dataclass(frozen=True)
class Example:
    """A source and an image.

    :param name: of its file, without the extension.
    :param product: the product.
    :param measure: the score that finds the damage; ``""`` if there is none.
    :param kind: the kind of the change.
    :param strength: the beginning of its strength.
    """

    name: str
    product: str
    measure: str
    kind: str
    strength: str = ""

    @property
    def change(self) -> Change:
        """What was done to the image."""
        (found,) = (
            one
            for one in (*DAMAGE, *HARMLESS)
            if one.kind == self.kind and one.strength.startswith(self.strength)
        )
        return found

    def draw(self) -> bytes:
        """The source and the image, side by side, as JPEG."""
        pair = self.change.make(product(self.product))
        sheet = Image.new("RGB", (2 * _SIDE + _GAP, _SIDE), "white")
        for place, data in enumerate((pair.source, pair.candidate)):
            image = opened(data).convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            sheet.paste(image, (place * (_SIDE + _GAP), 0))
        file = io.BytesIO()
        sheet.save(file, "JPEG", quality=82, optimize=True)
        return file.getvalue()


EXAMPLES: Final = (
    Example("undamaged", "sneaker", "", "undamaged", "seed 7"),
    Example("moved", "sneaker", "ssim", "product shifted", "2.0"),
    Example("spot", "pillow", "ssim_low", "spot on the product", "3.0"),
    Example("recolored", "sneaker", "delta_e", "product recolored", "by 20"),
    Example("darker", "jar", "psnr", "product darker", "by 30"),
    Example("cut", "tin", "delta_e_high", "upper end missing", "25"),
    Example("ring", "sneaker", "halo", "old background around the product", "4.0"),
    Example("unchanged", "sneaker", "background_changed", "background is the source's", "100"),
    Example("blank", "sneaker", "detail", "background is blank"),
    Example("inverted", "tin", "mask", "inverted mask, and an image that follows it"),
)
"""The examples in their order on the page."""
