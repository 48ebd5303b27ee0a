# SPDX-License-Identifier: Apache-2.0
"""Faults that are injected on request."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_bgrep.oss_emulator.errors import THROTTLING, OssError
from airflow_provider_bgrep.oss_emulator.operations import OPERATIONS

PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "throttle": {"code": "TotalQpsLimitExceeded"},
    "error": {
        "status": 500,
        "code": "InternalError",
        "message": "We encountered an internal error. Please try again.",
        "applied": False,
    },
    "slow": {"seconds": 1.0},
    "cut": {"applied": False},
    "truncate": {"bytes": None},
    "gather": {},
}
"""The faults, and the defaults of their parameters."""

BEFORE: Final = ("gather", "slow", "throttle", "error", "cut")
"""Faults that occur before an operation has its effect."""

AFTER: Final = ("error", "cut", "truncate")
"""Faults that occur after it."""

_GATHER_SECONDS: Final = 20.0


@dataclass
class Fault:
    """An injected fault, and how often it has occurred.

    :param key: the key that it applies to; ``None`` for any.
    """

    name: str
    operation: str
    key: str | None
    times: int
    params: dict[str, Any]
    consumed: int = 0
    gathering: threading.Barrier | None = field(default=None, repr=False)

    @property
    def exhausted(self) -> bool:
        """Whether it has occurred as often as it was injected for."""
        return self.consumed >= self.times

    @property
    def is_applied(self) -> bool:
        """Whether it occurs after the effect."""
        return self.name == "truncate" or bool(self.params.get("applied"))

    def as_error(self) -> OssError:
        """Return the error that the fault answers."""
        if self.name == "throttle":
            return OssError(503, self.params["code"], THROTTLING[self.params["code"]])
        return OssError(self.params["status"], self.params["code"], self.params["message"])

    def gather(self) -> None:
        """Wait until as many requests have arrived as the fault was injected for, for at most 20 seconds."""
        if self.gathering is not None:
            try:
                self.gathering.wait(_GATHER_SECONDS)
            except threading.BrokenBarrierError:
                return


class Faults:
    """The injected faults. Of two that match a request, the older one occurs first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: list[Fault] = []

    def inject(self, name: str, operation: str, key: str | None, times: int, params: dict[str, Any]) -> Fault:
        """Inject a fault.

        :raises ValueError: for an unknown fault, operation, parameter or code.
        """
        if name not in PARAMETERS:
            raise ValueError(f"unknown fault {name!r}; known are {sorted(PARAMETERS)}")
        if operation != "any" and operation not in OPERATIONS:
            raise ValueError(f"unknown operation {operation!r}; known are {['any', *OPERATIONS]}")
        unknown = sorted(set(params) - set(PARAMETERS[name]))
        if unknown:
            raise ValueError(f"fault {name!r} has no {unknown}; it has {sorted(PARAMETERS[name])}")
        if times < 1:
            raise ValueError(f"times must be at least 1, not {times}")
        merged = {**PARAMETERS[name], **params}
        if name == "throttle" and merged["code"] not in THROTTLING:
            raise ValueError(f"unknown code {merged['code']!r}; known are {sorted(THROTTLING)}")
        gathering = threading.Barrier(times) if name == "gather" else None
        fault = Fault(name, operation, key, times, merged, gathering=gathering)
        with self._lock:
            self._active.append(fault)
        return fault

    def take(self, names: Iterable[str], operation: str, key: str, *, applied: bool) -> list[Fault]:
        """Return the faults that apply to a request, at most one of each name, and count them.

        :param names: the names of faults, in the order in which they occur.
        :param applied: whether the operation has had its effect.
        """
        taken: dict[str, Fault] = {}
        with self._lock:
            for fault in self._active:
                fits = fault.operation in ("any", operation) and fault.key in (None, key)
                if fits and fault.name in names and fault.is_applied is applied and fault.name not in taken:
                    fault.consumed += 1
                    taken[fault.name] = fault
            self._active = [fault for fault in self._active if not fault.exhausted]
        return [taken[name] for name in names if name in taken]

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._active.clear()
