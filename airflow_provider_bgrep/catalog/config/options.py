# SPDX-License-Identifier: Apache-2.0
"""What a night is told, checked whole: Airflow's templates and params render everything to text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from airflow_provider_bgrep.catalog.config.defaults import FieldDefaults
from airflow_provider_bgrep.catalog.config.filename_template import PublishRules
from airflow_provider_bgrep.catalog.config.thresholds import Thresholds
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem

_NOTHING: Final = frozenset({"", "none", "null"})
_YES: Final = frozenset({"true", "yes", "on", "1"})
_NO: Final = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a night. Their meaning is :func:`~.group.catalog_refresh`'s."""

    catalog: Any
    destination: str
    bgrep_conn_id: str = "bgrep_default"
    source_conn_id: str = ""
    catalog_format: str = ""
    encoding: str = ""
    delimiter: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    categories: Mapping[str, Any] = field(default_factory=dict)
    edition: str = ""
    shard_size: int = 200
    max_images_per_run: int | None = None
    price_per_image: Decimal | None = None
    currency: str = ""
    approve_above: Decimal | None = None
    dry_run: bool = False
    max_attempts: int = 2
    on_unknown_outcome: str = "fail"
    max_removed_share: float = 0.2
    valid_for: float = 20 * 3600.0
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    filename_template: str = PublishRules.filename_template
    keep_versions: int = PublishRules.keep_versions
    keep_plans: int = 30
    on_removed: str = PublishRules.on_removed

    @classmethod
    def checked(cls, given: Mapping[str, Any]) -> Options:
        """The options, from whatever they rendered to.

        :raises InvalidInput: with every problem.
        """
        problems: list[Problem] = []
        values: dict[str, Any] = {}
        for one in fields(cls):
            value = given.get(one.name)
            if isinstance(value, str) and value.strip().lower() in _NOTHING:
                value = None
            if value is None:
                if one.name in ("catalog", "destination"):
                    problems.append(Problem(one.name, "is missing; give a path or a URL"))
                continue
            read: Callable[[Any], Any] = _READERS.get(one.name, _text)
            try:
                values[one.name] = read(value)
            except ValueError as error:
                problems.append(Problem(one.name, f"is {_shown(value)}; give {error}"))
        problems += [
            Problem(name, "is no option") for name in given.keys() - {one.name for one in fields(cls)}
        ]
        if not problems:
            options = cls(**values)
            problems = options._problems()
            if not problems:
                return options
        raise InvalidInput(problems)

    def _problems(self) -> list[Problem]:
        """What the parts say that are made of several options."""
        problems: list[Problem] = []
        for make in (lambda: self.recipe, lambda: self.checks, lambda: self.publishing):
            try:
                make()
            except InvalidInput as error:
                problems += error.problems
        if self.approve_above is not None and self.price_per_image is None:
            problems.append(Problem("approve_above", "is a sum of money; give price_per_image, too"))
        return problems

    @property
    def recipe(self) -> FieldDefaults:
        """How rows become image tasks."""
        return FieldDefaults.checked(defaults=self.defaults, categories=self.categories, edition=self.edition)

    @property
    def checks(self) -> Thresholds:
        """What images are held against."""
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
        """The form that is frozen with a plan; rows that were given themselves are left out."""
        values = asdict(self)
        if not isinstance(self.catalog, str):
            values["catalog"] = "rows of an upstream task"
        return {name: str(value) if isinstance(value, Decimal) else value for name, value in values.items()}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return str(value)
    return value.strip()


def _bool(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in _YES | _NO:
        return text in _YES
    raise ValueError("true or false")


def _number(least: float, most: float, kind: Callable[[str], Any], words: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        try:
            number = kind(str(value).strip())
            if least <= number <= most:
                return number
        except (ValueError, InvalidOperation):
            pass
        raise ValueError(words) from None

    return read


def _seconds(value: Any) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return float(_number(60, 31 * 86400, float, "60 to 2678400 seconds, or a timedelta")(value))


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("a mapping, or one as JSON") from None
    if not isinstance(value, Mapping):
        raise ValueError("a mapping, or one as JSON")  # noqa: TRY004 (all that is wrong is one kind of error)
    return value


def _choice(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        text = str(value).strip()
        if text in choices:
            return text
        raise ValueError(f"one of {', '.join(choices)}")

    return read


def _catalog(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "catalog": _catalog,
    "defaults": _mapping,
    "categories": _mapping,
    "shard_size": _number(1, 10_000, int, "1 to 10000 image tasks"),
    "max_images_per_run": _number(0, 10**9, int, "0 or more images, or nothing"),
    "price_per_image": _number(0, 10**6, Decimal, "what one image costs, such as 0.20"),
    "approve_above": _number(0, 10**9, Decimal, "a sum of money, such as 50"),
    "dry_run": _bool,
    "max_attempts": _number(1, 100, int, "1 to 100 runs"),
    "on_unknown_outcome": _choice("fail", "resubmit"),
    "max_removed_share": _number(0, 1, float, "a share, 0 to 1"),
    "valid_for": _seconds,
    "thresholds": _mapping,
    "keep_versions": _number(1, 1000, int, "1 to 1000 versions"),
    "keep_plans": _number(1, 10_000, int, "1 to 10000 plans"),
    "on_removed": _choice("retire", "delete", "keep"),
}
