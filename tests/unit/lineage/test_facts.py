# SPDX-License-Identifier: Apache-2.0
"""What is known of a dataset becomes a facet; what is not known becomes none."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("openlineage.client", reason="OpenLineage is not installed")

from openlineage.client.serde import Serde

from airflow_provider_bgrep.lineage.facts import Dataset, Lineage
from airflow_provider_bgrep.lineage.location import Location


def as_json(found: object) -> dict[str, object]:
    return dict(json.loads(Serde.to_json(found)))


def test_counts_bytes_and_version_become_facets():
    catalog = Dataset(location=Location.of("s3://shop/catalog.csv"), rows=7, size=321)
    images = Dataset(location=Location.of("s3://shop/images"), version="0007-plan", rows=2, files=2, size=99)
    found = Lineage(
        inputs=(catalog,), outputs=(images,), plan_id="0007-plan", counts={"published": 2}
    ).to_openlineage()

    read = as_json(found.inputs[0])
    assert (read["namespace"], read["name"]) == ("s3://shop", "catalog.csv")
    assert read["inputFacets"]["inputStatistics"].items() >= {"rowCount": 7, "size": 321}.items()
    assert "version" not in read["facets"]

    written = as_json(found.outputs[0])
    assert (written["namespace"], written["name"]) == ("s3://shop", "images")
    assert written["facets"]["version"]["datasetVersion"] == "0007-plan"
    expected = {"rowCount": 2, "fileCount": 2, "size": 99}
    assert written["outputFacets"]["outputStatistics"].items() >= expected.items()

    facet = as_json(found.run_facets["bgrep"])
    assert (facet["planId"], facet["counts"]) == ("0007-plan", {"published": 2})


def test_what_is_not_known_becomes_no_facet():
    found = Lineage(outputs=(Dataset(location=Location.of("/data/images")),)).to_openlineage()
    assert (found.outputs[0].facets, found.outputs[0].outputFacets, found.run_facets) == ({}, {}, {})


def test_zero_is_known():
    assert Dataset(location=Location.of("/data"), rows=0, size=0).statistics == {"rowCount": 0, "size": 0}
