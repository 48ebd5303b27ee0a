# SPDX-License-Identifier: Apache-2.0
"""The legs of a :class:`~airflow_provider_bgrep.operators.bgrep.BgRepGenerateOperator`: between Airflow's
context and the engine.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.download import check_template
from airflow_provider_bgrep.exceptions import BgRepServiceError, input_error
from airflow_provider_bgrep.generation.batches import wanted, within_budget
from airflow_provider_bgrep.generation.items import WorkItem, WorkItems
from airflow_provider_bgrep.generation.job_store import FOLDER, JobStore
from airflow_provider_bgrep.generation.run_context import AT_ONCE, Options, Result, RunContext
from airflow_provider_bgrep.generation.runner import Runner
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.journal.journal import Journal, MemoryStore, State, SupersededError
from airflow_provider_bgrep.operators._outcome import Ending
from airflow_provider_bgrep.operators._stores import check_first_try, task_name
from airflow_provider_bgrep.protocol.codes import Operation
from airflow_provider_bgrep.protocol.errors import CallError, InvalidInput
from airflow_provider_bgrep.protocol.identity import identities
from airflow_provider_bgrep.protocol.limits import MAX_RESULT_BYTES
from airflow_provider_bgrep.protocol.validation import validate_tasks
from airflow_provider_bgrep.storage import check_writable, safe_name

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_bgrep.connection import Settings
    from airflow_provider_bgrep.operators.bgrep import BgRepGenerateOperator


class Leg:
    """One stretch of work in one worker.

    :param operator: the operator, its templates rendered.
    :param context: Airflow's.
    :raises BgRepRequestError: with every problem of the input; nothing is sent then.
    """

    def __init__(self, operator: BgRepGenerateOperator, context: Context) -> None:
        self._operator, self._context, self._log = operator, context, operator.log
        try:
            check_template(operator.filename_template, with_id=True)
            tasks = validate_tasks(operator.task_list, least=0, most=None)
            self._destination = operator.images_path()
        except InvalidInput as error:
            raise input_error(error) from None
        self._hook = BgRepHook(operator.bgrep_conn_id)
        # Read before anything is written: a connection that cannot be used leaves nothing behind.
        self._settings = with_share(self._hook.settings, operator.rate_share)
        store = operator.open_store(context)
        self._is_remembered = store is not None
        self._resubmit = operator.on_unknown_outcome == "resubmit"
        if store is None:
            check_first_try(context, may_resubmit=self._resubmit, log=self._log)
        ti = context["ti"]
        generation = generation_of(context)
        self._journal = journal = Journal(
            store or MemoryStore(),
            operator.bgrep_conn_id,
            edition=edition(operator.regenerate, generation),
            try_number=ti.try_number,
            generation=generation,
            end_time=time.time() + operator.timeout,
        )
        self._saver = JobStore(
            self._destination,
            self._settings,
            self._hook.query,
            operator.filename_template,
            MAX_RESULT_BYTES,
        )
        keys = identities(tasks, journal.account, journal.edition)
        # Where the journal could not be written, the key may lie beside the images.
        journal.earlier = list(map(self._saver.with_key, [*operator.known_records(), *journal.earlier]))
        self._board = WorkItems(
            tasks, keys, journal.earlier, account=journal.account, try_number=journal.try_number
        )
        self._engine: Runner | None = None
        self._is_killed = self._waits_here = False

    def kill(self) -> None:
        """Submit nothing more, and end soon. From any thread."""
        self._is_killed = True
        if self._engine is not None:
            self._engine.kill()

    def run(self, queries: int = 0, *, waits_here: bool = False, is_finished: bool = False) -> dict[str, Any]:
        """Work, then defer or end.

        :param queries: what the trigger has asked meanwhile.
        :param waits_here: whether to wait in this worker, whatever the operator says.
        :param is_finished: whether the trigger found all jobs finished that it waited for.
        :return: the summary.
        """
        # What is remembered in this process only cannot be left to another.
        self._waits_here = waits_here or not (self._operator.deferrable and self._is_remembered)
        self._load_saved()
        self._say_what_is_known()
        counts = {**self._journal.notes.counts}
        counts[Operation.QUERY.value] = counts.get(Operation.QUERY.value, 0) + queries
        self._journal.note(counts=counts)
        before = self._stand()
        said = {record.result_key for record in self._board.outstanding if is_finished}
        while True:
            result = self._round()
            self._log.info("%s", self._board.progress)
            keys = [one.result_key for one in self._board.outstanding if one.result_key not in result.unsaved]
            may_go_on = not (result.has_no_queries or isinstance(result.error, SupersededError))
            may_go_on &= time.time() < self._journal.notes.end_time
            if keys and may_go_on and not self._waits_here:
                # Where the trigger sees a job finished and the worker does not, they would go on asking each
                # other.
                if not (result.has_unjournaled_jobs or said.intersection(keys)):
                    self._operator.defer_on(keys, self._journal.notes.end_time, is_busy=bool(self._wanted()))
                self._waits_here = True
                continue
            is_stuck = before == (before := self._stand())
            if is_stuck or result.error or not (may_go_on and self._wanted()):
                return self._end(result)

    def _stand(self) -> tuple[Any, ...]:
        """What a round can change."""
        return len(self._board.jobs), *self._board.counts().values()

    # --- a round of the engine --------------------------------------------------------------------

    def _round(self) -> Result:
        """Buy what is to be bought, and collect what is finished."""
        operator, journal = self._operator, self._journal
        wanted_now = self._wanted()
        images = sum(item.images for item in wanted_now)
        if wanted_now:
            # What cannot be kept must not be bought.
            check_writable(self._destination / FOLDER)
            self._log.info("Buying %d image tasks, %d images.", len(wanted_now), images)
        options = Options(
            poll_interval=operator.poll_interval,
            end_time=journal.notes.end_time,
            waits_here=self._waits_here,
            resubmit=self._resubmit,
            retry_failed=operator.retry_failed,
            budget=None if operator.max_images is None else operator.max_images - journal.spent - images,
        )
        shift = RunContext(self._settings, journal, self._board, self._saver, options, self._log)
        self._engine = engine = Runner(shift)
        if self._is_killed:
            engine.kill()
        try:
            result = engine.run(wanted_now)
        except BaseException:
            self._log_outstanding()
            raise
        if result.is_killed:
            self._log_outstanding()
            raise BgRepServiceError(
                "The task was told to end. Nothing more is submitted; what was bought goes on, and is "
                "collected, not bought again, when this task runs again."
            )
        if result.has_unjournaled_jobs:
            self._catch_up(result)
        if not isinstance(result.error, SupersededError):
            counts = {**journal.notes.counts}
            for operation, count in shift.request_counter.counts.items():
                counts[operation.value] = counts.get(operation.value, 0) + count
            journal.note(counts=counts, stopped=journal.notes.stopped or _told(result.stopped))
        return result

    def _catch_up(self, result: Result) -> None:
        """Write down what could not be, now that some time has passed."""
        try:
            self._journal.flush()
        except Exception:
            self._log.exception("The journal still cannot be written: this try sees its jobs through itself.")
        else:
            result.has_unjournaled_jobs = False

    def _wanted(self) -> list[WorkItem]:
        """What is still to be bought, and may be."""
        if self._journal.notes.stopped or time.time() >= self._journal.notes.end_time:
            return []
        operator = self._operator
        items = wanted(self._board.listed, resubmit=self._resubmit, retry_failed=operator.retry_failed)
        return within_budget(
            items,
            spent=self._journal.spent,
            max_images=operator.max_images,
            over_budget=operator.over_budget,
        )

    # --- what is known ----------------------------------------------------------------------------

    def _load_saved(self) -> None:
        # The images are looked for where somebody may have moved them: not from leg to leg.
        look = all(record.try_number < self._journal.try_number for record in self._journal.earlier)
        records = self._board.outstanding
        with ThreadPoolExecutor(2 * AT_ONCE) as threads:
            loaded = threads.map(lambda record: self._saver.load(record, look=look), records)
            for record, saved in zip(records, loaded, strict=True):
                if saved is not None:
                    self._board.take(record, saved)

    def _say_what_is_known(self) -> None:
        board = self._board
        if board.avoided:
            images = sum(item.images for item in board.avoided)
            self._log.info(
                "%d images were bought, or may have been, by an earlier try; they are not bought again.",
                images,
            )
        foreign = [record.result_key for record in board.foreign if record.state is State.ACCEPTED]
        if foreign:
            self._log.warning(
                "%d jobs were bought with another connection, and cannot be collected with this one: %s",
                len(foreign),
                ", ".join(foreign),
            )

    def _log_outstanding(self) -> None:
        keys = [record.result_key for record in self._board.outstanding]
        if keys:
            self._log.warning(
                "%d jobs go on and are paid for (the API cannot cancel them): %s", len(keys), ", ".join(keys)
            )

    def _end(self, result: Result) -> dict[str, Any]:
        return Ending(
            operator=self._operator,
            board=self._board,
            journal=self._journal,
            result=result,
            manifest=self._operator.manifest_path(self._destination, self._context),
        ).end(self._context)


def manifest_name(context: Context) -> str:
    """File name of a task instance's manifest."""
    *parts, map_index = task_name(context)
    if int(map_index) >= 0:
        parts.append(f"map_{map_index}")
    return f"manifest-{safe_name('.'.join(parts))}.jsonl"


def with_share(settings: Settings, share: float) -> Settings:
    """The settings of a connection of whose rate others have the rest."""
    rate = settings.max_requests_per_second
    return settings if rate is None else replace(settings, max_requests_per_second=rate * share)


def generation_of(context: Context) -> str:
    """What tells one life of a task instance from the next, and is the same for all tries of one."""
    # A clear raises the number of tries that the task may come to, and where the run had ended, starts
    # that anew; so does a run that was deleted and made again under its old name.
    started = getattr(context.get("dag_run"), "start_date", None)
    return f"{getattr(context['ti'], 'max_tries', '')} {started.isoformat() if started else ''}".strip()


def edition(regenerate: Any, generation: str) -> str:
    """What tells what is bought anew from what was bought before.

    :param regenerate: nothing, or false: no. True: each clear of the task buys anew, its retries do not.
        Other text: the edition's name.
    """
    text = "" if regenerate is None else str(regenerate).strip()
    if text.lower() in ("", "none", "false", "no", "off", "0"):
        return ""
    return f"clear {generation}" if text.lower() in ("true", "yes", "on", "1") else text


def _told(error: CallError | None) -> dict[str, Any] | None:
    """An answer as the journal's notes keep it."""
    if error is None:
        return None
    return {
        "operation": error.operation.value,
        "code": error.code,
        "http_status": error.http_status,
        "message": error.message,
        "request_id": error.request_id,
        "gateway_request_id": error.gateway_request_id,
    }
