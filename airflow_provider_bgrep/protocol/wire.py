# SPDX-License-Identifier: Apache-2.0
"""Encodes requests and decodes responses, as plain bytes and mappings.

Parsing tolerates what the API documentation leaves open, but never guesses where that could be billed: if
the response to a submit cannot be read, its outcome is unknown, not a refusal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

from airflow_provider_bgrep.protocol.codes import (
    SERVICE_CODES,
    ErrorCode,
    Operation,
    by_status,
    gateway_rule,
    gateway_text_rule,
)
from airflow_provider_bgrep.protocol.errors import LOST, CallError, InvalidInput, Problem, sanitize_message
from airflow_provider_bgrep.protocol.limits import APPCODE_PREFIX, MAX_REQUEST_BYTES
from airflow_provider_bgrep.protocol.models import ImageTask, Job, JobStatus, TaskResult

CODE_HEADER: Final = "X-Ca-Error-Code"
MESSAGE_HEADER: Final = "X-Ca-Error-Message"
GATEWAY_ID_HEADER: Final = "X-Ca-Request-Id"
NONCE_HEADER: Final = "X-Ca-Nonce"


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response, independent of the HTTP library.

    :param status: HTTP status.
    :param headers: a mapping whose ``get`` ignores case.
    :param body: the whole body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def request_headers(app_code: str, nonce: str) -> dict[str, str]:
    """Return the headers of one HTTP attempt.

    :param app_code: the bare AppCode.
    :param nonce: a string that no other attempt has used.
    """
    return {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Authorization": APPCODE_PREFIX + app_code,
        NONCE_HEADER: nonce,
    }


def submit_body(tasks: Iterable[ImageTask]) -> bytes:
    """Return the body of a submit.

    :raises InvalidInput: if it is larger than the gateway allows.
    """
    body = _dumped({"data": {"task_list": [task.as_wire() for task in tasks]}})
    if len(body) > MAX_REQUEST_BYTES:
        what = (
            f"makes a request of {len(body)} bytes; at most {MAX_REQUEST_BYTES} are allowed: shorten its URLs"
        )
        raise InvalidInput([Problem("task_list", what)])
    return body


def query_body(result_key: Any) -> bytes:
    """Return the body of a query.

    :raises InvalidInput: if ``result_key`` is not text, is blank, or cannot be encoded.
    """
    if not isinstance(result_key, str) or not result_key.strip() or not _is_encodable(result_key):
        what = f"is {result_key!r}; give the result_key that the submit returned"
        raise InvalidInput([Problem("result_key", what)])
    return _dumped({"data": {"result_key": result_key.strip()}})


def _is_encodable(text: str) -> bool:
    """Return whether text can be sent and stored. JSON can name half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _dumped(payload: Any) -> bytes:
    return json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def parse_envelope(operation: Operation, response: Response) -> dict[str, Any]:
    """Return the envelope of a successful response.

    :raises CallError: if the gateway answered, the service refused the call, or the response cannot be
        read.
    """
    status, headers = response.status, response.headers
    gateway_code = (headers.get(CODE_HEADER) or "").strip()
    gateway_message = (headers.get(MESSAGE_HEADER) or "").strip()
    payload = _payload(response.body)
    # Responses of the gateway often have no body, so its headers are checked first. A text that is not in
    # the table does not take precedence over the service's message.
    if gateway_code or (
        status >= 400 and gateway_message and (payload is None or gateway_text_rule(gateway_message, status))
    ):
        rule = gateway_rule(gateway_code, gateway_message, status)
        # The code of an older gateway is only the status. Its text distinguishes the refusals.
        code = rule.code or gateway_code
        error = _error(operation, rule, response, code=code, message=gateway_message, payload=payload)
        error.is_from_gateway = True
        raise error
    if payload is None:
        rule = by_status(status)
        seen = "an empty body" if not response.body.strip() else "a body that is not the API's JSON"
        raise _error(operation, rule, response, message=f"HTTP {status} with {seen}")
    code = _code(payload.get("code"))
    is_envelope = not payload.keys().isdisjoint(("success", "code", "data"))
    if is_envelope and code == "0" and 200 <= status < 300 and not _is_false(payload.get("success")):
        return payload
    if code == "0":
        code = ""  # a refusal with code 0: only its status has a meaning
    rule = SERVICE_CODES.get(code) or by_status(status)
    message = payload.get("message") or rule.meaning
    raise _error(operation, rule, response, code=code, message=str(message), payload=payload)


_JSON: Final = json.JSONDecoder(strict=False)
"""Created once: with an option, ``json.loads`` creates a decoder for each call."""


def _payload(body: bytes) -> dict[str, Any] | None:
    """Return the body as a JSON object; ``None`` if it is not one."""
    try:
        try:
            payload = _JSON.decode(body.decode())
        except ValueError:
            payload = _oddly_encoded(body)
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def _oddly_encoded(body: bytes) -> Any:
    try:
        # This handles a byte order mark, and JSON's other encodings.
        return json.loads(body, strict=False)
    except UnicodeDecodeError:
        # Keys, statuses and URLs are ASCII: a result_key must not be lost because of a prompt's encoding.
        return _JSON.decode(body.decode(errors="replace"))


def _code(value: Any) -> str:
    """Return the code as a string of digits; ``0`` if there is none."""
    if value is None or value == "" or isinstance(value, bool):
        return "0"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return "0" if not text.strip("0") else text


def _is_false(success: Any) -> bool:
    return success is False or (isinstance(success, str) and success.strip().lower() == "false")


def _error(
    operation: Operation,
    rule: ErrorCode,
    response: Response,
    *,
    code: str = "",
    message: str = "",
    payload: Mapping[str, Any] | None = None,
) -> CallError:
    # This is contradictory, but if the job exists, its images can only be collected with this key.
    key = _result_key(payload) if operation is Operation.SUBMIT and payload else ""
    if not _is_encodable(key):
        rule, key = LOST, ""  # there may be a job, but nobody can query it
    return CallError(
        operation,
        rule,
        code=_short(code),
        http_status=response.status,
        message=message,
        request_id=_request_id(payload),
        gateway_request_id=_gateway_id(response),
        retry_after=retry_after(response.headers),
        result_key=key,
    )


_MAX_ID: Final = 80


def _short(value: object) -> str:
    """Return a code, an id or a status as it may be written anywhere: it may quote a URL, or be no text."""
    text = sanitize_message(str(value).encode(errors="replace").decode())
    # The mark shows where a secret may have been cut: see without_secret.
    return text if len(text) <= _MAX_ID else text[: _MAX_ID - 1] + "…"


def _request_id(payload: Mapping[str, Any] | None) -> str:
    return _short((payload or {}).get("requestId") or "")


def _gateway_id(response: Response) -> str:
    return _short(response.headers.get(GATEWAY_ID_HEADER) or "")


def _result_key(payload: Mapping[str, Any]) -> str:
    data = payload.get("data")
    key = data.get("result_key") if isinstance(data, dict) else None
    return str(key).strip() if isinstance(key, str | int) and not isinstance(key, bool) else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of ``Retry-After``: a number, or a date relative to the response's ``Date``."""
    value = (headers.get("Retry-After") or "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
            seconds = (until - parsedate_to_datetime(headers.get("Date") or "")).total_seconds()
        except (TypeError, ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def parse_job(
    operation: Operation, response: Response, payload: Mapping[str, Any], result_key: str = ""
) -> Job:
    """Return the job that a successful response describes.

    :param payload: what :func:`parse_envelope` returned.
    :param result_key: the requested key, for a response that does not repeat it.
    :raises CallError: if the response to a submit does not contain a ``result_key`` that can be encoded: the
        outcome is unknown.
    """
    key = _result_key(payload)
    if operation is Operation.SUBMIT and not (key and _is_encodable(key)):
        what = "a result_key that cannot be encoded" if key else "no result_key"
        message = f"HTTP {response.status} that reports success but has {what}"
        raise _error(operation, by_status(response.status), response, message=message, payload=payload)
    return Job(
        result_key=key or result_key,
        tasks=tuple(_task(i, entry) for i, entry in enumerate(_entries(payload))),
        request_id=_request_id(payload),
        gateway_request_id=_gateway_id(response),
        is_named=bool(key),
    )


def check_result_key(response: Response, payload: Mapping[str, Any], result_key: str) -> None:
    """Check that the response to a query is about the requested job.

    :param result_key: the requested key. A response without a key may be about it: what its tasks echo
        decides, see :mod:`.matching`.
    :raises CallError: if the response names another job; of kind ``SERVICE``, because another query may
        help.
    """
    key = _result_key(payload)
    if key and key.casefold() != result_key.strip().casefold():
        message = f"the response is about job {key[:_MAX_ID]}, not about job {result_key.strip()[:_MAX_ID]}"
        raise _error(Operation.QUERY, by_status(response.status), response, message=message, payload=payload)


def _entries(payload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    data = payload.get("data")
    entries = data.get("task_list") if isinstance(data, dict) else None
    if isinstance(entries, dict):
        return [entries]
    if not isinstance(entries, list):
        return []
    # An unreadable entry keeps its place and counts as not finished. Without it, the others would move
    # up.
    return [entry if isinstance(entry, dict) else {} for entry in entries]


def statuses(payload: Mapping[str, Any]) -> list[str]:
    """Return the statuses of the image tasks, which cost less than a whole job. A poll needs only these."""
    return [_status(entry) for entry in _entries(payload)]


def _status(entry: Mapping[str, Any]) -> str:
    value = entry.get("status")
    status = value.strip().upper() if isinstance(value, str) else ""
    results = entry.get("results")
    # A failure may be submitted again. Results in a form that is not known are there, and billed.
    is_unreadable = status == JobStatus.SUCCESS and _has_content(results) and not _results(results)
    if is_unreadable:
        return UNREADABLE
    return status if status in _STATUSES else _short(status)


_STATUSES: Final = frozenset(JobStatus)


def _has_content(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return any(map(_has_content, value)) if isinstance(value, list) else bool(value)


_NOT_ECHO: Final = frozenset({"status", "results", "message"})
NO_RESULT: Final = "SUCCESS without a result"
UNREADABLE: Final = "SUCCESS with results that cannot be read"
"""The status of a successful image task whose results are not URLs. It counts as not finished."""


def _task(index: int, entry: Mapping[str, Any]) -> TaskResult:
    status = _status(entry)
    results = _results(entry.get("results"))
    message = entry.get("message")
    message = sanitize_message(message) if isinstance(message, str) else ""
    if status == JobStatus.SUCCESS and not results:
        # There is nothing to download, so it is a failure for all callers.
        status, message = JobStatus.FAILED.value, NO_RESULT
    return TaskResult(
        index=index,
        status=status,
        results=results if status == JobStatus.SUCCESS else (),
        message=message,
        echo={name: value for name, value in entry.items() if name not in _NOT_ECHO},
    )


def _results(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        return ()
    return tuple(url.strip() for url in value if isinstance(url, str) and url.strip())
