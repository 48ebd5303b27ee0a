# SPDX-License-Identifier: Apache-2.0
"""The columns of a catalog: their names, their meaning, and the name of a row."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS

OWN: Final[dict[str, str]] = {
    "sku": "The product's key. Published files are in a folder with this name.",
    "view": "Which image of the product, if it has several. Default: 'main'.",
    "category": "Selects defaults from ``categories``.",
}

COLUMNS: Final[dict[str, str]] = {
    **OWN,
    **{
        field.name: f"{field.meaning} {'A template over the row. ' if field.kind == 'text' else ''}"
        f"Allowed: {field.range}."
        for field in IMAGE_TASK_FIELDS.values()
    },
}
"""The meaning of each column, by name. Sku and view together identify a row of the catalog."""

URL_FIELDS: Final = tuple(one.name for one in IMAGE_TASK_FIELDS.values() if one.kind == "url")
TEXT_FIELDS: Final = tuple(one.name for one in IMAGE_TASK_FIELDS.values() if one.kind == "text")
REQUIRED: Final = ("sku", "image")
MAX_NAME: Final = 100
"""Characters of a row's name."""

MAIN: Final = "main"
"""The view of a row that names none."""

INVISIBLE: Final = dict.fromkeys(
    map(
        ord,
        "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
        "\u2060\u2066\u2067\u2068\u2069\ufe0e\ufe0f\ufeff",
    )
)
"""Characters without a width. In a heading or a category they can only be a mistake."""


def column_name(heading: object) -> str:
    """The name of a column as fields and templates use it: ``Positive-Prompt `` is ``positive_prompt``.

    :param heading: the heading in the file.
    :return: small letters and digits, joined by ``_``; ``''`` if the heading is blank.
    """
    text = unicodedata.normalize("NFKC", str(heading).translate(INVISIBLE)).strip()
    if not text:
        return ""
    name = re.sub(r"\W+", "_", text.casefold()).strip("_")
    return f"_{name}" if not name or name[0].isdigit() else name


def holds_url(text: str) -> bool:
    """Whether a text holds the beginning of a URL, as no sku and no view does: it is of another column."""
    return "://" in text


def name_of(sku: str, view: str | None = None) -> str:
    """Return the name of a row: its sku, followed by its view unless that is 'main'."""
    return sku if not view or view == MAIN else f"{sku}/{view}"


def keys_of(name: str, sku: str) -> tuple[str, str]:
    """Return the keys that a person may give for a row: that of the row alone, and that of its product.

    The name of a main view is the sku, which counts for all views. Alone, it is ``sku/main``.

    :param name: see :func:`name_of`.
    """
    return (f"{sku}/{MAIN}" if name == sku else name, sku)
