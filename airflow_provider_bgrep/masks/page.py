# SPDX-License-Identifier: Apache-2.0
"""A page that shows images beside their cut-outs, the doubtful ones first: one file, without scripts."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Final

from PIL import Image

from airflow_provider_bgrep.images.colors import to_srgb
from airflow_provider_bgrep.images.decode import load

if TYPE_CHECKING:
    from airflow_provider_bgrep.masks.batch import FileResult

_SIDE: Final = 240

_STYLE: Final = """\
body{font:15px/1.4 system-ui,sans-serif;margin:24px;color:#1c1c1c;background:#fff}
figure{display:inline-block;width:500px;margin:0 24px 24px 0;vertical-align:top}
img{width:240px;height:240px;object-fit:contain;background:#eee}
img+img{margin-left:12px;background:repeating-conic-gradient(#bbb 0 25%,#eee 0 50%) 0/24px 24px}
figcaption{overflow-wrap:anywhere}
.doubtful figcaption b{color:#a40000}
"""


class MaskPage:
    """Collects what the page shows, as small images.

    :param least: the confidence from which a mask is used without a person.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._figures: list[tuple[float, str]] = []

    def add(self, result: FileResult) -> None:
        """Add what came of one file."""
        name = html.escape(result.image.rpartition("/")[2])
        made = result.made
        if made is None:
            text = f"<b>{name}: no mask</b><br>{html.escape(result.problem)}"
            self._figures.append((-1.0, f'<figure class="doubtful"><figcaption>{text}</figcaption></figure>'))
            return
        small = _small(load(result.data))
        cut = small.convert("RGBA")
        cut.putalpha(made.image.resize(small.size))
        doubts = "".join(f"<br>{html.escape(one)}" for one in made.doubts)
        text = f"<b>{name}</b>: confidence {made.confidence:.2f}, {made.method.value}{doubts}"
        shown = f'<img alt="The image" src="{_url(small)}"><img alt="Its cut-out" src="{_url(cut)}">'
        kind = "doubtful" if result.is_doubtful else "sure"
        self._figures.append(
            (
                made.confidence,
                f'<figure class="{kind}">{shown}<figcaption>{text}</figcaption></figure>',
            )
        )

    def render(self) -> bytes:
        """Return the page."""
        figures = "\n".join(text for _, text in sorted(self._figures, key=lambda one: one[0]))
        count = sum(value < self._least for value, _ in self._figures)
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Masks</title>'
            f"<style>{_STYLE}</style><h1>Masks</h1><p>{len(self._figures)} images; {count} need a person: "
            f"confidence below {self._least:g}.</p>\n{figures}</html>\n"
        ).encode()


def _small(image: Image.Image) -> Image.Image:
    small = to_srgb(image, image.info.get("icc_profile")).convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    return small


def _url(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
