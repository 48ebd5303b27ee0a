# SPDX-License-Identifier: Apache-2.0
"""What a run needs to know, as frozen values: no operator and no class of Airflow's is part of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.protocol.limits import RESULT_URL_SECONDS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.generation.runner import Runner
    from airflow_provider_bgrep.journal.records import SubmitRecord
    from airflow_provider_bgrep.journal.stores import Store
    from airflow_provider_bgrep.protocol.models import ImageTask

ON_UNKNOWN_OUTCOME: Final = ("fail", "resubmit")
OVER_BUDGET: Final = ("refuse", "trim")
MAX_RETRY_FAILED: Final = 3
"""How often a failed image task may be submitted again, at most."""


@dataclass(frozen=True)
class GenerateOptions:
    """What most users of a ``BgRepGenerateOperator`` leave as it is.

    The operator also takes a mapping with these names, or its JSON text, so that the options can come from
    a template or from a trigger form. A number may be given as text.

    :param over_budget: what to do if the list asks for more than ``max_images``: ``refuse`` (default)
        submits nothing; ``trim`` submits from the list's beginning and leaves the rest ``not_submitted``.
    :param retry_failed: how often an image task that ended ``FAILED`` is submitted again, 0 (default) to 3.
        Each time is billable.
    :param regenerate: submit again what was submitted before. ``True``: once for each time the task is
        cleared. Any other text: once for that text.
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
        """The options from whatever a DAG file, a template or a trigger form gives.

        :param value: the options, a mapping with their names, JSON text of one, or nothing for the defaults.
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
            what = f"is text, but not JSON ({error}); in a template, write {{{{ params.options | tojson }}}}"
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


@dataclass(frozen=True)
class GenerateSpec:
    """One run of a list of image tasks.

    :param task_list: the image tasks, not validated yet.
    :param destination: the folder for the images; absolute.
    :param bgrep_conn_id: the connection.
    :param store: where the journal is kept; ``None`` if this Airflow offers none and the user named none.
    :param poll_interval: seconds between two queries of one job.
    :param timeout: seconds from the first try's start to the deadline.
    :param deferrable: whether the run may wait in the triggerer.
    :param fail_on: ``any``, ``all`` or ``never``.
    :param max_images: images that may be submitted in all, ``None`` for any number.
    :param on_unknown_outcome: ``fail`` or ``resubmit``.
    :param options: the rest.
    :param known_records: submits that other tasks made of this list's image tasks. They are collected, not
        submitted again.
    :param manifest: the manifest's path; ``None`` for one in the destination, named after the task.
    :param rate_share: this task's share of the connection's ``max_requests_per_second``, above 0, at most 1.
    :param keys: identities of the image tasks, in the caller's own terms; ``None`` to derive them from what
        is sent.
    :param collect_only: identities of image tasks that another run submitted: they are collected, and never
        submitted.
    :param sign: gives an image task the URLs that are sent. Called in a thread just before each submit. The
        list is then taken to be valid, and may hold paths that only this makes readable.
    :param collect_after: seconds that a finished image task may wait for others before it is saved.
    """

    task_list: Any
    destination: str | ObjectStoragePath
    bgrep_conn_id: str
    store: Store | None
    poll_interval: float
    timeout: float
    deferrable: bool = False
    fail_on: str = "any"
    max_images: int | None = None
    on_unknown_outcome: str = "fail"
    options: GenerateOptions = field(default_factory=GenerateOptions)
    known_records: tuple[SubmitRecord, ...] = ()
    manifest: ObjectStoragePath | None = None
    rate_share: float = 1.0
    keys: tuple[str, ...] | None = None
    collect_only: frozenset[str] = frozenset()
    sign: Callable[[ImageTask], ImageTask] | None = None
    collect_after: float = RESULT_URL_SECONDS / 3

    @property
    def may_resubmit(self) -> bool:
        """Whether a submit without a known outcome may be repeated, which may be billed twice."""
        return self.on_unknown_outcome == "resubmit"


@dataclass(frozen=True)
class SubmitSpec:
    """One job to be submitted.

    :param task_list: 1 to 10 image tasks, not validated yet.
    :param bgrep_conn_id: the connection.
    :param store: where the journal is kept; ``None`` if this Airflow offers none and the user named none.
    :param on_unknown_outcome: ``fail`` or ``resubmit``.
    """

    task_list: Any
    bgrep_conn_id: str
    store: Store | None
    on_unknown_outcome: str = "fail"

    @property
    def may_resubmit(self) -> bool:
        """Whether a submit without a known outcome may be repeated, which may be billed twice."""
        return self.on_unknown_outcome == "resubmit"


class KillSwitch:
    """Ends a run from another thread, at whatever point the run is."""

    def __init__(self) -> None:
        self.is_killed = False
        self._engine: Runner | None = None

    def kill(self) -> None:
        """Submit nothing more, and end as soon as the submits in flight are answered."""
        self.is_killed = True
        if self._engine is not None:
            self._engine.kill()

    def attach(self, engine: Runner) -> None:
        """Kill this engine too, now if the switch was used before."""
        self._engine = engine
        if self.is_killed:
            engine.kill()
