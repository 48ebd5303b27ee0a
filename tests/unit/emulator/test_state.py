# SPDX-License-Identifier: Apache-2.0
"""What the emulator remembers, and the file that survives a restart or a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_bgrep.emulator.state import Counters, Job, State, StateFile, TaskState, apply
from airflow_provider_bgrep.protocol.limits import NONCE_WINDOW_SECONDS
from airflow_provider_bgrep.testing import Emulator


def task(**facts: Any) -> TaskState:
    return TaskState(**{"echo": {"positive_prompt": "sea"}, "outputs": 1, **facts})


@pytest.mark.parametrize(
    ("facts", "polls", "now", "status"),
    [
        ({}, 0, 0, "SUCCESS"),
        ({"start_poll": 1, "end_poll": 2}, 0, 0, "WAITING"),
        ({"start_poll": 1, "end_poll": 2}, 1, 0, "RUNNING"),
        ({"start_poll": 1, "end_poll": 2}, 2, 0, "SUCCESS"),
        ({"start": 5, "end": 9}, 9, 4, "WAITING"),
        ({"start": 5, "end": 9}, 9, 8, "RUNNING"),
        ({"end": 9, "end_poll": 2}, 1, 9, "RUNNING"),
        ({"end": 9, "outcome": "FAILED"}, 0, 9, "FAILED"),
        ({"kept_status": "RUNNING"}, 99, 99, "RUNNING"),
    ],
)
def test_an_image_task_moves_on_by_polls_and_by_the_clock(facts, polls, now, status):
    assert task(**facts).status(polls, now) == status


def test_a_job_is_finished_when_all_its_image_tasks_are():
    job = Job("k", "x", 0.0, [task(end=5), task(end=9, outcome="FAILED")])
    assert [job.finished(now) for now in (4, 5, 9)] == [False, False, True]
    assert job.statuses(5) == ("SUCCESS", "RUNNING")


def test_a_job_survives_json():
    job = Job("k", "x", 1.5, [task(message="m"), task(late_outputs=2)], 3, (1, 0), "other", 2)
    again = Job.from_dict(json.loads(json.dumps(job.as_dict())))
    assert json.dumps(again.as_dict()) == json.dumps(job.as_dict())
    assert again.statuses(0) == job.statuses(0)


def test_nonces_are_good_again_after_the_window():
    state = State()
    assert [state.fresh_nonce("n", now) for now in (0, NONCE_WINDOW_SECONDS - 1)] == [True, False]
    assert state.fresh_nonce("m", 1)
    assert state.fresh_nonce("n", NONCE_WINDOW_SECONDS)
    assert set(state.nonces) == {"n", "m"}


def test_a_reset_keeps_the_secret_alone():
    state = State(advanced=5.0)
    state.counters.images, secret = 3, state.secret
    state.fresh_nonce("n", 0)
    state.jobs["k"] = Job("k", "x", 0.0, [])
    state.clear()
    assert (state.counters, state.jobs, state.nonces, state.advanced) == (Counters(), {}, {}, 0.0)
    assert state.secret == secret
    assert state.fresh_nonce("n", 0)


# --- the file -----------------------------------------------------------------------------------------


def opened(path: Path) -> tuple[StateFile, State]:
    file = StateFile(path)
    return file, file.open()


def test_records_are_replayed_and_compacted(tmp_path):
    path = tmp_path / "a" / "state"
    file, state = opened(path)
    job = Job("k", "x", 1.0, [task()])
    for record in (
        {"add": {"requests": 2, "images": 3}, "jobs": [job.as_dict()], "nonces": [["n", 5.0]]},
        {"add": {"requests": 1}, "poll": "k"},
        {"poll": "unknown", "advanced": 60.0},
    ):
        file.write(record)
    file.close()
    file.close()
    again, found = opened(path)
    again.close()
    assert (found.counters.requests, found.counters.images) == (3, 3)
    assert (found.jobs["k"].polls, found.nonces, found.advanced) == (1, {"n": 5.0}, 60.0)
    assert found.secret == state.secret
    assert len(path.read_bytes().splitlines()) == 1


def test_an_incomplete_last_line_is_ignored(tmp_path):
    path = tmp_path / "state"
    file, _ = opened(path)
    file.write({"add": {"images": 3}})
    file.close()
    with path.open("ab") as torn:
        torn.write(b'{"add": {"images": 5')
    again, found = opened(path)
    again.close()
    assert found.counters.images == 3


@pytest.mark.parametrize(
    "line",
    [b"dear diary", b"[]", b"5", b'{"jobs": [{}]}', b'{"jobs": 5}', b'{"add": []}', b'{"nonces": [1]}'],
)
def test_another_file_is_not_overwritten(tmp_path, line):
    path = tmp_path / "state"
    path.write_bytes(line + b"\n")
    with pytest.raises(ValueError) as caught:
        StateFile(path).open()
    assert str(path) in str(caught.value)
    assert path.read_bytes() == line + b"\n"


def test_counters_of_another_release_are_passed_over():
    state = State()
    apply(state, {"add": {"images": 1, "unicorns": 2}})
    assert state.counters == Counters(images=1)


def test_jobs_counters_and_nonces_survive_a_restart(tmp_path, speak):
    file = tmp_path / "state" / "file"
    with Emulator(state_file=file, fetch=False, timing="polls", polls=2) as first:
        api = speak(first)
        key = api.job(first.image_task(num_output=2))
        api.query(key, X_Ca_Nonce="used")
        first.advance(100)
        now, port, counters = first.now, urlsplit(first.url).port, first.counters
    with Emulator(port=port, state_file=file, fetch=False) as second:
        api = speak(second)
        assert second.counters == counters
        assert second.now >= now
        assert api.query(key, X_Ca_Nonce="used").headers["X-Ca-Error-Code"] == "S403NU"
        assert [api.states(key)[0] for _ in range(2)] == ["RUNNING", "SUCCESS"]


def test_a_file_that_is_not_a_state_is_not_overwritten(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("dear diary\nit snowed\n")
    with pytest.raises(ValueError, match="not a state file"):
        Emulator(state_file=file).start()
    assert file.read_text() == "dear diary\nit snowed\n"
