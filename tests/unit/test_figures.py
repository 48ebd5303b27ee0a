# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.figures import counted, money


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1_000_000, "1,000,000 rows")]
)
def test_a_noun_is_in_the_plural_unless_there_is_one(count: int, words: str):
    assert counted(count, "row") == words


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("0", "0.00 €"),
        ("0.4", "0.40 €"),
        ("12345.5", "12,345.50 €"),
        ("0.015", "0.015 €"),
        ("1E+3", "1,000.00 €"),
    ],
)
def test_sums_of_money_are_written_as_people_do(amount: str, words: str):
    assert money(amount, "€") == words
