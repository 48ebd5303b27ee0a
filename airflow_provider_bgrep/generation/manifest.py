# SPDX-License-Identifier: Apache-2.0
"""The manifest: one JSON line for each image task, next to the images, without result URLs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.download import SavedImage
from airflow_provider_bgrep.generation.items import WorkItem, WorkItems
from airflow_provider_bgrep.generation.job_store import JobRecord
from airflow_provider_bgrep.generation.outcomes import MEANINGS, Outcome
from airflow_provider_bgrep.generation.task_outcomes import TaskOutcome
from airflow_provider_bgrep.protocol.errors import reason_of
from airflow_provider_bgrep.storage import get_bytes, put_bytes

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.journal.records import SubmitRecord

_KEPT: Final = (Outcome.GENERATED, Outcome.PARTIAL, Outcome.FAILED)
"""Outcomes that a job keeps, whatever later answers say."""

_log = logging.getLogger(__name__)


def write_manifest(
    work_items: WorkItems, path: ObjectStoragePath, *, before: Callable[[], None] = lambda: None
) -> None:
    """Write the manifest atomically: first the items of the list, then the orphaned ones.

    :param before: called immediately before. If it raises, nothing is written.
    """
    text = "".join(json.dumps(line(item), ensure_ascii=False) + "\n" for item in work_items)
    data = text.encode(errors="surrogatepass")
    before()
    put_bytes(data, path)


def line(item: WorkItem) -> dict[str, Any]:
    """Return the manifest line of an item."""
    happened, advice = MEANINGS[item.outcome]
    record = item.record
    submit = (
        {
            "result_key": record.result_key,
            "index": item.index,
            "submitted_at": record.at,
            "nonce": record.nonce,
            "code": record.code,
            "request_id": record.request_id,
            "gateway_request_id": record.gateway_request_id,
        }
        if record
        else {}
    )
    return {
        "id": item.id,
        "key": item.key,
        "listed": item.task is not None,
        "status": item.outcome.value,
        "reason": item.reason or ("" if item.outcome is Outcome.GENERATED else happened),
        "advice": advice,
        "num_output": item.images,
        **submit,
        "saved_at": item.saved_at,
        "seed": item.seed,
        "files": [file.facts for file in item.files],
        "incomplete": item.is_incomplete,
    }


class EarlierManifest:
    """What the manifest of an earlier try knows of jobs: it stands in for a job's record that is lost.

    :param path: the manifest.
    """

    def __init__(self, path: ObjectStoragePath) -> None:
        self._path = path
        self._lock = Lock()
        self._jobs: dict[tuple[str, str], dict[int, Mapping[str, Any]]] | None = None

    def job(self, record: SubmitRecord) -> JobRecord | None:
        """Return what is known of a submit's image tasks, those pending that it says nothing about.

        :return: ``None`` if it says nothing about any of them.
        """
        with self._lock:
            if self._jobs is None:
                self._jobs = self._read()
        lines = self._jobs.get((record.result_key, record.nonce), {})
        if not lines:
            return None
        known = {index: _outcome(line) for index, line in lines.items()}
        outcomes = (known.get(index, TaskOutcome(Outcome.PENDING)) for index in range(len(record.items)))
        saved_at = max(str(line.get("saved_at") or "") for line in lines.values())
        return JobRecord(tuple(outcomes), saved_at, record.nonce)

    def _read(self) -> dict[tuple[str, str], dict[int, Mapping[str, Any]]]:
        """The lines of image tasks with an outcome that lasts, or with images, by job and position."""
        jobs: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
        try:
            for text in (get_bytes(self._path) or b"").splitlines():
                line = json.loads(text)
                if line.get("nonce") and (line["files"] or Outcome(line["status"]) in _KEPT):
                    _outcome(line)
                    jobs.setdefault((line["result_key"], line["nonce"]), {})[int(line["index"])] = line
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            # What the rest says is not known. The jobs are queried again.
            _log.warning("The manifest %s cannot be read: %s", self._path, reason_of(error))
        return jobs


def _outcome(line: Mapping[str, Any]) -> TaskOutcome:
    outcome, reason = Outcome(line["status"]), str(line["reason"])
    files = tuple(SavedImage(**file) for file in line["files"])
    if outcome in _KEPT and not line.get("incomplete"):
        return TaskOutcome(outcome, reason, line["seed"], files)
    return TaskOutcome(Outcome.PENDING, reason, line["seed"], files, missing=(reason,))
