# SPDX-License-Identifier: Apache-2.0
"""Records survive JSON and files; damaged ones are errors."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.records import (
    JournalError,
    State,
    SubmitRecord,
    SubmittedTask,
)
from airflow_provider_bgrep.journal.stores import FileStore
from airflow_provider_bgrep.storage import storage_path

GOOD = SubmitRecord(
    State.ACCEPTED, "2026-01-01T00:00:00+00:00", (SubmittedTask("k"),), "conn", result_key="key"
).to_json()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


RECORDS = st.builds(
    SubmitRecord,
    state=st.sampled_from(State),
    at=TEXTS,
    items=st.lists(st.builds(SubmittedTask, TEXTS, st.integers(1, 4), TEXTS), min_size=1, max_size=10).map(
        tuple
    ),
    account=TEXTS,
    regenerate_key=TEXTS,
    try_number=st.integers(1, 99),
    nonce=TEXTS,
    result_key=TEXTS,
    request_id=TEXTS,
    gateway_request_id=TEXTS,
    code=TEXTS,
    http_status=st.none() | st.integers(100, 599),
    reason=TEXTS,
).filter(lambda record: record.at and (record.result_key or record.state is not State.ACCEPTED))


@given(RECORDS)
def test_a_record_survives_json(record):
    value = json.loads(json.dumps(record.to_json()))
    assert SubmitRecord.from_json(value) == record
    assert all(value.values())


@given(RECORDS)
def test_a_record_of_fewest_fields_is_the_same_as_one_of_all(record):
    assert SubmitRecord.from_json({**record.to_json(), "http_status": record.http_status}) == record


def test_an_accepted_job_without_its_key_is_damage():
    record = replace(SubmitRecord.from_json(GOOD), result_key="")
    with pytest.raises(JournalError):
        SubmitRecord.from_json(record.to_json())


def file_store(folder: Any) -> FileStore:
    return FileStore(storage_path(str(folder)))


@given(records=st.lists(RECORDS, min_size=1, max_size=3))
@settings(deadline=None, max_examples=6)
def test_a_folder_keeps_what_an_epoch_wrote(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(file_store(folder), "雪山", clear_id="0", end_time=7.5)
    for record in records:
        entry = journal.new_entry(record.items)
        entry.write_intent(record.nonce)
        entry.write_accepted("key", record.request_id, record.gateway_request_id)
    found = Journal(file_store(folder), "雪山", clear_id="0")
    assert found.previous_records == journal.records
    assert found.metadata == journal.metadata
    assert all(path.name.startswith("bgrep-journal") and path.suffix == ".json" for path in folder.iterdir())
