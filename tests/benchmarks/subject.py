# SPDX-License-Identifier: Apache-2.0
"""Runs a subject of the polls benchmark: 1,000 waiting jobs in one event loop, as in a triggerer.

``polls.py`` starts it in a process of its own, with a plan in JSON. After it has settled, it prints a line of
JSON at the start and at the end of two windows. In the first, nothing else runs and its CPU time is measured;
in the second, a probe measures how late the loop wakes it.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

CONN_ID = "benchmark"
PROBE_SECONDS = 0.005
CONNECTIONS = 32
"""Connections of the limit: as many as ours."""


@dataclass(frozen=True)
class Plan:
    """What to run, and for how long.

    :param subject: a name of :data:`SUBJECTS`.
    :param port: the service's.
    :param app_code: the AppCode that it knows.
    :param jobs: how many jobs to wait for.
    :param interval: seconds between two polls of one job.
    :param settle: seconds from the start until the first window.
    :param cpu_window: seconds of the first window.
    :param lag_window: seconds of the second.
    """

    subject: str
    port: int
    app_code: str
    jobs: int
    interval: float
    settle: float
    cpu_window: float
    lag_window: float


def key_of(number: int) -> str:
    """Return a result key of 32 hexadecimal digits, like the API's."""
    return f"{number:032x}"


# --- the subjects -------------------------------------------------------------------------------


async def consume(trigger: Any, delay: float = 0.0) -> None:
    """Run a trigger to its event, as the triggerer does."""
    await asyncio.sleep(delay)
    async for _ in trigger.run():
        pass


def spread(plan: Plan, number: int) -> float:
    """Return the delay of a job's waiter: spread over the first interval, as jobs arrive over time."""
    return plan.interval * number / plan.jobs


def ours(plan: Plan) -> list[Coroutine[Any, Any, None]]:
    """Return one trigger for all jobs, which spreads the polls itself."""
    from airflow_provider_bgrep.triggers.bgrep import BgRepTrigger

    return [
        consume(
            BgRepTrigger(
                result_keys=[key_of(number) for number in range(plan.jobs)],
                bgrep_conn_id=CONN_ID,
                poll_interval=plan.interval,
                end_time=time.time() + 3600,
            )
        )
    ]


def ours_many(plan: Plan) -> list[Coroutine[Any, Any, None]]:
    """Return a trigger for each job."""
    from airflow_provider_bgrep.triggers.bgrep import BgRepTrigger

    return [
        consume(
            BgRepTrigger(
                result_keys=[key_of(number)],
                bgrep_conn_id=CONN_ID,
                poll_interval=plan.interval,
                end_time=time.time() + 3600,
            ),
            spread(plan, number),
        )
        for number in range(plan.jobs)
    ]


def databricks(plan: Plan) -> list[Coroutine[Any, Any, None]]:
    """Return a trigger of Databricks for each run; it supports only one."""
    from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger

    return [
        consume(
            DatabricksExecutionTrigger(
                run_id=number,
                databricks_conn_id=CONN_ID,
                polling_period_seconds=plan.interval,  # type: ignore[arg-type]
            ),
            spread(plan, number),
        )
        for number in range(plan.jobs)
    ]


def http_sensor(plan: Plan) -> list[Coroutine[Any, Any, None]]:
    """Return a trigger of the HTTP provider for each page."""
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    return [
        consume(
            HttpSensorTrigger(
                endpoint=f"pages/{number}",
                http_conn_id=CONN_ID,
                method="GET",
                poke_interval=plan.interval,
            ),
            spread(plan, number),
        )
        for number in range(plan.jobs)
    ]


def limit(plan: Plan) -> list[Coroutine[Any, Any, None]]:
    """Return the lower limit: polling with one aiohttp session and nothing else.

    For each poll it does what the API requires and no more: a POST with the four headers and a new nonce; it
    decodes the JSON and reads the statuses. It is tuned: no cookies, no redirects, URL and bodies built in
    advance, at most as many connections as ours, and a semaphore that is cheaper than the connector's queue.
    """
    import aiohttp
    from yarl import URL

    url = URL(f"http://127.0.0.1:{plan.port}/api/v1/bg-rep/query")
    authorization = f"APPCODE {plan.app_code}"
    finished = {"SUCCESS", "FAILED"}
    turns = asyncio.Semaphore(CONNECTIONS)

    async def wait(session: aiohttp.ClientSession, number: int) -> None:
        body = json.dumps({"data": {"result_key": key_of(number)}}).encode()
        await asyncio.sleep(spread(plan, number))
        while True:
            headers = {
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Authorization": authorization,
                "X-Ca-Nonce": secrets.token_hex(16),
            }
            await turns.acquire()
            try:
                async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                    payload = json.loads(await response.read())
            finally:
                turns.release()
            if all(task["status"] in finished for task in payload["data"]["task_list"]):
                return
            # With the same jitter as ours: polls that coincide share a turn of the loop and cost less.
            await asyncio.sleep(plan.interval * (0.9 + 0.2 * random.random()))  # noqa: S311

    async def run() -> None:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=75)
        async with aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=60)
        ) as session:
            await asyncio.gather(*(wait(session, number) for number in range(plan.jobs)))

    return [run()]


SUBJECTS: dict[str, Callable[[Plan], list[Coroutine[Any, Any, None]]]] = {
    "limit": limit,
    "ours": ours,
    "ours-many": ours_many,
    "databricks": databricks,
    "http-sensor": http_sensor,
}


# --- measuring ------------------------------------------------------------------------------------


class Lines(io.RawIOBase):
    """The target of the log: writes and counts each line, as a log file would receive it."""

    def __init__(self) -> None:
        self.count = 0
        self.last = ""
        self._out = os.open(os.devnull, os.O_WRONLY)

    def writable(self) -> bool:
        """Return true."""
        return True

    def write(self, data: Any) -> int:
        """Write one or more lines."""
        self.count += bytes(data).count(b"\n")
        self.last = bytes(data).decode(errors="replace")
        return os.write(self._out, data)


def log_to(lines: Lines) -> None:
    """Log as a triggerer does: JSON, from structlog and the standard library."""
    from airflow.sdk.log import configure_logging

    configure_logging(json_output=True, output=lines, sending_to_supervisor=True)  # type: ignore[arg-type]


async def lags(seconds: float) -> list[float]:
    """Return how late the loop wakes a sleeping coroutine, in seconds, for each sample."""
    loop = asyncio.get_running_loop()
    out: list[float] = []
    end = loop.time() + seconds
    while (began := loop.time()) < end:
        await asyncio.sleep(PROBE_SECONDS)
        out.append(loop.time() - began - PROBE_SECONDS)
    return out


async def measure(plan: Plan, waiters: list[Coroutine[Any, Any, None]], lines: Lines) -> None:
    """Run the waiters and print the figures of both windows."""

    def report(event: str, **more: Any) -> None:
        line = {"event": event, "cpu": time.process_time(), "lines": lines.count, **more}
        print(json.dumps(line), flush=True)

    async def window(work: Awaitable[Any], name: str) -> Any:
        report(f"{name} begins")
        result = await work
        report(f"{name} ends", **({"lags": result} if result else {}))
        return result

    tasks = [asyncio.ensure_future(waiter) for waiter in waiters]
    await asyncio.sleep(plan.settle)
    await window(asyncio.sleep(plan.cpu_window), "cpu")
    await window(lags(plan.lag_window), "lag")
    broken = [task.exception() for task in tasks if task.done() and task.exception()]
    finished = sum(task.done() for task in tasks) - len(broken)
    report(
        "done", broken=len(broken), error=repr(broken[0]) if broken else "", fired=finished, last=lines.last
    )
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """Run the subject that the command line names."""
    plan = Plan(**json.loads(sys.argv[1]))
    lines = Lines()

    async def run() -> None:
        if plan.subject != "limit":
            log_to(lines)
        waiters = SUBJECTS[plan.subject](plan)
        await measure(plan, waiters, lines)

    asyncio.run(run())


if __name__ == "__main__":
    main()
