# SPDX-License-Identifier: Apache-2.0
"""The page that shows what went in and what came out. Plain HTML and CSS, pictures beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Shot:
    """One image task: what went in, what came out.

    :param title: what people call the product.
    :param prompt: the positive prompt.
    :param source: the source picture's file.
    :param results: the generated pictures' files.
    :param mask: the mask's file.
    :param negative_prompt: what the background should not hold.
    :param facts: short words on how it was made.
    """

    title: str
    prompt: str
    source: Path
    results: Sequence[Path]
    mask: Path | None = None
    negative_prompt: str | None = None
    facts: Sequence[str] = field(default=())


def _figure(picture: Path, caption: str, alt: str, page: Path, kind: str = "") -> str:
    where = escape(quote(os.path.relpath(picture, page.parent), safe="/"))
    image = f'<img src="{where}" alt="{escape(alt)}" loading="lazy">'
    return f'<figure{kind}><a href="{where}">{image}</a><figcaption>{escape(caption)}</figcaption></figure>'


def _article(shot: Shot, page: Path) -> str:
    inputs = [_figure(shot.source, "source", f"{shot.title}: source picture", page)]
    if shot.mask is not None:
        inputs.append(_figure(shot.mask, "mask", f"{shot.title}: mask", page, ' class="mask"'))
    outputs = [
        _figure(picture, f"result {number}", f"{shot.title}, {shot.prompt}: result {number}", page)
        for number, picture in enumerate(shot.results, 1)
    ]
    without = f'<p class="not">without: {escape(shot.negative_prompt)}</p>' if shot.negative_prompt else ""
    count = {1: " one", 2: " two", 3: " three", 4: " four"}.get(len(outputs), "")
    return (
        f'<article><div><h2>{escape(shot.title)}</h2><div class="pair">{"".join(inputs)}</div>'
        f"<blockquote>{escape(shot.prompt)}</blockquote>{without}"
        f'<ul class="facts">{"".join(f"<li>{escape(fact)}</li>" for fact in shot.facts)}</ul></div>'
        f'<div class="results{count}">{"".join(outputs)}</div></article>'
    )


def write_page(
    page: Path, *, title: str, lead: str, numbers: Mapping[str, object], shots: Sequence[Shot], foot: str = ""
) -> None:
    """Write the page. Every text is escaped, whatever it holds.

    :param page: the HTML file; pictures are linked relative to it.
    :param title: headline.
    :param lead: a sentence below it.
    :param numbers: what was counted, by what it is called.
    :param shots: one card each.
    :param foot: small print.
    """
    counted = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in numbers.items()
    )
    page.write_text(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>\n'
        f'<dl class="numbers">{counted}</dl>\n<main>\n'
        + "\n".join(_article(shot, page) for shot in shots)
        + f"\n</main>\n<footer>{escape(foot)}</footer>\n</body>\n</html>\n",
        encoding="utf-8",
    )
