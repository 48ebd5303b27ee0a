# SPDX-License-Identifier: Apache-2.0
"""Faults are an API: each is put in place for a number of times and says how often it was met."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_bgrep.emulator import answers
from airflow_provider_bgrep.emulator.answers import Answer

OPERATIONS: Final = ("submit", "query", "result", "any")

ANSWER_FAULTS: Final = {
    "code": "a code of the service or the gateway, or a text of an older gateway",
    "throttle": "the gateway throttles (code T429UR unless said)",
    "gateway_timeout": "the gateway waited in vain for the service (code D504TO)",
    "status": "a plain HTTP status with an HTML body, as a proxy sends it",
    "reset": "the TCP connection is reset",
    "hang": "no answer for some seconds, then the connection is closed",
    "empty": "HTTP 200 with an empty body",
    "truncated": "an answer that breaks off: fewer bytes than Content-Length, or cut JSON",
    "html": "HTTP 200 with an HTML page",
    "body": "any status, headers and body",
}
"""Faults in the place of an answer, and what each is."""

JOB_FAULTS: Final = {
    "fail_task": "one image task of the next accepted job ends FAILED",
    "late": "the next accepted job takes longer",
    "no_results": "an image task of the next accepted job is SUCCESS without a result",
    "partial": "an image task of the next accepted job has fewer results than it asked for",
    "order": "answers about the next accepted job list its image tasks in another order",
    "echo": "answers about the next accepted job repeat what was submitted in another form",
}
"""Faults of a job, taken by the next submit that is accepted."""

ECHO_FORMS: Final = {
    "text": "numbers as text, prompts with blanks around them",
    "float32": "numbers as 32-bit floats, written out whole",
    "image": "the image and nothing else",
    "none": "nothing",
}
"""Forms of the fault ``echo``. Any form can be limited to one image task by ``index``."""

RESULT_FAULTS: Final = {
    "expired": "the result URL answers the XML 403 of an expired one",
    "oversized": "the result is larger than it should be",
}
"""Faults of a download."""

_ACCEPTED_UNLESS_SAID: Final = {"empty", "truncated", "gateway_timeout"}

_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "code": {"code": None, "retry_after": None, "accepted": False, "message": None, "code_header": None},
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
    "order": {"order": None},
    "echo": {"form": "text", "index": None},
    "expired": {},
    "oversized": {"bytes": 0},
}


@dataclass(slots=True)
class Fault:
    """One fault and what is left of it."""

    id: str
    name: str
    operation: str
    times: int
    params: dict[str, Any]
    consumed: int = 0

    @property
    def exhausted(self) -> bool:
        """Whether it was met as often as it was put in place for."""
        return self.consumed >= self.times

    @property
    def accepted(self) -> bool:
        """Whether a submit is taken and counted before the fault strikes."""
        return bool(self.params.get("accepted"))

    def as_dict(self) -> dict[str, Any]:
        """For the control routes."""
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
    """The faults in place, oldest first: of two that fit, the older is met first."""

    every: dict[str, Fault] = field(default_factory=dict)
    active: list[Fault] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    def inject(self, name: str, operation: str, times: int, params: Mapping[str, Any]) -> Fault:
        """Put a fault in place.

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

    def take(self, names: Mapping[str, str], operation: str) -> Fault | None:
        """Meet the oldest fault of these names that fits the operation, if there is one."""
        for fault in self.active:
            if fault.name in names and fault.operation in (operation, "any"):
                fault.consumed += 1
                if fault.exhausted:
                    self.active.remove(fault)
                return fault
        return None

    def take_all(self, names: Mapping[str, str], operation: str) -> list[Fault]:
        """Meet every fault of these names once (one image task fails *and* the job is late)."""
        met = [one for one in self.active if one.name in names and one.operation in (operation, "any")]
        for fault in met:
            fault.consumed += 1
        self.active = [one for one in self.active if not one.exhausted]
        return met

    def give_back(self, fault: Fault) -> None:
        """Undo a take: the call was refused for its own sake, so that the fault was not met."""
        fault.consumed -= 1
        if fault not in self.active:
            self.active.insert(0, fault)

    def clear(self) -> None:
        """Drop all."""
        self.every.clear()
        self.active.clear()


def strike(fault: Fault, regular: Answer | None) -> Answer:
    """The answer that a fault puts in the place of the regular one.

    :param fault: one of :data:`ANSWER_FAULTS`.
    :param regular: what would have been answered, where the call was taken.
    """
    params, name = fault.params, fault.name
    if name in ("code", "throttle", "gateway_timeout"):
        return _coded(params)
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


def _retry_after(answer: Answer, params: Mapping[str, Any]) -> Answer:
    if params.get("retry_after") is not None:
        answer.headers["Retry-After"] = str(params["retry_after"])
    return answer


def _truncated(whole: Answer, how: str) -> Answer:
    half = len(whole.body) // 2
    if how == "json":
        return Answer(whole.status, whole.body[:half], whole.headers)
    return Answer(whole.status, whole.body, whole.headers, delivery="cut", sent=half)
