# SPDX-License-Identifier: Apache-2.0
"""The journal through every crash, beside every zombie: nothing is submitted twice or forgotten."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.journal.journal import PAGE_RECORDS, GroupCommit, Journal
from airflow_provider_bgrep.journal.records import (
    JournalError,
    State,
    SubmitRecord,
    SubmittedTask,
    SupersededError,
    TaskMetadata,
)
from airflow_provider_bgrep.journal.stores import WITNESS

T = TypeVar("T")
Interceptor = Callable[[Callable[[], Any]], Any]
"""Has a call to the world outside take effect, or not, or not yet."""

EPOCH, PAGE, METADATA = "bgrep-journal-0", "bgrep-journal-0-p0", "bgrep-journal-metadata"


class Died(BaseException):
    """The worker is gone: no handler of ours runs after this."""


class JsonStore:
    """A store as seen by one process; what it keeps is text, which others see too."""

    def __init__(self, values: dict[str, str], around: Interceptor | None = None) -> None:
        self.values, self._around = values, around or (lambda effect: effect())
        self.location = "the test's store"

    def get(self, key: str) -> Any:
        value: str | None = self._around(lambda: self.values.get(key))
        return None if value is None else json.loads(value)

    def set(self, key: str, value: Any) -> None:
        text = json.dumps(value)
        self._around(lambda: self.values.__setitem__(key, text))


@dataclass
class Service:
    """Takes jobs, and bills each image task it takes, also where its answer is lost."""

    answers: Iterable[str] = ()
    billed: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._next = itertools.chain(self.answers, itertools.repeat("accepted"))

    def submit(self, keys: Sequence[str]) -> str:
        """The key of a job, or ``refused``, or ``lost``."""
        answer = next(self._next)
        if answer != "refused":
            self.billed.update(keys)
        if answer != "accepted":
            return answer
        key = f"key-{len(self.accepted)}"
        self.accepted[key] = tuple(keys)
        return key


def at_once(effect: Callable[[], T]) -> T:
    return effect()


def one_epoch(
    store: JsonStore, service: Service, keys: Sequence[str], size: int, around: Interceptor = at_once
) -> None:
    """An epoch as the journal's rules ask: read, submit what is neither accepted nor unknown, write."""
    journal = Journal(store, "conn")
    known = {
        key for record in journal.previous_records for key in record.keys if record.state is not State.REFUSED
    }
    missing = [key for key in keys if key not in known]
    for batch in (missing[i : i + size] for i in range(0, len(missing), size)):
        entry = journal.new_entry([SubmittedTask(key) for key in batch])
        for attempt in itertools.count():
            entry.write_intent(f"nonce-{attempt}")
            answer = around(lambda batch=batch: service.submit(batch))
            if answer != "refused":
                break
            entry.write_failed(State.REFUSED, code="T429UR")
        if answer == "lost":
            entry.write_failed(State.UNKNOWN)
        else:
            entry.write_accepted(answer, "request", "gateway")


def check_nothing_is_lost_or_bought_twice(values: dict[str, str], service: Service) -> None:
    assert max(service.billed.values(), default=0) <= 1
    records = Journal(JsonStore(values), "conn").previous_records
    found = {record.result_key: record.keys for record in records if record.state is State.ACCEPTED}
    assert found.items() <= service.accepted.items()
    in_doubt = {
        key for record in records if record.state in (State.INTENT, State.UNKNOWN) for key in record.keys
    }
    assert service.billed.keys() <= in_doubt.union(*found.values())


# --- crashes --------------------------------------------------------------------------------------


class CrashingStore:
    """A process that dies at its n-th call to the outside, before or after that took effect."""

    def __init__(self, dies_at: int, *, after: bool) -> None:
        self._dies_at, self._after, self._calls = dies_at, after, 0

    def __call__(self, effect: Callable[[], T]) -> T:
        self._calls += 1
        if self._calls > self._dies_at or (self._calls == self._dies_at and not self._after):
            raise Died
        value = effect()
        if self._calls == self._dies_at:
            raise Died
        return value


@pytest.mark.slow
@given(
    count=st.integers(1, 3 * PAGE_RECORDS),
    size=st.integers(1, 10),
    deaths=st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=5),
    answers=st.lists(st.sampled_from(["accepted", "accepted", "refused", "lost"]), max_size=20),
)
@settings(deadline=None, max_examples=300)
def test_wherever_epochs_crash_submits_are_recorded_and_unique(count, size, deaths, answers):
    values: dict[str, str] = {}
    service = Service(answers)
    keys = [f"item-{i}" for i in range(count)]
    for dies_at, after in deaths:
        crashing = CrashingStore(dies_at, after=after)
        with contextlib.suppress(Died):
            one_epoch(JsonStore(values, crashing), service, keys, size, crashing)
        check_nothing_is_lost_or_bought_twice(dict(values), service)
    one_epoch(JsonStore(values), service, keys, size)
    check_nothing_is_lost_or_bought_twice(values, service)
    # Nothing is forgotten either: after an epoch that lived, each item has a record that says how it stands.
    records = Journal(JsonStore(values), "conn").previous_records
    assert {key for one in records if one.state is not State.REFUSED for key in one.keys} == set(keys)


@pytest.mark.parametrize("after", [False, True], ids=["before it takes effect", "after it took effect"])
@pytest.mark.parametrize("dies_at", range(1, 17))
def test_a_crash_at_any_call_of_an_epoch_never_submits_twice(dies_at, after):
    # Seven calls to enter, the notes read, the floor, the notes written, then these.
    intent, _mark, _witness, _floor, submit, key = 11, 12, 13, 14, 15, 16
    values: dict[str, str] = {}
    service = Service()
    crashing = CrashingStore(dies_at, after=after)
    with pytest.raises(Died):
        one_epoch(JsonStore(values, crashing), service, ["item"], 1, crashing)
    is_sent = (dies_at, after) >= (submit, True)
    assert service.billed.total() == is_sent
    one_epoch(JsonStore(values), service, ["item"], 1)
    check_nothing_is_lost_or_bought_twice(values, service)
    # Between intent and key the outcome is unknown. Before, it is submitted now; after, it is found.
    in_doubt = (intent, True) <= (dies_at, after) < (key, True)
    (found,) = Journal(JsonStore(values), "conn").previous_records
    assert found.state is (State.INTENT if in_doubt else State.ACCEPTED)
    assert service.billed.total() == (is_sent or not in_doubt)


# --- zombies --------------------------------------------------------------------------------------


class Actor:
    """An epoch in a thread of its own, of which each call to the outside waits for the test's word."""

    def __init__(self, values: dict[str, str], service: Service, keys: Sequence[str], size: int) -> None:
        self._go, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._is_dead = False
        self.has_ended = False
        self.error: BaseException | None = None
        arguments = (JsonStore(values, self._around), service, keys, size, self._around)
        self._thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self._thread.start()
        self._waits.acquire()

    def _run(self, *arguments: Any) -> None:
        try:
            one_epoch(*arguments)
        except BaseException as error:
            self.error = error
        self.has_ended = True
        self._waits.release()

    def _around(self, effect: Callable[[], T]) -> T:
        self._waits.release()
        self._go.acquire()
        if self._is_dead:
            raise Died
        return effect()

    def step(self) -> None:
        """Have the call it waits for take effect, and the epoch go on to the next."""
        if not self.has_ended:
            self._go.release()
            self._waits.acquire()

    def finish(self) -> None:
        while not self.has_ended:
            self.step()

    def die(self) -> None:
        self._is_dead = True
        while not self.has_ended:
            self._go.release()
            self._waits.acquire()
        self._thread.join()


def run_in_turns(epochs: Sequence[Actor], turns: Iterable[int]) -> None:
    for turn in turns:
        epochs[turn].step()
    for epoch in epochs:
        epoch.finish()
    assert all(isinstance(epoch.error, SupersededError | None) for epoch in epochs)


@pytest.mark.slow
@pytest.mark.parametrize("before", [0, 3], ids=["the first two", "after others"])
def test_two_epochs_that_begin_at_once_in_every_order(before):
    calls = 6  # to look twice, ask for a number, see that it is free, take it, and see that nobody else asked
    for first in itertools.combinations(range(2 * calls), calls):
        values: dict[str, str] = {}
        service = Service()
        for number in range(before):
            one_epoch(JsonStore(values), service, [f"earlier-{number}"], 1)
        epochs = [Actor(values, service, ["item"], 1) for _ in range(2)]
        for epoch in epochs:
            for _ in range(1 + before):  # what was begun last, and the numbers before
                epoch.step()
        run_in_turns(epochs, [turn in first for turn in range(2 * calls)])
        check_nothing_is_lost_or_bought_twice(values, service)
        assert epochs[1].error is None or epochs[0].error is None


@pytest.mark.slow
def test_an_epoch_that_survives_beside_the_next_in_any_order():
    # The older has entered and has six calls left: intent, mark, witness, floor, submit, key. The newer
    # has up to 18. Each 47th of the orders: all of them take several minutes.
    for older in itertools.islice(itertools.combinations(range(24), 6), 0, None, 47):
        values: dict[str, str] = {}
        service = Service()
        epochs = [Actor(values, service, ["item"], 1) for _ in range(2)]
        for _ in range(9):
            epochs[1].step()
        run_in_turns(epochs, [turn in older for turn in range(24)])
        assert epochs[0].error is None
        check_nothing_is_lost_or_bought_twice(values, service)


@pytest.mark.slow
@given(
    count=st.integers(1, 4),
    size=st.integers(1, 3),
    epochs=st.integers(2, 4),
    answers=st.lists(st.sampled_from(["accepted", "accepted", "refused", "lost"]), max_size=8),
    data=st.data(),
)
@settings(deadline=None, max_examples=200)
def test_any_number_of_surviving_epochs_never_submits_twice(count, size, epochs, answers, data):
    values: dict[str, str] = {}
    service = Service(answers)
    keys = [f"item-{i}" for i in range(count)]
    actors: list[Actor] = []
    try:
        while True:
            living = [actor for actor in actors if not actor.has_ended]
            moves = [*living, *([None] if len(actors) < epochs else [])]
            if not moves:
                break
            move = data.draw(st.sampled_from(moves), "who") if len(moves) > 1 else moves[0]
            if move is None:
                actors.append(Actor(values, service, keys, size))
            elif data.draw(st.integers(0, 19), "dies at 0") == 0:
                move.die()
            else:
                move.step()
        assert all(isinstance(a.error, Died | SupersededError | None) for a in actors)
    finally:
        for actor in actors:
            actor.die()
    check_nothing_is_lost_or_bought_twice(values, service)


def test_a_replaced_epoch_marks_its_intent_as_not_sent():
    values: dict[str, str] = {}
    older = Journal(JsonStore(values), "conn")
    entry = older.new_entry([SubmittedTask("item")])
    newer = Journal(JsonStore(values), "conn")
    with pytest.raises(SupersededError, match="submits nothing more"):
        entry.write_intent("nonce")
    assert entry.record.state is State.REFUSED
    assert newer.previous_records == []
    assert [one.state for one in Journal(JsonStore(values), "conn").previous_records] == [State.REFUSED]
    newer_purchase = Journal(JsonStore(values), "conn").new_entry([SubmittedTask("item")])
    newer_purchase.write_intent("nonce")


def test_a_replaced_epoch_still_records_its_last_submit():
    values: dict[str, str] = {}
    older = Journal(JsonStore(values), "conn")
    entry = older.new_entry([SubmittedTask("item")])
    entry.write_intent("nonce")
    newer = Journal(JsonStore(values), "conn")
    entry.write_accepted("key", "request", "gateway")
    assert [one.state for one in newer.previous_records] == [State.INTENT]
    assert [one.result_key for one in Journal(JsonStore(values), "conn").previous_records] == ["key"]


# --- what an entry writes -------------------------------------------------------------------------


@pytest.fixture
def values() -> dict[str, str]:
    return {}


@pytest.fixture
def store(values: dict[str, str]) -> JsonStore:
    return JsonStore(values)


def read(store: JsonStore) -> list[SubmitRecord]:
    return Journal(store, "conn").previous_records


def test_nothing_is_written_before_the_intent(store):
    Journal(store, "conn").new_entry([SubmittedTask("item")])
    assert read(store) == []


def test_an_intent_holds_all_that_identifies_its_submit(store):
    journal = Journal(store, "conn", regenerate_key="spring", try_number=3)
    entry = journal.new_entry([SubmittedTask("a", 2, "sku"), SubmittedTask("b")])
    entry.write_intent("nonce")
    (found,) = read(store)
    assert found == entry.record
    assert (found.state, found.nonce, found.account, found.regenerate_key, found.try_number) == (
        *(State.INTENT, "nonce", "conn", "spring", 3),
    )
    assert (found.keys, found.images, found.items[0].id) == (("a", "b"), 3, "sku")
    assert found.at.endswith("+00:00")


def test_a_key_is_written_in_the_place_of_its_intent(store):
    journal = Journal(store, "conn")
    entries = [journal.new_entry([SubmittedTask(key)]) for key in "abc"]
    for entry in entries:
        entry.write_intent(f"nonce-{entry.record.keys[0]}")
    entries[1].write_accepted("key", "request", "gateway")
    entries[2].write_failed(State.UNKNOWN, code="D504TO", http_status=504, reason="timed out", request_id="r")
    a, b, c = read(store)
    assert (a.state, b.state, c.state) == (State.INTENT, State.ACCEPTED, State.UNKNOWN)
    assert (b.result_key, b.request_id, b.gateway_request_id) == ("key", "request", "gateway")
    assert (c.code, c.http_status, c.reason, c.request_id) == ("D504TO", 504, "timed out", "r")
    assert [one.nonce for one in (a, b, c)] == ["nonce-a", "nonce-b", "nonce-c"]
    assert journal.records == [a, b, c]


@pytest.mark.parametrize("state", [State.REFUSED, State.UNKNOWN])
def test_an_accepted_submit_stays_accepted(store, state):
    entry = Journal(store, "conn").new_entry([SubmittedTask("a")])
    entry.write_intent("nonce")
    entry.write_accepted("key", "request", "gateway")
    entry.write_failed(state, code="D504TO")
    assert (entry.record.state, entry.record.code) == (State.ACCEPTED, "")
    assert read(store) == [entry.record]
    # Unless its key is proven to be another submit's: the next write replaces the acceptance.
    entry.retract()
    assert read(store)[0].state is State.ACCEPTED
    entry.write_failed(state)
    assert [(one.state, one.result_key) for one in read(store)] == [(state, "")]


def test_a_new_intent_forgets_the_refusal_before_it(store):
    entry = Journal(store, "conn").new_entry([SubmittedTask("a")])
    entry.write_intent("first")
    entry.write_failed(State.REFUSED, code="T429UR", http_status=429, reason="throttled", request_id="r")
    entry.write_intent("second")
    (found,) = read(store)
    assert (found.state, found.nonce, found.code, found.http_status) == (State.INTENT, "second", "", None)
    assert (found.reason, found.request_id) == ("", "")


def test_an_id_is_cut_so_that_a_page_stays_small(store):
    entry = Journal(store, "conn").new_entry([SubmittedTask("a", 1, "x" * 5_000)])
    entry.write_intent("nonce")
    assert read(store)[0].items[0].id == "x" * 100


def test_pages_hold_sixteen_submits_of_one_epoch_in_order(store, values):
    for epoch in range(3):
        journal = Journal(store, "conn")
        for i in range(2 * PAGE_RECORDS + 1):
            journal.new_entry([SubmittedTask(f"{epoch}-{i}")]).write_intent("nonce")
    assert PAGE_RECORDS == 16
    sizes = sorted(len(json.loads(text).get("submits", ())) for text in values.values())
    assert sizes == [*[0] * (2 + 3 * 2 + 3 * 3), 1, 1, 1, *[16] * 6]
    wanted = [f"{epoch}-{i}" for epoch in range(3) for i in range(2 * PAGE_RECORDS + 1)]
    assert [record.keys[0] for record in read(store)] == wanted


def test_a_full_page_stays_below_what_airflows_store_warns_at(store, values):
    journal = Journal(store, "c" * 200, regenerate_key="e" * 50)
    for i in range(PAGE_RECORDS):
        entry = journal.new_entry([SubmittedTask("k" * 34, 4, "x" * 100) for _ in range(10)])
        entry.write_intent("n" * 32)
        entry.write_failed(
            State.UNKNOWN, code="D504TO", http_status=504, reason="r" * 500, request_id=f"{i}" * 36
        )
    assert max(map(len, values.values())) < 64 * 1024


def test_no_secret_no_url_and_no_prompt_can_be_written_down():
    # Whatever is written comes from these: an identity, a number, an id, and what the service calls things.
    assert set(SubmitRecord.__dataclass_fields__).isdisjoint({"image", "mask", "url", "prompt", "app_code"})
    assert set(SubmittedTask.__dataclass_fields__) == {"key", "images", "id", "image_digest", "mask_digest"}


# --- writes made together -------------------------------------------------------------------------


def in_threads(works: Sequence[Callable[[], None]]) -> list[BaseException | None]:
    """Run all at once. :return: what each raised."""
    raised: list[BaseException | None] = [None] * len(works)
    begin = threading.Barrier(len(works))

    def run(index: int) -> None:
        begin.wait()
        try:
            works[index]()
        except BaseException as error:
            raised[index] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_concurrent_writes_are_committed_as_a_group(values):
    pages: list[str] = []
    has_all_asked = threading.Event()

    class Slow(JsonStore):
        def set(self, key: str, value: Any) -> None:
            if "submits" in value:
                pages.append(key)
                assert has_all_asked.wait(60)
            super().set(key, value)

    journal = Journal(Slow(values), "conn")
    entries = [journal.new_entry([SubmittedTask(f"item-{i}")]) for i in range(PAGE_RECORDS)]
    missing: list[str] = []

    def intend(entry: Any) -> None:
        entry.write_intent("nonce")
        there = {key for one in json.loads(values[pages[0]])["submits"] for key, *_ in one["items"]}
        if not there.issuperset(entry.record.keys):
            missing.extend(entry.record.keys)

    def watch() -> None:
        while len(journal.records) < PAGE_RECORDS and not has_all_asked.wait(0.001):
            pass
        has_all_asked.set()

    works = [lambda entry=entry: intend(entry) for entry in entries]
    assert in_threads([*works, watch]) == [None] * (PAGE_RECORDS + 1)
    assert missing == []
    assert len(pages) < PAGE_RECORDS
    assert [one.state for one in read(JsonStore(values))] == [State.INTENT] * PAGE_RECORDS


def test_many_threads_over_many_pages_lose_nothing(store, values):
    journal = Journal(store, "conn")

    def submit(number: int) -> None:
        for i in range(10):
            entry = journal.new_entry([SubmittedTask(f"{number}-{i}")])
            entry.write_intent("nonce")
            entry.write_accepted(f"key-{number}-{i}", "", "")

    assert in_threads([lambda n=n: submit(n) for n in range(12)]) == [None] * 12
    found = {one.keys[0]: one.result_key for one in read(store)}
    assert found == {f"{n}-{i}": f"key-{n}-{i}" for n in range(12) for i in range(10)}


def test_a_write_during_a_commit_waits_for_the_next_group():
    under_way, go_on = threading.Event(), threading.Event()
    state, seen = ["old"], []

    def work() -> None:
        seen.append(state[0])
        under_way.set()
        assert go_on.wait(60)

    together = GroupCommit(work)
    first = threading.Thread(target=together)
    first.start()
    assert under_way.wait(60)
    state[0] = "new"
    second = threading.Thread(target=together)
    second.start()
    go_on.set()
    first.join()
    second.join()
    assert seen == ["old", "new"]


def test_one_after_the_other_each_has_a_run_of_its_own():
    runs: list[int] = []
    together = GroupCommit(lambda: runs.append(1))
    for _ in range(3):
        together()
    assert len(runs) == 3


def test_a_failed_group_commit_fails_its_caller_only():
    runs, failed, written, raised = itertools.count(), [], [0], []

    def work() -> None:
        time.sleep(0)  # others come to wait
        if next(runs) % 3 == 1:
            failed.append(1)
            raise ConnectionError("the store is away")
        written[0] += 1

    together = GroupCommit(work)

    def ask() -> None:
        for _ in range(100):
            before = written[0]
            try:
                together()
            except ConnectionError:
                raised.append(1)
            else:
                assert written[0] > before

    assert in_threads([ask] * 8) == [None] * 8
    assert len(raised) == len(failed) > 0


class Failing(JsonStore):
    """A store of which some pages' writes fail."""

    fails: Callable[[str, Any], bool] = staticmethod(lambda key, value: False)

    def set(self, key: str, value: Any) -> None:
        if self.fails(key, value):
            raise ConnectionError("the store is away")
        super().set(key, value)


def test_an_intent_that_cannot_be_written_is_refused_not_sent(values):
    store = Failing(values)
    journal = Journal(store, "conn")
    entry = journal.new_entry([SubmittedTask("item")])
    store.fails = lambda key, value: "submits" in value
    with pytest.raises(ConnectionError):
        entry.write_intent("nonce")
    assert entry.record.state is State.REFUSED
    assert journal.is_behind
    store.fails = lambda key, value: False
    assert [one for one in read(store) if one.state is not State.REFUSED] == []
    journal.flush()
    assert not journal.is_behind
    assert [one.state for one in read(store)] == [State.REFUSED]
    entry = Journal(store, "conn").new_entry([SubmittedTask("item")])
    entry.write_intent("again")
    assert read(store)[-1].state is State.INTENT


def test_an_intent_that_could_not_be_verified_is_taken_back(values):
    away: list[str] = []

    class Unreadable(JsonStore):
        def get(self, key: str) -> Any:
            if away:
                raise ConnectionError("the store is away")
            return super().get(key)

    entry = Journal(Unreadable(values), "conn").new_entry([SubmittedTask("item")])
    away.append("now")
    with pytest.raises(ConnectionError):
        entry.write_intent("nonce")
    assert [one.state for one in read(JsonStore(values))] == [State.REFUSED]


def test_a_key_that_cannot_be_written_is_written_with_the_next(values):
    store = Failing(values)
    journal = Journal(store, "conn")
    entry = journal.new_entry([SubmittedTask("item")])
    entry.write_intent("nonce")
    store.fails = lambda key, value: "submits" in value
    with pytest.raises(ConnectionError):
        entry.write_accepted("key", "", "")
    assert [json.loads(text)["submits"][0]["state"] for key, text in values.items() if "submits" in text] == [
        "intent"
    ]
    store.fails = lambda key, value: False
    journal.new_entry([SubmittedTask("other")]).write_intent("nonce")
    assert [(one.state, one.result_key) for one in read(store)] == [
        (State.ACCEPTED, "key"),
        (State.INTENT, ""),
    ]


# --- notes ----------------------------------------------------------------------------------------


def test_the_first_epoch_sets_the_deadline_and_retries_keep_it(store):
    first = Journal(store, "conn", clear_id="0", end_time=100.0)
    assert first.metadata == TaskMetadata("0", 100.0, 1)
    retry = Journal(store, "conn", clear_id="0", end_time=200.0, try_number=2)
    assert retry.metadata == TaskMetadata("0", 100.0, 1)


def test_a_clear_sets_a_new_deadline(store):
    first = Journal(store, "conn", clear_id="0", end_time=100.0)
    first.update_metadata(counts={"submit": 3}, stopped={"code": "B403MQ"})
    cleared = Journal(store, "conn", clear_id="2", end_time=300.0, try_number=2)
    assert cleared.metadata == TaskMetadata("2", 300.0, 2, first_epoch=1)
    assert Journal(store, "conn", clear_id="2", end_time=400.0, try_number=3).metadata == cleared.metadata


def test_tries_before_a_clear_are_not_those_that_count_now(store):
    # A DAG run that is deleted and created again counts its tries from 1 again.
    for try_number in (1, 2):
        journal = Journal(store, "conn", clear_id="0", try_number=try_number)
        journal.new_entry([SubmittedTask(f"{try_number}")]).write_intent("nonce")
    for _ in range(2):  # a deferred execution is of the same try
        again = Journal(store, "conn", clear_id="1", try_number=1)
        assert [one.try_number for one in again.previous_records] == [0, 0]
    again.new_entry([SubmittedTask("3")]).write_intent("nonce")
    retry = Journal(store, "conn", clear_id="1", try_number=2)
    assert [one.try_number for one in retry.previous_records] == [0, 0, 1]
    cleared = Journal(store, "conn", clear_id="2", try_number=3)
    assert [one.try_number for one in cleared.previous_records] == [1, 2, 1]


def test_a_deadline_is_limited_by_the_clock_of_each_epoch(store):
    assert Journal(store, "conn", clear_id="0", end_time=10_000.0).end_time == 10_000.0
    retry = Journal(store, "conn", clear_id="0", end_time=200.0, try_number=2)
    assert (retry.end_time, retry.metadata.end_time) == (200.0, 10_000.0)
    retry.begin_again(300.0)
    assert (retry.end_time, retry.metadata.end_time) == (300.0, 300.0)
    assert Journal(store, "conn", clear_id="0", end_time=400.0, try_number=3).end_time == 300.0


def test_task_metadata_is_read_by_the_next_epoch(store):
    journal = Journal(store, "conn", clear_id="0", end_time=100.0)
    journal.update_metadata(counts={"submit": 3})
    journal.update_metadata(stopped={"code": "B403MQ", "http_status": 403})
    written = TaskMetadata("0", 100.0, 1, {"submit": 3}, {"code": "B403MQ", "http_status": 403})
    assert journal.metadata == written
    assert Journal(store, "conn", clear_id="0").metadata == written


def test_notes_lost_in_a_crash_are_begun_again(values):
    crashing = CrashingStore(6, after=True)
    with pytest.raises(Died):
        Journal(JsonStore(values, crashing), "conn", clear_id="0", end_time=100.0)
    assert METADATA not in values
    assert Journal(JsonStore(values), "conn", clear_id="0", end_time=200.0).metadata.end_time == 200.0


# --- what cannot be read --------------------------------------------------------------------------

GOOD = SubmitRecord(
    State.ACCEPTED, "2026-01-01T00:00:00+00:00", (SubmittedTask("k"),), "conn", result_key="key"
).to_json()

UNREADABLE: list[Any] = [
    *([], "text", 7, True, {}),
    {"version": 2},
    {"version": "1"},
    {"version": None, "epochs": [], "submits": []},
]


def damage(values: dict[str, str], key: str, value: Any) -> None:
    Journal(JsonStore(values), "conn").new_entry([SubmittedTask("k")]).write_intent("nonce")
    assert key in values
    values[key] = json.dumps(value)


@pytest.mark.parametrize("key", [EPOCH, PAGE, METADATA])
@pytest.mark.parametrize("value", UNREADABLE, ids=str)
def test_what_cannot_be_read_is_never_taken_for_none(values, key, value):
    damage(values, key, value)
    with pytest.raises(JournalError):
        Journal(JsonStore(values), "conn")


@pytest.mark.parametrize("value", [{"version": 1}, {"version": 1, "submits": None}], ids=str)
def test_a_page_that_lacks_its_list_is_never_taken_for_empty(values, value):
    damage(values, PAGE, value)
    with pytest.raises(JournalError):
        Journal(JsonStore(values), "conn")


@pytest.mark.parametrize("key", [EPOCH, PAGE, f"{EPOCH}-p1"])
def test_a_key_that_is_lost_is_never_taken_for_none(values, store, key):
    journal = Journal(store, "conn")
    for i in range(PAGE_RECORDS + 1):
        journal.new_entry([SubmittedTask(f"{i}")]).write_intent("nonce")
    del values[key]
    for read_again in (read, lambda store: Journal(store, "conn")):
        with pytest.raises(JournalError, match=f"{key}.json.* it is missing"):
            read_again(store)


@pytest.mark.parametrize("lost", ["", f"{EPOCH}-p", f"{EPOCH}-p1", f"{EPOCH} {EPOCH}-taken"])
def test_keys_that_are_lost_together_are_missed(values, store, lost):
    """All keys of a journal, all pages, the last page with its mark, or who acquired the epoch."""
    journal = Journal(store, "conn")
    for i in range(PAGE_RECORDS + 1):
        journal.new_entry([SubmittedTask(f"{i}")]).write_intent("nonce")
    witness = values[WITNESS]
    for key in [key for key in values if key in lost.split() or (" " not in lost and key.startswith(lost))]:
        del values[key]
    values[WITNESS] = witness
    before = dict(values)
    for read_again in (read, lambda store: Journal(store, "conn")):
        with pytest.raises(JournalError, match=f"{EPOCH}.* it is missing"):
            read_again(store)
    assert {key: values[key] for key in before} == before


def test_a_journal_that_has_sent_nothing_may_be_lost(values, store):
    Journal(store, "conn").new_entry([SubmittedTask("a")])
    values.clear()
    assert read(store) == Journal(store, "conn").previous_records == []


@pytest.mark.parametrize(
    "record",
    [
        *([], {}, "accepted", 7, None),
        *({name: value for name, value in GOOD.items() if name != gone} for gone in ("state", "at", "items")),
        {**GOOD, "state": "paid"},
        {**GOOD, "state": None},
        {**GOOD, "result_key": ""},
        {**GOOD, "items": None},
        {**GOOD, "items": 7},
        {**GOOD, "items": [["k", 1, "", "more"]]},
        {**GOOD, "items": [[]]},
        {**GOOD, "items": [7]},
    ],
    ids=str,
)
def test_a_damaged_record_is_never_taken_for_none(values, record):
    damage(values, PAGE, {"version": 1, "submits": [GOOD, record]})
    with pytest.raises(JournalError):
        Journal(JsonStore(values), "conn")


def test_a_journal_that_cannot_be_read_is_not_written_over(values):
    damage(values, PAGE, {"version": 2, "submits": [GOOD]})
    before = dict(values)
    with pytest.raises(JournalError):
        Journal(JsonStore(values), "conn")
    assert before.items() <= values.items()


def test_what_a_newer_version_adds_is_passed_over(values):
    damage(values, PAGE, {"version": 1, "submits": [{**GOOD, "color": "red"}], "color": "red"})
    notes = {"version": 1, "clear_id": "0", "end_time": 7.0, "first_try": 1, "color": "red"}
    values[METADATA] = json.dumps(notes)
    journal = Journal(JsonStore(values), "conn", clear_id="0")
    assert [one.result_key for one in journal.previous_records] == ["key"]
    assert journal.metadata == TaskMetadata("0", 7.0, 1)
