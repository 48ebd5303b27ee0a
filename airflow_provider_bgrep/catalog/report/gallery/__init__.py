# SPDX-License-Identifier: Apache-2.0
"""Writes the gallery of a run: one HTML file that loads nothing but the images beside it.

Jinja2 renders the page around the rows. The rows are JSON in ``script`` blocks, and their thumbnails are text
in further blocks, one a row. A browser does not run such blocks; the page's script reads them. The
content of a catalog is data in these blocks, and becomes text on the page.
"""

from __future__ import annotations

import base64
import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import IO, Any, Final

from markupsafe import Markup

from airflow_provider_bgrep.catalog.config.thresholds import MEASURES
from airflow_provider_bgrep.catalog.model.states import TO_DO, RowState
from airflow_provider_bgrep.catalog.report.gallery.header import header_of
from airflow_provider_bgrep.catalog.report.gallery.page import (
    content_security_policy,
    script,
    style,
    template,
)
from airflow_provider_bgrep.catalog.report.gallery.row import lead_image, row_to_json, score_label
from airflow_provider_bgrep.catalog.report.summary import STATUSES, Summary, in_words
from airflow_provider_bgrep.protocol.errors import reason_of

BUDGET: Final = 64 * 1024 * 1024
"""Most bytes of thumbnails in one page, as base64. The page is usable before it has loaded completely."""
_TEXT_BUDGET: Final = 32 * 1024 * 1024
"""Bytes of JSON after which texts are cut shorter."""
_LONG, _SHORT = 4000, 200
"""Most characters of a text, before and after the rows have used up the text budget."""
_BLOCK_ROWS: Final = 200
"""Rows in one block of JSON."""
_CHUNK: Final = 1024 * 1024
_PLAIN: Final = (
    *("name", "sku", "view", "line", "state", "change", "outcome", "verdict", "positive_prompt"),
    *("billable", "cost", "published", "advice"),
)
"""Columns of a row that can always be shown."""
_ESCAPES: Final = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
"""Characters that could end a block of JSON, open a comment in it or break a line of it."""

_log = logging.getLogger(__name__)


def write_gallery(
    rows: Iterable[Mapping[str, Any]], summary: Summary, local: str, *, budget: int = BUDGET
) -> None:
    """Write the page, in memory that does not grow with the number of rows.

    :param rows: one mapping a row, in the order in which they are shown. Keys: the ledger's (see
        :mod:`~airflow_provider_bgrep.catalog.model.schema`), ``state``, ``change``, ``line``, ``column``,
        ``advice``, ``billable``, ``cost``, ``published``, ``files``, ``flags``, ``scores``, ``thumbs``,
        ``report``; only ``state`` is required. ``published``, ``files`` and ``report`` are URLs relative to
        the page; ``thumbs`` has ``source``, ``mask`` and ``candidates``, images as bytes.
    :param summary: the summary of the run.
    :param local: path of the file to write.
    :param budget: most bytes of thumbnails, as base64. The first half is for all images of the first rows,
        the second half for two images a row: the source and the image shown first. After that, rows show
        their full-size files.
    """
    with tempfile.TemporaryFile(prefix="bgrep-") as file:
        thumbnails = _Thumbnails(file, budget)
        page = template("page.html").stream(
            script=Markup(script()),  # noqa: S704
            style=Markup(style()),  # noqa: S704
            policy=content_security_policy(),
            blocks=_blocks_of(rows, thumbnails, summary["currency"]),
            meta=_json(_meta(summary)),
            # The template reads this after the rows, when the thumbnails are complete.
            thumbnails=thumbnails.chunks(),
            **header_of(summary),
        )
        page.dump(local, encoding="utf-8", errors="replace")


def without_details(row: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    """Return a row without what can be damaged: images, flags and scores.

    :param row: as for :func:`write_gallery`.
    :param error: why the whole row cannot be shown.
    """
    _log.warning("Could not show row %s: %s", row.get("name"), reason_of(error))
    reason = f"{row.get('reason') or ''} (Its details cannot be shown: {reason_of(error)})".strip()
    return {**{name: row.get(name) for name in _PLAIN}, "reason": reason}


def _blocks_of(rows: Iterable[Mapping[str, Any]], thumbnails: _Thumbnails, currency: str) -> Iterator[Markup]:
    """Yield blocks of rows as JSON, and add the thumbnails of those rows."""
    written = 0
    numbered = enumerate(rows)
    while block := list(islice(numbered, _BLOCK_ROWS)):
        values = []
        for number, row in block:
            longest = _LONG if written < _TEXT_BUDGET else _SHORT
            try:
                thumbs = thumbnails.add(number, row.get("thumbs") or {}, lead_image(row))
                value = row_to_json(row, longest, thumbs=thumbs, currency=currency)
            except Exception as error:  # whatever its class: see isolation.py
                value = row_to_json(without_details(row, error), longest, thumbs="", currency=currency)
            values.append(value)
        text = _json(values)
        written += len(text.encode("utf-8", "replace"))
        yield text


def _meta(summary: Summary) -> dict[str, Any]:
    """Return what the page's script has to know besides the rows."""
    return {
        "listed": summary["listed"],
        "statuses": {
            name: {
                "label": in_words(name).capitalize(),
                "tone": status.tone,
                "attention": status.needs_attention,
            }
            for name, status in STATUSES.items()
        },
        # The states that a row can have when a shard works on it.
        "states": {state.value: in_words(state.value).capitalize() for state in RowState if state in TO_DO},
        "scores": {
            name: {"label": score_label(name), "meaning": measure.meaning}
            for name, measure in MEASURES.items()
        },
    }


def _json(value: Any) -> Markup:
    """Return JSON that can stand in a ``script`` block."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.translate(_ESCAPES))  # noqa: S704


class _Thumbnails:
    """Collects thumbnails in a file, as long as the budget allows, for the end of the page.

    :param file: the file to collect them in.
    :param budget: most bytes of them.
    """

    def __init__(self, file: IO[bytes], budget: int) -> None:
        self._file, self._budget, self._used = file, budget, 0

    def add(self, number: int, thumbs: Mapping[str, Any], lead: int) -> str:
        """Add a row's thumbnails: source, mask and output images, separated by blanks.

        :param number: the row's number on the page.
        :param lead: which output image is shown first.
        :return: one character for each, ``1`` if it is in the page and ``0`` if not; ``''`` if none is.
        """
        every = [thumbs.get("source"), thumbs.get("mask"), *(thumbs.get("candidates") or [])]
        two = [one if place in (0, lead + 2) else None for place, one in enumerate(every)]
        for images, limit in ((every, self._budget // 2), (two, self._budget)):
            texts = [base64.b64encode(one or b"").decode() for one in images]
            line = f'<script type="text/plain" id="t{number}">{" ".join(texts)}</script>\n'.encode()
            if any(texts) and self._used + len(line) <= limit:
                self._used += self._file.write(line)
                return "".join("1" if text else "0" for text in texts)
        return ""

    def chunks(self) -> Iterator[Markup]:
        """Yield what was collected."""
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            yield Markup(chunk.decode("ascii"))  # noqa: S704
