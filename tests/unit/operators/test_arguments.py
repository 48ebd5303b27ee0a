# SPDX-License-Identifier: Apache-2.0
"""Arguments of operators that are checked when the DAG file is parsed."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from airflow_provider_bgrep.operators._arguments import count_of, one_of, seconds_of


def test_a_choice_is_returned_as_it_is():
    assert one_of("fail_on", "any", ("any", "all")) == "any"


@pytest.mark.parametrize("value", ["", "ANY", "any ", None, 1], ids=repr)
def test_another_value_is_refused_with_name_and_choices(value):
    with pytest.raises(ValueError) as caught:
        one_of("fail_on", value, ("any", "all"))
    assert all(part in str(caught.value) for part in ("fail_on", repr(value), "any, all"))


@pytest.mark.parametrize(
    ("value", "seconds"), [(2, 2.0), (0.5, 0.5), (timedelta(minutes=1), 60.0), (timedelta.max, None)]
)
def test_a_duration_is_given_in_seconds_or_as_a_timedelta(value, seconds):
    found = seconds_of("timeout", value)
    assert isinstance(found, float)
    assert found == (timedelta.max.total_seconds() if seconds is None else seconds)


@pytest.mark.parametrize(
    "value", [0, -1, -0.0, math.inf, math.nan, True, "5", None, timedelta(0), timedelta(seconds=-1)], ids=repr
)
def test_another_duration_is_refused_by_name(value):
    with pytest.raises(ValueError) as caught:
        seconds_of("timeout", value)
    assert "timeout" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "most"), [(None, None), (None, 0), (0, None), (10**9, None), (0, 0), (3, 3)]
)
def test_a_count_is_returned_as_it_is(value, most):
    assert count_of("max_images", value, most) == value


@pytest.mark.parametrize(
    ("value", "most"),
    [(-1, None), (True, None), (1.0, None), ("1", None), (4, 3), (-1, 3), (1, 0), (False, 0)],
    ids=repr,
)
def test_another_count_is_refused_by_name(value, most):
    with pytest.raises(ValueError) as caught:
        count_of("max_images", value, most)
    assert "max_images" in str(caught.value)
