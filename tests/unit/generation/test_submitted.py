# SPDX-License-Identifier: Apache-2.0
"""The image tasks of a submit, recognized in an answer whatever signs their URLs, and wherever those lead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bgrep.generation.submitted import submitted_tasks, with_digests
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.protocol.identity import url_digest
from airflow_provider_bgrep.protocol.matching import match
from airflow_provider_bgrep.protocol.models import ImageTask, Job, TaskResult

LISTED = [
    ImageTask(image=f"s3://shop/{name}.png", mask="s3://shop/mask.png", positive_prompt=prompt)
    for name, prompt in (("mug", "sea"), ("mug", "snow"), ("pan", "sea"))
]
KEYS = ["a", "b", "c"]


def signed(task: ImageTask, host: str = "old", signature: str = "1") -> ImageTask:
    def url(path: str) -> str:
        return path.replace("s3://shop", f"https://{host}/shop") + f"?Expires=1&Signature={signature}"

    return replace(task, image=url(task.image), mask=url(task.mask or ""))


def record(digests: bool = True, keys: list[str] = KEYS) -> SubmitRecord:
    items = [SubmittedTask(key, 1, key) for key in keys]
    if digests:
        items = with_digests(items, [signed(task) for task in LISTED])
    return SubmitRecord(State.ACCEPTED, "2026-01-01T00:00:00+00:00", tuple(items), result_key="k")


def answer(*order: int, host: str = "old", signature: str = "2") -> Job:
    echoes = [signed(LISTED[index], host, signature).as_wire() for index in order]
    return Job("k", tuple(TaskResult(i, "SUCCESS", (), str(order[i]), echo) for i, echo in enumerate(echoes)))


def placed(sent: SubmitRecord, job: Job, tasks: dict[str, ImageTask], sign: Any) -> list[str]:
    return [task.message for task in match(job, submitted_tasks(sent, job, tasks, sign)).job.tasks]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("host", ["old", "new"])
def test_results_are_matched_wherever_the_sources_are_today(order, host):
    tasks = dict(zip(KEYS, LISTED, strict=True))
    found = placed(record(), answer(*order), tasks, lambda task: signed(task, host, "3"))
    assert found == ["0", "1", "2"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_submit_without_digests_is_matched_by_todays_urls(order):
    tasks = dict(zip(KEYS, LISTED, strict=True))
    assert placed(record(digests=False), answer(*order), tasks, signed) == ["0", "1", "2"]


def test_an_unlisted_image_task_is_recognized_by_its_own_urls():
    found = placed(
        record(keys=["a", "b", ""]), answer(2, 1, 0), dict(zip("ab", LISTED, strict=False)), signed
    )
    assert found == ["0", "1", "2"]
    found = placed(record(keys=["a", "", "c"]), answer(2, 1, 0), {"a": LISTED[0], "c": LISTED[2]}, signed)
    assert (found[0], found[2]) == ("0", "2")


def test_another_image_is_never_taken_for_ones_own():
    tasks = dict(zip(KEYS, LISTED, strict=True))
    other = ImageTask(image="s3://shop/other.png", mask="s3://shop/mask.png", positive_prompt="sea")
    job = Job("k", (TaskResult(0, "SUCCESS", (), "other", signed(other).as_wire()),))
    assert placed(record(), job, tasks, signed) == ["", "", ""]


def test_digests_hold_no_url_and_survive_the_journals_json():
    sent = record()
    assert "shop" not in str(sent.to_json()["items"])
    assert SubmitRecord.from_json(sent.to_json()) == sent
    assert sent.items[0].image_digest == url_digest("https://old/shop/mug.png?Expires=1&Signature=9")
    assert record(digests=False).to_json()["items"][0] == ["a", 1, "a"]
