# SPDX-License-Identifier: Apache-2.0
"""Lineage events of tasks that are run by hand: asked by the OpenLineage provider, written by its client.

The provider's own extractor asks the operators. What Airflow's listener adds to an event is for tests/e2e.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.openlineage.extractors.base import DefaultExtractor
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.transport.file import FileConfig, FileTransport


def read_events(file: Path) -> list[dict[str, Any]]:
    """Return the events that a file transport has written, in order."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def names_of(datasets: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return datasets as text: namespace and name."""
    return [f"{one['namespace']} {one['name']}" for one in datasets]


@dataclass(frozen=True)
class LineageFile:
    """Events in a file.

    :param path: the file.
    """

    path: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events, in order."""
        return read_events(self.path)

    def event(self, job: str, kind: str) -> dict[str, Any]:
        """The last event of a job of a kind, such as ``COMPLETE``."""
        return [one for one in self.events if (one["job"]["name"], one["eventType"]) == (job, kind)][-1]

    def start(self, task: Any) -> None:
        """Write what a task says before it is executed."""
        self._write(task, RunState.START, DefaultExtractor(task).extract())

    def end(self, task: Any, state: str, ti: Any = None) -> None:
        """Write what a task says when it has ended."""
        extractor = DefaultExtractor(task)
        if state in ("success", "skipped"):
            self._write(task, RunState.COMPLETE, extractor.extract_on_complete(ti))
        else:
            self._write(task, RunState.FAIL, extractor.extract_on_failure(ti))

    def _write(self, task: Any, kind: RunState, found: Any) -> None:
        assert found is not None, "the provider could not ask the operator; see its log"
        event = RunEvent(
            eventTime=datetime.now(UTC).isoformat(),
            eventType=kind,
            run=Run(str(uuid.uuid4()), dict(found.run_facets)),
            job=Job("tests", task.task_id, dict(found.job_facets)),
            inputs=found.inputs,
            outputs=found.outputs,
            producer="https://example.com/tests",
        )
        transport = FileTransport(FileConfig(log_file_path=str(self.path), append=True))
        OpenLineageClient(transport=transport).emit(event)
