# SPDX-License-Identifier: Apache-2.0
"""What a run makes of Airflow's context."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_bgrep.connection import Settings
from airflow_provider_bgrep.operators._generate import clear_id_of, manifest_name, regenerate_key, with_share


@pytest.mark.parametrize("value", [None, False, "", " ", "False", "no", "0", "none", "off"], ids=repr)
def test_without_regenerate_there_is_no_key(value):
    assert regenerate_key(value, "2") == ""


@pytest.mark.parametrize("value", [True, "true", "True", " YES ", "1", "on"], ids=repr)
def test_regenerate_true_is_a_key_for_each_clear(value):
    assert regenerate_key(value, "2") == regenerate_key(True, "2") != regenerate_key(True, "3")


def test_any_other_text_is_the_key():
    assert regenerate_key(" spring ", "2") == regenerate_key("spring", "3") == "spring"


def context(**facts: Any) -> Any:
    ti = {"dag_id": "dag", "run_id": "run/1", "task_id": "task", "map_index": -1, "max_tries": 2, **facts}
    return {"ti": SimpleNamespace(**ti)}


def test_a_clear_or_a_rerun_changes_clear_id_and_a_retry_not():
    started = {"dag_run": SimpleNamespace(start_date=datetime(2026, 1, 1, tzinfo=UTC))}
    ids = [clear_id_of(context()), clear_id_of(context(max_tries=3)), clear_id_of({**context(), **started})]
    assert len(set(ids)) == 3
    assert clear_id_of(context(try_number=1)) == clear_id_of(context(try_number=2))


def test_each_task_instance_has_a_manifest_of_its_own():
    names = [
        manifest_name(context(**facts)) for facts in ({}, {"map_index": 0}, {"map_index": 1}, {"run_id": "b"})
    ]
    assert len(set(names)) == 4
    assert all(name.startswith("manifest-") and "/" not in name for name in names)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"run_id": "nightly", "task_id": "eu.generate"}, {"run_id": "nightly.eu", "task_id": "generate"}),
        ({"dag_id": "a.b", "run_id": "c"}, {"dag_id": "a", "run_id": "b.c"}),
        ({"task_id": "g.map_1"}, {"task_id": "g", "map_index": 1}),
        ({"task_id": "g.x"}, {"task_id": "g_x"}),
    ],
)
def test_a_dot_in_a_part_makes_no_manifest_anothers(one, other):
    assert manifest_name(context(**{"run_id": "r", **one})) != manifest_name(
        context(**{"run_id": "r", **other})
    )


def test_a_manifest_has_a_name_that_people_can_read():
    assert manifest_name(context(run_id="nightly")) == "manifest-dag.nightly.task.jsonl"
    assert manifest_name(context(run_id="r", task_id="eu.g")).startswith("manifest-dag_r_eu.g-")


@pytest.mark.parametrize(("rate", "share", "found"), [(None, 0.5, None), (8.0, 0.25, 2.0), (8.0, 1.0, 8.0)])
def test_a_share_of_the_connections_rate(rate, share, found):
    settings = Settings(base_url="https://api.example", app_code="code", max_requests_per_second=rate)
    assert with_share(settings, share).max_requests_per_second == found
