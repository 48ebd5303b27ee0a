# SPDX-License-Identifier: Apache-2.0
"""Key files: result keys that are stored next to the images because the journal could not be written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.journal.records import State, SubmitRecord
from airflow_provider_bgrep.storage import get_bytes, put_bytes, safe_name

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

VERSION: Final = 1
FOLDER: Final = "_bgrep"
"""Folder of key files and job records, next to the images."""


def keep_key(destination: ObjectStoragePath, record: SubmitRecord) -> None:
    """Write the key of a job next to the images.

    :param destination: folder of the images.
    :param record: the accepted submit.
    """
    data = json.dumps({"version": VERSION, **record.to_json()}).encode()
    put_bytes(data, _path(destination, record))


def with_key(destination: ObjectStoragePath, record: SubmitRecord) -> SubmitRecord:
    """Return a submit with the key that :func:`keep_key` wrote, if its outcome is unknown.

    :param destination: folder of the images.
    :return: the record with its key, or ``record`` itself.
    """
    if record.state not in (State.INTENT, State.UNKNOWN) or not record.nonce:
        return record
    data = get_bytes(_path(destination, record))
    try:
        found = None if data is None else SubmitRecord.from_json(json.loads(data))
    except ValueError:
        return record
    return found if found is not None and found.keys == record.keys else record


def _path(destination: ObjectStoragePath, record: SubmitRecord) -> ObjectStoragePath:
    return destination / FOLDER / f"key-{safe_name(record.nonce)}.json"
