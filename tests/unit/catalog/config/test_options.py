# SPDX-License-Identifier: Apache-2.0
"""The options of a run as a whole: rendered values in, every problem at once, and what is stored of them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_bgrep.catalog.config.options import (
    Options,
    is_literal,
    literal_problems,
    path_problems,
)
from airflow_provider_bgrep.protocol.errors import InvalidInput

PLACES = {"catalog": "s3://shop/catalog.csv", "destination": "s3://shop/images"}
TEMPLATE = "{{ params.x }}"
XCOM = object()


def problems(**given: Any) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        Options.checked({**PLACES, **given})
    return sorted(problem.where for problem in caught.value.problems)


def test_the_defaults_are_the_classes():
    assert Options.checked(PLACES) == Options(**PLACES)


def test_options_are_read_from_text():
    given = {
        "shard_size": "7",
        "max_images_per_run": "5",
        "price_per_image": "0.20",
        "approve_above": "50",
        "dry_run": "true",
        "defaults": '{"steps": 20}',
        "fail_on_attention": "0.05",
        "keep_versions": "",
        "edition": "None",
    }
    found = Options.checked({**PLACES, **given})
    assert (found.shard_size, found.max_images_per_run, found.dry_run) == (7, 5, True)
    assert (found.price_per_image, found.approve_above) == (Decimal("0.20"), Decimal(50))
    assert (found.defaults, found.fail_on_attention) == ({"steps": 20}, 0.05)
    assert (found.keep_versions, found.edition) == (Options(**PLACES).keep_versions, "")


@pytest.mark.parametrize("name", ["catalog", "destination"])
@pytest.mark.parametrize("value", [None, "", " ", "None", ...], ids=repr)
def test_both_places_are_required(name, value):
    given = {one: place for one, place in PLACES.items() if one != name}
    with pytest.raises(InvalidInput) as caught:
        Options.checked(given if value is ... else {**given, name: value})
    assert [problem.where for problem in caught.value.problems] == [name]


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"shards": 7}, ["shards"]),
        ({"shard_size": 0}, ["shard_size"]),
        ({"max_rebuy_share": 1.1, "on_removed": "drop"}, ["max_rebuy_share", "on_removed"]),
        ({"check_sources": "some"}, ["check_sources"]),
        ({"defaults": {"steps": 7}}, ["defaults.steps"]),
        ({"thresholds": {"ssim": 2}, "categories": {"a": 5}}, ["categories['a']", "thresholds.ssim"]),
        ({"filename_template": "{sku}"}, ["filename_template"]),
        ({"approve_above": 50}, ["approve_above"]),
        ({"budget": {"approve_above": 50}}, ["budget.approve_above"]),
        ({"source": "[1]", "publish": 5}, ["publish", "source"]),
    ],
    ids=repr,
)
def test_every_problem_is_reported_by_its_name(given, where):
    assert sorted(set(problems(**given))) == where


def test_an_option_alone_takes_no_part_of_a_group_away():
    found = Options.checked({**PLACES, "execution": {"shard_size": 7}, "publish": "None", "checks": None})
    assert found.shard_size == 7
    assert found.keep_versions == Options(**PLACES).keep_versions


# --- what is stored -----------------------------------------------------------------------------------


def test_options_are_stored_as_json_and_read_back():
    given = Options.checked({**PLACES, "price_per_image": "0.20", "defaults": {"steps": 20}, "keep_plans": 5})
    values = json.loads(json.dumps(given.to_json()))
    assert Options.checked(values) == given


def test_neither_signatures_nor_credentials_nor_rows_are_stored():
    signed = "https://user:canary@a.b/mask.png?Expires=1&OSSAccessKeyId=canary&Signature=canary"
    given = {
        "defaults": {"mask": signed, "positive_prompt": "a? b"},
        "categories": {"mugs": {"mask": signed}},
        "catalog": "s3://key:canary@shop/catalog.csv?canary=1",
    }
    text = json.dumps(Options.checked({**PLACES, **given}).to_json())
    assert "canary" not in text
    assert text.count("a.b/mask.png") == 2
    assert "a? b" in text
    rows = Options.checked({**PLACES, "catalog": [{"sku": "canary"}]}).to_json()
    assert "canary" not in json.dumps(rows)


@pytest.mark.parametrize(
    "mask",
    ["s3://KEY:canary@bucket/m.png", "s3://KEY:half/canary@bucket/m.png", "oss://KEY%3Acanary@bucket/m.png"],
)
def test_a_mask_with_credentials_is_stored_without_them(mask: str):
    given = {"defaults": {"mask": mask}, "categories": {"mugs": {"mask": mask}}}
    text = json.dumps(Options.checked({**PLACES, **given}).to_json())
    assert "canary" not in text
    assert text.count("bucket/m.png") == 2


# --- when the DAG is parsed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["a", "50 % {off}", 5, None, True, Decimal(1), {"a": [1, "b"]}, [], ("a",)], ids=repr
)
def test_a_literal_is_known_when_the_dag_is_parsed(value):
    assert is_literal(value)


@pytest.mark.parametrize(
    "value", [TEMPLATE, "{% if x %}", {"a": TEMPLATE}, [1, [TEMPLATE]], XCOM, {"a": [XCOM]}]
)
def test_a_template_or_an_xcom_is_not(value):
    assert not is_literal(value)


def test_templates_are_passed_over_when_the_dag_is_parsed():
    given = {"shard_size": TEMPLATE, "price_per_image": TEMPLATE, "approve_above": 50, "dry_run": object()}
    assert literal_problems({**PLACES, **given}) == []
    assert literal_problems({}) == []


def test_templates_in_defaults_are_about_columns_and_are_checked():
    found = literal_problems({"defaults": {"positive_prompt": "{{ color", "negative_prompt": "{{ b }}"}})
    assert [problem.where for problem in found] == ["defaults.positive_prompt"]


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"approve_above": 50}, ["approve_above"]),
        ({"shard_size": 0, "destination": "images"}, ["shard_size", "destination"]),
        ({"catalog": "c.csv", "destination": "./images"}, ["catalog", "destination"]),
    ],
    ids=repr,
)
def test_literals_are_checked_when_the_dag_is_parsed(given, where):
    assert [problem.where for problem in literal_problems(given)] == where


def test_relative_paths_are_refused_and_rows_are_not_paths():
    assert [one.where for one in path_problems({"catalog": "c.csv", "destination": "images"})] == [
        "catalog",
        "destination",
    ]
    assert path_problems({"catalog": [{"sku": "a"}], "destination": "/images"}) == []
    assert path_problems({"catalog": "", "destination": "s3://shop/images"}) == []


@pytest.mark.parametrize("option", ["catalog", "destination"])
@pytest.mark.parametrize("path", ["s3://KEY:canary@shop/in", "s3://KEY:half/canary@shop/in"])
def test_paths_with_credentials_are_refused(option: str, path: str):
    for given in (path, ObjectStoragePath(path)):
        for found in (path_problems({option: given}), literal_problems({option: given})):
            assert [one.where for one in found] == [option]
            assert "canary" not in str(found)


def test_a_rendered_group_is_read_without_dag_level_options():
    read = Options.checked({**PLACES, "execution": '{"shard_size": "7", "valid_for": null}'})
    assert (read.shard_size, read.valid_for) == (7, 20 * 3600)
    assert Options.checked({**PLACES, "execution": "None"}).shard_size == 200
    with pytest.raises(InvalidInput) as refused:
        Options.checked({**PLACES, "budget": {"approve_above": 5}, "execution": {"pool": "x"}})
    assert {one.where for one in refused.value.problems} == {"budget.approve_above", "execution.pool"}


@pytest.mark.parametrize(
    "given",
    [
        {"execution": '{"single_writer": "true"}'},
        {"execution": {"single_writer": True}},
        {"single_writer": "True"},
    ],
    ids=repr,
)
def test_a_single_writer_comes_in_every_form(given):
    assert Options.checked({**PLACES, **given}).single_writer is True
    assert Options.checked(PLACES).single_writer is False
    assert [one.where for one in literal_problems({"single_writer": "perhaps"})] == ["single_writer"]
    assert literal_problems({"single_writer": "{{ params.single }}"}) == []


def test_an_edition_cannot_be_taken_for_that_of_a_redone_row():
    with pytest.raises(InvalidInput) as caught:
        Options.checked({**PLACES, "edition": "autumn#redo-1"})
    assert [one.where for one in caught.value.problems] == ["edition"]
    assert Options.checked({**PLACES, "edition": " autumn#1 "}).edition == "autumn#1"
