# SPDX-License-Identifier: Apache-2.0
"""An open catalog: its headings, the words of its templates, and the rows whose sku nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from bgrep_harness.catalogs import write_file

from airflow_provider_bgrep.catalog.source.catalog import CHUNK_BYTES, Catalog, InvalidRow, holds
from airflow_provider_bgrep.catalog.source.reader import open_catalog
from airflow_provider_bgrep.protocol.errors import InvalidInput

IMAGE = "https://shop.example/mug.jpg"


def test_template_words_are_found_and_rows_are_reported_once(tmp_path: Path):
    text = f"sku,image,positive_prompt,name\na,{IMAGE},A {{{{ farbe_code|lower }}}} mug,{{{{ no }}}}\nb\n"
    with open_catalog(write_file(tmp_path, text)) as catalog:
        assert {"farbe_code", "lower"} <= catalog.template_words(("{{",))
        assert "no" not in catalog.template_words(("{{",))
        assert catalog.invalid == []
        assert [batch.num_rows for batch in catalog.batches()] == [1]
    assert [(row.line, row.sku) for row in catalog.invalid] == [(3, "b")]
    assert catalog.unreadable == 1, "the only cell of a row may be another than its sku"


def test_headings_are_checked_once_it_is_known_which_are_read():
    with open_catalog([{"sku": "a", "image": IMAGE, "seeds": 1}]) as catalog:
        catalog.check_headings(["sku", "image", "seeds"])
        with pytest.raises(InvalidInput, match="did you mean 'seed'"):
            catalog.check_headings(["sku", "image"])


@pytest.mark.parametrize("url", ["https://bob:hunter2@h.io/1.jpg", "https://h.io/1?sig=hunter2"])
def test_a_missing_header_shows_no_secret_of_the_first_row(tmp_path: Path, url: str):
    file = write_file(tmp_path, f"s1,{url},prompt\ns2,{url},prompt\n")
    with pytest.raises(InvalidInput, match="https_") as raised, open_catalog(file):
        pass
    assert "hunter2" not in str(raised.value)


def test_a_character_is_found_wherever_it_stands(tmp_path: Path):
    file = write_file(tmp_path, "x" * (2 * CHUNK_BYTES) + "{")
    assert (holds(file, b"{"), holds(file, b"}")) == (True, False)


@pytest.mark.parametrize(
    ("sku", "shown"),
    [
        ("A1", "A1"),
        (" A1\u00a0", "A1"),
        ("1001.00", "1001"),
        ("cafe\u0301", "caf\u00e9"),
        ("4.00638E+12", ""),
        ("S" * 120, "S" * 100),
        (IMAGE, ""),
        ("s3://shop/a.jpg", ""),
        ("a.jpg?X-Amz-Signature=deadbeef", ""),
        ("https:user:deadbeef@shop.example/a.jpg", ""),
    ],
)
def test_an_invalid_row_shows_only_what_can_be_a_sku(sku: str, shown: str):
    row = InvalidRow(2, "image", f"image {sku} is wrong", sku)
    assert (row.sku, "deadbeef" in f"{row}{row.reason}") == (shown, False)
    assert not shown or row.name == shown
    assert row.as_dict() == {"line": 2, "column": "image", "reason": row.reason, "sku": shown, "view": ""}


def test_an_invalid_row_shows_no_signature_in_its_view():
    row = InvalidRow(2, "image", "is missing", "S1", f"{IMAGE}?X-Amz-Signature=deadbeef")
    assert (row.view, row.is_certain) == (f"{IMAGE}?\u2026", True)
    assert InvalidRow(2, "view", "is wrong", "S1", None).as_dict()["view"] == ""


@pytest.mark.parametrize(
    ("blocks", "repeated"),
    [
        ([[2, 3, 7], [], [8], [20, 21]], 0),
        ([[2, 3], [4, 4, 5]], 4),
        ([[2, 3], [3, 4]], 3),
        ([[2, 3], [1]], 1),
        ([[0, 1]], 0),
    ],
)
def test_no_two_rows_have_one_line(blocks: Sequence[Sequence[int]], repeated: int):
    """Rows are joined by their lines: those of one line would be mixed up, and billed."""
    some = [(lines, [pa.array([f"s{line}" for line in lines], pa.string())]) for lines in blocks]
    catalog = Catalog("parts", {"sku": "sku"}, lambda catalog, wanted: iter(some))
    if blocks[0][0] > 0 and not repeated:
        assert sum(batch.num_rows for batch in catalog.batches()) == sum(map(len, blocks))
    else:
        with pytest.raises(InvalidInput, match=f"numbered {repeated},"):
            list(catalog.batches())
