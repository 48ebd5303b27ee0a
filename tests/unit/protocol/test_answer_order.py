# SPDX-License-Identifier: Apache-2.0
"""An image task is recognized in a later response, or is not taken for one of the earlier response."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_bgrep.protocol.answer_order import in_order, renewed, result_digests, traces
from airflow_provider_bgrep.protocol.models import Job, TaskResult


def job(*tasks: tuple[dict[str, Any], str]) -> Job:
    """A job of image tasks with an echo and the name of a result each."""
    signature = "OSSAccessKeyId=k&Signature=s"
    return Job(
        "k",
        tuple(
            TaskResult(i, "SUCCESS", (f"https://r/{name}?Expires={i}&{signature}",), "", echo)
            for i, (echo, name) in enumerate(tasks)
        ),
    )


def names(some: Job) -> list[str]:
    return [task.results[0].partition("?")[0].rpartition("/")[2] for task in some.tasks]


SEA, SNOW = {"positive_prompt": "sea"}, {"positive_prompt": "snow"}


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))], ids=str)
@pytest.mark.parametrize("echoes", [[SEA, SNOW, {}], [SEA, SEA, SNOW], [{}, {}, {}]], ids=str)
def test_tasks_keep_their_places_in_any_order(order, echoes):
    tasks = [*zip(echoes, "abc", strict=True)]
    found = in_order(job(*(tasks[i] for i in order)), traces(job(*tasks)))
    assert found is not None
    assert (names(found.job), found.certain) == (["a", "b", "c"], {0, 1, 2})
    assert [task.index for task in found.job.tasks] == [0, 1, 2]


def test_an_echo_may_have_another_form():
    found = in_order(
        job((SNOW, "b"), ({"positive_prompt": " sea\n", "message": "x"}, "c")),
        traces(job((SEA, "a"), (SNOW, "b"))),
    )
    assert found is not None
    assert (names(found.job), found.certain) == (["c", "b"], {0, 1})


@pytest.mark.parametrize("later", ["xy", "ax", "aa"])
def test_equal_echoes_with_other_results_are_not_certain(later):
    found = in_order(
        job((SNOW, "z"), *((SEA, name) for name in later)), traces(job((SEA, "a"), (SNOW, "z"), (SEA, "b")))
    )
    assert found is not None
    assert (names(found.job)[1], found.certain) == ("z", {1})


@pytest.mark.parametrize("later", [[], [(SEA, "a")], [(SEA, "a"), (SEA, "b")], [({}, "a"), (SNOW, "b")]])
def test_another_set_of_tasks_has_no_order(later):
    assert in_order(job(*later), traces(job((SEA, "a"), (SNOW, "b")))) is None


def test_only_certain_tasks_get_new_results():
    first = job((SEA, "a"), (SNOW, "b"), (SEA, "c"))
    assert names(renewed(first, job((SEA, "x"), (SEA, "y"), (SNOW, "z")))) == ["a", "z", "c"]
    assert renewed(first, job((SEA, "x"))) == first


def test_failed_tasks_do_not_make_the_others_uncertain():
    failed = replace(job((SEA, "a")).tasks[0], status="FAILED", results=())
    some = job((SEA, "a"), (SEA, "b"))
    earlier = replace(some, tasks=(*some.tasks, replace(failed, index=2), replace(failed, index=3)))
    later = replace(some, tasks=(failed, some.tasks[1], failed, some.tasks[0]))
    found = in_order(later, traces(earlier))
    assert found is not None
    assert [len(task.results) for task in found.job.tasks] == [1, 1, 0, 0]
    assert found.certain == {0, 1, 2, 3}


def test_what_cannot_be_read_is_recognized_by_its_results():
    odd: Any = {"image": 7, "seed": float("nan"), "positive_prompt": ["sea"]}
    found = in_order(job((odd, "b"), (odd, "https://[")), traces(job((odd, "https://["), (odd, "b"))))
    assert found is not None
    assert found.certain == {0, 1}


def test_results_are_recognized_by_their_urls_in_any_order():
    task = job((SEA, "a")).tasks[0]
    task = replace(task, results=(*task.results, "https://r/b", "https://r/c"))
    digests = result_digests(task)
    signature = "Expires=2&OSSAccessKeyId=k&Signature=t"
    urls = (f"https://r/{name}?{signature}" for name in "cab")
    signed = replace(task, results=tuple(urls))
    assert result_digests(signed) == (digests[2], digests[0], digests[1])
    assert len({*digests}) == 3
    assert traces(Job("k", (task,))) == traces(Job("k", (signed,)))


@pytest.mark.parametrize("urls", [("https://r/a", "HTTPS://r:443/a"), ("https://[", "https://[")])
def test_equal_urls_identify_no_result(urls):
    task = replace(job((SEA, "a")).tasks[0], results=(*urls, "https://r/b"))
    assert result_digests(task)[:2] == ("", "")
    assert result_digests(task)[2]
