# SPDX-License-Identifier: Apache-2.0
"""The sensor: waits for one job, in a worker or in the triggerer, and returns its results."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_bgrep.connection import DEFAULT_CONNECTION_ID
from airflow_provider_bgrep.exceptions import (
    BgRepConfigurationError,
    BgRepError,
    BgRepJobNotFoundError,
    BgRepTimeoutError,
    error_from,
    failure_of,
)
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.protocol.limits import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT
from airflow_provider_bgrep.results import check_fail_on, raise_if_failed, summary, task_ids
from airflow_provider_bgrep.templates import ImageTaskTemplates

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_bgrep.protocol.models import ImageTask, Job


class BgRepSensor(ImageTaskTemplates, BaseSensorOperator):
    """Waits until every image task of a job is ``SUCCESS`` or ``FAILED``, and returns the results.

    The modes ``poke`` and ``reschedule`` and deferrable mode return the same XCom and raise the same
    exceptions, and ``soft_fail`` and ``never_fail`` skip the task in the same cases.

    Returns ``{"result_key": …, "counts": {"SUCCESS": n, "FAILED": m}, "tasks": [{"index": i, "status": …,
    "results": [url, …], "message": …, "id": … (where ``task_list`` gives one)}, …]}``. The value is
    pushed to XCom even if the task fails because of ``fail_on``, because the generated images are billed.
    Result URLs expire after about 30 minutes: download the images before that.

    :param result_key: the key that the submit returned. Templated.
    :param task_list: the image tasks as submitted, or an ``XComArg`` of them. The results follow this
        list, each with its ``id`` if it has one; without it, they follow the response, whose order the
        API does not promise. Templated.
    :param bgrep_conn_id: the id of the ``bgrep`` connection. Templated.
    :param fail_on: when to fail because of results: if ``any`` image task failed or has fewer images than
        requested (default), if ``all`` failed, or ``never``.
    :param deferrable: whether to wait in the triggerer. Default: ``[operators] default_deferrable``.
    :param poke_interval: seconds between two queries.
    :param timeout: seconds after which the sensor times out.
    """

    template_fields: Sequence[str] = ("result_key", "task_list", "bgrep_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"task_list": "json"}
    ui_color = "#e8f4ec"

    def __init__(
        self,
        *,
        result_key: str | XComArg,
        task_list: Sequence[ImageTask | Mapping[str, Any]] | XComArg | None = None,
        bgrep_conn_id: str = DEFAULT_CONNECTION_ID,
        fail_on: str = "any",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: timedelta | float = DEFAULT_POLL_INTERVAL,
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.result_key: Any = result_key  # Airflow renders it before it is used
        self.task_list: Any = task_list  # Airflow renders it before it is used
        self.bgrep_conn_id = bgrep_conn_id
        self.fail_on = check_fail_on(fail_on)
        self.deferrable = deferrable
        self._began = 0.0

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Query the job once. Throttling, and "no such job" at first, count as "not finished yet"."""
        is_known = False
        while True:
            try:
                job = self._query(is_known)
            except BgRepError as error:
                if self._may_poll_on(error, self._elapsed(context)):
                    self.log.warning("%s", error)
                    return False
                # Later, "no such job" may still be a stale answer, so one is not final.
                if is_known or not isinstance(error, BgRepJobNotFoundError):
                    raise
                is_known = True
            else:
                return self._finished(context, job) if job.is_finished else False

    def execute(self, context: Context) -> Any:
        """Wait for the job."""
        if self.deferrable:
            return self._judged(self._execute_deferrable, context)
        self._began = time.time()
        try:
            return super().execute(context)
        except BgRepError:
            raise
        except AirflowSensorTimeout as error:
            # Airflow has applied soft_fail by now, but leaves a timeout out of never_fail.
            if self.never_fail:
                raise AirflowSkipException(f"never_fail is set: {error}") from error
            raise self._timed_out(None) from error

    def execute_complete(self, context: Context, event: dict[str, Any], end_time: float) -> Any:
        """Resume after the trigger fired.

        :param event: a :class:`~airflow_provider_bgrep.triggers.event.BgRepEvent`.
        :param end_time: the deadline of this wait, in seconds since the epoch.
        """
        from airflow_provider_bgrep.client import sleep
        from airflow_provider_bgrep.triggers.bgrep import read_event
        from airflow_provider_bgrep.triggers.event import Reason

        fired = read_event(event)
        end_time = min(end_time, time.time() + self.timeout)  # another worker's clock may have been ahead
        if fired.input_error:
            raise BgRepConfigurationError(fired.input_error)
        failure = error_from(fired.error()) if fired.reason is Reason.ERROR else None
        while True:
            job = None
            try:
                if failure is not None:
                    raise failure
                # Also at the deadline: the job may have finished while no triggerer was running.
                job = self._query(is_known=True)
            except BgRepError as error:
                if not self._may_wait_on(error, elapsed=math.inf) or time.time() >= end_time:
                    raise
                self.log.warning("%s", error)
            if job is not None and job.is_finished:
                return self._finished(context, job).xcom_value
            if time.time() >= end_time:
                raise self._timed_out(job)
            if fired.reason is not Reason.DEADLINE:
                return self._defer(end_time)
            # The triggerer's clock is ahead. It would fire at once again, so this worker waits instead.
            sleep(min(self.poke_interval, max(0.0, end_time - time.time())))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral, and skip the task after the same errors as in ``poke`` mode."""

        def resume(context: Context) -> Any:
            # This is how Airflow reports that no triggerer ran in time; the class that it would raise
            # differs between versions.
            if next_method == "__fail__" and "timeout" in str((next_kwargs or {}).get("error", "")).lower():
                raise self._timed_out(None)
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)

        return self._judged(resume, context)

    def _execute_deferrable(self, context: Context) -> Any:
        end_time = time.time() + self.timeout
        try:
            job = self._query()
        except BgRepError as error:
            if not self._may_wait_on(error, elapsed=0.0):
                raise
            self.log.warning("%s", error)
        else:
            if job.is_finished:
                return self._finished(context, job).xcom_value
        return self._defer(end_time)

    def _may_wait_on(self, error: BgRepError, elapsed: float) -> bool:
        """Whether a deferred wait continues after an error, as in ``poke`` mode."""
        is_silent = self.silent_fail and not isinstance(error, AirflowFailException)
        return is_silent or self._may_poll_on(error, elapsed)

    def _may_poll_on(self, error: BgRepError, elapsed: float) -> bool:
        """Whether an error counts as "not finished yet"."""
        from airflow_provider_bgrep.protocol.retry import POKE, Action, decide

        return decide(failure_of(error), POKE, attempt=1, elapsed=elapsed).action is Action.POLL

    def _elapsed(self, context: Context) -> float:
        """Seconds since this wait began; infinite if that is not known."""
        began = self._began
        if self.reschedule:
            # Each poke is a process of its own. Airflow 2 does not record when the first one ran.
            first_reschedule = getattr(context["ti"], "get_first_reschedule_date", None)
            if first_reschedule is None:
                return math.inf
            first = first_reschedule(context)
            began = first.timestamp() if first else began
        return time.time() - began

    def _defer(self, end_time: float) -> NoReturn:
        from airflow_provider_bgrep.triggers.bgrep import GRACE_SECONDS, BgRepTrigger

        left = max(0.0, end_time - time.time())
        self.defer(
            trigger=BgRepTrigger(
                result_keys=[self.result_key],
                bgrep_conn_id=self.bgrep_conn_id,
                poll_interval=self.poke_interval,
                end_time=end_time,
            ),
            method_name="execute_complete",
            kwargs={"end_time": end_time},
            timeout=timedelta(seconds=left + GRACE_SECONDS),
        )
        raise AssertionError("defer() raises")

    def _judged(self, wait: Callable[[Context], Any], context: Context) -> Any:
        """Apply ``soft_fail`` and ``never_fail`` to a deferrable wait by the rules of ``poke`` mode.

        Airflow's own rules differ by mode: in a deferred task, ``soft_fail`` would skip the task after a
        transient error, which is retried in ``poke`` mode.
        """
        try:
            return wait(context)
        except AirflowSkipException:
            raise
        except (AirflowSensorTimeout, AirflowTaskTimeout, AirflowFailException) as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(f"soft_fail or never_fail is set: {error}") from error
            raise
        except Exception as error:
            if self.never_fail:
                raise AirflowSkipException(f"never_fail is set: {sanitize_message(error)}") from error
            raise

    def _query(self, is_known: bool = False) -> Job:
        from airflow_provider_bgrep.hooks.bgrep import BgRepHook
        from airflow_provider_bgrep.late_results import complete

        hook = BgRepHook(self.bgrep_conn_id)
        return complete(
            lambda: hook.query(self.result_key, self.task_list, is_known=is_known),
            self.task_list,
            log=self.log.warning,
        )

    def _finished(self, context: Context, job: Job) -> PokeReturnValue:
        from airflow_provider_bgrep.late_results import lacking

        result = summary(job, task_ids(self.task_list))
        try:
            raise_if_failed(job, self.fail_on, lacking(job, self.task_list))
        except BgRepError:
            context["ti"].xcom_push(key="return_value", value=result)
            raise
        return PokeReturnValue(is_done=True, xcom_value=result)

    def _timed_out(self, job: Job | None) -> BgRepTimeoutError:
        counts = f" Its last known state is {job.counts}." if job else ""
        return BgRepTimeoutError(
            f"Job {self.result_key} was not finished within {self.timeout:g} s.{counts} It continues, and is "
            "billed: to collect it under the same result key, clear this task with a longer timeout."
        )
