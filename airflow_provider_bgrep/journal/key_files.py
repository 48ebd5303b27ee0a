# SPDX-License-Identifier: Apache-2.0
"""What is known of a submit beside its journal, next to the images, in files that its nonce names.

``key-{nonce}.json`` has the key of its job: its worker could not write the journal, or a person has found the
job. ``not-billed-{nonce}.json`` says that a person has seen that it is not billed. The journal itself counts
first, then the key, whoever wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.journal.records import State, SubmitRecord
from airflow_provider_bgrep.storage import create_bytes, get_bytes, put_bytes, safe_name

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

VERSION: Final = 1
FOLDER: Final = "_bgrep"
"""Folder of these files and of job records, next to the images."""

KEY: Final = "key-"
"""The beginning of the name of a file with a job's key."""
NOT_BILLED_FILE: Final = "not-billed-"
"""The beginning of the name of a file that says that a submit is not billed."""

NOT_BILLED: Final = "not_billed"
"""The code of a submit of which a person has seen that it is not billed. An answer may still come."""


def keep_key(destination: ObjectStoragePath, record: SubmitRecord) -> None:
    """Write the key of a job next to the images: its worker knows it.

    :param destination: folder of the images.
    :param record: the accepted submit.
    """
    put_bytes(_bytes_of(record), _path(destination, KEY, record.nonce))


def adopt_key(
    destination: ObjectStoragePath,
    record: SubmitRecord,
    has_single_writer: Callable[[], bool] = lambda: False,
) -> str:
    """Write the key of a job that a person has found, unless a key is there already.

    :param destination: folder of the images.
    :param record: the submit, with the job's key.
    :param has_single_writer: whether the file may be written if the store cannot exclude other writers.
    :return: the key that counts.
    """
    # Nothing stays of what another person has seen, or of a lost answer: it would count as not sent.
    record = replace(record, state=State.ACCEPTED, code="", http_status=None, reason="")
    path = _path(destination, KEY, record.nonce)
    try:
        is_written = create_bytes(_bytes_of(record), path)
    except Exception:
        if not has_single_writer():
            raise
        if is_written := get_bytes(path) is None:
            put_bytes(_bytes_of(record), path)
    if not is_written:
        found = _read(destination, KEY, record)
        if found is not None:
            return found.result_key
        put_bytes(_bytes_of(record), path)  # it was damaged
    return record.result_key


def write_not_billed(destination: ObjectStoragePath, record: SubmitRecord) -> None:
    """Write that a person has seen that a submit is not billed.

    :param destination: folder of the images.
    :param record: the submit, whose outcome is unknown.
    """
    refused = replace(record, state=State.REFUSED, code=NOT_BILLED, reason="", result_key="")
    put_bytes(_bytes_of(refused), _path(destination, NOT_BILLED_FILE, record.nonce))


def with_answer(destination: ObjectStoragePath, record: SubmitRecord) -> SubmitRecord:
    """Return a submit with what the files say of it, if its outcome is unknown.

    :param destination: folder of the images.
    :return: the record with its key, or as refused with the code :data:`NOT_BILLED`, or ``record`` itself.
    """
    if record.state not in (State.INTENT, State.UNKNOWN) or not record.nonce:
        return record
    return _read(destination, KEY, record) or _read(destination, NOT_BILLED_FILE, record) or record


def has_key(destination: ObjectStoragePath, nonce: str) -> bool:
    """Whether a file has the key of a submit's job, of which only the nonce is known: its journal is gone.

    :param destination: folder of the images.
    """
    return _found(destination, KEY, nonce) is not None


def _read(destination: ObjectStoragePath, prefix: str, record: SubmitRecord) -> SubmitRecord | None:
    found = _found(destination, prefix, record.nonce)
    return found if found is not None and found.keys == record.keys else None


def _found(destination: ObjectStoragePath, prefix: str, nonce: str) -> SubmitRecord | None:
    data = get_bytes(_path(destination, prefix, nonce))
    try:
        return None if data is None else SubmitRecord.from_json(json.loads(data))
    except ValueError:
        return None


def _bytes_of(record: SubmitRecord) -> bytes:
    return json.dumps({"version": VERSION, **record.to_json()}).encode()


def _path(destination: ObjectStoragePath, prefix: str, nonce: str) -> ObjectStoragePath:
    return destination / FOLDER / f"{prefix}{safe_name(nonce)}.json"
