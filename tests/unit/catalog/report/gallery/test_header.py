# SPDX-License-Identifier: Apache-2.0
"""The numbers of the page's header, as the template shows them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bgrep.catalog.report.gallery.header import header_of


def summary(**facts: Any) -> Any:
    plan = {"catalog": "s3://shop/catalogs/spring.csv", "created_at": "2026-03-14T02:00:03+00:00"}
    given = {
        "plan": {**plan, "plan_id": "p", "run_id": "run", "dag_id": "dag"},
        "rows": 1234,
        "needs_attention": 0,
        "statuses": {"published": 12, "unchanged": 1222},
        "verdicts": {},
        "outcomes": {},
        "images": {"quoted": 15, "billable": 13},
        "cost": "2.6",
        "quoted": "3",
        "currency": "EUR",
        "backlog": 0,
        "notes": ["remark"],
        "invalid_reasons": [],
    }
    return {**given, **facts}


def figures(**facts: Any) -> dict[str, str]:
    return dict(header_of(summary(**facts))["figures"])


def test_a_run_shows_what_was_billed():
    assert figures() == {
        "Billable images": "13",
        "Cost": "2.60 EUR",
        "Published": "12",
        "Unchanged": "1,222",
    }


def test_a_dry_run_shows_what_would_be_submitted():
    found = figures(dry_run=True, statuses={"new": 15}, backlog=1500)
    assert found == {
        "Images to submit": "15",
        "Estimated cost": "3.00 EUR",
        "Unchanged": "0",
        "Images over budget": "1,500",
    }


def test_without_a_price_there_is_no_cost():
    assert "Cost" not in figures(cost="", quoted="")
    assert "Estimated cost" not in figures(cost="", quoted="", dry_run=True)


@pytest.mark.parametrize(
    ("catalog", "shown"),
    [
        ("s3://shop/catalogs/spring.csv", "spring.csv"),
        ("s3://shop/catalogs/", "catalogs"),
        ("rows of an upstream task", "rows of an upstream task"),
        ("/", "/"),
    ],
)
def test_the_catalog_is_named_by_its_file(catalog, shown):
    assert header_of(summary(plan={"catalog": catalog, "created_at": ""}))["catalog"] == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("2026-03-04T02:00:03+00:00", "Wednesday, 4 March 2026, 02:00"), ("yesterday", "yesterday"), ("", "")],
)
def test_the_time_is_shown_as_people_write_it(text, shown):
    assert header_of(summary(plan={"catalog": "c", "created_at": text}))["created"] == shown


def test_a_number_stays_on_one_line_with_its_noun():
    found = header_of(summary(needs_attention=2, statuses={"flagged": 1, "refused": 1, "published": 12}))
    assert found["kinds"] == "1\N{NO-BREAK SPACE}flagged, 1\N{NO-BREAK SPACE}refused."
    assert "1,234\N{NO-BREAK SPACE}rows" in found["rest"]
    assert header_of(summary())["kinds"] == ""


def test_one_row_that_needs_attention_is_a_sentence():
    assert header_of(summary(needs_attention=1, statuses={"flagged": 1}))["kinds"] == "Flagged."


def test_unfinished_shards_come_before_the_notes():
    assert header_of(summary(unfinished=["shard 3"]))["notes"] == ["shard 3", "remark"]
    assert header_of(summary())["notes"] == ["remark"]


def test_reasons_are_counted_in_words():
    reasons = [
        {"column": "image", "reason": "is empty", "count": count, "line": 2, "sku": ""} for count in (1, 2)
    ]
    found = header_of(summary(invalid_reasons=reasons))["invalid_reasons"]
    assert [one["rows"] for one in found] == ["1 row", "2 rows"]
    assert [one["reason"] for one in found] == ["is empty", "is empty"]
