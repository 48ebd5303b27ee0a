# SPDX-License-Identifier: Apache-2.0
"""A night as one HTML file: a page that asks for nothing from anywhere but the images beside it.

Rows are inert JSON, small images inert text, one block a row: the browser reads past them, and the page's
script looks into those that it shows. What a catalog holds is text in there, and becomes text on the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import IO, Any, Final

from airflow_provider_bgrep.catalog.config.thresholds import MEASURES
from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.catalog.report.gallery.cells import FIELDS, SHARED, cells_of, in_words, main_of
from airflow_provider_bgrep.catalog.report.gallery.summary import parts_of
from airflow_provider_bgrep.catalog.report.summary import STATUSES

BUDGET: Final = 64 * 1024 * 1024
"""Bytes of small images in one page, as base64. The page can be used before it has been read to its end."""
_TEXT_BUDGET: Final = 32 * 1024 * 1024
_LONG, _SHORT = 4000, 200
"""Characters of one text; the fewer once the rows' texts have used up their budget."""
_BLOCK: Final = 200
"""Rows of one block of JSON."""
_WHY: Final = {
    RowState.NEW.value: "New",
    RowState.CHANGED.value: "Changed",
    RowState.PENDING.value: "Collected",
    RowState.UNPUBLISHED.value: "Checked again",
}
"""Why rows were worked on, by their states."""
_SCRIPTS: Final = ("data.js", "list.js", "look.js")
_PLACE: Final = re.compile(r"\[\[(\w+)\]\]")
_ESCAPES: Final = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def write_gallery(
    rows: Iterable[Mapping[str, Any]], summary: Mapping[str, Any], local: str, *, budget: int = BUDGET
) -> None:
    """Write the page.

    :param rows: one dict a row, those that people should see first first; they are looked at one by one.
        Keys: the ledger's (see :mod:`~airflow_provider_bgrep.catalog.model.schema`), ``state``, ``change``,
        ``line``, ``column``, ``advice``, ``bought``, ``cost``, ``published``, ``files``, ``flags``,
        ``scores``, ``thumbs``, ``report``; each may be missing, but ``state``. ``published``, ``files`` and
        ``report`` are URLs relative to the page.
    :param summary: as :func:`~airflow_provider_bgrep.catalog.report.summary.summary_of` gives it.
    :param local: the file to write.
    :param budget: most bytes of small images, as base64. Half of it is for all images of the first rows,
        the rest for two a row: its source and the one that is published. Then rows show full-size files.
    """
    script = f"(() => {{\n{''.join(map(_asset, _SCRIPTS))}}})();"
    style = _asset("page.css")
    values = {"script": script, "style": style, "csp": _policy(script, style), **parts_of(summary)}
    with Path(local).open("wb") as page, tempfile.TemporaryFile(prefix="bgrep-") as thumbs:
        for text, place in _pieces(_asset("page.html")):
            page.write(text.encode())
            if place == "rows":
                _write_rows(rows, page, _Images(thumbs, budget), summary)
            elif place == "thumbs":
                thumbs.seek(0)
                while some := thumbs.read(1024 * 1024):
                    page.write(some)
            elif place:
                page.write(values[place].encode("utf-8", "replace"))


def _asset(name: str) -> str:
    return (resources.files(__name__) / name).read_text("utf-8")


def _pieces(template: str) -> Iterator[tuple[str, str]]:
    """Texts of the template, each with the place after it; values are not looked at for places."""
    start = 0
    for place in _PLACE.finditer(template):
        yield template[start : place.start()], place[1]
        start = place.end()
    yield template[start:], ""


def _policy(script: str, style: str) -> str:
    """What the browser may do: run this script, use this style, show images beside the page."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _write_rows(
    rows: Iterable[Mapping[str, Any]],
    page: IO[bytes],
    images: _Images,
    summary: Mapping[str, Any],
) -> None:
    """Write the rows' texts into the page, and their small images into a file that follows it."""
    block: list[list[Any]] = []
    shared: dict[Any, int] = {}
    written = 0
    for number, row in enumerate(rows):
        held = images.keep(number, row.get("thumbs") or {}, main_of(row))
        most = _LONG if written < _TEXT_BUDGET else _SHORT
        block.append(cells_of(row, most, held=held, currency=summary["currency"], shared=shared))
        if len(block) == _BLOCK:
            written += _write_json(page, block, 'class="rows"')
            block = []
    _write_json(page, block, 'class="rows"')
    meta = {
        "fields": FIELDS,
        "listed": summary["listed"],
        "statuses": {
            name: {"label": one.label, "tone": one.tone, "needs": int(one.needs_attention)}
            for name, one in STATUSES.items()
        },
        "states": {state.value: state.value.replace("_", " ").capitalize() for state in RowState} | _WHY,
        "why": list(_WHY),
        "measures": [[in_words(name), measure.meaning] for name, measure in MEASURES.items()],
        "common": SHARED,
        "shared": list(shared),
    }
    _write_json(page, meta, 'id="meta"')


class _Images:
    """Small images on their way into the page, as long as there is room.

    :param file: where they go.
    :param budget: most bytes of them.
    """

    def __init__(self, file: IO[bytes], budget: int) -> None:
        self._file, self._budget, self._used = file, budget, 0

    def keep(self, number: int, thumbs: Mapping[str, Any], main: int) -> str:
        """Write a row's images: source, mask, then what was made, a blank between them.

        :param number: the row's.
        :param main: which of what was made matters most.
        :return: ``1`` for each that is in the page, ``0`` for each that is not; ``''`` for none at all.
        """
        every = [thumbs.get("source"), thumbs.get("mask"), *(thumbs.get("candidates") or [])]
        two = [one if place in (0, main + 2) else None for place, one in enumerate(every)]
        for images, limit in ((every, self._budget // 2), (two, self._budget)):
            texts = [base64.b64encode(one or b"").decode() for one in images]
            line = f'<script type="text/plain" id="t{number}">{" ".join(texts)}</script>\n'.encode()
            if any(texts) and self._used + len(line) <= limit:
                self._used += self._file.write(line)
                return "".join("1" if text else "0" for text in texts)
        return ""


def _write_json(page: IO[bytes], value: Any, attributes: str) -> int:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Neither the end of the block nor a comment can be in there.
    data = text.translate(_ESCAPES).encode("utf-8", "replace")
    return page.write(b'<script type="application/json" %s>%s</script>\n' % (attributes.encode(), data))
