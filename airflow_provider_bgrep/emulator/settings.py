# SPDX-License-Identifier: Apache-2.0
"""The settings of an emulator, which can be changed while it runs."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

from airflow_provider_bgrep.protocol.limits import RESULT_URL_SECONDS

DEFAULT_APP_CODE: Final = "emulator-app-code"

TIMINGS: Final = ("instant", "polls", "lifelike")

BACKGROUNDS: Final = ("scenes", "plain")

GATEWAYS: Final = ("codes", "texts", "none")

APP_CODE_STATES: Final = {
    "active": "",
    "expired": "A403EP",
    "unauthorized": "A403PR",
    "unknown to the service": "23500001",
}
"""States of an AppCode, and the code that answers a call with it."""

SUBSCRIPTIONS: Final = {
    "active": "",
    "used up": "B403MQ",
    "expired": "B403ME",
    "invalid": "B403MI",
    "overdue": "B403MO",
    "provider overdue": "B403OD",
}
"""States of the subscription, and the code of each."""

RATE_SCOPES: Final = {
    "user": ("T429UR", "Throttled by USER Flow Control"),
    "app": ("T429MR", "Throttled by APP Flow Control"),
    "api": ("T429PA", "Throttled by API Flow Control"),
    "group": ("T429GR", "Throttled by GROUP Flow Control"),
    "domain": ("T429ID", "Throttled by DOMAIN Flow Control"),
    "instance": ("T429IN", "Throttled by API Flow Control"),
    "plugin": ("T429PR", "Throttled by API Flow Control"),
    "server": ("T429SR", "Throttled by API Flow Control"),
}
"""Scopes of a rate limit: the current code, and the text of an older gateway. The gateway's pages only list
the codes; some of these assignments are this project's interpretation."""

BACKENDS: Final = {
    "up": "",
    "unreachable": "D504CO",
    "unresolvable": "D504RE",
    "internal address": "D504IL",
    "tls broken": "D504CS",
    "busy": "D503BB",
    "gateway busy": "X503BZ",
    "drops": "N502RE",
}
"""States of the service behind the gateway. ``drops`` accepts the call and drops the connection."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of an emulator, changed with ``configure``.

    :param timing: ``instant`` (finished at the first query), ``polls`` (after ``polls`` unfinished
        answers) or ``lifelike`` (a log-normal time).
    :param polls: number of queries that find a job unfinished, in ``polls`` timing.
    :param seconds: median and sigma of an image task's log-normal time, in ``lifelike`` timing.
    :param stagger: polls (seconds, in ``lifelike`` timing) between the ends of the image tasks of a job.
    :param fetch: whether submitted images and masks are fetched and checked.
    :param backgrounds: ``scenes`` (drawn by words of the prompt) or ``plain`` (a gradient of two colors, for
        tests that submit many images: it takes a fraction of the CPU time).
    :param result_seconds: seconds that a result URL is valid.
    :param job_seconds: seconds that a job can be queried; ``None`` for no limit.
    :param quota_images: credit in images, counted from the start or the last reset (23500003).
    :param subscription_calls: calls of the subscription, counted in the same way (B403MQ).
    :param subscription: one of :data:`SUBSCRIPTIONS`.
    :param app_codes: further AppCodes and the state of each, one of :data:`APP_CODE_STATES`; may include the
        emulator's own.
    :param rate: calls per second before throttling; a burst of one second is allowed.
    :param rate_scope: scope of ``rate``, one of :data:`RATE_SCOPES`.
    :param daily_calls: calls a day on a public test domain (T429ID).
    :param busy_jobs: unfinished jobs at which the service itself throttles submits (23500004).
    :param gateway: ``codes`` (today's 6 characters), ``texts`` (an older gateway) or ``none`` (the
        service without a gateway, which then checks the AppCode itself).
    :param domains: accepted ``Host`` values; ``None`` accepts all (I404DO).
    :param https_only: refuse http, which is the only scheme of this emulator (I403PT).
    :param allowed_addresses: networks that may call, such as ``10.0.0.0/8``; ``None`` for all (A403IP).
    :param backend: one of :data:`BACKENDS`.
    :param backend_seconds: seconds that the service takes to answer.
    :param backend_timeout: seconds that the gateway waits for it (D504TO); ``None`` for no limit.
    :param breaker_timeouts: timeouts within 30 s that open the gateway's breaker (D503CB).
    """

    timing: str = "instant"
    polls: int = 2
    seconds: tuple[float, float] = (20.0, 0.35)
    stagger: float = 0
    fetch: bool = True
    backgrounds: str = "scenes"
    result_seconds: float = RESULT_URL_SECONDS
    job_seconds: float | None = None
    quota_images: int | None = None
    subscription_calls: int | None = None
    subscription: str = "active"
    app_codes: Mapping[str, str] = field(default_factory=dict)
    rate: float | None = None
    rate_scope: str = "user"
    daily_calls: int | None = None
    busy_jobs: int | None = None
    gateway: str = "codes"
    domains: tuple[str, ...] | None = None
    https_only: bool = False
    allowed_addresses: tuple[str, ...] | None = None
    backend: str = "up"
    backend_seconds: float = 0
    backend_timeout: float | None = None
    breaker_timeouts: int = 1000

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if not check(value):
                raise ValueError(f"{name} cannot be {value!r}{_choices(name)}")
        object.__setattr__(self, "seconds", tuple(self.seconds))

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """Return the settings with some of them changed.

        :param changes: new values by name.
        :raises ValueError: for an unknown name or an invalid value.
        """
        known = {one.name for one in fields(self)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ValueError(f"unknown settings {unknown}; known are {sorted(known)}")
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Return all settings by name, as values that JSON can represent."""
        return asdict(self)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _count(value: Any) -> bool:
    return isinstance(value, int) and _number(value)


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _strings(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


def _networks(value: Any) -> bool:
    try:
        return _strings(value) and all(map(ipaddress.ip_network, value))
    except ValueError:
        return False


def _median_and_sigma(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_number, value)) and value[0] > 0


def _one_of(choices: Iterable[str]) -> Callable[[Any], bool]:
    known = frozenset(choices)
    return lambda value: isinstance(value, str) and value in known


def _states(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_one_of(APP_CODE_STATES), value.values()))


_CHOICES: Final[dict[str, Any]] = {
    "timing": TIMINGS,
    "backgrounds": BACKGROUNDS,
    "gateway": GATEWAYS,
    "subscription": SUBSCRIPTIONS,
    "rate_scope": RATE_SCOPES,
    "backend": BACKENDS,
}

_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    **{name: _one_of(choices) for name, choices in _CHOICES.items()},
    "polls": _count,
    "seconds": _median_and_sigma,
    "stagger": _number,
    "fetch": lambda value: isinstance(value, bool),
    "result_seconds": _number,
    "job_seconds": _or_none(_number),
    "quota_images": _or_none(_count),
    "subscription_calls": _or_none(_count),
    "app_codes": _states,
    "rate": _or_none(lambda value: _number(value) and value > 0),
    "daily_calls": _or_none(_count),
    "busy_jobs": _or_none(_count),
    "domains": _or_none(_strings),
    "https_only": lambda value: isinstance(value, bool),
    "allowed_addresses": _or_none(_networks),
    "backend_seconds": _number,
    "backend_timeout": _or_none(_number),
    "breaker_timeouts": lambda value: _count(value) and value > 0,
}


def _choices(name: str) -> str:
    if name == "app_codes":
        return f"; states are {sorted(APP_CODE_STATES)}"
    return f"; choose from {sorted(_CHOICES[name])}" if name in _CHOICES else ""
