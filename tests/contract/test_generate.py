# SPDX-License-Identifier: Apache-2.0
"""The generate operator: everything is submitted once, nothing submitted is lost, and all is reported."""

from __future__ import annotations

import json
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from bgrep_harness.tasks import FailingForRefusals

from airflow_provider_bgrep.compat import has_task_state_store
from airflow_provider_bgrep.exceptions import (
    BgRepAuthError,
    BgRepContentError,
    BgRepDownloadError,
    BgRepJobFailedError,
    BgRepQuotaError,
    BgRepRequestError,
    BgRepServiceError,
    BgRepStateError,
    BgRepTimeoutError,
    BgRepUnknownOutcomeError,
)
from airflow_provider_bgrep.generation import submitter
from airflow_provider_bgrep.operators import _base
from airflow_provider_bgrep.operators.bgrep import BgRepGenerateOperator


def tasks_of(emulator: Any, count: int, **fields: Any) -> list[dict[str, Any]]:
    """Image tasks that differ in the image's URL only, so that the emulator draws them once."""
    task = emulator.image_task(**fields)
    return [{**task, "image": f"{task['image']}?n={i}", "id": f"sku-{i}"} for i in range(count)]


class GenerateTask:
    """One task instance of the operator, run any number of times."""

    def __init__(self, emulator: Any, run: Any, ti: Any, folder: Path, memory: Any, deferrable: bool) -> None:
        self.emulator, self._run, self.ti, self.folder = emulator, run, ti, folder
        self.kwargs, self.context = memory
        self.deferrable = deferrable

    def run(self, task_list: Any, **more: Any) -> Any:
        defaults: dict[str, Any] = {
            "deferrable": self.deferrable,
            "poll_interval": 0.2,
            "timeout": 60,
            "destination": f"file://{self.folder}",
        }
        operator = BgRepGenerateOperator(
            task_id="generate", task_list=task_list, **{**defaults, **self.kwargs, **more}
        )
        self.operator = operator
        outcome = self._run(operator, self.ti, **self.context)
        self.summary = outcome.value or outcome.pushed.get("return_value")
        return outcome

    def retry(self) -> None:
        self.ti.try_number += 1

    def clear(self) -> None:
        # As Airflow does: a new try, and a new number of tries that it may come to.
        self.ti.max_tries = self.ti.try_number
        self.ti.try_number += 1

    @property
    def lines(self) -> list[dict[str, Any]]:
        (manifest,) = self.folder.glob("manifest-*.jsonl")
        return [json.loads(line) for line in manifest.read_text().splitlines()]

    @property
    def statuses(self) -> list[str]:
        return [line["status"] for line in self.lines]

    @property
    def images(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.suffix not in (".jsonl", "")]


# Each way to wait, with the store that then holds the journal by default.
STORE = "Airflow's store" if has_task_state_store() else "files"


@pytest.fixture(params=["in the worker, files", f"deferred, {STORE}"])
def generate(
    request: Any, connection: Any, run: Any, ti: Any, tmp_path: Path, state_store: Any
) -> GenerateTask:
    files = ({"journal_path": f"file://{tmp_path}/journal"}, {})
    own = ({}, {"task_state_store": state_store})
    memory = files if "files" in request.param else own
    return GenerateTask(connection, run, ti, tmp_path / "images", memory, "deferred" in request.param)


@pytest.fixture
def plain_generate(connection: Any, run: Any, ti: Any, tmp_path: Path) -> GenerateTask:
    """In the worker, its journal in files: where neither makes a difference."""
    memory = ({"journal_path": f"file://{tmp_path}/journal"}, {})
    return GenerateTask(connection, run, ti, tmp_path / "images", memory, False)


# --- the main job -------------------------------------------------------------------------------


@pytest.mark.slow
def test_any_number_of_image_tasks_is_submitted_and_saved(generate):
    outcome = generate.run(tasks_of(generate.emulator, 23, num_output=2))
    assert outcome.state == "success", outcome.error
    assert outcome.deferrals == (1 if generate.deferrable else 0)
    counters = generate.emulator.counters
    assert (counters.submits, counters.image_tasks, counters.images) == (3, 23, 46)
    assert generate.statuses == ["generated"] * 23
    assert [line["id"] for line in generate.lines] == [f"sku-{i}" for i in range(23)]
    for line in generate.lines:
        assert [file["output"] for file in line["files"]] == [0, 1]
        for file in line["files"]:
            assert Path(file["path"].removeprefix("file://")).stat().st_size == file["size"]
    assert len(generate.images) == 46
    assert generate.summary["items"]["generated"] == 23
    assert (generate.summary["submits"], generate.summary["image_tasks"], generate.summary["images"]) == (
        3,
        23,
        46,
    )
    assert generate.summary["queries"] == counters.queries
    assert generate.summary["reused"] == {"image_tasks": 0, "images": 0}


def test_no_signature_stands_in_manifest_journal_or_xcom(generate, state_store, tmp_path):
    signed = [
        {**task, "image": task["image"] + "&Expires=1&OSSAccessKeyId=k&Signature=s3cr3t"}
        for task in tasks_of(generate.emulator, 3)
    ]
    assert generate.run(signed).state == "success"
    said = json.dumps(state_store.values) + json.dumps(generate.summary)
    said += "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*.json*"))
    assert "s3cr3t" not in said
    assert "Signature" not in said
    assert generate.emulator.app_code not in said


def test_clearing_a_finished_task_costs_nothing(generate):
    generate.run(tasks_of(generate.emulator, 12))
    before, bill = generate.lines, generate.emulator.counters
    generate.clear()
    outcome = generate.run(tasks_of(generate.emulator, 12))
    assert outcome.state == "success", outcome.error
    assert generate.lines == before
    assert generate.emulator.counters.requests == bill.requests
    assert generate.summary["reused"] == {"image_tasks": 12, "images": 12}
    assert generate.summary["images"] == 0


def test_deleted_images_are_downloaded_again_not_resubmitted(plain_generate):
    plain_generate.run(tasks_of(plain_generate.emulator, 12))
    gone = plain_generate.images[0]
    gone.unlink()
    plain_generate.clear()
    assert plain_generate.run(tasks_of(plain_generate.emulator, 12)).state == "success"
    assert gone.exists()
    assert plain_generate.emulator.counters.images == 12


def test_a_run_created_again_checks_its_images(plain_generate):
    # Its tries begin at 1 again, and so do the numbers in the journal of the run before.
    tasks = tasks_of(plain_generate.emulator, 3)
    for started in (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)):
        plain_generate.context["dag_run"] = SimpleNamespace(start_date=started)
        assert plain_generate.run(tasks).state == "success"
        assert len(plain_generate.images) == 3
        assert plain_generate.summary["saved"] == 3
        for image in plain_generate.images:
            image.unlink()
    assert plain_generate.summary["images"] == 0
    assert plain_generate.summary["reused"] == {"image_tasks": 3, "images": 3}
    assert plain_generate.emulator.counters.images == 3


def test_a_run_created_again_submits_what_was_refused(plain_generate):
    tasks = tasks_of(plain_generate.emulator, 3)
    plain_generate.context["dag_run"] = SimpleNamespace(start_date=datetime(2026, 1, 1, tzinfo=UTC))
    fault = plain_generate.emulator.inject("code", operation="submit", code="23500006", times=3)
    plain_generate.run(tasks)
    assert fault.exhausted
    assert sorted(plain_generate.statuses) == ["generated", "generated", "refused"]
    # A retry does, and an execution of the same try does not: the service has said no to it.
    plain_generate.run(tasks)
    assert sorted(plain_generate.statuses) == ["generated", "generated", "refused"]
    plain_generate.context["dag_run"] = SimpleNamespace(start_date=datetime(2026, 1, 2, tzinfo=UTC))
    assert plain_generate.run(tasks).state == "success"
    assert plain_generate.summary["images"] == 1
    assert plain_generate.emulator.counters.images == 3


def test_regenerate_submits_again_once_a_name_or_once_a_clear(plain_generate):
    tasks = tasks_of(plain_generate.emulator, 2)
    billed = []

    def run(**more):
        assert plain_generate.run(tasks, **more).state == "success"
        billed.append(plain_generate.emulator.counters.images)

    run()
    run(options={"regenerate": ""})
    run(options={"regenerate": "summer"})
    plain_generate.retry()
    run(options={"regenerate": "summer"})
    run(options={"regenerate": True})
    plain_generate.retry()
    run(options={"regenerate": "True"})
    plain_generate.clear()
    run(options={"regenerate": True})
    assert billed == [2, 2, 4, 4, 6, 6, 8]


def test_equal_items_are_each_submitted_and_stay_apart(generate):
    one = tasks_of(generate.emulator, 1)[0]
    tasks = [{**one, "id": "a"}, {**one, "id": "b"}]
    generate.run(tasks)
    assert generate.emulator.counters.images == 2
    assert [line["id"] for line in generate.lines] == ["a", "b"]
    generate.clear()
    generate.run([*tasks, {**one, "id": "c"}])
    assert generate.emulator.counters.images == 3
    assert [line["id"] for line in generate.lines] == ["a", "b", "c"]


def test_a_changed_list_submits_only_new_tasks_and_reports_all(generate):
    tasks = tasks_of(generate.emulator, 6)
    generate.run(tasks[:4])
    generate.clear()
    outcome = generate.run(tasks[2:])
    assert outcome.state == "success", outcome.error
    assert generate.emulator.counters.images == 6
    assert [(line["id"], line["listed"], line["status"]) for line in generate.lines] == [
        *((f"sku-{i}", True, "generated") for i in range(2, 6)),
        *((f"sku-{i}", False, "generated") for i in range(2)),
    ]
    assert generate.summary["orphaned"] == 2


def test_a_task_no_longer_listed_is_still_collected(plain_generate):
    tasks = tasks_of(plain_generate.emulator, 4)
    late = plain_generate.emulator.inject("late", seconds=3600)
    assert isinstance(plain_generate.run(tasks, timeout=0.5).error, BgRepTimeoutError)
    assert late.exhausted
    assert plain_generate.statuses == ["pending"] * 4
    plain_generate.emulator.advance(3600)
    plain_generate.clear()
    assert plain_generate.run(tasks[3:]).state == "success"
    assert plain_generate.emulator.counters.images == 4
    assert sorted((line["id"], line["status"]) for line in plain_generate.lines) == [
        (f"sku-{i}", "generated") for i in range(4)
    ]
    by_id = {line["id"]: line for line in plain_generate.lines}
    assert [by_id[f"sku-{i}"]["index"] for i in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("rest", [0, 1], ids=["empty list", "another list"])
@pytest.mark.parametrize(
    ("fault", "facts", "error"),
    [
        ("reset", {"operation": "submit", "accepted": True}, BgRepUnknownOutcomeError),
        ("late", {"seconds": 3600}, BgRepTimeoutError),
        ("fail_task", {}, type(None)),
    ],
)
def test_a_billed_task_that_a_new_list_lacks_is_not_silent(plain_generate, rest, fault, facts, error):
    tasks = tasks_of(plain_generate.emulator, 2)
    injected = plain_generate.emulator.inject(fault, **facts)
    plain_generate.run(tasks[:1], timeout=2)
    assert injected.exhausted
    plain_generate.clear()
    assert type(plain_generate.run(tasks[2 - rest :], timeout=2).error) is error
    assert plain_generate.statuses[:rest] == ["generated"] * rest
    assert plain_generate.emulator.counters.images == 1 + rest
    plain_generate.emulator.advance(3600)
    plain_generate.clear()
    outcome = plain_generate.run(tasks[2 - rest :], on_unknown_outcome="resubmit")
    assert outcome.state == "success", outcome.error
    assert plain_generate.emulator.counters.images == 1 + rest


# --- one bad image never sinks the other nine ---------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"), [("refused", "23500005"), ("missing", "23500006"), ("too-small", "23500007")]
)
def test_one_poison_in_23_is_refused_alone(generate, name, code):
    tasks = tasks_of(generate.emulator, 23)
    tasks[13]["image"] = generate.emulator.bad_image(name)
    del tasks[13]["mask"]
    outcome = generate.run(tasks)
    assert isinstance(outcome.error, BgRepJobFailedError)
    assert "sku-13" in str(outcome.error)
    assert generate.statuses == ["refused" if i == 13 else "generated" for i in range(23)]
    assert generate.lines[13]["code"] == code
    assert code in generate.lines[13]["reason"]
    counters = generate.emulator.counters
    assert counters.images == 22
    # Three jobs, and what it takes to find one in ten.
    assert generate.summary["submits"] <= 3 + 7


@pytest.mark.parametrize("position", range(10))
def test_wherever_the_poison_is_the_others_are_submitted(plain_generate, position):
    tasks = tasks_of(plain_generate.emulator, 10)
    tasks[position]["image"] = plain_generate.emulator.bad_image("missing")
    outcome = plain_generate.run(tasks, fail_on="all")
    assert outcome.state == "success", outcome.error
    assert plain_generate.statuses == ["refused" if i == position else "generated" for i in range(10)]
    assert plain_generate.emulator.counters.images == 9
    assert plain_generate.summary["submits"] <= 1 + 7


def test_nothing_but_poison_is_reported_and_bills_nothing(plain_generate):
    bad = plain_generate.emulator.bad_image("missing")
    tasks = [{**task, "image": f"{bad}?n={i}"} for i, task in enumerate(tasks_of(plain_generate.emulator, 7))]
    outcome = plain_generate.run(tasks, fail_on="all")
    assert isinstance(outcome.error, BgRepJobFailedError)
    assert plain_generate.statuses == ["refused"] * 7
    assert plain_generate.emulator.counters.images == 0


def test_a_task_refused_alone_is_retried_alone_by_a_later_try(plain_generate):
    tasks = tasks_of(plain_generate.emulator, 10)
    tasks[4]["image"] = plain_generate.emulator.bad_image("missing")
    plain_generate.run(tasks)
    before = plain_generate.emulator.counters
    plain_generate.clear()
    plain_generate.run(tasks)
    after = plain_generate.emulator.counters
    assert (after.images, after.refused - before.refused) == (before.images, 1)


def test_an_image_task_that_fails_does_not_take_its_job_along(generate):
    fault = generate.emulator.inject("fail_task", index=3, message="no foreground found")
    outcome = generate.run(tasks_of(generate.emulator, 10))
    assert fault.exhausted
    assert isinstance(outcome.error, BgRepJobFailedError)
    assert generate.statuses.count("generated") == 9
    assert (generate.lines[3]["status"], generate.lines[3]["reason"]) == ("failed", "no foreground found")
    assert generate.emulator.counters.images == 10


@pytest.mark.parametrize("times", [1, 2])
def test_a_failed_task_is_resubmitted_alone_up_to_retry_failed(generate, times):
    faults = generate.emulator.inject("fail_task", index=0, times=times)
    outcome = generate.run(tasks_of(generate.emulator, 10), options={"retry_failed": 1})
    assert faults.exhausted
    assert generate.emulator.counters.images == 11
    assert outcome.state == ("success" if times == 1 else "failed")
    assert generate.statuses[0] == ("generated" if times == 1 else "failed")


def test_fewer_images_than_asked_for_are_partial(plain_generate, no_waiting):
    fault = plain_generate.emulator.inject("partial", index=1, count=2)
    outcome = plain_generate.run(tasks_of(plain_generate.emulator, 3, num_output=3), fail_on="all")
    assert fault.exhausted
    assert outcome.state == "success"
    assert plain_generate.statuses == ["generated", "partial", "generated"]
    assert len(plain_generate.lines[1]["files"]) == 2
    assert plain_generate.summary["saved"] == 8


def test_success_without_a_result_is_not_submitted_again(plain_generate, no_waiting):
    fault = plain_generate.emulator.inject("no_results", index=0)
    options = {"retry_failed": 3}
    outcome = plain_generate.run(tasks_of(plain_generate.emulator, 2), fail_on="never", options=options)
    assert outcome.state == "success"
    assert fault.exhausted
    assert plain_generate.statuses == ["expired", "generated"]
    assert plain_generate.emulator.counters.images == 2


def test_a_job_that_failed_as_a_whole_is_not_polled_for_ever(plain_generate):
    fault = plain_generate.emulator.inject("code", operation="query", code="23500011")
    outcome = plain_generate.run(tasks_of(plain_generate.emulator, 2))
    assert fault.exhausted
    assert isinstance(outcome.error, BgRepJobFailedError)
    assert plain_generate.statuses == ["failed"] * 2


@pytest.mark.parametrize("how", ["refused", "failed"])
def test_what_the_service_quotes_leaks_nowhere(plain_generate, how, caplog):
    emulator = plain_generate.emulator
    (task,) = tasks_of(emulator, 1)
    task["image"] += ",w_800&OSSAccessKeyId=k&Expires=1795000000&Signature=canary"
    said = f"cannot read {task['image']} for {emulator.app_code}"
    if how == "failed":
        fault = emulator.inject("fail_task", index=0, message=said)
    else:
        body = json.dumps({"success": False, "code": "23500006", "message": said, "requestId": said})
        headers = {"X-Ca-Request-Id": said}
        fault = emulator.inject("body", operation="submit", status=400, body=body, headers=headers)
    outcome = plain_generate.run([task])
    assert fault.exhausted
    assert plain_generate.statuses == [how]
    assert emulator.counters.images == (1 if how == "failed" else 0)
    files = [
        path.read_text()
        for path in plain_generate.folder.parent.rglob("*")
        if path.suffix != ".png" and path.is_file()
    ]
    everything = "".join([*files, str(outcome.error), str(outcome.pushed), str(outcome.value), caplog.text])
    assert "cannot read" in everything
    assert "canary" not in everything
    assert emulator.app_code not in everything


# --- unknown outcomes -----------------------------------------------------------------------------


def test_an_unknown_outcome_is_raised_after_all_else_is_done(generate):
    fault = generate.emulator.inject("code", code="D504TO", accepted=True)
    outcome = generate.run(tasks_of(generate.emulator, 25))
    assert fault.exhausted
    assert isinstance(outcome.error, BgRepUnknownOutcomeError)
    assert generate.statuses.count("generated") in (15, 20)
    unknown = [line for line in generate.lines if line["status"] == "unknown_outcome"]
    assert generate.statuses.count("generated") + len(unknown) == 25
    for word in (unknown[0]["id"], unknown[0]["nonce"], unknown[0]["gateway_request_id"], "bill details"):
        assert word in str(outcome.error)
    assert generate.emulator.counters.images == 25

    generate.clear()
    again = generate.run(tasks_of(generate.emulator, 25))
    assert isinstance(again.error, BgRepUnknownOutcomeError)
    assert generate.emulator.counters.images == 25


@pytest.mark.parametrize("status", [303, 408, 409, 499])
def test_a_status_that_may_follow_acceptance_is_unknown(generate, status):
    fault = generate.emulator.inject("status", operation="submit", status=status, accepted=True)
    outcome = generate.run(tasks_of(generate.emulator, 2))
    assert fault.exhausted
    assert isinstance(outcome.error, BgRepUnknownOutcomeError)
    assert generate.statuses == ["unknown_outcome"] * 2
    generate.clear()
    assert isinstance(generate.run(tasks_of(generate.emulator, 2)).error, BgRepUnknownOutcomeError)
    assert generate.emulator.counters.images == 2


def test_resubmit_submits_only_what_is_unknown_again(generate):
    fault = generate.emulator.inject("reset", accepted=True)
    outcome = generate.run(tasks_of(generate.emulator, 15), on_unknown_outcome="resubmit")
    assert fault.exhausted
    assert outcome.state == "success", outcome.error
    assert generate.emulator.counters.images in (20, 25)
    assert generate.statuses == ["generated"] * 15


def test_resubmitting_has_an_end(plain_generate):
    fault = plain_generate.emulator.inject("reset", accepted=True, times=9)
    outcome = plain_generate.run(tasks_of(plain_generate.emulator, 5), on_unknown_outcome="resubmit")
    assert isinstance(outcome.error, BgRepUnknownOutcomeError)
    assert fault.consumed == 2
    assert plain_generate.emulator.counters.images == 10


def test_when_answer_after_answer_is_lost_no_more_is_sent(plain_generate):
    fault = plain_generate.emulator.inject("status", status=502, times=99)
    outcome = plain_generate.run(tasks_of(plain_generate.emulator, 300))
    assert isinstance(outcome.error, BgRepUnknownOutcomeError)
    # What was in flight with the third comes back too.
    assert 3 <= fault.consumed <= 3 + 8
    assert plain_generate.statuses.count("unknown_outcome") == 10 * fault.consumed
    assert plain_generate.statuses.count("not_submitted") == 300 - 10 * fault.consumed


# --- money ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_out_of_credit_amid_35_tasks_collects_what_was_paid(generate):
    generate.emulator.configure(quota_images=20)
    outcome = generate.run(tasks_of(generate.emulator, 35))
    assert isinstance(outcome.error, BgRepQuotaError)
    assert outcome.state == "failed"
    billed = generate.emulator.counters.images
    assert 10 <= billed <= 20
    assert generate.statuses.count("generated") == billed
    assert generate.statuses.count("not_submitted") == 35 - billed
    assert f"{35 - billed} image tasks were not submitted" in str(outcome.error)

    generate.emulator.configure(quota_images=None)
    generate.clear()
    assert generate.run(tasks_of(generate.emulator, 35)).state == "success"
    assert generate.emulator.counters.images == 35
    assert generate.statuses == ["generated"] * 35


def test_with_queries_refused_keys_are_collected_after_a_top_up(generate):
    late = generate.emulator.inject("late", seconds=1)
    used_up = generate.emulator.inject("code", operation="query", code="B403MQ", times=99)
    outcome = generate.run(tasks_of(generate.emulator, 5))
    assert late.exhausted
    assert used_up.consumed
    assert isinstance(outcome.error, BgRepQuotaError)
    assert generate.statuses == ["pending"] * 5
    assert generate.lines[0]["result_key"] in str(outcome.error)

    generate.emulator.control("DELETE", "faults")
    generate.emulator.advance(1)
    generate.clear()
    assert generate.run(tasks_of(generate.emulator, 5)).state == "success"
    assert generate.emulator.counters.images == 5


def test_more_than_max_images_is_refused_before_anything_is_sent(generate):
    outcome = generate.run(tasks_of(generate.emulator, 5, num_output=2), max_images=9)
    assert isinstance(outcome.error, BgRepRequestError)
    for word in ("max_images", "9", "10 more images", "trim"):
        assert word in str(outcome.error)
    assert generate.emulator.counters.requests == 0


def test_what_max_images_trims_is_not_submitted_by_a_retry(generate):
    tasks = tasks_of(generate.emulator, 5, num_output=2)
    for _ in range(2):
        outcome = generate.run(tasks, max_images=7, options={"over_budget": "trim"})
        assert outcome.state == "success", outcome.error
        assert generate.statuses == ["generated"] * 3 + ["not_submitted"] * 2
        assert "max_images is 7" in generate.lines[4]["reason"]
        assert generate.emulator.counters.images == 6
        generate.retry()


def test_what_failed_is_not_submitted_again_beyond_max_images(plain_generate):
    fault = plain_generate.emulator.inject("fail_task", index=0)
    outcome = plain_generate.run(
        tasks_of(plain_generate.emulator, 5), options={"retry_failed": 1}, max_images=5
    )
    assert fault.exhausted
    assert outcome.state == "failed"
    assert plain_generate.emulator.counters.images == 5


# --- time -----------------------------------------------------------------------------------------


def test_at_the_deadline_all_is_kept_and_a_clear_collects_it(generate):
    late = generate.emulator.inject("late", seconds=3600)
    outcome = generate.run(tasks_of(generate.emulator, 12), timeout=1.5)
    assert late.exhausted
    assert isinstance(outcome.error, BgRepTimeoutError)
    assert set(generate.statuses) == {"generated", "pending"}
    generate.emulator.advance(3600)
    generate.clear()
    assert generate.run(tasks_of(generate.emulator, 12)).state == "success"
    assert generate.emulator.counters.images == 12


def test_a_retry_keeps_the_deadline_and_a_clear_begins_a_new_one(plain_generate):
    late = plain_generate.emulator.inject("late", seconds=10**7)
    plain_generate.run(tasks_of(plain_generate.emulator, 2), timeout=0.5)
    assert late.exhausted
    plain_generate.retry()
    retried = plain_generate.run(tasks_of(plain_generate.emulator, 3), timeout=3600)
    assert isinstance(retried.error, BgRepTimeoutError)
    assert plain_generate.statuses == ["pending", "pending", "not_submitted"]
    assert plain_generate.emulator.counters.images == 2


def fail_elsewhere(generate: GenerateTask, days: float) -> None:
    """Run a try whose clock differs, and which cannot save images, so that it submits nothing."""
    generate.folder.mkdir()
    (generate.folder / "file").touch()
    with time_machine.travel(time.time() + days * 86_400):
        outcome = generate.run(
            tasks_of(generate.emulator, 2), timeout=2, destination=f"file://{generate.folder}/file"
        )
    assert (outcome.state, generate.emulator.counters.submits) == ("up_for_retry", 0)
    generate.retry()


def test_a_deadline_of_a_clock_that_was_ahead_is_not_believed(generate):
    fail_elsewhere(generate, days=365)
    late = generate.emulator.inject("late", seconds=10**7)
    outcome = generate.run(tasks_of(generate.emulator, 2), timeout=2)
    assert late.exhausted
    assert isinstance(outcome.error, BgRepTimeoutError)
    assert generate.statuses == ["pending"] * 2


def test_a_deadline_of_a_clock_that_was_behind_begins_again(generate):
    fail_elsewhere(generate, days=-1)
    outcome = generate.run(tasks_of(generate.emulator, 2))
    assert outcome.state == "success", outcome.error
    assert generate.emulator.counters.images == 2


def test_finished_jobs_are_saved_in_waves_while_others_still_run(generate):
    late = generate.emulator.inject("late", seconds=10**7)
    BgRepGenerateOperator.collect_after, before = 0.5, BgRepGenerateOperator.collect_after
    try:
        outcome = generate.run(tasks_of(generate.emulator, 12), timeout=8)
    finally:
        BgRepGenerateOperator.collect_after = before
    assert late.exhausted
    assert isinstance(outcome.error, BgRepTimeoutError)
    assert set(generate.statuses) == {"generated", "pending"}
    if generate.deferrable:
        assert outcome.deferrals == 2


def test_urls_that_expire_behind_a_full_pool_are_queried_again(connection, run, ti, tmp_path):
    connection.configure(result_seconds=0.5)
    waits = []

    class InAFullPool(BgRepGenerateOperator):
        """Comes back late, as where all slots are taken."""

        def execute_complete(self, context: Any, event: Any) -> Any:
            waits.append(time.sleep(1.0))
            return super().execute_complete(context, event)

    operator = InAFullPool(
        task_id="generate",
        task_list=tasks_of(connection, 12),
        destination=f"file://{tmp_path}/images",
        journal_path=f"file://{tmp_path}/journal",
        deferrable=True,
        poll_interval=0.2,
    )
    outcome = run(operator, ti)
    assert outcome.state == "success", outcome.error
    assert len(waits) == 1
    assert outcome.value["saved"] == connection.counters.images == 12


def test_a_result_url_that_has_expired_is_asked_for_once_more(plain_generate):
    fault = plain_generate.emulator.inject("expired", operation="result")
    assert plain_generate.run(tasks_of(plain_generate.emulator, 3)).state == "success"
    assert fault.exhausted
    assert plain_generate.emulator.counters.images == 3


def test_results_gone_for_good_are_expired_with_their_key(plain_generate, no_waiting):
    fault = plain_generate.emulator.inject("expired", operation="result", times=99)
    outcome = plain_generate.run(tasks_of(plain_generate.emulator, 2))
    assert fault.consumed
    assert isinstance(outcome.error, BgRepJobFailedError)
    assert plain_generate.statuses == ["expired"] * 2
    assert plain_generate.lines[0]["result_key"]


# --- errors that pass --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [302, 401, 403, 404])
def test_a_proxys_stray_answer_to_a_query_ends_nothing(plain_generate, no_waiting, status):
    fault = plain_generate.emulator.inject("status", operation="query", status=status, times=3)
    assert plain_generate.run(tasks_of(plain_generate.emulator, 2)).state == "success"
    assert fault.exhausted
    assert plain_generate.emulator.counters.images == 2


def test_an_answer_that_omits_image_tasks_is_not_final(plain_generate):
    tasks = tasks_of(plain_generate.emulator, 2)
    finished = {**tasks[0], "status": "SUCCESS", "results": ["http://127.0.0.1:9/a.png"]}
    body = {"success": True, "code": 0, "data": {"task_list": [finished]}}
    fault = plain_generate.emulator.inject("body", operation="query", body=json.dumps(body), times=2)
    outcome = plain_generate.run(tasks)
    assert fault.exhausted
    assert outcome.state == "success", outcome.error
    assert plain_generate.statuses == ["generated"] * 2


def test_a_long_retry_after_does_not_outlast_the_deadline(plain_generate):
    fault = plain_generate.emulator.inject("throttle", retry_after=600, times=9)
    began = time.monotonic()
    outcome = plain_generate.run(tasks_of(plain_generate.emulator, 2), timeout=2)
    assert fault.consumed
    assert isinstance(outcome.error, BgRepTimeoutError)
    assert time.monotonic() - began < 60
    assert plain_generate.statuses == ["not_submitted"] * 2


@pytest.mark.slow
def test_a_list_of_refused_images_stops_before_its_end(plain_generate):
    bad = plain_generate.emulator.bad_image("missing")
    tasks = [
        {**task, "image": f"{bad}?n={i}"} for i, task in enumerate(tasks_of(plain_generate.emulator, 300))
    ]
    outcome = plain_generate.run(tasks)
    assert isinstance(outcome.error, BgRepContentError)
    assert "not submitted" in str(outcome.error)
    assert plain_generate.statuses.count("refused") >= 30
    assert plain_generate.statuses.count("not_submitted") > 150
    assert plain_generate.emulator.counters.refused < 150


def test_what_the_service_quotes_is_quoted_without_its_signature(plain_generate, tmp_path, caplog, capsys):
    quoted = "cannot read https://u:pw@b/x.jpg?Expires=1&Signature=S3CR3T of yours"
    fault = plain_generate.emulator.inject("fail_task", index=0, message=quoted)
    outcome = plain_generate.run(tasks_of(plain_generate.emulator, 1))
    assert fault.exhausted
    assert "cannot read https://***@b/x.jpg?… of yours" in plain_generate.lines[0]["reason"]
    said = str(outcome.error) + caplog.text + capsys.readouterr().out
    said += "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*.json*"))
    assert "S3CR3T" not in said


@pytest.mark.slow
def test_throttling_all_the_way_loses_nothing(generate):
    generate.emulator.configure(rate=5)
    outcome = generate.run(tasks_of(generate.emulator, 70))
    assert outcome.state == "success", outcome.error
    assert generate.emulator.counters.refused
    assert generate.emulator.counters.images == 70
    assert generate.statuses == ["generated"] * 70


@pytest.mark.slow
def test_a_service_that_accepts_few_jobs_gets_them_in_waves(generate):
    generate.emulator.configure(timing="lifelike", seconds=[1.0, 0.0], busy_jobs=2)
    outcome = generate.run(tasks_of(generate.emulator, 40))
    assert outcome.state == "success", outcome.error
    assert generate.emulator.counters.refused
    assert generate.emulator.counters.images == 40


@pytest.mark.slow
def test_a_busy_service_is_waited_for_in_the_triggerer(connection, run, ti, tmp_path, monkeypatch):
    monkeypatch.setattr(submitter, "THROTTLED_SECONDS", 0.3)
    monkeypatch.setattr(_base, "BUSY_SECONDS", 0.1)
    memory = ({"journal_path": f"file://{tmp_path}/journal"}, {})
    generate = GenerateTask(connection, run, ti, tmp_path / "images", memory, deferrable=True)
    connection.configure(timing="lifelike", seconds=[1.5, 0.0], busy_jobs=1)
    outcome = generate.run(tasks_of(connection, 150), max_images=40, options={"over_budget": "trim"})
    assert outcome.state == "success", outcome.error
    assert outcome.deferrals >= 2
    assert connection.counters.images == 40
    # Whoever has given up has done so for all: the rest does not try its luck one by one.
    assert connection.counters.refused < 40


def test_an_image_that_cannot_be_fetched_is_left_to_the_next_try(plain_generate):
    fault = plain_generate.emulator.inject("status", operation="result", status=500, times=3)
    outcome = plain_generate.run(tasks_of(plain_generate.emulator, 1, num_output=3))
    assert fault.exhausted
    assert outcome.state == "up_for_retry"
    assert isinstance(outcome.error, BgRepDownloadError)
    assert plain_generate.statuses == ["pending"]
    before = plain_generate.emulator.counters.results
    plain_generate.retry()
    assert plain_generate.run(tasks_of(plain_generate.emulator, 1, num_output=3)).state == "success"
    assert plain_generate.emulator.counters.results - before == 1
    assert plain_generate.emulator.counters.images == 3


def test_an_unreachable_service_is_left_to_the_next_try(plain_generate, no_waiting):
    plain_generate.emulator.configure(backend="unreachable")
    outcome = plain_generate.run(tasks_of(plain_generate.emulator, 3))
    assert isinstance(outcome.error, BgRepServiceError)
    assert outcome.state == "up_for_retry"
    plain_generate.emulator.configure(backend="up")
    plain_generate.retry()
    assert plain_generate.run(tasks_of(plain_generate.emulator, 3)).state == "success"
    assert plain_generate.emulator.counters.images == 3


def test_a_key_that_cannot_be_written_is_written_later(connection, run, ti, tmp_path):
    class Failing(dict):
        """A store that is down from the first key to the last try at writing it."""

        fails = 0

        def get(self, key: str, default: Any = None) -> Any:
            return super().get(key, default)

        def set(self, key: str, value: Any, *, retention: Any = None) -> None:
            if '"accepted"' in json.dumps(value) and self.fails < 3:
                self.fails += 1
                raise OSError("the database is down")
            self[key] = json.loads(json.dumps(value))

    if not has_task_state_store():
        pytest.skip("this Airflow has no task state store")
    store = Failing()
    generate = GenerateTask(connection, run, ti, tmp_path / "images", ({}, {"task_state_store": store}), True)
    first = generate.run(tasks_of(connection, 3))
    assert store.fails == 3
    assert first.state == "up_for_retry"
    generate.retry()
    assert generate.run(tasks_of(connection, 3)).state == "success"
    assert connection.counters.images == 3
    assert generate.statuses == ["generated"] * 3


def test_a_key_that_the_journal_cannot_take_is_beside_the_images(connection, run, ti, tmp_path):
    class Down(dict):
        """A store that takes intents and no keys."""

        is_down = True

        def get(self, key: str, default: Any = None) -> Any:
            return super().get(key, default)

        def set(self, key: str, value: Any, *, retention: Any = None) -> None:
            if self.is_down and '"accepted"' in json.dumps(value):
                raise OSError("the database is down")
            self[key] = json.loads(json.dumps(value))

    if not has_task_state_store():
        pytest.skip("this Airflow has no task state store")
    store = Down()
    generate = GenerateTask(connection, run, ti, tmp_path / "images", ({}, {"task_state_store": store}), True)
    assert generate.run(tasks_of(connection, 3)).state == "up_for_retry"
    assert generate.statuses == ["generated"] * 3
    store.is_down = False
    generate.retry()
    assert generate.run(tasks_of(connection, 3)).state == "success"
    assert generate.statuses == ["generated"] * 3
    assert connection.counters.images == 3


@pytest.mark.parametrize("fault", ["throttle", "D504CO", "23500003"])
@pytest.mark.parametrize("fails", [1, 3, 4])
def test_a_refusal_that_cannot_be_written_is_written_later(
    connection, run, ti, tmp_path, no_waiting, fault, fails
):
    if not has_task_state_store():
        pytest.skip("this Airflow has no task state store")
    store = FailingForRefusals(fails)
    generate = GenerateTask(
        connection, run, ti, tmp_path / "images", ({}, {"task_state_store": store}), False
    )
    if fault == "throttle":
        injected = connection.inject("throttle", operation="submit")
    else:
        injected = connection.inject("code", operation="submit", code=fault)
    generate.run(tasks_of(connection, 3))
    assert (injected.exhausted, store.left) == (True, 0)
    # Four failures are more than the writes of a try: only then the outcome is unknown.
    is_known = fails < 4
    generate.clear()
    outcome = generate.run(tasks_of(connection, 3))
    assert outcome.state == ("success" if is_known else "failed")
    assert generate.statuses == ["generated" if is_known else "unknown_outcome"] * 3
    assert connection.counters.images == (3 if is_known else 0)


def test_airflows_own_time_out_ends_it_like_a_kill(plain_generate):
    late = plain_generate.emulator.inject("late", seconds=3600)

    def ring(*_: object) -> None:
        raise AirflowTaskTimeout("execution_timeout")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    error: BaseException | None = None
    try:
        error = plain_generate.run(tasks_of(plain_generate.emulator, 3)).error
    except AirflowTaskTimeout as rung:  # which is not an Exception
        error = rung
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert late.exhausted
    assert isinstance(error, AirflowTaskTimeout)
    plain_generate.emulator.advance(3600)
    plain_generate.retry()
    assert plain_generate.run(tasks_of(plain_generate.emulator, 3)).state == "success"
    assert plain_generate.emulator.counters.images == 3


# --- asked to end ------------------------------------------------------------------------------


@pytest.mark.slow
def test_on_kill_awaits_open_submits_and_submits_nothing_more(generate, caplog, capsys):
    generate.emulator.configure(backend_seconds=1.0)
    tasks = tasks_of(generate.emulator, 200)

    def kill_with_open_submits():
        while generate.emulator.counters.requests < 8:
            time.sleep(0.01)
        generate.operator.on_kill()

    killer = threading.Thread(target=kill_with_open_submits)
    killer.start()
    outcome = generate.run(tasks)
    killer.join()
    assert isinstance(outcome.error, BgRepServiceError)
    sent = generate.emulator.counters
    assert (sent.submits, sent.images) == (8, 80)
    said = caplog.text + capsys.readouterr().out
    keys = [job["result_key"] for job in generate.emulator.jobs]
    assert all(key in said for key in keys)
    assert "8 jobs continue and are billable" in said

    generate.emulator.configure(backend_seconds=0)
    generate.clear()
    assert generate.run(tasks[:80]).state == "success"
    assert generate.emulator.counters.images == 80
    assert set(generate.statuses) == {"generated"}


def test_on_kill_before_the_start_nothing_is_submitted(plain_generate):
    tasks = tasks_of(plain_generate.emulator, 3)

    def list_of_tasks() -> Any:
        plain_generate.operator.on_kill()
        yield from tasks

    outcome = plain_generate.run(list_of_tasks())
    assert isinstance(outcome.error, BgRepServiceError)
    assert plain_generate.emulator.counters.submits == 0


def test_a_kill_during_the_wait_leaves_the_jobs_for_the_next_run(generate):
    late = generate.emulator.inject("late", seconds=3600)
    killer = threading.Timer(1.0, lambda: generate.operator.on_kill())
    killer.start()
    outcome = generate.run(tasks_of(generate.emulator, 3), deferrable=False)
    killer.join()
    assert late.exhausted
    assert isinstance(outcome.error, BgRepServiceError)
    generate.emulator.advance(3600)
    generate.clear()
    assert generate.run(tasks_of(generate.emulator, 3)).state == "success"
    assert generate.emulator.counters.images == 3


# --- a damaged journal ----------------------------------------------------------------------------


def test_a_damaged_journal_is_final_and_submits_nothing(plain_generate, tmp_path):
    tasks = tasks_of(plain_generate.emulator, 2)
    plain_generate.run(tasks)
    (page,) = (tmp_path / "journal").rglob("*-p0.json")
    page.write_bytes(page.read_bytes()[:40])
    submits = plain_generate.emulator.counters.submits
    plain_generate.clear()
    outcome = plain_generate.run(tasks)
    assert isinstance(outcome.error, BgRepStateError)
    assert outcome.state == "failed"
    assert page.name in outcome.error.message
    assert str(page.parent.name) in outcome.error.message
    assert plain_generate.emulator.counters.submits == submits


# --- before anything is paid ----------------------------------------------------------------------


def test_a_destination_that_cannot_be_written_costs_nothing(plain_generate, tmp_path):
    (tmp_path / "blocked").write_text("")
    outcome = plain_generate.run(
        tasks_of(plain_generate.emulator, 2), destination=f"file://{tmp_path}/blocked/images"
    )
    assert isinstance(outcome.error, OSError)
    assert plain_generate.emulator.counters.requests == 0


def test_an_empty_list_is_done_at_once(generate):
    assert generate.run([]).state == "success"
    assert generate.lines == []
    assert generate.summary["images"] == 0
    assert generate.emulator.counters.requests == 0


@pytest.mark.parametrize("name", ["destination", "journal_path"])
@pytest.mark.parametrize("path", ["images", "file://shop/images", "LOCAL://images"])
def test_a_path_relative_to_wherever_is_refused(plain_generate, name, path):
    outcome = plain_generate.run(tasks_of(plain_generate.emulator, 1), **{name: path})
    assert isinstance(outcome.error, BgRepRequestError)
    assert "it is relative" in str(outcome.error)
    assert plain_generate.emulator.counters.requests == 0


def test_a_wrong_app_code_stops_at_once_and_is_final(plain_generate, monkeypatch):
    wrong = json.dumps({**json.loads(plain_generate.emulator.connection_json), "password": "another"})
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", wrong)
    outcome = plain_generate.run(tasks_of(plain_generate.emulator, 200))
    assert isinstance(outcome.error, BgRepAuthError)
    assert outcome.state == "failed"
    assert plain_generate.statuses == ["not_submitted"] * 200
    assert plain_generate.summary["submits"] <= 8


def test_every_problem_of_a_list_is_named_and_nothing_is_sent(generate):
    tasks = tasks_of(generate.emulator, 12)
    tasks[3]["steps"], tasks[11]["image"] = 5, "ftp://host/a.png"
    outcome = generate.run(tasks)
    assert isinstance(outcome.error, BgRepRequestError)
    for word in ("task_list[3].steps", "task_list[11].image"):
        assert word in str(outcome.error)
    assert generate.emulator.counters.requests == 0


def test_without_a_journal_a_second_try_submits_nothing(connection, run, ti, tmp_path):
    generate = GenerateTask(connection, run, ti, tmp_path / "images", ({}, {}), deferrable=True)
    first = generate.run(tasks_of(connection, 12))
    assert first.state == "success", first.error
    assert first.deferrals == 0
    generate.retry()
    second = generate.run(tasks_of(connection, 12))
    assert isinstance(second.error, BgRepUnknownOutcomeError)
    assert "journal_path" in str(second.error)
    assert connection.counters.images == 12


# --- what Airflow stores --------------------------------------------------------------------------


@pytest.mark.slow
def test_what_airflow_stores_hardly_grows_with_the_list(connection, run, ti, tmp_path, monkeypatch):
    memory = ({"journal_path": f"file://{tmp_path}/journal"}, {})
    generate = GenerateTask(connection, run, ti, tmp_path / "images", memory, deferrable=True)
    sizes = []
    defer_on = BgRepGenerateOperator.defer_on

    def measured(self, deferral):
        try:
            defer_on(self, deferral)
        except BaseException as deferred:
            arguments = json.dumps(deferred.trigger.serialize()[1])
            sizes.append((len(deferral.result_keys), len(arguments), len(json.dumps(deferred.kwargs or {}))))
            raise

    monkeypatch.setattr(BgRepGenerateOperator, "defer_on", measured)
    xcoms = []
    for count in (10, 300):
        assert generate.run(tasks_of(connection, count)).state == "success"
        xcoms.append(len(json.dumps(generate.summary)))
        generate.clear()
    (few, small, _), (many, large, kwargs) = sizes
    assert (few, many) == (1, 29)
    assert (large - small) / (many - few) <= 40
    assert kwargs < 100
    assert max(xcoms) < 2000
    assert xcoms[1] - xcoms[0] < 50
