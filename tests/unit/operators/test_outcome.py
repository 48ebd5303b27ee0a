# SPDX-License-Identifier: Apache-2.0
"""How a run ends, where nothing has to be sent for it."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_bgrep.exceptions import (
    BgRepJobFailedError,
    BgRepQuotaError,
    BgRepRequestError,
    BgRepServiceError,
    BgRepTimeoutError,
    BgRepUnknownOutcomeError,
)
from airflow_provider_bgrep.generation.items import WorkItem, WorkItems
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.generation.run_context import Result
from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask, SupersededError
from airflow_provider_bgrep.journal.stores import MemoryStore
from airflow_provider_bgrep.operators._outcome import (
    FinishedRun,
    error_of,
    finish,
    stop_error,
    stop_record,
    summarize,
)
from airflow_provider_bgrep.operators.options import GenerateOptions
from airflow_provider_bgrep.operators.spec import GenerateSpec
from airflow_provider_bgrep.protocol.codes import Operation
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.storage import storage_path

REFUSED = CallError.rebuilt(Operation.SUBMIT, code="B403MQ", http_status=403, request_id="r")


def run_of(*outcomes: Outcome, folder: Any = "/shop", **facts: Any) -> FinishedRun:
    """A run whose list came to these outcomes."""
    tasks = [
        ImageTask(image=f"https://a/{i}.png", positive_prompt="sea", id=f"sku-{i}")
        for i in range(len(outcomes))
    ]
    items = WorkItems(tasks, [str(i) for i in range(len(tasks))], [], account="conn", try_number=1)
    for item, outcome in zip(items, outcomes, strict=True):
        item.set_outcome(outcome, "why" if outcome is not Outcome.GENERATED else "")
    spec = GenerateSpec(
        task_list=tasks,
        destination=str(folder),
        bgrep_conn_id="conn",
        store=None,
        poll_interval=1.0,
        timeout=60.0,
        **{"options": GenerateOptions(), **facts},
    )
    journal = Journal(MemoryStore(), "conn", end_time=4e9)
    return FinishedRun(spec, items, journal, Result(), storage_path(f"{folder}/manifest.jsonl"))


def test_a_stop_survives_the_journals_json():
    again = stop_error(json.loads(json.dumps(stop_record(REFUSED))))
    assert again is not None
    assert (again.code, again.http_status, again.message, again.kind) == (
        *(REFUSED.code, REFUSED.http_status, REFUSED.message, REFUSED.kind),
    )
    assert stop_record(None) is None
    assert stop_error(None) is None


GOOD, FAILED, PARTIAL = Outcome.GENERATED, Outcome.FAILED, Outcome.PARTIAL


@pytest.mark.parametrize(
    ("outcomes", "fail_on", "error"),
    [
        ((GOOD, GOOD), "any", None),
        ((), "any", None),
        ((GOOD, FAILED), "any", BgRepJobFailedError),
        ((GOOD, PARTIAL), "any", BgRepJobFailedError),
        ((GOOD, FAILED), "all", None),
        ((PARTIAL, FAILED), "all", None),
        ((FAILED, FAILED), "all", BgRepJobFailedError),
        ((FAILED, FAILED), "never", None),
        ((GOOD, Outcome.UNKNOWN), "never", BgRepUnknownOutcomeError),
        ((GOOD, Outcome.PENDING), "never", BgRepTimeoutError),
        ((GOOD, Outcome.NOT_SUBMITTED), "never", BgRepTimeoutError),
    ],
)
def test_the_outcomes_decide_how_the_task_ends(outcomes, fail_on, error):
    found = error_of(run_of(*outcomes, fail_on=fail_on))
    assert type(found) is (error or type(None))


@pytest.mark.parametrize(
    ("outcome", "facts", "error"),
    [
        (Outcome.UNKNOWN, {"fail_on": "never"}, BgRepUnknownOutcomeError),
        (Outcome.UNKNOWN, {"on_unknown_outcome": "resubmit"}, None),
        (Outcome.PENDING, {"fail_on": "never"}, BgRepTimeoutError),
        (Outcome.PENDING, {"on_unknown_outcome": "resubmit"}, BgRepTimeoutError),
        *((outcome, {}, None) for outcome in (GOOD, FAILED, PARTIAL, Outcome.EXPIRED)),
    ],
)
@pytest.mark.parametrize("edition", ["", "before"])
def test_an_unsettled_orphan_is_no_success(outcome, facts, error, edition):
    """The list lacks it. A new edition of the list replaces an unknown outcome, and no pending job."""
    run = run_of(GOOD, **facts)
    record = SubmitRecord(
        State.UNKNOWN, "2026-01-01T00:00:00+00:00", (SubmittedTask("gone"),), regenerate_key=edition
    )
    run.work_items.items["gone"] = WorkItem("gone", 1, outcome=outcome, record=record)
    if outcome is Outcome.UNKNOWN and edition:
        error = None
    assert type(error_of(run)) is (error or type(None))
    assert summarize(run)["orphaned"] == 1


def test_an_error_that_may_not_occur_again_comes_first():
    run = run_of(FAILED, Outcome.UNKNOWN)
    run.result.error = SupersededError("another run")
    assert isinstance(error_of(run), BgRepServiceError)


def test_an_account_that_is_refused_names_what_was_not_submitted():
    run = run_of(GOOD, Outcome.NOT_SUBMITTED)
    run.result.stopped = REFUSED
    error = error_of(run)
    assert isinstance(error, BgRepQuotaError)
    assert "sku-1" in error.message


@pytest.mark.parametrize(("over_budget", "error"), [("refuse", BgRepRequestError), ("trim", type(None))])
def test_a_list_over_budget_is_an_error_unless_it_is_trimmed(over_budget, error):
    run = run_of(GOOD, Outcome.NOT_SUBMITTED, max_images=1, options=GenerateOptions(over_budget=over_budget))
    run.work_items.items["1"].is_over_budget = True
    assert type(error_of(run)) is error


def test_the_summary_is_pushed_where_the_task_fails(tmp_path):
    run = run_of(GOOD, FAILED, folder=tmp_path)
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    log = SimpleNamespace(info=lambda *args: None)
    with pytest.raises(BgRepJobFailedError):
        finish(run, {"ti": ti}, log=log)
    assert pushed == {"return_value": summarize(run)}
    assert pushed["return_value"]["items"]["generated"] == 1
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("outcome", [GOOD, Outcome.PENDING])
def test_a_superseded_process_writes_no_manifest_and_no_xcom(outcome, tmp_path):
    store = MemoryStore()
    run = replace(run_of(outcome, folder=tmp_path), journal=Journal(store, "conn", end_time=4e9))
    Journal(store, "conn", end_time=4e9)  # the next try
    (tmp_path / "manifest.jsonl").write_text("the manifest of the next try")
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    with pytest.raises(BgRepServiceError):
        finish(run, {"ti": ti}, log=SimpleNamespace(info=lambda *args: None))
    assert pushed == {}
    assert (tmp_path / "manifest.jsonl").read_text() == "the manifest of the next try"
