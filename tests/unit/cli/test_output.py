# SPDX-License-Identifier: Apache-2.0
"""What a command prints."""

from __future__ import annotations

import io
import json
from decimal import Decimal

import pytest

from airflow_provider_bgrep.cli.output import Output


@pytest.fixture
def out() -> Output:
    return Output(io.StringIO())


def printed(out: Output) -> list[str]:
    assert isinstance(out.stream, io.StringIO)
    return out.stream.getvalue().splitlines()


def test_numbers_of_a_table_stand_at_the_right(out):
    out.table(
        ("day", "images", "cost"), [("2026-01-01", 9, Decimal("1.80")), ("2026-01-02", 12, Decimal("2.40"))]
    )
    assert printed(out) == [
        "day         images  cost",
        "2026-01-01       9  1.80",
        "2026-01-02      12  2.40",
    ]


def test_an_empty_table_is_its_header(out):
    out.table(("day", "images"), [])
    assert printed(out) == ["day  images"]


def test_only_the_last_cell_of_a_row_is_as_long_as_it_likes(out):
    out.table(("a", "b"), [("x" * 500, "y" * 500)])
    row = printed(out)[1]
    assert row.startswith("x" * 59 + "…  y")
    assert row.endswith("y" * 500)


def test_what_a_terminal_would_obey_is_not_printed(out):
    out.table(("sku",), [("S1\x1b[2J\n\x07",)])
    out.line("S1\x1b[2J\r")
    out.lines("a\x9b\nb")
    assert "\x1b" not in "".join(printed(out))
    assert len(printed(out)) == 5
    assert all(line.isprintable() for line in printed(out))


def test_json_has_every_character_and_decimals_as_text(out):
    out.json({"sku": "杯子", "cost": Decimal("1.80")})
    assert json.loads("\n".join(printed(out))) == {"sku": "杯子", "cost": "1.80"}
    assert "杯子" in "".join(printed(out))


def test_csv_has_the_named_columns(out):
    out.csv(("a", "b"), [{"a": 1, "b": 'x,"y', "c": 2}])
    assert printed(out) == ["a,b", '1,"x,""y"']
