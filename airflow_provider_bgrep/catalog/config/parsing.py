# SPDX-License-Identifier: Apache-2.0
"""Reads the values of options: Airflow's templates and trigger forms render everything to text.

Each parser takes a value as a DAG file, a template or a form gives it, and raises ``ValueError`` with the
words that follow "give" in a message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

_NOTHING: Final = frozenset({"", "none", "null"})
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
_MAX_SHOWN: Final = 60
_THOUSANDS: Final = {
    "float": re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+"),
    "integer": re.compile(r"[+-]?[1-9]\d{0,2}([,.]\d{3})+"),
}
"""``1,000`` may be a thousand or one: it is taken for neither, nor is ``1.000`` for an integer."""


def is_nothing(value: Any) -> bool:
    """Whether an option is not given: ``None``, or what a template renders ``None`` to."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def shown(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def parse_text(value: Any) -> str:
    """Text without blanks around it."""
    return str(value).strip()


def parse_bool(value: Any) -> bool:
    """A truth value: ``true``, ``yes``, ``on``, ``1`` or their opposites, in any case."""
    text = str(value).strip().lower()
    if text in _TRUE | _FALSE:
        return text in _TRUE
    raise ValueError("true or false")


def number(least: float, most: float, kind: Callable[[str], Any], words: str) -> Callable[[Any], Any]:
    """A parser of numbers.

    :param least: the smallest number allowed.
    :param most: the largest.
    :param kind: makes a number of text: ``int``, ``float`` or ``Decimal``.
    :param words: what to give, for the message.
    """

    def parse(value: Any) -> Any:
        try:
            if not isinstance(value, bool):
                found = kind(str(value).strip())
                if least <= found <= most:
                    return found + 0  # -0 is 0
        except (ValueError, InvalidOperation):
            pass
        raise ValueError(words) from None

    return parse


def decimal(most: float, words: str) -> Callable[[Any], Decimal]:
    """A parser of sums of money, from 0."""
    return number(0, most, Decimal, words)


def parse_seconds(value: Any) -> float:
    """A duration of a minute to 31 days: seconds or a ``timedelta``."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return float(number(60, 31 * 86400, float, "60 to 2678400 seconds, or a timedelta")(value))


def parse_positive_seconds(value: Any) -> float:
    """A duration above 0: seconds or a ``timedelta``."""
    words = "seconds above 0, or a timedelta"
    if isinstance(value, timedelta):
        value = value.total_seconds()
    found = float(number(0, 10**9, float, words)(value))
    if not found:
        raise ValueError(words)
    return found


def parse_limit(value: Any) -> float:
    """A number of rows from 1, or a share of them between 0 and 1."""
    words = "a number of rows from 1, or a share below 1 such as 0.05"
    found = float(number(0, 10**9, float, words)(value))
    if found == 0 or (found > 1 and not found.is_integer()):
        raise ValueError(words)
    return found


def parse_mapping(value: Any) -> Mapping[str, Any]:
    """A mapping, or one as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("a mapping, or one as JSON") from None
    if not isinstance(value, Mapping):
        raise ValueError("a mapping, or one as JSON")  # noqa: TRY004 (everything wrong is one kind of error)
    return value


def choice(*choices: str) -> Callable[[Any], str]:
    """A parser of one word out of several."""

    def parse(value: Any) -> str:
        text = str(value).strip()
        if text in choices:
            return text
        raise ValueError(f"one of {', '.join(choices)}")

    return parse


def parse_number(value: Any, kind: str) -> Any:
    """A cell or a default as a number, if it is one; else as it is, for the validation to name it.

    :param value: text as half the world writes numbers, with a point or a comma.
    :param kind: ``float`` or ``integer``.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text.isascii() or _THOUSANDS[kind].fullmatch(text):
        return value
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    try:
        return int(text)
    except ValueError:
        pass
    try:
        found = float(text)
    except ValueError:
        return value
    return int(found) if found.is_integer() else found
