# SPDX-License-Identifier: Apache-2.0
"""Answers requests: who sent them, what they ask for, and what happens instead if a fault was injected."""

from __future__ import annotations

import base64
import copy
import logging
import secrets
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from airflow_provider_bgrep.oss_emulator import signing
from airflow_provider_bgrep.oss_emulator.credentials import AccessKey, AccessKeys
from airflow_provider_bgrep.oss_emulator.documents import XML, document, http_date
from airflow_provider_bgrep.oss_emulator.errors import OssError
from airflow_provider_bgrep.oss_emulator.faults import AFTER, BEFORE, Fault, Faults
from airflow_provider_bgrep.oss_emulator.hosts import Hosts
from airflow_provider_bgrep.oss_emulator.messages import Answer, RecordedRequest, Request
from airflow_provider_bgrep.oss_emulator.operations import OPERATIONS, check_request, operation_of
from airflow_provider_bgrep.oss_emulator.store import Call, Store

_UNKNOWN: Final = "Unknown"

log = logging.getLogger(__name__)


@dataclass
class Counters:
    """What was counted since the start.

    :param requests: all requests.
    :param operations: the requests by operation. ``Unknown`` counts those that ask for none.
    :param errors: the errors by code.
    :param received: bytes of all request bodies.
    :param sent: bytes of all answers' bodies.
    """

    requests: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    received: int = 0
    sent: int = 0


class Core:
    """The emulator without its server.

    :param region: the region, such as ``cn-hangzhou``.
    :param key: the permanent access key.
    """

    def __init__(self, region: str, key: AccessKey) -> None:
        self.store = Store(region, Hosts(region))
        self.keys = AccessKeys(key)
        self.faults = Faults()
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self._counters = Counters()
        self._records: list[RecordedRequest] = []

    @property
    def counters(self) -> Counters:
        """A copy of what was counted so far."""
        with self.lock:
            return copy.deepcopy(self._counters)

    @property
    def requests(self) -> list[RecordedRequest]:
        """What was asked so far, in the order of the answers."""
        with self.lock:
            return list(self._records)

    def forget_requests(self) -> None:
        """Clear the records and the counters."""
        with self.lock:
            self._records.clear()
            self._counters = Counters()

    def answer(self, request: Request) -> Answer:
        """Answer a request, and record it."""
        request_id = secrets.token_hex(12).upper()
        operation, code = _UNKNOWN, ""
        try:
            request.bucket = self.store.hosts.bucket(request.host, request.path)
            operation = operation_of(request)
            answer = self._checked(request, operation)
        except OssError as error:
            code = error.code
            answer = _error_answer(error, request, request_id)
        except _CutError:
            answer = Answer(0, cut=-1)
        except Exception:
            # An error of the emulator itself: answer like the service, and log the reason.
            log.exception("the emulator failed at %s %s", request.method, request.path)
            code = "InternalError"
            answer = _error_answer(
                OssError(500, code, "The emulator failed; see its log."), request, request_id
            )
        answer.headers |= {
            "x-oss-request-id": request_id,
            "x-oss-server-time": "1",
            "Date": http_date(self.store.clock.now()),
            "Server": "AliyunOSS",
        }
        self._record(request, operation, answer, code)
        return answer

    def _checked(self, request: Request, operation: str) -> Answer:
        check_request(request, operation)
        now = self.store.clock.now()
        signing.verify(request, self.keys, self.store.region, now)
        for fault in self.faults.take(BEFORE, operation, request.key, applied=False):
            self._strike(fault)
        with self.lock:
            answer = OPERATIONS[operation](Call(request, self.store, self.store.clock.now()))
        for fault in self.faults.take(AFTER, operation, request.key, applied=True):
            if fault.name == "truncate":
                half = len(answer.body) // 2
                answer.cut = half if fault.params["bytes"] is None else int(fault.params["bytes"])
            else:
                self._strike(fault)
        return answer

    def _strike(self, fault: Fault) -> None:
        """Wait, or raise what happens instead of the operation or of its answer."""
        if fault.name == "gather":
            fault.gather()
        elif fault.name == "slow":
            self.stopping.wait(float(fault.params["seconds"]))
        elif fault.name == "cut":
            raise _CutError
        else:
            raise fault.as_error()

    def _record(self, request: Request, operation: str, answer: Answer, code: str) -> None:
        with self.lock:
            self._records.append(RecordedRequest.of(request, operation, answer.status, code))
            self._counters.requests += 1
            self._counters.operations[operation] += 1
            self._counters.received += len(request.body)
            self._counters.sent += len(answer.body)
            if code:
                self._counters.errors[code] += 1


class _CutError(Exception):
    """The connection is reset instead of an answer."""


def _error_answer(error: OssError, request: Request, request_id: str) -> Answer:
    """Return an error as XML (page "Error responses"); for HEAD, in the header ``x-oss-err``."""
    headers = {**error.headers, **({"x-oss-ec": error.ec} if error.ec else {})}
    if error.status == 304:
        return Answer(304, headers)
    children = [
        ("Code", error.code),
        ("Message", error.message),
        ("RequestId", request_id),
        ("HostId", request.header("host") or request.host),
        *error.elements.items(),
        ("EC", error.ec or None),
        ("RecommendDoc", f"https://api.alibabacloud.com/troubleshoot?q={error.ec}" if error.ec else None),
    ]
    body = document("Error", children)
    headers["Content-Type"] = XML
    if request.method == "HEAD":
        return Answer(error.status, {**headers, "x-oss-err": base64.b64encode(body).decode()})
    return Answer(error.status, headers, body)
