# SPDX-License-Identifier: Apache-2.0
"""One submit: what an earlier try left decides, before anything is sent.

``tests/contract/test_submit.py`` has what is sent, and what becomes of it.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.exceptions import (
    BgRepConfigurationError,
    BgRepServiceError,
    BgRepUnknownOutcomeError,
)
from airflow_provider_bgrep.journal.journal import Journal
from airflow_provider_bgrep.journal.records import State, SubmittedTask
from airflow_provider_bgrep.journal.stores import MemoryStore
from airflow_provider_bgrep.operators._submit import submit_once
from airflow_provider_bgrep.operators.spec import SubmitSpec
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.protocol.identity import identities
from airflow_provider_bgrep.protocol.models import ImageTask

LOG = logging.getLogger("task")
TASKS = [ImageTask(image=f"https://shop.example/{i}.png", positive_prompt="sea") for i in range(2)]
UNREACHABLE = '{"conn_type": "bgrep", "host": "127.0.0.1", "schema": "http", "port": 9, "password": "code"}'


@pytest.fixture(autouse=True)
def connection(monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", UNREACHABLE)


def record(
    store: MemoryStore, state: State, *, account: str = "shop", tasks: Any = TASKS, **facts: Any
) -> None:
    """Write what an earlier try would have written about a submit of ``tasks``."""
    entry = Journal(store, account).new_entry([SubmittedTask(key) for key in identities(tasks, account)])
    entry.write_intent("the-nonce")
    if state is State.ACCEPTED:
        entry.write_accepted("the-key", "r", "g")
    elif state is not State.INTENT:
        entry.write_failed(state, **facts)


def submit(store: MemoryStore | None, tasks: Any = TASKS, *, try_number: int = 2, **facts: Any) -> str:
    spec = SubmitSpec(task_list=tasks, bgrep_conn_id="shop", store=store, **facts)
    return submit_once(spec, {"ti": SimpleNamespace(try_number=try_number)}, log=LOG)  # type: ignore[typeddict-item]


@pytest.mark.parametrize("on_unknown_outcome", ["fail", "resubmit"])
def test_an_accepted_submit_is_reused(on_unknown_outcome):
    store = MemoryStore()
    record(store, State.ACCEPTED)
    assert submit(store, on_unknown_outcome=on_unknown_outcome) == "the-key"
    assert len(Journal(store, "shop").previous_records) == 1


def test_an_accepted_submit_counts_beside_an_unknown_one():
    store = MemoryStore()
    record(store, State.UNKNOWN)
    record(store, State.ACCEPTED)
    record(store, State.UNKNOWN)
    assert submit(store) == "the-key"


@pytest.mark.parametrize("state", [State.INTENT, State.UNKNOWN])
def test_what_may_have_been_accepted_is_not_submitted_again(state):
    store = MemoryStore()
    record(store, state, request_id="r", gateway_request_id="g")
    expected = ("", "") if state is State.INTENT else ("r", "g")
    with pytest.raises(BgRepUnknownOutcomeError) as caught:
        submit(store)
    assert (caught.value.request_id, caught.value.gateway_request_id) == expected
    assert "the-nonce" in caught.value.message
    assert [one.nonce for one in Journal(store, "shop").previous_records] == ["the-nonce"]


@pytest.mark.parametrize(
    "tasks",
    [[], [{"image": "https://a/b.png"}], [*TASKS] * 6, "[]", None],
    ids=["empty", "no prompt", "twelve", "text", "none"],
)
def test_an_invalid_list_leaves_nothing_in_the_journal(tasks):
    store = MemoryStore()
    with pytest.raises(InvalidInput) as caught:
        submit(store, tasks)
    assert all(problem.where.startswith("task_list") for problem in caught.value.problems)
    assert Journal(store, "shop").previous_records == []


def test_a_connection_that_cannot_be_used_leaves_no_intent(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", '{"conn_type": "bgrep", "host": "127.0.0.1"}')
    store = MemoryStore()
    with pytest.raises(BgRepConfigurationError) as caught:
        submit(store)
    assert "password" in caught.value.message
    assert Journal(store, "shop").previous_records == []


def test_without_a_store_a_later_try_sends_nothing():
    with pytest.raises(BgRepUnknownOutcomeError):
        submit(None)


@pytest.mark.parametrize(
    ("state", "on_unknown_outcome"), [(State.REFUSED, "fail"), (State.UNKNOWN, "resubmit")]
)
def test_what_may_be_submitted_is_tried_and_recorded(state, on_unknown_outcome):
    store = MemoryStore()
    record(store, state)
    # Nobody listens: the attempts of this try are refused connections.
    with without_waiting(), pytest.raises(BgRepServiceError):
        submit(store, on_unknown_outcome=on_unknown_outcome)
    first, second = Journal(store, "shop").previous_records
    assert (first.nonce, first.state) == ("the-nonce", state)
    assert (second.keys, second.state, second.try_number) == (first.keys, State.REFUSED, 2)
    assert second.nonce != first.nonce


def test_another_list_is_another_submit():
    store = MemoryStore()
    record(store, State.ACCEPTED, tasks=TASKS[:1])
    with without_waiting(), pytest.raises(BgRepServiceError):
        submit(store)
    assert len(Journal(store, "shop").previous_records) == 2
