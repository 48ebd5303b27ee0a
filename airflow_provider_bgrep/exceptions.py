# SPDX-License-Identifier: Apache-2.0
"""The errors that users catch, by what the caller can do about them.

::

    BgRepError
    ├── BgRepAuthError             AppCode missing, wrong, not authorized     final
    ├── BgRepQuotaError            credit or subscription used up             final
    ├── BgRepThrottledError        too many calls                             Airflow retries
    ├── BgRepServiceError          the service or the network failed          Airflow retries
    ├── BgRepRequestError          the request is invalid                     final
    │   └── BgRepConfigurationError    the connection or the API's side is    final
    ├── BgRepContentError          the image was refused                      final
    ├── BgRepJobNotFoundError      no such job                                final
    ├── BgRepJobFailedError        the job, or image tasks of it, failed      final
    ├── BgRepJobNotFinishedError   asked for results too early                Airflow retries
    ├── BgRepUnmatchedError        result without a certain image task       Airflow retries
    ├── BgRepDownloadError         a finished image could not be saved        Airflow retries
    ├── BgRepUnknownOutcomeError   a submit whose answer was lost             final
    ├── BgRepStateError            kept state is damaged or missing           final
    ├── BgRepConflictError         another writer committed first             Airflow retries
    └── BgRepTimeoutError          waited too long (AirflowSensorTimeout)

A final error ends the Airflow task without a retry.
"""

from __future__ import annotations

from typing import Final

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
)

from airflow_provider_bgrep.protocol.codes import ErrorKind, RetryDecision
from airflow_provider_bgrep.protocol.errors import CallError, InvalidInput
from airflow_provider_bgrep.protocol.matching import UnmatchedError
from airflow_provider_bgrep.protocol.retry import Failure


class BgRepError(AirflowException):
    """Base class of all errors of this provider.

    :param message: what happened and what to do.
    :param code: the service's 8 digits or the gateway's code, empty where none came.
    :param http_status: HTTP status of the answer, ``None`` where none came.
    :param request_id: the service's id of the call.
    :param gateway_request_id: the gateway's id of the call; support asks for both.
    """

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "",
        http_status: int | None = None,
        request_id: str = "",
        gateway_request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.http_status = http_status
        self.request_id = request_id
        self.gateway_request_id = gateway_request_id

    def __str__(self) -> str:
        facts = (
            ("code", self.code),
            ("HTTP", self.http_status),
            ("request id", self.request_id),
            ("gateway request id", self.gateway_request_id),
        )
        known = ", ".join(f"{name} {value}" for name, value in facts if value)
        return f"{self.message} ({known})" if known else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only attributes survive pickling (and so copying between processes).
        return (type(self), (self.message,), self.__dict__)


class BgRepAuthError(BgRepError, AirflowFailException):
    """The AppCode is missing, unknown, expired, or not authorized for this API."""


class BgRepQuotaError(BgRepError, AirflowFailException):
    """Credit or subscription used up or overdue: nothing more is accepted until it is topped up."""


class BgRepThrottledError(BgRepError):
    """Too many calls, for longer than a call is retried.

    ``retry_after`` is the number of seconds that the server asked to wait, ``None`` if it did not say.
    """

    retry_after: float | None = None


class BgRepServiceError(BgRepError):
    """The service or the network failed; nothing was accepted. A retry may help."""


class BgRepRequestError(BgRepError, AirflowFailException):
    """The request is invalid; a retry cannot help."""


class BgRepConfigurationError(BgRepRequestError):
    """The connection, the network's rules or the API's own setup is wrong."""


class BgRepContentError(BgRepError, AirflowFailException):
    """The image was refused: compliance, unreachable URL, size, format or mask."""


class BgRepJobNotFoundError(BgRepError, AirflowFailException):
    """The job does not exist, or no longer."""


class BgRepJobFailedError(BgRepError, AirflowFailException):
    """The job, or image tasks of it, failed. It may be billed."""


class BgRepJobNotFinishedError(BgRepError):
    """The results were requested before the job was finished."""


class BgRepUnmatchedError(BgRepError):
    """An answer's results cannot be matched to the submitted image tasks, or are another job's.

    They are paid for, and none is taken for another's. Check that ``task_list`` is what was submitted.
    """


class BgRepDownloadError(BgRepError):
    """A finished image could not be fetched or saved. It is paid for: retry soon, before its URL expires."""


class BgRepUnknownOutcomeError(BgRepError, AirflowFailException):
    """A submit whose answer was lost: it may be accepted and billed. It is not sent again automatically."""


class BgRepStateError(BgRepError, AirflowFailException):
    """A file or record that this package keeps (journal, ledger, manifest, plan) is damaged or missing."""


class BgRepConflictError(BgRepError):
    """Another writer committed first. Nothing was changed; a retry reads the new state."""


class BgRepTimeoutError(BgRepError, AirflowSensorTimeout):
    """The job was not finished in time. It continues, and its result key stays valid."""


_CLASSES: Final[dict[ErrorKind, type[BgRepError]]] = {
    ErrorKind.AUTH: BgRepAuthError,
    ErrorKind.QUOTA: BgRepQuotaError,
    ErrorKind.THROTTLED: BgRepThrottledError,
    ErrorKind.SERVICE: BgRepServiceError,
    ErrorKind.REQUEST: BgRepRequestError,
    ErrorKind.CONFIGURATION: BgRepConfigurationError,
    ErrorKind.CONTENT: BgRepContentError,
    ErrorKind.JOB_NOT_FOUND: BgRepJobNotFoundError,
    ErrorKind.JOB_FAILED: BgRepJobFailedError,
    ErrorKind.UNKNOWN_OUTCOME: BgRepUnknownOutcomeError,
}


def error_from(error: CallError) -> BgRepError:
    """Return the exception for a call that failed.

    :param error: how a call ended.
    """
    raised = _CLASSES[error.kind](
        f"{error.operation.value.capitalize()}: {error.message}. {error.rule.remedy_on(error.operation)}",
        code=error.code,
        http_status=error.http_status,
        request_id=error.request_id,
        gateway_request_id=error.gateway_request_id,
    )
    if isinstance(raised, BgRepThrottledError):
        raised.retry_after = error.retry_after
    return raised


def failure_of(error: BgRepError) -> Failure:
    """What the retry decision needs to know of an exception that a hook raised."""
    kind = next((kind for kind, cls in _CLASSES.items() if type(error) is cls), None)
    if isinstance(error, AirflowFailException):
        return Failure(RetryDecision.FINAL, kind)
    if isinstance(error, BgRepThrottledError):
        return Failure(RetryDecision.BACK_OFF, kind, error.retry_after or 0.0)
    return Failure(RetryDecision.SEND_AGAIN, kind)


def input_error(error: InvalidInput, subject: str = "") -> BgRepRequestError:
    """Return the exception for input that cannot be sent."""
    return BgRepRequestError(f"{subject}{error}")


def configuration_error(error: InvalidInput, conn_id: str) -> BgRepConfigurationError:
    """Return the exception for a connection that cannot be used."""
    return BgRepConfigurationError(f"Connection {conn_id!r} has {error}")


def undefined_connection(conn_id: str) -> BgRepConfigurationError:
    """Return the exception for a connection that Airflow does not have, or cannot read."""
    return BgRepConfigurationError(
        f"Connection {conn_id!r} is not defined, or cannot be read; expected a connection of type bgrep. "
        f"Define it in the UI, as AIRFLOW_CONN_{conn_id.upper()}, or in a secrets backend"
    )


def unmatched_error(error: UnmatchedError) -> BgRepUnmatchedError:
    """Return the exception for results that cannot be matched to the submitted image tasks."""
    return BgRepUnmatchedError(
        f"Results of job {error.result_key} cannot be matched to task_list: {'; '.join(error.problems)}. "
        "They are paid for, and none was assigned by guess. Check that task_list is the list that was "
        "submitted, in the same order; if it is, ask again, or fetch the job without task_list and compare."
    )
