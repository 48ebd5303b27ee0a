# SPDX-License-Identifier: Apache-2.0
"""Encoding, delimiter and header of a CSV file are found, or given."""

from __future__ import annotations

from pathlib import Path

from bgrep_harness.catalogs import read_catalog, write_file

from airflow_provider_bgrep.catalog.source.catalog import LINE

IMAGE = "https://shop.example/mug.jpg"


def test_a_given_encoding_and_delimiter(tmp_path: Path):
    text = f"sku|image|name\nä|{IMAGE}|x,y\n".encode("cp1252")
    rows, _ = read_catalog(write_file(tmp_path, text), encoding="cp1252", delimiter="|")
    assert rows[0]["sku"] == "ä"
    assert rows[0]["name"] == "x,y"


def test_a_heading_of_two_lines(tmp_path: Path):
    rows, bad = read_catalog(
        write_file(tmp_path, f'sku,image,"Farbe\r\nCode"\r\na,{IMAGE},r\r\n"b\nc",{IMAGE},g\r\n')
    )
    assert bad == []
    assert rows == [
        {"sku": "a", "image": IMAGE, "farbe_code": "r", LINE: 3},
        {"sku": "b\nc", "image": IMAGE, "farbe_code": "g", LINE: 4},
    ]


def test_delimiters_in_a_quoted_heading_are_not_counted(tmp_path: Path):
    rows, bad = read_catalog(write_file(tmp_path, f'sku;image;mask;"L, W, H, D"\na;{IMAGE};;"1, 2, 3, 4"\n'))
    assert (bad, rows[0]["l_w_h_d"]) == ([], "1, 2, 3, 4")
