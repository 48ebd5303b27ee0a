# SPDX-License-Identifier: Apache-2.0
"""Links on tasks: shown as soon as they are known, and the same ones when the task ends."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_bgrep.get_provider_info import get_provider_info
from airflow_provider_bgrep.operators.links import (
    API_PAGE,
    LINKS,
    BgRepApiLink,
    BgRepGalleryLink,
    BgRepManifestLink,
    Linked,
)

GALLERY = "https://images.shop.example/_bgrep/plans/1/report.html"


class TaskInstance:
    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


class Operator(Linked, BaseOperator):
    operator_extra_links = (BgRepGalleryLink(), BgRepManifestLink())


@pytest.fixture
def operator() -> Operator:
    return Operator(task_id="report")


def test_a_link_is_in_the_xcom_that_airflow_reads(operator: Operator):
    ti = TaskInstance()
    operator.show_links({"ti": ti}, {BgRepGalleryLink: GALLERY, BgRepManifestLink: None})
    assert ti.pushed == {"_link_BgRepGalleryLink": GALLERY}, "and one without a URL is in none"
    # The default of Airflow 3, whose API server knows no more of a link than its name and this key.
    assert getattr(BgRepGalleryLink(), "xcom_key", "_link_BgRepGalleryLink") == "_link_BgRepGalleryLink"


def test_the_end_of_the_task_does_not_change_its_links(operator: Operator):
    ti = TaskInstance()
    operator.show_links({"ti": ti}, {BgRepGalleryLink: GALLERY})
    operator.show_links({"ti": ti}, {})
    assert BgRepGalleryLink().get_link(operator, ti_key=ti) == GALLERY
    assert BgRepManifestLink().get_link(operator, ti_key=ti) == ""


def test_the_api_has_a_page_on_every_task(operator: Operator):
    assert BgRepApiLink().get_link(operator, ti_key=None) == API_PAGE
    assert get_provider_info()["integrations"][0]["external-doc-url"] == API_PAGE


def test_the_metadata_names_every_link():
    assert get_provider_info()["extra-links"] == [f"{one.__module__}.{one.__qualname__}" for one in LINKS]
    assert len({one().name for one in LINKS}) == len(LINKS), "Airflow tells links apart by their names"
