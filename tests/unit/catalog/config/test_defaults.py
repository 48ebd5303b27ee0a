# SPDX-License-Identifier: Apache-2.0
"""Defaults of the API's fields: every problem is reported by its place, before a row is read."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bgrep.catalog.config.defaults import FieldDefaults, moved
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem


def problems(defaults: Any, categories: Any = None) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        FieldDefaults.checked(defaults, categories or {})
    return [problem.where for problem in caught.value.problems]


def test_what_is_given_is_kept_without_what_is_not_set():
    found = FieldDefaults.checked(
        {"steps": "20", "seed": None, "positive_prompt": "a {{ color }} mug"},
        {" Mugs ": {"strength": "0,5", "mask": None}, "lamps": {}},
        "spring",
    )
    assert found.defaults == {"steps": "20", "positive_prompt": "a {{ color }} mug"}
    assert found.categories == {"Mugs": {"strength": "0,5"}, "lamps": {}}
    assert found.edition == "spring"


def test_without_anything_there_are_no_defaults():
    assert FieldDefaults.checked({}, {}) == FieldDefaults()


@pytest.mark.parametrize("url", ["s3://shop/mask.png", "gs://shop/mask.png", "https://shop.example/mask.png"])
def test_a_mask_may_be_on_object_storage(url):
    assert FieldDefaults.checked({"mask": url}, {}).defaults == {"mask": url}


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"steps": 7}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"steps": "1,000"}, "steps"),
        ({"strength": 0}, "strength"),
        ({"guidance_scale": "1e999"}, "guidance_scale"),
        ({"num_output": True}, "num_output"),
        ({"mask": "ftp://shop/mask.png"}, "mask"),
        ({"positive_prompt": "x" * 501}, "positive_prompt"),
        ({"positive_prompt": "{{ color"}, "positive_prompt"),
        ({"negative_prompt": "{% if %}"}, "negative_prompt"),
        ({"image": "https://a/b.png"}, "image"),
        ({"prompt": "x"}, "prompt"),
        ({"id": "x"}, "id"),
        ({7: "x"}, "7"),
    ],
    ids=repr,
)
def test_a_wrong_default_is_named_wherever_it_stands(fields, where):
    assert problems(fields) == [f"defaults.{where}"]
    assert problems({}, {"mugs": fields}) == [f"categories['mugs'].{where}"]


def test_a_template_may_be_longer_than_a_prompt():
    template = "{{ color }}" + " " * 600
    assert FieldDefaults.checked({"positive_prompt": template}, {}).defaults == {"positive_prompt": template}


@pytest.mark.parametrize(
    ("categories", "where"),
    [
        ({"": {}}, "categories['']"),
        ({" ": {}}, "categories[' ']"),
        ({"a": None}, "categories['a']"),
        ({"a": "x"}, "categories['a']"),
        ({"a": {}, "A": {}}, "categories['A']"),
        ({"a b": {}, "A\u00a0 b": {}}, "categories['A\\xa0 b']"),
        ({"caf\u00e9": {}, "cafe\u0301": {}}, "categories['cafe\u0301']"),
        ({"a": {}, " a": {}}, "categories[' a']"),
        ({"straße": {}, "STRASSE": {}}, "categories['STRASSE']"),
        ({1: {}, "1": {}}, "categories['1']"),
    ],
    ids=repr,
)
def test_a_category_is_one_name_for_one_mapping(categories, where):
    assert problems({}, categories) == [where]


def test_every_problem_is_reported_at_once():
    found = problems({"steps": 7, "prompt": "x", "strength": 2}, {"a": {"seed": "x"}, "A": 5})
    assert sorted(found) == [
        "categories['A']",
        "categories['A']",
        "categories['a'].seed",
        "defaults.prompt",
        "defaults.steps",
        "defaults.strength",
    ]


def test_a_problem_is_named_after_the_place_it_was_found_in():
    problem = Problem("task_list[0].steps", "is 7")
    assert moved(problem) == Problem("steps", "is 7")
    assert moved(problem, "defaults") == Problem("defaults.steps", "is 7")
