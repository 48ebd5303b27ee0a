# SPDX-License-Identifier: Apache-2.0
"""The table of limits against the document's, written down here a second time."""

from __future__ import annotations

import dataclasses

import pytest

from airflow_provider_bgrep.protocol import limits
from airflow_provider_bgrep.protocol.models import ImageTask

# name: kind, required, least, most, range in words
DOCUMENT = {
    "image": ("url", True, None, None, "an http or https URL"),
    "mask": ("url", False, None, None, "an http or https URL"),
    "positive_prompt": ("text", True, None, 500, "1 to 500 characters"),
    "negative_prompt": ("text", False, None, 500, "0 to 500 characters"),
    "guidance_scale": ("float", True, 1, 20, "[1, 20]"),
    "strength": ("float", True, 0, 1, "(0, 1]"),
    "seed": ("integer", False, None, None, "any integer"),
    "steps": ("integer", True, 15, 50, "[15, 50]"),
    "num_output": ("integer", True, 1, 4, "[1, 4]"),
}


@pytest.mark.parametrize("name", DOCUMENT)
def test_a_field_has_the_documents_range(name):
    field = limits.IMAGE_TASK_FIELDS[name]
    assert (field.kind, field.required, field.minimum, field.maximum, field.range) == DOCUMENT[name]


def test_the_table_holds_the_documents_fields_and_no_other():
    assert set(limits.IMAGE_TASK_FIELDS) == set(DOCUMENT)


def test_the_documents_other_numbers():
    assert (limits.MIN_TASKS, limits.MAX_TASKS) == (1, 10)
    assert (limits.MIN_SIDE, limits.MAX_SIDE) == (400, 4096)
    assert limits.IMAGE_FORMATS == ("JPEG", "PNG", "WEBP")
    assert limits.SUBMIT_PATH == "/api/v1/bg-rep/submit"
    assert limits.QUERY_PATH == "/api/v1/bg-rep/query"
    assert limits.APPCODE_PREFIX == "APPCODE "
    assert limits.NONCE_WINDOW_SECONDS == 900
    assert limits.BREAKER_OPEN_SECONDS == 90


def test_an_image_task_defaults_to_what_the_table_says():
    defaults = {f.name: f.default for f in dataclasses.fields(ImageTask)}
    for name, field in limits.IMAGE_TASK_FIELDS.items():
        if name not in ("image", "positive_prompt"):
            assert defaults[name] == field.default
    assert (defaults["guidance_scale"], defaults["strength"]) == (7.5, 0.5)
    assert (defaults["steps"], defaults["num_output"]) == (50, 1)


def test_every_limit_is_documented_or_ours():
    assert {field.source for field in limits.IMAGE_TASK_FIELDS.values()} == {"document"}
    assert all(field.meaning.endswith(".") for field in limits.IMAGE_TASK_FIELDS.values())
