# SPDX-License-Identifier: Apache-2.0
"""The arguments that several commands have."""

from __future__ import annotations

import argparse

import pytest

from airflow_provider_bgrep.cli import arguments
from airflow_provider_bgrep.cli.errors import UsageError
from airflow_provider_bgrep.protocol.errors import InvalidInput, StoreError


def given(*texts: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    arguments.add_destination(parser)
    return parser.parse_args(texts)


def catalog(*texts: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    arguments.add_catalog(parser)
    return parser.parse_args(texts)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (("s3://shop/images",), "s3://shop/images"),
        (("s3://shop/images", "--conn-id", "my_s3"), "s3://my_s3@shop/images"),
        (("s3://old@shop/images", "--conn-id", "my_s3"), "s3://my_s3@shop/images"),
        (("s3://old@shop/images",), "s3://old@shop/images"),
        (("/data/images", "--conn-id", "my_s3"), "/data/images"),
    ],
)
def test_the_connection_is_part_of_the_path(texts, found):
    assert arguments.destination_text(given(*texts)) == found


def test_a_relative_destination_is_refused():
    with pytest.raises(InvalidInput) as error:
        arguments.paths_of(given("shop/images"))
    assert error.value.problems[0].where == "DESTINATION"


def test_a_connection_that_does_not_exist_is_named():
    with pytest.raises(StoreError, match="nobody"):
        arguments.paths_of(given("oss://shop/images", "--conn-id", "nobody"))


def test_a_destination_without_state_is_not_an_empty_one(tmp_path):
    with pytest.raises(UsageError, match="has no folder _bgrep"):
        arguments.existing_paths_of(given(str(tmp_path)))
    (tmp_path / "_bgrep").mkdir()
    (tmp_path / "_bgrep" / "storage.json").write_text("{}")
    assert str(arguments.existing_paths_of(given(str(tmp_path))).root).endswith("/_bgrep")


def test_mappings_are_json_or_a_file(tmp_path):
    file = tmp_path / "defaults.json"
    file.write_text('{"steps": 20}')
    options = arguments.catalog_options(
        catalog("/c.csv", "--defaults", f"@{file}", "--source", '{"encoding": "x"}')
    )
    assert options == {"catalog": "/c.csv", "defaults": '{"steps": 20}', "source": '{"encoding": "x"}'}


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"--defaults is @.*missing.json.*No such file"):
        arguments.catalog_options(catalog("/c.csv", "--defaults", f"@{tmp_path}/missing.json"))
