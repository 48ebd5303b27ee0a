# SPDX-License-Identifier: Apache-2.0
"""The trigger without a server: its arguments, and how it ends where nothing can be queried."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from airflow_provider_bgrep.exceptions import BgRepConfigurationError
from airflow_provider_bgrep.triggers.bgrep import BgRepTrigger, read_event
from airflow_provider_bgrep.triggers.event import BgRepEvent, Reason

CONNECTION = '{"conn_type": "bgrep", "host": "127.0.0.1", "schema": "http", "port": 9, "password": "code"}'


def trigger(*keys: str, **more: Any) -> BgRepTrigger:
    given = {"bgrep_conn_id": "shop", "poll_interval": 5.0, "end_time": time.time() + 60, **more}
    return BgRepTrigger(result_keys=keys, **given)


def fire(one: BgRepTrigger) -> BgRepEvent:
    """Run a trigger to its event, as the triggerer does: made again from what was serialized."""
    path, arguments = one.serialize()
    assert path == f"{BgRepTrigger.__module__}.{BgRepTrigger.__name__}"

    async def events() -> list[Any]:
        return [event.payload async for event in BgRepTrigger(**json.loads(json.dumps(arguments))).run()]

    (payload,) = asyncio.run(events())
    return read_event(json.loads(json.dumps(payload)))


@pytest.mark.parametrize(
    "more",
    [{}, {"collect_after": 9.5, "tasks": {"a": 3}, "settled": {"b": 1}}, {"tasks": {}, "settled": None}],
)
def test_arguments_survive_json(more):
    _, arguments = trigger("a", "b", **more).serialize()
    again = BgRepTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize()[1] == arguments
    assert arguments["result_keys"] == ["a", "b"]
    assert arguments["tasks"] == more.get("tasks")
    assert arguments["settled"] == (more.get("settled") or {})


def test_without_jobs_all_jobs_are_finished(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", CONNECTION)
    event = fire(trigger(collect_after=1.0))
    assert (event.reason, event.finished, event.pending, event.queries) == (Reason.FINISHED, 0, 0, 0)


def test_a_connection_that_is_not_defined_fires_with_its_name():
    event = fire(trigger("a", "b", bgrep_conn_id="no_such_shop"))
    assert (event.reason, event.finished, event.pending) == (Reason.ERROR, 0, 2)
    assert "'no_such_shop'" in event.input_error


@pytest.mark.parametrize(
    "payload", [None, "finished", [], {}, {"version": 2}, {"version": 1, "reason": "other"}]
)
def test_an_event_that_cannot_be_read_is_a_final_error(payload):
    with pytest.raises(BgRepConfigurationError):
        read_event(payload)


def test_a_connection_that_cannot_be_used_fires_in_words(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", '{"conn_type": "bgrep", "password": "s3cr3t-code"}')
    event = fire(trigger("a"))
    assert (event.reason, event.pending) == (Reason.ERROR, 1)
    assert "host" in event.input_error
    assert "s3cr3t" not in event.input_error


def test_killed_it_names_the_jobs_that_go_on(caplog, capsys):
    asyncio.run(trigger("one", "two").on_kill())
    assert "one, two" in caplog.text + capsys.readouterr().out
