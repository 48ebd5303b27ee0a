# SPDX-License-Identifier: Apache-2.0
"""The download operator: every billed image ends up whole, or is named."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from airflow_provider_bgrep.download import save_job
from airflow_provider_bgrep.exceptions import (
    BgRepDownloadError,
    BgRepJobNotFinishedError,
    BgRepRequestError,
    BgRepUnmatchedError,
)
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.operators.bgrep import BgRepDownloadOperator
from airflow_provider_bgrep.storage import storage_path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "images of a job"


@pytest.fixture
def download(connection, run, ti, folder):
    def download(key, **kwargs):
        arguments = {"destination": f"file://{folder}", **kwargs}
        return run(BgRepDownloadOperator(task_id="download", result_key=key, **arguments), ti)

    return download


@pytest.fixture
def submit(connection):
    def submit(*tasks):
        return BgRepHook().submit(tasks or [connection.image_task()]).result_key

    return submit


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_images_are_saved_checked_and_described(submit, download, connection, folder):
    key = submit(connection.image_task(num_output=2, seed=3), connection.image_task(seed=4))
    outcome = download(key)
    assert outcome.state == "success", outcome.error
    assert [(f["index"], f["output"]) for f in outcome.value["files"]] == [(0, 0), (0, 1), (1, 0)]
    for file in outcome.value["files"]:
        data = Path(file["path"].removeprefix("file://")).read_bytes()
        assert len(data) == file["size"]
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
        with Image.open(Path(file["path"].removeprefix("file://"))) as image:
            assert (image.width, image.height) == (file["width"], file["height"])
    assert "http://" not in json.dumps(outcome.value)
    assert "Signature" not in (folder / f"{key}.manifest.json").read_text()


@pytest.mark.parametrize("is_known", [True, False], ids=["same URLs", "other URLs"])
@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)], ids=str)
@pytest.mark.usefixtures("no_waiting")
def test_each_result_is_saved_once_in_any_order(submit, connection, folder, order, failing, is_known):
    """A result cannot be downloaded. The next answer lists all in another order."""
    key = submit(connection.image_task(num_output=3), connection.image_task(seed=4))
    hook = BgRepHook()

    def answer(*results):
        job = hook.query(key)
        return replace(job, tasks=(replace(job.tasks[0], results=results), *job.tasks[1:]))

    def save(*results):
        return save_job(
            key, storage_path(str(folder)), query=lambda key: answer(*results), settings=hook.settings
        )

    urls = hook.query(key).tasks[0].results
    first = save(*("http://127.0.0.1:9/" if place == failing else url for place, url in enumerate(urls)))
    assert (len(first.images), [one.output for one in first.lost]) == (3, [failing])
    downloads = connection.counters.results
    if not is_known:
        manifest = folder / f"{key}.manifest.json"
        value = json.loads(manifest.read_text())
        for file in value["files"]:
            file["url_digest"] = "0" * 16
        manifest.write_text(json.dumps(value))
    second = save(*(urls[place] for place in order))
    assert second.lost == ()
    assert [(image.index, image.output) for image in second.images] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert len({image.sha256 for image in second.images}) == 4
    for image in second.images:
        data = Path(image.path.removeprefix("file://")).read_bytes()
        assert hashlib.sha256(data).hexdigest() == image.sha256
    if is_known:
        assert connection.counters.results - downloads == 1
    assert connection.counters.images == 4


def test_results_renewed_in_another_order_are_saved_once(submit, connection, folder):
    """The URL of the second result has expired. The answer with new ones has another order."""
    key = submit(connection.image_task(num_output=2))
    hook, asked = BgRepHook(), []
    old = hook.query(key).tasks[0].results
    connection.advance(24 * 3600)

    def query(key):
        job = hook.query(key)
        new = job.tasks[0].results
        results = new[::-1] if asked else (new[0], old[1])
        asked.append(key)
        return replace(job, tasks=(replace(job.tasks[0], results=results),))

    saved = save_job(key, storage_path(str(folder)), query=query, settings=hook.settings)
    assert (len(asked), saved.lost) == (2, ())
    assert len({image.sha256 for image in saved.images}) == 2
    assert connection.counters.images == 2


def test_a_second_run_asks_no_one(submit, download, connection, folder):
    key = submit(connection.image_task(num_output=2))
    first = download(key)
    before = connection.counters.requests
    second = download(key)
    assert second.value == first.value
    assert connection.counters.requests == before


def test_a_second_run_fetches_only_what_is_missing_or_cut(submit, download, folder, connection):
    key = submit(connection.image_task(num_output=3))
    first = download(key)
    paths = [Path(f["path"].removeprefix("file://")) for f in first.value["files"]]
    paths[0].unlink()
    paths[1].write_bytes(b"cut")
    kept = paths[2].stat().st_mtime_ns
    second = download(key)
    assert second.value == first.value
    assert paths[2].stat().st_mtime_ns == kept


def test_an_expired_url_is_asked_for_once_more(submit, download, connection):
    key = submit(connection.image_task(num_output=2))
    fault = connection.inject("expired", operation="result")
    outcome = download(key)
    assert fault.consumed == 1
    assert outcome.state == "success", outcome.error
    assert connection.counters.queries == 2
    assert connection.counters.submits == 1


def test_one_bad_image_does_not_take_the_others_along(submit, download, connection, folder, no_waiting):
    key = submit(connection.image_task(num_output=3))
    fault = connection.inject("oversized", operation="result", bytes=3_000_000)
    outcome = download(key, max_bytes=2_500_000)
    assert fault.consumed == 1
    assert outcome.state == "up_for_retry"
    assert isinstance(outcome.error, BgRepDownloadError)
    assert "2500000" in str(outcome.error)
    assert "http" not in str(outcome.error)
    assert len(files_in(folder)) == 3  # two images and the manifest
    retried = download(key, max_bytes=2_500_000)
    assert retried.state == "success"
    assert len(retried.value["files"]) == 3


def test_a_key_that_cannot_be_encoded_is_refused(download, connection):
    before = connection.counters.requests
    outcome = download("k\ud800")
    assert isinstance(outcome.error, BgRepRequestError)
    assert connection.counters.requests == before


def turn_around(connection, key):
    """Let answers about a job list its image tasks the other way around from now on."""
    job = connection.core.state.jobs[key]
    job.order, job.cached = tuple(reversed(job.order or range(len(job.tasks)))), None


@pytest.mark.parametrize("form", [None, "image", "none"])
def test_a_retry_fetches_the_rest_in_any_order(download, connection, folder, no_waiting, form):
    if form:
        connection.inject("echo", form=form)
    tasks = [connection.image_task(seed=seed) for seed in (1, 2, 3)]
    key = BgRepHook().submit(tasks).result_key
    truth = {file["sha256"] for file in download(key, destination=f"file://{folder}-whole").value["files"]}
    fault = connection.inject("oversized", operation="result", bytes=3_000_000)
    assert download(key, max_bytes=2_500_000).state == "up_for_retry"
    assert fault.consumed == 1
    turn_around(connection, key)
    retried = download(key, max_bytes=2_500_000)
    assert retried.state == "success", retried.error
    assert [file["index"] for file in retried.value["files"]] == [0, 1, 2]
    assert {file["sha256"] for file in retried.value["files"]} == truth


@pytest.mark.parametrize("is_known", [True, False], ids=["the same URLs", "other URLs"])
@pytest.mark.parametrize("echo", [True, False], ids=["echoed", "not echoed"])
def test_new_urls_in_another_order_save_no_image_twice(connection, folder, no_waiting, is_known, echo):
    tasks = [connection.image_task(seed=seed) for seed in (1, 2, 3)]
    hook = BgRepHook()
    key = hook.submit(tasks).result_key
    answers = itertools.count()

    def query(result_key):
        number = next(answers)
        turn_around(connection, key)
        job = hook.query(result_key)
        urls = [task.results[0] + ("" if is_known else f"&n={number}") for task in job.tasks]
        if number == 0:
            urls[1] = urls[1].replace("Signature=", "Signature=expired")
        some = zip(job.tasks, urls, strict=True)
        return replace(
            job,
            tasks=tuple(replace(task, results=(url,), echo=task.echo if echo else {}) for task, url in some),
        )

    saved = save_job(key, storage_path(str(folder)), query=query, settings=hook.settings)
    assert next(answers) >= 2
    assert (len(saved.images), saved.lost) == (3, ())
    assert len({image.sha256 for image in saved.images}) == 3


@pytest.mark.parametrize("fault", ["truncated", "html", "empty", "reset"])
def test_a_damaged_image_is_downloaded_again(submit, download, connection, fault, no_waiting):
    key = submit(connection.image_task())
    injected = connection.inject(fault, operation="result")
    outcome = download(key)
    assert injected.consumed == 1
    assert outcome.state == "success", outcome.error


def test_an_image_that_drips_is_cut_off(connection, run, ti, folder, monkeypatch, no_waiting):
    connection_json = json.loads(connection.connection_json)
    monkeypatch.setenv(
        "AIRFLOW_CONN_BGREP_DEFAULT", json.dumps({**connection_json, "extra": {"timeout": 0.2}})
    )
    key = "d" * 32
    with Dripping() as dripping:
        finished = {"status": "SUCCESS", "results": [dripping.url]}
        body = {"code": 0, "success": True, "data": {"result_key": key, "task_list": [finished]}}
        connection.inject("body", operation="query", body=json.dumps(body))
        operator = BgRepDownloadOperator(task_id="download", result_key=key, destination=f"file://{folder}")
        outcome = run(operator, ti)
    assert dripping.served == 3
    assert isinstance(outcome.error, BgRepDownloadError)
    assert files_in(folder) == [f"{key}.manifest.json"]


class Dripping:
    """A server that sends a byte of an image now and then, and would for hours."""

    def __init__(self) -> None:
        self.served = 0
        dripping = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                dripping.served += 1
                self.send_response(200)
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                with contextlib.suppress(OSError):
                    while not dripping._ended.wait(0.05):
                        self.wfile.write(b"x")

            def log_message(self, *args):
                pass

        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/0.png"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *args):
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()


def test_nothing_half_written_is_ever_left(submit, download, connection, folder, no_waiting):
    key = submit(connection.image_task())
    injected = connection.inject("html", operation="result", times=10)
    outcome = download(key)
    assert injected.consumed >= 3
    assert isinstance(outcome.error, BgRepDownloadError)
    assert files_in(folder) == [f"{key}.manifest.json"]


def test_failed_image_tasks_are_named(submit, download, connection):
    connection.inject("fail_task", index=0)
    outcome = download(submit(connection.image_task(), connection.image_task(seed=9)))
    assert outcome.state == "success"
    assert [entry["index"] for entry in outcome.value["failed"]] == [0]
    assert [file["index"] for file in outcome.value["files"]] == [1]


def test_a_job_that_is_not_finished_is_left_to_a_retry(submit, download, connection):
    connection.configure(timing="polls", polls=5)
    outcome = download(submit())
    assert outcome.state == "up_for_retry"
    assert isinstance(outcome.error, BgRepJobNotFinishedError)
    assert "BgRepSensor" in str(outcome.error)


def test_an_unknown_job_is_asked_for_again_then_retried(download, connection, no_waiting):
    outcome = download("f" * 32)
    assert outcome.state == "up_for_retry"
    assert isinstance(outcome.error, BgRepDownloadError)
    assert connection.counters.requests > 5


def test_file_names_follow_the_template(submit, download, connection, folder):
    key = submit(connection.image_task(seed=5, num_output=2))
    outcome = download(key, filename_template="by-seed/{seed}/{index}.{output}.{ext}")
    assert outcome.state == "success", outcome.error
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*") if "manifest" not in p.name)
    assert [Path(name).parent for name in names] == [Path("by-seed/5")] * 2
    assert [Path(name).stem for name in names] == ["00.0", "00.1"]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{result_key}.{ext}", "overwrite each other"),
        ("{index}_{output}_{sku}", "'sku'"),
        ("../{index}_{output}", "inside the destination"),
        ("/etc/{index}_{output}", "inside the destination"),
        ("{index}_{output", "cannot be read"),
    ],
)
def test_an_invalid_template_is_refused_before_any_request(download, connection, template, problem):
    outcome = download("f" * 32, filename_template=template)
    assert isinstance(outcome.error, BgRepRequestError)
    assert problem in str(outcome.error)
    assert connection.counters.requests == 0


def test_any_object_storage_will_do(submit, download, connection, s3_folder):
    key = submit(connection.image_task(num_output=2))
    outcome = download(key, destination=str(s3_folder))
    assert outcome.state == "success", outcome.error
    assert sorted(path.name for path in s3_folder.iterdir()) == [
        f"{key}.manifest.json",
        f"{key}_00_0.png",
        f"{key}_00_1.png",
    ]
    for file in outcome.value["files"]:
        assert hashlib.sha256(storage_path(file["path"]).read_bytes()).hexdigest() == file["sha256"]
    before = connection.counters.requests
    assert download(key, destination=str(s3_folder)).value == outcome.value
    assert connection.counters.requests == before


def test_at_debug_no_result_url_is_logged_with_its_signature(submit, download, connection, caplog):
    caplog.set_level("DEBUG", logger="urllib3.connectionpool")
    key = submit()
    assert download(key).state == "success"
    lines = [record.getMessage() for record in caplog.records if record.name == "urllib3.connectionpool"]
    assert any("/results/" in line for line in lines)
    assert not any("Signature" in line for line in lines)


def test_with_task_list_files_have_its_indexes_and_ids(download, connection, folder):
    connection.inject("order")
    connection.inject("echo", form="float32")
    connection.inject("fail_task", index=1)
    tasks = [
        connection.image_task(strength=0.7, seed=seed, id=f"sku-{seed}", num_output=seed)
        for seed in (1, 2, 3)
    ]
    key = BgRepHook().submit(tasks).result_key
    unmatched = download(key)

    outcome = download(key, task_list=tasks)

    assert outcome.state == "success", outcome.error
    saved = [(file["index"], file["output"], file["id"]) for file in outcome.value["files"]]
    assert saved == [(0, 0, "sku-1"), *((2, output, "sku-3") for output in range(3))]
    assert [(failed["index"], failed["id"]) for failed in outcome.value["failed"]] == [(1, "sku-2")]
    # What was saved in the order of the answer is not taken for it.
    assert "id" not in unmatched.value["files"][0]
    again = download(key, task_list=tasks)
    assert again.value == outcome.value


def test_images_saved_with_another_task_list_are_not_reused(download, connection, folder):
    tasks = [connection.image_task(seed=seed, id=f"sku-{seed}") for seed in (1, 2, 3)]
    key = BgRepHook().submit(tasks).result_key
    first = download(key, task_list=tasks[::-1])
    outcome = download(key, task_list=tasks)

    def checksums(value):
        return {file["id"]: file["sha256"] for file in value["files"]}

    assert outcome.state == "success", outcome.error
    assert [file["id"] for file in outcome.value["files"]] == ["sku-1", "sku-2", "sku-3"]
    assert checksums(outcome.value) == checksums(first.value)
    assert len(set(checksums(first.value).values())) == 3


def test_nothing_is_saved_of_results_in_doubt(download, connection, folder):
    connection.inject("order", order=[2, 0, 1])
    connection.inject("echo", form="none", index=0)
    connection.inject("echo", form="none", index=1)
    tasks = [connection.image_task(seed=seed) for seed in (1, 2, 3)]
    outcome = download(BgRepHook().submit(tasks).result_key, task_list=tasks)
    assert outcome.state == "up_for_retry"
    assert isinstance(outcome.error, BgRepUnmatchedError)
    assert files_in(folder) == []
