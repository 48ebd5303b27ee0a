# SPDX-License-Identifier: Apache-2.0
"""Results that a finished job does not name yet."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.exceptions import BgRepUnmatchedError, unmatched_error
from airflow_provider_bgrep.late_results import complete, in_words, lacking
from airflow_provider_bgrep.protocol.matching import UnmatchedError
from airflow_provider_bgrep.protocol.models import ImageTask, Job, TaskResult
from airflow_provider_bgrep.protocol.retry import GONE_ATTEMPTS
from airflow_provider_bgrep.protocol.wire import NO_RESULT


@pytest.fixture(autouse=True)
def no_waiting():
    with without_waiting():
        yield


def tasks_of(*counts: int) -> list[ImageTask]:
    return [ImageTask(image="https://a/1.png", positive_prompt="sea", num_output=count) for count in counts]


def job_of(*tasks: tuple[str, int, str]) -> Job:
    """A job with image tasks of a status, a number of results and a message."""
    return Job(
        "k1",
        tuple(
            TaskResult(i, status, tuple(f"https://a/{n}.png" for n in range(count)), message)
            for i, (status, count, message) in enumerate(tasks)
        ),
    )


NAMED, UNNAMED = ("SUCCESS", 1, ""), ("FAILED", 0, NO_RESULT)


@pytest.mark.parametrize(
    ("tasks", "counts", "indices"),
    [
        ([NAMED], None, ""),
        ([UNNAMED], None, "0"),
        ([NAMED, UNNAMED], (1, 1), "1"),
        ([("SUCCESS", 1, ""), ("SUCCESS", 3, "")], (2, 4), "01"),
        ([("SUCCESS", 2, "")], (1,), ""),
        ([("SUCCESS", 1, "")], None, ""),
        ([("FAILED", 0, "no foreground")], (1,), ""),
        ([UNNAMED, ("RUNNING", 0, "")], (1, 1), ""),
        ([UNNAMED, UNNAMED], (1,), "01"),
        ([], (), ""),
    ],
)
def test_what_a_finished_job_lacks(tasks, counts, indices):
    """An image task that failed for a reason lacks nothing; nor does a job that goes on."""
    missing = lacking(job_of(*tasks), None if counts is None else tasks_of(*counts))
    assert [*map(str, missing)] == list(indices)
    assert [part[1] for part in in_words(missing).split("; ") if part] == list(indices)


@pytest.mark.parametrize(
    ("echoed", "is_lacking"), [(2, True), ("2", True), (1, False), (99, False), ([], False)]
)
def test_an_answer_says_how_many_results_are_expected(echoed, is_lacking):
    job = job_of(NAMED)
    task = replace(job.tasks[0], echo={"num_output": echoed})
    assert bool(lacking(replace(job, tasks=(task,)), None)) is is_lacking


class Answers:
    """Answers one by one, and repeats the last."""

    def __init__(self, *jobs: Job) -> None:
        self._jobs, self.asked = list(jobs), 0

    def __call__(self) -> Job:
        self.asked += 1
        return self._jobs[min(self.asked, len(self._jobs)) - 1]


def test_a_complete_job_is_queried_once():
    query, lines = Answers(job_of(NAMED)), []
    assert complete(query, tasks_of(1), log=lines.append) == job_of(NAMED)
    assert (query.asked, lines) == (1, [])


def test_results_that_are_named_late_are_awaited():
    query, lines = Answers(job_of(UNNAMED), job_of(UNNAMED), job_of(NAMED)), []
    assert complete(query, None, log=lines.append) == job_of(NAMED)
    assert query.asked == 3
    assert len(lines) == 2
    assert all("k1" in line for line in lines)


def test_results_that_are_never_named_end_with_the_last_answer():
    query, lines = Answers(job_of(UNNAMED)), []
    assert complete(query, tasks_of(1), log=lines.append) == job_of(UNNAMED)
    assert query.asked == GONE_ATTEMPTS
    assert len(lines) == GONE_ATTEMPTS - 1


def test_nothing_is_asked_again_after_the_deadline():
    query = Answers(job_of(UNNAMED), job_of(NAMED))
    assert complete(query, None, end_time=time.time() - 1) == job_of(UNNAMED)
    assert query.asked == 1


class LeavesOut:
    """Leaves out image tasks in the first answers."""

    def __init__(self, times: int, *, may_pass: bool = True) -> None:
        self._times, self._may_pass, self.asked = times, may_pass, 0

    def __call__(self) -> Job:
        self.asked += 1
        if self.asked > self._times:
            return job_of(NAMED)
        raise unmatched_error(UnmatchedError("k1", ["2 of 3"], may_pass=self._may_pass))


def test_image_tasks_that_are_left_out_are_awaited():
    query, lines = LeavesOut(2), []
    assert complete(query, tasks_of(1), log=lines.append) == job_of(NAMED)
    assert query.asked == 3
    assert len(lines) == 2


@pytest.mark.parametrize(("may_pass", "asked"), [(True, GONE_ATTEMPTS), (False, 1)])
def test_what_stays_unmatched_is_raised_in_the_end(may_pass, asked):
    query = LeavesOut(100, may_pass=may_pass)
    with pytest.raises(BgRepUnmatchedError):
        complete(query, tasks_of(1))
    assert query.asked == asked


def test_an_error_of_a_query_is_raised():
    def query() -> Job:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        complete(query, None)
