# SPDX-License-Identifier: Apache-2.0
"""Makes image tasks of normalized rows: renders templates, reads numbers, and validates every field."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from airflow_provider_bgrep.catalog.config.defaults import PLACEHOLDER_URL, SIGNED_STORES, is_stored
from airflow_provider_bgrep.catalog.config.parsing import parse_number
from airflow_provider_bgrep.catalog.config.prompt_template import is_template, render
from airflow_provider_bgrep.catalog.config.template_cell import template_cell
from airflow_provider_bgrep.catalog.model.cell_values import ColumnKind
from airflow_provider_bgrep.catalog.model.columns import MAX_NAME, TEXT_FIELDS, URL_FIELDS, holds_url
from airflow_provider_bgrep.catalog.source.rows import VARIABLE
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS, URL_SCHEMES
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.protocol.urls import redacted_beginning
from airflow_provider_bgrep.protocol.validation import validate_tasks

_NUMBERS: Final = tuple(one for one in IMAGE_TASK_FIELDS.values() if one.kind in ("float", "integer"))
_NUMBER_NAMES: Final = frozenset(field.name for field in _NUMBERS)
_SHOWN: Final = 60
"""Characters of a cell in a message."""
_MAX_TEXT: Final = {name: int(IMAGE_TASK_FIELDS[name].maximum or 0) for name in TEXT_FIELDS}

PLAIN_URL: Final = re.compile(r"https?://[a-z0-9][a-z0-9.-]*(?:/[^\x00-\x20?#\\\x7f-\U0010ffff]*)?")
"""A URL that is valid at first sight, and that no signature or password is a part of."""


_SEVERAL_URLS: Final = re.compile(
    rf"\S[\s,;|]+(?:{'|'.join((*URL_SCHEMES, *SIGNED_STORES))})://", re.IGNORECASE
)
"""URLs that are separated by a comma, a semicolon, a pipe or white space."""


class ImageTaskBuilder:
    """Makes image tasks of rows.

    :param constants: fields that are the same for every row, as text.
    :param variables: names of the columns that templates read.
    :param kinds: what all cells of a column spell, where that is not any text.
    """

    def __init__(
        self,
        constants: Mapping[str, str | None],
        variables: Sequence[str],
        kinds: Mapping[str, ColumnKind] | None = None,
    ) -> None:
        of = (kinds or {}).get
        self._variables = [(VARIABLE + name, name, of(name, ColumnKind.TEXT)) for name in variables]
        self._constants = constants
        self._fixed: dict[str, Any] = dict.fromkeys(IMAGE_TASK_FIELDS)
        self._fixed |= {field.name: field.default for field in _NUMBERS}
        varying = [name for name in IMAGE_TASK_FIELDS if name not in constants]
        for name, text in constants.items():
            if name in TEXT_FIELDS and text is not None and is_template(text):
                varying.append(name)
                continue
            value, problems = _field(name, text)
            if problems:
                varying.append(name)
            elif text is not None or name not in _NUMBER_NAMES:
                self._fixed[name] = value
        self._texts = [name for name in TEXT_FIELDS if name in varying]
        self._others = [name for name in (*URL_FIELDS, *_NUMBER_NAMES) if name in varying]

    def build(self, row: Mapping[str, Any]) -> ImageTask:
        """The image task of a row; its ``id`` is the row's name.

        :param row: a row of :class:`~airflow_provider_bgrep.catalog.source.rows.NormalizedRows`.
        :raises InvalidInput: with every problem; each is named after its column.
        """
        return ImageTask(**self.fields(row), id=row["name"])

    def fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a row's image task, as :meth:`build` sets them.

        :raises InvalidInput: with every problem; each is named after its column.
        """
        problems = _name_problems(row)
        values = self._fixed.copy()
        for name in self._others:
            text = row[name] if name in row else self._constants[name]
            if text is not None or name == "image":
                values[name], wrong = _field(name, text)
                problems += wrong
        for name in self._texts:
            text = row[name] if name in row else self._constants[name]
            values[name] = self._text(name, text, row, problems)
        if values["seed"] is None:
            values["seed"] = _seed(row["name"])
        if problems:
            order = ["sku", *IMAGE_TASK_FIELDS]
            raise InvalidInput(sorted(problems, key=lambda one: order.index(one.where)))
        return values

    def _text(
        self, name: str, text: str | None, row: Mapping[str, Any], problems: list[Problem]
    ) -> str | None:
        if text is not None and is_template(text):
            cells = {
                variable: template_cell(cell, kind)
                for column, variable, kind in self._variables
                if (cell := row[column]) is not None
            }
            try:
                text = render(text, cells, cells).strip()
            except ValueError as error:
                problems.append(Problem(name, f"the template {error}"))
                return None
        checked, wrong = _field(name, text)
        problems += wrong
        return checked  # type: ignore[no-any-return]


def _field(name: str, text: str | None) -> tuple[Any, Sequence[Problem]]:
    """A field's value, from its text without a template, and what is wrong with it."""
    if name in _NUMBER_NAMES:
        return (None, ()) if text is None else _number(name, text)
    if text is None:
        return _validated(name, None) if IMAGE_TASK_FIELDS[name].required else (None, ())
    if name in URL_FIELDS:
        return _url(name, text)
    if text and text.isascii() and len(text) <= _MAX_TEXT[name] and not text.isspace():
        return text, ()
    return _validated(name, text)


def _name_problems(row: Mapping[str, Any]) -> list[Problem]:
    name = row["name"]
    if not row["sku"]:
        return [Problem("sku", "is missing; give the product's key")]
    if holds_url(name):
        what = "or view holds a URL: its cells may be in the wrong columns; give the product's key"
        return [Problem("sku", what)]
    if len(name) > MAX_NAME:
        what = f"with its view has {len(name)} characters; give at most {MAX_NAME}"
        return [Problem("sku", what)]
    if not name.isprintable():
        hidden = next(c for c in name if not c.isprintable())
        return [Problem("sku", f"holds the control character U+{ord(hidden):04X}; give printable text")]
    return []


def _url(name: str, text: str) -> tuple[Any, Sequence[Problem]]:
    """A URL that can be sent, or the path on object storage that it will be signed for."""
    if _SEVERAL_URLS.search(text):
        return None, (Problem(name, "holds several URLs; give one, and other images in rows of their own"),)
    if PLAIN_URL.fullmatch(text) or (is_stored(text) and text.isprintable()):
        return text, ()
    scheme = text.partition("://")[0].lower()
    # People paste addresses with blanks; a service cannot fetch them like that.
    return _validated(name, text.replace(" ", "%20") if scheme in URL_SCHEMES else text)


@lru_cache(1024)
def _number(name: str, text: str) -> tuple[Any, tuple[Problem, ...]]:
    field = IMAGE_TASK_FIELDS[name]
    value = parse_number(text, field.kind)
    if isinstance(value, str):
        needs = "an integer" if field.kind == "integer" else "a number"
        shown = redacted_beginning(repr(text), _SHOWN)  # it may be a URL in the wrong column
        what = f"is {shown}; give {needs} in {field.range}, without separators of thousands"
        return None, (Problem(name, what),)
    return _validated(name, value)


def _validated(name: str, value: Any) -> tuple[Any, tuple[Problem, ...]]:
    """A field as the API takes it, and what is wrong with it."""
    try:
        (task,) = validate_tasks([{"image": PLACEHOLDER_URL, "positive_prompt": "x", name: value}])
    except InvalidInput as error:
        return None, tuple(Problem(name, problem.what) for problem in error.problems)
    return getattr(task, name), ()


def _seed(name: str) -> int:
    """A row's own seed: the same in every run."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:4]) >> 1
