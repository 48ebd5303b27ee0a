# SPDX-License-Identifier: Apache-2.0
"""Parses the values of options, because Airflow's templates and trigger forms render everything to text.

Each parser accepts a value from a DAG file, a template or a form. It raises ``ValueError`` with the words
that follow "give" in a message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from airflow_provider_bgrep.catalog.model.editions import SEPARATOR
from airflow_provider_bgrep.protocol.urls import redacted_beginning

_NOTHING: Final = frozenset({"", "none", "null"})
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
_MAX_SHOWN: Final = 60
_THOUSANDS: Final = {
    "float": re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+"),
    "integer": re.compile(r"[+-]?[1-9]\d{0,2}([,.]\d{3})+"),
}
"""``1,000`` can mean one thousand or one, so it is not accepted, nor is ``1.000`` as an integer."""


def is_nothing(value: Any) -> bool:
    """Return whether an option is not set: ``None``, or the text to which a template renders ``None``."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def shown(value: Any) -> str:
    """Return a value as a message shows it."""
    return redacted_beginning(repr(value), _MAX_SHOWN)


def parse_text(value: Any) -> str:
    """Return text without surrounding white space."""
    return str(value).strip()


def parse_edition(value: Any) -> str:
    """Return an edition, without surrounding white space."""
    text = parse_text(value)
    if SEPARATOR in text:
        raise ValueError(f"a text without {SEPARATOR!r}, which tells editions of single rows apart")
    return text


def parse_bool(value: Any) -> bool:
    """Return a truth value: ``true``, ``yes``, ``on``, ``1`` or their opposites, in any case."""
    text = str(value).strip().lower()
    if text in _TRUE | _FALSE:
        return text in _TRUE
    raise ValueError("true or false")


def number(least: float, most: float, kind: Callable[[str], Any], words: str) -> Callable[[Any], Any]:
    """Return a parser of numbers.

    :param least: the smallest number allowed.
    :param most: the largest number allowed.
    :param kind: converts text to a number: ``int``, ``float`` or ``Decimal``.
    :param words: the expected value, for the message.
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
    """Return a parser of sums of money, from 0."""
    return number(0, most, Decimal, words)


def parse_seconds(value: Any) -> float:
    """Return a duration of a minute to 31 days in seconds, from seconds or a ``timedelta``."""
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
    """Return a mapping, from a mapping or JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("a mapping or its JSON text") from None
    if not isinstance(value, Mapping):
        raise ValueError("a mapping or its JSON text")  # noqa: TRY004 (everything wrong is one kind of error)
    return value


def _texts(value: Any, words: str) -> tuple[str, ...]:
    """Return the texts of a list, or of its JSON text; one text without JSON is a list of its own."""
    if isinstance(value, str):
        text = value.strip()
        try:
            value = json.loads(text) if text.startswith("[") else [text]
        except ValueError:
            raise ValueError(words) from None
    if not isinstance(value, list | tuple | set | frozenset):
        raise ValueError(words)  # noqa: TRY004 (everything wrong is one kind of error)
    if not all(isinstance(one, str) and one.strip() for one in value):
        raise ValueError(words)
    return tuple(dict.fromkeys(one.strip() for one in value))


def parse_names(value: Any) -> tuple[str, ...]:
    """Return names of query parameters, from a list, its JSON text or one name."""
    words = 'a list of parameter names, such as ["token", "expires"]'
    names = _texts(value, words)
    if any(re.search(r"[\s&=?#,]", name) for name in names):
        raise ValueError(words)
    return names


def parse_prefixes(value: Any) -> tuple[str, ...]:
    """Return beginnings of URLs and paths, from a list, its JSON text or one of them."""
    words = 'a list of URLs or paths, such as ["s3://shop/images/", "https://cdn.shop.example/"]'
    prefixes = _texts(value, words)
    if not all(re.fullmatch(r"[A-Za-z][\w+.-]*://[^\s?#@]+", prefix) for prefix in prefixes):
        raise ValueError(words)
    return prefixes


def parse_page_url(value: Any) -> str:
    """Return the URL of a folder that a browser can open, without a slash at its end."""
    text = str(value).strip()
    # It is stored, so it may not contain anything that gives access: a user, a password, a signature.
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", text, re.IGNORECASE):
        raise ValueError(
            "an http(s) URL without user, query and fragment, such as https://images.shop.example/catalog"
        )
    return text.rstrip("/")


def parse_texts(value: Any) -> tuple[str, ...]:
    """Return texts, from a list, its JSON text or one text."""
    return _texts(value, "a list of texts or its JSON text")


def choice(*choices: str) -> Callable[[Any], str]:
    """Return a parser of one word out of several."""

    def parse(value: Any) -> str:
        text = str(value).strip()
        if text in choices:
            return text
        raise ValueError(f"one of {', '.join(choices)}")

    return parse


def parse_number(value: Any, kind: str) -> Any:
    """Return a cell or a default as a number, if it is one; otherwise unchanged, so that validation
    reports it.

    :param value: text with a decimal point or a decimal comma.
    :param kind: ``float`` or ``integer``.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text.isascii() or "_" in text or _THOUSANDS[kind].fullmatch(text):
        return value  # Python reads 1_5 as 15
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
