# SPDX-License-Identifier: Apache-2.0
"""What every decision about rows has."""

from __future__ import annotations

import pytest
from bgrep_harness.runs import Destination, row
from bgrep_harness.stores import RefusingFiles, folder_on

from airflow_provider_bgrep.catalog.mark.decisions import (
    MAX_REASON,
    Decision,
    mark_log,
    meanings_of,
    meant_rows,
)
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.marks import Mark, MarkKind
from airflow_provider_bgrep.protocol.errors import InvalidInput


def test_a_reason_is_one_line_without_signatures():
    found = Decision.now("see\n https://x.example/a.jpg?Signature=SECRET\x1b ", "Kim\t Li")
    assert "SECRET" not in found.reason
    assert found.reason.isprintable()
    assert found.by == "Kim Li"
    assert found.at.endswith("+00:00")


def test_all_texts_that_are_too_long_are_named():
    with pytest.raises(InvalidInput) as caught:
        Decision.now("x" * (MAX_REASON + 1), "y" * (MAX_REASON + 1))
    assert [one.where for one in caught.value.problems] == ["reason", "by"]
    assert Decision.now("x" * MAX_REASON, "").reason == "x" * MAX_REASON


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("1001.0", ["1001"]),
        ("1001.00/2.0", ["1001.00/2.0", "1001/2"]),
        ("1/2/3.0", ["1/2/3.0", "1/2/3"]),
        ("1.0/2.0/3", ["1.0/2.0/3", "1/2.0/3"]),
        ("1001.0/main", ["1001.0/main", "1001/main"]),
        (" a/side\u200b", ["a/side"]),
        ("Cafe\u0301/cote\u0301", ["Caf\u00e9/cot\u00e9"]),
        ("M / L", ["M / L"]),
        ("1001.5", ["1001.5"]),
        ("01001.0", ["01001.0"]),
        ("1,23E+05", ["1,23E+05"]),
        ("1,23E+05/2.0", ["1,23E+05/2.0", "1,23E+05/2"]),
        ("/", ["/"]),
        ("", [""]),
    ],
)
def test_a_text_is_read_as_the_cells_of_the_catalog(text: str, keys: list[str]):
    assert meanings_of(text) == keys


KNOWN = [
    {"name": name, "sku": sku}
    for name, sku in [("a", "a"), ("a/side", "a"), ("10/5", "10"), ("10.0/6", "10.0/6"), ("10/6", "10")]
]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ["a", "a/side"]),
        ("a/side", ["a/side"]),
        ("a/main", ["a"]),
        ("10.0", ["10/5", "10/6"]),
        ("10.0/5.0", ["10/5"]),
        ("10.0/6", ["10.0/6"]),
        ("10.0/6.0", ["10/6"]),
        ("10.0/6/main", ["10.0/6"]),
    ],
)
def test_of_what_a_text_may_mean_the_known_rows_count(text: str, names: list[str]):
    assert [one["name"] for one in meant_rows([text], KNOWN, "is not known")] == names


def test_every_text_that_means_no_known_row_is_named():
    with pytest.raises(InvalidInput) as caught:
        meant_rows(["a", "side", "b", "b", "10.0/7"], KNOWN, "is not known")
    assert [one.where for one in caught.value.problems] == ["'side'", "'b'", "'10.0/7'"]


@pytest.mark.slow
def test_the_newest_plan_says_whether_others_write():
    files: dict[str, bytes] = {}
    shop = Destination(CatalogPaths(folder_on(RefusingFiles(files))), options={"single_writer": True})
    shop.refresh([row("a")])
    mark = Mark(kind=MarkKind.REDO, key="a", generation=1)
    mark_log(shop.paths).commit(lambda now: now.with_marks([mark]))
    assert mark_log(shop.paths).latest().generations == {"a": 1}
    shop.refresh([row("a")], single_writer=True, dry_run=True)
