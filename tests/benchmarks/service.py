# SPDX-License-Identifier: Apache-2.0
"""The server of the polls benchmark: a process that answers over HTTP and counts requests.

It implements three small APIs, so that every subject runs its own code: the API's query,
databricks' ``runs/get``, and a plain page that is 404 until the job is finished (what
``HttpSensorTrigger`` waits for). All answers are of one size, and a job's time is drawn from one
log-normal distribution, by seed and number: the jobs of all subjects are the same.

Prints its port, then serves until its standard input closes.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import web

ANSWER_BYTES = 640
"""Size of every response body; one image task with its echoed fields takes a little less."""

APP_CODE = "0123456789abcdef0123456789abcdef"
SIGMA = 1.0
"""Spread of the log-normal job times: most near the median, a few many times as long."""


@dataclass
class Counts:
    """Counters since the service started.

    :param polls: requests for the state of a job.
    :param finished: answers that said "finished".
    :param connections: TCP connections accepted.
    :param refused: requests that the API would refuse: without AppCode, or with a used nonce.
    """

    polls: int = 0
    finished: int = 0
    connections: int = 0
    refused: int = 0


@dataclass
class Service:
    """State of the service; :meth:`reset` starts the turn of another subject."""

    counts: Counts = field(default_factory=Counts)
    seed: str = ""
    median: float = 60.0
    ends: dict[int, float] = field(default_factory=dict)
    nonces: set[str] = field(default_factory=set)

    def is_finished(self, number: int) -> bool:
        """Return whether a job is finished; its time starts with the first request for it."""
        now = time.monotonic()
        end = self.ends.get(number)
        if end is None:
            drawn = random.Random(f"{self.seed}/{number}").lognormvariate(math.log(self.median), SIGMA)  # noqa: S311
            end = self.ends[number] = now + drawn
        self.counts.polls += 1
        self.counts.finished += end <= now
        return end <= now

    async def query(self, request: web.Request) -> web.Response:
        """The API's query."""
        nonce = request.headers.get("X-Ca-Nonce", "")
        if request.headers.get("Authorization") != f"APPCODE {APP_CODE}" or nonce in self.nonces or not nonce:
            self.counts.refused += 1
            return web.Response(status=401, headers={"X-Ca-Error-Code": "A401AC"})
        self.nonces.add(nonce)
        key = (await request.json())["data"]["result_key"]
        status = "SUCCESS" if self.is_finished(int(key, 16)) else "RUNNING"
        task = {
            "image": "https://images.example.com/products/bottle-0042.png",
            "mask": "https://images.example.com/products/bottle-0042-mask.png",
            "positive_prompt": "a marble table by a window, morning light, soft shadows",
            "negative_prompt": "people, text",
            "guidance_scale": 7.5,
            "strength": 0.5,
            "seed": 0,
            "steps": 50,
            "num_output": 1,
            "status": status,
            "results": ["https://results.example.com/1.png"] if status == "SUCCESS" else [],
            "message": "",
        }
        return answer(
            {
                "success": True,
                "code": 0,
                "message": "success",
                "requestId": key,
                "severity": "info",
                "data": {"result_key": key, "task_list": [task]},
            }
        )

    async def databricks(self, request: web.Request) -> web.Response:
        """Databricks' ``GET jobs/runs/get``, with its arguments in a JSON body as its hook sends them."""
        number = int((await request.json())["run_id"])
        state = {"life_cycle_state": "RUNNING", "state_message": "In run"}
        if self.is_finished(number):
            state = {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS", "state_message": ""}
        return answer({"job_id": 1, "run_id": number, "number_in_job": number, "state": state})

    async def page(self, request: web.Request) -> web.Response:
        """A page that is there once the job is finished."""
        is_finished = self.is_finished(int(request.match_info["number"]))
        return answer({"state": "finished" if is_finished else "running"}, 200 if is_finished else 404)

    async def reset(self, request: web.Request) -> web.Response:
        """Start the turn of another subject."""
        asked = await request.json()
        self.seed, self.median = asked["seed"], asked["median"]
        self.ends.clear()
        self.nonces.clear()
        return web.json_response({})

    async def stats(self, request: web.Request) -> web.Response:
        """Return the counters."""
        return web.json_response(asdict(self.counts))


def answer(payload: dict[str, Any], status: int = 200) -> web.Response:
    """Return a JSON response of the fixed size, with a header of the gateway."""
    body = json.dumps(payload)
    filler = ANSWER_BYTES - len(body) - len(', "filler": ""')
    body = f'{body[:-1]}, "filler": "{"x" * filler}"}}'
    return web.Response(
        status=status,
        body=body.encode(),
        content_type="application/json",
        headers={"X-Ca-Request-Id": "8F2D7C1A-5B3E-4A6F-9C0D-1E2F3A4B5C6D"},
    )


async def serve() -> None:
    """Serve on a free port of loopback until standard input closes."""
    service = Service()
    app = web.Application()
    app.router.add_post("/api/v1/bg-rep/query", service.query)
    app.router.add_get("/api/2.2/jobs/runs/get", service.databricks)
    app.router.add_get("/pages/{number}", service.page)
    app.router.add_post("/benchmark/reset", service.reset)
    app.router.add_get("/benchmark/stats", service.stats)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=120)
    await runner.setup()
    handlers = runner.server
    assert handlers is not None

    def connected() -> asyncio.Protocol:
        service.counts.connections += 1
        return handlers()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(connected, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
