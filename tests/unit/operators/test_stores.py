# SPDX-License-Identifier: Apache-2.0
"""Where an operator's journal is kept, and what happens if it is kept nowhere."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_bgrep.compat import has_task_state_store
from airflow_provider_bgrep.exceptions import BgRepUnknownOutcomeError
from airflow_provider_bgrep.journal.stores import FileStore, TaskStateStore
from airflow_provider_bgrep.operators._stores import check_first_try, open_store, task_name
from airflow_provider_bgrep.protocol.errors import InvalidInput

LOG = logging.getLogger("task")


def context(*, try_number: int = 1, **facts: Any) -> Any:
    ti = {"dag_id": "dag", "run_id": "run", "task_id": "task", "map_index": -1, **facts}
    return {"ti": SimpleNamespace(**ti, try_number=try_number)}


def test_a_task_instance_is_identified_by_four_names():
    assert task_name(context(map_index=3)) == ("dag", "run", "task", "3")


@pytest.mark.parametrize("journal_path", [None, ""])
def test_without_folder_and_task_state_store_there_is_no_store(journal_path):
    assert open_store(journal_path, context()) is None


@pytest.mark.parametrize("journal_path", ["journal", "../journal", " ", "s3://KEY:SECRET@shop/in"])
def test_a_folder_that_cannot_be_used_is_refused(journal_path):
    with pytest.raises(InvalidInput) as caught:
        open_store(journal_path, context())
    assert [problem.where for problem in caught.value.problems] == ["journal_path"]


def test_each_task_instance_has_a_folder_of_its_own(tmp_path):
    instances = [
        {},
        {"dag_id": "b"},
        {"run_id": "b"},
        {"task_id": "b"},
        {"map_index": 0},
        {"run_id": "run/b"},
    ]
    stores = [open_store(f"file://{tmp_path}", context(**facts)) for facts in instances]
    assert all(isinstance(store, FileStore) for store in stores)
    for index, store in enumerate(stores):
        assert store is not None
        store.set("a", {"index": index})
    assert [store and store.get("a") for store in stores] == [{"index": i} for i in range(len(stores))]
    assert all(file.is_relative_to(tmp_path) for file in tmp_path.rglob("*.json"))


def test_retries_of_a_task_instance_share_their_store(tmp_path):
    first, second = (open_store(f"file://{tmp_path}", context(try_number=n)) for n in (1, 2))
    assert first is not None
    assert second is not None
    first.set("a", {"b": 1})
    assert second.get("a") == {"b": 1}


@pytest.mark.parametrize("name", ["..", "../../etc", "/etc", "a/../.."])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    store = open_store(f"file://{tmp_path}/journal", context(run_id=name))
    assert store is not None
    store.set("a", {})
    (file,) = tmp_path.rglob("*.json")
    assert file.is_relative_to(tmp_path / "journal" / "dag")


@pytest.mark.skipif(not has_task_state_store(), reason="this Airflow has no task state store")
def test_a_folder_takes_precedence_over_airflows_store(tmp_path):
    values: dict[str, Any] = {}
    accessor = SimpleNamespace(get=values.get, set=lambda key, value, **_: values.update({key: value}))
    given = {**context(), "task_state_store": accessor}
    own = open_store(None, given)
    assert isinstance(own, TaskStateStore)
    own.set("a", {"b": 1})
    assert values
    assert isinstance(open_store(f"file://{tmp_path}", given), FileStore)


@pytest.mark.parametrize(("try_number", "may_resubmit"), [(1, False), (1, True), (2, True)])
def test_without_a_journal_a_first_try_may_submit_with_a_warning(caplog, try_number, may_resubmit):
    check_first_try(context(try_number=try_number), may_resubmit=may_resubmit, log=LOG)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "journal_path" in caplog.text


def test_without_a_journal_a_later_try_submits_nothing():
    with pytest.raises(BgRepUnknownOutcomeError) as caught:
        check_first_try(context(try_number=2), may_resubmit=False, log=LOG)
    assert all(word in str(caught.value) for word in ("journal_path", "on_unknown_outcome"))
