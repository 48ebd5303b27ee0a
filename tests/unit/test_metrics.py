# SPDX-License-Identifier: Apache-2.0
"""The table of metrics: names that any backend takes, and a counter for each outcome and verdict."""

from __future__ import annotations

import re

import pytest

from airflow_provider_bgrep.catalog.model.states import Verdict
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.metrics import (
    BY_OUTCOME,
    BY_VERDICT,
    CATALOG_ROWS,
    COUNTER,
    GAUGE,
    METRICS,
    Metric,
    segment,
)


def test_names_are_unique_and_of_this_package():
    names = [one.name for one in METRICS]
    assert len(set(names)) == len(names) > 20
    assert all(re.fullmatch(r"bgrep(\.[a-z]+(_[a-z]+)*){1,2}", name) for name in names)


def test_no_name_is_the_beginning_of_another_one():
    # Otherwise a pattern for one of them would match the other.
    for one in METRICS:
        assert not [other for other in METRICS if other.name.startswith(f"{one.name}.")]


@pytest.mark.parametrize("metric", METRICS, ids=lambda one: one.name)
def test_each_metric_is_described(metric: Metric):
    assert metric.kind in (COUNTER, GAUGE)
    assert metric.meaning.endswith(".")
    assert metric.unit
    assert metric.sent_by
    assert bool(metric.labels) is (metric.kind == GAUGE)


def test_every_final_outcome_has_its_counter():
    left = {Outcome.PENDING.value, Outcome.NOT_SUBMITTED.value}
    assert {one.value for one in Outcome} - left == set(BY_OUTCOME)
    assert {one.value for one in Verdict} == set(BY_VERDICT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shop_images", "shop_images"),
        ("a.b-c", "a__b-c"),
        ("", "_"),
        ("商店", ""),
        ("a:b|c", "a_b_c_"),
    ],
)
def test_a_segment_has_no_character_that_statsd_reads(text: str, expected: str):
    assert re.fullmatch(r"[\w-]+", segment(text), re.ASCII)
    assert segment(text).startswith(expected)


def test_texts_that_lose_characters_stay_different():
    assert segment("商店") != segment("书店")
    long = "d" * 250
    assert len(segment(long)) <= 60
    assert segment(long) != segment(f"{long}e")


def test_a_name_ends_with_the_value_of_each_label():
    assert CATALOG_ROWS.of("shop.eu", "catalog_refresh") == "bgrep.catalog.rows.shop__eu.catalog_refresh"
    with pytest.raises(ValueError, match="zip"):
        CATALOG_ROWS.of("shop")
    longest = max(len(one.of(*["d" * 250] * len(one.labels))) for one in METRICS)
    assert longest < 200, "Airflow drops names of more than 250 characters"
