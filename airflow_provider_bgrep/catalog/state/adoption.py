# SPDX-License-Identifier: Apache-2.0
"""Settles the unknown outcome of a submit as a person says who has seen the bill.

Either the job exists: its submit is recorded as accepted, and the next run collects it. Or the bill has
nothing: its submit is recorded as refused, and the next run submits its rows again.

What a person says is written by the submit's nonce to a file beside the images, where every reader of the
journal finds it, and after that to the ledger, which also knows submits whose plan is gone. It never takes
the place of what a worker has recorded, or records later: the journal counts first. Of two persons who say
different things, the one who has found the job is right, whoever was first: a purchase only moves forward,
see :mod:`~.progress`.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.model.plan import number_of
from airflow_provider_bgrep.catalog.state.database import engine, has_key
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader, submit_of
from airflow_provider_bgrep.catalog.state.ledger_segments import COLUMNS
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.progress import merged, progress_of
from airflow_provider_bgrep.catalog.state.row_history import has_single_writer
from airflow_provider_bgrep.catalog.state.shard_facts import adopted_facts, not_billed_facts, submits
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.figures import counted
from airflow_provider_bgrep.generation.outcomes import BILLABLE, Outcome
from airflow_provider_bgrep.generation.submitted import submitted_tasks
from airflow_provider_bgrep.journal.key_files import (
    NOT_BILLED,
    adopt_key,
    with_answer,
    write_not_billed,
)
from airflow_provider_bgrep.journal.records import State, SubmitRecord
from airflow_provider_bgrep.protocol.matching import MISSING, echoes_nothing, match

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.protocol.models import ImageTask, Job

_BILLABLE: Final = frozenset(outcome.value for outcome in BILLABLE)


@dataclass(frozen=True, slots=True)
class Submit:
    """A submit of a plan, and what the ledger says of its rows.

    :param nonce: its nonce.
    :param record: what was sent, with the key of its job if one is known; ``None`` if its plan is gone, and
        the ledger does not know all of its image tasks.
    :param entries: the entries of its rows that count, in the order sent.
    :param again: names of rows that were submitted again for the same request, and are billable.
    :param is_under_way: whether its run may still be waiting for the answer.
    """

    nonce: str
    record: SubmitRecord | None
    entries: tuple[Mapping[str, Any], ...]
    again: tuple[str, ...] = ()
    is_under_way: bool = False

    @property
    def plan_id(self) -> str:
        """The plan that sent it."""
        return str(self.entries[0]["plan_id"])

    @property
    def account(self) -> str:
        """The connection that it was sent with."""
        return str(self.entries[0]["account"])

    @property
    def names(self) -> list[str]:
        """The names of its rows."""
        return [entry["name"] for entry in self.entries]

    @property
    def images(self) -> int:
        """Number of images that it asked for."""
        return sum(map(images_of, self.entries))

    @property
    def is_unknown(self) -> bool:
        """Whether its outcome is unknown."""
        return any(entry["outcome"] == Outcome.UNKNOWN.value for entry in self.entries)

    @property
    def is_not_billed(self) -> bool:
        """Whether a person has seen that it is not billed, and no answer has come since."""
        return all(entry["code"] == NOT_BILLED for entry in self.entries)

    @property
    def result_key(self) -> str:
        """Its job; ``''`` if none is known."""
        known = {entry["result_key"] for entry in self.entries} - {""}
        return max(known, default=self.record.result_key if self.record is not None else "")

    def as_dict(self) -> dict[str, Any]:
        """What a person needs to find it in the bill."""
        first = self.entries[0]
        names = ("submitted_at", "dag_id", "run_id", "plan_id", "account", "request_id", "gateway_request_id")
        return {
            "nonce": self.nonce,
            "outcome": first["outcome"],
            "code": first["code"],
            "reason": first["reason"],
            "result_key": self.result_key,
            **{name: first[name] for name in names},
            "rows": self.names,
            "images": self.images,
            "submitted_again": list(self.again),
            "is_under_way": self.is_under_way,
        }


def find_submits(paths: CatalogPaths, named: Sequence[str] = (), now: float | None = None) -> list[Submit]:
    """The submits of a destination, oldest first. Nothing is repaired.

    :param named: nonces and keys of rows, see :func:`~.columns.keys_of`. Without any: those whose outcome is
        unknown.
    :param now: wall clock in seconds; the current time if not given.
    :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
    """
    reader = LedgerReader(paths)
    now = time.time() if now is None else now
    with engine() as db, reader.snapshot(db, own="", now=now):
        metadata = reader.metadata()
        wanted = f"outcome = '{Outcome.UNKNOWN.value}'"
        if named:
            names = "SELECT unnest($named)"
            wanted = f"nonce IN ({names}) OR {has_key(names)}"
        values = {"named": list(named)} if named else {}
        found = _entries(db, f"nonce IN (SELECT nonce FROM entries WHERE nonce <> '' AND ({wanted}))", values)
        groups: dict[str, list[dict[str, Any]]] = {}
        for entry in found:
            groups.setdefault(entry["nonce"], []).append(entry)
        submits_found = []
        for nonce, entries in groups.items():
            entries.sort(key=lambda one: (one["index"] is None, one["index"], one["name"]))
            lease = metadata.lease(entries[0]["plan_id"])
            submits_found.append(
                Submit(
                    nonce,
                    _record_of(paths, nonce, entries),
                    tuple(entries),
                    _submitted_again(db, nonce, entries),
                    lease is not None and lease.planned,
                )
            )
    return [one for one in submits_found if named or one.is_unknown]


def _entries(
    db: duckdb.DuckDBPyConnection, condition: str, values: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The entries that count, of purchases for which a condition holds."""
    cursor = db.execute(
        f"SELECT {COLUMNS} FROM ({merged(f'SELECT {COLUMNS}, seq FROM entries WHERE {condition}')}) "
        "ORDER BY submitted_at, nonce",
        values,
    )
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _submitted_again(
    db: duckdb.DuckDBPyConnection, nonce: str, entries: list[dict[str, Any]]
) -> tuple[str, ...]:
    named = "nonce <> $nonce AND name IN (SELECT unnest($names))"
    others = _entries(db, named, {"nonce": nonce, "names": [entry["name"] for entry in entries]})
    requested = {(other["name"], other["request_hash"]) for other in others if other["outcome"] in _BILLABLE}
    return tuple(entry["name"] for entry in entries if (entry["name"], entry["request_hash"]) in requested)


def _record_of(paths: CatalogPaths, nonce: str, entries: list[dict[str, Any]]) -> SubmitRecord | None:
    """What was sent: the journal knows it best, also the digests of the URLs."""
    store = PlanStore(paths, entries[0]["plan_id"])
    shard = entries[0]["shard"]
    try:
        if store.find_plan() is not None:
            for record in submits(store, None if shard is None else [shard]):
                if record.nonce == nonce:
                    return record
    except BgRepStateError:
        pass  # the ledger's entries are used instead
    known = submit_of(entries)
    return None if known is None else with_answer(paths.images, replace(known, state=State.UNKNOWN))


def mismatches(
    paths: CatalogPaths,
    submit: Submit,
    job: Job,
    tasks: Mapping[str, ImageTask],
    sign: Callable[[ImageTask], ImageTask],
) -> list[str]:
    """Why a job is certainly or possibly not that of a submit; nothing if it is.

    The answer to a query repeats what was sent. A submit and a job belong together if that fits in all
    fields, and as many image tasks were sent: the rule by which results are matched to rows, for an answer
    that may be about another job.

    :param job: the answer to a query for the job.
    :param tasks: what the rows asked for, by identity in the journal.
    :param sign: gives an image task the URLs that are sent.
    """
    if submit.record is None:
        return ["the ledger does not know all image tasks of the submit, and its plan is gone"]
    problems = _other_submits(paths, submit, job.result_key)
    count = len(submit.record.items)
    if len(job.tasks) != count:
        problems.append(f"the job has {counted(len(job.tasks), 'image task')}, and {count} were submitted")
    elif echoes_nothing(job):
        problems.append("the answer repeats nothing of what was sent, so nobody knows whose job it is")
    else:
        matching = match(
            replace(job, is_named=False),
            submitted_tasks(replace(submit.record, result_key=job.result_key), job, tasks, sign),
        )
        problems += matching.problems
        if not problems and any(task.status == MISSING for task in matching.job.tasks):
            problems.append("image tasks of the submit are missing in the answer")
    return problems


def _other_submits(paths: CatalogPaths, submit: Submit, result_key: str) -> list[str]:
    """Why a job belongs to another submit of the destination, if it does."""
    # It loads what decodes images.
    from airflow_provider_bgrep.generation.job_store import OtherSubmitError, read_job_record

    with engine() as db, LedgerReader(paths).snapshot(db, own="", now=time.time()):
        others = _entries(
            db, "result_key = $key AND nonce <> $nonce", {"key": result_key, "nonce": submit.nonce}
        )
    if others:
        return [f"the job is that of another submit: {others[0]['nonce']} of {others[0]['name']}"]
    try:
        read_job_record(paths.images, result_key, submit.nonce)
    except OtherSubmitError as error:
        return [str(error)]
    except ValueError:
        pass  # whoever collects the job writes it again
    return []


def adopt_job(paths: CatalogPaths, submit: Submit, result_key: str) -> str:
    """Record that a submit was accepted, with the key of its job. The next run collects it.

    Called again, it writes what an earlier call has not written because it was killed.

    :param submit: a submit that the job matches, see :func:`mismatches`, or that has the job already.
    :return: the key that counts: another one, if somebody was faster, and nothing was recorded then.
    :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
    """
    if submit.record is None:
        if submit.result_key == result_key:
            return result_key  # the ledger has it, and nothing is left to write a key file from
        raise AssertionError("no job can be matched with this submit: it has mismatches")
    record = replace(submit.record, state=State.ACCEPTED, result_key=result_key)
    counts = adopt_key(paths.images, record, lambda: has_single_writer(paths))
    if counts == result_key:
        pending = adopted_facts(result_key)
        # A person may have said that it is not billed: then the last entry has no images.
        _add(paths, submit, [{**pending, "images": images_of(entry)} for entry in submit.entries])
    return counts


def record_not_billed(paths: CatalogPaths, submit: Submit) -> None:
    """Record that a person has seen that a submit is not billed. The next run submits its rows again.

    Called again, it writes what an earlier call has not written because it was killed.

    :param submit: a submit whose outcome is unknown, or recorded as not billed, and whose run is over.
    :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
    """
    if submit.record is not None:
        write_not_billed(paths.images, submit.record)
    _add(paths, submit, [not_billed_facts()] * len(submit.entries))


def images_of(entry: Mapping[str, Any]) -> int:
    """The images that a submit asked for, for one of its rows, whatever is known of the bill."""
    return int(entry["num_output"] or 1)


def _add(paths: CatalogPaths, submit: Submit, facts: Iterable[Mapping[str, Any]]) -> None:
    """Add an entry for each row of a submit of which the segments say less, and which no run has collected.

    :param facts: what has become known of each.
    """
    ledger = Ledger(paths, lambda: has_single_writer(paths))
    steps = _steps_in_segments(ledger.reader, submit.nonce)
    entries = []
    for entry, known in zip(submit.entries, facts, strict=True):
        new = {**entry, **known}
        if steps.get(entry["name"], -1) < progress_of(new) >= progress_of(entry):
            entries.append(new)
    if entries:
        prefix = f"segment-{submit.plan_id}-{secrets.token_hex(4)}"
        ledger.add(entries, prefix, {number_of(submit.plan_id)})


def _steps_in_segments(reader: LedgerReader, nonce: str) -> dict[str, int]:
    """How far the rows of a submit are along in the segments, by name: see :func:`~.progress.progress_of`."""
    with contextlib.ExitStack() as stack, engine() as db:
        reader.open_segments(db, stack)
        found = _entries(db, "nonce = $nonce", {"nonce": nonce})
    return {entry["name"]: progress_of(entry) for entry in found}
