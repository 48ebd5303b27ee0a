# SPDX-License-Identifier: Apache-2.0
"""The manifest: one line an image task, which says what it is, what became of it and what to do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_provider_bgrep.download import SavedImage
from airflow_provider_bgrep.generation.items import WorkItems
from airflow_provider_bgrep.generation.job_store import JobRecord, TaskOutcome
from airflow_provider_bgrep.generation.manifest import EarlierManifest, line, write_manifest
from airflow_provider_bgrep.generation.outcomes import MEANINGS, Outcome
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.storage import storage_path

AT = "2026-01-01T00:00:00+00:00"
IMAGE = SavedImage(1, 0, "out/key_01_0.png", 9, "ab", "PNG", 640, 480)
TASKS = [
    ImageTask(image=f"https://u:p@a/{i}.png?Signature=s3cr3t", positive_prompt="palace", id=f"台灯 {i}")
    for i in range(3)
]
BOUGHT = SubmitRecord(
    State.ACCEPTED,
    AT,
    (SubmittedTask("z", 2, "old"), SubmittedTask("b", 1)),
    "conn",
    nonce="nonce",
    result_key="key",
    request_id="request",
    gateway_request_id="gateway",
)


@pytest.fixture
def board() -> WorkItems:
    board = WorkItems(TASKS, ["a", "b", "c"], [BOUGHT], account="conn", try_number=1)
    ended = (TaskOutcome(Outcome.FAILED, "no foreground", 3), TaskOutcome(Outcome.GENERATED, "", 4, (IMAGE,)))
    board.apply_job(BOUGHT, JobRecord(ended, "2026-01-01T00:01:00+00:00"))
    board.items["c"].set_outcome(Outcome.NOT_SUBMITTED, "over budget: max_images is 3")
    return board


def test_a_line_holds_all_that_is_known_of_what_was_submitted(board):
    assert line(board.items["b"]) == {
        "id": "台灯 1",
        "key": "b",
        "listed": True,
        "status": "generated",
        "reason": "",
        "advice": "",
        "num_output": 1,
        "result_key": "key",
        "index": 1,
        "submitted_at": AT,
        "nonce": "nonce",
        "code": "",
        "request_id": "request",
        "gateway_request_id": "gateway",
        "saved_at": "2026-01-01T00:01:00+00:00",
        "seed": 4,
        "files": [
            {
                "index": 1,
                "output": 0,
                "path": "out/key_01_0.png",
                "size": 9,
                "sha256": "ab",
                "format": "PNG",
                "width": 640,
                "height": 480,
            }
        ],
        "incomplete": False,
    }


def test_a_line_says_why_not_and_what_to_do(board):
    not_submitted, unlisted = line(board.items["c"]), line(board.items["z"])
    assert not_submitted["reason"] == "over budget: max_images is 3"
    assert not_submitted["advice"] == MEANINGS[Outcome.NOT_SUBMITTED][1]
    assert "result_key" not in not_submitted
    assert (unlisted["listed"], unlisted["id"], unlisted["reason"]) == (False, "old", "no foreground")
    assert line(board.items["a"])["reason"] == MEANINGS[Outcome.NOT_SUBMITTED][0]


def test_listed_items_come_in_list_order_before_all_others(board, tmp_path):
    write_manifest(board, storage_path(str(tmp_path / "deep" / "manifest.jsonl")))
    text = (tmp_path / "deep" / "manifest.jsonl").read_text("utf-8")
    assert text.endswith("}\n")
    lines = [json.loads(one) for one in text.removesuffix("\n").split("\n")]
    assert [one["key"] for one in lines] == ["a", "b", "c", "z"]
    assert lines == [line(item) for item in board]
    assert "台灯" in text


def test_no_url_no_prompt_and_no_secret_is_written_down(board, tmp_path):
    write_manifest(board, storage_path(str(tmp_path / "manifest.jsonl")))
    text = (tmp_path / "manifest.jsonl").read_text("utf-8")
    assert not any(word in text for word in ("http", "s3cr3t", "palace", "u:p"))


def test_an_earlier_manifest_is_replaced(board, tmp_path):
    path = storage_path(str(tmp_path / "manifest.jsonl"))
    for _ in range(2):
        write_manifest(board, path)
    assert len((tmp_path / "manifest.jsonl").read_text("utf-8").splitlines()) == 4
    assert [one.name for one in tmp_path.iterdir()] == ["manifest.jsonl"]


def test_an_id_with_a_line_break_stays_on_its_line(tmp_path):
    tasks = [ImageTask(image="https://a/1.png", positive_prompt="sea", id="a\nb\r\n")]
    path = tmp_path / "manifest.jsonl"
    write_manifest(WorkItems(tasks, ["a"], [], account="conn", try_number=1), storage_path(str(path)))
    (one,) = path.read_bytes().splitlines()
    assert json.loads(one)["id"] == "a\nb\r\n"


def test_whoever_may_not_write_leaves_the_manifest_as_it_is(board, tmp_path):
    def refuse() -> None:
        raise PermissionError

    path = storage_path(f"{tmp_path}/manifest.jsonl")
    write_manifest(board, path)
    before = path.read_text()
    board.items["c"].set_outcome(Outcome.PENDING)
    with pytest.raises(PermissionError):
        write_manifest(board, path, before=refuse)
    assert path.read_text() == before


# --- what an earlier manifest knows ---------------------------------------------------------------------


def test_a_manifest_stands_in_for_a_jobs_record(board, tmp_path):
    path = storage_path(str(tmp_path / "manifest.jsonl"))
    write_manifest(board, path)
    found = EarlierManifest(path).job(BOUGHT)
    ended = (TaskOutcome(Outcome.FAILED, "no foreground", 3), TaskOutcome(Outcome.GENERATED, "", 4, (IMAGE,)))
    assert found == JobRecord(ended, "2026-01-01T00:01:00+00:00", "nonce")


def test_what_was_not_saved_yet_stays_pending(tmp_path):
    board = WorkItems(TASKS, ["a", "b", "c"], [BOUGHT], account="conn", try_number=1)
    partly = TaskOutcome(Outcome.PENDING, files=(IMAGE,), missing=("[1] output 1: timed out",))
    board.apply_job(BOUGHT, JobRecord((TaskOutcome(Outcome.EXPIRED), partly), "2026-01-01T00:01:00+00:00"))
    path = storage_path(str(tmp_path / "manifest.jsonl"))
    write_manifest(board, path)
    found = EarlierManifest(path).job(BOUGHT)
    assert found is not None
    assert [one.outcome for one in found.outcomes] == [Outcome.PENDING, Outcome.PENDING]
    assert found.outcomes[1].files == (IMAGE,)
    assert found.outcomes[1].missing == ("[1] output 1: timed out",)
    assert not found.is_complete


@pytest.mark.parametrize(
    "other", [replace(BOUGHT, nonce="other"), replace(BOUGHT, result_key="other")], ids=["nonce", "key"]
)
def test_a_manifest_says_nothing_about_another_submit(board, tmp_path, other):
    path = storage_path(str(tmp_path / "manifest.jsonl"))
    assert EarlierManifest(path).job(BOUGHT) is None, "there is none yet"
    write_manifest(board, path)
    assert EarlierManifest(path).job(other) is None


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"7",
        b"null",
        b'{"nonce": "nonce", "files": []}',
        b'{"nonce": "nonce", "status": "other", "files": [], "result_key": "key", "index": 0}',
        b'{"nonce": "nonce", "status": "partial", "files": [{}], "result_key": "key", "index": 0}',
    ],
)
def test_a_damaged_manifest_knows_nothing(tmp_path, caplog, data):
    (tmp_path / "manifest.jsonl").write_bytes(data)
    assert EarlierManifest(storage_path(str(tmp_path / "manifest.jsonl"))).job(BOUGHT) is None
    assert "cannot be read" in caplog.text
