# SPDX-License-Identifier: Apache-2.0
"""Responses as the service, the gateway and the storage of results write them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from xml.sax.saxutils import escape

from airflow_provider_bgrep.emulator.settings import RATE_SCOPES
from airflow_provider_bgrep.protocol.codes import GATEWAY_CODES, GATEWAY_TEXTS, SERVICE_CODES

JSON: Final = "application/json;charset=UTF-8"
HTML: Final = "text/html; charset=utf-8"

_TEXT_RULES: Final = {rule.code.casefold(): rule for rule in GATEWAY_TEXTS}

_MESSAGES: Final = {
    "A400MA": "Need authorization, `X-Ca-Key` or `Authorization: APPCODE ...` is required",
    "A400AC": "Invalid AppCode: not of the form `APPCODE ...`",
    "A401AC": "Invalid AppCode",
    "A400IK": "Invalid AppKey",
    "A401OT": "Invalid OAuth Token",
    "A403EP": "Authorization expired",
    "A403PR": "Unauthorized: the AppCode may not call this API",
    "A403IP": "Access denied by IP Control Policy",
    "B403MQ": "Api Market Subscription quota exhausted",
    "B403ME": "Api Market Subscription has expired",
    "B403MI": "Api Market Subscription invalid",
    "B403MO": "Api Market Subscription overdue",
    "B403OD": "Provider Account Overdue",
    "I400NC": "X-Ca-Nonce is required",
    "S403NU": "Nonce Used",
    "S403TE": "X-Ca-Timestamp is expired",
    "I404DO": "Invalid Domain",
    "I403PT": "Invalid protocol http unsupported",
    "I413RL": "Request body too Large",
    "I413UL": "Request URL too Large",
    "I405UM": "Unsupported Method",
    "I404NF": "API not found",
    "I404NR": "API not released in this stage",
    "I400SG": "Invalid Stage",
    "I400CT": "Invalid Content-Type",
    "I400MH": "Header `Content-Type` is Required",
    "I400HD": "Invalid Header: given more than once",
    "I400PA": "Invalid Request Path",
    "I400RU": "Invalid Request Uri",
    "I400BD": "Invalid Body",
    "D503CB": "Backend circuit breaker open",
    "D504TO": "Backend service request timeout",
    "D504CO": "Backend service connect failed",
}
"""``X-Ca-Error-Message`` where captured or published; other codes send their meaning."""

_OLD_TEXTS: Final = {
    "S403NU": "Nonce Used",
    "A400AC": "Invalid AppCode",
    "A401AC": "Invalid AppCode",
    "A400MA": "Unauthorized",
    "A403PR": "Unauthorized",
    "A403EP": "Expiry of Authorization",
    "B403MQ": "Quota Exhausted",
    "B403ME": "Quota Expired",
    "B403MO": "User Arrears",
    "D504TO": "Async Service",
    "D504CO": "Failed To Invoke Backend Service",
    "N502RE": "Failed To Invoke Backend Service",
    "D503BB": "Service Unavailable",
    "X503BZ": "Service Unavailable",
    **dict(RATE_SCOPES.values()),
}
"""The text of an older gateway for the current code."""


@dataclass(slots=True)
class Answer:
    """An answer and how it is delivered.

    :param status: HTTP status.
    :param body: bytes of the body.
    :param headers: its headers.
    :param delivery: ``send``, ``reset`` (the connection is reset instead) or ``cut`` (the connection closes
        after ``sent`` bytes of the body).
    :param wait: seconds before it is sent.
    :param sent: number of bytes sent if it is cut.
    :param refused: whether the call is refused.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delivery: str = "send"
    wait: float = 0.0
    sent: int = 0
    refused: bool = False

    def with_headers(self, headers: Mapping[str, str]) -> Answer:
        """Return the answer with more headers."""
        return replace(self, headers={**self.headers, **headers})


def success(data: bytes) -> Answer:
    """Return the service's answer to a successful call.

    :param data: the JSON of ``data``.
    """
    request_id = str(uuid.uuid4()).upper()
    body = b'{"code":0,"data":%b,"message":"success","requestId":"%b","severity":"info","success":true}' % (
        data,
        request_id.encode(),
    )
    return Answer(200, body, {"Content-Type": JSON, "X-Ca-Request-Id": str(uuid.uuid4()).upper()})


def service_error(code: str, detail: str = "") -> Answer:
    """Return the service's answer to a call that it refuses or loses.

    :param code: one of the service's codes.
    :param detail: details for the header ``X-Emulator-Detail``, which only the emulator sends; the body has
        the message of the table, like the real service's.
    """
    rule = SERVICE_CODES[code]
    body = {
        "code": code,
        "message": rule.meaning,
        "requestId": str(uuid.uuid4()).upper(),
        "severity": "error",
        "success": False,
    }
    headers = {"Content-Type": JSON, "X-Ca-Request-Id": str(uuid.uuid4()).upper()}
    if detail:
        headers["X-Emulator-Detail"] = _printable(detail)
    return Answer(rule.http_status, json.dumps(body).encode(), headers, refused=True)


def gateway_error(code: str, detail: str = "", *, texts: bool = False) -> Answer:
    """Return the gateway's answer: headers without a body.

    :param code: a 6-character code, or a text of an older gateway.
    :param detail: details for the header ``X-Emulator-Detail``.
    :param texts: whether to answer as an older gateway does.
    """
    if texts:
        code = _OLD_TEXTS.get(code, code)
    text_rule = _TEXT_RULES.get(code.casefold())
    if text_rule is not None:
        status, header, message = text_rule.http_status, str(text_rule.http_status), text_rule.code
    else:
        rule = GATEWAY_CODES.get(code)
        status = int(code[1:4])
        message = _MESSAGES.get(code) or (rule.meaning if rule else "Refused")
        header = str(status) if texts else code
    headers = {
        "Content-Type": "application/octet-stream",
        "X-Ca-Error-Code": header,
        "X-Ca-Error-Message": message,
        "X-Ca-Request-Id": str(uuid.uuid4()).upper(),
    }
    if detail:
        headers["X-Emulator-Detail"] = _printable(detail)
    return Answer(status, b"", headers, refused=True)


def any_error(code: str) -> Answer:
    """Return the answer with a code of the three tables, or with 6 characters that contain an HTTP status.

    :raises ValueError: for any other text.
    """
    if code in SERVICE_CODES:
        return service_error(code)
    known_text = code.casefold() in _TEXT_RULES
    if known_text or (len(code) == 6 and code[1:4].isdigit() and 400 <= int(code[1:4]) < 600):
        return gateway_error(code)
    if len(code) == 8 and code.isdigit():
        body = json.dumps({"code": code, "message": "unknown", "success": False}).encode()
        return Answer(400, body, {"Content-Type": JSON}, refused=True)
    raise ValueError(
        f"{code!r} is neither a code of the service or the gateway nor a text of an older gateway"
    )


def html(status: int) -> Answer:
    """Return an HTML page, as a proxy or a captive portal sends it."""
    page = f"<!DOCTYPE html><html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
    return Answer(status, page.encode(), {"Content-Type": HTML}, refused=status >= 400)


def storage_error(status: int, code: str, message: str, now: float, expires: float | None = None) -> Answer:
    """Return the XML with which object storage refuses a download.

    :param code: such as ``AccessDenied``.
    :param now: the emulator's clock.
    :param expires: when the URL expired.
    """
    rows = {
        "Code": code,
        "Message": message,
        "RequestId": uuid.uuid4().hex[:24].upper(),
        "HostId": "emulator",
    }
    if expires is not None:
        rows["Expires"], rows["ServerTime"] = _iso(expires), _iso(now)
    inner = "".join(f"\n  <{name}>{escape(value)}</{name}>" for name, value in rows.items())
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}\n</Error>\n'
    return Answer(status, body.encode(), {"Content-Type": "application/xml"}, refused=True)


def as_json(value: Any, status: int = 200) -> Answer:
    """Return plain JSON, for the control routes."""
    return Answer(status, json.dumps(value, ensure_ascii=False).encode(), {"Content-Type": JSON})


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _printable(text: str) -> str:
    plain = text.encode("ascii", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in plain)[:500]
