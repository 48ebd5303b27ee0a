# SPDX-License-Identifier: Apache-2.0
"""Questions and answers: the last question counts, and no lost file approves a plan that was refused."""

from __future__ import annotations

import json

import pytest

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.approvals import Answer, Approvals
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.storage import put_bytes, remove, storage_path

APPROVED, REFUSED = Answer(is_approved=True), Answer(reason="it was not approved")


@pytest.fixture
def files(tmp_path):
    return CatalogPaths(storage_path(str(tmp_path))).plan("plan")


@pytest.fixture
def approvals(files) -> Approvals:
    return Approvals(files)


def test_without_an_answer_nothing_is_approved(approvals):
    assert approvals.last() == Answer()
    approvals.ask(1)
    assert approvals.last() == Answer(is_approved=False, reason="")


@pytest.mark.parametrize("answer", [APPROVED, REFUSED])
def test_the_answer_to_the_last_question_counts(approvals, answer):
    approvals.ask(1)
    assert approvals.record(1, answer)
    assert approvals.last() == answer
    approvals.ask(10)
    assert approvals.last() == Answer()
    assert not approvals.record(9, APPROVED)
    assert approvals.last() == Answer()
    assert approvals.record(10, REFUSED)
    assert not approvals.record(2, APPROVED)
    approvals.ask(3)
    assert approvals.last() == REFUSED


@pytest.mark.parametrize("name", ["asked-0001", "answer-0001", "asked-0002", "answer-0002"])
def test_no_lost_file_approves_a_plan_that_was_refused(approvals, files, name):
    for question, answer in ((1, APPROVED), (2, REFUSED)):
        approvals.ask(question)
        approvals.record(question, answer)
    remove(files.approvals / f"{name}.json")
    assert not approvals.last().is_approved


@pytest.mark.parametrize("name", ["asked-0001", "answer-0001", "asked-0003", "answer-0003"])
@pytest.mark.parametrize("late", [False, True])
def test_no_lost_file_brings_an_approval_back(late, name, approvals, files):
    approvals.ask(1)
    approvals.record(1, APPROVED)
    approvals.ask(3)
    if late:  # its try had looked for the question before the other one was asked
        put_bytes(json.dumps({"approved": True, "reason": ""}).encode(), files.answer(1))
    remove(files.approvals / f"{name}.json")
    assert approvals.last() == Answer()


@pytest.mark.parametrize("answer", [APPROVED, REFUSED])
def test_an_answer_without_its_question_does_not_count(approvals, files, answer):
    assert not approvals.record(1, answer)
    assert approvals.last() == Answer()
    approvals.ask(2)
    assert not approvals.record(3, answer)
    assert approvals.record(2, REFUSED)
    assert approvals.last() == REFUSED


@pytest.mark.parametrize("answer", [APPROVED, REFUSED])
def test_a_lost_question_takes_an_approval_back(approvals, files, answer):
    approvals.ask(1)
    approvals.record(1, answer)
    remove(files.asked(1))
    assert approvals.last() == Answer(reason=answer.reason)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", json.dumps({"approved": True}).encode()])
def test_a_damaged_answer_is_named(approvals, files, data):
    approvals.ask(1)
    put_bytes(data, files.answer(1))
    with pytest.raises(BgRepStateError, match=r"answer-0001\.json"):
        approvals.last()


@pytest.mark.parametrize("value", ["false", 1, None])
def test_only_true_is_an_approval(approvals, files, value):
    approvals.ask(1)
    put_bytes(json.dumps({"approved": value, "reason": ""}).encode(), files.answer(1))
    assert not approvals.last().is_approved
