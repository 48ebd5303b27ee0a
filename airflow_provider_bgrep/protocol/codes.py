# SPDX-License-Identifier: Apache-2.0
"""The table of the error codes of service and gateway: their meaning, and what a client may do.

Each row has an :class:`ErrorKind`, which determines the exception that users catch, and a
:class:`RetryDecision` for submits and one for queries. They differ: a submit whose outcome is unknown
must never be sent again automatically, because it may be billed; a query can always be repeated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from airflow_provider_bgrep.protocol.limits import MAX_SIDE, MIN_SIDE


class ErrorKind(str, Enum):
    """Kinds of errors, divided by what the caller can do."""

    AUTH = "auth"
    QUOTA = "quota"
    THROTTLED = "throttled"
    SERVICE = "service"
    REQUEST = "request"
    CONFIGURATION = "configuration"
    CONTENT = "content"
    JOB_NOT_FOUND = "job_not_found"
    JOB_FAILED = "job_failed"
    UNKNOWN_OUTCOME = "unknown_outcome"


class RetryDecision(str, Enum):
    """What a client may do after a response."""

    FINAL = "final"
    """Repeating the request cannot help."""
    BACK_OFF = "back_off"
    """Refused because of load, and not accepted: send again after a wait."""
    SEND_AGAIN = "send_again"
    """Not accepted (on a submit), or harmless (on a query): send again after a short wait."""
    UNKNOWN = "unknown"
    """For submits only: it may have been accepted and billed. Never sent again automatically."""


class Operation(str, Enum):
    """The API's two operations."""

    SUBMIT = "submit"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One row of the table.

    :param code: the service's 8 digits, the gateway's 6 characters, or, for an older gateway, the part of
        ``X-Ca-Error-Message`` to search for.
    :param http_status: the HTTP status of the response.
    :param meaning: its meaning, in a few words.
    :param kind: kind of the error for a query.
    :param submit: what may follow a submit.
    :param query: what may follow a query.
    :param remedy: what a person should do after a submit; :meth:`remedy_on` also covers queries.
    :param source: ``document``, ``gateway``, or ``gateway (from memory)`` for unverified rows.
    :param wait: minimum number of seconds before another attempt.
    :param may_pass: whether the cause of a refusal may pass by itself, so that the same request may be
        accepted hours or days later.
    """

    code: str
    http_status: int
    meaning: str
    kind: ErrorKind
    submit: RetryDecision
    query: RetryDecision
    remedy: str
    source: str
    wait: float = 0.0
    may_pass: bool = False

    def then(self, operation: Operation) -> RetryDecision:
        """Return what may follow ``operation``."""
        return self.submit if operation is Operation.SUBMIT else self.query

    def kind_on(self, operation: Operation) -> ErrorKind:
        """Return the kind of the error for ``operation``. A submit that may have been accepted has an
        unknown outcome.
        """
        return ErrorKind.UNKNOWN_OUTCOME if self.then(operation) is RetryDecision.UNKNOWN else self.kind

    def remedy_on(self, operation: Operation) -> str:
        """Return what a person should do after ``operation``. A failed query does not affect the job."""
        return self.remedy if operation is Operation.SUBMIT else self.remedy.replace(_LOOK_UP, _ASK_AGAIN)


_DOCUMENT, _GATEWAY, _MEMORY = "document", "gateway", "gateway (from memory)"

_LOOK_UP = (
    "The job may have been accepted and billed, and cannot be found, because the API cannot list jobs. "
    "Check the bill details in the cloud console before you submit again."
)
_ASK_AGAIN = "The job is not affected. Query it again later."
_WAIT = "Wait. If it recurs, lower max_requests_per_second on the connection."
_CREDENTIALS = (
    "Check the AppCode in the connection's password. The cloud console shows it under 'purchased "
    "services', if this API is one of them."
)
_MONEY = "Renew the subscription or add credit in the cloud console. No submit is accepted before that."
_CONNECTION = "Check host, schema, port, submit_path and query_path of the connection."
_NETWORK = "The gateway refuses this caller or its address. Ask the API's seller which ones are allowed."
_SELLER = "The API's seller configured the API wrongly. Report the gateway request id to their support."
_OUR_REQUEST = (
    "The request is malformed. Report this to the maintainers of this provider, with both request ids."
)


_FINAL, _BACK_OFF, _AGAIN, _UNKNOWN = (
    RetryDecision.FINAL,
    RetryDecision.BACK_OFF,
    RetryDecision.SEND_AGAIN,
    RetryDecision.UNKNOWN,
)

_READINGS: Final = {
    # what a row is read as: (kind, on a submit, on a query, what to do)
    "credentials": (ErrorKind.AUTH, _FINAL, _FINAL, _CREDENTIALS),
    "money": (ErrorKind.QUOTA, _FINAL, _FINAL, _MONEY),
    "throttled": (ErrorKind.THROTTLED, _BACK_OFF, _BACK_OFF, _WAIT),
    "address": (ErrorKind.CONFIGURATION, _FINAL, _FINAL, _CONNECTION),
    "caller": (ErrorKind.CONFIGURATION, _FINAL, _FINAL, _NETWORK),
    "seller": (ErrorKind.CONFIGURATION, _FINAL, _FINAL, _SELLER),
    "request": (ErrorKind.REQUEST, _FINAL, _FINAL, _OUR_REQUEST),
    "image": (ErrorKind.CONTENT, _FINAL, _FINAL, ""),
    "no job": (ErrorKind.JOB_NOT_FOUND, _FINAL, _FINAL, ""),
    "failed job": (ErrorKind.JOB_FAILED, _FINAL, _FINAL, ""),
    "not reached": (ErrorKind.SERVICE, _AGAIN, _AGAIN, "Try again later."),
    "lost": (ErrorKind.SERVICE, _UNKNOWN, _AGAIN, _LOOK_UP),
    "elsewhere": (ErrorKind.CONFIGURATION, _UNKNOWN, _FINAL, f"{_CONNECTION} {_LOOK_UP}"),
}


def _row(
    reading: str,
    code: str,
    http_status: int,
    meaning: str,
    remedy: str = "",
    *,
    source: str = _GATEWAY,
    wait: float = 0.0,
    may_pass: bool = False,
) -> ErrorCode:
    kind, submit, query, usual_remedy = _READINGS[reading]
    remedy = remedy or usual_remedy
    return ErrorCode(code, http_status, meaning, kind, submit, query, remedy, source, wait, may_pass)


def _rows(
    reading: str, codes: str, meaning: str, remedy: str = "", *, source: str = _GATEWAY, wait: float = 0.0
) -> list[ErrorCode]:
    # The status of a 6-character code is its characters 2 to 4.
    return [
        _row(reading, code, int(code[1:4]), meaning, remedy, source=source, wait=wait)
        for code in codes.split()
    ]


_SERVICE: Final = (
    _row("lost", "23500000", 500, "Internal server error", source=_DOCUMENT),
    _row(
        "credentials",
        "23500001",
        401,
        "Authorization required to perform current operation",
        source=_DOCUMENT,
    ),
    _row("address", "23500002", 404, "Specified service does not exist", source=_DOCUMENT),
    _row("money", "23500003", 403, "User credit points are exhausted", source=_DOCUMENT),
    _row("throttled", "23500004", 403, "Request was denied due to request throttling", source=_DOCUMENT),
    _row(
        "image",
        "23500005",
        403,
        "The image did not pass the content compliance check",
        "Use another image. The service suspects illegal content in this one.",
        source=_DOCUMENT,
    ),
    _row(
        "image",
        "23500006",
        400,
        "The image url provided is invalid or non-accessible",
        "Check that the URLs of image and mask can be read from the internet without a login.",
        source=_DOCUMENT,
        may_pass=True,  # the server of the images may have been down
    ),
    _row(
        "image",
        "23500007",
        400,
        "The uploaded image does not meet the requirements",
        f"Check size (each side {MIN_SIDE} to {MAX_SIDE} px), format (jpg, jpeg, png, webp) and that the "
        "mask has the resolution of the image.",
        source=_DOCUMENT,
    ),
    _row(
        "no job",
        "23500008",
        400,
        "No records found related to the specified resultKey parameter",
        "Check the result key, and that the same account submitted the job. Old jobs may be deleted.",
        source=_DOCUMENT,
    ),
    _row(
        "request",
        "23500009",
        400,
        "Required parameters cannot be empty",
        "Give all required fields of the image task.",
        source=_DOCUMENT,
    ),
    _row(
        "failed job",
        "23500011",
        500,
        "Job execution failed",
        "The job failed and may be billed. If you submit it again, it may be billed again.",
        source=_DOCUMENT,
    ),
    _row("request", "23500012", 400, "Required request body is missing", source=_DOCUMENT),
    _row(
        "request",
        "23500013",
        400,
        "Illegal input parameter found",
        "Check the ranges of the image task's fields.",
        source=_DOCUMENT,
    ),
    _row("address", "23500014", 400, "Illegal service name", source=_DOCUMENT),
)

_GATEWAY_ROWS: Final = (
    *_rows(
        "credentials",
        "A400AC A401AC A400MA A400IK A403IS A403EP A403PR A401OT I403AA",
        "AppCode unknown, missing, expired, or not authorized for this API",
    ),
    *_rows(
        "caller",
        "A403IP A403VN A403AC A403CO A403IN B451DO B451GO",
        "Refused because of the caller's address or for legal reasons",
    ),
    *_rows("money", "B403MQ", "Subscription used up"),
    *_rows("money", "B403ME", "Subscription expired"),
    *_rows("money", "B403MI", "Subscription invalid"),
    *_rows("money", "B403MO B403OD", "Subscription or account overdue"),
    *_rows(
        "throttled",
        "T429ID",
        "Throttled: the public test domain allows 1,000 calls per day",
        "Use the API's own domain in the connection's host, not the gateway's test domain.",
    ),
    *_rows("throttled", "T429IN T429GR T429PA T429PR T429SR T429MR", "Throttled"),
    *_rows("throttled", "T429UR", "Throttled", source=_MEMORY),
    *_rows(
        "lost",
        "S403NU",
        "The nonce was used in the last 15 minutes: an earlier copy of the request arrived",
        "A proxy in front of the gateway sent a request twice.  " + _LOOK_UP,
        source=_MEMORY,
    ),
    *_rows(
        "address",
        "S403TE",
        "The timestamp is too old",
        "The provider does not send X-Ca-Timestamp. Find the proxy that adds it.",
        source=_MEMORY,
    ),
    *_rows("address", "I400NC", "The nonce is missing", "Find the proxy that removes X-Ca-Nonce."),
    *_rows(
        "address", "I403PT", "http is used, but https is required", "Set the connection's schema to https."
    ),
    *_rows("address", "I404DO I404NF I404NR I404SR I405UM I410GG", "Wrong domain, path or method"),
    *_rows(
        "request",
        "I400HD I400MH I400BD I400PA I400RU I400CT I400SG I400MP I400IP I400JP I413RL I413UL",
        "The request is malformed or too large",
    ),
    *_rows("seller", "X400PM X403DG X500ED X500AM A403FC", "The API is misconfigured by its seller"),
    *_rows(
        "not reached", "D504CO D504RE D504IL D504CS X503BZ D503BB", "The request did not reach the service"
    ),
    *_rows(
        "not reached",
        "D503CB",
        "The gateway's circuit breaker is open (1,000 timeouts in 30 s open it for 90 s)",
        wait=90.0,
    ),
    *_rows(
        "lost",
        "D504TO X504TO X504VE D502FC N502RE X500ER",
        "Timeout, or the response was lost: the service may have accepted the job",
    ),
)

_TEXTS: Final = (
    *(
        _row("throttled", f"Throttled by {what} Flow Control", 403, "Throttled, with the HTTP status 403")
        for what in ("USER", "APP", "API", "DOMAIN", "GROUP")
    ),
    _row("money", "Quota Exhausted", 403, "Subscription used up"),
    _row("money", "Quota Expired", 403, "Subscription expired"),
    _row("money", "User Arrears", 403, "Account overdue"),
    _row("money", "Expiry of Authorization", 403, "Authorization expired"),
    _row("credentials", "Unauthorized", 403, "Not authorized for this API"),
    _row("credentials", "Invalid AppCode", 400, "AppCode unknown"),
    _row(
        "lost",
        "Nonce Used",
        403,
        "The nonce was used in the last 15 minutes: an earlier copy of the request arrived",
        "A proxy in front of the gateway sent a request twice.  " + _LOOK_UP,
    ),
    _row("lost", "Internal Error", 500, "The gateway failed"),
    _row("lost", "Failed To Invoke Backend Service", 500, "The response was lost"),
    _row("lost", "Async Service", 504, "Timed out"),
    _row("not reached", "Service Unavailable", 503, "The request did not reach the service"),
)

SERVICE_CODES: Final[dict[str, ErrorCode]] = {rule.code: rule for rule in _SERVICE}
"""The service's error codes, by code. ``0`` means success and is not in the table."""

MAY_PASS: Final = frozenset(rule.code for rule in _SERVICE if rule.may_pass)
"""Codes of refusals whose cause may pass by itself."""

GATEWAY_CODES: Final[dict[str, ErrorCode]] = {rule.code: rule for rule in _GATEWAY_ROWS}
"""The gateway's 6-character codes, by code."""

GATEWAY_TEXTS: Final[tuple[ErrorCode, ...]] = _TEXTS
"""Texts of older gateways. ``code`` is the part of ``X-Ca-Error-Message`` to search for, in any case."""


PLAIN_REFUSALS: Final = frozenset(
    (400, 401, 402, 403, 404, 405, 407, 410, 411, 413, 414, 415, 417, 421, 422, 426, 428, 429, 431, 451)
)
"""HTTP statuses of a server that does not pass a request on.

The others may also be a proxy's answer about a request that it has passed on: it waited too long (408, 424),
the client hung up (460, 499), its page for a lost answer is elsewhere (302), or the service had taken the job
before (409).
"""


def by_status(http_status: int) -> ErrorCode:
    """Return the row for a code that is not in the tables, based on its HTTP status.

    :param http_status: the answer's HTTP status.
    :return: 429 is throttling, the other :data:`PLAIN_REFUSALS` are final. After any other status, the
        outcome of a submit is unknown. A query may then be repeated, except after a redirect.
    """
    if http_status == 429:
        return _row("throttled", "", 429, "Throttled")
    if http_status == 401:
        return _row("credentials", "", 401, "Not authorized")
    if http_status in PLAIN_REFUSALS:
        return _row("request", "", http_status, "Refused", "Check the request and the connection.")
    if 300 <= http_status < 400:
        meaning = "Redirected; the provider does not follow redirects"
        return _row("elsewhere", "", http_status, meaning)
    is_success = http_status < 300
    meaning = (
        "The response cannot be read" if is_success else "The service, or a server in front of it, failed"
    )
    return _row("lost", "", http_status, meaning)


def _leaves_open(http_status: int) -> bool:
    """Return whether a server may answer so although the service has taken the job."""
    return http_status >= 300 and http_status not in PLAIN_REFUSALS


def gateway_rule(code: str, message: str, http_status: int) -> ErrorCode:
    """Return the row for a response of the gateway.

    :param code: ``X-Ca-Error-Code``.
    :param message: ``X-Ca-Error-Message``, or an empty string.
    :param http_status: the answer's HTTP status; of a 6-character code that the table lacks,
        characters 2 to 4 are used instead, unless the answer itself leaves the outcome open.
    """
    known = GATEWAY_CODES.get(code.upper())
    if known is not None:
        return known
    if form := _SIX_CHARACTERS.fullmatch(code):
        status = int(form[1])
        # Where the two disagree, the one that leaves the outcome open counts.
        return by_status(http_status if _leaves_open(http_status) or not 400 <= status < 600 else status)
    # Only older gateways, which send no 6-character code, are read by their text.
    return gateway_text_rule(f"{code}\n{message}", http_status) or by_status(http_status)


_SIX_CHARACTERS: Final = re.compile(r"[A-Z]([0-9]{3})[A-Z0-9]{2}", re.IGNORECASE)


def gateway_text_rule(text: str, http_status: int) -> ErrorCode | None:
    """Return the row for a text of an older gateway; ``None`` if the table does not contain it.

    :param text: what it says; the table's phrases are looked for in it, whatever the case.
    :param http_status: the answer's HTTP status. "Service Unavailable" may be sent again only where it
        is the gateway's own 503, and no phrase makes a plain refusal of a status that leaves the outcome
        open: the service may be quoted.
    """
    haystack = text.casefold()
    for rule in GATEWAY_TEXTS:
        if rule.code.casefold() in haystack:
            same = http_status == rule.http_status
            alike = http_status // 100 == rule.http_status // 100 and not _leaves_open(http_status)
            if rule.submit is RetryDecision.UNKNOWN or (
                same if rule.submit is RetryDecision.SEND_AGAIN else alike
            ):
                return rule
    return None
