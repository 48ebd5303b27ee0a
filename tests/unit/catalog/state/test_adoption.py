# SPDX-License-Identifier: Apache-2.0
"""Unknown outcomes that persons settle, whoever else writes, and wherever they are killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from bgrep_harness.late_submits import Submit as Sent
from bgrep_harness.runs import Destination, Run, row
from bgrep_harness.stores import (
    WRITES,
    Actor,
    Counting,
    CrashingStore,
    Died,
    RefusingFiles,
    folder,
    folder_on,
    run_in_turns,
)

from airflow_provider_bgrep.catalog.generate import image_task
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.adoption import (
    Submit,
    adopt_job,
    find_submits,
    mismatches,
    record_not_billed,
)
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.ledger_repair import LedgerRepair
from airflow_provider_bgrep.protocol.models import ImageTask, Job, TaskResult
from airflow_provider_bgrep.storage import remove

pytestmark = pytest.mark.usefixtures("no_waiting", "temporary_files_in_memory")

CATALOG = [row("a"), row("b")]
JOB = "0123456789abcdef0123456789abcdef"
Files = dict[str, bytes]


@pytest.fixture
def lost(destination: Destination) -> Destination:
    """A destination whose only submit has lost its answer."""
    destination.refresh(CATALOG, {"a": "lost", "b": "lost"})
    destination.jobs[JOB] = list(destination.billed)
    return destination


def copy_of(destination: Destination, files: Files, *around: Any) -> Destination:
    """The same destination over a copy of its store."""
    return destination.copied_to(CatalogPaths(folder(files, *around)))


def open_submit(destination: Destination, named: str = "") -> Submit:
    (submit,) = find_submits(destination.paths, [named] if named else [], destination.later)
    return submit


def accept(destination: Destination) -> str:
    return adopt_job(destination.paths, open_submit(destination, "a"), JOB)


def refuse(destination: Destination) -> None:
    record_not_billed(destination.paths, open_submit(destination, "a"))


DECISIONS: dict[str, Callable[[Destination], Any]] = {"accepted": accept, "not billed": refuse}


def bought(destination: Destination) -> list[int]:
    """How often each row is billed after two more runs, which publish all of them."""
    destination.refresh(CATALOG)
    run = destination.refresh(CATALOG)
    assert run.counts == {"unchanged": 2}
    assert destination.published().keys() == {"a", "b"}
    return sorted(destination.billed.values())


WANTED = {"accepted": [1, 1], "not billed": [2, 2]}


# --- finding --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_only_submits_with_an_unknown_outcome_are_listed(destination: Destination):
    run = destination.refresh([*CATALOG, row("c")], {"a": "lost", "b": "pending"})
    submit = open_submit(destination)
    assert (submit.names, submit.plan_id, submit.is_unknown) == (["a"], run.plan_id, True)
    assert (submit.account, submit.images, submit.result_key) == ("bgrep_default", 1, "")
    assert not submit.is_under_way
    assert find_submits(destination.paths, ["b"])[0].is_unknown is False
    assert find_submits(destination.paths, [submit.nonce])[0].names == ["a"]
    assert find_submits(destination.paths, ["nobody"]) == []


def test_a_run_that_waits_for_the_answer_is_under_way(destination: Destination):
    run = destination.plan(CATALOG)
    run.work({"a": "lost", "b": "lost"})
    assert open_submit(destination).is_under_way
    Ledger(destination.paths).close(run.plan_id)
    assert not open_submit(destination).is_under_way


@pytest.mark.slow
def test_rows_that_were_submitted_again_are_named(lost: Destination):
    nonce = open_submit(lost).nonce
    lost.refresh([CATALOG[0], row("b", seed=7)], on_unknown_outcome="resubmit")
    submit = open_submit(lost, nonce)
    assert submit.again == ("a",), "b asks for something else now"


# --- settling -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("decision", DECISIONS)
def test_a_settled_submit_is_what_the_person_said(decision: str, lost: Destination):
    DECISIONS[decision](lost)
    assert find_submits(lost.paths) == []
    submit = open_submit(lost, "a")
    assert submit.is_not_billed is (decision == "not billed")
    assert submit.result_key == (JOB if decision == "accepted" else "")
    DECISIONS[decision](lost)
    assert bought(lost) == WANTED[decision]


@pytest.mark.slow
@pytest.mark.parametrize("decision", DECISIONS)
def test_killed_anywhere_it_is_repeated_and_buys_nothing_twice(
    decision: str, files: Files, lost: Destination
):
    counting = Counting()
    DECISIONS[decision](copy_of(lost, dict(files), counting, WRITES))
    assert counting.calls >= 3
    for dies_at in range(1, counting.calls + 1):
        left = dict(files)
        with pytest.raises(Died):
            DECISIONS[decision](copy_of(lost, left, CrashingStore(dies_at), WRITES))
        again = copy_of(lost, left)
        DECISIONS[decision](again)
        assert bought(again) == WANTED[decision]


@pytest.mark.slow
@pytest.mark.parametrize("is_gone", [False, True])
def test_killed_before_the_ledger_has_it_the_next_run_collects(is_gone, files: Files, lost: Destination):
    nonce = open_submit(lost).nonce
    for _ in range(3 if is_gone else 0):
        lost.refresh(CATALOG, keep_plans=1)
    assert any("/plans/00000001-" in name for name in files) is not is_gone
    with pytest.raises(Died):
        accept(copy_of(lost, files, CrashingStore(4), WRITES))
    written = {name.rpartition("/")[2] for name in files if nonce in name}
    assert written == {f"key-{nonce}.json", f"key-copy-{nonce}.json"}
    assert lost.plan(CATALOG).states == {"a": "pending", "b": "pending"}
    assert bought(lost) == WANTED["accepted"]


@pytest.mark.slow
@pytest.mark.parametrize("decision", DECISIONS)
def test_what_a_person_said_survives_a_rebuild(decision: str, files: Files, lost: Destination):
    DECISIONS[decision](lost)
    for name in [one for one in files if "/ledger/" in one]:
        del files[name]
    LedgerRepair(lost.paths).repair()
    assert find_submits(lost.paths) == []
    assert bought(lost) == WANTED[decision]


@pytest.mark.slow
@pytest.mark.parametrize("decision", DECISIONS)
def test_the_ledger_knows_submits_whose_plan_is_gone(decision: str, files: Files, lost: Destination):
    for name in [one for one in files if "/plans/" in one]:
        del files[name]
    assert open_submit(lost).record is not None
    DECISIONS[decision](lost)
    assert find_submits(lost.paths) == []
    assert bought(lost) == WANTED[decision]


@pytest.mark.slow
@pytest.mark.parametrize("is_gone", [False, True])
@pytest.mark.parametrize("decision", DECISIONS)
def test_the_only_writer_settles_submits_without_exclusion(decision: str, is_gone: bool, files: Files):
    """On a store that excludes nobody; also if a plan is gone, or was made before the store was like that."""
    refusing = CatalogPaths(folder_on(RefusingFiles(files)))
    shop = Destination(refusing if is_gone else CatalogPaths(folder(files)), options={"single_writer": True})
    shop.refresh(CATALOG, {"a": "lost", "b": "lost"})
    shop.jobs[JOB] = list(shop.billed)
    shop = replace(shop, paths=refusing)
    remove(shop.paths.storage)  # the store is checked again
    shop.refresh(CATALOG)
    submit = open_submit(shop, "a")
    if is_gone:
        for name in [one for one in files if f"/{submit.plan_id}/" in one]:
            del files[name]
    DECISIONS[decision](shop)
    assert find_submits(shop.paths) == []
    assert bought(shop) == WANTED[decision]


@pytest.mark.parametrize("decision", DECISIONS)
def test_where_others_write_too_no_submit_is_settled_without(decision: str, files: Files, lost: Destination):
    shared = replace(lost, paths=CatalogPaths(folder_on(RefusingFiles(files))))
    with pytest.raises(NotImplementedError):
        DECISIONS[decision](shared)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["accepted first", "not billed first"])
def test_of_two_persons_the_one_who_found_the_job_is_right(order: str, lost: Destination):
    first = open_submit(lost)
    both = [
        lambda: adopt_job(lost.paths, first, JOB),
        lambda: record_not_billed(lost.paths, first),
    ]
    for one in both if order == "accepted first" else both[::-1]:
        one()
    assert bought(lost) == [1, 1]


@pytest.mark.slow
def test_two_persons_at_once_buy_nothing_twice(files: Files, lost: Destination):
    submit = open_submit(lost)
    for turns in range(0, 24, 6):
        left = dict(files)

        def saying(says: Callable[..., Any], *key: str, left: Files = left) -> Actor:
            return Actor(lambda around: says(copy_of(lost, left, around).paths, submit, *key))

        actors = [saying(record_not_billed), saying(adopt_job, JOB)]
        run_in_turns(actors, [*[0] * turns, *[1] * 500])
        assert [actor.error for actor in actors] == [None, None]
        assert bought(copy_of(lost, left)) == [1, 1]


@pytest.mark.slow
def test_of_two_keys_the_first_counts(lost: Destination):
    submit = open_submit(lost)
    assert adopt_job(lost.paths, submit, JOB) == JOB
    assert adopt_job(lost.paths, submit, "f" * 32) == JOB
    assert open_submit(lost, "a").result_key == JOB


@pytest.mark.slow
def test_a_late_answer_is_found_after_the_row_was_bought_again(destination: Destination):
    run = destination.plan([row("a")])
    sent = Sent.of(run, "a")
    run.check()
    run.publish()
    refuse(destination)
    destination.refresh([row("a")])
    assert sum(destination.billed.values()) == 2
    sent.entry.write_accepted(sent.job, "request", "gateway")
    later = destination.plan([row("a")])
    assert later.counts == {"unchanged": 1, "orphaned": 1}, "its images are saved: they are billed"
    late = open_submit(destination, sent.entry.record.nonce)
    assert (late.entries[0]["outcome"], late.is_not_billed) == ("pending", False)


@pytest.mark.slow
def test_a_late_answer_before_the_next_run_is_collected(destination: Destination):
    run = destination.plan([row("a")])
    sent = Sent.of(run, "a")
    run.check()
    run.publish()
    refuse(destination)
    sent.entry.write_accepted(sent.job, "request", "gateway")
    assert destination.refresh([row("a")]).counts == {"pending": 1}
    assert sum(destination.billed.values()) == 1


# --- whose job it is ------------------------------------------------------------------------------------


def job_of(submit: Submit, **changes: Any) -> Job:
    """The answer to a query for the job of a submit."""
    tasks = [image_task(entry).as_wire() for entry in submit.entries]
    echoes = [{**one, **changes} for one in tasks]
    return Job(JOB, tuple(TaskResult(n, "SUCCESS", echo=echo) for n, echo in enumerate(echoes)))


def why_not(destination: Destination, job: Job) -> list[str]:
    submit = open_submit(destination)
    tasks = {entry["journal_key"]: image_task(entry) for entry in submit.entries}
    return mismatches(destination.paths, submit, job, tasks, unsigned)


def unsigned(task: ImageTask) -> ImageTask:
    return task


@pytest.mark.slow
def test_an_answer_that_repeats_all_is_that_of_the_submit(lost: Destination):
    job = job_of(open_submit(lost))
    assert why_not(lost, job) == []
    assert why_not(lost, replace(job, tasks=job.tasks[::-1])) == [], "in another order"


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"positive_prompt": "something else"}, {"image": "https://shop.example/c.jpg"}, {"num_output": 3}],
    ids=str,
)
def test_an_answer_that_repeats_anything_else_is_not(changes: dict[str, Any], lost: Destination):
    assert why_not(lost, job_of(open_submit(lost), **changes))


@pytest.mark.slow
def test_an_answer_with_fewer_or_without_echoes_is_not(lost: Destination):
    job = job_of(open_submit(lost))
    assert why_not(lost, replace(job, tasks=job.tasks[:1]))
    assert why_not(lost, replace(job, tasks=tuple(replace(task, echo={}) for task in job.tasks)))
    assert why_not(lost, replace(job, tasks=(job.tasks[0], job.tasks[0])))


@pytest.mark.slow
def test_the_job_of_another_submit_is_not(destination: Destination):
    run: Run = destination.refresh([row("a"), row("b")], {"a": "lost"})
    (known,) = (one["result_key"] for one in destination.entries() if one["name"] == "b")
    assert why_not(destination, job_of(open_submit(destination))) == []
    assert why_not(destination, replace(job_of(open_submit(destination)), result_key=known))
    assert run.plan_id
