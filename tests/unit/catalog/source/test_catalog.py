# SPDX-License-Identifier: Apache-2.0
"""An open catalog: its headings, the words of its templates, and the rows whose sku nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from bgrep_harness.catalogs import write_file

from airflow_provider_bgrep.catalog.source.catalog import CHUNK_BYTES, holds
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
    assert catalog.unreadable == 0


def test_headings_are_checked_once_it_is_known_which_are_read():
    with open_catalog([{"sku": "a", "image": IMAGE, "seeds": 1}]) as catalog:
        catalog.check_headings(["sku", "image", "seeds"])
        with pytest.raises(InvalidInput, match="did you mean 'seed'"):
            catalog.check_headings(["sku", "image"])


def test_a_character_is_found_wherever_it_stands(tmp_path: Path):
    file = write_file(tmp_path, "x" * (2 * CHUNK_BYTES) + "{")
    assert (holds(file, b"{"), holds(file, b"}")) == (True, False)
