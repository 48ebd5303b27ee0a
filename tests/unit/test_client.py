# SPDX-License-Identifier: Apache-2.0
"""The two drivers of flows, and the rate that all callers of one API share.

``tests/contract/test_faults.py`` compares both drivers with every fault over real connections.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import pytest
import requests

from airflow_provider_bgrep import client
from airflow_provider_bgrep.client import AsyncClient, Rate, drive, new_nonce, new_runtime, without_waiting
from airflow_provider_bgrep.connection import Settings
from airflow_provider_bgrep.protocol.codes import Operation, by_status
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.protocol.flows import NoAnswer, Reply, Send, Sleep, Step
from airflow_provider_bgrep.protocol.limits import MAX_RESPONSE_BYTES
from airflow_provider_bgrep.protocol.models import Job, TaskResult
from airflow_provider_bgrep.protocol.wire import NONCE_HEADER, Response
from airflow_provider_bgrep.request_counter import RequestCounter

SECRET = "canary0app0code"
SETTINGS = Settings(base_url="http://127.0.0.1:9", app_code=SECRET)
SEND = Send(Operation.QUERY, b"body", "nonce")


def answer(status: int = 200, body: bytes = b"{}") -> requests.Response:
    response = requests.Response()
    response.status_code, response.raw = status, io.BytesIO(body)
    response.headers["X-Own"] = "1"
    return response


def replies_to(*steps: Step, then: Any = None) -> Generator[Step, Reply, list[Reply]]:
    """A flow of these steps, which returns the replies."""
    replies = []
    for step in steps:
        replies.append((yield step))
    if then is not None:
        raise then
    return replies


# --- the runtime --------------------------------------------------------------------------------------


def test_nonces_are_new_each_time():
    nonces = {new_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert all(len(nonce) == 32 and int(nonce, 16) >= 0 for nonce in nonces)


def test_each_attempt_is_reported_with_its_nonce():
    events: list[str] = []

    def flow() -> Any:
        for nonce in ("one", "two"):
            yield replace(SEND, nonce=nonce)
            if nonce == "one":
                yield Sleep(0.0, failing())

    drive(
        flow(),
        SETTINGS,
        lambda path, body, headers: events.append(headers["X-Ca-Nonce"]) or answer(),  # type: ignore[func-returns-value]
        before_send=lambda nonce: events.append(f"before {nonce}"),
        after_refusal=lambda error: events.append(error.message),
    )
    assert events == ["before one", "one", "bad ***", "before two", "two"]


def test_an_attempt_that_cannot_be_reported_is_not_made():
    def refuse(nonce: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        drive(replies_to(SEND), SETTINGS, lambda *_: pytest.fail("it was sent"), before_send=refuse)


def test_the_runtime_has_the_wall_clock_and_fractions():
    runtime = new_runtime()
    assert runtime.now() == pytest.approx(time.time(), abs=60)
    assert all(0 <= runtime.rand() < 1 for _ in range(100))


def test_inside_the_context_nothing_waits():
    with without_waiting():
        client.sleep(3600)
        asyncio.run(client.pause(3600, asyncio.Event()))


def test_a_pause_ends_with_its_event():
    async def wait() -> None:
        event = asyncio.Event()
        event.set()
        await client.pause(3600, event)

    asyncio.run(wait())


# --- the rate -----------------------------------------------------------------------------------------


def test_callers_of_one_api_share_its_rate():
    def of(url: str, rate: float | None) -> Rate | None:
        return Rate.of(Settings(base_url=url, app_code=new_nonce(), max_requests_per_second=rate))

    assert of("https://rate.example", None) is None
    assert of("https://rate.example", 5.0) is of("https://rate.example", 5.0)
    assert of("https://rate.example", 5.0) is not of("https://other.example", 5.0)
    assert of("https://rate.example", 5.0) is not of("https://rate.example", 6.0)


def test_requests_are_a_fraction_of_a_second_apart():
    rate = Rate(0.001)
    waits = [rate.reserve() for _ in range(4)]
    assert waits == pytest.approx([0, 1000, 2000, 3000], abs=60)


# --- the synchronous driver ---------------------------------------------------------------------------


def test_a_flow_is_sent_what_was_answered_and_returns_its_value():
    sent, slept = [], []

    def post(path: str, body: bytes, headers: dict[str, str]) -> requests.Response:
        sent.append((path, body, headers[NONCE_HEADER], headers["Authorization"]))
        return answer(503, b"busy")

    flow = replies_to(SEND, Sleep(2.5), Send(Operation.SUBMIT, b"other", "second"))
    first, between, second = drive(flow, SETTINGS, post, slept.append)
    assert isinstance(first, Response)
    assert (first.status, first.body, first.headers.get("x-own")) == (503, b"busy", "1")
    assert between is None
    assert second == first
    assert slept == [2.5]
    assert sent == [
        (SETTINGS.paths[Operation.QUERY], b"body", "nonce", f"APPCODE {SECRET}"),
        (SETTINGS.paths[Operation.SUBMIT], b"other", "second", f"APPCODE {SECRET}"),
    ]


@pytest.mark.parametrize(
    ("error", "is_sent"),
    [
        (requests.exceptions.ConnectionError("reset"), True),
        (requests.exceptions.ReadTimeout("slow"), True),
        (requests.exceptions.InvalidURL("no host"), False),
        (requests.exceptions.MissingSchema("no scheme"), False),
        (ConnectionResetError(104, "reset"), True),
        (UnicodeError("label too long"), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_library_error_is_an_attempt_without_an_answer(error, is_sent):
    def post(*_: Any) -> requests.Response:
        raise error

    (reply,) = drive(replies_to(SEND), SETTINGS, post)
    assert isinstance(reply, NoAnswer)
    assert reply.sent is is_sent
    assert type(error).__name__ in reply.reason


def test_an_answer_that_is_too_large_is_no_answer():
    (reply,) = drive(replies_to(SEND), SETTINGS, lambda *_: answer(body=b"x" * (MAX_RESPONSE_BYTES + 1)))
    assert isinstance(reply, NoAnswer)
    assert reply.sent


def test_after_any_other_error_the_request_may_have_arrived():
    def post(*_: Any) -> requests.Response:
        raise ZeroDivisionError

    (reply,) = drive(replies_to(SEND), SETTINGS, post)
    assert isinstance(reply, NoAnswer)
    assert reply.sent


def failing() -> CallError:
    return CallError(Operation.QUERY, by_status(500), message=f"bad {SECRET}", request_id=f"r-{SECRET}")


def test_the_appcode_is_removed_from_the_flows_error():
    with pytest.raises(CallError) as caught:
        drive(replies_to(then=failing()), SETTINGS, lambda *_: answer())
    assert SECRET not in f"{caught.value} {caught.value.message} {caught.value.request_id}"


def test_the_appcode_is_removed_from_the_flows_job():
    def flow() -> Any:
        yield SEND
        return Job("k", (TaskResult(0, "FAILED", message=f"bad {SECRET}"),), SECRET)

    job = drive(flow(), SETTINGS, lambda *_: answer())
    assert (job.tasks[0].message, job.request_id) == ("bad ***", "***")


def test_a_rate_is_waited_for_before_each_request():
    settings = Settings(base_url=f"http://{new_nonce()}", app_code=SECRET, max_requests_per_second=0.001)
    slept: list[float] = []
    drive(replies_to(SEND, SEND, SEND), settings, lambda *_: answer(), slept.append)
    assert slept == pytest.approx([1000, 2000], abs=60)


# --- the asynchronous driver --------------------------------------------------------------------------


class Server:
    """A web server that keeps the requests that it gets, by connection."""

    def __init__(self) -> None:
        self.connections: list[list[tuple[str, bytes]]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append([])
        requests_here = self.connections[-1]
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().lower().split("\r\n")
                headers = dict(line.split(": ", 1) for line in lines[1:] if line)
                body = await reader.readexactly(int(headers["content-length"]))
                requests_here.append((headers[NONCE_HEADER.lower()], body))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def with_server(work: Callable[[AsyncClient], Any]) -> tuple[Any, Server]:
    """Run a coroutine with a client of a server."""

    async def run() -> Any:
        server = Server()
        listening = await asyncio.start_server(server, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        settings = Settings(base_url=f"http://127.0.0.1:{port}", app_code=SECRET)
        async with AsyncClient(settings) as one:
            found = await work(one)
        listening.close()
        return found, server

    return asyncio.run(run())


def test_queries_share_a_connection_and_each_submit_has_its_own():
    steps = [
        Send(operation, f"{operation.value}{i}".encode(), f"{operation.value}{i}")
        for operation in (Operation.QUERY, Operation.SUBMIT)
        for i in range(3)
    ]
    counter = RequestCounter()
    replies, server = with_server(lambda one: one.drive(replies_to(*steps), counter))
    assert [(reply.status, reply.body) for reply in replies] == [(200, b"{}")] * 6
    assert sorted(map(len, server.connections)) == [1, 1, 1, 3]
    found = [pair for connection in server.connections for pair in connection]
    assert found == [(step.nonce.lower(), step.body) for step in steps]
    assert set(counter.counts.values()) == {3}


def test_a_body_given_before_an_attempt_replaces_the_flows():
    nonces = []

    async def before_send(nonce: str) -> bytes | None:
        nonces.append(nonce)
        return b"signed" if nonce == "first" else None

    flow = replies_to(Send(Operation.SUBMIT, b"a", "first"), Send(Operation.SUBMIT, b"b", "second"))
    _, server = with_server(lambda one: one.drive(flow, before_send=before_send))
    assert nonces == ["first", "second"]
    assert sorted(server.connections) == [[("first", b"signed")], [("second", b"b")]]


def test_an_error_before_an_attempt_sends_nothing():
    async def before_send(nonce: str) -> bytes | None:
        raise OSError("the journal cannot be written")

    counter = RequestCounter()

    async def work(one: AsyncClient) -> None:
        with pytest.raises(OSError, match="journal"):
            await one.drive(replies_to(SEND), counter, before_send=before_send)

    _, server = with_server(work)
    assert server.connections == []
    assert counter.queries == 0


def test_the_callers_wait_gets_the_error_without_the_appcode():
    waits = []

    async def wait(seconds: float, error: CallError | None) -> None:
        waits.append((seconds, error and error.message))

    steps = Sleep(3600.0, failing()), Sleep(7200.0)
    replies, _ = with_server(lambda one: one.drive(replies_to(*steps), wait=wait))
    assert replies == [None, None]
    assert [seconds for seconds, _ in waits] == [3600.0, 7200.0]
    assert waits[0][1]
    assert SECRET not in waits[0][1]
    assert waits[1][1] is None


def test_the_appcode_is_removed_from_an_error_of_either_driver():
    async def work(one: AsyncClient) -> CallError:
        with pytest.raises(CallError) as caught:
            await one.drive(replies_to(then=failing()))
        return caught.value

    error, _ = with_server(work)
    assert SECRET not in f"{error} {error.message} {error.request_id}"


def test_a_client_can_be_used_again_after_it_was_closed():
    async def work(one: AsyncClient) -> list[Reply]:
        first = await one.drive(replies_to(SEND))
        await one.close()
        await one.close()
        return first + await one.drive(replies_to(SEND))

    replies, server = with_server(work)
    assert [reply.status for reply in replies] == [200, 200]
    assert len(server.connections) == 2


def test_a_port_where_nobody_listens_was_not_sent_anything():
    async def work() -> list[Reply]:
        listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        listening.close()
        await listening.wait_closed()
        settings = Settings(base_url=f"http://127.0.0.1:{port}", app_code=SECRET)
        async with AsyncClient(settings) as one:
            return await one.drive(replies_to(SEND))

    (reply,) = asyncio.run(work())
    assert isinstance(reply, NoAnswer)
    assert not reply.sent
