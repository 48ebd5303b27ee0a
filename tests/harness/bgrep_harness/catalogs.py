# SPDX-License-Identifier: Apache-2.0
"""A catalog with a hundred kinds of invalid rows between valid ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_bgrep.catalog.config.defaults import FieldDefaults
from airflow_provider_bgrep.catalog.plan.image_tasks import ImageTaskBuilder
from airflow_provider_bgrep.catalog.source.catalog import Catalog
from airflow_provider_bgrep.catalog.source.catalog import InvalidRow as ReportedRow
from airflow_provider_bgrep.catalog.source.reader import open_catalog
from airflow_provider_bgrep.catalog.source.rows import NormalizedRows
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.protocol.models import ImageTask

COLUMNS = (
    "sku,view,category,name,color,image,mask,positive_prompt,negative_prompt,guidance_scale,strength,seed,steps,"
    "num_output"
).split(",")

LONG = "x" * 501


@dataclass(frozen=True)
class InvalidRow:
    """An invalid row.

    :param text: its text in the file; one line or several.
    :param column: the column that the report must name, ``''`` for the whole row.
    :param words: words that the reason must contain.
    """

    text: bytes
    column: str
    words: str


def cells(number: int, **given: str) -> str:
    """Return a row as CSV, valid except for what is given."""
    row = {
        "sku": f"BAD-{number:03}",
        "name": "mug",
        "color": "red",
        "image": "https://shop.example/mug.jpg",
        "positive_prompt": "on marble",
        **given,
    }
    return ",".join(_quoted(row.get(column, "")) for column in COLUMNS)


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell


CELLS: tuple[tuple[dict[str, str], str, str], ...] = (
    ({"sku": ""}, "sku", "is missing"),
    ({"sku": "   "}, "sku", "is missing"),
    ({"sku": "S" * 101}, "sku", "at most 100"),
    ({"sku": "a\tb"}, "sku", "control character"),
    ({"sku": "DUP"}, "sku", "in line 2 already"),
    ({"sku": "DUP", "view": "main"}, "sku", "in line 2 already"),
    ({"sku": " DUP "}, "sku", "in line 2 already"),
    ({"image": ""}, "image", "is missing"),
    ({"image": "mug.jpg"}, "image", "is not http or https"),
    ({"image": "C:\\Images\\mug.jpg"}, "image", "is not http or https"),
    ({"image": "\\\\server\\share\\mug.jpg"}, "image", "is not http or https"),
    ({"image": "/srv/images/mug.jpg"}, "image", "is not http or https"),
    ({"image": "file:///srv/mug.jpg"}, "image", "is not http or https"),
    ({"image": "ftp://shop.example/mug.jpg"}, "image", "is not http or https"),
    ({"image": "data:image/png;base64,iVBORw0KGgo="}, "image", "is not http or https"),
    ({"image": "javascript:alert(1)"}, "image", "is not http or https"),
    ({"image": "https://"}, "image", "has no host"),
    ({"image": "https:///mug.jpg"}, "image", "has no host"),
    ({"image": "https://[::1/mug.jpg"}, "image", "cannot be read"),
    ({"image": "https://shop.example:port/mug.jpg"}, "image", "cannot be read"),
    ({"image": "https://shop.example/a\nb.jpg"}, "image", "blank or a control"),
    ({"image": "https://shop.example/a\u200bb.jpg"}, "image", "blank or a control"),
    ({"image": "www.shop.example/mug.jpg"}, "image", "is not http or https"),
    ({"image": "#REF!"}, "image", "is missing"),
    ({"image": "=HYPERLINK(A1)"}, "image", "is not http or https"),
    ({"image": "n/a"}, "image", "is missing"),
    ({"image": "https://user:secret@/mug.jpg"}, "image", "has no host"),
    ({"mask": "mask.png"}, "mask", "is not http or https"),
    ({"mask": "nomask"}, "mask", "is not http or https"),
    ({"mask": "file:///mask.png"}, "mask", "is not http or https"),
    ({"positive_prompt": LONG}, "positive_prompt", "is too long"),
    ({"positive_prompt": "雪" * 501}, "positive_prompt", "is too long"),
    ({"positive_prompt": "{{ 'x' ~ name }}" + "y" * 500}, "positive_prompt", "is too long"),
    ({"positive_prompt": "A {{ shade }} mug"}, "positive_prompt", "'shade' is undefined"),
    ({"positive_prompt": "A {{ color }"}, "positive_prompt", "template"),
    ({"positive_prompt": "A {% if color %} mug"}, "positive_prompt", "template"),
    ({"positive_prompt": "A {{ category }} mug"}, "positive_prompt", "'category' is undefined"),
    ({"positive_prompt": "{{ ''.__class__ }}"}, "positive_prompt", "template"),
    ({"positive_prompt": "{{ name.__class__.__mro__ }}"}, "positive_prompt", "template"),
    ({"positive_prompt": "{% for i in name %}{{ name }}{% endfor %}"}, "positive_prompt", "not allowed"),
    ({"positive_prompt": "{{ name * 1000000000 }}"}, "positive_prompt", "not allowed"),
    ({"positive_prompt": "{{ 9 ** 9 ** 9 }}"}, "positive_prompt", "not allowed"),
    ({"positive_prompt": "{{ range(10) }}"}, "positive_prompt", "not allowed"),
    ({"positive_prompt": "{{ name.upper() }}"}, "positive_prompt", "not allowed"),
    ({"positive_prompt": "{% include 'x' %}"}, "positive_prompt", "not allowed"),
    ({"positive_prompt": "{% macro a() %}x{% endmacro %}x"}, "positive_prompt", "not allowed"),
    ({"positive_prompt": "{{ name | nosuchfilter }}"}, "positive_prompt", "nosuchfilter"),
    ({"positive_prompt": "{{ name / 2 }}"}, "positive_prompt", "cannot be rendered"),
    ({"positive_prompt": "{{ 1 / 0 }}"}, "positive_prompt", "cannot be rendered"),
    ({"positive_prompt": "{# nothing else #}"}, "positive_prompt", "is blank"),
    ({"positive_prompt": "{{ '' }}"}, "positive_prompt", "is blank"),
    ({"negative_prompt": LONG}, "negative_prompt", "is too long"),
    ({"negative_prompt": "{{ nothing }}"}, "negative_prompt", "'nothing' is undefined"),
    ({"guidance_scale": "0"}, "guidance_scale", "out of range"),
    ({"guidance_scale": "0.99"}, "guidance_scale", "out of range"),
    ({"guidance_scale": "20.01"}, "guidance_scale", "out of range"),
    ({"guidance_scale": "-7.5"}, "guidance_scale", "out of range"),
    ({"guidance_scale": "high"}, "guidance_scale", "give a"),
    ({"guidance_scale": "7.5.1"}, "guidance_scale", "give a"),
    ({"guidance_scale": "7,5,1"}, "guidance_scale", "give a"),
    ({"guidance_scale": "1.234,5"}, "guidance_scale", "give a"),
    ({"guidance_scale": "-inf"}, "guidance_scale", "not a finite number"),
    ({"guidance_scale": "inf"}, "guidance_scale", "not a finite number"),
    ({"guidance_scale": "７.５"}, "guidance_scale", "give a"),
    ({"guidance_scale": "7.5 %"}, "guidance_scale", "give a"),
    ({"strength": "0"}, "strength", "out of range"),
    ({"strength": "1.01"}, "strength", "out of range"),
    ({"strength": "-0.5"}, "strength", "out of range"),
    ({"strength": "50%"}, "strength", "give a"),
    ({"strength": "true"}, "strength", "give a"),
    ({"strength": "1e400"}, "strength", "not a finite number"),
    ({"seed": "abc"}, "seed", "give a"),
    ({"seed": "1.5"}, "seed", "is a float"),
    ({"seed": str(2**63)}, "seed", "64 bits"),
    ({"seed": str(-(2**63) - 1)}, "seed", "64 bits"),
    ({"seed": "9" * 5000}, "seed", ""),
    ({"seed": "0x10"}, "seed", "give a"),
    ({"steps": "14"}, "steps", "out of range"),
    ({"steps": "51"}, "steps", "out of range"),
    ({"steps": "20.5"}, "steps", "is a float"),
    ({"steps": "many"}, "steps", "give a"),
    ({"steps": "2026-11-23"}, "steps", "give a"),
    ({"num_output": "0"}, "num_output", "out of range"),
    ({"num_output": "5"}, "num_output", "out of range"),
    ({"num_output": "two"}, "num_output", "give a"),
    ({"num_output": "-1"}, "num_output", "out of range"),
    ({"num_output": "1.5"}, "num_output", "is a float"),
    ({"steps": "14", "strength": "2"}, "strength, steps", "out of range"),
)
"""Rows with invalid cells: the cells, the column to name, words of the reason."""

LINES: tuple[tuple[bytes, str, str], ...] = (
    (b"BAD-900,too,few", "", "has 3 cells, and the header 14"),
    (b"BAD-901" + b"," * 14 + b"one too many", "", "has 15 cells"),
    (b"BAD-902,,,mug,red,https://a.example/a,b.jpg,on marble,,,,,,,", "mask", "not http"),
    (b'BAD-903,"never closed', "", "quote"),
    (b'BAD-904,"closed" and more' + b"," * 12, "", "quote"),
    (b"BAD-905,,,m\xffg,red,https://shop.example/a.jpg" + b"," * 8, "", "not utf-8"),
    (b"BAD-906,,,m\xc3,red,https://shop.example/a.jpg" + b"," * 8, "", "not utf-8"),
    (b"BAD-907,,,m\x00g,red,https://shop.example/a.jpg" + b"," * 8, "", "a NUL"),
    (b"BAD-908;;;mug;red;https://shop.example/a.jpg;;on marble;;;;;;", "", "has 1 cells"),
    (b"BAD-909,,,mug,red," + b"y" * 140_000 + b"," * 8, "", "131072"),
    (b"====== conflict ======", "", "has 1 cells"),
    (b"# a remark, of somebody's", "", "has 2 cells"),
)
"""Invalid lines: the line, the column to name, words of the reason."""


def invalid_rows(image: str) -> tuple[bytes, dict[int, InvalidRow], list[str]]:
    """Return a catalog as a CSV file.

    :param image: URL of an image that exists.
    :return: the file, the invalid rows by line, and the names of the valid rows.
    """
    rows = [
        InvalidRow(cells(i, **given).encode(), column, words)
        for i, (given, column, words) in enumerate(CELLS)
    ]
    rows += [InvalidRow(*line) for line in LINES]
    lines = [",".join(COLUMNS).encode(), cells(0, sku="DUP", image=image).encode()]
    number, invalid, names = 2, {}, ["DUP"]
    for place, row in enumerate(rows):
        number += 1
        invalid[number] = row
        lines.append(row.text)
        number += row.text.count(b"\n")
        if place % 5 == 4:
            name = f"GOOD-{place:03}"
            lines.append(cells(0, sku=name, image=f"{image}?{place}").encode())
            names.append(name)
            number += 1
    return b"\r\n".join(lines) + b"\r\n", invalid, names


def image_tasks(
    catalog: Catalog, defaults: FieldDefaults | None = None
) -> Iterator[tuple[dict[str, Any], ImageTask | InvalidInput]]:
    """The rows of an open catalog, normalized, each with its image task or with what is wrong with it.

    :param defaults: what rows leave open. Every column is a variable of templates.
    """
    defaults = defaults or FieldDefaults()
    rows = NormalizedRows(catalog, defaults.defaults, defaults.categories, catalog.columns)
    builder = ImageTaskBuilder(rows.constants, rows.variables, rows.kinds)
    for batch in rows.batches():
        for row in batch.to_pylist():
            try:
                yield row, builder.build(row)
            except InvalidInput as error:
                yield row, error


def image_task(cells: Mapping[str, Any], defaults: FieldDefaults | None = None) -> ImageTask:
    """The image task of one row.

    :raises InvalidInput: if the row is invalid.
    """
    with open_catalog([cells]) as catalog:
        ((_, task),) = image_tasks(catalog, defaults)
    if isinstance(task, InvalidInput):
        raise task
    return task


def read_catalog(catalog: Any, **how: str) -> tuple[list[dict[str, Any]], list[ReportedRow]]:
    """All rows of a catalog, and those that cannot be read.

    :param how: as for :func:`~airflow_provider_bgrep.catalog.source.reader.open_catalog`.
    """
    with open_catalog(catalog, **how) as opened:
        rows = [row for batch in opened.batches() for row in batch.to_pylist()]
    return rows, opened.invalid


def write_file(folder: Path, data: bytes | str, name: str = "catalog.csv") -> str:
    """Write a file; its path."""
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


HOSTILE_SKUS = [
    *(
        "a/b",
        "a_b",
        "../../etc",
        "..",
        ".",
        "",
        ".hidden",
        "manifests",
        "manifest.json",
        "_bgrep",
        "Manifests",
    ),
    *(
        "CON",
        "con.png",
        "NUL",
        "lpt1",
        "ABC",
        "abc",
        "aBc",
        "é",
        "e\u0301",
        "雪" * 100,
        "雪" * 100 + "1",
        "a" * 300,
    ),
    *(
        "🏮",
        "x\\y",
        "a b",
        "-rf",
        "~",
        "$(x)",
        "%2e%2e",
        "name.",
        "name..",
        "a\u202eb",
        "?x=1#y",
        "{sku}",
        "\ud83d",
    ),
]
"""Skus that a path must not be built from as they are."""
