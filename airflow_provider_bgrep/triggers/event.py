# SPDX-License-Identifier: Apache-2.0
"""The one event of :class:`~airflow_provider_bgrep.triggers.bgrep.BgRepTrigger`, versioned.

Airflow logs the event and stores it unencrypted, so it contains numbers and codes only: no URL, no prompt, no
message, and nothing that grows with the number of jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

from airflow_provider_bgrep.protocol.codes import Operation
from airflow_provider_bgrep.protocol.errors import CallError

VERSION: Final = 1


class Reason(str, Enum):
    """Why a trigger fired."""

    FINISHED = "finished"
    """Every job is finished, or never will be (unknown to the service, or failed as a whole)."""
    DEADLINE = "deadline"
    """``end_time`` has passed."""
    COLLECT = "collect"
    """``collect_after`` seconds have passed since the first image task finished."""
    ERROR = "error"
    """A query failed, and repeating it cannot help."""


@dataclass(frozen=True, slots=True)
class BgRepEvent:
    """The event that the trigger sends to the worker.

    :param reason: why it fired.
    :param finished: jobs that are finished.
    :param pending: jobs that are not.
    :param queries: number of HTTP requests of the trigger.
    :param code: error code; empty if there is none.
    :param http_status: HTTP status of the error; ``None`` if there was no response.
    :param request_id: the service's id of the failed request.
    :param gateway_request_id: the gateway's id of the failed request.
    :param finished_tasks: number of finished image tasks of unfinished jobs that are not saved yet.
    :param input_error: why the connection cannot be used, without secrets.
    :param version: format version of the event.
    """

    reason: Reason
    finished: int = 0
    pending: int = 0
    queries: int = 0
    code: str = ""
    http_status: int | None = None
    request_id: str = ""
    gateway_request_id: str = ""
    finished_tasks: int = 0
    input_error: str = ""
    version: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return the event's payload."""
        return {**asdict(self), "reason": self.reason.value}

    @classmethod
    def from_dict(cls, event: Mapping[str, Any]) -> BgRepEvent:
        """Return the event from a payload.

        :raises ValueError: if a newer version of this provider sent it.
        """
        version = event.get("version")
        if version != VERSION:
            raise ValueError(
                f"The trigger's event has version {version!r}, but this worker reads version {VERSION}: "
                "install the same version of airflow-provider-bgrep on triggerer and workers"
            )
        known = {name: event[name] for name in cls.__dataclass_fields__ if name in event}
        return cls(**{**known, "reason": Reason(event["reason"])})

    @classmethod
    def of_error(cls, error: CallError, finished: int, pending: int, queries: int = 0) -> BgRepEvent:
        """Return the event for a failed query."""
        return cls(
            Reason.ERROR,
            finished,
            pending,
            queries,
            code=error.code,
            http_status=error.http_status,
            request_id=error.request_id,
            gateway_request_id=error.gateway_request_id,
        )

    def error(self) -> CallError:
        """Return the failed query's error, rebuilt from its code."""
        return CallError.rebuilt(
            Operation.QUERY,
            code=self.code,
            http_status=self.http_status,
            request_id=self.request_id,
            gateway_request_id=self.gateway_request_id,
        )
