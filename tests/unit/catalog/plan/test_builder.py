# SPDX-License-Identifier: Apache-2.0
"""A plan within its budget: what may be submitted again, and how much each shard may submit."""

from __future__ import annotations

import pytest
from bgrep_harness.runs import row
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.catalog.model.plan import MAX_SHARDS
from airflow_provider_bgrep.catalog.plan.builder import most_spare, shard_limits
from airflow_provider_bgrep.storage import get_bytes

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")


def options(**given: object) -> Options:
    return Options(catalog="c.csv", destination="/shop", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "left", "spare"),
    [
        ({}, None, 0),
        ({"retry_failed": 2}, None, 20),
        ({"on_unknown_outcome": "resubmit"}, None, 10),
        ({"retry_failed": 2, "on_unknown_outcome": "resubmit"}, None, 30),
        ({"retry_failed": 2}, 100, 20),
        ({"retry_failed": 2}, 15, 5),
        ({"retry_failed": 2}, 10, 0),
        ({"retry_failed": 2}, 3, 0),
    ],
    ids=str,
)
def test_what_may_be_submitted_again_stays_within_the_budget(given, left, spare):
    assert most_spare(options(**given), 10, left) == spare


@pytest.mark.parametrize(
    ("images", "spare", "extra", "limits"),
    [
        ([], 5, 1, ()),
        ([3, 4], 0, 2, (3, 4)),
        ([3, 4], 14, 2, (9, 12)),
        ([3, 4], 7, 2, (9, 5)),
        ([0, 4], 3, 1, (0, 7)),
    ],
)
def test_the_first_shards_take_what_may_be_submitted_again(images, spare, extra, limits):
    assert shard_limits(images, spare, extra) == limits


@given(st.lists(st.integers(0, 20), max_size=8), st.integers(0, 60), st.integers(0, 4))
def test_limits_add_up_to_what_the_plan_may_submit(images, spare, extra):
    limits = shard_limits(images, spare, extra)
    assert sum(limits) == sum(images) + min(spare, extra * sum(images))
    assert all(own <= limit <= own * (1 + extra) for own, limit in zip(images, limits, strict=True))


def test_a_plans_limits_are_its_quote(destination):
    catalog = [row(f"s{i}", num_output=1 + i % 3) for i in range(7)]
    plan = destination.plan(catalog, shard_size=3, retry_failed=1, max_images_per_run=16).plan
    assert (plan.shards, plan.shard_size) == (3, 3)
    assert plan.quote.images == sum(1 + i % 3 for i in range(7)) == 13
    assert sum(plan.limits) == plan.quote.most_images == 16


def test_shards_grow_where_there_would_be_too_many(destination):
    plan = destination.plan([row(f"s{i}") for i in range(MAX_SHARDS + 1)], shard_size=1).plan
    assert plan.shard_size == 2
    assert plan.shards == MAX_SHARDS // 2 + 1


@pytest.mark.parametrize(
    ("approve_above", "needs_approval"), [("0.79", True), ("0.80", False), (None, False), ("0", True)]
)
def test_a_plan_that_may_cost_more_needs_approval(destination, approve_above, needs_approval):
    given = {"price_per_image": "0.20", "retry_failed": 1, "approve_above": approve_above}
    assert destination.plan([row("a"), row("b")], **given).plan.needs_approval is needs_approval


def test_a_draft_writes_nothing_until_it_is_told_to(destination, files):
    with destination.draft([row("a"), row("b", steps="x")]) as draft:
        assert draft.plan.counts["new"] == 1
        assert [one.sku for one in draft.invalid] == ["b"]
    assert files == {}


@pytest.mark.parametrize(
    "cells",
    [
        {"category": "https://shop.example/a.jpg?X-Amz-Signature=deadbeef"},
        {"category": "https://user:deadbeef@shop.example/" + "a" * 80},
        {"sku": "https://shop.example/a.jpg?X-Amz-Signature=deadbeef"},
        {"sku": "a.jpg?X-Amz-Signature=deadbeef"},
        {"view": "https://shop.example/a.jpg?X-Amz-Signature=deadbeef", "image": ""},
        {"image": "", "sku": "https://shop.example/a.jpg?X-Amz-Signature=deadbeef", "view": "b"},
        {"positive_prompt": "https://shop.example/a.jpg?X-Amz-Signature=deadbeef", "image": ""},
    ],
    ids=str,
)
def test_no_cell_in_a_wrong_column_shows_its_signature(destination, cells):
    run = destination.plan([row("x"), {**row("a", category="mugs"), **cells}], categories={"mugs": {}})
    files = [run.store.files.folder / "plan.json", run.store.files.invalid_rows]
    for text in (
        str(run.xcom),
        str(run.problems),
        str(run.plan),
        *(get_bytes(one).decode() for one in files),
    ):
        assert "deadbeef" not in text
