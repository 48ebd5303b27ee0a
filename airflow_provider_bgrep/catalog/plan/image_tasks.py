# SPDX-License-Identifier: Apache-2.0
"""Makes image tasks of a catalog's rows: cells, defaults and templates in, a checked task or its problems
out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from airflow_provider_bgrep.catalog.config.defaults import (
    PLACEHOLDER_URL,
    TEXT_FIELDS,
    URL_FIELDS,
    FieldDefaults,
    is_stored,
    moved,
    parse_number,
)
from airflow_provider_bgrep.catalog.config.prompt_template import is_template, render, variable
from airflow_provider_bgrep.catalog.model.columns import MAX_NAME
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS, URL_SCHEMES
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.protocol.urls import redact_url
from airflow_provider_bgrep.protocol.validation import validate_tasks

MAIN: Final = "main"


def name_of(sku: str, view: str | None = None) -> str:
    """A row's name: its sku, and its view where that is not the main one."""
    return sku if not view or view == MAIN else f"{sku}/{view}"


class ImageTaskBuilder:
    """Makes image tasks of rows.

    :param recipe: what rows do not say themselves.
    :param columns: the catalog's.
    """

    def __init__(self, recipe: FieldDefaults, columns: Iterable[str]) -> None:
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
        for column in URL_FIELDS:
            if isinstance(fields.get(column), str):
                fields[column], path = _url(fields[column])
                if path:
                    stored[column] = path
        for column, one in IMAGE_TASK_FIELDS.items():
            value = fields.get(column)
            if isinstance(value, str) and one.kind in ("float", "integer"):
                fields[column] = parse_number(value)
        self._render(fields, given, problems)
        if fields.get("seed") is None:
            fields["seed"] = _seed(name)
        failed = {problem.where for problem in problems}
        try:
            (task,) = validate_tasks([{**fields, "id": name or None}])
        except InvalidInput as error:
            problems += [named for one in error.problems if (named := moved(one)).where not in failed]
        if problems:
            raise InvalidInput(problems)
        return replace(task, **stored) if stored else task

    def _render(self, fields: dict[str, Any], given: Mapping[str, str], problems: list[Problem]) -> None:
        cells: dict[str, str] | None = None
        for column in TEXT_FIELDS:
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
    if is_stored(text):
        if any(not c.isprintable() for c in text):
            return text, ""
        return PLACEHOLDER_URL, text
    scheme = text.partition("://")[0].lower()
    # People paste addresses with blanks; a service cannot fetch them so.
    return (text.replace(" ", "%20") if scheme in URL_SCHEMES else text), ""


def _seed(name: str) -> int:
    """A row's own seed: the same every night."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:4]) >> 1


def shown(path: str | None) -> str:
    """An image's URL or path as a message may show it."""
    return redact_url(path or "")
