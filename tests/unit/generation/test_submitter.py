# SPDX-License-Identifier: Apache-2.0
"""Submits, from a script of answers: what is sent, what the journal says, and when no more is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bgrep.generation.job_store import JobRecord
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.generation.submitter import MOST_LOST, MOST_REFUSED, Submitter
from airflow_provider_bgrep.generation.task_outcomes import TaskOutcome
from airflow_provider_bgrep.journal.journal import read_records
from airflow_provider_bgrep.journal.key_files import FOLDER
from airflow_provider_bgrep.journal.records import State, SubmitRecord
from airflow_provider_bgrep.journal.stores import FileStore, MemoryStore
from airflow_provider_bgrep.protocol.codes import ErrorKind, Operation
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.protocol.flows import NoAnswer, Reply
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.protocol.retry import SUBMIT
from airflow_provider_bgrep.storage import put_bytes, storage_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

LOST = NoAnswer(sent=True, reason="reset")


def submit(run: Any, *batches: Any) -> list[SubmitRecord]:
    """Submit batches one after another, by default one of all items. :return: the jobs to wait for."""
    watched: list[SubmitRecord] = []

    async def watch(record: SubmitRecord) -> None:
        watched.append(record)

    async def work() -> None:
        submitter = Submitter(run.context, watch)
        run.all_accepted = [await submitter.submit(batch) for batch in batches or [run.items]]
        await asyncio.gather(*run.context.tasks)

    asyncio.run(work())
    return watched


@pytest.fixture
def poison(answers):
    """A service that refuses each job with one of these image tasks."""

    def poison(code: str, *bad: int) -> Callable[[Operation, Any], Reply]:
        images, jobs = {f"https://a/{i}.png" for i in bad}, iter(range(1000))

        def reply(operation: Operation, data: Any) -> Reply:
            if images.isdisjoint(task["image"] for task in data["task_list"]):
                return answers.accepted(f"job-{next(jobs)}")
            return answers.refusal(code)

        return reply

    return poison


# --- accepted -----------------------------------------------------------------------------------------


def test_an_accepted_job_is_written_down_and_waited_for(execution, answers):
    run = execution(3, [answers.accepted("key")])
    (record,) = submit(run)
    assert run.all_accepted == [True]
    assert (record.state, record.result_key) == (State.ACCEPTED, "key")
    assert record.keys == ("sku-0", "sku-1", "sku-2")
    assert run.journal.records == [record]
    assert run.context.work_items.jobs == {"key": record}
    assert run.outcomes == ["pending"] * 3
    assert run.context.request_counter.counts[Operation.SUBMIT] == 1
    assert run.context.in_flight.none.is_set()


def test_ids_are_not_sent(execution, answers):
    run = execution(2, [answers.accepted("key")])
    submit(run)
    ((_, data),) = run.client.sent
    assert [task["image"] for task in data["task_list"]] == ["https://a/0.png", "https://a/1.png"]
    assert not any({"id", "key"} & set(task) for task in data["task_list"])


def test_a_refusal_that_names_a_job_counts_as_accepted(execution, answers):
    run = execution(1, [answers.refusal("23500000", result_key="key")])
    (record,) = submit(run)
    assert (record.state, record.result_key, len(run.client.sent)) == (State.ACCEPTED, "key", 1)


def test_a_key_that_the_journal_has_is_no_new_job(execution, answers):
    run = execution(2, [answers.accepted("key"), answers.accepted("key")])
    (record,) = submit(run, run.items[:1], run.items[1:])
    assert run.context.work_items.jobs == {"key": record}
    assert run.outcomes == ["pending", "unknown_outcome"]
    assert [(one.state, one.result_key) for one in run.journal.records] == [
        (State.ACCEPTED, "key"),
        (State.UNKNOWN, ""),
    ]
    assert "key" in run.items[1].reason
    assert run.context.in_flight.none.is_set()


def test_a_key_of_another_tasks_job_is_no_new_job(execution, answers):
    run = execution(1, [answers.accepted("key")], taken_keys=frozenset({"key"}))
    assert submit(run) == []
    (record,) = run.journal.records
    assert (record.state, record.result_key) == (State.UNKNOWN, "")
    assert (run.outcomes, len(run.client.sent)) == (["unknown_outcome"], 1)


def test_two_submits_at_once_with_one_key_are_not_one_job(execution, answers):
    run = execution(2, lambda operation, data: answers.accepted("key"))

    async def work() -> None:
        async def watch(record: SubmitRecord) -> None:
            pass

        submitter = Submitter(run.context, watch)
        await asyncio.gather(*(submitter.submit([item]) for item in run.items))

    asyncio.run(work())
    assert sorted(run.outcomes) == ["pending", "unknown_outcome"]
    assert sorted(run.states) == ["accepted", "unknown"]


def test_a_key_under_which_a_job_was_saved_is_no_new_job(execution, answers, tmp_path):
    saved = JobRecord((TaskOutcome(Outcome.FAILED, "no foreground"),), "2026-01-01T00:00:00+00:00", "other")
    put_bytes(json.dumps(saved.to_json()).encode(), storage_path(str(tmp_path)) / FOLDER / "key.json")
    run = execution(1, [answers.accepted("key")])
    assert submit(run) == []
    (record,) = run.journal.records
    assert (record.state, record.result_key) == (State.UNKNOWN, "")
    assert run.outcomes == ["unknown_outcome"]
    assert run.context.work_items.jobs == {}


class SavedMeanwhile(MemoryStore):
    """A store of a journal. As soon as it has a key, a later try saves that job, and this one goes on then.

    :param folder: the folder of the images.
    """

    def __init__(self, folder: ObjectStoragePath) -> None:
        super().__init__()
        self._folder = folder

    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        for submit in value.get("submits", ()):
            if submit["state"] == State.ACCEPTED.value:
                ended = (TaskOutcome(Outcome.FAILED, "no foreground"),)
                saved = JobRecord(ended, "2026-01-01T00:00:00+00:00", submit["nonce"])
                put_bytes(json.dumps(saved.to_json()).encode(), self._folder / FOLDER / "key.json")


def test_a_job_that_a_later_try_saved_is_no_other_submits(execution, answers, tmp_path):
    store = SavedMeanwhile(storage_path(str(tmp_path)))
    run = execution(1, [answers.accepted("key")], store=store)
    (record,) = submit(run)
    assert (record.state, record.result_key) == (State.ACCEPTED, "key")
    assert read_records(store) == [record]
    assert (run.outcomes, len(run.client.sent)) == (["pending"], 1)


def test_a_key_that_cannot_be_encoded_is_an_unknown_outcome(execution, answers, tmp_path):
    store = FileStore(storage_path(str(tmp_path)) / "journal")
    run = execution(2, [answers.accepted("k\ud800"), answers.accepted("k2")], store=store)
    submit(run, run.items[:1], run.items[1:])
    assert run.outcomes == ["unknown_outcome", "pending"]
    assert run.context.result.error is None
    assert [one.state for one in read_records(store)] == [State.UNKNOWN, State.ACCEPTED]


def test_a_service_that_repeats_its_keys_gets_no_more_submits(execution, answers):
    run = execution(MOST_LOST + 4, lambda operation, data: answers.accepted("key"))
    submit(run, *([item] for item in run.items))
    assert len(run.client.sent) == MOST_LOST + 1
    assert run.context.result.stopped is not None


# --- refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", range(5))
def test_one_bad_image_task_stops_no_other(execution, poison, bad):
    run = execution(5, poison("23500006", bad))
    watched = submit(run)
    assert run.all_accepted == [False]
    assert run.outcomes == ["refused" if i == bad else "pending" for i in range(5)]
    submitted = sorted(key for record in watched for key in record.keys)
    assert submitted == [f"sku-{i}" for i in range(5) if i != bad]
    assert run.client.images_sent.count([f"https://a/{bad}.png"]) == 1
    assert "23500006" in run.items[bad].reason
    assert run.context.result.stopped is None


def test_a_refusal_is_written_down_with_its_code(execution, poison):
    run = execution(1, poison("23500005", 0))
    submit(run)
    (record,) = run.journal.records
    assert (record.state, record.code, record.http_status) == (State.REFUSED, "23500005", 403)
    assert (record.request_id, bool(record.reason)) == ("r", True)


def test_nothing_but_refusals_stops_submits(execution, poison):
    most = MOST_REFUSED[ErrorKind.REQUEST]
    run = execution(most + 5, poison("23500013", *range(most + 5)))
    submit(run, *([item] for item in run.items))
    assert len(run.client.sent) == most
    assert run.outcomes == ["refused"] * most + ["not_submitted"] * 5
    assert run.context.result.stopped is not None
    assert run.context.result.stopped.code == "23500013"


def test_an_accepted_job_ends_a_row_of_refusals(execution, poison):
    most = MOST_REFUSED[ErrorKind.REQUEST]
    good = most - 1
    run = execution(2 * most - 1, poison("23500013", *(i for i in range(2 * most - 1) if i != good)))
    submit(run, *([item] for item in run.items))
    assert run.outcomes.count("refused") == 2 * most - 2
    assert run.context.result.stopped is None


@pytest.mark.parametrize("code", ["23500003", "A403IS", "B403MQ", "23500001", "A403IP"])
def test_a_refused_account_stops_submits_and_blames_no_image(execution, poison, code):
    run = execution(4, poison(code, 1))
    submit(run, run.items[:2], run.items[2:])
    assert len(run.client.sent) == 1
    assert run.outcomes == ["not_submitted"] * 4
    assert run.states == ["refused"]
    assert run.context.result.stopped.code == code


@pytest.mark.parametrize("code", ["I413RL", "I413UL"])
def test_a_request_that_is_too_large_is_split(execution, answers, code):
    def reply(operation: Operation, data: Any) -> Reply:
        count = len(data["task_list"])
        return answers.refusal(code) if count > 1 else answers.accepted(data["task_list"][0]["image"])

    run = execution(3, reply)
    assert len(submit(run)) == 3
    assert run.outcomes == ["pending"] * 3


# --- unknown outcomes ---------------------------------------------------------------------------------


def test_a_lost_answer_is_not_submitted_again(execution):
    run = execution(2, [LOST])
    assert submit(run) == []
    assert run.outcomes == ["unknown_outcome"] * 2
    assert run.states == ["unknown"]
    assert run.context.result.stopped is None
    assert run.context.result.error is None


def test_answer_after_answer_lost_stops_submits(execution):
    run = execution(MOST_LOST + 2, [LOST] * MOST_LOST)
    submit(run, *([item] for item in run.items))
    assert run.outcomes == ["unknown_outcome"] * MOST_LOST + ["not_submitted"] * 2
    assert run.context.result.stopped is not None


def test_an_accepted_job_ends_a_row_of_lost_answers(execution, answers):
    replies = [*[LOST] * (MOST_LOST - 1), answers.accepted("key"), *[LOST] * (MOST_LOST - 1)]
    run = execution(len(replies), replies)
    submit(run, *([item] for item in run.items))
    assert run.context.result.stopped is None


@pytest.mark.parametrize(("budget", "is_resubmitted"), [(None, True), (2, True), (1, False)])
def test_resubmit_submits_once_more_within_the_budget(execution, answers, budget, is_resubmitted):
    run = execution(2, [LOST, answers.accepted("key")], resubmit=True, budget=budget)
    assert len(submit(run)) == is_resubmitted
    assert run.outcomes == ["pending" if is_resubmitted else "unknown_outcome"] * 2
    assert run.states == (["unknown", "accepted"] if is_resubmitted else ["unknown"])


def test_resubmit_does_not_submit_a_third_time(execution):
    run = execution(1, [LOST, LOST], resubmit=True)
    submit(run)
    assert (run.outcomes, run.states) == (["unknown_outcome"], ["unknown", "unknown"])


def test_a_job_that_failed_as_a_whole_may_be_billed(execution, answers):
    run = execution(1, [answers.refusal("23500011")])
    submit(run)
    assert (run.outcomes, run.states) == (["unknown_outcome"], ["unknown"])


# --- the journal --------------------------------------------------------------------------------------


class BrokenStore(MemoryStore):
    """A store that fails to write submits in these states."""

    def __init__(self, *states: State) -> None:
        super().__init__()
        self.states = {state.value for state in states}

    def set(self, key: str, value: Any) -> None:
        submits = value.get("submits", []) if isinstance(value, dict) else []
        if self.states & {one["state"] for one in submits}:
            raise OSError("no space left")
        super().set(key, value)


def test_without_its_intent_nothing_is_sent(execution):
    run = execution(2, store=BrokenStore(State.INTENT))
    with pytest.raises(OSError, match="no space"):
        submit(run)
    assert run.client.sent == []
    assert run.outcomes == ["not_submitted"] * 2
    assert run.context.in_flight.none.is_set()


def test_a_key_without_a_journal_is_kept_beside_the_images(execution, answers, tmp_path):
    run = execution(2, [answers.accepted("key")], store=BrokenStore(State.ACCEPTED))
    (record,) = submit(run)
    assert (record.result_key, run.outcomes) == ("key", ["pending"] * 2)
    assert run.context.result.has_unjournaled_facts
    assert isinstance(run.context.result.error, OSError)
    assert not run.context.may_submit()
    assert len(list((tmp_path / FOLDER).iterdir())) == 2, "the file and its copy"
    lost = replace(record, state=State.INTENT, result_key="")
    assert run.context.job_store.with_answer(lost).result_key == "key"


# --- nothing more is submitted ------------------------------------------------------------------------


@pytest.mark.parametrize("facts", [{}, {"end_time": 1.0}], ids=["stopped", "past the deadline"])
def test_a_stopped_execution_sends_nothing(execution, facts):
    run = execution(2, **facts)
    if not facts:
        run.context.submits_stopped.set()
    assert submit(run) == []
    assert (run.outcomes, run.states) == (["not_submitted"] * 2, [])


def test_a_service_never_reached_is_this_executions_error(execution, answers):
    run = execution(1, lambda operation, data: answers.refusal("X503BZ"))
    submit(run)
    assert len(run.client.sent) == SUBMIT.attempts
    assert isinstance(run.context.result.error, CallError)
    assert run.context.result.error.code == "X503BZ"
    assert (run.outcomes, set(run.states)) == (["not_submitted"], {"refused"})
    assert run.context.result.stopped is None
    assert not run.context.may_submit()


# --- signed URLs --------------------------------------------------------------------------------------


def test_urls_are_signed_for_each_attempt_and_not_written(execution, answers):
    signatures = iter("abc")

    def sign(task: ImageTask) -> ImageTask:
        return replace(task, image=f"{task.image}?auth_key={next(signatures)}")

    run = execution(1, [answers.refusal("T429IN"), LOST], sign=sign)
    submit(run)
    images = [image for images in run.client.images_sent for image in images]
    assert images == ["https://a/0.png?auth_key=a", "https://a/0.png?auth_key=b"]
    (item,) = run.journal.records[-1].items
    assert item.image_digest
    assert "auth_key" not in str(run.journal.records)


def test_what_cannot_be_signed_stops_no_other(execution, answers):
    def sign(task: ImageTask) -> ImageTask:
        if task.id == "sku-1":
            raise PermissionError("no access to s3://shop?sig=canary")
        return task if task.id == "sku-0" else replace(task, image="not a URL")

    run = execution(3, [answers.accepted("key")], sign=sign)
    (record,) = submit(run)
    assert record.keys == ("sku-0",)
    assert run.outcomes == ["pending", "not_submitted", "not_submitted"]
    assert [item.is_refused for item in run.items] == [False, True, True]
    assert "PermissionError" in run.items[1].reason
    assert "canary" not in run.items[1].reason
