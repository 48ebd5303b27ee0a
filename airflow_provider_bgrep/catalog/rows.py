# SPDX-License-Identifier: Apache-2.0
"""Makes image tasks of a catalog's rows: cells, defaults and templates in, a checked task or its problems
out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from airflow_provider_bgrep.catalog.columns import MAX_NAME
from airflow_provider_bgrep.catalog.prompts import columns_of, is_template, render, variable
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS, URL_SCHEMES
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.protocol.validation import checked_tasks, shown_url

MAIN: Final = "main"
SIGNED_STORES: Final = frozenset("s3 s3a gs gcs oss abfs abfss az r2".split())
"""Schemes of object storage whose paths can be signed for the service to read."""

_URLS: Final = tuple(one.name for one in IMAGE_TASK_FIELDS.values() if one.kind == "url")
_TEXTS: Final = tuple(one.name for one in IMAGE_TASK_FIELDS.values() if one.kind == "text")
_STAND_IN: Final = "https://object.storage/picture"


def name_of(sku: str, view: str | None = None) -> str:
    """A row's name: its sku, and its view where that is not the main one."""
    return sku if not view or view == MAIN else f"{sku}/{view}"


@dataclass(frozen=True)
class Recipe:
    """What rows do not say themselves.

    :param defaults: the API's fields for every row; prompts may be templates.
    :param categories: the same by the value of the column ``category``.
    :param edition: another one buys everything anew.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    categories: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    edition: str = ""

    @classmethod
    def checked(cls, defaults: Mapping[str, Any], categories: Mapping[str, Any], edition: str = "") -> Recipe:
        """A recipe.

        :raises InvalidInput: with every problem.
        """
        problems: list[Problem] = []
        _check_fields("defaults", defaults, problems)
        for name, values in categories.items():
            if not str(name).strip():
                problems.append(
                    Problem(f"categories[{name!r}]", "is no name; give a value of the column 'category'")
                )
            elif isinstance(values, Mapping):
                _check_fields(f"categories[{name!r}]", values, problems)
            else:
                problems.append(
                    Problem(f"categories[{name!r}]", f"is a {type(values).__name__}; give a mapping")
                )
        if problems:
            raise InvalidInput(problems)
        return cls(_said(defaults), {str(name).strip(): _said(v) for name, v in categories.items()}, edition)

    def fields(self, category: str) -> dict[str, Any]:
        """What a row of a category has unless it says otherwise."""
        return {**self.defaults, **self.categories.get(category, {})}


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that something is said of: nothing leaves them as they would be."""
    return {name: value for name, value in values.items() if value is not None}


def _check_fields(where: str, values: Mapping[str, Any], problems: list[Problem]) -> None:
    allowed = [name for name in IMAGE_TASK_FIELDS if name != "image"]
    probe: dict[str, Any] = {"image": _STAND_IN, "positive_prompt": "x"}
    for name, value in values.items():
        if name not in allowed:
            problems.append(
                Problem(f"{where}.{name}", f"is no field to default; they are {', '.join(allowed)}")
            )
        elif name in _TEXTS and isinstance(value, str) and is_template(value):
            try:
                columns_of(value)
            except ValueError as error:
                problems.append(Problem(f"{where}.{name}", str(error)))
        elif value is not None:
            probe[name] = _number(value) if name not in (*_URLS, *_TEXTS) else value
    try:
        checked_tasks([{**probe, **{name: _STAND_IN for name in _URLS if _is_stored(probe.get(name))}}])
    except InvalidInput as error:
        problems += [_moved(problem, where) for problem in error.problems]


def _moved(problem: Problem, where: str = "") -> Problem:
    name = problem.where.rpartition(".")[2]
    return replace(problem, where=f"{where}.{name}" if where else name)


def _is_stored(value: Any) -> bool:
    """Whether ``value`` is a path on object storage."""
    if not isinstance(value, str):
        return False
    scheme, slashes, rest = value.partition("://")
    return bool(slashes and rest) and scheme.lower() in SIGNED_STORES


class Preparer:
    """Makes image tasks of rows.

    :param recipe: what rows do not say themselves.
    :param columns: the catalog's.
    """

    def __init__(self, recipe: Recipe, columns: Iterable[str]) -> None:
        self.recipe = recipe
        self.columns = tuple(columns)
        self._variables = {column: variable(column) for column in self.columns}

    def prepare(self, cells: Mapping[str, str | None]) -> ImageTask:
        """The image task of a row; its ``id`` is the row's name.

        :param cells: the row's cells as text, ``None`` where one is empty.
        :raises InvalidInput: with every problem; each is named after its column.
        """
        given = {name: text for name, value in cells.items() if value and (text := value.strip())}
        problems: list[Problem] = []
        name = _name(given, problems)
        fields: dict[str, Any] = dict(self.recipe.fields(given.get("category", "")))
        fields |= {column: given[column] for column in IMAGE_TASK_FIELDS if column in given}
        stored: dict[str, Any] = {}
        for column in _URLS:
            if isinstance(fields.get(column), str):
                fields[column], path = _url(fields[column])
                if path:
                    stored[column] = path
        for column, one in IMAGE_TASK_FIELDS.items():
            value = fields.get(column)
            if isinstance(value, str) and one.kind in ("float", "integer"):
                fields[column] = _number(value)
        self._render(fields, given, problems)
        if fields.get("seed") is None:
            fields["seed"] = _seed(name)
        failed = {problem.where for problem in problems}
        try:
            (task,) = checked_tasks([{**fields, "id": name or None}])
        except InvalidInput as error:
            problems += [moved for one in error.problems if (moved := _moved(one)).where not in failed]
        if problems:
            raise InvalidInput(problems)
        return replace(task, **stored) if stored else task

    def _render(self, fields: dict[str, Any], given: Mapping[str, str], problems: list[Problem]) -> None:
        cells: dict[str, str] | None = None
        for column in _TEXTS:
            text = fields.get(column)
            if not isinstance(text, str) or not is_template(text):
                continue
            if cells is None:
                cells = {
                    self._variables[name]: value for name, value in given.items() if name in self._variables
                }
            try:
                fields[column] = render(text, cells, cells).strip()
            except ValueError as error:
                problems.append(Problem(column, f"the template {error}"))
                fields[column] = "x"  # its own problem is told; not that it is missing, too


def _name(given: Mapping[str, str], problems: list[Problem]) -> str:
    sku = given.get("sku", "")
    if not sku:
        problems.append(Problem("sku", "is missing; give the product's key"))
    name = name_of(sku, given.get("view"))
    if len(name) > MAX_NAME:
        problems.append(Problem("sku", f"with its view has {len(name)} characters; give at most {MAX_NAME}"))
        return ""
    if any(not c.isprintable() for c in name):
        problems.append(Problem("sku", "holds a control character; give printable text"))
        return ""
    return name


def _url(text: str) -> tuple[str, str]:
    """A URL as it can be checked; and the path on object storage that it stands for, if any."""
    if _is_stored(text):
        if any(not c.isprintable() for c in text):
            return text, ""
        return _STAND_IN, text
    scheme = text.partition("://")[0].lower()
    # People paste addresses with blanks; a service cannot fetch them so.
    return (text.replace(" ", "%20") if scheme in URL_SCHEMES else text), ""


def _number(value: Any) -> Any:
    """A cell as a number, where it is one; else as it is, for the check to name it."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text.isascii():
        return value
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")  # as spreadsheets of half the world write it
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return value
    return int(number) if number.is_integer() else number


def _seed(name: str) -> int:
    """A row's own seed: the same every night."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:4]) >> 1


def shown(path: str | None) -> str:
    """A picture's URL or path as a message may show it."""
    return shown_url(path or "")
