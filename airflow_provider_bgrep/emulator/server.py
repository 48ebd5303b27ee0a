# SPDX-License-Identifier: Apache-2.0
"""The HTTP server of the emulator: aiohttp's low-level server, without routing or middleware."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import struct
import sys
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from airflow_provider_bgrep.emulator import answers, control, page, samples
from airflow_provider_bgrep.emulator.answers import Answer
from airflow_provider_bgrep.emulator.control import CONTROL_PREFIX
from airflow_provider_bgrep.emulator.core import Core
from airflow_provider_bgrep.emulator.gateway import Call
from airflow_provider_bgrep.emulator.jobs import RESULTS_PREFIX
from airflow_provider_bgrep.emulator.samples import SAMPLES_PREFIX

_LONGEST_LINE: Final = 64 * 1024
"""Longest line that aiohttp reads: longer than the gateway allows, so that the gateway refuses it."""

_SHUTDOWN_SECONDS: Final = 0.2

log = logging.getLogger(__name__)


class Server:
    """Serves a core on a loopback address.

    :param core: the emulator that answers.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._web = web.Server(
            self._handle, access_log=None, max_line_size=_LONGEST_LINE, max_field_size=_LONGEST_LINE
        )
        self._sockets: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> str:
        """Start listening.

        :return: the URL.
        """
        self._sockets = await asyncio.get_running_loop().create_server(self._web, host, port, backlog=1024)
        bound = self._sockets.sockets[0].getsockname()
        self._core.base = (
            f"http://[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"http://{bound[0]}:{bound[1]}"
        )
        return self._core.base

    async def stop(self) -> None:
        """Stop listening and abort pending requests."""
        if self._sockets is not None:
            self._sockets.close()
            # Close the client connections first: they may lead to this server, which would wait for them.
            await self._core.images.close()
            await self._web.shutdown(_SHUTDOWN_SECONDS)
        self._core.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            answer = await self._route(request)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            # An error of the emulator itself: answer like the service, and log the reason.
            log.exception("the emulator failed at %s %s", request.method, request.path)
            answer = answers.service_error("23500000", "the emulator failed; see its log")
        try:
            return await _deliver(request, answer)
        except ConnectionError:
            return web.Response()  # the client has disconnected

    async def _route(self, request: web.BaseRequest) -> Answer:
        path = request.path
        if path.startswith(CONTROL_PREFIX):
            return await self._control(request, path.removeprefix(CONTROL_PREFIX))
        if path.startswith(SAMPLES_PREFIX):
            return await _sample(request, path.removeprefix(SAMPLES_PREFIX))
        if path.startswith(RESULTS_PREFIX):
            name = path.removeprefix(RESULTS_PREFIX)
            authorized = "Authorization" in request.headers
            return await self._core.result(name, request.rel_url.raw_query_string, authorized=authorized)
        if path == "/" and request.method in ("GET", "HEAD"):
            return Answer(200, page.index(self._core).encode(), {"Content-Type": answers.HTML})
        call = Call(
            request.method,
            request.raw_path,
            path,
            request.headers,
            request.raw_headers,
            request.remote or "127.0.0.1",
        )
        return await self._core.api(call, _Body(request).read, new_connection=_is_new(request))

    async def _control(self, request: web.BaseRequest, path: str) -> Answer:
        try:
            payload = json.loads(await request.read() or b"{}")
            if not isinstance(payload, dict):
                return answers.as_json({"error": "the body must be a JSON object"}, 400)
            return answers.as_json(control.handle(self._core, request.method, path, payload))
        except LookupError as error:
            return answers.as_json({"error": f"not found: {error}"}, 404)
        except (ValueError, TypeError) as error:
            return answers.as_json({"error": str(error)}, 400)


class _Body:
    """Reads the body of a request up to a limit."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request

    async def read(self, limit: int) -> bytes | None:
        if self._request.headers.get("Expect", "").lower() == "100-continue":
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        content = self._request.content
        chunks, size = [], 0
        try:
            while chunk := await content.readany():
                size += len(chunk)
                if size > limit:
                    return None
                chunks.append(chunk)
        except web.RequestPayloadError as error:
            raise ValueError(str(error)) from error
        return b"".join(chunks)


def _is_new(request: web.BaseRequest) -> bool:
    """Return whether this is the first API request on its connection."""
    transport: Any = request.transport
    if transport is None or transport.get_extra_info("bgrep_seen"):
        return False
    transport._extra["bgrep_seen"] = True  # the only dictionary of a transport
    return True


async def _sample(request: web.BaseRequest, name: str) -> Answer:
    try:
        body, media_type = await asyncio.to_thread(samples.drawn, unquote(name))
    except KeyError:
        return answers.as_json({"error": f"unknown sample {name}"}, 404)
    return Answer(200, body, {"Content-Type": media_type})


async def _deliver(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    if answer.wait:
        await asyncio.sleep(answer.wait)
    if answer.delivery == "reset":
        _reset(request)
        return web.Response()
    if answer.delivery == "cut":
        return await _cut(request, answer)
    return web.Response(body=answer.body, status=answer.status, headers=answer.headers)


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is None:
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        # With a linger time of 0, the kernel sends RST instead of FIN.
        form = "hh" if sys.platform == "win32" else "ii"
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(form, 1, 0))
    transport.abort()


async def _cut(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: answer.sent])
    if request.transport is not None:
        request.transport.close()
    return response
