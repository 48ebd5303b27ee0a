# SPDX-License-Identifier: Apache-2.0
"""The table "What a catalog may look like", from the tables of the reader. Needs no Sphinx."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airflow_provider_bgrep.catalog.model.cell_values import (
    EMPTY_CELLS,
    FALSE_WORDS,
    NUMBERS,
    TRUE_WORDS,
    number_of,
)
from airflow_provider_bgrep.catalog.model.columns import COLUMNS, REQUIRED, column_name
from airflow_provider_bgrep.catalog.source.catalog import LIKELY, SUFFIXES, SYNONYMS
from airflow_provider_bgrep.catalog.source.csv_dialect import DELIMITERS
from airflow_provider_bgrep.catalog.source.csv_encoding import DETECTED
from airflow_provider_bgrep.catalog.source.reader import FORMATS, REFUSED

HEADER = ("What", "Recognized")
_NAMES = {"csv": "CSV", "jsonl": "JSON Lines", "parquet": "Parquet"}
_CHARACTERS = {"\t": "tab"}


def catalog_forms() -> Iterator[tuple[str, str]]:
    """Return the rows: what it is about, and what the reader recognizes."""
    for kind, suffixes in FORMATS.items():
        yield f"{_NAMES[kind]} files", f"names that end with {_listed(suffixes)}; ``catalog_format='{kind}'``"
    yield "Compression", "gzip, whatever the name is; names may end with ``.gz`` in addition"
    yield (
        "Encodings of CSV",
        "; ".join(f"``{name}`` ({evidence})" for name, evidence in DETECTED.items())
        + "; any other that Python knows, if ``encoding`` is given",
    )
    delimiters = _listed(_CHARACTERS.get(one, one) for one in DELIMITERS)
    sniffed = "the most frequent one in the header, outside of quotes"
    yield "Delimiters of CSV", f"{delimiters}: {sniffed}; or ``delimiter``, or a first line such as ``sep=;``"
    others = "; ".join(dict.fromkeys(_name_of(what) for _, what in REFUSED))
    yield "Refused, with advice", f"what a file is in spite of its name: {others}"
    yield "Required columns", _listed(REQUIRED)
    yield "Other columns with a meaning", _listed(name for name in COLUMNS if name not in REQUIRED)
    headings = _listed(("Positive Prompt", "positive-prompt", "POSITIVE_PROMPT"))
    yield "Headings", f"case and signs do not matter: {headings} are all ``{column_name('Positive Prompt')}``"
    others = ", ".join(f"``{one}`` ({field})" for one, field in SYNONYMS.items())
    endings = _listed(f"_{one}" for one in SUFFIXES)
    similar = f"what is at least {LIKELY:.0%} similar to a field's name, unless a template reads it"
    yield "Headings that fail the plan", f"{others}; a field's name with {endings} after it; {similar}"
    yield "Empty cells", f"no text, or one of {_listed(EMPTY_CELLS)}; case does not matter"
    for truth, words in (("true", TRUE_WORDS), ("false", FALSE_WORDS)):
        yield f"Words for {truth}", f"{_listed(sorted(words))}; case does not matter"
    numbers = [f"``{text}`` ({found})" for text in NUMBERS if (found := number_of(text)) is not None]
    yield "Numbers", f"such as {', '.join(numbers)}"
    yield "Not numbers", _listed(text for text in NUMBERS if number_of(text) is None)


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(f"``{text}``" for text in texts)


def _name_of(what: str) -> str:
    return what.partition(";")[0]
