# SPDX-License-Identifier: Apache-2.0
"""Runs a :class:`~airflow_provider_bgrep.operators.spec.GenerateSpec`: connects Airflow's context with the
engine. It does not depend on an operator.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.download import check_template
from airflow_provider_bgrep.exceptions import BgRepServiceError
from airflow_provider_bgrep.generation.batches import wanted, within_budget
from airflow_provider_bgrep.generation.items import WorkItem, WorkItems
from airflow_provider_bgrep.generation.job_store import JobRecord, JobStore
from airflow_provider_bgrep.generation.manifest import EarlierManifest
from airflow_provider_bgrep.generation.run_context import AT_ONCE, Options, Result, RunContext
from airflow_provider_bgrep.generation.runner import Runner
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.key_files import FOLDER
from airflow_provider_bgrep.journal.records import State, SubmitRecord, SupersededError
from airflow_provider_bgrep.journal.stores import MemoryStore
from airflow_provider_bgrep.metrics import (
    IMAGES_BILLABLE,
    IMAGES_UNKNOWN,
    SPEND,
    TASKS_REUSED,
    TASKS_UNKNOWN,
    Metric,
)
from airflow_provider_bgrep.operators._outcome import FinishedRun, finish, stop_record
from airflow_provider_bgrep.operators._steps import Continue, Defer, Progress, next_step
from airflow_provider_bgrep.operators._stores import check_first_try, task_name
from airflow_provider_bgrep.protocol.codes import Operation
from airflow_provider_bgrep.protocol.errors import reason_of
from airflow_provider_bgrep.protocol.identity import identities
from airflow_provider_bgrep.protocol.limits import MAX_RESULT_BYTES, MAX_TASKS
from airflow_provider_bgrep.protocol.validation import validate_tasks
from airflow_provider_bgrep.stats import count
from airflow_provider_bgrep.storage import absolute_path, check_writable, safe_name

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bgrep.connection import Settings
    from airflow_provider_bgrep.operators._kill_switch import KillSwitch
    from airflow_provider_bgrep.operators.spec import GenerateSpec


DOWNLOAD_GRACE_SECONDS: Final = 300.0
"""Seconds after the deadline in which finished images may still be downloaded, because they are billed."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The report of the trigger, if one fired.

    :param queries: number of its queries.
    :param waits_here: whether the run must wait in the worker from now on, because the triggerer cannot
        query.
    :param is_finished: whether all jobs that the trigger waited for were finished.
    """

    queries: int = 0
    waits_here: bool = False
    is_finished: bool = False


@dataclass(frozen=True, slots=True)
class Deferral:
    """A request to wait for jobs in the triggerer.

    :param bgrep_conn_id: the connection to query with.
    :param result_keys: the jobs.
    :param tasks: number of image tasks of each job, by key; only of jobs that are not full.
    :param settled: number of image tasks of each job that are finished and not to be collected, by key; only
        above 0.
    :param end_time: the deadline, wall clock in seconds.
    :param is_busy: whether there is more to submit as soon as the service accepts it.
    """

    bgrep_conn_id: str
    result_keys: tuple[str, ...]
    tasks: dict[str, int]
    settled: dict[str, int]
    end_time: float
    is_busy: bool


def run_generate(
    spec: GenerateSpec,
    context: Context,
    *,
    log: Any,
    kill_switch: KillSwitch,
    resumed: Resumed | None = None,
    ended: Callable[[FinishedRun], None] = lambda run: None,
    replaced: Callable[[], None] = lambda: None,
) -> dict[str, Any] | Deferral:
    """Submit what is not submitted yet and save finished jobs, until the run defers or ends.

    :param spec: the run.
    :param context: Airflow's context.
    :param log: the task's logger.
    :param kill_switch: stops the run from another thread.
    :param resumed: the report of the trigger; ``None`` if this is the first execution of a try.
    :param ended: called with the run when nothing more is submitted or saved, whether or not it fails.
    :param replaced: called if the run fails, for whatever reason, and another process has taken over the task
        instance.
    :return: the summary, or the deferral.
    :raises InvalidInput: with every problem of the input; nothing is sent.
    :raises BgRepError: if the run fails.
    """
    run = _Run(spec, context, log, kill_switch, ended)
    try:
        return run.run(resumed)
    except BaseException:
        if run.is_replaced:
            replaced()
        raise


class _Run:
    """One execution: what happens between two deferrals, in one worker."""

    def __init__(
        self,
        spec: GenerateSpec,
        context: Context,
        log: Any,
        kill_switch: KillSwitch,
        ended: Callable[[FinishedRun], None],
    ) -> None:
        self._spec, self._context, self._log, self._kill_switch = spec, context, log, kill_switch
        self._ended = ended
        check_template(spec.options.filename_template, with_id=True)
        if spec.sign is None:
            tasks = validate_tasks(spec.task_list, least=0, most=None)
        else:
            tasks = tuple(spec.task_list)
        self._destination = absolute_path("destination", spec.destination)
        self._manifest = spec.manifest or self._destination / manifest_name(context)
        hook = BgRepHook(spec.bgrep_conn_id)
        # Read the connection before anything is written, so that an invalid one leaves nothing behind.
        self._settings = with_share(hook.settings, spec.rate_share)
        if spec.store is None:
            check_first_try(context, may_resubmit=spec.may_resubmit, log=log)
        ti = context["ti"]
        clear_id = clear_id_of(context)
        end_time = time.time() + spec.timeout
        self._journal = journal = Journal(
            spec.store or MemoryStore(),
            spec.bgrep_conn_id,
            regenerate_key=regenerate_key(spec.options.regenerate, clear_id),
            try_number=ti.try_number,
            clear_id=clear_id,
            end_time=end_time,
        )
        had = [*spec.known_records, *journal.previous_records]
        if time.time() >= journal.end_time and all(one.state is State.REFUSED for one in had):
            # There is nothing to collect, and perhaps only the clock that set the deadline was behind.
            journal.begin_again(end_time)
        self._job_store = JobStore(
            self._destination,
            self._settings,
            hook.query,
            spec.options.filename_template,
            MAX_RESULT_BYTES,
            # A run that begins after its deadline still collects billed images.
            max(journal.end_time, time.time()) + DOWNLOAD_GRACE_SECONDS,
            spec.sign,
            EarlierManifest(self._manifest).job,
        )
        # If the journal could not be written, or a person has found the job, the key is next to the images.
        completed = self._job_store.with_answer
        journal.previous_records = list(map(completed, journal.previous_records))
        keys = spec.keys
        if keys is None:
            keys = identities(tasks, journal.account, journal.regenerate_key)
        self._work_items = WorkItems(
            tasks,
            keys,
            [*map(completed, spec.known_records), *journal.previous_records],
            account=journal.account,
            try_number=journal.try_number,
            collect_only=spec.collect_only,
        )
        self._waits_here = False

    @property
    def is_replaced(self) -> bool:
        """Whether another process has taken over the task instance, as far as the journal can be read."""
        try:
            self._journal.check_not_superseded()
        except SupersededError:
            return True
        except Exception:  # of any store: the run fails with its own error
            return False
        return False

    def run(self, resumed: Resumed | None) -> dict[str, Any] | Deferral:
        """Run rounds of the engine until the run defers or ends."""
        is_new_try = resumed is None
        if resumed is None:
            self._count_earlier()
            resumed = Resumed()
        # A journal in the memory of this process is not available after a deferral.
        may_defer = self._spec.deferrable and self._spec.store is not None
        self._waits_here = resumed.waits_here or not may_defer
        # A new try checks that the images still exist. Within a try, later executions rely on this check.
        self._load_saved(check_files=is_new_try)
        self._log_reused()
        counts = {**self._journal.metadata.counts}
        counts[Operation.QUERY.value] = counts.get(Operation.QUERY.value, 0) + resumed.queries
        self._journal.update_metadata(counts=counts)
        finished = {record.result_key for record in self._work_items.outstanding if resumed.is_finished}
        before = self._position()
        while True:
            result = self._round()
            self._log.info("%s", self._work_items.progress)
            now = self._position()
            step = next_step(self._progress(result, frozenset(finished), has_advanced=now != before))
            match step:
                case Defer(result_keys):
                    return self._deferral(result_keys)
                case Continue(waits_here):
                    if waits_here == self._waits_here:
                        before = now
                    self._waits_here = waits_here
                case _:
                    return self._finish(result)

    def _deferral(self, result_keys: tuple[str, ...]) -> Deferral:
        items = self._work_items
        tasks = {key: len(items.jobs[key].items) for key in result_keys}
        settled = {key: items.settled(items.jobs[key]) for key in result_keys}
        return Deferral(
            self._spec.bgrep_conn_id,
            result_keys,
            {key: count for key, count in tasks.items() if count != MAX_TASKS},
            {key: count for key, count in settled.items() if count},
            self._journal.end_time,
            is_busy=bool(self._wanted()),
        )

    def _progress(self, result: Result, finished: frozenset[str], *, has_advanced: bool) -> Progress:
        keys = (record.result_key for record in self._work_items.outstanding)
        is_superseded = isinstance(result.error, SupersededError)
        return Progress(
            collectable=tuple(key for key in keys if key not in result.unsaved),
            may_continue=not (result.has_no_queries or is_superseded)
            and time.time() < self._journal.end_time,
            waits_here=self._waits_here,
            has_unjournaled_facts=result.has_unjournaled_facts,
            reported_finished=finished,
            has_advanced=has_advanced,
            has_error=result.error is not None,
            has_work=bool(self._wanted()),
        )

    def _position(self) -> tuple[int, ...]:
        """Return the values that a round can change."""
        return len(self._work_items.jobs), *self._work_items.counts().values()

    # --- a round of the engine --------------------------------------------------------------------

    def _round(self) -> Result:
        """Submit image tasks, and save finished jobs."""
        journal = self._journal
        items = self._wanted()
        if items:
            # Images that cannot be saved must not be billed.
            check_writable(self._destination / FOLDER)
            images = sum(item.images for item in items)
            self._log.info("Submitting %d image tasks (%d images).", len(items), images)
        run_context = RunContext(
            self._settings,
            journal,
            self._work_items,
            self._job_store,
            self._engine_options(items),
            self._log,
            self._count,
        )
        engine = Runner(run_context)
        self._kill_switch.attach(engine)
        try:
            result = engine.run(items)
        except BaseException:
            self._write_missing_facts(run_context.result)
            self._note_answer(run_context.result)
            self._log_outstanding()
            raise
        self._write_missing_facts(result)
        if result.is_killed:
            self._note_answer(result)
            self._log_outstanding()
            raise BgRepServiceError(
                "The task is being stopped. Nothing more is submitted. Accepted jobs continue; the next try "
                "collects them and does not submit them again."
            )
        if not isinstance(result.error, SupersededError):
            counts = {**journal.metadata.counts}
            for operation, count in run_context.request_counter.counts.items():
                counts[operation.value] = counts.get(operation.value, 0) + count
            journal.update_metadata(
                counts=counts,
                stopped=journal.metadata.stopped or stop_record(result.stopped),
                is_answered=journal.metadata.is_answered or result.is_answered,
            )
        return result

    def _engine_options(self, items: list[WorkItem]) -> Options:
        spec, images = self._spec, sum(item.images for item in items)
        return Options(
            poll_interval=spec.poll_interval,
            end_time=self._journal.end_time,
            waits_here=self._waits_here,
            resubmit=spec.may_resubmit,
            retry_failed=spec.options.retry_failed,
            budget=None
            if spec.max_images is None
            else spec.max_images - self._journal.billable_images - images,
            collect_after=spec.collect_after,
            sign=spec.sign,
            taken_keys=spec.taken_keys,
        )

    def _note_answer(self, result: Result) -> None:
        """Try to note that the service has answered, although this try is stopped: it has asked."""
        if result.is_answered and not self._journal.metadata.is_answered:
            with contextlib.suppress(Exception):  # a try that is not noted only does not count
                self._journal.update_metadata(is_answered=True)

    def _write_missing_facts(self, result: Result) -> None:
        """Try again to write to the journal what could not be written before."""
        if self._journal.is_behind:
            try:
                self._journal.flush()
            except Exception:
                self._log.exception(
                    "The journal still cannot be written. This try waits for its jobs in the worker."
                )
        result.has_unjournaled_facts = self._journal.is_behind

    def _wanted(self) -> list[WorkItem]:
        """Return the items to submit, within the budget."""
        if self._journal.metadata.stopped or time.time() >= self._journal.end_time:
            return []
        spec = self._spec
        items = wanted(
            self._work_items.listed, resubmit=spec.may_resubmit, retry_failed=spec.options.retry_failed
        )
        return within_budget(
            items,
            spent=self._journal.billable_images,
            max_images=spec.max_images,
            over_budget=spec.options.over_budget,
        )

    # --- what earlier tries left ------------------------------------------------------------------

    def _load_saved(self, *, check_files: bool) -> None:
        """Load the jobs whose images are already saved."""
        records = self._work_items.outstanding
        with ThreadPoolExecutor(2 * AT_ONCE) as threads:
            loaded = threads.map(lambda record: self._load(record, check_files=check_files), records)
            for record, saved in zip(records, loaded, strict=True):
                if saved is not None:
                    self._work_items.apply_job(record, saved)

    def _load(self, record: SubmitRecord, *, check_files: bool) -> JobRecord | None:
        """Return the record of a job; ``None`` if it cannot be read: the job is then queried again."""
        try:
            return self._job_store.load(record, check_files=check_files)
        except Exception as error:  # of one job, whatever its class: see isolation.py
            self._log.warning("Cannot read the record of job %s: %s", record.result_key, reason_of(error))
            return None

    def _count(self, metric: Metric, value: float) -> None:
        """Add to a counter, and the cost of billable images to the spend."""
        count(metric, value, self._context["ti"])
        if metric is IMAGES_BILLABLE and self._spec.price_per_image is not None:
            count(SPEND, float(self._spec.price_per_image) * value, self._context["ti"])

    def _count_earlier(self) -> None:
        """Count what a try finds when it starts. An execution after a deferral finds the same again."""
        self._count(TASKS_REUSED, len(self._work_items.reused))
        # Submits that died with the worker of the try before, which could not count them.
        before = self._journal.try_number - 1
        died = [
            record
            for record in self._journal.previous_records
            if record.state is State.INTENT and record.try_number == before
        ]
        self._count(TASKS_UNKNOWN, sum(len(record.items) for record in died))
        self._count(IMAGES_UNKNOWN, sum(record.images for record in died))

    def _log_reused(self) -> None:
        reused = self._work_items.reused
        if reused:
            self._log.info(
                "Reusing %d image tasks (%d images) that an earlier try submitted; they are not submitted "
                "again.",
                len(reused),
                sum(item.images for item in reused),
            )
        others = [one.result_key for one in self._work_items.other_accounts if one.state is State.ACCEPTED]
        if others:
            self._log.warning(
                "%d jobs were submitted with another connection and cannot be collected with this one: %s",
                len(others),
                ", ".join(others),
            )

    def _log_outstanding(self) -> None:
        keys = [record.result_key for record in self._work_items.outstanding]
        if keys:
            self._log.warning(
                "%d jobs continue and are billable, because the API cannot cancel them: %s",
                len(keys),
                ", ".join(keys),
            )

    def _finish(self, result: Result) -> dict[str, Any]:
        run = FinishedRun(self._spec, self._work_items, self._journal, result, self._manifest)
        self._ended(run)
        return finish(run, self._context, log=self._log)


def manifest_name(context: Context) -> str:
    """Return the file name of a task instance's manifest."""
    *parts, map_index = task_name(context)
    if int(map_index) >= 0:
        parts.append(f"map_{map_index}")
    # A dot within a part could be one between two. No part has a slash, for which safe_name adds a hash.
    between = "/" if any("." in part for part in parts) else "."
    return f"manifest-{safe_name(between.join(parts))}.jsonl"


def with_share(settings: Settings, share: float) -> Settings:
    """Return the settings of a connection, with this task's share of its rate."""
    rate = settings.max_requests_per_second
    return settings if rate is None else replace(settings, max_requests_per_second=rate * share)


def clear_id_of(context: Context) -> str:
    """Return an id that a clear of the task instance changes, and a retry does not."""
    # A clear increases the maximum number of tries. It gives a DAG run that had ended a new start date,
    # as does deleting a DAG run and creating it again with the same id.
    started = getattr(context.get("dag_run"), "start_date", None)
    return f"{getattr(context['ti'], 'max_tries', '')} {started.isoformat() if started else ''}".strip()


def regenerate_key(regenerate: Any, clear_id: str) -> str:
    """Return the key that distinguishes image tasks to submit again from those submitted before.

    :param regenerate: ``None`` or false: nothing is submitted again. True: each clear of the task submits
        again, its retries do not. Any other text is the key itself.
    :param clear_id: see :func:`clear_id_of`.
    """
    text = "" if regenerate is None else str(regenerate).strip()
    if text.lower() in ("", "none", "false", "no", "off", "0"):
        return ""
    return f"clear {clear_id}" if text.lower() in ("true", "yes", "on", "1") else text
