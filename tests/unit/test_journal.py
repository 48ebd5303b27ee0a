# SPDX-License-Identifier: Apache-2.0
"""The journal through every crash: whatever is left behind, nothing is bought twice unasked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_bgrep.journal import FileStore, Journal, Record, State
from airflow_provider_bgrep.protocol.models import ImageTask

TASKS = [ImageTask(image="https://a/1.png", positive_prompt="sea")]
OTHER = [ImageTask(image="https://a/1.png", positive_prompt="snow")]


class Died(BaseException):
    """The worker is gone: no handler of ours runs after this."""


class CrashingStore:
    """A store that dies at its n-th call, before or after that call took effect."""

    def __init__(self, dies_at: int = 0, *, after: bool = False) -> None:
        self.values: dict[str, Any] = {}
        self.calls, self.dies_at, self.after = 0, dies_at, after

    def _call(self, key: str, value: Any = None) -> Any:
        self.calls += 1
        dies = self.calls == self.dies_at
        if dies and not self.after:
            raise Died
        if value is not None:
            self.values[key] = json.dumps(value)  # what a store keeps is JSON
        if dies:
            raise Died
        kept = self.values.get(key)
        return None if kept is None else json.loads(kept)

    def get(self, key: str) -> Any:
        return self._call(key)

    def set(self, key: str, value: Any) -> None:
        self._call(key, value)


class Service:
    """Takes jobs, and counts what it bills."""

    def __init__(self) -> None:
        self.billed = 0

    def submit(self) -> str:
        self.billed += 1
        return f"key-{self.billed}"


def one_try(journal: Journal, service: Service) -> str:
    """A try of an Airflow task, as the journal's rules ask: look, write, send, write."""
    found = journal.find("conn", TASKS)
    if found is not None and found.state is State.ACCEPTED:
        return found.result_key
    if found is not None and found.state in (State.INTENT, State.UNKNOWN):
        return "unknown"
    purchase = journal.intend("conn", TASKS, "nonce")
    key = service.submit()
    purchase.accepted(key, "r", "g")
    return key


@pytest.mark.parametrize("after", [False, True], ids=["before it is written", "after it is written"])
@pytest.mark.parametrize("dies_at", [1, 2, 3])
def test_a_crash_at_any_call_never_buys_twice(dies_at, after):
    store, service = CrashingStore(dies_at, after=after), Service()
    with pytest.raises(Died):
        one_try(Journal(store), service)
    second = one_try(Journal(store), service)
    assert service.billed <= 1
    # What was bought is either found again or known to be in doubt; what was not is bought now.
    assert second == ("unknown" if Journal(store).find("conn", TASKS).state is State.INTENT else "key-1")  # type: ignore[union-attr]
    assert one_try(Journal(store), service) == second


def test_a_crash_before_the_intent_is_written_sends_nothing():
    store, service = CrashingStore(2), Service()
    with pytest.raises(Died):
        one_try(Journal(store), service)
    assert service.billed == 0
    assert store.values == {}


def test_a_crash_after_the_key_was_written_finds_the_key():
    store, service = CrashingStore(3, after=True), Service()
    with pytest.raises(Died):
        one_try(Journal(store), service)
    found = Journal(store).find("conn", TASKS)
    assert found is not None
    assert (found.state, found.result_key, found.request_id) == (State.ACCEPTED, "key-1", "r")
    assert found.nonce == "nonce"
    assert found.tasks == 1


def test_a_refusal_may_be_submitted_again_and_a_lost_answer_may_not():
    journal = Journal(CrashingStore())
    purchase = journal.intend("conn", TASKS, "n")
    purchase.failed(False, "r", "g")
    assert journal.find("conn", TASKS).state is State.REFUSED  # type: ignore[union-attr]
    purchase.failed(True, "r", "g")
    found = journal.find("conn", TASKS)
    assert found is not None
    assert (found.state, found.gateway_request_id) == (State.UNKNOWN, "g")


def test_records_are_found_by_what_was_bought_and_on_which_account():
    journal = Journal(CrashingStore())
    journal.intend("conn", TASKS, "n").accepted("k", "", "")
    assert journal.find("conn", OTHER) is None
    assert journal.find("other", TASKS) is None
    assert journal.find("conn", [*TASKS, *TASKS]) is None
    assert journal.find("conn", [ImageTask(**{**TASKS[0].as_dict(), "id": "sku"})]) is not None


@pytest.mark.parametrize("account", ["team/bgrep", "../../etc/x", "a" * 250, "雪", "with blank"])
def test_any_connection_id_makes_a_key_that_is_one_short_file_name(account):
    store = CrashingStore()
    Journal(store).intend(account, TASKS, "n")
    (key,) = store.values
    assert set(key) <= set("bgrep-0123456789abcdef")
    assert len(key) < 120
    assert Journal(store).find(account, TASKS) is not None


GOOD = Record(State.ACCEPTED, "2025-01-01T00:00:00+00:00", 1, "n", "k").to_json()


def test_a_record_survives_json():
    record = Record.from_json(json.loads(json.dumps(GOOD)))
    assert record.to_json() == GOOD
    assert record.result_key == "k"


@pytest.mark.parametrize(
    "value",
    [
        {**GOOD, "version": 2},
        {**GOOD, "version": 0},
        {**GOOD, "version": "1"},
        {name: value for name, value in GOOD.items() if name != "version"},
        {name: value for name, value in GOOD.items() if name != "state"},
        {name: value for name, value in GOOD.items() if name != "at"},
        {**GOOD, "state": "paid"},
        {**GOOD, "state": None},
        {**GOOD, "result_key": ""},
        {},
        [],
        "accepted",
        7,
        False,
    ],
    ids=str,
)
def test_a_record_that_cannot_be_read_is_never_taken_for_none(value):
    store = CrashingStore()
    journal = Journal(store)
    journal.intend("conn", TASKS, "n")
    store.values = {key: json.dumps(value) for key in store.values}
    with pytest.raises(ValueError, match="nothing was submitted"):
        journal.find("conn", TASKS)


def test_what_a_newer_version_adds_to_a_record_of_ours_is_passed_over():
    assert Record.from_json({**GOOD, "colour": "red"}).result_key == "k"


# --- in a folder ----------------------------------------------------------------------------------


def folder() -> tuple[dict[str, bytes], FileStore]:
    files: dict[str, bytes] = {}
    return files, FileStore(files.get, files.__setitem__)


def test_a_folder_keeps_one_readable_json_file_a_purchase():
    files, store = folder()
    Journal(store).intend("conn", TASKS, "n").accepted("k", "r", "g")
    ((name, data),) = files.items()
    assert name.endswith(".json")
    assert json.loads(data)["result_key"] == "k"
    assert Journal(store).find("conn", TASKS).result_key == "k"  # type: ignore[union-attr]
    assert Journal(store).find("conn", OTHER) is None


@pytest.mark.parametrize("damage", [b"", b"{", b'{"version": 1', b"\xff\xfe", b"\x00" * 40], ids=repr)
def test_a_damaged_file_is_never_taken_for_none(damage):
    files, store = folder()
    Journal(store).intend("conn", TASKS, "n")
    (name,) = files
    files[name] = damage
    with pytest.raises(ValueError, match="nothing was submitted"):
        Journal(store).find("conn", TASKS)


def test_a_folder_that_cannot_be_read_or_written_says_so():
    def fail(*args: Any) -> Any:
        raise PermissionError("no")

    journal = Journal(FileStore(fail, fail))
    with pytest.raises(PermissionError):
        journal.find("conn", TASKS)
    with pytest.raises(PermissionError):
        journal.intend("conn", TASKS, "n")


def test_no_url_no_prompt_and_no_secret_is_written_down():
    files, store = folder()
    task = ImageTask(image="https://a/1.png?Signature=s3cr3t", positive_prompt="snow palace")
    Journal(store).intend("conn", [task], "n").accepted("k", "r", "g")
    assert not any(word in str(files) for word in ("https", "s3cr3t", "palace"))
