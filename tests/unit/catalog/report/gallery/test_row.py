# SPDX-License-Identifier: Apache-2.0
"""A row of the gallery as JSON: what is empty is left out, and hostile values stay bounded."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from airflow_provider_bgrep.catalog.config.thresholds import MEASURES
from airflow_provider_bgrep.catalog.report.gallery.row import cut, lead_image, row_to_json, score_label

THRESHOLDS = {"ssim": 0.9, "delta_e": 4.0}


def row(**cells: Any) -> dict[str, Any]:
    return {"name": "mug", "state": "new", **cells}


def shown(longest: int = 100, thumbs: str = "", **cells: Any) -> dict[str, Any]:
    found = row_to_json(row(**cells), longest, thumbs=thumbs, currency="EUR")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_what_a_row_lacks_is_left_out():
    assert shown() == {"name": "mug", "state": "new", "status": "new", "images": 0, "lead": 0}


def test_every_value_that_a_row_has_is_shown():
    found = shown(
        outcome="generated",
        verdict="passed",
        published="mug/1.png",
        line=7,
        positive_prompt="on snow",
        steps=20,
        strength=0.5,
        seed=1,
        actual_seed=2**60,
        files=["a.png", "b.png"],
        flags=["a flag"],
        chosen=1,
        dag_id="nightly",
        run_id="run",
        billable=2,
        cost="0.4",
        thumbs="11",
    )
    assert found["status"] == "published"
    assert (found["line"], found["chosen"], found["lead"], found["images"]) == (7, 1, 1, 2)
    assert found["seed"] == str(2**60)  # JavaScript would round the number
    assert found["settings"] == "strength 0.5, steps 20"
    assert found["cost"] == "2 billable images, 0.40 EUR"
    assert found["submitted_by"] == "nightly run"
    assert (found["files"], found["flags"], found["thumbs"]) == (["a.png", "b.png"], ["a flag"], "11")


@pytest.mark.parametrize(
    ("cells", "seed"), [({"seed": 0}, "0"), ({"seed": 5, "actual_seed": 0}, "0"), ({"seed": None}, None)]
)
def test_a_seed_of_0_is_a_seed(cells, seed):
    assert shown(**cells).get("seed") == seed


@pytest.mark.parametrize(
    ("cells", "cost"),
    [({"billable": 1}, "1 billable image"), ({"billable": 0, "cost": "1"}, None), ({"cost": "1"}, None)],
)
def test_only_what_is_billed_has_a_cost(cells, cost):
    assert shown(**cells).get("cost") == cost


@pytest.mark.parametrize("chosen", [None, -1, 2, 99, "1", 1.0])
def test_a_choice_that_is_no_image_is_left_out(chosen):
    found = shown(files=["a", "b"], chosen=chosen)
    assert "chosen" not in found
    assert found["lead"] == 0


def test_long_values_are_cut_and_long_lists_too():
    found = shown(10, reason="x" * 50, files=["y" * 50] * 30, flags=["z" * 50] * 30, run_id="r" * 50)
    assert found["reason"] == "x" * 10 + "… (50 characters)"
    assert (len(found["files"]), len(found["flags"])) == (20, 20)
    assert found["files"][0].startswith("y" * 10 + "…")
    assert len(found["submitted_by"]) < 40


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), ("", ""), ("abc", "abc"), ("abcd", "abc… (4 characters)"), (12345, "123… (5 characters)")],
)
def test_a_text_that_is_cut_ends_with_its_length(value, text):
    assert cut(value, 3) == text


# --- scores -------------------------------------------------------------------------------------------


def test_scores_are_compared_with_their_thresholds():
    found = shown(
        files=["a", "b"],
        thresholds=json.dumps(THRESHOLDS),
        scores=[{"ssim": 0.95, "delta_e": 5.0}, {"ssim": 0.9, "delta_e": 4.0, "area": 0.3}],
    )
    assert found["thresholds"] == {"ssim": "≥ 0.9", "delta_e": "≤ 4"}
    assert found["missed"] == [["delta_e"], []]
    assert found["scores"] == [
        {"ssim": "0.95", "delta_e": "5"},
        {"ssim": "0.9", "delta_e": "4", "area": "0.3"},
    ]
    assert (found["lead"], found["margin"]) == (1, 0.0)


def test_thresholds_may_be_a_mapping_or_missing():
    assert shown(scores=[{"ssim": 0.5}], thresholds=THRESHOLDS)["missed"] == [["ssim"]]
    found = shown(scores=[{"ssim": 0.5}])
    assert (found["missed"], "thresholds" in found, "margin" in found) == ([[]], False, False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (1234.5, "1,234"),
        (0.123456, "0.1235"),
        ("x", "x"),
    ],
)
def test_any_score_can_be_shown(value, text):
    found = shown(scores=[{"ssim": value}], thresholds=THRESHOLDS)
    assert found["scores"] == [{"ssim": text}]
    assert abs(found.get("margin", 0)) <= 1e6


def test_a_score_that_cannot_be_compared_misses_nothing():
    for value in (math.nan, "x", None):
        assert shown(scores=[{"ssim": value}], thresholds=THRESHOLDS)["missed"] == [[]]


@pytest.mark.parametrize(
    ("cells", "lead"),
    [
        ({}, 0),
        ({"chosen": 1}, 1),
        ({"chosen": -1, "scores": [{"ssim": 0.1}, {"ssim": 0.8}], "thresholds": THRESHOLDS}, 1),
        ({"scores": [{"ssim": 0.8}, {"ssim": 0.95, "delta_e": 90.0}], "thresholds": THRESHOLDS}, 0),
        ({"scores": [None, {"ssim": 0.1}], "thresholds": THRESHOLDS}, 1),
        ({"scores": [{"ssim": 0.1}, {"ssim": 0.8}]}, 0),
    ],
    ids=repr,
)
def test_the_image_nearest_to_its_thresholds_is_shown_first(cells, lead):
    assert lead_image(row(**cells)) == lead


def test_every_score_has_a_label_of_its_own():
    labels = [score_label(name) for name in MEASURES]
    assert len(set(labels)) == len(labels)
    assert not any("_" in label for label in labels)
    assert (score_label("delta_e_high"), score_label("ssim_low")) == ("ΔE high", "SSIM low")
