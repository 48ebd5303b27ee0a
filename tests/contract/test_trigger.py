# SPDX-License-Identifier: Apache-2.0
"""The trigger: many jobs, one event, one deadline."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import sys
import threading
import time

import pytest

from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.triggers.bgrep import BgRepTrigger
from airflow_provider_bgrep.triggers.event import BgRepEvent, Reason


def fire(keys, *, seconds=20.0, poll_interval=0.1, **kwargs):
    """Run a trigger to its event, as the triggerer does."""
    trigger = BgRepTrigger(
        result_keys=keys,
        bgrep_conn_id="bgrep_default",
        poll_interval=poll_interval,
        end_time=time.time() + seconds,
        **kwargs,
    )
    path, arguments = trigger.serialize()
    assert path == f"{BgRepTrigger.__module__}.{BgRepTrigger.__name__}"
    again = BgRepTrigger(**json.loads(json.dumps(arguments)))
    return asyncio.run(_events(again))


async def _events(trigger):
    events = [event.payload async for event in trigger.run()]
    assert len(events) == 1
    return BgRepEvent.from_dict(json.loads(json.dumps(events[0])))


@pytest.fixture
def submit(connection):
    def submit(count=1):
        return [BgRepHook().submit([connection.image_task()]).result_key for _ in range(count)]

    return submit


def test_one_event_when_all_are_finished(connection, submit):
    connection.configure(timing="polls", polls=2)
    event = fire(submit(5))
    assert (event.reason, event.finished, event.pending) == (Reason.FINISHED, 5, 0)
    assert connection.counters.queries >= 10


def test_a_trigger_past_its_wall_clock_deadline_queries_once(connection, submit):
    done = submit()
    connection.configure(timing="polls", polls=10_000)
    event = fire([*done, *submit()], seconds=-60)
    assert (event.reason, event.finished, event.pending) == (Reason.DEADLINE, 1, 1)


def test_collect_after_fires_before_all_are_finished(connection, submit):
    done = submit()
    connection.configure(timing="polls", polls=10_000)
    waiting = submit()
    began = time.time()
    event = fire([*waiting, *done], collect_after=0.5)
    assert (event.reason, event.finished, event.pending) == (Reason.COLLECT, 1, 1)
    assert time.time() - began >= 0.5


def test_a_job_that_never_finishes_does_not_delay_the_others(connection, submit, no_waiting):
    keys = submit(2)
    fault = connection.inject("code", operation="query", code="23500011", times=1)
    event = fire(keys)
    assert fault.consumed == 1
    assert (event.reason, event.finished) == (Reason.FINISHED, 2)


@pytest.mark.parametrize("times", [1, 7])
def test_a_bounded_run_of_poll_errors_is_waited_out(connection, submit, no_waiting, times):
    keys = submit()
    fault = connection.inject("status", operation="query", status=502, times=times)
    event = fire(keys, seconds=600)
    assert fault.exhausted
    assert event.reason is Reason.FINISHED


def test_more_errors_than_that_fire_the_error_by_its_code(connection, submit, no_waiting):
    keys = submit()
    fault = connection.inject("code", operation="query", code="23500000", times=100)
    event = fire(keys, seconds=600)
    assert fault.consumed == 8
    assert event.reason is Reason.ERROR
    assert (event.code, event.http_status) == ("23500000", 500)
    assert event.request_id
    assert event.gateway_request_id


def test_events_and_arguments_are_small_without_secret_or_url(connection, submit):
    keys = submit(30)
    event = fire(keys)
    sent = json.dumps(event.to_dict())
    assert "http://" not in sent
    assert connection.app_code not in sent
    assert len(sent) < 300


@pytest.mark.slow
def test_a_thousand_jobs_need_few_connections_and_no_log_lines(connection, caplog):
    connection.configure(fetch=False, timing="polls", polls=3)
    keys = [BgRepHook().submit([connection.image_task()]).result_key for _ in range(10)] * 100
    before = connection.counters.connections
    with caplog.at_level(logging.DEBUG, logger="airflow_provider_bgrep"):
        event = fire(keys, poll_interval=1, seconds=60)
    assert event.finished == 1000
    assert connection.counters.connections - before <= 40
    ours = [record for record in caplog.records if "bgrep" in record.name]
    assert len(ours) <= 5


@pytest.mark.slow
def test_many_triggers_of_one_process_share_their_connections(connection, submit):
    connection.configure(timing="polls", polls=5)
    keys = submit(60)
    before = connection.counters.connections

    async def run_all():
        triggers = [
            BgRepTrigger(
                result_keys=[key],
                bgrep_conn_id="bgrep_default",
                poll_interval=0.2,
                end_time=time.time() + 30,
            )
            for key in keys
        ]
        return await asyncio.gather(*(_events(trigger) for trigger in triggers))

    events = asyncio.run(run_all())
    assert [event.reason for event in events] == [Reason.FINISHED] * 60
    assert connection.counters.connections - before <= 40


def test_a_cancelled_trigger_leaves_nothing_behind(connection, submit):
    connection.configure(timing="polls", polls=10_000)
    keys = submit(5)

    async def cancel():
        trigger = BgRepTrigger(
            result_keys=keys, bgrep_conn_id="bgrep_default", poll_interval=0.05, end_time=time.time() + 60
        )
        task = asyncio.ensure_future(_events(trigger))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.1)
        return [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]

    assert asyncio.run(cancel()) == []
    asked = connection.counters.queries
    time.sleep(0.3)
    assert connection.counters.queries == asked


BLOCKING = {"time.sleep", "socket.getaddrinfo", "http.client.connect", "subprocess.Popen", "sqlite3.connect"}


def test_nothing_in_a_trigger_blocks_the_event_loop(connection, submit):
    connection.configure(timing="polls", polls=4)
    keys = submit(40)
    watched, blocked = [], []

    def watch(event, args):
        # An audit hook cannot be taken off again: it watches for as long as this list names a thread.
        if watched and event in BLOCKING and threading.get_ident() in watched:
            blocked.append((event, args))

    sys.addaudithook(watch)

    async def run():
        watched.append(threading.get_ident())
        sqlite3.connect(":memory:").close()  # shows that the hook sees
        try:
            return await _events(
                BgRepTrigger(
                    result_keys=keys,
                    bgrep_conn_id="bgrep_default",
                    poll_interval=0.2,
                    end_time=time.time() + 60,
                )
            )
        finally:
            watched.clear()

    event = asyncio.run(run())
    assert event.finished == 40
    assert [name for name, _ in blocked] == ["sqlite3.connect"], blocked


def test_it_lets_the_last_execution_settle_before_it_asks(connection, submit, monkeypatch):
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "3600")
    keys = submit()
    # Not before an hour has passed, but at the deadline in any case.
    event = fire(keys, seconds=1.5)
    assert (event.reason, event.finished, event.queries) == (Reason.FINISHED, 1, 1)
    assert connection.counters.queries == 1
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "0")
    connection.configure(timing="polls", polls=10_000)
    assert fire(submit(), seconds=1.5).queries > 2
