# SPDX-License-Identifier: Apache-2.0
"""The exceptions of this provider, divided by what the caller can do.

::

    BgRepError
    ├── BgRepAuthError                 AppCode missing, wrong or not authorized     final
    ├── BgRepQuotaError                credit or subscription used up               final
    ├── BgRepThrottledError            too many calls                               retried
    ├── BgRepServiceError              the service or the network failed            retried
    ├── BgRepRequestError              the request is invalid                       final
    │   └── BgRepConfigurationError    the connection or the API is misconfigured   final
    ├── BgRepContentError              the image was refused                        final
    ├── BgRepJobNotFoundError          the job does not exist                       final
    ├── BgRepJobFailedError            the job, or some of its image tasks, failed  final
    ├── BgRepJobNotFinishedError       the job is not finished yet                  retried
    ├── BgRepUnmatchedError            unclear which image task a result is for     retried
    ├── BgRepDownloadError             a generated image could not be saved         retried
    ├── BgRepUnknownOutcomeError       the response to a submit was lost            final
    ├── BgRepStateError                a file or record is damaged or missing       final
    ├── BgRepConflictError             another writer committed first               retried
    └── BgRepTimeoutError              the job was not finished in time             final

*Retried* means that Airflow retries the task as configured. A *final* exception fails the task without a
retry: it also derives from ``AirflowFailException`` or, in the case of ``BgRepTimeoutError``, from
``AirflowSensorTimeout``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
)

from airflow_provider_bgrep.protocol.codes import ErrorKind, RetryDecision
from airflow_provider_bgrep.protocol.errors import CallError, InvalidInput, StoreError

if TYPE_CHECKING:
    from airflow_provider_bgrep.protocol.matching import UnmatchedError
    from airflow_provider_bgrep.protocol.retry import Failure


class BgRepError(AirflowException):
    """Base class of all exceptions of this provider.

    :param message: what happened and what to do.
    :param code: error code of the service (8 digits) or of the gateway; empty if there is none.
    :param http_status: HTTP status of the response; ``None`` if there was none.
    :param request_id: the service's id of the request.
    :param gateway_request_id: the gateway's id of the request. Support asks for both ids.
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
    """Credit or subscription is used up or overdue. No submit is accepted until it is renewed."""


class BgRepThrottledError(BgRepError):
    """The service throttled a request for longer than the provider repeats it.

    ``retry_after`` is the number of seconds to wait that the server requested; ``None`` if it did not
    request any.
    """

    retry_after: float | None = None


class BgRepServiceError(BgRepError):
    """The service or the network failed. Nothing was accepted, and a retry may help."""


class BgRepRequestError(BgRepError, AirflowFailException):
    """The request is invalid. A retry cannot help."""


class BgRepConfigurationError(BgRepRequestError):
    """The Airflow connection, the network or the API itself is configured wrongly."""


class BgRepContentError(BgRepError, AirflowFailException):
    """The service refused an image because of its content, URL, size, format or mask."""


class BgRepJobNotFoundError(BgRepError, AirflowFailException):
    """The job does not exist, or does not exist any more."""


class BgRepJobFailedError(BgRepError, AirflowFailException):
    """The job, or some of its image tasks, failed. The job may be billed."""


class BgRepJobNotFinishedError(BgRepError):
    """The results were requested before the job was finished."""


class BgRepUnmatchedError(BgRepError):
    """Results cannot be matched to the submitted image tasks, or belong to another job.

    The results are billed, and are not assigned to any image task by guess. Check that ``task_list`` is the
    list that was submitted.
    """

    may_pass = False
    """Whether the response only leaves out image tasks, which another response may contain."""


class BgRepDownloadError(BgRepError):
    """A generated image could not be saved. It is billed: retry soon, before its URL expires."""


class BgRepUnknownOutcomeError(BgRepError, AirflowFailException):
    """The response to a submit was lost. It may be billed, and is not sent again automatically."""


class BgRepStateError(BgRepError, AirflowFailException):
    """A file or record of this package (journal, ledger, manifest or plan) is damaged or missing."""


class BgRepConflictError(BgRepError):
    """Another writer committed first. Nothing was changed, and a retry reads the new state."""


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

    :param error: the error of the call.
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
    """Return what the retry decision needs to know about an exception that a hook raised."""
    from airflow_provider_bgrep.protocol.retry import Failure

    kind = next((kind for kind, cls in _CLASSES.items() if type(error) is cls), None)
    if isinstance(error, AirflowFailException | AirflowSensorTimeout):
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
    """Return the exception for a connection that is not defined or cannot be read."""
    return BgRepConfigurationError(
        f"Connection {conn_id!r} is not defined, or cannot be read; expected a connection of type bgrep. "
        f"Define it in the UI, as AIRFLOW_CONN_{conn_id.upper()}, or in a secrets backend"
    )


def unreachable_store(error: StoreError) -> BgRepError:
    """Return the exception for a store that cannot be reached, or that refuses access."""
    return (BgRepConfigurationError if error.is_final else BgRepServiceError)(str(error))


def unmatched_error(error: UnmatchedError) -> BgRepUnmatchedError:
    """Return the exception for results that cannot be matched to the submitted image tasks."""
    raised = BgRepUnmatchedError(
        f"Results of job {error.result_key} cannot be matched to task_list: {'; '.join(error.problems)}. "
        "They are billed, and none was assigned by guess. Check that task_list is the list that was "
        "submitted, in the same order. If it is, retry, or query the job without task_list and compare."
    )
    raised.may_pass = error.may_pass
    return raised
