# SPDX-License-Identifier: Apache-2.0
"""The options of a run, validated as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from airflow_provider_bgrep.catalog.config.defaults import FieldDefaults
from airflow_provider_bgrep.catalog.config.filename_template import PublishRules
from airflow_provider_bgrep.catalog.config.groups import FIXED, GROUPS, fields_of
from airflow_provider_bgrep.catalog.config.parsing import (
    choice,
    decimal,
    is_nothing,
    number,
    parse_bool,
    parse_edition,
    parse_limit,
    parse_mapping,
    parse_names,
    parse_page_url,
    parse_prefixes,
    parse_seconds,
    parse_text,
    parse_texts,
    shown,
)
from airflow_provider_bgrep.catalog.config.thresholds import Thresholds
from airflow_provider_bgrep.catalog.model.cell_values import EMPTY_CELLS
from airflow_provider_bgrep.catalog.model.columns import URL_FIELDS
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.protocol.urls import canonical_url
from airflow_provider_bgrep.store_paths import path_problem, shown_path, without_credentials

_PATIENCE: Final = 3
"""By default, a pending job is queried in this many times ``max_attempts`` runs."""

_MARKS: Final = ("{{", "{%")
"""Beginnings of the parts of an Airflow template."""

_OF_ROWS: Final = ("defaults", "categories")
"""Options in whose mappings templates refer to the columns of a row, not to Airflow's context."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a run, flat. Their meaning is :func:`~.task_group.catalog_refresh`'s and its groups'."""

    catalog: Any
    destination: str
    bgrep_conn_id: str = "bgrep_default"
    source_conn_id: str = ""
    catalog_format: str = ""
    encoding: str = ""
    delimiter: str = ""
    empty_cells: Sequence[str] = EMPTY_CELLS
    ignored_url_parameters: tuple[str, ...] = ()
    allowed_image_prefixes: tuple[str, ...] = ()
    allow_private_sources: bool = False
    check_sources: str = "sample"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    categories: Mapping[str, Any] = field(default_factory=dict)
    edition: str = ""
    shard_size: int = 200
    max_images_per_run: int | None = None
    price_per_image: Decimal | None = None
    currency: str = ""
    approve_above: Decimal | None = None
    max_rebuy_share: float = 0.2
    dry_run: bool = False
    max_attempts: int = 2
    collect_runs: int | None = None
    on_unknown_outcome: str = "fail"
    max_removed_share: float = 0.2
    valid_for: float = 20 * 3600.0
    retry_failed: int = 0
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    filename_template: str = PublishRules.filename_template
    keep_versions: int = PublishRules.keep_versions
    keep_plans: int = 30
    on_removed: str = PublishRules.on_removed
    publish_unmasked: bool = False
    destination_url: str = ""
    fail_on_attention: float | None = None
    single_writer: bool = False

    @classmethod
    def checked(cls, given: Mapping[str, Any]) -> Options:
        """Return the options from their rendered values.

        :param given: options by name; a group may be given as a mapping or as JSON.
        :raises InvalidInput: with every problem.
        """
        problems: list[Problem] = []
        values = _parsed(_expanded(given, problems), problems)
        for name in ("catalog", "destination"):
            if name not in values and not any(one.where == name for one in problems):
                problems.append(Problem(name, "is missing; give a path or a URL"))
        if not problems:
            options = cls(**values)
            problems = options.problems()
            if not problems:
                return options
        raise InvalidInput(problems)

    def problems(self) -> list[Problem]:
        """Return the problems that involve several options."""
        problems: list[Problem] = []
        for part in ("recipe", "checks", "publishing"):
            try:
                getattr(self, part)
            except InvalidInput as error:
                problems += error.problems
        if self.approve_above is not None and self.price_per_image is None:
            problems.append(Problem("approve_above", "is a sum of money, which requires price_per_image"))
        return problems

    @property
    def patience(self) -> int:
        """Number of runs that ask for the images of a job."""
        return self.collect_runs or _PATIENCE * self.max_attempts

    @property
    def recipe(self) -> FieldDefaults:
        """The defaults of the API's fields."""
        return FieldDefaults.checked(defaults=self.defaults, categories=self.categories, edition=self.edition)

    @property
    def checks(self) -> Thresholds:
        """The thresholds of the checks."""
        return Thresholds.checked(self.thresholds)

    @property
    def publishing(self) -> PublishRules:
        """How images are published."""
        return PublishRules(
            filename_template=self.filename_template,
            keep_versions=self.keep_versions,
            on_removed=self.on_removed,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored with a plan, without the rows of an upstream task.

        URLs have no signature and no credentials: those that rows take as defaults are in the work items.
        """
        values = asdict(self)
        values["catalog"] = shown_path(catalog_path(self.catalog)) or "rows of an upstream task"
        values["defaults"] = _unsigned(self.defaults)
        values["categories"] = {
            name: _unsigned(fields) if isinstance(fields, Mapping) else fields
            for name, fields in self.categories.items()
        }
        return {name: str(value) if isinstance(value, Decimal) else value for name, value in values.items()}


def _unsigned(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of the API whose URLs have neither signature nor credentials."""
    unsigned = {
        name: canonical_url(without_credentials(value))
        for name, value in fields.items()
        if name in URL_FIELDS and isinstance(value, str)
    }
    return {**fields, **unsigned}


def catalog_path(catalog: Any) -> str:
    """Return the path of a catalog as text; ``''`` if it is the rows of an upstream task."""
    # Of the class, because to ask a path for its file system connects to the store.
    return str(catalog) if isinstance(catalog, str) or hasattr(type(catalog), "fs") else ""


def literal_problems(given: Mapping[str, Any]) -> list[Problem]:
    """Return the problems of the options that are known when a DAG is parsed: all except templates and
    XComs.

    :param given: options by name, flat.
    """
    problems: list[Problem] = []
    literals = {
        name: value
        for name, value in given.items()
        if is_literal(value) or (name in _OF_ROWS and isinstance(value, Mapping))
    }
    values = _parsed(literals, problems)
    paths = {name: value for name, value in given.items() if not isinstance(value, str)}
    problems += path_problems(paths | values)
    if not problems:
        known = {"catalog": "", "destination": "", **values}
        if "price_per_image" in given:
            known.setdefault("price_per_image", Decimal(0))  # a template, and not missing
        problems += Options(**known).problems()
    return problems


def path_problems(given: Mapping[str, Any]) -> list[Problem]:
    """Return the problems of paths that are relative, and so different folders on each worker, or that have
    credentials.

    :param given: options by name; a catalog may be rows instead.
    """
    return [
        Problem(name, f"is {shown(shown_path(path))}; give {problem}")
        for name in ("catalog", "destination")
        if (path := catalog_path(given.get(name))) and (problem := path_problem(path))
    ]


def is_literal(value: Any) -> bool:
    """Return whether a value is known when the DAG is parsed: it does not contain a template or an XCom."""
    if isinstance(value, str):
        return not any(mark in value for mark in _MARKS)
    if isinstance(value, Mapping):
        return all(map(is_literal, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_literal, value))
    return value is None or isinstance(value, bool | int | float | Decimal | timedelta)


def _expanded(given: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """Return the options without groups."""
    flat = {name: value for name, value in given.items() if name not in GROUPS}
    for group in GROUPS.keys() & given.keys():
        try:
            members = fields_of(group, None if is_nothing(given[group]) else given[group])
        except ValueError as error:
            problems.append(Problem(group, f"is {shown(given[group])}; give {error}"))
            continue
        for name, value in members.items():
            if name in FIXED:
                what = f"is needed when the DAG is parsed; give {group} as a mapping instead of a template"
                problems.append(Problem(f"{group}.{name}", what))
            else:
                flat[name] = value
    return flat


def _parsed(given: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """Return the values of the given options, and add problems to ``problems``."""
    names = {one.name for one in fields(Options)}
    problems += [Problem(name, "is not an option") for name in given if name not in names]
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in names or is_nothing(value):
            continue
        parser: Callable[[Any], Any] = _PARSERS.get(name, parse_text)
        try:
            values[name] = parser(value)
        except ValueError as error:
            problems.append(Problem(name, f"is {shown(value)}; give {error}"))
    return values


def _catalog(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


_PARSERS: Final[dict[str, Callable[[Any], Any]]] = {
    "catalog": _catalog,
    "empty_cells": parse_texts,
    "check_sources": choice("sample", "all", "off"),
    "edition": parse_edition,
    "defaults": parse_mapping,
    "categories": parse_mapping,
    "ignored_url_parameters": parse_names,
    "allowed_image_prefixes": parse_prefixes,
    "allow_private_sources": parse_bool,
    "shard_size": number(1, 10_000, int, "1 to 10000 image tasks"),
    "max_images_per_run": number(0, 10**9, int, "0 or more images, or nothing"),
    "price_per_image": decimal(10**6, "what one image costs, such as 0.20"),
    "approve_above": decimal(10**9, "a sum of money, such as 50"),
    "max_rebuy_share": number(0, 1, float, "a share, 0 to 1"),
    "dry_run": parse_bool,
    "max_attempts": number(1, 100, int, "1 to 100 runs"),
    "collect_runs": number(1, 1000, int, "1 to 1000 runs"),
    "on_unknown_outcome": choice("fail", "resubmit"),
    "max_removed_share": number(0, 1, float, "a share, 0 to 1"),
    "valid_for": parse_seconds,
    "retry_failed": number(0, 3, int, "0 to 3 times"),
    "thresholds": parse_mapping,
    "keep_versions": number(1, 1000, int, "1 to 1000 versions"),
    "keep_plans": number(1, 10_000, int, "1 to 10000 plans"),
    "on_removed": choice("retire", "delete", "keep"),
    "publish_unmasked": parse_bool,
    "destination_url": parse_page_url,
    "fail_on_attention": parse_limit,
    "single_writer": parse_bool,
}
