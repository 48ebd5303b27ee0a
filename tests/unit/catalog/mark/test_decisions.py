# SPDX-License-Identifier: Apache-2.0
"""What every decision about rows has."""

from __future__ import annotations

import pytest
from bgrep_harness.runs import Destination, row
from bgrep_harness.stores import RefusingFiles, folder_on

from airflow_provider_bgrep.catalog.mark.decisions import MAX_REASON, Decision, check_known, key_of, mark_log
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
    ("text", "key"),
    [
        ("1001.0", "1001"),
        ("1001.00/2.0", "1001/2"),
        (" a/side\u200b", "a/side"),
        ("Cafe\u0301/cote\u0301", "Caf\u00e9/cot\u00e9"),
        ("M / L", "M / L"),
        ("1001.5", "1001.5"),
        ("01001.0", "01001.0"),
        ("1,23E+05", "1,23E+05"),
        ("/", "/"),
    ],
)
def test_a_key_is_read_as_a_cell_of_the_catalog(text: str, key: str):
    assert key_of(text) == key


def test_skus_and_names_of_rows_are_known():
    check_known(["a", "a/side"], [("a/side", "a")], "is not known")
    with pytest.raises(InvalidInput) as caught:
        check_known(["a", "side", "b", "b"], [("a/side", "a")], "is not known")
    assert [one.where for one in caught.value.problems] == ["'side'", "'b'"]


def test_the_newest_plan_says_whether_others_write():
    files: dict[str, bytes] = {}
    shop = Destination(CatalogPaths(folder_on(RefusingFiles(files))), options={"single_writer": True})
    shop.refresh([row("a")])
    mark = Mark(kind=MarkKind.REDO, key="a", generation=1)
    mark_log(shop.paths).commit(lambda now: now.with_marks([mark]))
    assert mark_log(shop.paths).latest().generations == {"a": 1}
    shop.refresh([row("a")], single_writer=True, dry_run=True)
