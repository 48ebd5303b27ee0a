# SPDX-License-Identifier: Apache-2.0
"""A list of image tasks is reduced to hosts and buckets, and what was saved to two numbers."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep import ImageTask
from airflow_provider_bgrep.operators._lineage import SavedImages, image_task_sources, saved_dataset

SECRET = "s3cr3t"


def test_a_long_list_is_a_dataset_for_each_host_and_bucket():
    tasks = [
        *(
            ImageTask(
                image=f"https://cdn.example.com/{n}.png?Signature={SECRET}",
                mask="s3://shop/mask.png",
                positive_prompt="on snow",
            )
            for n in range(300)
        ),
        {"image": f"https://user:{SECRET}@cdn.example.com/last.png", "positive_prompt": "on snow"},
    ]
    found = image_task_sources(tasks)
    assert [one.location.text for one in found] == ["https://cdn.example.com", "s3://shop"]
    assert SECRET not in repr(found)


@pytest.mark.parametrize("task_list", ["{{ params.tasks }}", None, (one for one in [{"image": "s3://a/b"}])])
def test_what_is_not_a_rendered_list_says_nothing_and_stays(task_list: object):
    assert image_task_sources(task_list) == ()
    if task_list is not None and not isinstance(task_list, str):
        assert len(list(task_list)) == 1, "the operator still has to read it"


def test_a_destination_has_numbers_once_they_are_known():
    assert saved_dataset("/data/images").statistics == {}
    saved = saved_dataset("/data/images", SavedImages(0, 0))
    assert saved.statistics == {"fileCount": 0, "size": 0}
    assert saved.location.dataset == ("file", "/data/images")
