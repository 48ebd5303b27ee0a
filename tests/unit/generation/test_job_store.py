# SPDX-License-Identifier: Apache-2.0
"""What is written down of a finished job, where no image has to be fetched for it."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.connection import Settings
from airflow_provider_bgrep.download import SavedImage
from airflow_provider_bgrep.generation.job_store import (
    JobRecord,
    JobStore,
    OtherSubmitError,
    TaskOutcome,
    read_job_record,
)
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.key_files import FOLDER
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.protocol.identity import identities
from airflow_provider_bgrep.protocol.models import ImageTask, Job, TaskResult
from airflow_provider_bgrep.storage import storage_path

KEY = "6c8d2f2c0a254b1e915d8ade38aacb51"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
IMAGES = st.builds(
    SavedImage,
    *(
        st.integers(0, 9),
        st.integers(0, 3),
        TEXTS,
        st.integers(1),
        TEXTS,
        TEXTS,
        st.integers(1),
        st.integers(1),
    ),
)
ENDED = st.builds(
    TaskOutcome,
    st.sampled_from([Outcome.GENERATED, Outcome.PARTIAL, Outcome.FAILED, Outcome.EXPIRED]),
    TEXTS,
    st.none() | st.integers(),
    st.lists(IMAGES, max_size=2).map(tuple),
    st.lists(TEXTS, max_size=2).map(tuple),
)


@settings(deadline=None)
@given(st.builds(JobRecord, st.lists(ENDED, min_size=1, max_size=4).map(tuple), TEXTS))
def test_a_jobs_record_survives_json(saved):
    again = JobRecord.from_json(json.loads(json.dumps(saved.to_json())))
    assert again == saved
    assert again.is_complete == (not any(ended.missing for ended in saved.outcomes))


GOOD: dict[str, Any] = JobRecord(
    (TaskOutcome(Outcome.FAILED, "why", 7),), "2026-01-01T00:00:00+00:00"
).to_json()


@pytest.mark.parametrize(
    "value",
    [
        *([], {}, "text", None, 7),
        {**GOOD, "version": 2},
        *({name: value for name, value in GOOD.items() if name != gone} for gone in GOOD if gone != "nonce"),
        {**GOOD, "outcomes": None},
        {**GOOD, "outcomes": [{}]},
        {**GOOD, "outcomes": [{**GOOD["outcomes"][0], "outcome": "done"}]},
        {**GOOD, "outcomes": [{**GOOD["outcomes"][0], "files": [{"index": 0}]}]},
    ],
    ids=str,
)
def test_a_damaged_record_of_a_job_says_so(value):
    with pytest.raises(ValueError):
        JobRecord.from_json(value)


# --- on disk --------------------------------------------------------------------------------------


def tasks(count: int, signature: str = "1") -> list[ImageTask]:
    return [
        ImageTask(image=f"https://a/{i}.png?auth_key={signature}", positive_prompt="sea", id=f"sku-{i}")
        for i in range(count)
    ]


def accepted_record(some: list[ImageTask], edition: str = "") -> SubmitRecord:
    keys = identities(some, "conn", edition)
    items = tuple(SubmittedTask(key, 1, str(task.id)) for key, task in zip(keys, some, strict=True))
    return SubmitRecord(State.ACCEPTED, "2026-01-01T00:00:00+00:00", items, "conn", edition, result_key=KEY)


def failed(*echoes: ImageTask) -> Job:
    """A job of which all failed, each with its image's name for a reason: there is nothing to fetch."""
    return Job(
        KEY,
        tuple(
            TaskResult(i, "FAILED", (), f"no foreground in {task.image[10:15]}", task.as_wire())
            for i, task in enumerate(echoes)
        ),
    )


def never_asked(result_key: str) -> Job:
    raise AssertionError(f"{result_key} was asked for")


@pytest.fixture
def saver(tmp_path) -> JobStore:
    settings = Settings(base_url="https://bgrep.invalid", app_code="secret")
    template = "{result_key}_{index}_{output}.{ext}"
    return JobStore(storage_path(str(tmp_path)), settings, never_asked, template, 1)


def listed(some: list[ImageTask], edition: str = "") -> dict[str, ImageTask]:
    return dict(zip(identities(some, "conn", edition), some, strict=True))


def test_a_job_is_written_down_and_read_again(saver, tmp_path):
    some = tasks(2)
    saved = saver.save(accepted_record(some), failed(*some), listed(some))
    assert [ended.reason for ended in saved.outcomes] == ["no foreground in 0.png", "no foreground in 1.png"]
    assert {ended.outcome for ended in saved.outcomes} == {Outcome.FAILED}
    record = accepted_record(some)
    assert saver.load(record, check_files=True) == saver.load(record, check_files=False) == saved
    text = (tmp_path / FOLDER / f"{KEY}.json").read_text()
    assert not any(word in text for word in ("http", "auth_key", "secret", "sea"))


def test_a_record_belongs_to_the_submit_it_was_saved_for(saver, tmp_path):
    some = tasks(2)
    first, second = (replace(accepted_record(some), nonce=nonce) for nonce in ("one", "two"))
    assert not saver.is_taken(first)
    saved = saver.save(first, failed(*some), listed(some))
    assert saver.is_taken(second)
    assert saver.is_taken(replace(second, nonce=""))
    # A later try, which has read the key in the journal, may have saved the very same submit.
    assert not saver.is_taken(first)
    assert saver.load(first, check_files=False) == saved
    assert saver.load(second, check_files=False) is None
    with pytest.raises(OtherSubmitError):
        saver.save(second, failed(*some), listed(some))
    with pytest.raises(OtherSubmitError):
        read_job_record(storage_path(str(tmp_path)), KEY, "two")
    assert read_job_record(storage_path(str(tmp_path)), KEY, "one") == saved


def test_a_record_without_a_nonce_belongs_to_every_submit(saver):
    some = tasks(1)
    saved = saver.save(accepted_record(some), failed(*some), listed(some))
    record = replace(accepted_record(some), nonce="one")
    assert saver.load(record, check_files=False) == saved
    assert saver.save(record, failed(*some), listed(some)).nonce == "one"


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))], ids=str)
@pytest.mark.parametrize("signature", ["1", "2"], ids=["signed as then", "signed again"])
@pytest.mark.parametrize("edition", ["", "spring"])
@pytest.mark.parametrize("gone", [(), (1,), (0, 1, 2)], ids=["all listed", "one unlisted", "none listed"])
def test_each_image_task_gets_its_own_result_in_any_order(saver, order, signature, edition, gone):
    some, now = tasks(3), tasks(3, signature)
    still = {key: task for i, (key, task) in enumerate(listed(now, edition).items()) if i not in gone}
    saved = saver.save(accepted_record(some, edition), failed(*(some[i] for i in order)), still)
    assert [ended.reason for ended in saved.outcomes] == [f"no foreground in {i}.png" for i in range(3)]


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))], ids=str)
def test_image_tasks_of_other_shards_are_left_to_them(saver, order):
    some, whole = tasks(3), accepted_record(tasks(3))
    for mine in range(3):
        # Of the others this shard knows neither identity nor URLs.
        record = replace(
            whole,
            items=tuple(item if i == mine else replace(item, key="") for i, item in enumerate(whole.items)),
        )
        own = {whole.items[mine].key: some[mine]}
        saved = saver.save(record, failed(*(some[i] for i in order)), own)
        assert [ended.reason for ended in saved.outcomes[: mine + 1]] == [
            f"no foreground in {i}.png" for i in range(mine + 1)
        ]
        assert {ended.outcome for ended in saved.outcomes[mine + 1 :]} <= {Outcome.PENDING}
    assert saved.is_complete


class Meanwhile(dict[str, ImageTask]):
    """Image tasks that let something happen when the first is looked up."""

    def __init__(self, tasks: dict[str, ImageTask], happens: Callable[[], Any]) -> None:
        super().__init__(tasks)
        self.happens: Callable[[], Any] | None = happens

    def get(self, key: str, default: Any = None) -> Any:
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        return super().get(key, default)


def test_two_shards_that_save_one_job_at_once_keep_both_parts(saver):
    some, whole = tasks(2), accepted_record(tasks(2))
    records = [
        replace(
            whole,
            items=tuple(item if i == mine else replace(item, key="") for i, item in enumerate(whole.items)),
        )
        for mine in range(2)
    ]
    owned = [{whole.items[i].key: some[i]} for i in range(2)]
    other = Meanwhile(owned[0], lambda: saver.save(records[1], failed(*some), owned[1]))
    saved = saver.save(records[0], failed(*some), other)
    assert other.happens is None
    assert [ended.reason for ended in saved.outcomes] == ["no foreground in 0.png", "no foreground in 1.png"]
    assert saver.load(whole, check_files=False) == saved


def test_an_image_task_that_the_answer_leaves_out_is_pending(saver):
    some = tasks(2)
    saved = saver.save(accepted_record(some), failed(some[1]), listed(some))
    assert [ended.outcome for ended in saved.outcomes] == [Outcome.PENDING, Outcome.FAILED]
    assert not saved.is_complete
    whole = saver.save(accepted_record(some), failed(*some), listed(some))
    assert [ended.outcome for ended in whole.outcomes] == [Outcome.FAILED] * 2
    assert whole.is_complete


def test_an_answer_that_is_behind_an_earlier_one_changes_nothing(saver):
    some = tasks(2)
    saved = saver.save(accepted_record(some), failed(*some), listed(some))
    late = replace(
        failed(*some), tasks=tuple(TaskResult(i, "RUNNING", (), "", t.as_wire()) for i, t in enumerate(some))
    )
    assert saver.save(accepted_record(some), late, listed(some)).outcomes == saved.outcomes


@pytest.mark.parametrize("gone", [(), (1,)], ids=["all listed", "one unlisted"])
def test_an_ambiguous_result_is_not_saved_and_stays_pending(saver, gone):
    some = tasks(3)
    job = failed(some[2], some[0], some[1])
    job = replace(job, tasks=(job.tasks[0], *(replace(task, echo={}) for task in job.tasks[1:])))
    still = {key: task for i, (key, task) in enumerate(listed(some).items()) if i not in gone}
    saved = saver.save(accepted_record(some), job, still)
    assert [ended.outcome for ended in saved.outcomes] == [Outcome.PENDING, Outcome.PENDING, Outcome.FAILED]
    assert not saved.is_complete
    assert all("it is unclear" in ended.missing[0] for ended in saved.outcomes[:2])
    assert saver.load(accepted_record(some), check_files=False) == saved


def test_a_service_that_gives_no_reason_is_said_to_give_none(saver):
    some = tasks(1)
    job = Job(KEY, (TaskResult(0, "FAILED", (), " \n", {**some[0].as_wire(), "seed": 7}),))
    (ended,) = saver.save(accepted_record(some), job, listed(some)).outcomes
    assert (ended.reason, ended.seed) == ("no reason given", 7)


def test_what_was_never_saved_has_no_record(saver):
    assert saver.load(accepted_record(tasks(1)), check_files=False) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'{"version": 2}'], ids=repr)
def test_a_damaged_record_is_asked_for_again(saver, tmp_path, data):
    some = tasks(1)
    saver.save(accepted_record(some), failed(*some), listed(some))
    (tmp_path / FOLDER / f"{KEY}.json").write_bytes(data)
    assert saver.load(accepted_record(some), check_files=False) is None


def test_only_a_deleted_or_truncated_image_counts_as_missing(saver, tmp_path):
    files = [tmp_path / f"{KEY}_0{i}_0.png" for i in range(2)]
    ended, record = [], accepted_record(tasks(2))
    for i, file in enumerate(files):
        file.write_bytes(b"image")
        ended.append(
            TaskOutcome(Outcome.GENERATED, "", i, (SavedImage(i, 0, str(file), 5, "0", "PNG", 1, 1),))
        )
    (tmp_path / FOLDER).mkdir()
    saved = JobRecord(tuple(ended), "2026-01-01T00:00:00+00:00")
    (tmp_path / FOLDER / f"{KEY}.json").write_text(json.dumps(saved.to_json()))
    assert saver.load(record, check_files=True) == saved
    files[1].write_bytes(b"cut")
    assert saver.load(record, check_files=False) == saved
    looked = saver.load(record, check_files=True)
    assert looked is not None
    assert not looked.is_complete
    assert looked.outcomes[0] == saved.outcomes[0]
    assert looked.outcomes[1].missing


@pytest.mark.parametrize("is_whole", [True, False])
def test_images_of_a_folder_that_was_moved_are_still_there(saver, tmp_path, is_whole):
    file = tmp_path / f"{KEY}_00_0.png"
    file.write_bytes(b"image" if is_whole else b"other")
    image = SavedImage(0, 0, f"s3://old/{file.name}", 5, sha256(b"image").hexdigest(), "PNG", 1, 1)
    saved = JobRecord((TaskOutcome(Outcome.GENERATED, files=(image,)),), "2026-01-01T00:00:00+00:00")
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / f"{KEY}.json").write_text(json.dumps(saved.to_json()))
    found = saver.load(accepted_record(tasks(1)), check_files=True)
    assert found is not None
    assert found.is_complete is is_whole
    assert [one.path for one in found.outcomes[0].files] == [str(file) if is_whole else image.path]


# --- the deadline ---------------------------------------------------------------------------------


class Dripping(BaseHTTPRequestHandler):
    """A results' host that sends a byte now and then, and would for hours."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.ended.wait(0.05):
                self.wfile.write(b"x")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def dripping() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    server.ended = threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.ended.set()
    server.shutdown()
    server.server_close()


def test_a_slow_host_delays_nothing_past_the_deadline(dripping, tmp_path):
    some = tasks(10)
    results = tuple(
        TaskResult(i, "SUCCESS", tuple(f"{dripping}/{i}-{j}.png" for j in range(4)), "", task.as_wire())
        for i, task in enumerate(some)
    )
    store = JobStore(
        storage_path(str(tmp_path)),
        Settings(base_url="https://bgrep.invalid", app_code="secret"),
        never_asked,
        "{result_key}_{index}_{output}.{ext}",
        10**6,
        end_time=time.time() + 0.5,
    )
    began = time.monotonic()
    saved = store.save(accepted_record(some), Job(KEY, results), listed(some))
    assert time.monotonic() - began < 20
    assert not saved.is_complete
    assert [len(outcome.missing) for outcome in saved.outcomes] == [4] * 10
    assert [path.name for path in tmp_path.rglob("*.png")] == []
