# SPDX-License-Identifier: Apache-2.0
"""The operators: everything in one, or submit a job and save a finished one by hand."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_bgrep.compat import has_task_state_store
from airflow_provider_bgrep.connection import DEFAULT_CONNECTION_ID
from airflow_provider_bgrep.protocol.limits import (
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
    MAX_RESULT_BYTES,
    RESULT_URL_SECONDS,
)
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.results import check_fail_on, task_ids
from airflow_provider_bgrep.templates import ImageTaskTemplates

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_bgrep.journal.journal import Store, SubmitRecord
    from airflow_provider_bgrep.operators._generate import Leg

ON_UNKNOWN_OUTCOME: Final = ("fail", "resubmit")
OVER_BUDGET: Final = ("refuse", "trim")
MOST_RETRIES: Final = 3
"""How often a failed image task may be bought again, at most."""

BUSY_SECONDS: Final = 30.0
"""When the service is busy with our jobs: how long after the first is finished we submit more."""


def _one_of(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; give one of {', '.join(choices)}")
    return value


def _seconds(name: str, value: timedelta | float) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ValueError(f"{name} is {value!r}; give seconds above 0, or a timedelta")
    return float(seconds)


def _count(name: str, value: int | None, most: int | None = None) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0 or value > (most or value):
        raise ValueError(f"{name} is {value!r}; give 0 {'or more' if most is None else f'to {most}'}")
    return value


class BgRepSubmitOperator(ImageTaskTemplates, BaseOperator):
    """Submits one job of 1 to 10 image tasks. **This is what costs money.**

    Returns the ``result_key``, and pushes it to XCom under ``result_key`` too.

    A retry of the same task instance never submits again what was already accepted. What was is kept in
    Airflow's task state store (Airflow 3.3 and later) or under ``journal_path``; where there is neither, a
    second try sends nothing and ends with
    :class:`~airflow_provider_bgrep.exceptions.BgRepUnknownOutcomeError`, unless ``on_unknown_outcome`` says
    otherwise.

    :param task_list: image tasks as :class:`ImageTask` or mappings with the API's field names, or an
        ``XComArg`` of such a list. Templated.
    :param bgrep_conn_id: the ``bgrep`` connection. Templated.
    :param on_unknown_outcome: when nobody knows whether an earlier submit was accepted, ``fail``
        (default), or ``resubmit``, which may pay twice.
    :param journal_path: folder on an ``ObjectStoragePath`` to remember submits in, for Airflow before
        3.3 or to have them readable. Templated.
    """

    template_fields: Sequence[str] = ("task_list", "bgrep_conn_id", "journal_path")
    template_fields_renderers: ClassVar[dict[str, str]] = {"task_list": "json"}
    ui_color = "#e8f4ec"

    def __init__(
        self,
        *,
        task_list: Iterable[ImageTask | Mapping[str, Any]],
        bgrep_conn_id: str = DEFAULT_CONNECTION_ID,
        on_unknown_outcome: str = "fail",
        journal_path: str | ObjectStoragePath | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.task_list = task_list
        self.bgrep_conn_id = bgrep_conn_id
        self.on_unknown_outcome = _one_of("on_unknown_outcome", on_unknown_outcome, ON_UNKNOWN_OUTCOME)
        self.journal_path = journal_path

    def execute(self, context: Context) -> str:
        """Submit, unless an earlier try did."""
        from airflow_provider_bgrep.operators._submit import submit_once

        result_key = submit_once(self, context)
        context["ti"].xcom_push(key="result_key", value=result_key)
        return result_key


class BgRepGenerateOperator(ImageTaskTemplates, BaseOperator):
    """Buys backgrounds for any number of image tasks, waits, and saves the images. **This costs money.**

    Image tasks are submitted in jobs of up to 10, as fast as the service bears. What is bought is written
    down before and after each submit, and found again by a retry, after a kill, and when the task is
    cleared: it is never bought twice unasked. A job that is refused for one image is split until that
    image stands alone. Finished jobs are saved while others still run.

    Every image task ends as one of: ``generated``, ``partial``, ``refused``, ``failed``, ``expired``,
    ``unknown_outcome``, ``not_submitted``, ``pending``. The manifest
    (``{destination}/manifest-{dag}.{run}.{task}.jsonl``, one line an image task) says which, why, and what
    to do.

    Returns ``{"manifest": path, "items": {outcome: count, …}, "unlisted": n, "submits": calls, "queries":
    calls, "jobs": n, "image_tasks": n, "images": n, "saved": n, "avoided": {"image_tasks": n, "images":
    n}}``: of the list's items, then of what was bought since the task was last cleared, and what was not
    bought because an earlier try had. Pushed even where the task fails.

    :param task_list: image tasks as :class:`ImageTask` or mappings with the API's field names, or an
        ``XComArg`` of such a list. Templated.
    :param destination: folder on any ``ObjectStoragePath`` (local, s3, gs, oss, …). Templated.
    :param bgrep_conn_id: the ``bgrep`` connection. Templated.
    :param deferrable: wait in the triggerer. Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds between two queries of one job.
    :param timeout: seconds until everything must be done, from the first try's start; a retry does not
        prolong it, a clear begins it anew.
    :param fail_on: fail if ``any`` image task is not ``generated`` (default), if ``all`` are without an
        image, or ``never`` for that reason. Decided when everything is saved.
    :param max_images: images that may be bought, ``None`` for any number. What earlier tries bought
        counts.
    :param over_budget: ``refuse`` to buy anything (default) if the list asks for more than ``max_images``,
        or ``trim``: buy from the list's beginning, and leave the rest ``not_submitted``.
    :param retry_failed: how often an image task that ended ``FAILED`` is bought again, 0 (default) to 3.
    :param on_unknown_outcome: when nobody knows whether a submit was accepted, ``fail`` (default) after
        everything else is done, or ``resubmit``, which may pay twice.
    :param journal_path: folder on an ``ObjectStoragePath`` to remember purchases in, for Airflow before
        3.3 or to have them readable. Templated.
    :param regenerate: buy anew what was bought before: ``True`` once for each time the task is cleared, any
        other text once for that text. Templated.
    :param filename_template: file names, with fields ``{result_key}``, ``{index}`` (of the image task in
        its job, two digits), ``{output}`` (0 to 3), ``{id}``, ``{seed}`` and ``{ext}`` (by content).
        Templated.
    """

    template_fields: Sequence[str] = (
        "task_list",
        "destination",
        "bgrep_conn_id",
        "journal_path",
        "regenerate",
        "filename_template",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"task_list": "json"}
    ui_color = "#e8f4ec"

    collect_after: float = RESULT_URL_SECONDS / 3
    """Seconds that a finished job may wait for others before it is saved: its result URLs expire."""

    rate_share: float = 1.0
    """Share of the connection's ``max_requests_per_second`` that is this task's, where others run beside
    it.
    """

    def __init__(
        self,
        *,
        task_list: Iterable[ImageTask | Mapping[str, Any]],
        destination: str | ObjectStoragePath,
        bgrep_conn_id: str = DEFAULT_CONNECTION_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: timedelta | float = DEFAULT_POLL_INTERVAL,
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        fail_on: str = "any",
        max_images: int | None = None,
        over_budget: str = "refuse",
        retry_failed: int = 0,
        on_unknown_outcome: str = "fail",
        journal_path: str | ObjectStoragePath | None = None,
        regenerate: bool | str = False,
        filename_template: str = "{result_key}_{index}_{output}.{ext}",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.task_list = task_list
        self.destination = destination
        self.bgrep_conn_id = bgrep_conn_id
        self.deferrable = deferrable
        self.poll_interval = _seconds("poll_interval", poll_interval)
        self.timeout = _seconds("timeout", timeout)
        self.fail_on = check_fail_on(fail_on)
        self.max_images = _count("max_images", max_images)
        self.over_budget = _one_of("over_budget", over_budget, OVER_BUDGET)
        self.retry_failed = _count("retry_failed", retry_failed, MOST_RETRIES) or 0
        self.on_unknown_outcome = _one_of("on_unknown_outcome", on_unknown_outcome, ON_UNKNOWN_OUTCOME)
        self.journal_path = journal_path
        self.regenerate = regenerate
        self.filename_template = filename_template
        self._leg: Leg | None = None
        self._is_killed = False
        if journal_path is None and not has_task_state_store():
            warnings.warn(
                f"Task {self.task_id}: this Airflow keeps nothing of a task that dies, and there is no "
                "journal_path. It waits in the worker, and a second try will send nothing. Set journal_path.",
                UserWarning,
                stacklevel=2,
            )

    def execute(self, context: Context) -> dict[str, Any]:
        """Buy what is not bought yet, and save what is finished."""
        return self._run(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Called when the trigger fired.

        :param event: a :class:`~airflow_provider_bgrep.triggers.event.BgRepEvent`.
        """
        from airflow_provider_bgrep.triggers.bgrep import read_event
        from airflow_provider_bgrep.triggers.event import Reason

        # Whatever it says, what is so the worker asks for itself. Where the triggerer cannot ask, it would
        # say so again and again: then it is waited for here.
        fired = read_event(event)
        self.log.info(
            "%s: %d jobs are finished, %d are not.", fired.reason.value, fired.finished, fired.pending
        )
        return self._run(
            context,
            fired.queries,
            waits_here=fired.reason is Reason.ERROR,
            is_finished=fired.reason is Reason.FINISHED,
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral, also where no triggerer was there to end it."""
        if next_method == "__fail__" and "timeout" in str((next_kwargs or {}).get("error", "")).lower():
            return self._run(context)
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Submit nothing more. The API has no cancel: what is bought goes on, and is collected later."""
        self._is_killed = True
        if self._leg is not None:
            self._leg.kill()

    def open_store(self, context: Context) -> Store | None:
        """Where to remember what is bought; ``None`` where nothing does."""
        from airflow_provider_bgrep.operators._stores import open_store

        return open_store(self.journal_path, context)

    def known_records(self) -> Sequence[SubmitRecord]:
        """Submits that others made, of image tasks of this list: collected, not bought again."""
        return ()

    def images_path(self) -> ObjectStoragePath:
        """Where the images go.

        :raises InvalidInput: if it cannot be used.
        """
        from airflow_provider_bgrep.storage import absolute_path

        return absolute_path("destination", self.destination)

    def manifest_path(self, destination: ObjectStoragePath, context: Context) -> ObjectStoragePath:
        """Where the manifest goes."""
        from airflow_provider_bgrep.operators._generate import manifest_name

        return destination / manifest_name(context)

    def defer_on(self, result_keys: Sequence[str], end_time: float, *, is_busy: bool) -> NoReturn:
        """Wait in the triggerer.

        :param is_busy: whether there is more to submit as soon as the service bears it.
        """
        from airflow_provider_bgrep.triggers.bgrep import GRACE_SECONDS, BgRepTrigger

        left = max(0.0, end_time - time.time())
        # Before Airflow 3.3 nobody tells them when the waiting task is marked or cleared.
        self.log.info("Waiting in the triggerer for %d jobs: %s", len(result_keys), ", ".join(result_keys))
        self.defer(
            trigger=BgRepTrigger(
                result_keys=result_keys,
                bgrep_conn_id=self.bgrep_conn_id,
                poll_interval=self.poll_interval,
                end_time=end_time,
                collect_after=min(self.collect_after, BUSY_SECONDS) if is_busy else self.collect_after,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=left + GRACE_SECONDS),
        )
        raise AssertionError("defer() raises")

    def _run(self, context: Context, queries: int = 0, **told: bool) -> dict[str, Any]:
        from airflow_provider_bgrep.exceptions import BgRepServiceError
        from airflow_provider_bgrep.journal.journal import SupersededError
        from airflow_provider_bgrep.operators._generate import Leg

        try:
            self._leg = Leg(self, context)
            if self._is_killed:  # while that read what is known
                self._leg.kill()
            return self._leg.run(queries, **told)
        except SupersededError as error:
            raise BgRepServiceError(str(error)) from None


class BgRepDownloadOperator(ImageTaskTemplates, BaseOperator):
    """Saves a finished job's images.

    Each is fetched without credentials, decoded whole, and put in place in one step. A second run finds
    what is there; URLs that have expired are asked for once more.

    Returns ``{"result_key": …, "files": [{"index": i, "output": j, "path": …, "size": bytes, "sha256": …,
    "format": …, "width": …, "height": …}, …], "failed": [{"index": i, "message": …}, …]}``; each entry has
    the ``id`` of its image task too, where ``task_list`` gives one.

    :param result_key: what the submit returned. Templated.
    :param destination: folder on any ``ObjectStoragePath`` (local, s3, gs, oss, …). Templated.
    :param task_list: the image tasks as submitted, or an ``XComArg`` of them. The API promises no order:
        with ``task_list`` indexes and file names follow it, without it they follow the answer. Templated.
    :param bgrep_conn_id: the ``bgrep`` connection. Templated.
    :param filename_template: file names, with fields ``{result_key}``, ``{index}`` (of the image task, two
        digits), ``{output}`` (0 to 3), ``{seed}`` and ``{ext}`` (by content). Templated.
    :param max_bytes: most bytes that one image may have.
    :raises BgRepJobNotFinishedError: if the job is not finished: put a ``BgRepSensor`` before.
    :raises BgRepUnmatchedError: if it is in doubt which result belongs to which image task; nothing is saved.
    :raises BgRepDownloadError: if an image could not be saved; the others are, and stay.
    """

    template_fields: Sequence[str] = (
        "result_key",
        "destination",
        "task_list",
        "bgrep_conn_id",
        "filename_template",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"task_list": "json"}
    ui_color = "#e8f4ec"

    def __init__(
        self,
        *,
        result_key: str,
        destination: str | ObjectStoragePath,
        task_list: Sequence[ImageTask | Mapping[str, Any]] | None = None,
        bgrep_conn_id: str = DEFAULT_CONNECTION_ID,
        filename_template: str = "{result_key}_{index}_{output}.{ext}",
        max_bytes: int = MAX_RESULT_BYTES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.result_key = result_key
        self.destination = destination
        self.task_list = task_list
        self.bgrep_conn_id = bgrep_conn_id
        self.filename_template = filename_template
        self.max_bytes = max_bytes

    def execute(self, context: Context) -> dict[str, Any]:
        """Save what is not saved yet."""
        from airflow_provider_bgrep.download import save_job
        from airflow_provider_bgrep.exceptions import (
            BgRepDownloadError,
            BgRepJobNotFinishedError,
            input_error,
        )
        from airflow_provider_bgrep.hooks.bgrep import BgRepHook
        from airflow_provider_bgrep.protocol.errors import InvalidInput
        from airflow_provider_bgrep.protocol.models import Job
        from airflow_provider_bgrep.storage import storage_path

        hook = BgRepHook(self.bgrep_conn_id)

        def finished(result_key: str) -> Job:
            job = hook.query(result_key, self.task_list)
            if not job.is_finished:
                raise BgRepJobNotFinishedError(
                    f"Job {result_key} is not finished ({job.counts}): wait for it with a BgRepSensor first"
                )
            return job

        try:
            saved = save_job(
                self.result_key,
                storage_path(self.destination),
                query=finished,
                settings=hook.settings,
                template=self.filename_template,
                max_bytes=self.max_bytes,
                is_matched=self.task_list is not None,
                log=self.log.info,
            )
        except InvalidInput as error:
            raise input_error(error) from None
        self.log.info("%d images of job %s lie in place.", len(saved.images), self.result_key)
        if saved.lost:
            raise BgRepDownloadError(
                f"{len(saved.lost)} images of job {self.result_key} could not be saved, "
                f"{len(saved.images)} lie in place: {'; '.join(map(str, saved.lost))}"
            )
        ids = dict(enumerate(task_ids(self.task_list)))

        def with_id(entry: dict[str, Any]) -> dict[str, Any]:
            own_id = ids.get(entry["index"])
            return entry if own_id is None else {**entry, "id": own_id}

        return {
            "result_key": self.result_key,
            "files": [with_id(asdict(image)) for image in saved.images],
            "failed": [with_id(failed) for failed in saved.failed],
        }
