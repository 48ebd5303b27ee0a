# SPDX-License-Identifier: Apache-2.0
"""Answers that contradict themselves, come late or never: what is billed is neither lost nor billed twice."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytest

from airflow_provider_bgrep.exceptions import (
    BgRepDownloadError,
    BgRepJobFailedError,
    BgRepTimeoutError,
    BgRepUnmatchedError,
)
from airflow_provider_bgrep.hooks.bgrep import BgRepAsyncHook, BgRepHook
from airflow_provider_bgrep.operators import _generate
from airflow_provider_bgrep.operators.bgrep import (
    BgRepDownloadOperator,
    BgRepGenerateOperator,
    BgRepSubmitOperator,
)
from airflow_provider_bgrep.protocol.retry import GONE_ATTEMPTS
from airflow_provider_bgrep.sensors.bgrep import BgRepSensor


def tasks_of(emulator: Any, count: int, **fields: Any) -> list[dict[str, Any]]:
    task = emulator.image_task(**fields)
    return [{**task, "image": f"{task['image']}?n={i}", "id": f"sku-{i}"} for i in range(count)]


class Generation:
    """One task instance of the generate operator, executed as often as a test likes."""

    def __init__(self, emulator: Any, run: Any, ti: Any, folder: Path, deferrable: bool) -> None:
        self.emulator, self._run, self.ti, self.folder = emulator, run, ti, folder
        self.deferrable = deferrable

    def run(self, task_list: Any, **more: Any) -> Any:
        arguments: dict[str, Any] = {
            "deferrable": self.deferrable,
            "poll_interval": 0.2,
            "timeout": 60,
            "destination": f"file://{self.folder}/images",
            "journal_path": f"file://{self.folder}/journal",
            **more,
        }
        return self._run(BgRepGenerateOperator(task_id="generate", task_list=task_list, **arguments), self.ti)

    def retry(self, task_list: Any, **more: Any) -> Any:
        self.ti.try_number += 1
        return self.run(task_list, **more)

    def clear(self, task_list: Any, **more: Any) -> Any:
        self.ti.max_tries = self.ti.try_number
        return self.retry(task_list, **more)

    @property
    def lines(self) -> list[dict[str, Any]]:
        (manifest,) = (self.folder / "images").glob("manifest-*.jsonl")
        return [json.loads(line) for line in manifest.read_text().splitlines()]

    @property
    def statuses(self) -> list[str]:
        return [line["status"] for line in self.lines]

    @property
    def files(self) -> list[Path]:
        return list((self.folder / "images").glob("*.png"))

    def age_journal(self, seconds: float) -> None:
        """Let every submit be this much older."""
        for path in (self.folder / "journal").rglob("*-p?.json"):
            value = json.loads(path.read_text())
            for submit in value["submits"]:
                at = datetime.fromisoformat(submit["at"]).astimezone(UTC) - timedelta(seconds=seconds)
                submit["at"] = at.isoformat(timespec="seconds")
            path.write_text(json.dumps(value))


@pytest.fixture(params=["in the worker", "deferred"])
def generation(request: Any, connection: Any, run: Any, ti: Any, tmp_path: Path) -> Generation:
    return Generation(connection, run, ti, tmp_path, request.param == "deferred")


# --- a refusal that names a job (I9) --------------------------------------------------------------

CODES = ["23500004", "T429UR", "23500000", "23500005", "D504TO", "B403MQ"]


@pytest.mark.parametrize("code", CODES)
def test_a_refused_submit_that_names_a_job_is_not_sent_again(code, generation):
    generation.emulator.inject("code", code=code, accepted=True, names_key=True)
    assert generation.run(tasks_of(generation.emulator, 2, num_output=2)).state == "success"
    assert generation.emulator.counters.images == 4
    assert generation.statuses == ["generated"] * 2


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("is_async", [False, True])
def test_both_hooks_keep_the_key_that_a_refusal_names(code, is_async, connection):
    connection.inject("code", code=code, accepted=True, names_key=True)
    tasks = tasks_of(connection, 1)
    job = asyncio.run(BgRepAsyncHook().submit(tasks)) if is_async else BgRepHook().submit(tasks)
    assert BgRepHook().query(job.result_key, tasks).is_finished
    assert code in job.doubt
    assert connection.counters.images == 1


def test_the_submit_operator_returns_the_key_of_a_refusal(connection, run, ti, tmp_path):
    connection.inject("code", code="23500004", accepted=True, names_key=True)
    submit = BgRepSubmitOperator(
        task_id="submit", task_list=tasks_of(connection, 1), journal_path=f"file://{tmp_path}"
    )
    (key,) = {run(submit, ti).value, run(submit, ti).value}
    assert BgRepHook().query(key).is_finished
    assert connection.counters.images == 1


def test_a_key_that_leads_nowhere_is_not_submitted_again_either(generation, no_waiting):
    generation.emulator.inject("code", code="23500004", names_key=True)
    generation.run(tasks_of(generation.emulator, 1), timeout=2)
    assert generation.statuses == ["pending"]
    generation.age_journal(3600)
    generation.clear(tasks_of(generation.emulator, 1))
    assert generation.statuses == ["expired"]
    assert generation.emulator.counters.images == 0


# --- refused results, and jobs that are unknown for a while (I10) ----------------------------------


@pytest.mark.parametrize("status", [403, 404])
def test_results_that_are_refused_for_a_while_are_saved(status, generation, no_waiting):
    fault = generation.emulator.inject("refused", status=status, times=8)
    outcome = generation.run(tasks_of(generation.emulator, 2, num_output=2))
    assert outcome.state == "success", outcome.error
    assert fault.exhausted
    assert generation.statuses == ["generated"] * 2
    assert (generation.emulator.counters.images, generation.emulator.counters.results) == (4, 4)


def test_results_that_are_always_refused_expire_in_the_end(generation, no_waiting):
    fault = generation.emulator.inject("refused", times=1000)
    assert isinstance(generation.run(tasks_of(generation.emulator, 1)).error, BgRepJobFailedError)
    assert generation.statuses == ["expired"]
    assert fault.consumed >= GONE_ATTEMPTS


def test_what_is_refused_until_the_deadline_stays_pending(generation):
    generation.emulator.inject("refused", seconds=3600)
    outcome = generation.run(tasks_of(generation.emulator, 1), timeout=3)
    assert (outcome.state, generation.statuses) == ("up_for_retry", ["pending"])
    generation.emulator.advance(3601)
    assert generation.clear(tasks_of(generation.emulator, 1)).state == "success"
    assert generation.emulator.counters.images == 1


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, GONE_ATTEMPTS - 1])
def test_an_old_job_that_is_unknown_for_a_while_is_collected(times, generation, no_waiting):
    generation.emulator.inject("late", seconds=3600)
    generation.run(tasks_of(generation.emulator, 1), timeout=3)
    assert generation.statuses == ["pending"]
    generation.age_journal(3600)
    generation.emulator.advance(3601)
    fault = generation.emulator.inject("code", operation="query", code="23500008", times=times)
    assert generation.clear(tasks_of(generation.emulator, 1)).state == "success"
    assert fault.exhausted
    assert generation.emulator.counters.images == 1


def test_a_new_job_may_be_unknown_at_first(generation):
    generation.emulator.inject("unknown_job", answers=3)
    assert generation.run(tasks_of(generation.emulator, 1)).state == "success"
    assert generation.emulator.counters.images == 1


@pytest.mark.parametrize("fault", [("refused", {"times": 8}), ("code", {"times": 3})], ids=lambda f: f[0])
def test_the_download_operator_asks_again_before_it_fails(fault, connection, run, ti, tmp_path, no_waiting):
    tasks = tasks_of(connection, 1)
    key = BgRepHook().submit(tasks).result_key
    name, params = fault
    more = {"code": "23500008", "operation": "query"} if name == "code" else {}
    connection.inject(name, **params, **more)
    download = BgRepDownloadOperator(
        task_id="download", result_key=key, task_list=tasks, destination=f"file://{tmp_path}"
    )
    assert run(download, ti).state == "success"
    assert connection.counters.images == 1


@pytest.mark.parametrize("name", ["refused", "code"])
def test_the_download_operator_fails_so_that_airflow_retries(name, connection, run, ti, tmp_path, no_waiting):
    tasks = tasks_of(connection, 1)
    key = BgRepHook().submit(tasks).result_key
    more = {"code": "23500008", "operation": "query"} if name == "code" else {}
    fault = connection.inject(name, times=1000, **more)
    download = BgRepDownloadOperator(
        task_id="download", result_key=key, task_list=tasks, destination=f"file://{tmp_path}"
    )
    outcome = run(download, ti)
    assert (outcome.state, type(outcome.error)) == ("up_for_retry", BgRepDownloadError)
    assert fault.consumed >= GONE_ATTEMPTS


# --- SUCCESS without its results (I11) ------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("answers", [1, 4])
def test_results_that_are_named_late_are_saved(count, answers, generation, no_waiting):
    generation.emulator.inject("late_results", count=count, answers=answers)
    outcome = generation.run(tasks_of(generation.emulator, 2, num_output=2), options={"retry_failed": 1})
    assert outcome.state == "success", outcome.error
    assert generation.statuses == ["generated"] * 2
    counters = generation.emulator.counters
    assert (counters.submits, counters.images, counters.results) == (1, 4, 4)


@pytest.mark.parametrize(("fault", "status"), [("no_results", "expired"), ("partial", "partial")])
def test_results_that_are_never_named_end_after_many_answers(fault, status, generation, no_waiting):
    generation.emulator.inject(fault)
    assert isinstance(
        generation.run(tasks_of(generation.emulator, 1, num_output=2)).error, BgRepJobFailedError
    )
    assert generation.statuses == [status]
    assert GONE_ATTEMPTS <= generation.emulator.counters.queries <= GONE_ATTEMPTS + 4
    assert generation.lines[0]["incomplete"] is (status == "expired")
    assert generation.emulator.counters.images == 2


def test_what_is_named_late_is_had_by_clearing(generation, no_waiting):
    generation.emulator.inject("late_results", count=0, answers=GONE_ATTEMPTS + 2)
    tasks = tasks_of(generation.emulator, 1)
    assert isinstance(generation.run(tasks, options={"retry_failed": 3}).error, BgRepJobFailedError)
    assert generation.statuses == ["expired"]
    generation.clear(tasks, options={"retry_failed": 3})
    assert (generation.statuses, generation.emulator.counters.images) == (["generated"], 1)


@pytest.mark.parametrize("count", [0, 1])
def test_the_download_operator_waits_for_late_results(count, connection, run, ti, tmp_path, no_waiting):
    tasks = tasks_of(connection, 1, num_output=2)
    connection.inject("late_results", count=count, answers=2)
    key = BgRepHook().submit(tasks).result_key
    download = BgRepDownloadOperator(
        task_id="download", result_key=key, task_list=tasks, destination=f"file://{tmp_path}"
    )
    outcome = run(download, ti)
    assert (len(outcome.value["files"]), outcome.value["failed"]) == (2, [])


def test_a_cleared_download_asks_for_missing_results_again(connection, run, ti, tmp_path, no_waiting):
    tasks = tasks_of(connection, 2)
    connection.inject("late_results", index=1, count=0, answers=GONE_ATTEMPTS)
    key = BgRepHook().submit(tasks).result_key
    download = BgRepDownloadOperator(
        task_id="download", result_key=key, task_list=tasks, destination=f"file://{tmp_path}"
    )
    first, second = run(download, ti).value, run(download, ti).value
    assert ([len(one["files"]) for one in (first, second)], second["failed"]) == ([1, 2], [])


@pytest.mark.parametrize("mode", [{"mode": "poke"}, {"mode": "reschedule"}, {"deferrable": True}], ids=str)
@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.usefixtures("airflow_database")
def test_the_sensor_waits_for_late_results(count, mode, connection, run, ti, no_waiting):
    tasks = tasks_of(connection, 1, num_output=2)
    connection.inject("late_results", count=count, answers=3)
    key = BgRepHook().submit(tasks).result_key
    sensor = BgRepSensor(task_id="wait", result_key=key, task_list=tasks, poke_interval=0.1, **mode)
    outcome = run(sensor, ti)
    assert outcome.state == "success", outcome.error
    assert [len(one["results"]) for one in outcome.value["tasks"]] == [2]


@pytest.mark.parametrize(
    "mode", [{"mode": "poke"}, {"mode": "reschedule"}, {"deferrable": True}, None], ids=str
)
@pytest.mark.usefixtures("airflow_database")
def test_an_image_task_left_out_for_a_while_is_awaited(mode, connection, run, ti, tmp_path, no_waiting):
    tasks = tasks_of(connection, 2)
    key = BgRepHook().submit(tasks).result_key
    entry = {"image": tasks[0]["image"], "status": "SUCCESS", "results": [f"{connection.url}/0.png"]}
    body = json.dumps({"code": 0, "success": True, "data": {"result_key": key, "task_list": [entry]}})
    fault = connection.inject("body", operation="query", body=body, times=3)
    if mode is None:
        task: Any = BgRepDownloadOperator(
            task_id="download", result_key=key, task_list=tasks, destination=f"file://{tmp_path}"
        )
    else:
        task = BgRepSensor(task_id="wait", result_key=key, task_list=tasks, poke_interval=0.1, **mode)
    outcome = run(task, ti)
    assert fault.exhausted
    assert outcome.state == "success", outcome.error
    assert len(outcome.value["files" if mode is None else "tasks"]) == 2


@pytest.mark.parametrize("is_listed", [True, False], ids=["with the list", "without it"])
@pytest.mark.parametrize(("fail_on", "error"), [("any", BgRepJobFailedError), ("all", type(None))])
def test_results_that_are_never_named_are_no_success(
    is_listed, fail_on, error, connection, run, ti, tmp_path, no_waiting
):
    """Four results were billed, and the job names three for good."""
    tasks = tasks_of(connection, 1, num_output=4)
    connection.inject("partial", count=3)
    key = BgRepHook().submit(tasks).result_key
    known = {"result_key": key, "task_list": tasks if is_listed else None}
    sensor = BgRepSensor(task_id="wait", poke_interval=0.1, fail_on=fail_on, **known)
    assert type(run(sensor, ti).error) is error
    download = BgRepDownloadOperator(task_id="download", destination=f"file://{tmp_path}", **known)
    outcome = run(download, ti)
    assert len(outcome.value["files"]) == 3
    assert [one["index"] for one in outcome.value["failed"]] == [0]
    assert connection.counters.images == 4


# --- image tasks that never end (I14) -------------------------------------------------------------


@pytest.mark.parametrize("status", ["WAITING", "QUEUED", None])
def test_what_is_finished_is_saved_in_time_though_one_never_ends(status, generation, monkeypatch):
    monkeypatch.setattr(BgRepGenerateOperator, "collect_after", 0.5)
    generation.emulator.configure(job_seconds=3)  # later, nothing could be collected
    generation.emulator.inject("never_ends", index=1, status=status)
    outcome = generation.run(tasks_of(generation.emulator, 3, num_output=2), timeout=6)
    assert isinstance(outcome.error, BgRepTimeoutError)
    assert generation.statuses == ["generated", "pending", "generated"]
    assert len(generation.files) == 4
    assert generation.emulator.counters.images == 6


@pytest.mark.parametrize("status", ["WAITING", None])
def test_what_is_finished_is_saved_at_the_deadline_at_the_latest(status, generation):
    generation.emulator.inject("never_ends", index=0, status=status)
    generation.run(tasks_of(generation.emulator, 3), timeout=4)
    assert generation.statuses == ["pending", "generated", "generated"]


@pytest.mark.slow
def test_a_job_saved_in_part_is_completed_without_fetching_again(generation):
    generation.emulator.configure(timing="polls", polls=1, stagger=60)
    generation.run(tasks_of(generation.emulator, 3), timeout=4)
    assert generation.statuses == ["generated", "pending", "pending"]
    generation.emulator.configure(timing="instant")
    for _ in range(130):
        BgRepHook().query(generation.lines[0]["result_key"])
    assert generation.clear(tasks_of(generation.emulator, 3)).state == "success"
    assert generation.statuses == ["generated"] * 3
    counters = generation.emulator.counters
    assert (counters.submits, counters.images, counters.results) == (1, 3, 3)


def test_a_failed_image_task_is_retried_while_another_never_ends(generation, monkeypatch):
    monkeypatch.setattr(BgRepGenerateOperator, "collect_after", 0.2)
    generation.emulator.inject("never_ends", index=0)
    generation.emulator.inject("fail_task", index=1)
    generation.run(tasks_of(generation.emulator, 3), timeout=15, options={"retry_failed": 1})
    assert generation.statuses == ["pending", "generated", "generated"]
    assert generation.emulator.counters.images == 4


def test_a_result_is_not_taken_for_that_of_a_listed_task(generation):
    """The list lacks the first image task, whose photo is that of the second one. The second never ends."""
    both = [
        {**generation.emulator.image_task(), "positive_prompt": f"a {color} mug", "id": color}
        for color in ("red", "blue")
    ]
    for index in range(2):
        generation.emulator.inject("echo", form="image", index=index)
    generation.emulator.inject("late", seconds=3600)
    generation.emulator.inject("never_ends", index=1, status=None)
    generation.run(both, timeout=3)
    generation.emulator.advance(3601)
    outcome = generation.clear(both[1:], timeout=3)
    assert isinstance(outcome.error, BgRepTimeoutError)
    assert [(line["id"], line["status"]) for line in generation.lines] == [
        ("blue", "pending"),
        ("red", "pending"),
    ]
    assert generation.files == []
    assert generation.emulator.counters.images == 2


def test_a_task_no_longer_listed_is_no_rival_to_another_photo(generation):
    """The first image task is not listed any more and never ends. Its photo is another one."""
    tasks = tasks_of(generation.emulator, 2)
    for index in range(2):
        generation.emulator.inject("echo", form="image", index=index)
    generation.emulator.inject("late", seconds=3600)
    generation.emulator.inject("never_ends", index=0, status=None)
    generation.run(tasks, timeout=3)
    generation.emulator.advance(3601)
    generation.clear(tasks[1:], timeout=3)
    assert generation.statuses[0] == "generated"
    assert generation.emulator.counters.images == 2


# --- answers about another job (W11) --------------------------------------------------------------


def test_an_answer_about_an_unnamed_other_job_is_not_taken(connection, run, ti, tmp_path):
    """A replica answers with a job of the same photo, and names no job."""
    image = connection.image_task()
    red, blue = ({**image, "positive_prompt": f"a {color} mug"} for color in ("red", "blue"))
    stale = BgRepHook().submit([red])
    answer = {"task_list": [{**red, "status": "SUCCESS", "results": [image["image"]]}]}
    key = BgRepHook().submit([blue]).result_key
    assert stale.result_key != key
    body = json.dumps({"success": True, "code": 0, "message": "success", "data": answer})
    fault = connection.inject("body", operation="query", body=body)
    download = BgRepDownloadOperator(
        task_id="download", result_key=key, task_list=[blue], destination=f"file://{tmp_path}"
    )
    outcome = run(download, ti)
    assert isinstance(outcome.error, BgRepUnmatchedError)
    assert fault.exhausted
    assert len(run(download, ti).value["files"]) == 1
    assert connection.counters.images == 2


# --- a result that cannot be decoded (I15) --------------------------------------------------------------


@pytest.mark.parametrize(("num_output", "status"), [(2, "partial"), (1, "expired")])
def test_an_undecodable_result_ends_the_third_run(num_output, status, generation, no_waiting):
    generation.emulator.inject("undecodable", index=0, output=num_output - 1)
    tasks = tasks_of(generation.emulator, 1, num_output=num_output)
    first = generation.run(tasks)
    assert (first.state, generation.statuses) == ("up_for_retry", ["pending"])
    assert generation.retry(tasks).state == "up_for_retry"
    assert isinstance(generation.retry(tasks).error, BgRepJobFailedError)
    assert generation.statuses == [status]
    assert len(generation.files) == num_output - 1
    assert "image" in generation.lines[0]["reason"]
    assert generation.lines[0]["incomplete"] is True
    before = generation.emulator.counters.results
    generation.clear(tasks, options={"retry_failed": 3})
    assert generation.statuses == [status]
    assert generation.emulator.counters.results > before
    assert generation.emulator.counters.images == num_output


@pytest.mark.parametrize("num_output", [1, 2])
def test_a_page_instead_of_an_image_is_replaced_later(num_output, generation, no_waiting):
    generation.emulator.inject("html", operation="result", times=10**6)
    tasks = tasks_of(generation.emulator, 1, num_output=num_output)
    generation.run(tasks, options={"retry_failed": 3})
    for _ in range(2):
        generation.retry(tasks, options={"retry_failed": 3})
    assert generation.statuses == ["expired"]
    assert "page" in generation.lines[0]["reason"]
    generation.emulator.control("DELETE", "faults")
    generation.clear(tasks, options={"retry_failed": 3})
    assert (generation.statuses, generation.lines[0]["incomplete"]) == (["generated"], False)
    assert generation.emulator.counters.images == num_output


def test_a_job_that_fails_after_an_image_was_saved_is_partial(generation, no_waiting):
    generation.emulator.inject("undecodable", index=0, output=1)
    tasks = tasks_of(generation.emulator, 1, num_output=2)
    generation.run(tasks)
    generation.emulator.inject("code", operation="query", code="23500011", times=9)
    generation.clear(tasks, options={"retry_failed": 1})
    assert generation.statuses == ["partial"]
    assert (len(generation.files), generation.emulator.counters.images) == (1, 2)


def test_results_in_another_form_are_not_submitted_again(generation, no_waiting):
    task = {"status": "SUCCESS", "results": [{"url": "https://results.example/a.png"}]}
    body = json.dumps({"success": True, "data": {"task_list": [task]}})
    tasks = tasks_of(generation.emulator, 1)
    generation.emulator.inject("body", operation="query", body=body, times=100_000)
    generation.run(tasks, timeout=2, options={"retry_failed": 1})
    assert generation.statuses == ["pending"]
    generation.emulator.control("DELETE", "faults")
    generation.clear(tasks, options={"retry_failed": 1})
    assert (generation.statuses, generation.emulator.counters.images) == (["generated"], 1)


# --- a triggerer whose clock is days ahead ------------------------------------------------------------


class EarlyTrigger(BgRepGenerateOperator):
    """Its triggers take the deadline for over."""

    def defer_on(self, deferral: Any) -> NoReturn:
        super().defer_on(replace(deferral, end_time=0.0))


def test_a_worker_waits_if_the_trigger_takes_time_for_over(connection, run, ti, tmp_path):
    connection.inject("late", seconds=2)
    paths = {"destination": f"file://{tmp_path}/images", "journal_path": f"file://{tmp_path}/journal"}
    operator = EarlyTrigger(
        task_id="generate",
        task_list=tasks_of(connection, 1),
        deferrable=True,
        poll_interval=0.2,
        timeout=60,
        **paths,
    )
    outcome = run(operator, ti)
    assert (outcome.state, outcome.deferrals) == ("success", 1)


# --- a host that drips (K6) -----------------------------------------------------------------------

KEY = "6c8d2f2c0a254b1e915d8ade38aacb51"


class Dripping(BaseHTTPRequestHandler):
    """An API whose only job is finished, and whose results come a byte a second."""

    protocol_version = "HTTP/1.1"
    echo: ClassVar[dict[str, Any]] = {}
    images = 4

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "task_list" in body["data"]:
            type(self).echo = body["data"]["task_list"][0]
        url = f"http://127.0.0.1:{self.server.server_address[1]}/image"
        task = {**self.echo, "status": "SUCCESS", "results": [f"{url}?{i}" for i in range(self.images)]}
        data = {"code": 0, "success": True, "data": {"result_key": KEY, "task_list": [task]}}
        answer = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        try:
            for _ in range(600):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(1)
        except OSError:
            pass

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def dripping(monkeypatch: Any) -> Iterator[None]:
    """A connection to an API whose results drip."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    conn = {
        "conn_type": "bgrep",
        "schema": "http",
        "host": "127.0.0.1",
        "port": server.server_address[1],
        "password": "app-code",
    }
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", json.dumps(conn))
    yield
    server.shutdown()


TASK = {"image": "https://shop.example/mug.jpg", "positive_prompt": "sea", "num_output": 4}


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_dripping_host_holds_the_worker_to_the_deadline_only(
    deferrable, dripping, run, ti, tmp_path, monkeypatch
):
    monkeypatch.setattr(_generate, "DOWNLOAD_GRACE_SECONDS", 3.0)
    began = time.monotonic()
    outcome = Generation(None, run, ti, tmp_path, deferrable).run([TASK], timeout=3)
    assert time.monotonic() - began < 3 + 3 + 5
    assert isinstance(outcome.error, BgRepDownloadError)


def test_a_dripping_host_holds_the_download_to_its_timeout_only(dripping, run, ti, tmp_path):
    download = BgRepDownloadOperator(
        task_id="download",
        result_key=KEY,
        destination=f"file://{tmp_path}",
        execution_timeout=timedelta(seconds=3),
    )
    began = time.monotonic()
    outcome = run(download, ti)
    assert time.monotonic() - began < 3 + 5
    assert isinstance(outcome.error, BgRepDownloadError)
