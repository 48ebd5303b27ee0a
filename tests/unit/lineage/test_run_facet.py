# SPDX-License-Identifier: Apache-2.0
"""The run facet is one that OpenLineage's consumers can read."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("openlineage.client", reason="OpenLineage is not installed")

from openlineage.client.serde import Serde

from airflow_provider_bgrep.lineage.run_facet import BgRepRunFacet


def test_the_facet_has_producer_and_schema_and_survives_a_pickle():
    import pickle

    facet = BgRepRunFacet(planId="plan", counts={"new": 1})
    read = json.loads(Serde.to_json(facet))
    assert read["_schemaURL"].startswith("https://openlineage.io/spec/")
    assert read["_producer"]
    assert {name for name in read if not name.startswith("_")} == {"planId", "counts"}
    assert pickle.loads(pickle.dumps(facet)) == facet  # noqa: S301 (our own, of this test)
