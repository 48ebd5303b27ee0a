# SPDX-License-Identifier: Apache-2.0
"""The files of one plan: every task of a run opens a :class:`PlanStore` and reads and writes through it."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.catalog.model.plan import Plan
from airflow_provider_bgrep.catalog.model.states import TO_SUBMIT, RowState
from airflow_provider_bgrep.catalog.state.approvals import Answer, Approvals
from airflow_provider_bgrep.catalog.state.parquet_rows import is_in, is_of, rows_where
from airflow_provider_bgrep.catalog.state.plan_formats import (
    MISSING,
    as_lines,
    json_lines,
    json_object,
    local_file,
    parquet_file,
)
from airflow_provider_bgrep.catalog.state.results import read_results, write_results
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.journal.records import SubmitRecord
from airflow_provider_bgrep.journal.stores import FileStore
from airflow_provider_bgrep.protocol.errors import InvalidInput, sanitize_message
from airflow_provider_bgrep.storage import get_bytes, names_in, put_bytes, put_file, remove, size_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.model.rows import ResultRow, WorkItemRow

ROW_COLUMNS: Final = ("name", "sku", "view", "line", "state", "change")
"""Columns of ``rows.parquet``. It does not list unchanged rows: there may be a million of them."""

_CHUNK: Final = 2_000
"""Rows that are in memory at once."""
_BEGUN: Final = re.compile(r"begun-(\d+)\.json")

_log = logging.getLogger(__name__)


class PlanStore:
    """One plan's files.

    :param paths: the destination's paths.
    :param plan_id: the plan's id.
    """

    def __init__(self, paths: CatalogPaths, plan_id: str) -> None:
        self.paths, self.plan_id = paths, plan_id
        self.files = paths.plan(plan_id)

    # --- the plan ---------------------------------------------------------------------------------

    def create(
        self,
        plan: Plan,
        config: Options,
        *,
        rows: str,
        work_items: str,
        unchanged: str = "",
        invalid_rows: Iterable[Mapping[str, Any]],
        outstanding_jobs: Iterable[SubmitRecord],
    ) -> None:
        """Write a plan. Its header is written last, so that a plan with a header is complete.

        :param rows: a local Parquet file with :data:`ROW_COLUMNS`; it is moved.
        :param work_items: a local Parquet file with :data:`~.schema.WORK_ITEM`, by position; it is moved.
        :param unchanged: a local Parquet file with the names of unchanged rows, if they are to be known; it
            is moved.
        :param invalid_rows: the rows that cannot be used, as JSON has them.
        :param outstanding_jobs: submits of earlier plans, whose jobs this plan collects.
        """
        put_bytes(json.dumps(config.to_json(), ensure_ascii=False).encode(), self.files.options)
        put_file(rows, self.files.rows)
        put_file(work_items, self.files.work_items)
        if unchanged:
            put_file(unchanged, self.files.unchanged)
        lines = {
            self.files.invalid_rows: as_lines(invalid_rows),
            self.files.outstanding_jobs: as_lines(record.to_json() for record in outstanding_jobs),
        }
        for path, data in lines.items():
            put_bytes(data, path)
        plan = replace(plan, lines={path.name: data.count(b"\n") for path, data in lines.items()})
        header = json.dumps(plan.to_dict(), ensure_ascii=False, indent=1).encode()
        put_bytes(header, self.files.header_copy)
        put_bytes(header, self.files.header)

    def find_plan(self) -> Plan | None:
        """The plan, or ``None`` if its plan task did not finish.

        A header that is missing or damaged is read from its copy.

        :raises BgRepStateError: if header and copy are damaged, or have another format version.
        """
        problem: Exception | None = None
        for path in (self.files.header, self.files.header_copy):
            data = get_bytes(path)
            try:
                if data is not None:
                    return Plan.from_dict(json.loads(data))
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                problem = problem or error
        if problem is not None:
            raise BgRepStateError(f"{self.files.header} cannot be read: {problem}")
        return None

    @property
    def is_given_up(self) -> bool:
        """Whether a person has declared the plan's files lost."""
        return size_of(self.files.given_up) is not None

    @cached_property
    def plan(self) -> Plan:
        """The plan.

        :raises BgRepStateError: if its plan task did not finish, or its header is damaged.
        """
        plan = self.find_plan()
        if plan is None:
            raise BgRepStateError(f"{self.files.header} {MISSING}")
        return plan

    @cached_property
    def config(self) -> Options:
        """The options that the plan was made with.

        :raises BgRepStateError: if they are missing or damaged.
        """
        data = get_bytes(self.files.options)
        if data is None:
            raise BgRepStateError(f"{self.files.options} {MISSING}")
        try:
            return Options.checked(json.loads(data))
        except (InvalidInput, ValueError, AttributeError) as error:
            raise BgRepStateError(f"{self.files.options} cannot be read: {sanitize_message(error)}") from None

    def has_single_writer(self) -> bool:
        """Whether files may be written without exclusion, because only this plan's run writes to the store.

        Each task asks its own plan: a plan of somebody else neither allows nor forbids it. The commands of
        persons ask :func:`~.row_history.has_single_writer`.

        :raises BgRepStateError: if the plan's options are missing or damaged.
        """
        return self.config.single_writer

    def cancel(self, reason: str) -> None:
        """Record that the plan is canceled, and why: for good. Only the plan task does this."""
        put_bytes(json.dumps({"reason": reason}, ensure_ascii=False).encode(), self.files.cancelled)

    @property
    def cancelled_reason(self) -> str:
        """Why the plan was canceled, by the plan task or by a person; ``''`` if it was not.

        :raises BgRepStateError: if the file that says so is damaged.
        """
        lines = list(json_lines(self.files.cancelled))
        return str(lines[0].get("reason", "")) if lines else self._answer.reason

    def ask(self, question: int = 1) -> None:
        """Record that a person is asked whether the plan may submit. Until the answer, it may not.

        :param question: the number of the try of the approval task.
        """
        Approvals(self.files).ask(question)

    def approve(self, question: int = 1) -> bool:
        """Record that a person has approved the plan.

        :param question: the number of the try of the approval task.
        :return: whether the answer counts: whether the task has not asked again since.
        """
        return Approvals(self.files).record(question, Answer(is_approved=True))

    def refuse(self, reason: str, question: int = 1) -> bool:
        """Record that a person has refused the plan, which is then canceled; see :meth:`approve`.

        :param reason: why the plan is canceled.
        """
        return Approvals(self.files).record(question, Answer(reason=reason))

    @property
    def may_submit(self) -> bool:
        """Whether persons let the plan submit: it has the approval that it needs, and was not canceled."""
        return self.is_approved and not self.cancelled_reason

    @property
    def is_approved(self) -> bool:
        """Whether the plan may submit: it needs no approval, or it has been approved."""
        return not self.plan.needs_approval or self._answer.is_approved

    @property
    def _answer(self) -> Answer:
        """The answer to the last question; of a plan that needs no approval, nobody is asked."""
        return Approvals(self.files).last() if self.plan.needs_approval else Answer()

    # --- rows -------------------------------------------------------------------------------------

    def work_items(self, shard: int) -> list[WorkItemRow]:
        """The rows of a shard."""
        size = self.plan.shard_size
        start, stop = shard * size, (shard + 1) * size
        rows: list[dict[str, Any]] = []
        seen = 0
        with parquet_file(self.files.work_items) as file:
            # Row groups are read one by one: the rows of all shards may not fit into memory.
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if seen < stop and start < seen + count:
                    of_group = file.read_row_group(group)
                    rows += of_group.slice(max(0, start - seen), stop - max(start, seen)).to_pylist()
                seen += count
        return cast("list[WorkItemRow]", rows)

    @contextlib.contextmanager
    def local_work_items(self) -> Iterator[str]:
        """The rows of all shards as a local Parquet file, for as long as the context lasts."""
        with local_file(self.files.work_items) as local:
            yield local

    def shards(self) -> Iterator[list[WorkItemRow]]:
        """The rows of each shard, in order. The file is fetched once."""
        rows: list[dict[str, Any]] = []
        size = self.plan.shard_size
        with parquet_file(self.files.work_items) as file:
            for batch in file.iter_batches(_CHUNK):
                rows += batch.to_pylist()
                while len(rows) >= size:
                    yield cast("list[WorkItemRow]", rows[:size])
                    del rows[:size]
        if rows:
            yield cast("list[WorkItemRow]", rows)

    def shards_to_collect(self) -> list[int]:
        """The numbers of the shards that have something to do if the plan may not submit anything.

        They collect what earlier plans submitted, or this one before it was refused, and check and publish
        images that are saved already.
        """
        size = self.plan.shard_size
        found = {int(name) for name in self._journal_names() if int(name) < self.plan.shards}
        with parquet_file(self.files.work_items) as file:
            start = 0
            for batch in file.iter_batches(_CHUNK, columns=["state"]):
                states = map(RowState, batch.column(0).to_pylist())
                found |= {
                    place // size for place, state in enumerate(states, start) if state not in TO_SUBMIT
                }
                start += batch.num_rows
        return sorted(found)

    def rows(self, states: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Rows of the catalog, see :data:`ROW_COLUMNS`.

        :param states: states of the rows to return.
        """
        with local_file(self.files.rows) as local:
            yield from rows_where(local, is_in("state", states), ROW_COLUMNS)

    def rows_of(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """The rows of some products by name, see :data:`ROW_COLUMNS`, without unchanged ones.

        :param keys: see :func:`~.columns.keys_of`.
        """
        with local_file(self.files.rows) as local:
            return sorted(rows_where(local, is_of(keys), ROW_COLUMNS), key=lambda row: row["name"])

    def states_of(self, names: Iterable[str]) -> dict[str, str]:
        """The states of some rows, by name, as far as the plan says anything about them.

        :param names: of the rows. Invalid rows have no name.
        """
        named = is_in("name", names)
        with local_file(self.files.rows) as local:
            found = {row["name"]: row["state"] for row in rows_where(local, named, ["name", "state"])}
        if self.config.on_removed == "keep":
            with local_file(self.files.unchanged) as local:
                unchanged = rows_where(local, named, ["name"])
                found |= {row["name"]: RowState.UNCHANGED.value for row in unchanged}
        return found

    def invalid_rows(self) -> Iterator[dict[str, Any]]:
        """The rows that cannot be used: line, column, reason, sku, view.

        :raises BgRepStateError: if the file is damaged, or lacks lines that the plan has written.
        """
        return self._planned_lines(self.files.invalid_rows)

    def outstanding_jobs(self) -> Iterator[SubmitRecord]:
        """Submits of earlier plans, whose jobs this plan collects.

        :raises BgRepStateError: see :meth:`invalid_rows`.
        """
        for line in self._planned_lines(self.files.outstanding_jobs):
            try:
                yield SubmitRecord.from_json(line)
            except ValueError as error:
                reason = sanitize_message(error)
                raise BgRepStateError(f"{self.files.outstanding_jobs} cannot be read: {reason}") from None

    # --- shards -----------------------------------------------------------------------------------

    def journal(self, shard: int) -> FileStore:
        """The store of a shard's journal."""
        return FileStore(self.files.journal(shard), self.files.begun(shard))

    def journals(self) -> Iterator[FileStore]:
        """The stores of the journals of all shards that have one."""
        yield from (self.journal(int(name)) for name in self._journal_names())

    def _journal_names(self) -> list[str]:
        """The names of the folders of the shards that have a journal, or had one that was lost."""
        begun = (_BEGUN.fullmatch(name) for name in names_in(self.files.folder))
        names = {found[1] for found in begun if found}
        names |= {name for name in names_in(self.files.folder / "journal") if name.isdecimal()}
        return sorted(names)

    def manifest_lines(self, shard: int) -> Iterator[dict[str, Any]]:
        """The lines of the manifest that a shard's generate task wrote; none before it ended."""
        return json_lines(self.files.manifest(shard))

    def write_results(self, shard: int, rows: Iterable[ResultRow]) -> None:
        """Write what each row of a shard came to. Only the check task does this."""
        write_results(rows, self.files.results(shard))

    def forget_results(self, shard: int) -> None:
        """Remove a shard's results, because its check task has started again."""
        remove(self.files.results(shard))

    def has_results(self, shard: int) -> bool:
        """Whether the check task has written a shard's results."""
        return size_of(self.files.results(shard)) is not None

    def results(
        self, shard: int, columns: Sequence[str] | None = None, *, superseded: bool = False
    ) -> Iterator[ResultRow]:
        """What each row of a shard came to, a few rows at a time; nothing if the shard was not checked.

        :param columns: columns to read; all if not given.
        :param superseded: whether to include submits whose place a later one took, see
            :class:`~.rows.ResultRow`.
        :raises BgRepStateError: if the file is damaged.
        """
        wanted = None if columns is None else [*columns, "superseded"]
        try:
            for row in read_results(self.files.results(shard), wanted):
                if superseded or not row["superseded"]:
                    yield cast("ResultRow", row)
        except FileNotFoundError:
            return

    # --- publishing -------------------------------------------------------------------------------

    def begin_publishing(self) -> str:
        """Record that the publish task has started: earlier tries do not count any more.

        :return: the token of this try, for :meth:`mark_published`.
        """
        token = secrets.token_hex(8)
        put_bytes(json.dumps({"token": token}).encode(), self.files.publishing)
        remove(self.files.published)
        return token

    def mark_published(self, token: str, result: Mapping[str, Any]) -> None:
        """Record that a try of the publish task has finished, unless another one has started since.

        The mark counts only for the try that wrote it: one that was taken for dead, and ends late, says
        nothing about the try that followed.

        :param token: the try's.
        :param result: what it did, as JSON has it.
        """
        if self._publishing != token:
            _log.warning("Another try of the publish task of plan %s has started since.", self.plan_id)
            return
        value = {**result, "token": token}
        put_bytes(json.dumps(value, ensure_ascii=False).encode(errors="replace"), self.files.published)

    @property
    def is_published(self) -> bool:
        """Whether the try of the publish task that started last has finished."""
        return "token" in self.publish_result()

    def publish_result(self) -> dict[str, Any]:
        """What the try of the publish task did that started last; empty until it has finished."""
        found = json_object(self.files.published)
        return found if found and found.get("token") == self._publishing else {}

    @property
    def _publishing(self) -> str:
        """The token of the try of the publish task that started last; ``''`` if none did."""
        return str(json_object(self.files.publishing).get("token", ""))

    # --- the report -------------------------------------------------------------------------------

    def write_report(self, gallery: str, summary: Mapping[str, Any]) -> None:
        """Write the gallery and the summary.

        :param gallery: a local HTML file; it is moved.
        :param summary: as JSON has it.
        """
        put_file(gallery, self.files.report)
        data = json.dumps(summary, ensure_ascii=False, indent=1).encode("utf-8", "replace")
        put_bytes(data, self.files.summary)

    def report_summary(self) -> dict[str, Any]:
        """The summary of the report; empty if there is none."""
        return json_object(self.files.summary)

    @property
    def has_report(self) -> bool:
        """Whether the gallery exists."""
        return size_of(self.files.report) is not None

    def _planned_lines(self, path: ObjectStoragePath) -> Iterator[dict[str, Any]]:
        """The lines of a file that was written with the plan, once it is certain that none is lost."""
        yield from json_lines(path, self.plan.lines.get(path.name))
