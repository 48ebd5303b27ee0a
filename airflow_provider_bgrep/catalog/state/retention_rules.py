# SPDX-License-Identifier: Apache-2.0
"""Which plans, images and records nobody needs any more, as rules that read and write nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_provider_bgrep.catalog.model.plan import is_plan_id
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.journal.key_files import NOT_BILLED, nonce_in
from airflow_provider_bgrep.journal.records import State, SubmitRecord
from airflow_provider_bgrep.storage import safe_name


def expired_plans(
    folders: Iterable[str],
    keep_plans: int,
    needed: Collection[str],
    group_of: Callable[[str], object] = lambda plan_id: "",
) -> list[str]:
    """Plan folders that are not among the newest of their task group, oldest first.

    The task groups of a destination do not count each other's plans: several groups of one DAG run publish
    one after the other, and each has a report to write after that.

    :param folders: names of the plan folders. Their ids sort by the ledger's sequence; other names are not
        plans.
    :param keep_plans: how many of the newest stay, at least 1.
    :param needed: plans that stay in any case.
    :param group_of: the task group of a plan; ``None`` if it is not known, as that of a plan that was never
        finished. Such a plan stays only while it is among the newest of all.
    """
    plans = sorted((name for name in folders if is_plan_id(name)), reverse=True)
    if len(plans) <= keep_plans:
        return []
    newer: Counter[object] = Counter()
    expired: list[str] = []
    for place, plan_id in enumerate(plans):
        group = group_of(plan_id)
        if (place if group is None else newer[group]) >= keep_plans and plan_id not in needed:
            expired.append(plan_id)
        newer[group] += 1
    return expired[::-1]


@dataclass(frozen=True, slots=True)
class LedgerFact:
    """What the ledger has of a submit.

    :param plan_id: the plan that submitted it.
    :param nonce: the submit's nonce.
    :param result_key: the job; ``''`` while it is not known.
    :param outcome: see :class:`~airflow_provider_bgrep.generation.outcomes.Outcome`.
    """

    plan_id: str
    nonce: str
    result_key: str
    outcome: str


def dispensable_plans(
    journals: Mapping[str, Sequence[SubmitRecord]],
    facts: Iterable[LedgerFact],
    key_files: Collection[str],
    recent: Collection[str] = (),
) -> set[str]:
    """Plans whose journals have nothing that the ledger lacks.

    A plan stays while a job of its is pending, since jobs are collected by their journal's records; while
    its journal has a submit or a job's key that the ledger has not; and while a file beside the images waits
    for a retry to find out about a submit whose outcome is unknown.

    :param journals: the submits in a plan's journals, by plan.
    :param facts: entries of the ledger about these plans' submits.
    :param key_files: nonces of the files that say what became of a submit.
    :param recent: plans whose workers may still write an answer.
    """
    keys_of: dict[str, set[str]] = defaultdict(set)
    pending: set[str] = set()
    unknown: set[str] = set()
    for fact in facts:
        if fact.outcome == Outcome.UNKNOWN.value:
            unknown.add(fact.nonce)
        keys_of[fact.nonce].add(fact.result_key)
        if fact.outcome == Outcome.PENDING.value:
            pending |= {fact.plan_id, fact.nonce}

    def is_known(record: SubmitRecord) -> bool:
        if record.replaced in unknown:
            return False  # it was not sent, which the ledger does not know yet
        if record.state is State.REFUSED:
            return record.nonce not in unknown  # nothing was billed
        known = keys_of.get(record.nonce, set())
        if record.state is State.ACCEPTED:
            return record.result_key in known and record.nonce not in pending
        return bool(known) and (any(known) or safe_name(record.nonce) not in key_files)

    def is_answered(record: SubmitRecord) -> bool:
        is_open = record.state is State.INTENT or record.code == NOT_BILLED
        return not is_open or any(keys_of.get(record.nonce, ()))

    return {
        plan_id
        for plan_id, records in journals.items()
        if plan_id not in pending
        and all(map(is_known, records))
        and (plan_id not in recent or all(map(is_answered, records)))
    }


def job_of(name: str) -> str:
    """The job of a generated image, as its file name says: ``{result_key}_{index}_{output}.{ext}``.

    :return: ``''`` for a file with another name, which is not ours to delete.
    """
    stem, _, ext = name.rpartition(".")
    parts = stem.rsplit("_", 2)
    is_ours = len(parts) == 3 and bool(ext) and parts[1].isdecimal() and parts[2].isdecimal()
    return parts[0] if is_ours else ""


def unneeded_records(names: Iterable[str], jobs: Collection[str], nonces: Collection[str]) -> list[str]:
    """Job records and key files that no plan needs.

    :param names: of the files.
    :param jobs: jobs that a plan may still read, as file names have them.
    :param nonces: submits that a plan may still read, as file names have them.
    """
    unneeded = []
    for name in names:
        stem, _, ext = name.rpartition(".")
        nonce = nonce_in(stem)
        known, key = (jobs, stem) if nonce is None else (nonces, nonce)
        if ext == "json" and key and key not in known:
            unneeded.append(name)
    return unneeded
