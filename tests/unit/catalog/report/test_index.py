# SPDX-License-Identifier: Apache-2.0
"""The list of reports, and the page that leads to the latest one."""

from __future__ import annotations

import re

import pytest
from bgrep_harness.runs import Destination, Run, row

from airflow_provider_bgrep.catalog.report.index import write_index
from airflow_provider_bgrep.catalog.report.write import write_report
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.storage import get_bytes, remove


def reported(shop: Destination, run: Run) -> str:
    write_report(PlanStore(shop.paths, run.plan_id))
    return run.plan_id


def listed(shop: Destination) -> list[str]:
    page = (get_bytes(shop.paths.index) or b"").decode()
    return re.findall(r'href="plans/([^/"]+)/report\.html"', page)


def latest(shop: Destination) -> str:
    page = (get_bytes(shop.paths.latest) or b"").decode()
    return re.search(r'url=plans/([^/"]+)/report\.html"', page)[1]


@pytest.mark.slow
def test_the_list_has_every_report_newest_first(destination: Destination):
    first = reported(destination, destination.refresh([row("mug"), row("vase")]))
    assert (listed(destination), latest(destination)) == ([first], first)
    second = reported(destination, destination.refresh([row("mug", color="red"), row("vase")]))
    assert (listed(destination), latest(destination)) == ([second, first], second)


@pytest.mark.slow
def test_a_run_without_a_report_is_not_listed(destination: Destination):
    first = reported(destination, destination.refresh([row("mug")]))
    destination.refresh([row("mug"), row("vase")])
    write_index(destination.paths)
    assert (listed(destination), latest(destination)) == ([first], first)


@pytest.mark.slow
def test_a_report_that_was_deleted_leaves_the_list(destination: Destination):
    first = destination.refresh([row("mug")])
    reported(destination, first)
    second = reported(destination, destination.refresh([row("mug"), row("vase")]))
    remove(destination.paths.plan(first.plan_id).summary)
    write_index(destination.paths)
    assert listed(destination) == [second]


@pytest.mark.parametrize("run_id", ["manual__<script>alert(1)</script>", 'a"b & c'])
def test_what_a_run_is_called_is_text(destination: Destination, run_id: str):
    reported(destination, destination.plan([row("mug")], run_id=run_id).complete())
    page = (get_bytes(destination.paths.index) or b"").decode()
    assert "<script" not in page
    assert run_id not in page
