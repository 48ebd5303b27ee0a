# SPDX-License-Identifier: Apache-2.0
"""Compare-and-swap by numbered files: on every store, killed at every call, writers in every order."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bgrep_harness.stores import (
    WRITES,
    Actor,
    Counting,
    CrashingStore,
    Died,
    Interceptor,
    RefusingFiles,
    at_once,
    folder,
    folder_on,
    run_in_turns,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.publish.manifest_log import map_in_threads
from airflow_provider_bgrep.catalog.state.versioned_file import ATTEMPTS, VersionedFile, split_expired
from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.exceptions import BgRepConflictError, BgRepStateError
from airflow_provider_bgrep.storage import names_in, put_bytes, storage_path

pytestmark = pytest.mark.usefixtures("no_waiting")

Names = list[str]


class LostError(BgRepStateError):
    """What the subject is given for damaged files."""


@pytest.fixture(params=["local", "memory", "s3"])
def place(request, tmp_path) -> Any:
    """A folder on each kind of store."""
    if request.param == "s3":
        return request.getfixturevalue("s3_folder") / "log"
    if request.param == "memory":
        return folder({}) / "log"
    return storage_path(str(tmp_path / "log"))


def decode(data: bytes, number: int, path: Any) -> Names:
    try:
        return [str(name) for name in json.loads(data)]
    except (ValueError, TypeError):
        raise LostError(f"{path} is damaged") from None


def log_in(place: Any, *, is_single: bool = False) -> VersionedFile[Names]:
    return VersionedFile(
        place,
        "log-",
        encode=lambda value, number: json.dumps(value).encode(),
        decode=decode,
        damaged=LostError,
        has_single_writer=lambda: is_single,
    )


def log_of(files: dict[str, bytes], around: Interceptor = at_once, only: str = "") -> VersionedFile[Names]:
    return log_in(folder(files, around, only) / "log")


def adding(name: str) -> Callable[[Names | None, int], Names]:
    """The change that adds a name once."""

    def change(current: Names | None, number: int) -> Names:
        names = current or []
        return names if name in names else [*names, name]

    return change


def files_named(expired: Any, oldest: Names) -> list[str]:
    return [name for names in expired for name in names if name not in oldest]


# --- one writer -----------------------------------------------------------------------------------------


def test_commits_are_numbered_and_the_highest_number_is_in_force(place):
    log = log_in(place)
    assert (log.latest(), log.latest_number(), log.numbers(), log.read(1)) == (None, 0, [], None)
    for number, name in enumerate("abc", 1):
        assert log.commit(adding(name)) == ([*"abc"[:number]], number)
    assert (log.latest(), log.latest_number(), log.read(2)) == (["a", "b", "c"], 3, ["a", "b"])
    assert names_in(place) == [f"log-{number:08}.json" for number in (1, 2, 3)]
    assert log.path(3).name == "log-00000003.json"


def test_a_change_that_changes_nothing_creates_no_version(place):
    log = log_in(place)
    assert log.commit(lambda current, number: None) == (None, 0)
    log.commit(adding("a"))
    assert log.commit(adding("a")) == (["a"], 1)
    assert log.commit(lambda current, number: current) == (["a"], 1)
    assert log.numbers() == [1]


def test_a_version_is_created_once(place):
    log = log_in(place)
    assert log.create(["a"], 7)
    assert not log.create(["b"], 7)
    assert log.latest() == ["a"]
    assert log.commit(adding("b")) == (["a", "b"], 8)


def test_other_files_in_the_folder_are_not_versions(place):
    log = log_in(place)
    log.commit(adding("a"))
    others = [
        "log-9.json",
        "log-00000009.json.bak",
        "00000009.json",
        ".log-00000009.json.part",
        "xlog-00000009.json",
    ]
    for name in others:
        put_bytes(b"[]", place / name)
    assert log.latest() == ["a"]
    log.commit(adding("b"))
    log.expire(1, files_named)
    assert set(names_in(place)) == {*others, "log-00000002.json"}


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"7"])
def test_a_damaged_version_is_an_error_and_never_none(place, data: bytes):
    log = log_in(place)
    log.commit(adding("a"))
    put_bytes(data, log.path(2))
    for work in (log.latest, lambda: log.commit(adding("b")), lambda: log.read(2)):
        with pytest.raises(LostError):
            work()
    assert log.numbers() == [1, 2]
    assert log.create(["a", "c"], 3)
    assert log.latest() == ["a", "c"]


def test_a_number_has_more_than_eight_digits_if_need_be(place):
    log = log_in(place)
    log.create(["a"], 99_999_999)
    assert log.commit(adding("b")) == (["a", "b"], 100_000_000)
    assert log.latest() == ["a", "b"]


@pytest.mark.slow
def test_after_fifty_lost_races_the_error_suggests_a_retry(place):
    log = log_in(place)
    calls = []

    def overtaken(current: Names | None, number: int) -> Names:
        calls.append(number)
        assert log.create([f"other-{number}"], number)
        return ["ours"]

    with pytest.raises(BgRepConflictError) as raised:
        log.commit(overtaken)
    assert calls == [*range(1, ATTEMPTS + 1)]
    assert ATTEMPTS == 50
    assert re.search(r"Could not commit to \S+ after 50 attempts.* Retry the task\.$", raised.value.message)


def test_a_version_that_expires_while_it_is_read_is_read_again():
    files: dict[str, bytes] = {}
    log_of(files).commit(adding("a"))

    def overtaken(effect: Callable[[], Any]) -> Any:
        if "/shop/log/log-00000001.json" in files:
            log_of(files).commit(adding("b"))
            log_of(files).expire(1, files_named)
        return effect()

    assert log_of(files, overtaken, "^cat ").latest() == ["a", "b"]


def test_a_version_that_is_listed_and_does_not_exist_is_an_error():
    files: dict[str, bytes] = {}
    log_of(files).commit(adding("a"))

    def lost(effect: Callable[[], Any]) -> Any:
        raise FileNotFoundError

    with pytest.raises(LostError):
        log_of(files, lost, "^cat ").latest()


# --- expiry ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "keep", "needed", "expired"),
    [
        ([], 1, None, []),
        ([1, 2, 3], 3, None, []),
        ([1, 2, 3], 5, None, []),
        ([3, 1, 2], 2, None, [1]),
        ([1, 2, 3, 4], 1, None, [1, 2, 3]),
        ([1, 2, 3, 4], 1, 3, [1, 2]),
        ([1, 2, 3, 4], 2, 4, [1, 2]),
        ([2, 5, 9], 2, None, [2]),
        ([5, 6], 1, 1, []),
    ],
)
def test_the_newest_versions_and_what_is_needed_stay(numbers, keep, needed, expired):
    found, kept = split_expired(numbers, keep, needed)
    assert found == expired
    assert kept == sorted(set(numbers) - set(expired))


def test_expired_versions_go_with_the_files_that_only_they_name(place):
    log = log_in(place)
    for number in range(1, 6):
        put_bytes(b"", place / f"file-{number}")
        log.create([f"file-{number}", "file-5"], number)
    log.expire(3, files_named)
    assert log.numbers() == [3, 4, 5]
    assert [name for name in names_in(place) if name.startswith("file")] == ["file-3", "file-4", "file-5"]
    log.expire(1, files_named, needed=4)
    assert log.numbers() == [4, 5]
    log.expire(1, files_named)
    assert names_in(place) == ["file-5", "log-00000005.json"]


def test_expiry_goes_on_past_a_damaged_version_and_not_below_one(place):
    log = log_in(place)
    for number in (1, 2, 3):
        put_bytes(b"", place / f"file-{number}")
        log.create([f"file-{number}"], number)
    put_bytes(b"{", log.path(1))
    log.expire(2, files_named)
    assert names_in(place) == ["file-1", "file-2", "file-3", "log-00000002.json", "log-00000003.json"]
    put_bytes(b"{", log.path(3))
    log.expire(1, files_named)  # what version 3 names is not known
    assert names_in(place) == ["file-1", "file-2", "file-3", "log-00000003.json"]


# --- killed at every call -------------------------------------------------------------------------------


def every_death(
    files: dict[str, bytes], work: Callable[[VersionedFile[Names]], Any], only: str = ""
) -> Iterator[tuple[dict[str, bytes], VersionedFile[Names]]]:
    """The store after each death: before and after each call."""
    counting = Counting()
    work(log_of(dict(files), counting, only))
    assert counting.calls > 0
    for dies_at in range(1, counting.calls + 1):
        for after in (False, True):
            left = dict(files)
            with pytest.raises(Died):
                work(log_of(left, CrashingStore(dies_at, after=after), only))
            yield left, log_of(left)


def test_killed_at_any_call_a_commit_is_made_or_is_not():
    files: dict[str, bytes] = {}
    log_of(files).commit(adding("a"))
    seen = []
    for _, log in every_death(files, lambda log: log.commit(adding("b"))):
        seen.append(log.latest())
        assert log.commit(adding("b")) == (["a", "b"], 2)
    assert sorted(map(len, seen)) == [1] * (len(seen) - 1) + [2]


@pytest.mark.slow
def test_killed_at_any_call_of_expire_the_next_completes_it():
    files: dict[str, bytes] = {}
    log = log_of(files)
    for number in range(1, 6):
        put_bytes(b"", folder(files) / "log" / f"file-{number}")
        log.create([f"file-{number}", "file-5"], number)
    deaths = 0
    for left, log in every_death(files, lambda log: log.expire(2, files_named), WRITES):
        for number in log.numbers():
            if number > 3:
                assert {f"/shop/log/{name}" for name in log.read(number) or ()} <= left.keys()
        log.expire(2, files_named)
        assert log.numbers() == [4, 5]
        assert sorted(name for name in left if "file-" in name) == ["/shop/log/file-4", "/shop/log/file-5"]
        deaths += 1
    assert deaths == 12  # three files and three versions, before and after


# --- several writers ------------------------------------------------------------------------------------


def writers(files: dict[str, bytes], names: str) -> list[Actor]:
    """Writers that each add a name, then expire all but two versions; each is at its first call."""

    def work_of(name: str) -> Callable[[Interceptor], Any]:
        def work(around: Interceptor) -> Any:
            log = log_of(files, around)
            found = log.commit(adding(name))
            log.expire(2, files_named)
            return found

        return work

    return [Actor(work_of(name)) for name in names]


def check_none_is_lost(files: dict[str, bytes], actors: list[Actor]) -> None:
    assert [actor.error for actor in actors] == [None] * len(actors)
    log = log_of(files)
    assert sorted(log.latest() or ()) == sorted("xyz"[: len(actors)])
    assert log.latest_number() == len(actors)
    assert sorted(actor.value[1] for actor in actors) == [*range(1, len(actors) + 1)]
    assert len(log.numbers()) <= max(2, len(actors) - 1)


def calls_of_one() -> int:
    counting = Counting()
    log = log_of({}, counting)
    log.commit(adding("x"))
    log.expire(2, files_named)
    return counting.calls


def test_two_writers_in_every_order_of_calls_lose_no_commit():
    count = calls_of_one()
    for places in itertools.combinations(range(2 * count), count):
        files: dict[str, bytes] = {}
        actors = writers(files, "xy")
        run_in_turns(actors, [int(place not in places) for place in range(2 * count)])
        check_none_is_lost(files, actors)


@pytest.mark.slow
@settings(deadline=None, max_examples=1000 if settings.get_current_profile_name() == "thorough" else 100)
@given(turns=st.lists(st.integers(0, 2), max_size=60))
def test_three_writers_in_any_order_of_calls_lose_no_commit(turns: list[int]):
    files: dict[str, bytes] = {}
    with without_waiting():
        actors = writers(files, "xyz")
        run_in_turns(actors, turns)
    check_none_is_lost(files, actors)


def test_of_many_writers_at_once_none_loses_a_commit(place):
    names = [f"writer-{number}" for number in range(6)]
    map_in_threads(lambda name: log_in(place).commit(adding(name)), names)
    assert sorted(log_in(place).latest() or ()) == names
    assert log_in(place).numbers() == [*range(1, 7)]


# --- a store that refuses exclusive creation -----------------------------------------------------------


def test_only_a_single_writer_commits_without_exclusion():
    files: dict[str, bytes] = {}
    place = folder_on(RefusingFiles(files)) / "log"
    with pytest.raises(NotImplementedError):
        log_in(place).commit(adding("a"))
    assert files == {}
    for name in "ab":
        log_in(place, is_single=True).commit(adding(name))
    assert log_in(place).latest() == ["a", "b"]
    assert log_in(place).numbers() == [1, 2]
    assert not log_in(place, is_single=True).create(["x"], 2), "what is there stays"


# --- the copy of the newest version --------------------------------------------------------------------


def copied(files: dict[str, bytes], around: Any = at_once, only: str = "") -> VersionedFile[str]:
    return VersionedFile(
        folder(files, around, only),
        "v-",
        encode=lambda value, number: value.encode(),
        decode=lambda data, number, path: data.decode(),
        copy_prefix="copy-",
    )


def test_a_newest_version_that_is_lost_is_read_from_its_copy():
    files: dict[str, bytes] = {}
    for value in ("one", "two"):
        copied(files).commit(lambda now, n, value=value: value)
    assert sorted(name.rpartition("/")[2] for name in files) == [
        "copy-00000002.json",
        "v-00000001.json",
        "v-00000002.json",
    ]
    (newest,) = [name for name in files if name.endswith("/v-00000002.json")]
    del files[newest]
    assert copied(files).latest() == copied(files).read(2) == "two"
    assert copied(files).latest_number() == 2
    assert copied(files).commit(lambda now, number: f"{now} and three") == ("two and three", 3)
    assert copied(files).latest() == "two and three"
    assert newest not in files


def test_killed_at_any_call_of_a_commit_no_version_returns():
    for dies_at in range(1, 20):
        files: dict[str, bytes] = {}
        copied(files).commit(lambda now, number: "one")
        try:
            copied(files, CrashingStore(dies_at)).commit(lambda now, number: "two")
        except Died:
            left = copied(files).latest()
            assert left in ("one", "two")
            assert copied(files).commit(lambda now, number: "three") == ("three", 2 if left == "one" else 3)
        else:
            assert dies_at > 5
            break


def test_a_copy_that_cannot_be_written_does_not_undo_the_commit(caplog):
    files: dict[str, bytes] = {}

    def refuse(effect: Any) -> Any:
        raise PermissionError("only new files")

    store = copied(files, refuse, "^put ")
    assert store.commit(lambda now, number: "one") == ("one", 1)
    assert "was not copied" in caplog.text
    assert not store.complete()
    assert copied(files).latest() == "one"
    assert copied(files).complete()
    assert len(files) == 2


def check_no_single_file_is_missed(files: dict[str, bytes], value: str) -> None:
    for name in list(files):
        left = {one: data for one, data in files.items() if one != name}
        assert copied(left).latest() == value, name


def test_killed_at_any_call_and_repeated_a_commit_is_copied():
    for dies_at, after in itertools.product(range(1, 20), (False, True)):
        files: dict[str, bytes] = {}
        copied(files).commit(lambda now, number: "one")
        try:
            copied(files, CrashingStore(dies_at, after=after)).commit(lambda now, number: "two")
        except Died:
            assert copied(files).commit(lambda now, number: "two") == ("two", 2)
            check_no_single_file_is_missed(files, "two")
        else:
            assert dies_at > 5
            break


def test_a_store_that_fails_to_say_that_it_created_is_copied_too():
    files: dict[str, bytes] = {}

    def late(effect: Callable[[], Any]) -> Any:
        effect()
        raise FileExistsError

    assert copied(files, late, "^create ").commit(lambda now, number: "one") == ("one", 1)
    check_no_single_file_is_missed(files, "one")


@pytest.mark.parametrize("lost", ["v-", "copy-"])
def test_a_commit_that_changes_nothing_writes_what_was_lost(lost: str):
    files: dict[str, bytes] = {}
    for value in ("one", "two"):
        copied(files).commit(lambda now, number, value=value: value)
    saved = dict(files)
    del files[f"/shop/{lost}00000002.json"]
    assert copied(files).commit(lambda now, number: now) == ("two", 2)
    assert files == saved
    counting = Counting()
    assert copied(files, counting).commit(lambda now, number: now) == ("two", 2)
    assert counting.calls == 2, "it lists and reads"


def test_before_the_first_version_nothing_is_to_be_copied():
    files: dict[str, bytes] = {}
    assert copied(files).complete()
    assert copied(files).commit(lambda now, number: None) == (None, 0)
    assert files == {}
