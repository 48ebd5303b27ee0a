# SPDX-License-Identifier: Apache-2.0
"""The emulator without its sockets: gateway, faults, service, counters and the state file.

Everything here runs on one event loop. The emulator fetches the images of a submit between its checks and its
acceptance, so it checks the credit again when it accepts the call.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from airflow_provider_bgrep.emulator import answers, jobs, service
from airflow_provider_bgrep.emulator.answers import Answer
from airflow_provider_bgrep.emulator.faults import (
    ANSWER_FAULTS,
    JOB_FAULTS,
    RESULT_FAULTS,
    Fault,
    Faults,
    strike,
)
from airflow_provider_bgrep.emulator.gateway import Call, Gateway
from airflow_provider_bgrep.emulator.images import Images
from airflow_provider_bgrep.emulator.render import Renderer
from airflow_provider_bgrep.emulator.service import RefusalError
from airflow_provider_bgrep.emulator.settings import APP_CODE_STATES, DEFAULT_APP_CODE, Settings
from airflow_provider_bgrep.emulator.state import State, StateFile
from airflow_provider_bgrep.protocol.limits import APPCODE_PREFIX, MAX_REQUEST_BYTES, QUERY_PATH, SUBMIT_PATH

_FURTHEST: Final = 10**9
"""Most seconds that the clock can be advanced by at once: about thirty years. Dates end in the year 9999."""

_SERVICE: Final = SUBMIT_PATH.rsplit("/", 2)[1]
_OPERATIONS: Final = {SUBMIT_PATH: "submit", QUERY_PATH: "query"}

ReadBody = Callable[[int], Awaitable[bytes | None]]
"""Reads a body up to a number of bytes: ``None`` if it is longer, ValueError if it cannot be read."""


class Core:
    """An emulator without a server: answers calls.

    :param app_code: the AppCode that it accepts.
    :param state_file: file that keeps its state over a restart; ``None`` keeps it in memory.
    :param settings: initial settings, which :meth:`reset` restores.
    """

    def __init__(
        self,
        app_code: str = DEFAULT_APP_CODE,
        state_file: Path | str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.app_code = app_code
        self.base = ""
        self.initial = settings or Settings()
        self.settings = self.initial
        self.faults = Faults()
        self.gateway = Gateway()
        self.images = Images()
        self.renderer = Renderer(self.images)
        self._file = StateFile(Path(state_file)) if state_file is not None else None
        self.state = self._file.open() if self._file else State()

    # -- control ---------------------------------------------------------------------------------

    def configure(self, changes: dict[str, Any]) -> Settings:
        """Change settings.

        :raises ValueError: for an unknown one, or a value that cannot be.
        """
        self.settings = self.settings.changed(changes)
        if "rate" in changes:
            self.gateway.tokens = max(1.0, self.settings.rate or 0.0)
            self.gateway.refilled = self.state.now()
        return self.settings

    def advance(self, seconds: float) -> float:
        """Advance the emulator's clock.

        :return: its time, in seconds since the epoch.
        :raises ValueError: for a step that is negative or not a number.
        """
        known = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not known or not 0 <= seconds <= _FURTHEST:
            raise ValueError(f"cannot advance the clock by {seconds!r}, expected 0 to {_FURTHEST} seconds")
        self.state.advanced += seconds
        self._write({"advanced": self.state.advanced})
        return self.state.now()

    def reset(self) -> None:
        """Delete jobs, counters, nonces, faults and changed settings, as after a start."""
        self.settings, self.gateway = self.initial, Gateway()
        self.faults.clear()
        self.state.clear()
        self._write({"clear": True})

    def close(self) -> None:
        """Close the state file and stop the renderer's threads."""
        self.renderer.close()
        if self._file:
            self._file.close()

    # -- the API ---------------------------------------------------------------------------------

    async def api(self, call: Call, read: ReadBody, *, new_connection: bool) -> Answer:
        """Answer a call of the API. The call is counted and written to the state file before this returns.

        :param call: the head of the request.
        :param read: reads the body.
        :param new_connection: whether it is the first call on its TCP connection.
        """
        counters, now = self.state.counters, self.state.now()
        add = {"requests": 1, "connections": 1} if new_connection else {"requests": 1}
        counters.requests += 1
        counters.connections += new_connection
        record: dict[str, Any] = {"add": add}
        answer = await self._answer(call, read, now, record)
        if answer.refused:
            counters.refused += 1
            add["refused"] = 1
        nonce = call.headers.get("X-Ca-Nonce")
        if nonce and self._file and nonce in self.state.nonces:
            record["nonces"] = [[nonce, now]]
        self._write(record)
        return answer

    async def _answer(self, call: Call, read: ReadBody, now: float, record: dict[str, Any]) -> Answer:
        texts = self.settings.gateway == "texts"
        if self.settings.gateway != "none":
            codes = {self.app_code: "active", **self.settings.app_codes}
            refusal = self.gateway.refuse_request(call, self.state, self.settings, codes, now)
            if refusal:
                return answers.gateway_error(*refusal, texts=texts)
        try:
            body = await read(MAX_REQUEST_BYTES)
        except ValueError as error:
            return answers.gateway_error("I400BD", str(error), texts=texts)
        except ConnectionError:
            # The client aborted the request: it is counted, and has no answer.
            return Answer(delivery="reset")
        if body is None:
            return answers.gateway_error("I413RL", f"over {MAX_REQUEST_BYTES} bytes", texts=texts)
        if self.settings.gateway != "none":
            refusal = self.gateway.refuse_account(self.state, self.settings, now)
            refusal = refusal or self.gateway.refuse_backend(self.settings, now)
            if refusal:
                return answers.gateway_error(*refusal, texts=texts)
        self.state.counters.calls += 1
        record["add"]["calls"] = 1
        operation = _OPERATIONS.get(call.path, "")
        fault = self.faults.take(ANSWER_FAULTS, operation) if operation else None
        if fault is None:
            return await self._behind_gateway(call, body, now, record, texts)
        return await self._struck(fault, call, body, now, record)

    async def _struck(
        self, fault: Fault, call: Call, body: bytes, now: float, record: dict[str, Any]
    ) -> Answer:
        if not fault.accepted:
            return strike(fault, None)
        regular = await self._serve(call, body, now, record)
        if regular.refused:
            self.faults.give_back(fault)
            return regular
        # The call was accepted and counted, whatever the answer says.
        answer = strike(fault, regular)
        answer.refused = False
        if answer.headers.get("X-Ca-Error-Code") == "D504TO":
            self.gateway.timed_out(self.settings, now)
        return answer

    async def _behind_gateway(
        self, call: Call, body: bytes, now: float, record: dict[str, Any], texts: bool
    ) -> Answer:
        """Return the service's answer, unless the gateway loses it."""
        settings = self.settings
        if settings.backend_seconds:
            timeout = settings.backend_timeout if settings.gateway != "none" else None
            if timeout is not None and settings.backend_seconds > timeout:
                # The service continues without the gateway and accepts the job.
                answer = await self._serve(call, body, now, record)
                await asyncio.sleep(timeout)
                self.gateway.timed_out(settings, self.state.now())
                return self._lost("D504TO", f"no answer within {timeout:g} s", answer, texts)
            await asyncio.sleep(settings.backend_seconds)
        answer = await self._serve(call, body, now, record)
        if settings.backend == "drops" and settings.gateway != "none":
            return self._lost("N502RE", "the service broke the connection", answer, texts)
        return answer

    def _lost(self, code: str, why: str, answer: Answer, texts: bool) -> Answer:
        lost = answers.gateway_error(code, why, texts=texts)
        lost.refused = answer.refused
        return lost

    async def _serve(self, call: Call, body: bytes, now: float, record: dict[str, Any]) -> Answer:
        try:
            self._check_service(call)
            if call.path == SUBMIT_PATH:
                return await self._submit(call, body, record)
            return self._query(call, body, now, record)
        except RefusalError as refusal:
            return answers.service_error(refusal.code, refusal.detail)

    def _check_service(self, call: Call) -> None:
        if self.settings.gateway == "none":
            value = call.headers.get("Authorization") or ""
            call.app_code = value.removeprefix(APPCODE_PREFIX)
            if not value.startswith(APPCODE_PREFIX):
                raise RefusalError("23500001", "Authorization is missing or has no AppCode")
        codes = {self.app_code: "active", **self.settings.app_codes}
        state = codes.get(call.app_code, "unknown to the service")
        if APP_CODE_STATES[state]:
            raise RefusalError("23500001", f"the AppCode is {state}")
        if call.path not in _OPERATIONS:
            name = call.path.rsplit("/", 2)[-2]
            if name != _SERVICE:
                raise RefusalError("23500014", f"service {name}, only {_SERVICE} is served")
            raise RefusalError("23500002", f"no such operation: {call.path}")
        if call.method != "POST":
            raise RefusalError("23500002", f"{call.method} is not an operation")

    async def _submit(self, call: Call, body: bytes, record: dict[str, Any]) -> Answer:
        tasks = service.task_list(body)
        self._check_capacity(tasks)
        if self.settings.fetch:
            await self.images.check(tasks)
            self._check_capacity(tasks)
        now = self.state.now()
        job = jobs.plan(tasks, call.app_code, now, self.settings, self.faults.take_all(JOB_FAULTS, "submit"))
        self.state.jobs[job.key] = job
        add = {"submits": 1, "image_tasks": len(tasks), "images": sum(task["num_output"] for task in tasks)}
        for name, more in add.items():
            setattr(self.state.counters, name, getattr(self.state.counters, name) + more)
        record["add"].update(add)
        if self._file:
            record["jobs"] = [job.as_dict()]
        return answers.success(jobs.submitted(job))

    def _check_capacity(self, tasks: list[dict[str, Any]]) -> None:
        settings, now = self.settings, self.state.now()
        if settings.busy_jobs is not None:
            busy = sum(not job.finished(now) for job in self.state.jobs.values())
            if busy >= settings.busy_jobs:
                raise RefusalError(
                    "23500004", f"{busy} jobs are unfinished, busy_jobs is {settings.busy_jobs}"
                )
        if settings.quota_images is not None:
            left = settings.quota_images - self.state.counters.images
            wanted = sum(task["num_output"] for task in tasks)
            if wanted > left:
                raise RefusalError("23500003", f"{wanted} images asked for, {max(0, left)} left")

    def _query(self, call: Call, body: bytes, now: float, record: dict[str, Any]) -> Answer:
        key = service.result_key(body)
        job = self.state.jobs.get(key)
        life = self.settings.job_seconds
        if job is None or job.app_code != call.app_code or (life is not None and now > job.created + life):
            raise RefusalError("23500008", f"no job {key}")
        if job.unknown_answers:
            job.unknown_answers -= 1
            raise RefusalError("23500008", f"no job {key} yet")
        data = jobs.queried(job, now, self.base, self.state.secret, self.settings.result_seconds)
        job.polls += 1
        self.state.counters.queries += 1
        record["add"]["queries"] = 1
        record["poll"] = key
        return answers.success(data)

    # -- results ---------------------------------------------------------------------------------

    async def result(self, name: str, query: str, *, authorized: bool) -> Answer:
        """Answer the download of a result image.

        :param name: the path after the prefix of results.
        :param query: the query string, with expiry and signature.
        :param authorized: whether the request carried an Authorization header.
        """
        now = self.state.now()
        refusal = self._refuse_result(name, query, authorized, now)
        if refusal:
            return refusal
        fault = self.faults.take({**ANSWER_FAULTS, **RESULT_FAULTS}, "result", now)
        if fault and fault.name == "refused":
            return answers.storage_error(int(fault.params["status"]), "AccessDenied", "Refused.", now)
        if fault and fault.name == "expired":
            return answers.storage_error(403, "AccessDenied", "Request has expired.", now, now - 1)
        if fault and fault.name not in ("oversized", "truncated"):
            return strike(fault, None)
        key, _, rest = name.partition("/")
        index, _, number = rest.removesuffix(".png").partition("-")
        task = self.state.jobs[key].tasks[int(index)]
        image = await self.renderer.image(
            task.echo, int(number), seed=f"{key}/{index}", backgrounds=self.settings.backgrounds
        )
        if int(number) in task.undecodable:
            image = image[: len(image) // 2]
        answer = Answer(200, image, {"Content-Type": "image/png", "Server": "AliyunOSS"})
        if fault and fault.name == "oversized":
            # Readers ignore bytes after the end of a PNG: only the size is wrong.
            answer.body += b"\0" * max(0, int(fault.params["bytes"]) + 1 - len(answer.body))
        elif fault:
            return strike(fault, answer)
        self.state.counters.results += 1
        self._write({"add": {"results": 1}})
        return answer

    def _refuse_result(self, name: str, query: str, authorized: bool, now: float) -> Answer | None:
        if authorized:
            # Storage accepts one signature only, and this header leaks the AppCode to it.
            self.state.counters.leaks += 1
            self._write({"add": {"leaks": 1}})
            return answers.storage_error(400, "InvalidArgument", "Only one auth mechanism allowed.", now)
        given = parse_qs(query)
        expires, signature = given.get("Expires", [""])[0], given.get("Signature", [""])[0]
        if not (expires.isascii() and expires.isdigit()):
            return answers.storage_error(403, "AccessDenied", "You have no right to access this object.", now)
        wanted = jobs.signature(name, int(expires), self.state.secret)
        if not hmac.compare_digest(wanted.encode(), signature.encode()):
            return answers.storage_error(403, "SignatureDoesNotMatch", "The signature does not match.", now)
        if now > int(expires):
            return answers.storage_error(403, "AccessDenied", "Request has expired.", now, int(expires))
        if name.partition("/")[0] not in self.state.jobs:
            return answers.storage_error(404, "NoSuchKey", "The specified key does not exist.", now)
        return None

    def _write(self, record: dict[str, Any]) -> None:
        if self._file:
            self._file.write(record)
