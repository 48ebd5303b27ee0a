# SPDX-License-Identifier: Apache-2.0
"""An execution without a server: a script answers, the journal is in memory, and images are in a folder."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.connection import Settings
from airflow_provider_bgrep.generation.items import WorkItems
from airflow_provider_bgrep.generation.job_store import JobStore
from airflow_provider_bgrep.generation.run_context import Options, RunContext
from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.records import SubmitRecord
from airflow_provider_bgrep.journal.stores import MemoryStore, Store
from airflow_provider_bgrep.protocol.codes import GATEWAY_CODES, SERVICE_CODES, Operation
from airflow_provider_bgrep.protocol.flows import Reply, Sleep
from airflow_provider_bgrep.protocol.models import ImageTask, Job
from airflow_provider_bgrep.protocol.wire import Response
from airflow_provider_bgrep.storage import storage_path


def image_tasks(count: int, first: int = 0) -> list[ImageTask]:
    return [
        ImageTask(image=f"https://a/{i}.png", positive_prompt="sea", id=f"sku-{i}")
        for i in range(first, first + count)
    ]


class Answers:
    """The API's answers."""

    def accepted(self, result_key: str) -> Response:
        """The answer to a submit."""
        return self._envelope({"result_key": result_key})

    def job(self, result_key: str, *statuses: str, first: int = 0) -> Response:
        """The answer to a query. No image task has an image to download; a failed one has a reason.

        :param first: index of the first image task.
        """
        tasks = [
            {**task.as_wire(), "status": status, "message": "no foreground" if status == "FAILED" else ""}
            for task, status in zip(image_tasks(len(statuses), first), statuses, strict=True)
        ]
        return self._envelope({"result_key": result_key, "task_list": tasks})

    def refusal(self, code: str, *, result_key: str = "") -> Response:
        """An answer of the service or of the gateway with a code of the tables."""
        if code in GATEWAY_CODES:
            return Response(GATEWAY_CODES[code].http_status, {"X-Ca-Error-Code": code}, b"")
        body = {"code": code, "success": False, "message": f"why {code}", "requestId": "r"}
        data = {"data": {"result_key": result_key}} if result_key else {}
        return Response(SERVICE_CODES[code].http_status, {}, json.dumps({**body, **data}).encode())

    @staticmethod
    def _envelope(data: Any) -> Response:
        return Response(200, {}, json.dumps({"code": 0, "success": True, "data": data}).encode())


@pytest.fixture
def answers() -> Answers:
    return Answers()


class ScriptedClient:
    """Drives flows as the asynchronous client does, and takes the answers from a script.

    :param script: returns the answer to a request, from the operation and the request's data.
    """

    def __init__(self, script: Callable[[Operation, Any], Reply]) -> None:
        self._script = script
        self.sent: list[tuple[Operation, Any]] = []

    @property
    def images_sent(self) -> list[list[str]]:
        """The images of each submit."""
        return [
            [task["image"] for task in data["task_list"]]
            for operation, data in self.sent
            if operation is Operation.SUBMIT
        ]

    async def drive(
        self, flow: Any, counter: Any = None, *, before_send: Any = None, wait: Any = None
    ) -> Any:
        reply = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as stop:
                return stop.value
            reply = None
            if isinstance(step, Sleep):
                if wait is not None:
                    await wait(step.seconds, step.error)
                continue
            body = step.body if before_send is None else await before_send(step.nonce) or step.body
            if counter is not None:
                counter.add(step.operation)
            data = json.loads(body)["data"]
            self.sent.append((step.operation, data))
            reply = self._script(step.operation, data)


class Execution:
    """A run's context, and what it was made of.

    :param context: the context, whose client is the script.
    :param client: the script.
    :param journal: the journal.
    """

    def __init__(self, context: RunContext, client: ScriptedClient, journal: Journal) -> None:
        self.context, self.client, self.journal = context, client, journal
        self.items = context.work_items.listed

    @property
    def outcomes(self) -> list[str]:
        return [item.outcome.value for item in self.items]

    @property
    def states(self) -> list[str]:
        """The states of the journal's records."""
        return [record.state.value for record in self.journal.records]


@pytest.fixture
def execution(tmp_path):
    """Make an execution of a list of image tasks."""

    def make(
        count: int,
        script: Callable[[Operation, Any], Reply] | Iterable[Reply] = (),
        *,
        store: Store | None = None,
        records: Iterable[SubmitRecord] = (),
        base_url: str = "http://127.0.0.1:9",
        **options: Any,
    ) -> Execution:
        replies = script if callable(script) else _in_turn(script)
        client = ScriptedClient(replies)
        settings = Settings(base_url=base_url, app_code="code")
        journal = Journal(store or MemoryStore(), "conn")
        tasks = image_tasks(count)
        items = WorkItems(tasks, [task.id for task in tasks], records, account="conn", try_number=1)
        job_store = JobStore(
            storage_path(str(tmp_path)), settings, _never, "{result_key}_{index}_{output}.{ext}", 10**6
        )
        facts = {"poll_interval": 5.0, "end_time": time.time() + 3600, "waits_here": True, **options}
        context = RunContext(
            settings, journal, items, job_store, Options(**facts), logging.getLogger("execution")
        )
        context.client = client
        return Execution(context, client, journal)

    with without_waiting():
        yield make


def _in_turn(replies: Iterable[Reply]) -> Callable[[Operation, Any], Reply]:
    remaining = iter(replies)
    return lambda operation, data: next(remaining)


def _never(result_key: str) -> Job:
    raise AssertionError(f"{result_key} was queried for new URLs")
