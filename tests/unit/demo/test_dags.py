# SPDX-License-Identifier: Apache-2.0
"""The demo's copies of the example DAGs have trigger forms with values that work there."""

from __future__ import annotations

from pathlib import Path

from bgrep_demo.dags import copy_dags
from bgrep_demo.shop import CATALOG, DESTINATION

from airflow_provider_bgrep.emulator.samples import listing

DAGS = Path(__file__).resolve().parents[3] / "dags"


def test_the_forms_name_the_shop_and_a_sample(tmp_path: Path):
    sample, *_ = listing("http://127.0.0.1:1")
    shop = tmp_path / "shop"
    copies = copy_dags(DAGS, tmp_path / "dags", shop, sample)
    values = {}
    for file in copies.glob("*.py"):
        module: dict[str, object] = {"__name__": file.stem}
        exec(compile(file.read_text(), str(file), "exec"), module)  # noqa: S102
        values[file.stem] = module["dag"].params.dump()
    quickstart, refresh = values["bgrep_quickstart"], values["bgrep_catalog_refresh"]
    assert (quickstart["image"], quickstart["mask"]) == (sample.image, sample.mask)
    assert quickstart["destination"] == shop.as_uri()
    assert refresh["catalog"] == (shop / CATALOG).as_uri()
    assert refresh["destination"] == (shop / DESTINATION).as_uri()
    assert refresh["allow_private_sources"] is True
