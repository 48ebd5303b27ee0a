# SPDX-License-Identifier: Apache-2.0
"""Buckets and the clock."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.oss_emulator.buckets import Versioning
from airflow_provider_bgrep.oss_emulator.errors import OssError
from airflow_provider_bgrep.oss_emulator.hosts import Hosts
from airflow_provider_bgrep.oss_emulator.messages import Request
from airflow_provider_bgrep.oss_emulator.store import Call, Clock, Store


@pytest.fixture
def store() -> Store:
    return Store("cn-hangzhou", Hosts("cn-hangzhou"))


def test_a_bucket_is_created_once(store):
    created = store.create_bucket("shop", Versioning.ON)
    assert store.bucket("shop") is created
    with pytest.raises(OssError) as caught:
        store.create_bucket("shop", Versioning.ON)
    assert (caught.value.status, caught.value.code) == (409, "BucketAlreadyExists")


def test_a_bucket_has_a_valid_name_and_exists(store):
    with pytest.raises(OssError) as caught:
        store.create_bucket("Shop", Versioning.OFF)
    assert caught.value.code == "InvalidBucketName"
    with pytest.raises(OssError) as caught:
        store.bucket("shop")
    assert caught.value.code == "NoSuchBucket"


def test_a_call_knows_bucket_and_key(store):
    store.create_bucket("shop", Versioning.OFF)
    call = Call(Request("GET", "/a%2Fb", "", {}, "host", "shop"), store, 0.0)
    assert (call.bucket.name, call.key) == ("shop", "a/b")


def test_the_clock_can_be_advanced():
    assert Clock(offset=1e6).now() - Clock().now() > 1e6 - 1
