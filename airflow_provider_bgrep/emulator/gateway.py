# SPDX-License-Identifier: Apache-2.0
"""The gateway in front of the service, which refuses calls with headers and an empty body.

It checks in this order: domain, scheme, size of URL and headers, path, method, stage, repeated headers,
AppCode, address of the caller, nonce, timestamp, Content-Type, size of the body; then the account:
subscription, rate; then the service: circuit breaker, reachability. A nonce is used up once it was checked,
whatever the later checks find.
"""

from __future__ import annotations

import ipaddress
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from airflow_provider_bgrep.emulator.settings import (
    APP_CODE_STATES,
    BACKENDS,
    RATE_SCOPES,
    SUBSCRIPTIONS,
    Settings,
)
from airflow_provider_bgrep.emulator.state import State
from airflow_provider_bgrep.protocol.limits import (
    APPCODE_PREFIX,
    BREAKER_OPEN_SECONDS,
    MAX_HEADER_BYTES,
    MAX_REQUEST_BYTES,
    NONCE_WINDOW_SECONDS,
    SUBMIT_PATH,
)

API_PREFIX: Final = SUBMIT_PATH.rsplit("/", 2)[0] + "/"
"""What the gateway routes to the service: ``{prefix}{service}/{operation}``."""

_BREAKER_WINDOW_SECONDS: Final = 30
_STAGES: Final = ("RELEASE", "PRE", "TEST")
_ONCE: Final = ("Authorization", "X-Ca-Nonce", "Content-Type")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DAY: Final = 86_400
_LONGEST_STAMP: Final = 20
"""Digits of a timestamp; a longer number is not a time."""


class Headers(Protocol):
    """The headers of a request, by names of any case."""

    def get(self, name: str, /) -> str | None:
        """Return the first header of a name."""

    def getall(self, name: str, /) -> list[str]:
        """Return all headers of a name."""

    def __contains__(self, name: object, /) -> bool: ...


@dataclass(slots=True)
class Call:
    """The head of a request to the API."""

    method: str
    target: str
    path: str
    headers: Headers
    raw_headers: Iterable[tuple[bytes, bytes]]
    remote: str
    app_code: str = ""


@dataclass(slots=True)
class Gateway:
    """The state of the gateway: the rate of calls, and its circuit breaker."""

    tokens: float = 1.0
    refilled: float = 0.0
    day: int = 0
    calls_today: int = 0
    timeouts: deque[float] = field(default_factory=deque)
    opened: float = float("-inf")

    def refuse_request(
        self, call: Call, state: State, settings: Settings, app_codes: Mapping[str, str], now: float
    ) -> tuple[str, str] | None:
        """Check a request before its body is read.

        :return: a code and the details of the refusal, or ``None``; then ``call.app_code`` is set.
        """
        return (
            _refuse_address(call, settings)
            or _refuse_headers(call)
            or _refuse_app_code(call, app_codes)
            or _refuse_caller(call, settings)
            or _refuse_nonce(call, state, now)
            or _refuse_content(call)
        )

    def refuse_account(self, state: State, settings: Settings, now: float) -> tuple[str, str] | None:
        """Check the subscription and the rate; return a code and details, or ``None``."""
        if settings.subscription != "active":
            return SUBSCRIPTIONS[settings.subscription], f"subscription is {settings.subscription}"
        limit = settings.subscription_calls
        if limit is not None and state.counters.calls >= limit:
            return SUBSCRIPTIONS["used up"], f"subscription_calls is {limit}"
        if settings.daily_calls is not None:
            if self.day != int(now // _DAY):
                self.day, self.calls_today = int(now // _DAY), 0
            if self.calls_today >= settings.daily_calls:
                return RATE_SCOPES["domain"][0], f"daily_calls is {settings.daily_calls}"
            self.calls_today += 1
        if settings.rate is not None and not self._token(settings.rate, now):
            return RATE_SCOPES[settings.rate_scope][0], f"rate is {settings.rate:g} a second"
        return None

    def refuse_backend(self, settings: Settings, now: float) -> tuple[str, str] | None:
        """Check whether the service can be reached; return a code and details, or ``None``."""
        if now < self.opened + BREAKER_OPEN_SECONDS:
            return "D503CB", "breaker open after timeouts"
        if settings.backend not in ("up", "drops"):
            return BACKENDS[settings.backend], f"backend is {settings.backend}"
        return None

    def timed_out(self, settings: Settings, now: float) -> None:
        """Record that the service did not answer in time; several of these open the circuit breaker."""
        self.timeouts.append(now)
        while self.timeouts[0] <= now - _BREAKER_WINDOW_SECONDS:
            self.timeouts.popleft()
        if len(self.timeouts) >= settings.breaker_timeouts:
            self.timeouts.clear()
            self.opened = now

    def _token(self, rate: float, now: float) -> bool:
        most = max(1.0, rate)
        self.tokens = min(most, self.tokens + max(0.0, now - self.refilled) * rate)
        self.refilled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def _refuse_address(call: Call, settings: Settings) -> tuple[str, str] | None:
    if settings.domains is not None:
        host = (call.headers.get("Host") or "").rsplit(":", 1)[0]
        if host not in settings.domains:
            return "I404DO", f"Host is {host}"
    if settings.https_only:
        return "I403PT", "https_only is set"
    size = len(call.target) + sum(len(name) + len(value) + 4 for name, value in call.raw_headers)
    if size > MAX_HEADER_BYTES:
        return "I413UL", f"URL and headers have {size} bytes, {MAX_HEADER_BYTES} are allowed"
    if _BAD_ESCAPE.search(call.target):
        return "I400RU", f"bad escape in {call.target}"
    if "//" in call.path or "/../" in call.path:
        return "I400PA", call.path
    if not (call.path.startswith(API_PREFIX) and call.path.count("/") == API_PREFIX.count("/") + 1):
        return "I404NF", call.path
    if call.method != "POST":
        return "I405UM", call.method
    return None


def _refuse_headers(call: Call) -> tuple[str, str] | None:
    stage = call.headers.get("X-Ca-Stage")
    if stage is not None and stage.upper() != _STAGES[0]:
        return ("I404NR" if stage.upper() in _STAGES else "I400SG"), f"X-Ca-Stage is {stage}"
    for name in _ONCE:
        if name in call.headers and len(call.headers.getall(name)) > 1:
            return "I400HD", f"{name} is given more than once"
    return None


def _refuse_app_code(call: Call, app_codes: Mapping[str, str]) -> tuple[str, str] | None:
    value = call.headers.get("Authorization")
    if value is None:
        if "X-Ca-Key" in call.headers:
            return "A400IK", "only AppCodes are known here, no X-Ca-Key"
        return "A400MA", "Authorization is missing"
    if value.startswith("Bearer "):
        return "A401OT", "a bearer token is not an AppCode"
    code = value.removeprefix(APPCODE_PREFIX)
    if code == value or not code or code != code.strip() or " " in code:
        return "A400AC", f"Authorization is not {APPCODE_PREFIX!r} and a code"
    state = app_codes.get(code)
    if state is None:
        return "A401AC", "no such AppCode"
    call.app_code = code
    refusal = APP_CODE_STATES[state]
    if refusal.startswith("A"):
        return refusal, f"the AppCode is {state}"
    return None


def _refuse_caller(call: Call, settings: Settings) -> tuple[str, str] | None:
    if settings.allowed_addresses is None:
        return None
    address = ipaddress.ip_address(call.remote)
    if any(address in ipaddress.ip_network(net) for net in settings.allowed_addresses):
        return None
    return "A403IP", f"{call.remote} is not in {list(settings.allowed_addresses)}"


def _refuse_nonce(call: Call, state: State, now: float) -> tuple[str, str] | None:
    nonce = call.headers.get("X-Ca-Nonce")
    if not nonce or not nonce.strip():
        return "I400NC", "X-Ca-Nonce is missing or empty"
    if not state.fresh_nonce(nonce, now):
        return "S403NU", f"nonce {nonce} was seen within {NONCE_WINDOW_SECONDS} seconds"
    stamp = call.headers.get("X-Ca-Timestamp")
    if stamp is not None:
        # Milliseconds since the epoch; anything but a number counts as expired.
        is_number = stamp.isascii() and stamp.isdigit() and len(stamp) <= _LONGEST_STAMP
        seconds = int(stamp) / 1000 if is_number else 0.0
        if abs(now - seconds) > NONCE_WINDOW_SECONDS:
            return "S403TE", f"X-Ca-Timestamp is {stamp}"
    return None


def _refuse_content(call: Call) -> tuple[str, str] | None:
    content_type = call.headers.get("Content-Type")
    if content_type is None:
        return "I400MH", "Content-Type is missing"
    if (
        content_type != "application/json"
        and content_type.split(";")[0].strip().lower() != "application/json"
    ):
        return "I400CT", f"Content-Type is {content_type}"
    length = call.headers.get("Content-Length")
    if length is not None and int(length) > MAX_REQUEST_BYTES:
        return "I413RL", f"the body has {length} bytes, {MAX_REQUEST_BYTES} are allowed"
    return None
