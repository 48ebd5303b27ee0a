# SPDX-License-Identifier: Apache-2.0
"""The operators: submit a job, and save a finished one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_bgrep.connection import DEFAULT_CONNECTION_ID
from airflow_provider_bgrep.protocol.limits import MAX_RESULT_BYTES
from airflow_provider_bgrep.protocol.models import ImageTask

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

ON_UNKNOWN_OUTCOME = ("fail", "resubmit")


class ImageTaskTemplates:
    """Renders :class:`ImageTask` values given in a DAG file, which Airflow by itself would pass over.

    What comes from an XCom is not rendered, by Airflow's own rule: a catalog's prompt is text.
    """

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """As Airflow's, which calls it for every element of a list."""
        rendered = super().render_template  # type: ignore[misc]
        if isinstance(content, ImageTask):
            return ImageTask(**rendered(content.as_dict(), *args, **kwargs))
        return rendered(content, *args, **kwargs)


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
        if on_unknown_outcome not in ON_UNKNOWN_OUTCOME:
            raise ValueError(
                f"on_unknown_outcome is {on_unknown_outcome!r}; give one of {', '.join(ON_UNKNOWN_OUTCOME)}"
            )
        self.task_list = task_list
        self.bgrep_conn_id = bgrep_conn_id
        self.on_unknown_outcome = on_unknown_outcome
        self.journal_path = journal_path

    def execute(self, context: Context) -> str:
        """Submit, unless an earlier try did."""
        from airflow_provider_bgrep.operators.submission import submit_once

        result_key = submit_once(self, context)
        context["ti"].xcom_push(key="result_key", value=result_key)
        return result_key


class BgRepDownloadOperator(BaseOperator):
    """Saves a finished job's pictures.

    Each is fetched without credentials, decoded whole, and put in place in one step. A second run finds
    what is there; URLs that have expired are asked for once more.

    Returns ``{"result_key": …, "files": [{"index": i, "output": j, "path": …, "size": bytes, "sha256": …,
    "format": …, "width": …, "height": …}, …], "failed": [{"index": i, "message": …}, …]}``.

    :param result_key: what the submit returned. Templated.
    :param destination: folder on any ``ObjectStoragePath`` (local, s3, gs, oss, …). Templated.
    :param bgrep_conn_id: the ``bgrep`` connection. Templated.
    :param filename_template: file names, with fields ``{result_key}``, ``{index}`` (of the image task, two
        digits), ``{output}`` (0 to 3), ``{seed}`` and ``{ext}`` (by content). Templated.
    :param max_bytes: most bytes that one picture may have.
    :raises BgRepJobNotFinishedError: if the job is not finished: put a ``BgRepSensor`` before.
    :raises BgRepDownloadError: if a picture could not be saved; the others are, and stay.
    """

    template_fields: Sequence[str] = ("result_key", "destination", "bgrep_conn_id", "filename_template")
    ui_color = "#e8f4ec"

    def __init__(
        self,
        *,
        result_key: str,
        destination: str | ObjectStoragePath,
        bgrep_conn_id: str = DEFAULT_CONNECTION_ID,
        filename_template: str = "{result_key}_{index}_{output}.{ext}",
        max_bytes: int = MAX_RESULT_BYTES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.result_key = result_key
        self.destination = destination
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
            job = hook.query(result_key)
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
                log=self.log.info,
            )
        except InvalidInput as error:
            raise input_error(error) from None
        self.log.info("%d pictures of job %s lie in place.", len(saved.pictures), self.result_key)
        if saved.lost:
            raise BgRepDownloadError(
                f"{len(saved.lost)} pictures of job {self.result_key} could not be saved, "
                f"{len(saved.pictures)} lie in place: {'; '.join(saved.lost)}"
            )
        return {
            "result_key": self.result_key,
            "files": [asdict(picture) for picture in saved.pictures],
            "failed": list(saved.failed),
        }
