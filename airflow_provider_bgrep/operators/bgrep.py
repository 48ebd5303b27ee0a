# SPDX-License-Identifier: Apache-2.0
"""The operators: one generates images for a list, one submits a job, one saves a finished job."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_bgrep.browsing import console_url
from airflow_provider_bgrep.compat import has_task_state_store
from airflow_provider_bgrep.connection import DEFAULT_CONNECTION_ID
from airflow_provider_bgrep.lineage.facts import Lineage
from airflow_provider_bgrep.lineage.methods import OpenLineageMethods
from airflow_provider_bgrep.operators._arguments import count_of, one_of
from airflow_provider_bgrep.operators._base import GenerateBase
from airflow_provider_bgrep.operators._lineage import SavedImages, image_task_sources, saved_dataset
from airflow_provider_bgrep.operators.links import BgRepApiLink, BgRepImagesLink, Linked
from airflow_provider_bgrep.operators.options import ON_UNKNOWN_OUTCOME, GenerateOptions
from airflow_provider_bgrep.protocol.limits import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT, MAX_RESULT_BYTES
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.results import check_fail_on, task_ids
from airflow_provider_bgrep.templates import ImageTaskTemplates

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath, XComArg

    from airflow_provider_bgrep.operators.spec import GenerateSpec

__all__ = [
    "BgRepDownloadOperator",
    "BgRepGenerateOperator",
    "BgRepSubmitOperator",
    "GenerateOptions",
]


class GenerateTemplates(ImageTaskTemplates):
    """Renders :class:`GenerateOptions` values given in a DAG file as well."""

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Render a template, as Airflow does. Airflow calls this for every element of a list."""
        if isinstance(content, GenerateOptions):
            return GenerateOptions(**super().render_template(asdict(content), *args, **kwargs))
        return super().render_template(content, *args, **kwargs)


class BgRepSubmitOperator(OpenLineageMethods, ImageTaskTemplates, BaseOperator):
    """Submits one job of 1 to 10 image tasks. **Submits are billable.**

    Returns the ``result_key``, and also pushes it to XCom under the key ``result_key``.

    A retry of the same task instance does not submit an accepted job again. The journal of submits is kept
    in Airflow's task state store (Airflow 3.3 and later) or under ``journal_path``. Without either, a second
    try sends nothing and ends with :class:`~airflow_provider_bgrep.exceptions.BgRepUnknownOutcomeError`,
    unless ``on_unknown_outcome`` is ``resubmit``.

    :param task_list: image tasks: :class:`~airflow_provider_bgrep.ImageTask` objects or mappings with the
        API's field names, or an ``XComArg`` of such a list. Templated.
    :param bgrep_conn_id: the id of the ``bgrep`` connection. Templated.
    :param on_unknown_outcome: what to do if an earlier submit may have been accepted: ``fail`` (default) or
        ``resubmit``, which may be billed twice.
    :param journal_path: folder for the journal, on any ``ObjectStoragePath``. Default: Airflow's task
        state store. Airflow before 3.3 has no such store: without this folder, a retry sends nothing.
        Templated.
    """

    template_fields: Sequence[str] = ("task_list", "bgrep_conn_id", "journal_path")
    template_fields_renderers: ClassVar[dict[str, str]] = {"task_list": "json"}
    operator_extra_links = (BgRepApiLink(),)
    ui_color = "#e8f4ec"

    def __init__(
        self,
        *,
        task_list: Iterable[ImageTask | Mapping[str, Any]] | XComArg,
        bgrep_conn_id: str = DEFAULT_CONNECTION_ID,
        on_unknown_outcome: str = "fail",
        journal_path: str | ObjectStoragePath | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.task_list: Any = task_list  # Airflow renders it before it is used
        self.bgrep_conn_id = bgrep_conn_id
        self.on_unknown_outcome = one_of("on_unknown_outcome", on_unknown_outcome, ON_UNKNOWN_OUTCOME)
        self.journal_path = journal_path

    def lineage(self) -> Lineage:
        """Return the hosts and buckets of the images that the service reads."""
        return Lineage(inputs=image_task_sources(self.task_list))

    def execute(self, context: Context) -> str:
        """Submit the job, unless an earlier try has submitted it."""
        from airflow_provider_bgrep.operators._errors import airflow_errors
        from airflow_provider_bgrep.operators._stores import open_store
        from airflow_provider_bgrep.operators._submit import submit_once
        from airflow_provider_bgrep.operators.spec import SubmitSpec

        with airflow_errors():
            spec = SubmitSpec(
                task_list=self.task_list,
                bgrep_conn_id=self.bgrep_conn_id,
                store=open_store(self.journal_path, context),
                on_unknown_outcome=self.on_unknown_outcome,
            )
            result_key = submit_once(spec, context, log=self.log)
        context["ti"].xcom_push(key="result_key", value=result_key)
        return result_key


class BgRepGenerateOperator(GenerateTemplates, GenerateBase):
    """Generates images for any number of image tasks: submits, waits, saves. **Submits are billable.**

    Image tasks are submitted in jobs of up to 10, at the rate that the service accepts. Each submit is
    recorded in a journal before and after it is sent. A retry, a try after a killed worker, and a cleared
    task read the journal, and do not submit an image task again unless a parameter requests it. A job
    that the service refuses because of one image is split until only that image task is refused. Finished
    jobs are saved while others are still being generated.

    Every image task has one of the outcomes ``generated``, ``partial``, ``refused``, ``failed``,
    ``expired``, ``unknown_outcome``, ``not_submitted`` and ``pending``. The manifest
    (``{destination}/manifest-{dag}.{run}.{task}.jsonl``, one line for each image task) gives the outcome, the
    reason and what to do.

    Returns ``{"manifest": path, "items": {outcome: count, …}, "orphaned": n, "submits": calls, "queries":
    calls, "jobs": n, "image_tasks": n, "images": n, "saved": n, "reused": {"image_tasks": n, "images":
    n}}``. ``items`` counts the image tasks of the list; ``orphaned`` counts image tasks that are only in
    the journal; ``submits`` to ``saved`` count since the task was last cleared; ``reused`` counts what an
    earlier try submitted. The summary is pushed to XCom even if the task fails.

    :param task_list: image tasks: :class:`~airflow_provider_bgrep.ImageTask` objects or mappings with the
        API's field names, or an ``XComArg`` of such a list. Templated.
    :param destination: folder for the images, on any ``ObjectStoragePath``. Templated.
    :param bgrep_conn_id: the id of the ``bgrep`` connection. Templated.
    :param deferrable: whether to wait in the triggerer. Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds between two queries of one job.
    :param timeout: seconds from the start of the first try to the deadline. A retry keeps the deadline; a
        clear starts a new one.
    :param fail_on: when to fail because of outcomes: if ``any`` image task is not ``generated``
        (default), if ``all`` image tasks are without an image, or ``never``. Everything is saved first.
    :param max_images: number of images that may be submitted; ``None`` for no limit. Images of earlier
        tries count.
    :param on_unknown_outcome: what to do if a submit may have been accepted: ``fail`` (default) after
        everything else is done, or ``resubmit``, which may be billed twice.
    :param journal_path: folder for the journal, on any ``ObjectStoragePath``. Default: Airflow's task
        state store. Airflow before 3.3 has no such store: without this folder, a retry sends nothing.
        Templated.
    :param options: options that most users leave at their defaults: a :class:`GenerateOptions` object, a
        mapping with the same names, or JSON text, for example from a trigger form. Templated.
    """

    template_fields: Sequence[str] = (
        "task_list",
        "destination",
        "bgrep_conn_id",
        "journal_path",
        "options",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"task_list": "json"}
    operator_extra_links = (BgRepImagesLink(), BgRepApiLink())

    def __init__(
        self,
        *,
        task_list: Iterable[ImageTask | Mapping[str, Any]] | XComArg,
        destination: str | ObjectStoragePath | XComArg,
        bgrep_conn_id: str = DEFAULT_CONNECTION_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: timedelta | float = DEFAULT_POLL_INTERVAL,
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        fail_on: str = "any",
        max_images: int | None = None,
        on_unknown_outcome: str = "fail",
        journal_path: str | ObjectStoragePath | None = None,
        options: GenerateOptions | Mapping[str, Any] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(deferrable=deferrable, poll_interval=poll_interval, timeout=timeout, **kwargs)
        self.task_list: Any = task_list  # Airflow renders it before it is used
        self.destination: Any = destination  # Airflow renders it before it is used
        self.bgrep_conn_id = bgrep_conn_id
        self.fail_on = check_fail_on(fail_on)
        self.max_images = count_of("max_images", max_images)
        self.on_unknown_outcome = one_of("on_unknown_outcome", on_unknown_outcome, ON_UNKNOWN_OUTCOME)
        self.journal_path = journal_path
        self.options = options
        if not _is_templated(options):
            GenerateOptions.parse(options)
        if journal_path is None and not has_task_state_store():
            warnings.warn(
                f"Task {self.task_id} has no journal: Airflow before 3.3 has no task state store, and "
                "journal_path is not set. The task waits in the worker, and a second try will send nothing. "
                "Set journal_path.",
                UserWarning,
                stacklevel=2,
            )

    def lineage(self) -> Lineage:
        """Return the hosts and buckets of the images that the service reads, and the destination."""
        return Lineage(
            inputs=image_task_sources(self.task_list),
            outputs=(saved_dataset(self.destination, self.saved),),
            counts=self.saved.counts if self.saved else {},
        )

    def build_spec(self, context: Context) -> GenerateSpec:
        """Return the run that the rendered arguments describe."""
        from airflow_provider_bgrep.operators._stores import open_store
        from airflow_provider_bgrep.operators.spec import GenerateSpec

        self.show_links(context, {BgRepImagesLink: console_url(self.destination, is_folder=True)})
        return GenerateSpec(
            task_list=self.task_list,
            destination=self.destination,
            bgrep_conn_id=self.bgrep_conn_id,
            store=open_store(self.journal_path, context),
            poll_interval=self.poll_interval,
            timeout=self.timeout,
            options=GenerateOptions.parse(self.options),
            deferrable=self.deferrable,
            fail_on=self.fail_on,
            max_images=self.max_images,
            on_unknown_outcome=self.on_unknown_outcome,
        )


def _is_templated(options: Any) -> bool:
    """Whether options are known only at run time: the output of an upstream task, or templates."""
    if isinstance(options, GenerateOptions):
        options = asdict(options)
    if isinstance(options, Mapping):
        return any(_is_templated(value) for value in options.values())
    if isinstance(options, str):
        # A file-name template has fields in single braces.
        return "{{" in options or "{%" in options
    return hasattr(options, "resolve")  # an XComArg


class BgRepDownloadOperator(Linked, OpenLineageMethods, ImageTaskTemplates, BaseOperator):
    """Saves the images of a finished job.

    Each image is downloaded without credentials, decoded completely, and moved into place atomically. If
    the task runs again, it downloads only what is missing. If a URL has expired, the job is queried once
    more. If new URLs are refused as well, or the service does not know the job, the task asks again for
    about a minute and a half, then fails, and Airflow retries it. It downloads for at most an hour, or for
    its ``execution_timeout``.

    Returns ``{"result_key": …, "files": [{"index": i, "output": j, "path": …, "size": bytes, "sha256": …,
    "format": …, "width": …, "height": …}, …], "failed": [{"index": i, "message": …}, …]}``; each entry
    also has the ``id`` of its image task, if ``task_list`` gives one. ``failed`` names image tasks with fewer
    images than requested, too.

    :param result_key: the key that the submit returned. Templated.
    :param destination: folder for the images, on any ``ObjectStoragePath``. Templated.
    :param task_list: the image tasks as submitted, or an ``XComArg`` of them. Indexes and file names
        follow this list; without it, they follow the response, whose order the API does not promise.
        Templated.
    :param bgrep_conn_id: the id of the ``bgrep`` connection. Templated.
    :param filename_template: file names, with the fields ``{result_key}``, ``{index}`` (of the image
        task, two digits), ``{output}`` (0 to 3), ``{seed}`` and ``{ext}`` (from the file's content). Where
        several jobs have one destination, as in mapped tasks, name ``{result_key}``: otherwise the images of
        one overwrite those of another. Templated.
    :param max_bytes: largest size of one image in bytes.
    :raises BgRepJobNotFinishedError: if the job is not finished. Wait for it with a ``BgRepSensor``
        first.
    :raises BgRepUnmatchedError: if it is not certain which result belongs to which image task. Nothing is
        saved.
    :raises BgRepDownloadError: if an image could not be saved. The others are saved.
    """

    template_fields: Sequence[str] = (
        "result_key",
        "destination",
        "task_list",
        "bgrep_conn_id",
        "filename_template",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"task_list": "json"}
    operator_extra_links = (BgRepImagesLink(),)
    ui_color = "#e8f4ec"

    def __init__(
        self,
        *,
        result_key: str | XComArg,
        destination: str | ObjectStoragePath | XComArg,
        task_list: Sequence[ImageTask | Mapping[str, Any]] | XComArg | None = None,
        bgrep_conn_id: str = DEFAULT_CONNECTION_ID,
        filename_template: str = "{result_key}_{index}_{output}.{ext}",
        max_bytes: int = MAX_RESULT_BYTES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.result_key: Any = result_key  # Airflow renders it before it is used
        self.destination: Any = destination  # Airflow renders it before it is used
        self.task_list: Any = task_list  # Airflow renders it before it is used
        self.bgrep_conn_id = bgrep_conn_id
        self.filename_template = filename_template
        self.max_bytes = max_bytes
        self._saved: SavedImages | None = None

    def lineage(self) -> Lineage:
        """Return the hosts and buckets of the submitted images, if they are given, and the destination."""
        return Lineage(
            inputs=image_task_sources(self.task_list),
            outputs=(saved_dataset(self.destination, self._saved),),
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Save the images that are not saved yet."""
        from airflow_provider_bgrep.download import save_job
        from airflow_provider_bgrep.exceptions import (
            BgRepDownloadError,
            BgRepJobNotFinishedError,
            BgRepJobNotFoundError,
            input_error,
        )
        from airflow_provider_bgrep.hooks.bgrep import BgRepHook
        from airflow_provider_bgrep.late_results import complete, lacking
        from airflow_provider_bgrep.protocol.errors import InvalidInput
        from airflow_provider_bgrep.protocol.identity import fingerprint
        from airflow_provider_bgrep.protocol.models import Job
        from airflow_provider_bgrep.protocol.validation import validate_tasks
        from airflow_provider_bgrep.storage import absolute_path

        self.show_links(context, {BgRepImagesLink: console_url(self.destination, is_folder=True)})
        hook = BgRepHook(self.bgrep_conn_id)
        limit = self.execution_timeout
        end_time = time.time() + (limit.total_seconds() if limit else DEFAULT_TIMEOUT)

        def finished(result_key: str) -> Job:
            try:
                job = complete(
                    lambda: hook.query(result_key, self.task_list, is_known=True),
                    self.task_list,
                    end_time=end_time,
                    log=self.log.warning,
                )
            except BgRepJobNotFoundError as error:
                raise BgRepDownloadError(
                    f"{error} Retry the task: the service may find the job later."
                ) from error
            if not job.is_finished:
                raise BgRepJobNotFinishedError(
                    f"Job {result_key} is not finished ({job.counts}): wait for it with a BgRepSensor first"
                )
            return job

        try:
            saved = save_job(
                self.result_key,
                absolute_path("destination", self.destination),
                query=finished,
                settings=hook.settings,
                template=self.filename_template,
                max_bytes=self.max_bytes,
                order="" if self.task_list is None else fingerprint(validate_tasks(self.task_list)),
                end_time=end_time,
                log=self.log.info,
                lacking=lambda job: lacking(job, self.task_list),
            )
        except InvalidInput as error:
            raise input_error(error) from None
        self._saved = SavedImages(len(saved.images), sum(image.size for image in saved.images))
        self.log.info("Saved %d images of job %s.", len(saved.images), self.result_key)
        if saved.lost:
            raise BgRepDownloadError(
                f"{len(saved.lost)} images of job {self.result_key} could not be saved, and "
                f"{len(saved.images)} were saved: {'; '.join(map(str, saved.lost))}"
            )
        ids = dict(enumerate(task_ids(self.task_list)))

        def with_id(entry: dict[str, Any]) -> dict[str, Any]:
            own_id = ids.get(entry["index"])
            return entry if own_id is None else {**entry, "id": own_id}

        return {
            "result_key": self.result_key,
            "files": [with_id(image.facts) for image in saved.images],
            "failed": [with_id(failed) for failed in saved.failed],
        }
