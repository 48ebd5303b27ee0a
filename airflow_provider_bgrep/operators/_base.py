# SPDX-License-Identifier: Apache-2.0
"""Base class of the operators that generate images: executions, deferrals and stops."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_bgrep.lineage.methods import OpenLineageMethods
from airflow_provider_bgrep.operators._arguments import seconds_of
from airflow_provider_bgrep.operators._kill_switch import KillSwitch
from airflow_provider_bgrep.operators._lineage import SavedImages, saved_by
from airflow_provider_bgrep.operators.links import Linked
from airflow_provider_bgrep.protocol.limits import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT, RESULT_URL_SECONDS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bgrep.operators._generate import Deferral, Resumed
    from airflow_provider_bgrep.operators._outcome import FinishedRun
    from airflow_provider_bgrep.operators.spec import GenerateSpec

BUSY_SECONDS: Final = 30.0
"""If the service is busy with our own jobs: seconds from the first finished job until more is submitted."""


class GenerateBase(Linked, OpenLineageMethods, BaseOperator):
    """Runs a :class:`~airflow_provider_bgrep.operators.spec.GenerateSpec` in the worker, or deferred.

    A subclass returns what to run from :meth:`build_spec`.

    :param deferrable: whether to wait in the triggerer.
    :param poll_interval: seconds between two queries of one job.
    :param timeout: seconds to the deadline.
    """

    ui_color = "#e8f4ec"

    collect_after: float = RESULT_URL_SECONDS / 3
    """Seconds that a finished image task may wait for others before it is saved, because its URLs expire."""

    def __init__(
        self,
        *,
        deferrable: bool = False,
        poll_interval: timedelta | float = DEFAULT_POLL_INTERVAL,
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable
        self.poll_interval = seconds_of("poll_interval", poll_interval)
        self.timeout = seconds_of("timeout", timeout)
        self._kill_switch = KillSwitch()
        self.saved: SavedImages | None = None
        """What the last execution has saved, once the run has ended."""

    def build_spec(self, context: Context) -> GenerateSpec:
        """Return what to run. Called once for each execution.

        :param context: Airflow's context.
        """
        raise NotImplementedError

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit what is not submitted yet, and save finished jobs."""
        return self._execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Continue after the trigger fired.

        :param event: a :class:`~airflow_provider_bgrep.triggers.event.BgRepEvent`.
        """
        from airflow_provider_bgrep.operators._generate import Resumed
        from airflow_provider_bgrep.triggers.bgrep import read_event
        from airflow_provider_bgrep.triggers.event import Reason

        # The event is a hint: the worker queries the jobs itself. If the triggerer cannot query, or its clock
        # is ahead and its deadline over, it would report this repeatedly, so this worker waits instead.
        try:
            fired = read_event(event)
        except BaseException:
            self.ended()
            raise
        self.log.info(
            "Resumed (%s): %d jobs finished, %d unfinished, in which %d image tasks are finished.",
            fired.reason.value,
            fired.finished,
            fired.pending,
            fired.finished_tasks,
        )
        return self._execute(
            context,
            Resumed(
                queries=fired.queries,
                waits_here=fired.reason in (Reason.ERROR, Reason.DEADLINE),
                is_finished=fired.reason is Reason.FINISHED,
            ),
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral, even if no triggerer was running to end it."""
        from airflow_provider_bgrep.operators._generate import Resumed

        if next_method == "__fail__":
            if "timeout" in str((next_kwargs or {}).get("error", "")).lower():
                return self._execute(context, Resumed())
            self.ended()  # the trigger failed, and this try fails with it
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Submit nothing more. The API cannot cancel jobs: they continue, and a later try collects them."""
        self._kill_switch.kill()

    def _execute(self, context: Context, resumed: Resumed | None = None) -> dict[str, Any]:
        from airflow_provider_bgrep.operators._errors import airflow_errors
        from airflow_provider_bgrep.operators._generate import Deferral, run_generate

        goes_on = False  # after a deferral, or in the process that has replaced this one

        def replaced() -> None:
            nonlocal goes_on
            goes_on = True

        try:
            with airflow_errors():
                spec = replace(self.build_spec(context), collect_after=self.collect_after)
                found = run_generate(
                    spec,
                    context,
                    log=self.log,
                    kill_switch=self._kill_switch,
                    resumed=resumed,
                    ended=self._remember,
                    replaced=replaced,
                )
            goes_on = isinstance(found, Deferral)
        finally:
            if not goes_on:
                self.ended()
        if isinstance(found, Deferral):
            self.defer_on(found)
        return self.concluded(found, context)

    def _remember(self, run: FinishedRun) -> None:
        self.saved = saved_by(run)

    def ended(self) -> None:
        """Do what is left when an execution has ended, whether or not it succeeded.

        It is not called if the task goes on: after a deferral, or in a process that has replaced this one.
        """

    def concluded(self, summary: dict[str, Any], context: Context) -> dict[str, Any]:
        """Return the task's result once everything is done.

        :param summary: the counts that the task pushes to XCom.
        :param context: Airflow's context.
        :raises BgRepError: if the task must fail for a reason of the subclass.
        """
        return summary

    def defer_on(self, deferral: Deferral) -> NoReturn:
        """Wait in the triggerer.

        :param deferral: the jobs to wait for, and the deadline.
        """
        from airflow_provider_bgrep.triggers.bgrep import GRACE_SECONDS, BgRepTrigger

        keys, left = deferral.result_keys, max(0.0, deferral.end_time - time.time())
        # The keys are logged because before Airflow 3.3, nothing else logs them if the deferred task is
        # marked or cleared.
        self.log.info("Waiting in the triggerer for %d jobs: %s", len(keys), ", ".join(keys))
        self.defer(
            trigger=BgRepTrigger(
                result_keys=keys,
                bgrep_conn_id=deferral.bgrep_conn_id,
                poll_interval=self.poll_interval,
                end_time=deferral.end_time,
                collect_after=min(self.collect_after, BUSY_SECONDS)
                if deferral.is_busy
                else self.collect_after,
                tasks=deferral.tasks,
                settled=deferral.settled,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=left + GRACE_SECONDS),
        )
        raise AssertionError("defer() raises")
