# SPDX-License-Identifier: Apache-2.0
"""Keys that are kept next to the images: found by the submit's nonce, and only for that submit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bgrep_harness.stores import RefusingFiles, folder_on

from airflow_provider_bgrep.journal.key_files import (
    FOLDER,
    NOT_BILLED,
    adopt_key,
    keep_key,
    key_of,
    nonce_in,
    with_answer,
    write_not_billed,
)
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.storage import safe_name, storage_path

ITEMS = (SubmittedTask("a", 2, "sku", "d1", "d2"), SubmittedTask("b"))
ACCEPTED = SubmitRecord(
    State.ACCEPTED, "2026-01-01T00:00:00+00:00", ITEMS, "conn", nonce="n/1", result_key="key", request_id="r"
)
LOST = replace(ACCEPTED, state=State.UNKNOWN, result_key="", request_id="")


@pytest.fixture
def folder(tmp_path):
    return storage_path(str(tmp_path / "images"))


def files_in(tmp_path: Path) -> list[Path]:
    """The files with the key of a job."""
    return sorted((tmp_path / "images" / FOLDER).glob("key-*"))


@pytest.mark.parametrize("state", [State.INTENT, State.UNKNOWN])
def test_a_submit_without_an_answer_finds_its_key(folder, state):
    keep_key(folder, ACCEPTED)
    assert with_answer(folder, replace(LOST, state=state)) == ACCEPTED


@pytest.mark.parametrize(
    "record",
    [
        replace(LOST, nonce="n/2"),
        replace(LOST, nonce=""),
        replace(LOST, state=State.REFUSED),
        replace(ACCEPTED, result_key="other"),
        replace(LOST, items=ITEMS[:1]),
        replace(LOST, items=ITEMS[::-1]),
    ],
    ids=["another nonce", "no nonce", "refused", "accepted", "fewer items", "another order"],
)
def test_any_other_submit_stays_as_it_is(folder, record):
    keep_key(folder, ACCEPTED)
    assert with_answer(folder, record) is record


def test_without_a_file_a_submit_stays_as_it_is(folder):
    assert with_answer(folder, LOST) is LOST


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"\xff\xfe",
        b'{"version": 1}',
        b'{"state": "accepted", "at": "", "items": []}',
    ],
    ids=repr,
)
def test_a_damaged_file_is_no_key(folder, tmp_path, data):
    keep_key(folder, ACCEPTED)
    for file in files_in(tmp_path):
        file.write_bytes(data)
    assert with_answer(folder, LOST) is LOST
    assert not key_of(folder, ACCEPTED.nonce)


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("data", [None, b"", b"{"], ids=["lost", "empty", "cut off"])
def test_one_lost_or_damaged_file_takes_no_key_back(folder, tmp_path, lost, data):
    adopt_key(folder, replace(LOST, result_key="one"))
    write_not_billed(folder, LOST)
    file = files_in(tmp_path)[lost]
    file.unlink() if data is None else file.write_bytes(data)
    assert key_of(folder, LOST.nonce)
    assert with_answer(folder, LOST).result_key == "one"
    assert adopt_key(folder, replace(LOST, result_key="two")) == "one"
    assert len({file.read_bytes() for file in files_in(tmp_path)}) == 1, "both are there again"


def test_a_nonce_stays_inside_the_folder(folder, tmp_path):
    keep_key(folder, replace(ACCEPTED, nonce="../../key"))
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in found} == {tmp_path / "images" / FOLDER}
    assert with_answer(folder, replace(LOST, nonce="../../key")).result_key == "key"


# --- what a person says ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.INTENT, State.UNKNOWN])
def test_a_submit_that_is_not_billed_counts_as_refused(folder, state):
    write_not_billed(folder, replace(LOST, reason="no answer"))
    found = with_answer(folder, replace(LOST, state=state))
    assert (found.state, found.code, found.reason, found.result_key) == (State.REFUSED, NOT_BILLED, "", "")
    assert found.items == ITEMS


@pytest.mark.parametrize("write", [keep_key, adopt_key])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_key_counts_before_what_a_person_did_not_find(folder, write, is_first):
    if is_first:
        write(folder, ACCEPTED)
    write_not_billed(folder, LOST)
    if not is_first:
        write(folder, ACCEPTED)
    assert with_answer(folder, LOST) == ACCEPTED


def test_the_first_of_two_adopted_keys_counts(folder):
    assert adopt_key(folder, replace(LOST, result_key="one")) == "one"
    assert adopt_key(folder, replace(LOST, result_key="two")) == "one"
    assert adopt_key(folder, replace(LOST, result_key="one")) == "one"
    assert with_answer(folder, LOST).result_key == "one"


def test_a_workers_key_replaces_an_adopted_one(folder):
    adopt_key(folder, replace(LOST, result_key="one"))
    keep_key(folder, ACCEPTED)
    assert with_answer(folder, LOST) == ACCEPTED


def test_a_damaged_key_file_is_adopted_anew(folder, tmp_path):
    keep_key(folder, ACCEPTED)
    for file in files_in(tmp_path):
        file.write_bytes(b"{")
    assert adopt_key(folder, replace(LOST, result_key="two")) == "two"
    assert with_answer(folder, LOST).result_key == "two"


def test_a_store_that_cannot_exclude_needs_a_single_writer():
    images = folder_on(RefusingFiles({}))
    with pytest.raises(NotImplementedError):
        adopt_key(images, replace(LOST, result_key="one"))
    assert adopt_key(images, replace(LOST, result_key="one"), lambda: True) == "one"
    assert adopt_key(images, replace(LOST, result_key="two"), lambda: True) == "one"


def test_a_job_that_is_adopted_keeps_nothing_of_a_refusal(folder):
    seen = replace(LOST, state=State.REFUSED, code=NOT_BILLED, http_status=500, reason="not in the bill")
    adopt_key(folder, replace(seen, result_key="key"))
    found = with_answer(folder, LOST)
    assert (found.state, found.result_key) == (State.ACCEPTED, "key")
    assert (found.code, found.http_status, found.reason) == ("", None, "")


def test_only_the_nonce_is_needed_to_know_that_there_is_a_key(folder):
    assert not key_of(folder, LOST.nonce)
    write_not_billed(folder, LOST)
    assert not key_of(folder, LOST.nonce)
    keep_key(folder, ACCEPTED)
    assert key_of(folder, LOST.nonce)
    assert not key_of(folder, "n/2")


@pytest.mark.parametrize("write", [keep_key, write_not_billed])
def test_a_files_name_has_the_nonce_of_its_submit(folder, tmp_path, write):
    write(folder, ACCEPTED)
    names = {file.stem for file in (tmp_path / "images" / FOLDER).iterdir()}
    assert {nonce_in(name) for name in names} == {safe_name(ACCEPTED.nonce)}
    assert nonce_in("0123-job-key") is None
