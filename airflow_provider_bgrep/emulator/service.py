# SPDX-License-Identifier: Apache-2.0
"""The service's checks of a body, in its order.

For a submit: the body is not empty (23500012), is JSON of the right shape (23500013), has every required
field (23500009, in all image tasks), has no value out of range (23500013, in all image tasks), and its URLs
are URLs (23500006). The checks of credit and images come later. One invalid element refuses the whole list;
the header ``X-Emulator-Detail`` names it.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn
from urllib.parse import urlsplit

from airflow_provider_bgrep.protocol.limits import (
    IMAGE_TASK_FIELDS,
    MAX_TASKS,
    MIN_TASKS,
    URL_SCHEMES,
    Field,
)


class RefusalError(Exception):
    """The service refuses the call.

    :param code: one of the service's codes.
    :param detail: the details of the refusal.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def result_key(body: bytes) -> str:
    """Return the result key of a query.

    :raises RefusalError: if the body does not contain one.
    """
    key = _data(body, {"result_key"}).get("result_key")
    if key is None or key == "":
        raise RefusalError("23500009", "data.result_key is missing")
    if not isinstance(key, str):
        raise RefusalError("23500013", "data.result_key is not a string")
    return key


def task_list(body: bytes) -> list[dict[str, Any]]:
    """Return the image tasks of a submit, as they were sent.

    :raises RefusalError: if one of them is invalid.
    """
    tasks = _data(body, {"task_list"}).get("task_list")
    if tasks is None or tasks == []:
        raise RefusalError("23500009", "data.task_list is missing or empty")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise RefusalError("23500013", "data.task_list is not a list of objects")
    if not MIN_TASKS <= len(tasks) <= MAX_TASKS:
        raise RefusalError("23500013", f"{len(tasks)} image tasks, {MIN_TASKS} to {MAX_TASKS} are allowed")
    _check_fields(tasks)
    return tasks


def _check_fields(tasks: list[dict[str, Any]]) -> None:
    for index, task in enumerate(tasks):
        for name, field in IMAGE_TASK_FIELDS.items():
            if field.required and task.get(name) in (None, ""):
                raise RefusalError("23500009", f"task {index}: {name} is missing")
    for index, task in enumerate(tasks):
        for name, value in task.items():
            wrong = _wrong(name, value)
            if wrong:
                raise RefusalError("23500013", f"task {index}: {wrong}")
    for index, task in enumerate(tasks):
        for name in ("image", "mask"):
            if name in task and not _is_url(task[name]):
                raise RefusalError("23500006", f"task {index}: {name} is not an http or https URL")


def _data(body: bytes, known: set[str]) -> dict[str, Any]:
    if not body.strip():
        raise RefusalError("23500012", "the body is empty")
    try:
        whole = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise RefusalError("23500013", f"the body is not JSON: {error}") from error
    if not isinstance(whole, dict):
        raise RefusalError("23500013", "the body is not a JSON object")
    data = whole.get("data")
    if data is None or data == {}:
        raise RefusalError("23500009", "data is missing or empty")
    if not isinstance(data, dict):
        raise RefusalError("23500013", "data is not an object")
    unknown = (set(whole) - {"data"}) | (set(data) - known)
    if unknown:
        raise RefusalError("23500013", f"unknown fields {sorted(unknown)}")
    return data


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is given twice")
    return value


def _wrong(name: str, value: Any) -> str:
    """Return the error of a field, or an empty string."""
    field = IMAGE_TASK_FIELDS.get(name)
    if field is None:
        return f"the API has no field {name}"
    if value is None:
        return f"{name} is null: leave it out instead"
    if field.kind in ("url", "text"):
        if not isinstance(value, str):
            return f"{name} is not a string"
        if field.maximum is not None and len(value) > field.maximum:
            return f"{name} has {len(value)} characters, {field.range} are allowed"
        return ""
    whole = field.kind == "integer"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return f"{name} is not of type {field.kind}"
    return _out_of_range(field, value)


def _out_of_range(field: Field, value: float) -> str:
    low, high = field.minimum, field.maximum
    too_low = low is not None and (value <= low if field.exclusive_minimum else value < low)
    too_high = high is not None and value > high
    if too_low or too_high or (isinstance(value, float) and not math.isfinite(value)):
        return f"{field.name} is {value}, {field.range} is allowed"
    return ""


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in URL_SCHEMES and bool(parts.hostname) and parts.port != 0 and " " not in text
    except ValueError:
        return False
