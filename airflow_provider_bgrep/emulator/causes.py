# SPDX-License-Identifier: Apache-2.0
"""How to make the emulator answer with each code: by its cause where one exists, else by a fault.

It has a row for every row of the tables of codes. ``docs/emulator.rst`` prints it, and the tests cause every
code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from airflow_provider_bgrep.emulator.settings import BACKENDS, RATE_SCOPES, SUBSCRIPTIONS
from airflow_provider_bgrep.protocol.codes import GATEWAY_CODES, GATEWAY_TEXTS, SERVICE_CODES


@dataclass(frozen=True, slots=True)
class Cause:
    """How to cause a code.

    :param code: the code, or an older gateway's text.
    :param how: the cause in words; empty if only ``inject("code", code=…)`` produces the code.
    :param configure: settings that the cause needs.
    """

    code: str
    how: str = ""
    configure: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def by_fault(self) -> bool:
        """Whether only the fault API produces the code."""
        return not self.how


def _service() -> list[Cause]:
    return [
        Cause("23500001", "An AppCode that the gateway knows and the service does not, or any unknown one "
              "where there is no gateway (``gateway=\"none\"``).",
              {"app_codes": {"stranger": "unknown to the service"}}),
        Cause("23500002", "An unknown path of the service, such as ``/api/v1/bg-rep/cancel``."),
        Cause("23500003", "A submit that asks for more images than are left.", {"quota_images": 0}),
        Cause("23500004", "A submit while too many jobs are unfinished.", {"busy_jobs": 0}),
        Cause("23500005", "An image marked as refused: ``bad_image(\"refused\")``, or any with the text "
              "chunk ``bgrep-emulator: refused``."),
        Cause("23500006", "An image or mask whose URL is not valid, or cannot be read: "
              "``bad_image(\"missing\")``."),
        Cause("23500007", "An image or mask of the wrong size, format or kind, such as "
              "``bad_image(\"too-small\")``."),
        Cause("23500008", "A query for a key that does not exist, belongs to another AppCode, or is "
              "older than ``job_seconds``."),
        Cause("23500009", "A required field is missing, null or empty."),
        Cause("23500012", "The body is empty."),
        Cause("23500013", "A field out of its range, of the wrong type or unknown; a body that is not JSON; "
              "more image tasks than allowed."),
        Cause("23500014", "A path of another service, such as ``/api/v1/bg-remove/submit``."),
    ]  # fmt: skip


def _gateway() -> list[Cause]:
    rows = [
        Cause("A400MA", "No ``Authorization``."),
        Cause("A400AC", "An ``Authorization`` header that is not of the form ``APPCODE code``."),
        Cause("A401AC", "An unknown AppCode."),
        Cause("A400IK", "``X-Ca-Key`` instead of ``Authorization``."),
        Cause("A401OT", "A bearer token."),
        Cause("A403EP", "An expired AppCode.", {"app_codes": {"old": "expired"}}),
        Cause("A403PR", "An AppCode that may not call this API.", {"app_codes": {"other": "unauthorized"}}),
        Cause("A403IP", "A caller whose address is not allowed.", {"allowed_addresses": ["10.0.0.0/8"]}),
        Cause("S403NU", "A nonce that was used within the last 15 minutes; ``advance`` moves the clock."),
        Cause("S403TE", "An ``X-Ca-Timestamp`` that differs from the clock by more than 15 minutes."),
        Cause("I400NC", "No ``X-Ca-Nonce``, or an empty one."),
        Cause("I403PT", "A request over http where https is required.", {"https_only": True}),
        Cause("I404DO", "A ``Host`` that is not served.", {"domains": ["api.example.com"]}),
        Cause("I404NF", "A path that is not part of an API."),
        Cause("I404NR", "``X-Ca-Stage: TEST`` or ``PRE``: the API is not released there."),
        Cause("I400SG", "An ``X-Ca-Stage`` that does not exist."),
        Cause("I400BD", "A body that cannot be read, such as one that is not compressed as "
              "``Content-Encoding`` says."),
        Cause("I405UM", "A method other than POST."),
        Cause("I400HD", "``Authorization``, ``X-Ca-Nonce`` or ``Content-Type`` given twice."),
        Cause("I400MH", "No ``Content-Type``."),
        Cause("I400CT", "A ``Content-Type`` other than ``application/json``."),
        Cause("I400PA", "A path with an empty segment or a ``..`` segment."),
        Cause("I400RU", "A path or query string with an invalid percent escape."),
        Cause("I413RL", "A body larger than allowed."),
        Cause("I413UL", "URL and headers larger than allowed."),
        Cause("D503CB", "The circuit breaker is open, after several timeouts of the service within 30 "
              "seconds. It closes after 90 seconds.",
              {"breaker_timeouts": 1, "backend_seconds": 0.02, "backend_timeout": 0.01}),
        Cause("D504TO", "The service takes longer than the gateway waits, but accepts the job.",
              {"backend_seconds": 0.02, "backend_timeout": 0.01}),
        Cause("T429ID", "More calls in a day than the public test domain allows.", {"daily_calls": 0}),
    ]  # fmt: skip
    rows += [
        Cause(code, f"The subscription is in the state ``{state}``.", {"subscription": state})
        for state, code in SUBSCRIPTIONS.items()
        if code
    ]
    rows += [
        Cause(code, f"More calls per second than allowed, with the limit's scope ``{scope}``.",
              {"rate": 0.001, "rate_scope": scope})
        for scope, (code, _) in RATE_SCOPES.items()
        if scope != "domain"
    ]  # fmt: skip
    rows += [
        Cause(code, f"The service behind the gateway is in the state ``{state}``.", {"backend": state})
        for state, code in BACKENDS.items()
        if code
    ]
    return rows


def _texts() -> list[Cause]:
    old = {"gateway": "texts"}
    rows = [
        Cause(text, f"More calls per second than allowed, with the limit's scope ``{scope}``.",
              {**old, "rate": 0.001, "rate_scope": scope})
        for scope, (_, text) in list(RATE_SCOPES.items())[:5]
    ]  # fmt: skip
    return [
        *rows,
        Cause("Quota Exhausted", "The subscription is used up.", {**old, "subscription_calls": 0}),
        Cause("Quota Expired", "The subscription is expired.", {**old, "subscription": "expired"}),
        Cause("User Arrears", "The subscription is overdue.", {**old, "subscription": "overdue"}),
        Cause("Expiry of Authorization", "An expired AppCode.", {**old, "app_codes": {"old": "expired"}}),
        Cause("Unauthorized", "No ``Authorization``, or an AppCode that may not call this API.", old),
        Cause("Invalid AppCode", "An unknown AppCode.", old),
        Cause("Nonce Used", "A nonce that was used within the last 15 minutes.", old),
        Cause("Failed To Invoke Backend Service", "The service cannot be reached, or drops the connection.",
              {**old, "backend": "drops"}),
        Cause("Async Service", "The service takes longer than the gateway waits.",
              {**old, "backend_seconds": 0.02, "backend_timeout": 0.01}),
        Cause("Service Unavailable", "The service is busy.", {**old, "backend": "busy"}),
    ]  # fmt: skip


def _whole() -> dict[str, Cause]:
    causes = {cause.code: cause for cause in [*_service(), *_gateway(), *_texts()]}
    texts = [rule.code for rule in GATEWAY_TEXTS]
    return {code: causes.get(code, Cause(code)) for code in [*SERVICE_CODES, *GATEWAY_CODES, *texts]}


CAUSES: Final = _whole()
"""The cause of every code of the three tables, in their order."""


def as_rst() -> str:
    """Return the table as reStructuredText, for ``docs/emulator.rst``."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 20 50 30", ""]
    rows = [("Code", "Cause", "Settings")]
    for cause in CAUSES.values():
        settings = ", ".join(f"``{name}={value!r}``" for name, value in cause.configure.items())
        rows.append((f"``{cause.code}``", cause.how or "*only by injection*", settings))
    for row in rows:
        for number, cell in enumerate(row):
            lines.append((("   * - " if number == 0 else "     - ") + cell).rstrip())
    return "\n".join(lines) + "\n"
