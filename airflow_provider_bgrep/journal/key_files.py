# SPDX-License-Identifier: Apache-2.0
"""What is known of a submit beside its journal, next to the images, in files that its nonce names.

``key-{nonce}.json`` has the key of its job: its worker could not write the journal, or a person has found the
job. Beside it is ``key-copy-{nonce}.json``, so that the loss of one file does not make a submit look
unbilled. ``not-billed-{nonce}.json`` says that a person has seen that it is not billed. The journal itself
counts first, then the key, whoever wrote it.
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

_KEY: Final = "key-"
_KEY_COPY: Final = "key-copy-"
_NOT_BILLED: Final = "not-billed-"
_PREFIXES: Final = (_KEY_COPY, _KEY, _NOT_BILLED)
"""The beginnings of the names of these files; a longer one comes before that which it begins with."""

NOT_BILLED: Final = "not_billed"
"""The code of a submit of which a person has seen that it is not billed. An answer may still come."""


def keep_key(destination: ObjectStoragePath, record: SubmitRecord) -> None:
    """Write the key of a job next to the images: its worker knows it.

    :param destination: folder of the images.
    :param record: the accepted submit.
    """
    for prefix in (_KEY, _KEY_COPY):
        put_bytes(_bytes_of(record), _path(destination, prefix, record.nonce))


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
    if (found := _key_of(destination, record)) is None:
        path = _path(destination, _KEY, record.nonce)
        try:
            is_written = create_bytes(_bytes_of(record), path)
        except Exception:
            if not has_single_writer():
                raise
            is_written = False
        found = None if is_written else _key_of(destination, record)
    # Written again, for one of the two files may be missing or damaged.
    keep_key(destination, found or record)
    return (found or record).result_key


def write_not_billed(destination: ObjectStoragePath, record: SubmitRecord) -> None:
    """Write that a person has seen that a submit is not billed.

    :param destination: folder of the images.
    :param record: the submit, whose outcome is unknown.
    """
    refused = replace(record, state=State.REFUSED, code=NOT_BILLED, reason="", result_key="")
    put_bytes(_bytes_of(refused), _path(destination, _NOT_BILLED, record.nonce))


def with_answer(destination: ObjectStoragePath, record: SubmitRecord) -> SubmitRecord:
    """Return a submit with what the files say of it, if its outcome is unknown.

    :param destination: folder of the images.
    :return: the record with its key, or as refused with the code :data:`NOT_BILLED`, or ``record`` itself.
    """
    if record.state not in (State.INTENT, State.UNKNOWN) or not record.nonce:
        return record
    return _key_of(destination, record) or _read(destination, _NOT_BILLED, record) or record


def key_of(destination: ObjectStoragePath, nonce: str) -> str:
    """The key of the job of a submit of which only the nonce is known, because its journal is gone.

    :param destination: folder of the images.
    :return: the key; ``""`` if no file has it.
    """
    found = (_found(destination, prefix, nonce) for prefix in (_KEY, _KEY_COPY))
    return next((record.result_key for record in found if record is not None), "")


def nonce_in(stem: str) -> str | None:
    """The nonce in the name of one of these files, without its extension; ``None`` in other names."""
    return next((stem.removeprefix(one) for one in _PREFIXES if stem.startswith(one)), None)


def _key_of(destination: ObjectStoragePath, record: SubmitRecord) -> SubmitRecord | None:
    return _read(destination, _KEY, record) or _read(destination, _KEY_COPY, record)


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
