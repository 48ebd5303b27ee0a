# SPDX-License-Identifier: Apache-2.0
"""Defaults of the API's fields: for every row, and by category."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from airflow_provider_bgrep.catalog.config.parsing import parse_number
from airflow_provider_bgrep.catalog.config.prompt_template import columns_of, is_template
from airflow_provider_bgrep.catalog.model.cell_values import word_of
from airflow_provider_bgrep.catalog.model.columns import TEXT_FIELDS, URL_FIELDS
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS
from airflow_provider_bgrep.protocol.validation import validate_tasks
from airflow_provider_bgrep.store_paths import SIGNED_STORES as SIGNED_STORES
from airflow_provider_bgrep.store_paths import is_stored as is_stored

PLACEHOLDER_URL: Final = "https://object.storage/image"


@dataclass(frozen=True)
class FieldDefaults:
    """Defaults for the fields that a row leaves empty.

    :param defaults: the API's fields for every row; prompts may be templates.
    :param categories: the same by the value of the column ``category``.
    :param edition: any text. If it changes, every row is submitted again.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    categories: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    edition: str = ""

    @classmethod
    def checked(
        cls, defaults: Mapping[str, Any], categories: Mapping[str, Any], edition: str = ""
    ) -> FieldDefaults:
        """Return the defaults from the values that a DAG gives.

        :raises InvalidInput: with every problem.
        """
        problems: list[Problem] = []
        _check_fields("defaults", defaults, problems)
        seen: dict[str, object] = {}
        for name, values in categories.items():
            key = word_of(name)
            if key in seen:
                problems.append(
                    Problem(
                        f"categories[{name!r}]",
                        f"is the same category as {seen[key]!r}, because case and blanks do not matter",
                    )
                )
            seen.setdefault(key, name)
            if not key:
                problems.append(
                    Problem(f"categories[{name!r}]", "is not a name; give a value of the column 'category'")
                )
            elif isinstance(values, Mapping):
                _check_fields(f"categories[{name!r}]", values, problems)
            else:
                problems.append(
                    Problem(f"categories[{name!r}]", f"is a {type(values).__name__}; give a mapping")
                )
        if problems:
            raise InvalidInput(problems)
        return cls(
            _drop_none(defaults),
            {str(name).strip(): _drop_none(v) for name, v in categories.items()},
            edition,
        )


def _drop_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that have a value: ``None`` leaves a field to the API's default."""
    return {name: value for name, value in values.items() if value is not None}


def _check_fields(where: str, values: Mapping[str, Any], problems: list[Problem]) -> None:
    allowed = [name for name in IMAGE_TASK_FIELDS if name != "image"]
    probe: dict[str, Any] = {"image": PLACEHOLDER_URL, "positive_prompt": "x"}
    for name, value in values.items():
        if name not in allowed:
            problems.append(
                Problem(
                    f"{where}.{name}",
                    f"is not a field that can have a default; those are {', '.join(allowed)}",
                )
            )
        elif name in TEXT_FIELDS and isinstance(value, str) and is_template(value):
            try:
                columns_of(value)
            except ValueError as error:
                problems.append(Problem(f"{where}.{name}", str(error)))
        elif value is not None:
            kind = IMAGE_TASK_FIELDS[name].kind
            probe[name] = parse_number(value, kind) if kind in ("float", "integer") else value
    try:
        validate_tasks(
            [{**probe, **{name: PLACEHOLDER_URL for name in URL_FIELDS if is_stored(probe.get(name))}}]
        )
    except InvalidInput as error:
        problems += [moved(problem, where) for problem in error.problems]


def moved(problem: Problem, where: str = "") -> Problem:
    """The problem, named after the option or column that it was found in."""
    name = problem.where.rpartition(".")[2]
    return replace(problem, where=f"{where}.{name}" if where else name)
