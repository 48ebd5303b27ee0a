# SPDX-License-Identifier: Apache-2.0
"""Validates a whole list of image tasks before anything is sent, and reports every problem at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message
from airflow_provider_bgrep.protocol.limits import (
    IMAGE_TASK_FIELDS,
    MAX_SEED,
    MAX_TASKS,
    MIN_SEED,
    MIN_TASKS,
    URL_SCHEMES,
    Field,
)
from airflow_provider_bgrep.protocol.models import TASK_FIELD_NAMES, ImageTask
from airflow_provider_bgrep.protocol.urls import ascii_url, redact_url, redacted_beginning

_SHOWN = 60


def validate_tasks(
    task_list: Any, *, least: int = MIN_TASKS, most: int | None = MAX_TASKS
) -> tuple[ImageTask, ...]:
    """Return the image tasks of a list, validated against the API's ranges.

    :param task_list: any iterable of :class:`ImageTask` or of mappings with the API's field names
        (and ``id``). What a mapping leaves out takes ``ImageTask``'s default.
    :param least: smallest allowed number of image tasks.
    :param most: largest allowed number; ``None`` for no limit.
    :return: the image tasks. Characters that are not allowed in URLs are percent-encoded.
    :raises InvalidInput: with every problem of the whole list.
    """
    if isinstance(task_list, str | bytes):
        raise InvalidInput([Problem("task_list", _text_instead_of_list(task_list))])
    if isinstance(task_list, Mapping | ImageTask) or not isinstance(task_list, Iterable):
        kind = type(task_list).__name__
        raise InvalidInput([Problem("task_list", f"is a single {kind}; give a list of image tasks")])
    entries = list(task_list)
    problems: list[Problem] = []
    if len(entries) < least:
        problems.append(Problem("task_list", f"is empty; give at least {least} image task"))
    if most is not None and len(entries) > most:
        problems.append(
            Problem("task_list", f"has {len(entries)} image tasks; a job has {MIN_TASKS} to {most}")
        )
    tasks = [_checked(entry, f"task_list[{i}]", problems) for i, entry in enumerate(entries)]
    if problems:
        raise InvalidInput(problems)
    return tuple(task for task in tasks if task is not None)


def _text_instead_of_list(text: str | bytes) -> str:
    return (
        f"is text ({_shown(text)}), not a list: a template renders to text. Pass the upstream task's "
        "output (an XComArg), or set render_template_as_native_obj=True on the DAG"
    )


def _checked(entry: Any, where: str, problems: list[Problem]) -> ImageTask | None:
    if isinstance(entry, ImageTask):
        values: dict[str, Any] = {name: getattr(entry, name) for name in TASK_FIELD_NAMES}
    elif isinstance(entry, Mapping):
        values = dict(entry)
    else:
        problems.append(Problem(where, f"is a {type(entry).__name__}; give an ImageTask or a mapping"))
        return None
    before = len(problems)
    for name in values:
        if name not in TASK_FIELD_NAMES:
            shown = sanitize_message(name if isinstance(name, str) and name.isprintable() else repr(name))
            problems.append(Problem(f"{where}.{shown}", _unknown_field(str(name))))
    out: dict[str, Any] = {}
    for name, field in IMAGE_TASK_FIELDS.items():
        value = values.get(name, field.default)
        if name == "negative_prompt" and isinstance(value, str) and not value:
            value = None  # an empty cell of a spreadsheet also means: not set
        if value is None:
            if field.required:
                problems.append(Problem(f"{where}.{name}", f"is missing; give {field.range}"))
            continue
        checked, wrong = _CHECKS[field.kind](value, field)
        if wrong:
            problems.append(Problem(f"{where}.{name}", wrong))
        else:
            out[name] = checked
    own = values.get("id")
    if own is not None and (isinstance(own, bool) or not isinstance(own, str | int)):
        problems.append(Problem(f"{where}.id", f"is a {type(own).__name__}; give a string or an integer"))
    elif isinstance(own, str) and _is_no_text(own):
        problems.append(Problem(f"{where}.id", _is_no_text(own)))
    return ImageTask(**out, id=own) if len(problems) == before else None


def _unknown_field(name: str) -> str:
    close = difflib.get_close_matches(name, TASK_FIELD_NAMES, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"the fields are {', '.join(TASK_FIELD_NAMES)}"
    return f"is not a field of an image task; {hint}"


def _shown(value: Any) -> str:
    text = redacted_beginning(repr(value), _SHOWN)
    return f"{text} ({len(value)} characters)" if text.endswith("…") else text


def _check_text(value: Any, field: Field) -> tuple[Any, str]:
    if not isinstance(value, str):
        return None, f"{_shown_any(value)} is a {type(value).__name__}; give text of {field.range}"
    if field.required and not value.strip():
        return None, f"is blank; give {field.range}"
    if field.maximum is not None and len(value) > field.maximum:
        return None, (
            f"{_shown(value)} is too long; give at most {field.maximum:g} characters (text is not truncated)"
        )
    return value, _is_no_text(value)


def _is_no_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"has a character that is not Unicode text (a lone surrogate) at {error.start}"
    return ""


def _shown_any(value: Any) -> str:
    try:
        return redacted_beginning(repr(value), _SHOWN)  # it may be an image's URL in the wrong field
    except ValueError:  # Python refuses to write out an integer of more than 4,300 digits
        return "an enormous number"


def _not_a_number(value: Any, field: Field) -> str:
    needs = "an integer" if field.kind == "integer" else "a number"
    if isinstance(value, str):
        return (
            f"{_shown_any(value)} is text; give {needs} in {field.range} (a template renders to text: pass "
            "an XComArg, or set render_template_as_native_obj=True)"
        )
    return f"{_shown_any(value)} is a {type(value).__name__}; give {needs} in {field.range}"


def _check_number(value: Any, field: Field) -> tuple[Any, str]:
    number: float
    if field.kind == "integer":
        if isinstance(value, bool) or not isinstance(value, Integral):
            return None, _not_a_number(value, field)
        number = int(value)
    else:
        if isinstance(value, bool) or not isinstance(value, Real):
            return None, _not_a_number(value, field)
        # 10**400 is a Real too, and has no float.
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            return None, f"{_shown_any(value)} is not a finite number; give one in {field.range}"
        if isinstance(value, Integral):
            number = int(value)
    if field.minimum is None or field.maximum is None:
        if not MIN_SEED <= number <= MAX_SEED:
            return None, f"{_shown_any(number)} does not fit in 64 bits; give {field.range} that does"
        return number, ""
    too_low = number <= field.minimum if field.exclusive_minimum else number < field.minimum
    if too_low or number > field.maximum:
        return None, f"{_shown_any(number)} is out of range; give a number in {field.range}"
    return number, ""


def _check_url(value: Any, field: Field) -> tuple[Any, str]:
    if not isinstance(value, str):
        return None, f"{_shown_any(value)} is a {type(value).__name__}; give {field.range}"
    if not value.strip():
        return None, f"is empty; give {field.range}" + ("" if field.required else ", or leave it out")
    # Of all white space, only the space character is printable.
    if " " in value or not value.isprintable():
        shown = redact_url(value)
        return (
            None,
            f"{shown} contains a blank or a control character; give {field.range}, with a space as %20",
        )
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        # Neither the value nor Python's message is shown: what looks like a port may be part of a
        # password.
        return None, f"cannot be read as a URL; give {field.range}"
    if parts.scheme.lower() not in URL_SCHEMES:
        return None, (
            f"{redact_url(value)} is not http or https; the service downloads images itself and cannot "
            f"read local files. Give {field.range} that it can reach or, in a catalog, a path such as s3://…"
        )
    if not host:
        return None, f"{redact_url(value)} has no host; give {field.range}"
    # Browsers and others take it for a slash, so that the host is another one. In a query, none of them does.
    if "\\" in parts.netloc or "\\" in parts.path:
        return None, f"{redact_url(value)} has a backslash; give {field.range}, with a backslash as / or %5C"
    try:
        return ascii_url(value), ""
    except UnicodeError:
        shown = redact_url(value)
        return None, f"{shown} has a host name or a character that cannot be encoded; give {field.range}"


_CHECKS = {"text": _check_text, "float": _check_number, "integer": _check_number, "url": _check_url}
