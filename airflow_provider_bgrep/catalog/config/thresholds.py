# SPDX-License-Identifier: Apache-2.0
"""The scores of an image and their thresholds, in one table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from airflow_provider_bgrep.catalog.config.parsing import is_nothing, number, parse_bool, shown
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem


@dataclass(frozen=True, slots=True)
class Measure:
    """One score of an image, and the threshold of the same name.

    :param meaning: its meaning, for the documentation.
    :param found: what is wrong with an image that does not pass; may contain ``{sides}``, ``{source}`` and
        ``{words}``.
    :param default: the threshold; ``None`` if there is none.
    :param is_least: whether the threshold is the lowest score that passes; otherwise it is the highest.
    :param lowest: lowest value of the threshold.
    :param highest: highest value of the threshold.
    """

    meaning: str
    found: str = ""
    default: float | None = None
    is_least: bool = True
    lowest: float = 0.0
    highest: float = 200.0


MEASURES: Final[dict[str, Measure]] = {
    "ssim": Measure(
        "Structural similarity (SSIM) of the product and the source's product. 1 means identical.",
        "the product has changed",
        0.92,
        lowest=-1,
        highest=1,
    ),
    "ssim_low": Measure(
        "The same for the least similar part of the product. A part is 1/40 of the image's side wide.",
        "a part of the product has changed",
        0.75,
        lowest=-1,
        highest=1,
    ),
    "delta_e": Measure(
        "Mean color difference of the product (CIEDE2000). 1 is barely visible, 5 is obvious.",
        "the product's colors have changed",
        4.5,
        is_least=False,
    ),
    "delta_e_high": Measure(
        "The same for the part of the product that differs most. A part is 1/40 of the image's side wide.",
        "the color of a part of the product has changed",
        9.0,
        is_least=False,
    ),
    "label_text": Measure(
        "Share of the words on the source's product that the image shows, too. Only with the extra ocr.",
        "words on the product have changed or are missing: {words}",
        1.0,
        highest=1,
    ),
    "psnr": Measure(
        "Peak signal-to-noise ratio of the product's brightness in dB. 100 means identical.",
        "the product's brightness has changed",
        20.0,
        highest=100,
    ),
    "background_changed": Measure(
        "Mean color difference of the background (CIEDE2000), or of the whole image if there is no mask.",
        "the background is still the source's",
        1.5,
    ),
    "halo": Measure(
        "Share of the product's outline along which a ring of the source's background is left.",
        "the source's background is left around the product",
        0.4,
        is_least=False,
        highest=1,
    ),
    "detail": Measure(
        "Standard deviation of the background's brightness, or of the whole image's if there is no mask.",
        "the background is blank",
        1.0,
        highest=128,
    ),
    "aspect": Measure(
        "Deviation of the aspect ratio from the source's, as a fraction of it.",
        "it is {sides}, with another aspect ratio than the source ({source})",
        0.02,
        is_least=False,
        highest=10,
    ),
    "size": Measure(
        "Ratio of the image's longer side to the source's.",
        "it is {sides}, smaller than the source ({source})",
        0.7,
        highest=10,
    ),
    "area": Measure(
        "Fraction of the image in which the product was compared. 0 means that there is no mask."
    ),
    "label_words": Measure("Number of words that were compared. Only with the extra ocr."),
}
"""All scores, in the order of reports. Code, gallery and documentation read this table.

The defaults are between the values that were measured on the emulator's ten products, 900 pixels wide.

Worst scores of images that should pass (as JPEG of quality 60 or WebP of 75; scaled by 0.8 to 1.5;
shifted by a thousandth of the width; 5 % darker; 4 % warmer): ssim 0.97, ssim_low 0.81, delta_e 3.6,
delta_e_high 8.0, psnr 28.
Photographs of fine texture, 450 to 740 pixels wide, shifted by half a pixel: ssim 0.95, ssim_low 0.80.

Best scores of images that should not pass, by the score that detects the damage: blurred by half a
hundredth of the width, ssim_low 0.71; a patch of 3 % of the product made 15 % darker, ssim_low 0.69; hue
turned by 20 degrees, delta_e_high 13; all made 15 % darker, delta_e 5.4; shifted by a hundredth of the
width, ssim_low 0.

A background that is the source's, as JPEG of quality 60: background_changed up to 1.0. The emulator's
studio on a studio image at its lowest strength, 0.05: 2.5; no scene of it has less detail than 9.

On the 22 products of the image pairs (``make bench ARGS="pairs"``), halo is at most 0.13 without a ring of
the old background, on average 0.5 with one of 1 % of the width, and at least 0.64 with wider ones; except
where nothing can be compared: on a black background, and beside a product that fills the image.
"""


def _default(name: str) -> float:
    value = MEASURES[name].default
    if value is None:
        raise AssertionError(f"{name} has no threshold")
    return value


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Thresholds that the scores of an image are compared with.

    Each field is the threshold of the score with the same name, see the table of scores in :doc:`/catalog`.

    :param label_text: with 0, the words on products are not read.
    :param need_mask: whether an image without a mask is flagged, because its product cannot be compared.
    """

    ssim: float = _default("ssim")
    ssim_low: float = _default("ssim_low")
    delta_e: float = _default("delta_e")
    delta_e_high: float = _default("delta_e_high")
    label_text: float = _default("label_text")
    psnr: float = _default("psnr")
    background_changed: float = _default("background_changed")
    halo: float = _default("halo")
    detail: float = _default("detail")
    aspect: float = _default("aspect")
    size: float = _default("size")
    need_mask: bool = False

    @classmethod
    def checked(cls, given: Mapping[str, Any]) -> Thresholds:
        """Return the thresholds from the rendered values of a DAG, with defaults for missing values.

        :raises InvalidInput: with every problem.
        """
        if not isinstance(given, Mapping):
            raise InvalidInput([Problem("thresholds", f"is {shown(given)}; give a mapping")])
        names = [one.name for one in fields(cls)]
        problems: list[Problem] = []
        values: dict[str, Any] = {}
        for name, value in given.items():
            where = f"thresholds.{name}"
            if name not in names:
                problems.append(Problem(where, f"is not a threshold; give one of {', '.join(names)}"))
                continue
            try:
                found = _read(name, value)
            except ValueError as error:
                problems.append(Problem(where, f"is {shown(value)}; give {error}"))
                continue
            if found is not None:
                values[name] = found
        if problems:
            raise InvalidInput(problems)
        return cls(**values)

    def to_json(self) -> str:
        """Return the stored form. Equal thresholds have equal text."""
        return json.dumps(asdict(self), sort_keys=True)


def _read(name: str, value: Any) -> float | bool | None:
    """A threshold's value; ``None`` where none is given."""
    if is_nothing(value):
        return None
    if name == "need_mask":
        return parse_bool(value)
    measure = MEASURES[name]
    words = f"a number from {measure.lowest:g} to {measure.highest:g}"
    return float(number(measure.lowest, measure.highest, float, words)(value))
