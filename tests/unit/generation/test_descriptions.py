# SPDX-License-Identifier: Apache-2.0
"""Names and words for logs: a person can find the image task, and no secret is in them."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.generation.descriptions import name_of, words
from airflow_provider_bgrep.generation.items import WorkItem
from airflow_provider_bgrep.protocol.codes import Operation, by_status
from airflow_provider_bgrep.protocol.errors import LOST, CallError
from airflow_provider_bgrep.protocol.models import ImageTask

TASK = ImageTask(image="https://user:secret@a.b/x.png?sig=secret", positive_prompt="sea")


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (WorkItem("key", 1, "sku-1", TASK), "sku-1"),
        (WorkItem("key", 1, "a\nb", TASK), "a b"),
        (WorkItem("key", 1, "x" * 200, TASK), "x" * 100),
        (WorkItem("key", 1, " ", TASK), "https://***@a.b/x.png"),
        (WorkItem("key", 1, "", TASK), "https://***@a.b/x.png"),
        (WorkItem("key", 1), "key"),
    ],
    ids=["id", "line break", "long", "blank", "image", "not in the list"],
)
def test_an_image_task_is_named_by_what_a_person_knows(item, name):
    assert name_of(item) == name


def test_an_error_is_its_message_with_its_code_if_it_has_one():
    assert words(CallError(Operation.SUBMIT, by_status(400), code="I400XX", message="no")) == "no (I400XX)"
    assert words(CallError(Operation.SUBMIT, LOST, message="reset")) == "reset"
