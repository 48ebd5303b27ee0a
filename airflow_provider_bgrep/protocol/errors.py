# SPDX-License-Identifier: Apache-2.0
"""Errors of the core: invalid input, found before anything is sent, failed calls, and failing stores.

None depends on Airflow; ``airflow_provider_bgrep.exceptions`` turns them into the classes that users catch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from airflow_provider_bgrep.protocol.codes import (
    SERVICE_CODES,
    ErrorCode,
    ErrorKind,
    Operation,
    RetryDecision,
    by_status,
    gateway_rule,
)
from airflow_provider_bgrep.protocol.urls import redact_text

MAX_PROBLEMS = 50
"""Number of problems in a message. The exception has all of them."""

MAX_MESSAGE = 500
"""Number of characters of a server's or a library's message that are quoted in logs and errors."""

_MAX_READ = 20 * MAX_MESSAGE
"""Number of characters of a message that are read at all."""


def sanitize_message(text: object) -> str:
    """Return a message of a server or a library as it may stand in a message of ours.

    :param text: the message, or an exception.
    :return: one line of printable text, without credentials and signatures in URLs, and not longer than
        :data:`MAX_MESSAGE`.
    """
    words = "".join(c if c.isprintable() else " " for c in _text_of(text)[:_MAX_READ]).split()
    line = redact_text(" ".join(words))
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"


def reason_of(error: BaseException) -> str:
    """Return the class of an exception and its sanitized message."""
    return f"{type(error).__name__}: {sanitize_message(error)}".removesuffix(": ")


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # the message of a hostile exception must not raise another one
        return ""


def without_secret(text: str, secret: str) -> str:
    """Return a message with ``***`` instead of a secret, in upper or lower case."""
    text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
    if text.endswith("…"):
        # Where a message was cut, it may end in the secret's beginning.
        for length in range(len(secret) - 1, 3, -1):
            if text[:-1].lower().endswith(secret[:length].lower()):
                return f"{text[: -1 - length]}***…"
    return text


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of the input.

    :param where: position and field, such as ``task_list[3].steps``.
    :param what: what is wrong, with the value, the range and what to do.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class InvalidInput(ValueError):
    """The input is invalid. Contains every problem, not only the first.

    :param problems: the problems, at least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        shown = "; ".join(map(str, problems[:MAX_PROBLEMS]))
        more = f"; and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        super().__init__(f"{count}, nothing was sent: {shown}{more}")


class StoreError(OSError):
    """A store cannot be reached, or refuses access. The message says where, why and what to do.

    :param message: the message.
    :param is_final: whether a retry would fail in the same way.
    """

    def __init__(self, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.is_final = is_final


class ExclusiveCreationError(StoreError):
    """A store cannot make sure that of several writers only one creates a file. Final.

    :param message: the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, is_final=True)


class CallError(Exception):
    """A call failed.

    :param operation: which call.
    :param rule: the row of the table of codes.
    :param code: the received code; empty if there is none.
    :param http_status: HTTP status; ``None`` if there was no response.
    :param message: the server's message, or the error of the connection.
    :param request_id: the service's ``requestId``.
    :param gateway_request_id: the gateway's ``X-Ca-Request-Id``.
    :param retry_after: seconds to wait that the server requested in ``Retry-After``.
    :param result_key: the job that the response to a submit names although it is an error.
    :param is_from_gateway: whether the gateway refused the call, so that the service has not seen it.
    """

    def __init__(
        self,
        operation: Operation,
        rule: ErrorCode,
        *,
        code: str = "",
        http_status: int | None = None,
        message: str = "",
        request_id: str = "",
        gateway_request_id: str = "",
        retry_after: float | None = None,
        result_key: str = "",
        is_from_gateway: bool = False,
    ) -> None:
        self.operation = operation
        self.rule = rule
        self.code = code or rule.code
        self.http_status = http_status
        self.message = sanitize_message(message) or rule.meaning
        self.request_id = request_id
        self.gateway_request_id = gateway_request_id
        self.retry_after = retry_after
        self.result_key = result_key
        self.is_from_gateway = is_from_gateway
        super().__init__(f"{operation.value}: {self.message}")

    @property
    def kind(self) -> ErrorKind:
        """The kind of the error for this operation."""
        return self.rule.kind_on(self.operation)

    @property
    def then(self) -> RetryDecision:
        """What may follow the error."""
        return self.rule.then(self.operation)

    def redact(self, secret: str) -> None:
        """Replace a secret with ``***`` wherever the message contains it."""
        for name in ("code", "message", "request_id", "gateway_request_id"):
            setattr(self, name, without_secret(getattr(self, name), secret))
        self.args = (f"{self.operation.value}: {self.message}",)

    @classmethod
    def rebuilt(
        cls,
        operation: Operation,
        *,
        code: str,
        http_status: int | None,
        request_id: str = "",
        gateway_request_id: str = "",
    ) -> CallError:
        """Return an error from the data in a trigger's event: its code and status, without its text."""
        rule = SERVICE_CODES.get(code)
        if rule is None and code:
            rule = gateway_rule(code, "", http_status or 0)
        if rule is None:
            rule = NO_ANSWER if http_status is None else by_status(http_status)
        return cls(
            operation,
            rule,
            code=code,
            http_status=http_status,
            request_id=request_id,
            gateway_request_id=gateway_request_id,
        )


NOT_CONNECTED = ErrorCode(
    "",
    0,
    "No connection could be established",
    ErrorKind.SERVICE,
    RetryDecision.SEND_AGAIN,
    RetryDecision.SEND_AGAIN,
    "Check host, port, proxies and certificates of the connection, and that this machine can reach the host.",
    "gateway",
)
"""A connection that was never established: refused, unknown host, failed TLS handshake. Nothing was sent."""

NO_ANSWER = replace(NOT_CONNECTED, meaning="No connection could be established, or the response was lost")
"""Either of the two, for a query: an event does not say which."""

LOST = ErrorCode(
    "",
    0,
    "The response was lost",
    ErrorKind.SERVICE,
    RetryDecision.UNKNOWN,
    RetryDecision.SEND_AGAIN,
    by_status(500).remedy,
    "gateway",
)
"""A timeout or a broken connection after the request went out."""
