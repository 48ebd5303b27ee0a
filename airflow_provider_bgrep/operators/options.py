# SPDX-License-Identifier: Apache-2.0
"""Values that a DAG file, a template or a trigger form gives. Loaded when a DAG file is parsed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message

ON_UNKNOWN_OUTCOME: Final = ("fail", "resubmit")
OVER_BUDGET: Final = ("refuse", "trim")
MAX_RETRY_FAILED: Final = 3
"""How often a failed image task may be submitted again, at most."""


@dataclass(frozen=True)
class GenerateOptions:
    """Options of ``BgRepGenerateOperator`` that most users leave at their defaults.

    The operator also accepts a mapping with these names, or its JSON text, so that the options can come
    from a template or from a trigger form. A number may be given as text.

    :param over_budget: what to do if the list requests more than ``max_images``: ``refuse`` (default)
        submits nothing; ``trim`` submits from the beginning of the list and leaves the rest
        ``not_submitted``.
    :param retry_failed: how often a failed image task is submitted again, 0 (default) to 3. Each time is
        billable.
    :param regenerate: whether to submit the whole list again. ``True`` does so once each time the task is
        cleared; any other text does so once for that text.
    :param filename_template: names of the image files, with the fields ``{result_key}``, ``{index}`` (the
        image task's position in its job, two digits), ``{output}`` (0 to 3), ``{id}``, ``{seed}`` and
        ``{ext}`` (from the file's content). It must contain the first three.
    """

    over_budget: str = "refuse"
    retry_failed: int = 0
    regenerate: bool | str = False
    filename_template: str = "{result_key}_{index}_{output}.{ext}"

    @classmethod
    def parse(cls, value: GenerateOptions | Mapping[str, Any] | str | None) -> GenerateOptions:
        """Return the options from the value that a DAG file, a template or a trigger form gives.

        :param value: the options, a mapping with their names, JSON text, or ``None`` for the defaults.
        :raises InvalidInput: with every problem.
        """
        given = _mapping(value)
        known = [one.name for one in fields(cls)]
        problems = [
            Problem(f"options.{name}", f"is not an option; the options are {', '.join(known)}")
            for name in given
            if name not in known
        ]
        found = {name: given[name] for name in known if given.get(name) is not None}
        if "retry_failed" in found:
            count = _integer(found["retry_failed"])
            if count is None or not 0 <= count <= MAX_RETRY_FAILED:
                what = f"is {found['retry_failed']!r}; give 0 to {MAX_RETRY_FAILED}"
                problems.append(Problem("options.retry_failed", what))
            found["retry_failed"] = count
        if found.get("over_budget", OVER_BUDGET[0]) not in OVER_BUDGET:
            what = f"is {found['over_budget']!r}; give one of {', '.join(OVER_BUDGET)}"
            problems.append(Problem("options.over_budget", what))
        for name, kinds in (("filename_template", str), ("regenerate", bool | str)):
            if name in found and not isinstance(found[name], kinds):
                problems.append(Problem(f"options.{name}", f"is {found[name]!r}; give text"))
        if problems:
            raise InvalidInput(problems)
        return cls(**found)


def _mapping(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, GenerateOptions):
        return {one.name: getattr(value, one.name) for one in fields(value)}
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except ValueError as error:
            reason = sanitize_message(error)
            what = f"is text, but not JSON ({reason}); in a template, write {{{{ params.options | tojson }}}}"
            raise InvalidInput([Problem("options", what)]) from None
    if not isinstance(value, Mapping):
        what = f"is a {type(value).__name__}; give GenerateOptions, a mapping or its JSON text"
        raise InvalidInput([Problem("options", what)])
    return {str(name): one for name, one in value.items()}


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        return int(text) if text.isascii() and text.isdigit() else None
    return value if isinstance(value, int) else None
