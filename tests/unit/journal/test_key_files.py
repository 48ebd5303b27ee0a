# SPDX-License-Identifier: Apache-2.0
"""Keys that are kept next to the images: found by the submit's nonce, and only for that submit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_bgrep.journal.key_files import FOLDER, keep_key, with_key
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SubmittedTask
from airflow_provider_bgrep.storage import storage_path

ITEMS = (SubmittedTask("a", 2, "sku", "d1", "d2"), SubmittedTask("b"))
ACCEPTED = SubmitRecord(
    State.ACCEPTED, "2026-01-01T00:00:00+00:00", ITEMS, "conn", nonce="n/1", result_key="key", request_id="r"
)
LOST = replace(ACCEPTED, state=State.UNKNOWN, result_key="", request_id="")


@pytest.fixture
def folder(tmp_path):
    return storage_path(str(tmp_path / "images"))


@pytest.mark.parametrize("state", [State.INTENT, State.UNKNOWN])
def test_a_submit_without_an_answer_finds_its_key(folder, state):
    keep_key(folder, ACCEPTED)
    assert with_key(folder, replace(LOST, state=state)) == ACCEPTED


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
    assert with_key(folder, record) is record


def test_without_a_file_a_submit_stays_as_it_is(folder):
    assert with_key(folder, LOST) is LOST


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
    (file,) = (tmp_path / "images" / FOLDER).iterdir()
    file.write_bytes(data)
    assert with_key(folder, LOST) is LOST


def test_a_nonce_stays_inside_the_folder(folder, tmp_path):
    keep_key(folder, replace(ACCEPTED, nonce="../../key"))
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert file.parent == tmp_path / "images" / FOLDER
    assert with_key(folder, replace(LOST, nonce="../../key")).result_key == "key"
