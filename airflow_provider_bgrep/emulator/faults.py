# SPDX-License-Identifier: Apache-2.0
"""The fault API: a fault is injected for a number of times and counts how often it occurs."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_bgrep.emulator import answers
from airflow_provider_bgrep.emulator.answers import Answer

OPERATIONS: Final = ("submit", "query", "result", "any")

ANSWER_FAULTS: Final = {
    "code": "a code of the service or the gateway, or a text of an older gateway",
    "throttle": "the gateway throttles (code T429UR by default)",
    "gateway_timeout": "the gateway timed out waiting for the service (code D504TO)",
    "status": "a plain HTTP status with an HTML body, as a proxy sends it",
    "reset": "the TCP connection is reset",
    "hang": "no answer for some seconds, then the connection is reset",
    "empty": "HTTP 200 with an empty body",
    "truncated": "a truncated answer: fewer bytes than Content-Length, or incomplete JSON",
    "html": "HTTP 200 with an HTML page",
    "body": "any status, headers and body",
}
"""Faults that replace an answer, with a description."""

JOB_FAULTS: Final = {
    "fail_task": "one image task of the next accepted job ends FAILED",
    "late": "the next accepted job takes longer",
    "no_results": "an image task of the next accepted job is SUCCESS without a result",
    "partial": "an image task of the next accepted job has fewer results than it asked for",
    "late_results": "the first answers after an image task's SUCCESS name fewer results than later ones",
    "never_ends": "an image task of the next accepted job keeps a status, or is missing from the responses",
    "undecodable": "a result of the next accepted job cannot be decoded, however often it is downloaded",
    "unknown_job": "the first queries of the next accepted job are answered with 23500008: no such job",
    "order": "answers about the next accepted job list its image tasks in another order",
    "other_key": "queries of the next accepted job are answered with another result_key",
    "echo": "answers about the next accepted job repeat what was submitted in another form",
}
"""Faults of a job, which occur at the next accepted submit."""

ECHO_FORMS: Final = {
    "text": "numbers as text, prompts with blanks around them",
    "float32": "numbers as 32-bit floats, written out whole",
    "image": "the image and nothing else",
    "none": "nothing",
}
"""Forms of the fault ``echo``. Any form can be limited to one image task by ``index``."""

RESULT_FAULTS: Final = {
    "expired": "the result URL answers the XML 403 of an expired one",
    "refused": "a download is refused with a status, even if its URL is fresh; may last for some seconds",
    "oversized": "the result is larger than it should be",
}
"""Faults of a download."""

_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "code": {
        "code": None,
        "retry_after": None,
        "accepted": False,
        "message": None,
        "code_header": None,
        "names_key": False,
    },
    "throttle": {
        "code": "T429UR",
        "retry_after": None,
        "accepted": False,
        "message": None,
        "code_header": None,
    },
    "gateway_timeout": {
        "code": "D504TO",
        "retry_after": None,
        "accepted": True,
        "message": None,
        "code_header": None,
    },
    "status": {"status": 503, "retry_after": None, "accepted": False},
    "reset": {"accepted": False},
    "hang": {"seconds": 30.0, "accepted": False},
    "empty": {"accepted": True},
    "truncated": {"accepted": True, "how": "length"},
    "html": {"accepted": False},
    "body": {"body": "", "status": 200, "headers": None, "accepted": False},
    "fail_task": {"index": 0, "message": "Job execution failed"},
    "late": {"seconds": 0.0, "polls": 0},
    "no_results": {"index": None},
    "partial": {"index": None, "count": 1},
    "late_results": {"index": None, "count": 0, "answers": 1},
    "never_ends": {"index": 0, "status": "WAITING"},
    "undecodable": {"index": 0, "output": 0},
    "unknown_job": {"answers": 1},
    "order": {"order": None},
    "other_key": {},
    "echo": {"form": "text", "index": None},
    "expired": {},
    "refused": {"status": 403, "seconds": 0.0},
    "oversized": {"bytes": 0},
}


@dataclass(slots=True)
class Fault:
    """An injected fault and how often it has occurred.

    :param until: when a fault that lasts for some seconds ends; 0 before it has occurred.
    """

    id: str
    name: str
    operation: str
    times: int
    params: dict[str, Any]
    consumed: int = 0
    until: float = 0.0
    is_over: bool = False

    @property
    def exhausted(self) -> bool:
        """Whether it has occurred as often, or for as long, as it was injected for."""
        return self.is_over if self.seconds else self.consumed >= self.times

    @property
    def seconds(self) -> float:
        """How long it lasts; 0 for a fault that occurs ``times`` times."""
        return float(self.params["seconds"]) if self.name == "refused" else 0.0

    @property
    def accepted(self) -> bool:
        """Whether a submit is accepted and counted before the fault occurs."""
        return bool(self.params.get("accepted"))

    def as_dict(self) -> dict[str, Any]:
        """Return it as the control routes do."""
        return {
            "id": self.id,
            "fault": self.name,
            "operation": self.operation,
            "times": self.times,
            "consumed": self.consumed,
            "exhausted": self.exhausted,
        }


@dataclass(slots=True)
class Faults:
    """The injected faults. If several apply to a call, the oldest occurs first."""

    every: dict[str, Fault] = field(default_factory=dict)
    active: list[Fault] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    def inject(self, name: str, operation: str, times: int, params: Mapping[str, Any]) -> Fault:
        """Inject a fault.

        :raises ValueError: for an unknown fault, operation, parameter or code.
        """
        if name not in _PARAMETERS:
            raise ValueError(f"unknown fault {name!r}; known are {sorted(_PARAMETERS)}")
        if operation not in OPERATIONS:
            raise ValueError(f"unknown operation {operation!r}; known are {list(OPERATIONS)}")
        unknown = sorted(set(params) - set(_PARAMETERS[name]))
        if unknown:
            raise ValueError(f"fault {name!r} has no {unknown}; it has {sorted(_PARAMETERS[name])}")
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise ValueError(f"times must be a positive integer, not {times!r}")
        merged = {**_PARAMETERS[name], **params}
        if "code" in merged:
            answers.any_error(str(merged["code"]))
        if "form" in merged and merged["form"] not in ECHO_FORMS:
            raise ValueError(f"unknown form {merged['form']!r}; known are {sorted(ECHO_FORMS)}")
        if name in RESULT_FAULTS:
            operation = "result"
        if name in JOB_FAULTS:
            operation = "submit"
        fault = Fault(str(next(self._ids)), name, operation, times, merged)
        self.every[fault.id] = fault
        self.active.append(fault)
        return fault

    def take(self, names: Mapping[str, str], operation: str, now: float = 0.0) -> Fault | None:
        """Return the oldest fault of these names that applies to the operation, and count it; or ``None``.

        :param now: the emulator's clock, for faults that last for some seconds from their first occurrence.
        """
        for fault in list(self.active):
            if fault.name in names and fault.operation in (operation, "any"):
                if fault.seconds:
                    fault.until = fault.until or now + fault.seconds
                    if now >= fault.until:
                        fault.is_over = True
                        self.active.remove(fault)
                        continue
                fault.consumed += 1
                if fault.exhausted:
                    self.active.remove(fault)
                return fault
        return None

    def take_all(self, names: Mapping[str, str], operation: str) -> list[Fault]:
        """Return all faults of these names that apply, and count each once: a job may be late *and* fail."""
        met = [one for one in self.active if one.name in names and one.operation in (operation, "any")]
        for fault in met:
            fault.consumed += 1
        self.active = [one for one in self.active if not one.exhausted]
        return met

    def give_back(self, fault: Fault) -> None:
        """Undo :meth:`take`: the call was refused for another reason, so the fault did not occur."""
        fault.consumed -= 1
        if fault not in self.active:
            self.active.insert(0, fault)

    def clear(self) -> None:
        """Remove all faults."""
        self.every.clear()
        self.active.clear()


def strike(fault: Fault, regular: Answer | None) -> Answer:
    """Return the answer that replaces the regular one.

    :param fault: one of :data:`ANSWER_FAULTS`.
    :param regular: the regular answer, if the call was accepted.
    """
    params, name = fault.params, fault.name
    if name in ("code", "throttle", "gateway_timeout"):
        return _naming_key(_coded(params), regular) if params.get("names_key") else _coded(params)
    if name == "status":
        return _retry_after(answers.html(int(params["status"])), params)
    if name == "reset":
        return Answer(delivery="reset")
    if name == "hang":
        return Answer(delivery="reset", wait=float(params["seconds"]))
    if name == "empty":
        return Answer(200, b"", {"Content-Type": answers.JSON})
    if name == "html":
        return answers.html(200)
    if name == "truncated":
        whole = regular or answers.success(b'{"result_key":"00000000000000000000000000000000"}')
        return _truncated(whole, params["how"])
    body = params["body"]
    data = body.encode() if isinstance(body, str) else bytes(body)
    headers = {"Content-Type": answers.JSON, **(params["headers"] or {})}
    return Answer(int(params["status"]), data, headers, refused=int(params["status"]) >= 400)


def _coded(params: Mapping[str, Any]) -> Answer:
    answer = answers.any_error(str(params["code"]))
    if params.get("message") is not None:
        answer.headers["X-Ca-Error-Message"] = str(params["message"])
    if params.get("code_header") is not None:
        answer.headers["X-Ca-Error-Code"] = str(params["code_header"])
    return _retry_after(answer, params)


def _naming_key(answer: Answer, regular: Answer | None) -> Answer:
    """Return the refusal with the ``result_key`` of the accepted job, or of one that does not exist."""
    body = json.loads(answer.body or b"{}")
    key = json.loads(regular.body)["data"]["result_key"] if regular else uuid.uuid4().hex
    answer.body = json.dumps({**body, "data": {"result_key": key}}).encode()
    return answer


def _retry_after(answer: Answer, params: Mapping[str, Any]) -> Answer:
    if params.get("retry_after") is not None:
        answer.headers["Retry-After"] = str(params["retry_after"])
    return answer


def _truncated(whole: Answer, how: str) -> Answer:
    half = len(whole.body) // 2
    if how == "json":
        return Answer(whole.status, whole.body[:half], whole.headers)
    return Answer(whole.status, whole.body, whole.headers, delivery="cut", sent=half)
