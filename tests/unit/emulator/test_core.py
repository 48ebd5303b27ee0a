# SPDX-License-Identifier: Apache-2.0
"""An emulator without a server: what a call is answered, counted and billed."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import aiohttp
import pytest
import requests
from multidict import CIMultiDict

from airflow_provider_bgrep.emulator.answers import Answer
from airflow_provider_bgrep.emulator.core import Core
from airflow_provider_bgrep.emulator.gateway import Call
from airflow_provider_bgrep.emulator.settings import Settings
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS, QUERY_PATH, SUBMIT_PATH


def test_a_result_url_expires_and_a_new_query_returns_another(api, task, emulator):
    emulator.configure(result_seconds=60)
    key = api.job(task())
    (old,) = api.results(key)
    assert requests.get(old, timeout=20).headers["Content-Type"] == "image/png"
    emulator.advance(62)
    expired = requests.get(old, timeout=20)
    assert expired.status_code == 403
    assert b"<Code>AccessDenied</Code>" in expired.content
    (fresh,) = api.results(key)
    assert fresh != old
    assert requests.get(fresh, timeout=20).status_code == 200
    assert emulator.counters.results == 2


@pytest.mark.parametrize(
    "change", [("0-0", "0-1"), ("Expires=1", "Expires=2"), ("Signature=", "Signature=A"), ("?", "?x")]
)
def test_a_result_url_cannot_be_changed(change, api, task):
    (url,) = api.results(api.job(task()))
    assert requests.get(url.replace(*change), timeout=20).status_code == 403


def test_a_download_with_the_appcode_is_refused_and_counted(api, task, emulator):
    (url,) = api.results(api.job(task()))
    assert requests.get(url, headers=api.headers(), timeout=20).status_code == 400
    assert emulator.counters.leaks == 1


def test_everything_is_counted_apart(api, task, emulator):
    key = api.job(task(num_output=2), task(num_output=3))
    for _ in range(4):
        api.query(key)
    api.query("unknown")
    assert emulator.counters.as_dict() == {
        "submits": 1,
        "queries": 4,
        "image_tasks": 2,
        "images": 5,
        "refused": 1,
        "requests": 6,
        "connections": 6,
        "calls": 6,
        "results": 0,
        "leaks": 0,
    }


def test_concurrent_submits_are_counted_and_stay_within_credit(api, task, emulator):
    emulator.configure(quota_images=50)

    async def submit(session):
        body = {"data": {"task_list": [task()]}}
        async with session.post(
            api.url + "/api/v1/bg-rep/submit", json=body, headers=api.headers()
        ) as answer:
            return answer.status

    async def all_of_them():
        async with aiohttp.ClientSession() as session:
            return await asyncio.gather(*(submit(session) for _ in range(120)))

    statuses = asyncio.run(all_of_them())
    assert (statuses.count(200), statuses.count(403)) == (50, 70)
    assert (emulator.counters.images, emulator.counters.refused, len(emulator.jobs)) == (50, 70, 50)


# --- without a server ---------------------------------------------------------------------------------


class Caller:
    """Calls a core directly."""

    def __init__(self, **settings: Any) -> None:
        self.core = Core(settings=Settings().changed({"fetch": False, **settings}))
        self.core.base = "http://127.0.0.1:9"

    def call(self, path: str, body: bytes, *, code: str = "emulator-app-code") -> Answer:
        headers = CIMultiDict(
            {
                "Authorization": f"APPCODE {code}",
                "Content-Type": "application/json",
                "X-Ca-Nonce": uuid.uuid4().hex,
            }
        )

        async def read(limit: int) -> bytes | None:
            return body if len(body) <= limit else None

        one = Call("POST", path, path, headers, [], "127.0.0.1")
        return asyncio.run(self.core.api(one, read, new_connection=False))

    def submit(self, count: int = 1, **fields: Any) -> Answer:
        task = {
            field.name: field.default for field in IMAGE_TASK_FIELDS.values() if field.default is not None
        }
        task |= {"image": "http://127.0.0.1:9/a.png", "positive_prompt": "sea", **fields}
        return self.call(SUBMIT_PATH, json.dumps({"data": {"task_list": [task] * count}}).encode())

    def query(self, key: str, **more: Any) -> Answer:
        return self.call(QUERY_PATH, json.dumps({"data": {"result_key": key}}).encode(), **more)

    def job(self, count: int = 1, **fields: Any) -> str:
        key: str = json.loads(self.submit(count, **fields).body)["data"]["result_key"]
        return key


def code_of(answer: Answer) -> str:
    return answer.headers.get("X-Ca-Error-Code") or str(json.loads(answer.body)["code"])


def test_a_refused_call_bills_nothing():
    caller = Caller()
    assert code_of(caller.submit(steps=7)) == "23500013"
    assert code_of(caller.submit(11)) == "23500013"
    counters = caller.core.state.counters
    assert (counters.requests, counters.calls, counters.refused, counters.submits, counters.images) == (
        2,
        2,
        2,
        0,
        0,
    )


def test_accepted_images_are_billed():
    caller = Caller()
    caller.job(3, num_output=2)
    counters = caller.core.state.counters
    assert (counters.submits, counters.image_tasks, counters.images, counters.refused) == (1, 3, 6, 0)


@pytest.mark.parametrize(
    ("settings", "codes"),
    [
        ({"quota_images": 3}, ["0", "0", "0", "23500003"]),
        ({"busy_jobs": 2, "timing": "polls"}, ["0", "0", "23500004", "23500004"]),
        ({"subscription_calls": 1}, ["0", "B403MQ", "B403MQ", "B403MQ"]),
        ({"backend": "drops"}, ["N502RE"] * 4),
    ],
    ids=str,
)
def test_submits_are_accepted_within_what_is_left(settings, codes):
    caller = Caller(**settings)
    assert [code_of(caller.submit()) for _ in codes] == codes


def test_what_a_broken_connection_loses_is_billed():
    caller = Caller(backend="drops")
    caller.submit(2)
    assert (caller.core.state.counters.images, len(caller.core.state.jobs)) == (2, 1)


def test_a_job_is_known_to_its_own_appcode_and_for_its_time():
    caller = Caller(app_codes={"other": "active"}, job_seconds=60)
    key = caller.job()
    assert code_of(caller.query(key)) == "0"
    assert code_of(caller.query(key, code="other")) == "23500008"
    caller.core.advance(61)
    assert code_of(caller.query(key)) == "23500008"


def test_an_appcode_that_only_the_service_refuses():
    caller = Caller(app_codes={"gone": "unknown to the service"})
    assert code_of(caller.query("k", code="gone")) == "23500001"


@pytest.mark.parametrize("path", ["/api/v1/bg-rep/delete", "/api/v1/bg-remove/submit"])
def test_another_service_or_operation_does_not_exist(path):
    expected = "23500002" if "bg-rep" in path else "23500014"
    assert code_of(Caller().call(path, b"{}")) == expected


def test_a_body_that_is_too_large_is_refused_by_the_gateway():
    assert code_of(Caller().call(SUBMIT_PATH, b" " * 10**8)) == "I413RL"


@pytest.mark.parametrize("seconds", [-1, True, float("inf"), float("nan"), "60", None, 1e300])
def test_the_clock_is_advanced_by_seconds_only(seconds):
    core = Core()
    with pytest.raises(ValueError):
        core.advance(seconds)
    assert core.state.advanced == 0.0


def test_a_reset_restores_the_initial_settings():
    caller = Caller(polls=7)
    caller.job()
    caller.core.configure({"polls": 1, "rate": 5})
    caller.core.faults.inject("reset", "submit", 1, {})
    caller.core.reset()
    assert (caller.core.settings.polls, caller.core.settings.rate) == (7, None)
    assert (caller.core.state.jobs, list(caller.core.faults.every)) == ({}, [])
    assert caller.core.state.counters.requests == 0
