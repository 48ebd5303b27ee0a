# SPDX-License-Identifier: Apache-2.0
"""Stores of the journal: a folder of files, and memory."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest

from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.records import (
    JournalError,
    SubmittedTask,
)
from airflow_provider_bgrep.journal.stores import WITNESS, FileStore, MemoryStore
from airflow_provider_bgrep.storage import storage_path

EPOCH, PAGE, METADATA = "bgrep-journal-0", "bgrep-journal-0-p0", "bgrep-journal-metadata"


def file_store(folder: Any) -> FileStore:
    return FileStore(storage_path(str(folder)))


def test_a_folder_that_is_not_there_yet_is_an_empty_journal(tmp_path):
    assert Journal(file_store(tmp_path / "not" / "yet"), "conn").previous_records == []


@pytest.mark.parametrize("data", [b"", b"{", b'{"version": 1', b"\xff\xfe", b"\x00" * 40], ids=repr)
@pytest.mark.parametrize("key", [EPOCH, PAGE, METADATA])
def test_a_damaged_file_is_never_taken_for_none(tmp_path, key, data):
    store = file_store(tmp_path)
    Journal(store, "conn").new_entry([SubmittedTask("k")]).write_intent("nonce")
    (tmp_path / f"{key}.json").write_bytes(data)
    with pytest.raises(JournalError) as caught:
        Journal(store, "conn")
    assert (caught.value.file, caught.value.location) == (f"{key}.json", str(tmp_path))
    assert all(word in str(caught.value) for word in (str(tmp_path), f"{key}.json", "backup"))
    assert copy.copy(caught.value).args == caught.value.args


def test_a_folder_that_cannot_be_read_or_written_says_so(tmp_path):
    (tmp_path / "folder").write_text("it is a file")
    with pytest.raises(OSError, match="folder"):
        Journal(file_store(tmp_path / "folder"), "conn")


def test_a_witness_outside_survives_its_folder(tmp_path):
    store = FileStore(storage_path(str(tmp_path / "journal")), storage_path(str(tmp_path / "begun.json")))
    Journal(store, "conn").new_entry([SubmittedTask("k")]).write_intent("nonce")
    assert not (tmp_path / "journal" / f"{WITNESS}.json").exists()
    shutil.rmtree(tmp_path / "journal")
    with pytest.raises(JournalError):
        Journal(store, "conn")
    (tmp_path / "begun.json").write_text("{")  # without the witness, the journal is all there is
    assert Journal(store, "conn").previous_records == []


def test_a_memory_store_returns_what_was_set():
    store = MemoryStore()
    store.set("a", {"b": 1})
    assert store.get("a") == {"b": 1}
    assert store.get("b") is None
