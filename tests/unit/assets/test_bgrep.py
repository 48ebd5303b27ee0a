# SPDX-License-Identifier: Apache-2.0
"""Airflow finds the functions for assets, and an asset and a dataset of one destination are one thing."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import airflow
import pytest
from airflow.providers.common.compat.sdk import Asset

from airflow_provider_bgrep.assets.bgrep import create_asset, default_asset_uri
from airflow_provider_bgrep.catalog.operators import BgRepPublishOperator

KIND = "dataset" if airflow.__version__ < "3" else "asset"
SECRET = "s3cr3t"


@pytest.fixture(scope="module")
def providers() -> Any:
    """Airflow's own registry of what providers declare."""
    with contextlib.suppress(ImportError):
        from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

        return ProvidersManagerTaskRuntime()
    from airflow.providers_manager import ProvidersManager  # before 3.2

    return ProvidersManager()


@pytest.mark.parametrize(
    ("destination", "uri"),
    [
        ("s3://shop/images", "bgrep://s3/shop/images"),
        ("s3a://shop//images/./", "bgrep://s3/shop/images"),
        ("S3://aws_default@shop/images/", "bgrep://s3/shop/images"),
        (f"s3://key:{SECRET}@shop/images?x={SECRET}#{SECRET}", "bgrep://s3/shop/images"),
        (f"s3://key:half/{SECRET}@shop/images", "bgrep://s3/shop/images"),
        ("gcs://shop/images", "bgrep://gs/shop/images"),
        ("/data/images", "bgrep://file/data/images"),
        ("file:///data/images", "bgrep://file/data/images"),
        ("/data/杯 1", "bgrep://file/data/%E6%9D%AF%201"),
    ],
)
def test_an_asset_is_named_after_its_destination(destination: str, uri: str):
    assert default_asset_uri(destination) == uri
    asset = create_asset(destination=destination, extra={"shop": "one"})
    assert (asset.uri, asset.extra) == (uri, {"shop": "one"})


def test_destinations_that_differ_have_assets_that_differ():
    destinations = [
        *("s3://a/images", "s3://b/images", "s3://a/images2"),
        *("{{ var.value.a }}", "{{ var.value.b }}"),
    ]
    assert len({create_asset(destination=one).uri for one in destinations}) == len(destinations)


@pytest.mark.parametrize("written", ["bgrep://S3/shop//images/", f"bgrep://s3/shop/images?sig={SECRET}"])
def test_a_uri_that_a_person_wrote_is_the_same_asset(written: str):
    assert Asset(uri=written).uri == "bgrep://s3/shop/images"


def test_a_uri_that_names_no_destination_is_refused():
    if KIND == "asset":
        with pytest.raises(ValueError, match="bgrep://STORE/BUCKET/FOLDER"):
            Asset(uri="bgrep://s3")
    else:
        with pytest.warns(UserWarning, match="bgrep://STORE/BUCKET/FOLDER"):
            Asset(uri="bgrep://s3")


def test_airflow_finds_handler_factory_and_converter(providers: Any):
    assert getattr(providers, f"{KIND}_uri_handlers")["bgrep"].__name__ == "sanitize_uri"
    factory = getattr(providers, f"{KIND}_factories")["bgrep"]
    assert factory is create_asset
    assert "destination" in inspect.signature(factory).parameters
    assert "bgrep" in getattr(providers, f"{KIND}_to_openlineage_converters")


@pytest.mark.parametrize(
    "destination",
    ["s3://aws@shop/images", "gs://shop/images", "oss://shop/a/b", "abfs://shop/b", "/data/杯 1"],
)
def test_asset_and_output_are_the_same_dataset(destination: str):
    utils = pytest.importorskip(
        "airflow.providers.common.compat.openlineage.utils.utils", reason="OpenLineage is not installed"
    )
    pytest.importorskip("openlineage.client", reason="OpenLineage is not installed")
    publish = BgRepPublishOperator(task_id="publish", destination=destination, plan_id="1")
    (output,) = publish.get_openlineage_facets_on_start().outputs
    dataset = utils.translate_airflow_asset(create_asset(destination=destination), None)
    assert (dataset.namespace, dataset.name) == (output.namespace, output.name)


def test_the_asset_of_a_template_is_no_dataset():
    pytest.importorskip("openlineage.client", reason="OpenLineage is not installed")
    from airflow_provider_bgrep.assets.bgrep import convert_asset_to_openlineage

    assert convert_asset_to_openlineage(create_asset(destination="{{ params.destination }}"), None) is None
