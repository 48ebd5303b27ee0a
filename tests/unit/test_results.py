# SPDX-License-Identifier: Apache-2.0
"""What a finished job means to a DAG."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

from airflow_provider_bgrep.exceptions import BgRepJobFailedError
from airflow_provider_bgrep.protocol.models import Job, TaskResult
from airflow_provider_bgrep.results import check_fail_on, raise_if_failed, summary


def job(*statuses: str) -> Job:
    tasks = (
        TaskResult(
            i, status, ("https://r/1.png",) if status == "SUCCESS" else (), f"m{i}", {"image": "https://i"}
        )
        for i, status in enumerate(statuses)
    )
    return Job("k", tuple(tasks), "r", "g")


def test_a_summary_is_what_the_interface_promises_and_is_json():
    assert json.loads(json.dumps(summary(job("SUCCESS", "FAILED")))) == {
        "result_key": "k",
        "counts": {"SUCCESS": 1, "FAILED": 1},
        "tasks": [
            {"index": 0, "status": "SUCCESS", "results": ["https://r/1.png"], "message": "m0"},
            {"index": 1, "status": "FAILED", "results": [], "message": "m1"},
        ],
    }


def test_counts_of_nothing_are_zero_and_not_absent():
    assert summary(job("SUCCESS"))["counts"] == {"SUCCESS": 1, "FAILED": 0}
    assert summary(job("FAILED"))["counts"] == {"SUCCESS": 0, "FAILED": 1}


@pytest.mark.parametrize(
    ("statuses", "fail_on", "fails"),
    [
        ("SUCCESS SUCCESS", "any", False),
        ("SUCCESS FAILED", "any", True),
        ("FAILED FAILED", "any", True),
        ("SUCCESS FAILED", "all", False),
        ("FAILED FAILED", "all", True),
        ("FAILED", "all", True),
        ("SUCCESS FAILED", "never", False),
        ("FAILED FAILED", "never", False),
    ],
)
def test_fail_on_decides(statuses, fail_on, fails):
    if not fails:
        raise_if_failed(job(*statuses.split()), fail_on, {})
        return
    with pytest.raises(BgRepJobFailedError) as caught:
        raise_if_failed(job(*statuses.split()), fail_on, {})
    error = caught.value
    assert (error.request_id, error.gateway_request_id) == ("r", "g")
    assert "job k failed" in str(error)


def test_the_error_names_each_failed_image_task_and_its_reason():
    tasks = (TaskResult(3, "FAILED", message="bad\nmask"), TaskResult(4, "FAILED"), TaskResult(5, "SUCCESS"))
    with pytest.raises(BgRepJobFailedError, match=r"2 of 3 .*\[3\] bad mask; \[4\]"):
        raise_if_failed(Job("k", tasks), "any", {})


def test_a_long_reason_is_cut():
    with pytest.raises(BgRepJobFailedError) as caught:
        raise_if_failed(Job("k", (TaskResult(0, "FAILED", message="x" * 10_000),)), "any", {})
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("fail_on", ["any", "all", "never"])
def test_fail_on_is_itself(fail_on):
    assert check_fail_on(fail_on) == fail_on


@pytest.mark.parametrize("fail_on", ["", "ANY", "some", None])
def test_any_other_fail_on_is_refused_with_the_choices(fail_on):
    with pytest.raises(ValueError, match="any, all, never"):
        check_fail_on(fail_on)


@pytest.mark.parametrize(("fail_on", "fails"), [("any", True), ("all", False), ("never", False)])
def test_an_image_task_without_all_results_is_no_success(fail_on, fails):
    with pytest.raises(BgRepJobFailedError) if fails else nullcontext():
        raise_if_failed(job("SUCCESS", "SUCCESS"), fail_on, {1: "1 of 2 results are named"})
