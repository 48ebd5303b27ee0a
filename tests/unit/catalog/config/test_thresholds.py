# SPDX-License-Identifier: Apache-2.0
"""Thresholds are read from mappings, text and forms, with every problem in one message."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest

from airflow_provider_bgrep.catalog.config.thresholds import MEASURES, Thresholds
from airflow_provider_bgrep.protocol.errors import InvalidInput


def test_the_defaults_are_the_tables():
    defaults = Thresholds()
    for name, measure in MEASURES.items():
        assert measure.meaning
        if measure.default is None:
            assert not hasattr(defaults, name)
        else:
            assert getattr(defaults, name) == measure.default
            assert measure.lowest <= measure.default <= measure.highest
            assert measure.found
    assert {field.name for field in fields(Thresholds)} - set(MEASURES) == {"need_mask"}


def test_thresholds_come_as_text_too():
    found = Thresholds.checked(
        {"ssim": "0.9", "delta_e": 3, "size": " 1 ", "detail": "none", "psnr": None, "need_mask": "True"}
    )
    assert found == Thresholds(ssim=0.9, delta_e=3.0, size=1.0, need_mask=True)
    assert Thresholds.checked({"need_mask": "no", "aspect": "1e-2"}) == Thresholds(aspect=0.01)
    assert Thresholds.checked({}) == Thresholds()


WRONG = ("ssim", "ssim_low", "delta_e", "psnr", "size", "detail", "label_text", "need_mask")


def test_all_that_is_wrong_with_thresholds_is_reported_at_once():
    with pytest.raises(InvalidInput) as caught:
        Thresholds.checked(
            {
                "ssim": "high",
                "ssim_low": 1.5,
                "delta_e": True,
                "psnr": math.nan,
                "size": "-inf",
                "detail": [1],
                "label_text": 2,
                "need_mask": "perhaps",
                "area": 0.5,
                "SSIM": 0.9,
                7: "x" * 1000,
                "aspect": 0.01,
            }
        )
    found = {problem.where: problem.what for problem in caught.value.problems}
    assert found["thresholds.ssim"] == "is 'high'; give a number from -1 to 1"
    assert found["thresholds.ssim_low"] == "is 1.5; give a number from -1 to 1"
    assert found["thresholds.delta_e"] == "is True; give a number from 0 to 200"
    assert found["thresholds.psnr"] == "is nan; give a number from 0 to 100"
    assert found["thresholds.need_mask"] == "is 'perhaps'; give true or false"
    assert found["thresholds.label_text"] == "is 2; give a number from 0 to 1"
    assert found["thresholds.area"].startswith("is not a threshold; give one of ssim, ")
    assert set(found) == {f"thresholds.{name}" for name in (*WRONG, "area", "SSIM", 7)}


@pytest.mark.parametrize("given", [None, "ssim", ["ssim"], 0.9])
def test_thresholds_that_are_no_mapping_are_refused(given):
    with pytest.raises(InvalidInput) as raised:
        Thresholds.checked(given)
    assert [problem.where for problem in raised.value.problems] == ["thresholds"]


def test_equal_thresholds_have_equal_json_that_reads_back():
    one = Thresholds.checked({"ssim": "0.90", "detail": 0, "aspect": 1})
    other = Thresholds.checked({"aspect": 1.0, "detail": "-0.0", "ssim": 0.9})
    assert one.to_json() == other.to_json() != Thresholds().to_json()
    values = json.loads(one.to_json())
    assert list(values) == sorted(values)
    assert Thresholds.checked(values) == one
