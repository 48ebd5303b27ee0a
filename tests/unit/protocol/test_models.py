# SPDX-License-Identifier: Apache-2.0
"""The values that go round: frozen, comparable, and free of what has no value."""

from __future__ import annotations

import dataclasses
import json

import pytest

from airflow_provider_bgrep.protocol.models import ImageTask, Job, JobStatus, TaskResult


def job(*statuses: str) -> Job:
    return Job("k", tuple(TaskResult(i, status) for i, status in enumerate(statuses)))


def test_an_image_task_takes_templates_unchecked():
    assert ImageTask(image="{{ x }}", positive_prompt="{{ y }}").image == "{{ x }}"


def test_an_image_task_takes_keywords_only_and_cannot_be_changed():
    with pytest.raises(TypeError):
        ImageTask("https://a/b", "x")  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        ImageTask(image="a", positive_prompt="b").image = "c"  # type: ignore[misc]


def test_as_dict_makes_the_same_task_again_and_survives_json():
    task = ImageTask(image="https://a/b", positive_prompt="雪", seed=0, id=7)
    assert ImageTask(**json.loads(json.dumps(task.as_dict()))) == task
    assert "mask" not in task.as_dict()
    assert task.as_dict()["seed"] == 0


def test_as_wire_is_as_dict_without_the_id():
    task = ImageTask(image="https://a/b", positive_prompt="x", id=0)
    assert task.as_dict() == {**task.as_wire(), "id": 0}


@pytest.mark.parametrize(
    ("statuses", "finished"),
    [
        (("SUCCESS",), True),
        (("SUCCESS", "FAILED"), True),
        (("FAILED", "FAILED"), True),
        (("SUCCESS", "RUNNING"), False),
        (("WAITING",), False),
        (("SUCCESS", "PAUSED"), False),
        (("SUCCESS", ""), False),
        ((), False),
    ],
)
def test_a_job_is_finished_when_every_image_task_is(statuses, finished):
    assert job(*statuses).is_finished is finished


def test_counts_are_by_status_and_hold_no_zeros():
    assert job("SUCCESS", "FAILED", "SUCCESS").counts == {"SUCCESS": 2, "FAILED": 1}


def test_a_job_is_without_a_secret_that_the_service_repeats():
    tasks = (TaskResult(0, "FAILED", message="bad canary"), TaskResult(1, "SUCCESS", ("https://a/canary",)))
    found = Job("k", tasks, request_id="r-canary", gateway_request_id="g-canary").without("canary")
    assert (found.tasks[0].message, found.request_id, found.gateway_request_id) == (
        "bad ***",
        "r-***",
        "g-***",
    )
    assert found.tasks[1] == tasks[1]  # a URL must stay what it is


def test_a_secret_is_found_in_a_status_and_in_an_echoed_seed():
    tasks = (
        TaskResult(0, "DENIED CANARY", echo={"seed": "Canary", "image": "https://a/canary"}),
        TaskResult(1, "SUCCESS", echo={"seed": ["canary"]}),
        TaskResult(2, "RUNNING", echo={"seed": 7}),
    )
    found = Job("k", tasks).without("canary").tasks
    assert (found[0].status, found[0].echo) == ("DENIED ***", {"seed": "***", "image": "https://a/canary"})
    assert (found[1].status, found[1].echo) == ("SUCCESS", {"seed": "['***']"})
    assert found[2] == tasks[2]
    # Whatever the secret is, a documented status stays what it is.
    assert Job("k", tasks).without("running").tasks[2] == tasks[2]


def test_a_status_compares_and_travels_as_its_text():
    assert JobStatus.SUCCESS == "SUCCESS"
    assert json.dumps(JobStatus.SUCCESS) == '"SUCCESS"'
    assert {status.value for status in JobStatus} == {"WAITING", "RUNNING", "SUCCESS", "FAILED"}


def test_what_was_echoed_stays_out_of_repr():
    assert "secret" not in repr(TaskResult(0, "WAITING", echo={"image": "https://a/?sig=secret"}))
