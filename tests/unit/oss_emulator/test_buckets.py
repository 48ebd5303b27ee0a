# SPDX-License-Identifier: Apache-2.0
"""What is stored: versions in the three states of a bucket."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.oss_emulator.buckets import Bucket, Version, Versioning
from airflow_provider_bgrep.oss_emulator.errors import OssError


def bucket(state: Versioning) -> Bucket:
    return Bucket("shop", state, 0.0)


def put(to: Bucket, body: bytes, key: str = "a") -> Version:
    version = Version(key, to.new_version_id(), 0.0, body, kind="Normal")
    to.put(version)
    return version


def bodies(of: Bucket, key: str = "a") -> list[bytes | None]:
    """The versions of an object, newest first; ``None`` for a delete marker."""
    return [None if one.is_delete_marker else one.body for one in of.versions.get(key, [])]


def test_without_versioning_there_is_one_version():
    off = bucket(Versioning.OFF)
    assert {put(off, b"1").version_id, put(off, b"2").version_id} == {"null"}
    assert bodies(off) == [b"2"]
    assert off.delete("a", 0.0) is None
    assert (bodies(off), off.current("a"), off.newest("a")) == ([], None, None)


def test_with_versioning_each_write_adds_a_version():
    on = bucket(Versioning.ON)
    first, second = put(on, b"1"), put(on, b"2")
    assert len({first.version_id, second.version_id, "null"}) == 3
    marker = on.delete("a", 0.0)
    assert bodies(on) == [None, b"2", b"1"]
    assert (on.newest("a"), on.current("a")) == (marker, None)
    assert on.find("a", first.version_id) is first


def test_while_suspended_the_null_version_is_replaced():
    changing = bucket(Versioning.OFF)
    put(changing, b"old")
    changing.versioning = Versioning.ON
    put(changing, b"kept")
    changing.versioning = Versioning.SUSPENDED
    put(changing, b"1")
    assert bodies(changing) == [b"1", b"kept"]
    changing.delete("a", 0.0)
    assert bodies(changing) == [None, b"kept"]
    assert changing.newest("a").version_id == "null"


def test_a_version_is_removed_for_good():
    on = bucket(Versioning.ON)
    first, second = put(on, b"1"), put(on, b"2")
    assert on.remove("a", second.version_id) is second
    assert on.current("a") is first
    assert on.remove("a", second.version_id) is None
    on.remove("a", first.version_id)
    assert on.versions == {}


def test_what_does_not_exist_is_not_found():
    on = bucket(Versioning.ON)
    put(on, b"1")
    for key, version_id, code in (("b", "", "NoSuchKey"), ("a", "x", "NoSuchVersion")):
        with pytest.raises(OssError) as caught:
            on.find(key, version_id)
        assert (caught.value.status, caught.value.code) == (404, code)


def test_current_objects_are_sorted_and_have_no_markers():
    on = bucket(Versioning.ON)
    for key in ("b", "a/b", "a", "c"):
        put(on, b"1", key)
    on.delete("c", 0.0)
    assert [one.key for one in on.current_objects()] == ["a", "a/b", "b"]
