# SPDX-License-Identifier: Apache-2.0
"""One execution as a whole: it ends, whatever its image tasks and jobs come to."""

from __future__ import annotations

import contextvars
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_bgrep.generation.runner import Runner
from airflow_provider_bgrep.journal.records import SupersededError
from airflow_provider_bgrep.journal.stores import MemoryStore
from airflow_provider_bgrep.protocol.errors import CallError


class Api:
    """A server of the API with one answer for each path.

    :param answers: status and envelope, by the last part of the path.
    """

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[str] = []
        self.on_submit = lambda: None
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                operation = self.path.rpartition("/")[2]
                api.asked.append(operation)
                if operation == "submit":
                    api.on_submit()
                status, value = api.answers[operation]
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()
    threading.Thread(target=api.server.serve_forever, args=(0.02,), daemon=True).start()
    yield api
    api.server.shutdown()
    api.server.server_close()


def succeeds(**data: Any) -> tuple[int, Any]:
    return 200, {"code": 0, "success": True, "data": data}


def test_with_nothing_to_do_nothing_is_asked(execution, api):
    run = execution(2, base_url=api.url)
    result = Runner(run.context).run([])
    assert (result.error, result.stopped, result.is_killed) == (None, None, False)
    assert api.asked == []


def test_image_tasks_are_submitted_and_their_job_collected(execution, api):
    tasks = [{"status": "FAILED", "message": "no foreground"}]
    api.answers = {"submit": succeeds(result_key="key"), "query": succeeds(result_key="key", task_list=tasks)}
    run = execution(1, base_url=api.url)
    result = Runner(run.context).run(run.items)
    assert (result.error, result.stopped) == (None, None)
    assert run.outcomes == ["failed"]
    assert run.states == ["accepted"]
    assert api.asked == ["submit", "query"]


def test_what_can_wait_elsewhere_ends_after_the_submit(execution, api):
    api.answers = {"submit": succeeds(result_key="key")}
    run = execution(1, base_url=api.url, waits_here=False)
    result = Runner(run.context).run(run.items)
    assert result.error is None
    assert run.outcomes == ["pending"]
    assert api.asked == ["submit"]


def test_an_account_that_is_refused_ends_the_execution(execution, api):
    api.answers = {"submit": (403, {"code": "23500003", "success": False, "message": "used up"})}
    run = execution(3, base_url=api.url)
    result = Runner(run.context).run(run.items)
    assert isinstance(result.stopped, CallError)
    assert result.stopped.code == "23500003"
    assert (result.error, run.outcomes) == (None, ["not_submitted"] * 3)


class FencedStore(MemoryStore):
    """A journal that another execution has taken over."""

    def set(self, key: str, value: Any) -> None:
        if isinstance(value, dict) and value.get("submits"):
            raise SupersededError("another execution has taken over")
        super().set(key, value)


def test_an_error_before_the_submit_is_the_executions(execution, api):
    run = execution(1, base_url=api.url, store=FencedStore())
    result = Runner(run.context).run(run.items)
    assert isinstance(result.error, SupersededError)
    assert api.asked == []


def test_an_execution_killed_before_its_start_submits_nothing(execution, api):
    run = execution(2, base_url=api.url)
    runner = Runner(run.context)
    runner.kill()
    assert runner.run(run.items).is_killed
    assert (api.asked, run.outcomes) == ([], ["not_submitted"] * 2)


def test_a_kill_waits_for_the_submit_in_flight(execution, api):
    api.answers = {"submit": succeeds(result_key="key")}
    run = execution(1, base_url=api.url)
    runner = Runner(run.context)
    api.on_submit = runner.kill
    assert runner.run(run.items).is_killed
    assert run.outcomes == ["pending"]
    assert run.states == ["accepted"]
    runner.kill()  # once more, after its end


def test_variables_of_the_callers_context_reach_the_engine(execution, api):
    variable, seen = contextvars.ContextVar("variable", default=""), []
    variable.set("caller's")

    def sign(task: Any) -> Any:
        seen.append(variable.get())
        return task

    api.answers = {"submit": succeeds(result_key="key")}
    run = execution(1, base_url=api.url, waits_here=False, sign=sign)
    Runner(run.context).run(run.items)
    assert seen == ["caller's"]
