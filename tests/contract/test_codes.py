# SPDX-License-Identifier: Apache-2.0
"""Every row of the tables of codes, met by both drivers, on a submit and on a query, over HTTP.

A row is met by its cause wherever one exists: a wrong AppCode, an exhausted quota, a service that hangs.
Where our own client never gives that cause (it always sends a nonce), an intermediary between it and the
emulator does, as one between a company and the internet might. Only the rest are put in place as faults.
"""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from airflow.providers.common.compat.sdk import AirflowFailException
from multidict import CIMultiDict
from yarl import URL

from airflow_provider_bgrep import exceptions
from airflow_provider_bgrep.emulator.causes import CAUSES as EMULATED
from airflow_provider_bgrep.hooks.bgrep import BgRepAsyncHook, BgRepHook
from airflow_provider_bgrep.protocol.codes import (
    GATEWAY_CODES,
    GATEWAY_TEXTS,
    SERVICE_CODES,
    ErrorKind,
    Operation,
    RetryDecision,
)
from airflow_provider_bgrep.protocol.limits import (
    BREAKER_OPEN_SECONDS,
    MAX_HEADER_BYTES,
    MAX_REQUEST_BYTES,
    QUERY_PATH,
    SUBMIT_PATH,
)
from airflow_provider_bgrep.protocol.retry import QUERY, SUBMIT
from airflow_provider_bgrep.testing import Emulator

APP_CODE = "canary-5f0e6d1c"
IMAGES = 2
"""What one accepted submit of these tests costs."""

ROWS = {**SERVICE_CODES, **GATEWAY_CODES, **{rule.code: rule for rule in GATEWAY_TEXTS}}
ATTEMPTS = {Operation.SUBMIT: SUBMIT.attempts, Operation.QUERY: QUERY.attempts}
SENT_AGAIN = (RetryDecision.BACK_OFF, RetryDecision.SEND_AGAIN)

CLASSES = {
    ErrorKind.AUTH: exceptions.BgRepAuthError,
    ErrorKind.QUOTA: exceptions.BgRepQuotaError,
    ErrorKind.THROTTLED: exceptions.BgRepThrottledError,
    ErrorKind.SERVICE: exceptions.BgRepServiceError,
    ErrorKind.REQUEST: exceptions.BgRepRequestError,
    ErrorKind.CONFIGURATION: exceptions.BgRepConfigurationError,
    ErrorKind.CONTENT: exceptions.BgRepContentError,
    ErrorKind.JOB_NOT_FOUND: exceptions.BgRepJobNotFoundError,
    ErrorKind.JOB_FAILED: exceptions.BgRepJobFailedError,
    ErrorKind.UNKNOWN_OUTCOME: exceptions.BgRepUnknownOutcomeError,
}


# --- what stands between ------------------------------------------------------------------------


@dataclass
class Passing:
    """A request on its way, to be meddled with."""

    method: str
    target: str
    headers: CIMultiDict[str]
    body: bytes
    times: int = 1


class Intermediary:
    """Hands on what it gets; notes each attempt of the client, and what it was answered."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self.clear()

    def clear(self) -> None:
        self.meddle: Callable[[Passing], None] | None = None
        self.after: dict[int, Callable[[], object]] = {}
        self.attempts: list[Mapping[str, str]] = []
        self.answers: list[tuple[Mapping[str, str], bytes]] = []

    def __enter__(self) -> Intermediary:
        started: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), daemon=True)
        self._thread.start()
        self.port = started.result(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self, started: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            serving = web.Server(self._hand_on, access_log=None)
            server = await self._loop.create_server(serving, "127.0.0.1", 0)
            started.set_result(server.sockets[0].getsockname()[1])
            await self._stop.wait()
            server.close()
            await serving.shutdown(0.1)

    async def _hand_on(self, request: web.BaseRequest) -> web.Response:
        passing = Passing(
            request.method, request.raw_path, CIMultiDict(request.headers), await request.read()
        )
        if happens := self.after.get(len(self.attempts)):
            await asyncio.to_thread(happens)
        self.attempts.append(CIMultiDict(passing.headers))
        if self.meddle:
            self.meddle(passing)
        passing.headers.popall("Content-Length", None)
        for _ in range(passing.times):
            async with self._session.request(
                passing.method,
                URL(self._upstream + passing.target, encoded=True),
                headers=passing.headers,
                data=passing.body,
                allow_redirects=False,
                skip_auto_headers=("Content-Type", "Accept", "Accept-Encoding", "User-Agent"),
            ) as answer:
                body = await answer.read()
        self.answers.append((answer.headers, body))
        hop_by_hop = {"content-length", "connection", "transfer-encoding", "date"}
        kept = CIMultiDict((k, v) for k, v in answer.headers.items() if k.lower() not in hop_by_hop)
        return web.Response(status=answer.status, body=body, headers=kept)


def dropped(name: str) -> Callable[[Passing], None]:
    return lambda passing: passing.headers.popall(name)


def replaced(name: str, value: str, by: str | None = None) -> Callable[[Passing], None]:
    def meddle(passing: Passing) -> None:
        passing.headers.popall(name, None)
        passing.headers[by or name] = value

    return meddle


def doubled(passing: Passing) -> None:
    passing.headers.add("X-Ca-Nonce", passing.headers["X-Ca-Nonce"])


def sent_twice(passing: Passing) -> None:
    passing.times = 2


def padded(passing: Passing) -> None:
    passing.body += b" " * MAX_REQUEST_BYTES


def lengthened(passing: Passing) -> None:
    passing.target += "?" + "x" * MAX_HEADER_BYTES


def misspelt(passing: Passing) -> None:
    passing.target += "%zz"


def with_method(passing: Passing) -> None:
    passing.method = "PUT"


def with_body(change: Callable[[dict[str, Any]], object] | None) -> Callable[[Passing], None]:
    def meddle(passing: Passing) -> None:
        if change is None:
            passing.body = b""
        else:
            whole = json.loads(passing.body)
            change(whole["data"])
            passing.body = json.dumps(whole).encode()

    return meddle


def out_of_range(data: dict[str, Any]) -> None:
    if "task_list" in data:
        data["task_list"][0]["steps"] = 5
    else:
        data["result_key"] = 5


# --- the table: how each row is met -------------------------------------------------------------

BOTH = (Operation.SUBMIT, Operation.QUERY)


@dataclass(frozen=True)
class Cause:
    """Why a call ends in a row of the table.

    :param settings: what is the matter on the API's side.
    :param before: a call that had to come before.
    :param lasts: seconds after which it is over by itself; else it is over when someone fixes it.
    :param connection: what is the matter with the connection.
    :param task: images of the image task that are refused, by field; ``None`` leaves a field out.
    :param result_key: what a query asks for, if not for the job that was made before.
    :param meddle: what something in between does to the request.
    :param on: the operations it can happen to.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[Emulator], object] | None = None
    lasts: float = 0.0
    connection: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, str | None] = field(default_factory=dict)
    result_key: str | None = None
    meddle: Callable[[Passing], None] | None = None
    on: tuple[Operation, ...] = BOTH


def _one_call(emulator: Emulator) -> None:
    """A call by somebody else, with the same account."""
    asyncio.run(_call(emulator))


async def _call(emulator: Emulator) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"APPCODE {APP_CODE}", "X-Ca-Nonce": "1"}
    body = b'{"data":{"result_key":"none"}}'
    async with (
        aiohttp.ClientSession() as session,
        session.post(emulator.url + QUERY_PATH, data=body, headers=headers) as answer,
    ):
        assert answer.status in (400, 504)


def _open_breaker(emulator: Emulator) -> None:
    emulator.configure(backend_seconds=0.02, backend_timeout=0.01, breaker_timeouts=1)
    _one_call(emulator)
    emulator.configure(backend_seconds=0)


def _paths(change: Callable[[str], str]) -> dict[str, Any]:
    return {"extra": {"submit_path": change(SUBMIT_PATH), "query_path": change(QUERY_PATH)}}


def _too_fast(scope: str, **more: Any) -> Cause:
    return Cause({"rate": 0.01, "rate_scope": scope, **more}, before=_one_call, lasts=100)


def _account(state: str, **more: Any) -> Cause:
    return Cause({"app_codes": {APP_CODE: state}, **more})


_OLD = {"gateway": "texts"}
_SLOW = {"backend_seconds": 0.02, "backend_timeout": 0.01}
_WRONG = {"password": "canary-wrong"}
_ONLY_SUBMIT = (Operation.SUBMIT,)

CAUSES: dict[str, Cause] = {
    "23500001": _account("unknown to the service"),
    "23500002": Cause(connection=_paths(lambda path: path + "s")),
    "23500003": Cause({"quota_images": IMAGES - 1}, on=_ONLY_SUBMIT),
    "23500004": Cause({"busy_jobs": 0}, on=_ONLY_SUBMIT),
    "23500005": Cause(task={"image": "refused", "mask": None}, on=_ONLY_SUBMIT),
    "23500006": Cause(task={"image": "missing"}, on=_ONLY_SUBMIT),
    "23500007": Cause(task={"mask": "mask-size"}, on=_ONLY_SUBMIT),
    "23500008": Cause(result_key="0" * 32, on=(Operation.QUERY,)),
    "23500009": Cause(meddle=with_body(dict.clear)),
    "23500012": Cause(meddle=with_body(None)),
    "23500013": Cause(meddle=with_body(out_of_range)),
    "23500014": Cause(connection=_paths(lambda path: path.replace("bg-rep", "bg-remove"))),
    "A400AC": Cause(meddle=replaced("Authorization", "Basic Y29tcGFueTpwcm94eQ==")),
    "A401AC": Cause(connection=_WRONG),
    "A400MA": Cause(meddle=dropped("Authorization")),
    "A400IK": Cause(meddle=replaced("Authorization", "23456789", by="X-Ca-Key")),
    "A401OT": Cause(meddle=replaced("Authorization", "Bearer token")),
    "A403EP": _account("expired"),
    "A403PR": _account("unauthorized"),
    "A403IP": Cause({"allowed_addresses": ["10.0.0.0/8"]}),
    "B403MQ": Cause({"subscription_calls": 0}),
    "B403ME": Cause({"subscription": "expired"}),
    "B403MI": Cause({"subscription": "invalid"}),
    "B403MO": Cause({"subscription": "overdue"}),
    "B403OD": Cause({"subscription": "provider overdue"}),
    "T429ID": Cause({"daily_calls": 1}, before=_one_call, lasts=86_400),
    "T429IN": _too_fast("instance"),
    "T429GR": _too_fast("group"),
    "T429PA": _too_fast("api"),
    "T429PR": _too_fast("plugin"),
    "T429SR": _too_fast("server"),
    "T429MR": _too_fast("app"),
    "T429UR": _too_fast("user"),
    "S403NU": Cause(meddle=sent_twice),
    "S403TE": Cause(meddle=replaced("X-Ca-Timestamp", "1500000000000")),
    "I400NC": Cause(meddle=dropped("X-Ca-Nonce")),
    "I403PT": Cause({"https_only": True}),
    "I404DO": Cause({"domains": ["bgrep.market.alicloudapi.com"]}),
    "I404NF": Cause(connection=_paths(lambda path: path.replace("/v1/", "/v2/"))),
    "I404NR": Cause(meddle=replaced("X-Ca-Stage", "TEST")),
    "I405UM": Cause(meddle=with_method),
    "I400HD": Cause(meddle=doubled),
    "I400MH": Cause(meddle=dropped("Content-Type")),
    "I400BD": Cause(meddle=replaced("Content-Encoding", "gzip")),
    "I400PA": Cause(connection=_paths(lambda path: path.replace("/v1/", "/v1//"))),
    "I400RU": Cause(meddle=misspelt),
    "I400CT": Cause(meddle=replaced("Content-Type", "text/plain")),
    "I400SG": Cause(meddle=replaced("X-Ca-Stage", "MATINEE")),
    "I413RL": Cause(meddle=padded),
    "I413UL": Cause(meddle=lengthened),
    "D504CO": Cause({"backend": "unreachable"}),
    "D504RE": Cause({"backend": "unresolvable"}),
    "D504IL": Cause({"backend": "internal address"}),
    "D504CS": Cause({"backend": "tls broken"}),
    "X503BZ": Cause({"backend": "gateway busy"}),
    "D503BB": Cause({"backend": "busy"}),
    "D503CB": Cause(before=_open_breaker, lasts=BREAKER_OPEN_SECONDS),
    "D504TO": Cause(_SLOW),
    "N502RE": Cause({"backend": "drops"}),
    "Throttled by USER Flow Control": _too_fast("user", **_OLD),
    "Throttled by APP Flow Control": _too_fast("app", **_OLD),
    "Throttled by API Flow Control": _too_fast("api", **_OLD),
    "Throttled by DOMAIN Flow Control": _too_fast("domain", **_OLD),
    "Throttled by GROUP Flow Control": _too_fast("group", **_OLD),
    "Quota Exhausted": Cause({"subscription": "used up", **_OLD}),
    "Quota Expired": Cause({"subscription": "expired", **_OLD}),
    "User Arrears": Cause({"subscription": "overdue", **_OLD}),
    "Expiry of Authorization": _account("expired", **_OLD),
    "Unauthorized": _account("unauthorized", **_OLD),
    "Invalid AppCode": Cause(_OLD, connection=_WRONG),
    "Nonce Used": Cause(_OLD, meddle=sent_twice),
    "Failed To Invoke Backend Service": Cause({"backend": "drops", **_OLD}),
    "Async Service": Cause({**_SLOW, **_OLD}),
    "Service Unavailable": Cause({"backend": "busy", **_OLD}),
}

_ONLY_QUERY = (Operation.QUERY,)

FAULTS: dict[str, tuple[Operation, ...]] = {
    # What goes wrong inside the service, or within the gateway, has no cause that a caller could give.
    **dict.fromkeys(("23500000", "23500011"), BOTH),
    **dict.fromkeys("D502FC X504TO X504VE X500ER X400PM X403DG X500ED X500AM A403FC".split(), BOTH),
    # Kinds of caller that this API's customers are not: other key types, private networks, the blocked.
    **dict.fromkeys("A403IS I403AA A403VN A403AC A403CO A403IN B451DO B451GO".split(), BOTH),
    # What the seller canceled, and checks of parameters that this API's gateway has not declared.
    **dict.fromkeys("I404SR I410GG I400MP I400IP I400JP".split(), BOTH),
    "Internal Error": BOTH,
    # A query has no images, costs no credit and starts nothing; a submit names no job.
    **dict.fromkeys("23500003 23500004 23500005 23500006 23500007".split(), _ONLY_QUERY),
    "23500008": _ONLY_SUBMIT,
}

MET = [(code, operation) for code in ROWS for operation in BOTH]


def test_every_code_is_met_once_and_by_a_fault_only_if_needed():
    by_cause = [(code, operation) for code, cause in CAUSES.items() for operation in cause.on]
    by_fault = [(code, operation) for code, operations in FAULTS.items() for operation in operations]
    assert sorted(by_cause + by_fault) == sorted(MET)
    assert (len(SERVICE_CODES), len(GATEWAY_CODES), len(GATEWAY_TEXTS)) == (14, 69, 16)
    assert CAUSES.keys() == {code for code, emulated in EMULATED.items() if not emulated.by_fault}


# --- meeting them -------------------------------------------------------------------------------


def by_requests(operation: Operation, argument: Any) -> Any:
    return getattr(BgRepHook(), operation.value)(argument)


def by_aiohttp(operation: Operation, argument: Any) -> Any:
    return asyncio.run(getattr(BgRepAsyncHook(), operation.value)(argument))


DRIVERS = pytest.mark.parametrize("call", [by_requests, by_aiohttp])
OPERATIONS = pytest.mark.parametrize("operation", BOTH, ids=lambda operation: operation.value)


@pytest.fixture(scope="module")
def apparatus():
    with Emulator(app_code=APP_CODE) as emulator, Intermediary(emulator.url) as between:
        # Drawn when first asked for, which on a busy machine takes longer than the service waits.
        urllib.request.urlopen(emulator.image_task()["image"]).read()
        yield emulator, between


class Bench:
    """The emulator and what stands before it, one job that was made before, and what happened since."""

    def __init__(self, emulator: Emulator, between: Intermediary, connect: Callable[..., None]) -> None:
        self.emulator, self.between, self.connect = emulator, between, connect
        connect()
        self.result_key = by_requests(Operation.SUBMIT, [emulator.image_task(seed=1)]).result_key
        self.task = emulator.image_task(num_output=IMAGES)
        self.mend: Callable[[], object] | None = None
        self.start()

    def start(self) -> None:
        self.between.attempts.clear()
        self.between.answers.clear()
        self.before = self.emulator.counters

    @property
    def billed(self) -> int:
        return self.emulator.counters.images - self.before.images

    @property
    def received(self) -> int:
        return self.emulator.counters.requests - self.before.requests

    def bring_about(self, code: str, operation: Operation, times: int = 1000) -> None:
        """See to it that calls end in ``code``, by its cause or as a fault, and know how it ends."""
        cause = CAUSES.get(code)
        if cause is None or operation not in cause.on:
            self._inject(code, operation, times)
        else:
            self._cause(cause)
        self.start()

    def _inject(self, code: str, operation: Operation, times: int) -> None:
        # An outcome is unknown only if the job may have been taken: so it was, and must not be twice.
        rule = ROWS[code]
        taken = rule.then(operation) is RetryDecision.UNKNOWN or rule.kind is ErrorKind.JOB_FAILED
        fault = self.emulator.inject(
            "code", operation=operation.value, times=times, code=code, accepted=taken
        )
        self.consumed = lambda: fault.consumed

    def _cause(self, cause: Cause) -> None:
        whole = self.emulator.settings
        self.connect(**cause.connection)
        bad = self.emulator.bad_image
        changed = {name: image and bad(image) for name, image in cause.task.items()}
        self.task = {k: v for k, v in {**self.task, **changed}.items() if v is not None}
        self.result_key = cause.result_key or self.result_key
        self.emulator.configure(**cause.settings)
        if cause.before:
            cause.before(self.emulator)
        self.between.meddle = cause.meddle

        def mend() -> None:
            self.between.meddle = None
            if cause.lasts:
                self.emulator.advance(cause.lasts)
            else:
                self.emulator.configure(**{name: whole[name] for name in cause.settings})

        self.mend = mend
        self.consumed = lambda: len(self.between.attempts)
        assert self.emulator.control("GET", "faults") == []

    def argument(self, operation: Operation) -> Any:
        return [self.task] if operation is Operation.SUBMIT else self.result_key

    def assert_each_attempt_is_fit_to_be_sent(self) -> None:
        attempts = self.between.attempts
        nonces = [attempt["X-Ca-Nonce"] for attempt in attempts]
        assert len(set(nonces)) == len(nonces)
        for attempt in attempts:
            assert attempt["Content-Type"] == "application/json"
            assert attempt["Authorization"].startswith("APPCODE canary-")


@pytest.fixture
def bench(apparatus, monkeypatch, no_waiting):
    emulator, between = apparatus
    emulator.reset()
    between.clear()

    def connect(password: str = APP_CODE, extra: Mapping[str, Any] | None = None) -> None:
        connection = {
            "conn_type": "bgrep",
            "schema": "http",
            "host": "127.0.0.1",
            "port": between.port,
            "password": password,
            "extra": dict(extra or {}),
        }
        monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", json.dumps(connection))

    return Bench(emulator, between, connect)


def assert_says_all_but_the_app_code(error: exceptions.BgRepError, *texts: str) -> None:
    texts_of_error = ["".join(traceback.format_exception(error)), repr(error), repr(vars(error)), *texts]
    assert not [text for text in texts_of_error if "canary-" in text]


@DRIVERS
@pytest.mark.parametrize(("code", "operation"), MET, ids=[f"{code}-{op.value}" for code, op in MET])
def test_a_code_has_its_class_its_message_and_its_attempts(bench, caplog, call, code, operation):
    caplog.set_level("DEBUG")
    rule = ROWS[code]
    bench.bring_about(code, operation)
    with pytest.raises(exceptions.BgRepError) as raised:
        call(operation, bench.argument(operation))
    error = raised.value

    assert type(error) is CLASSES[rule.kind_on(operation)]
    assert isinstance(error, AirflowFailException) == (rule.then(operation) not in SENT_AGAIN)
    assert (error.code, error.http_status) == (rule.code, rule.http_status)
    headers, body = bench.between.answers[-1]
    assert error.gateway_request_id == headers["X-Ca-Request-Id"]
    if code in SERVICE_CODES:
        assert error.request_id == json.loads(body)["requestId"]
    assert rule.remedy_on(operation) in str(error)
    if operation is Operation.SUBMIT:
        assert rule.remedy in str(error)
    else:
        assert ("billed" in str(error)) == (rule.kind is ErrorKind.JOB_FAILED)
    assert_says_all_but_the_app_code(error, caplog.text)

    attempts = ATTEMPTS[operation] if rule.then(operation) in SENT_AGAIN else 1
    assert len(bench.between.attempts) == bench.consumed() == attempts
    assert bench.received == attempts * (2 if bench.between.meddle is sent_twice else 1)
    bench.assert_each_attempt_is_fit_to_be_sent()
    taken = rule.then(operation) is RetryDecision.UNKNOWN or (rule.kind is ErrorKind.JOB_FAILED)
    assert bench.billed == (IMAGES if taken and operation is Operation.SUBMIT else 0)


PASSING = [(code, operation) for code, operation in MET if ROWS[code].then(operation) in SENT_AGAIN]


@DRIVERS
@pytest.mark.parametrize(("code", "operation"), PASSING, ids=[f"{code}-{op.value}" for code, op in PASSING])
def test_what_may_be_sent_again_succeeds_when_its_cause_ends(bench, call, code, operation):
    bench.bring_about(code, operation, times=2)
    if bench.mend:
        bench.between.after[2] = bench.mend
    job = call(operation, bench.argument(operation))
    assert len(bench.between.attempts) == 3
    bench.assert_each_attempt_is_fit_to_be_sent()
    if operation is Operation.SUBMIT:
        assert job.result_key == bench.emulator.jobs[-1]["result_key"]
        assert bench.billed == IMAGES
    else:
        assert job.result_key == bench.result_key
        assert job.is_finished
        assert bench.billed == 0


NO_ROWS = {
    "23500010": (400, ErrorKind.REQUEST),
    "I404ZZ": (404, None),
    "T429ZZ": (429, ErrorKind.THROTTLED),
    "D504ZZ": (504, ErrorKind.SERVICE),
}


@DRIVERS
@OPERATIONS
@pytest.mark.parametrize("code", NO_ROWS)
def test_a_code_that_no_table_has_is_classed_by_its_status(bench, call, operation, code):
    status, kind = NO_ROWS[code]
    lost = kind is ErrorKind.SERVICE and operation is Operation.SUBMIT
    bench.emulator.inject("code", operation=operation.value, times=1000, code=code, accepted=lost)
    with pytest.raises(exceptions.BgRepError) as raised:
        call(operation, bench.argument(operation))
    final = lost or status in (400, 404)
    assert len(bench.between.attempts) == (1 if final else ATTEMPTS[operation])
    assert isinstance(raised.value, AirflowFailException) == final
    assert (raised.value.code, raised.value.http_status) == (code, status)
    if kind is not None:
        assert type(raised.value) is CLASSES[ErrorKind.UNKNOWN_OUTCOME if lost else kind]
    assert bench.billed == (IMAGES if lost else 0)


@DRIVERS
@OPERATIONS
def test_a_server_that_repeats_the_app_code_is_not_quoted(bench, caplog, call, operation):
    caplog.set_level("DEBUG")
    said = {"code": APP_CODE, "message": f"APPCODE {APP_CODE}?", "requestId": APP_CODE, "success": False}
    headers = {"X-Ca-Request-Id": APP_CODE}
    for more in ({}, {"X-Ca-Error-Code": APP_CODE, "X-Ca-Error-Message": f"no {APP_CODE}"}):
        bench.emulator.inject(
            "body", operation=operation.value, status=400, headers={**headers, **more}, body=json.dumps(said)
        )
        with pytest.raises(exceptions.BgRepRequestError) as raised:
            call(operation, bench.argument(operation))
        assert_says_all_but_the_app_code(raised.value, caplog.text)


# --- test_connection ----------------------------------------------------------------------------

TESTED: dict[str, tuple[str, str]] = {
    "23500001": ("Wrong AppCode", "23500001"),
    "A401AC": ("Wrong AppCode", "A401AC"),
    "A403PR": ("Wrong AppCode", "A403PR"),
    "B403MQ": ("No subscription", "B403MQ"),
    "B403ME": ("No subscription", "B403ME"),
    "I404DO": ("Wrong domain", "I404DO"),
    "I404NF": ("Wrong domain or path", "I404NF"),
    "T429UR": ("The API is busy", "T429UR"),
    "D504CO": ("No answer", "D504CO"),
}


@pytest.mark.parametrize("code", TESTED)
def test_the_connection_test_names_what_is_wrong_by_one_query(bench, code):
    bench.bring_about(code, Operation.QUERY)
    works, said = BgRepHook().test_connection()
    assert not works
    for part in TESTED[code]:
        assert part in said
    assert ROWS[code].remedy_on(Operation.QUERY) in said
    assert "canary-" not in said
    assert_cost_one_query(bench)


@pytest.mark.parametrize(
    ("status", "body"), [(200, "<html>"), (200, "{}"), (404, "<html>"), (405, ""), (302, ""), (403, "no")]
)
def test_the_connection_test_knows_a_server_that_is_not_this_api(bench, status, body):
    headers = {"Location": "http://127.0.0.1:9/"} if status == 302 else None
    bench.emulator.inject("body", operation="query", status=status, body=body, headers=headers)
    works, said = BgRepHook().test_connection()
    assert not works
    assert said.startswith("Wrong domain or path: another server answers there.")
    assert f"HTTP {status}" in said
    assert_cost_one_query(bench)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 1), ("bgrep.invalid", 443)])
def test_the_connection_test_says_when_there_is_no_route(bench, monkeypatch, host, port):
    connection = {"conn_type": "bgrep", "host": host, "port": port, "password": APP_CODE}
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", json.dumps({**connection, "extra": {"proxies": {}}}))
    works, said = BgRepHook().test_connection()
    assert not works
    assert said.startswith("The API cannot be reached.")
    assert "Check host, port" in said
    assert "canary-" not in said


def assert_cost_one_query(bench):
    assert bench.received == 1
    assert bench.emulator.counters.submits == bench.before.submits


def test_the_connection_test_says_when_it_works_by_one_query(bench):
    works, said = BgRepHook().test_connection()
    assert works
    assert "Nothing was generated or billed" in said
    assert_cost_one_query(bench)
