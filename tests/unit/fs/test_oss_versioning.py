# SPDX-License-Identifier: Apache-2.0
"""A bucket that keeps versions is refused before anything is written."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.fs.oss_errors import OssError
from airflow_provider_bgrep.fs.oss_versioning import VersioningCheck
from airflow_provider_bgrep.protocol.errors import ExclusiveCreationError, StoreError


def test_a_bucket_without_versions_is_asked_once(server, bucket, client_of):
    check = VersioningCheck(client_of())
    for _ in range(3):
        check.require_off(bucket)
    assert server.counters.operations == {"GetBucketVersioning": 1}


@pytest.mark.parametrize(("state", "word"), [("on", "enabled"), ("suspended", "suspended")])
def test_a_bucket_with_versions_is_refused_until_it_is_not(server, bucket, client_of, state, word):
    check = VersioningCheck(client_of())
    server.set_versioning(bucket, state)
    for _ in range(2):
        with pytest.raises(ExclusiveCreationError, match=f"'{bucket}' is {word}") as caught:
            check.require_off(bucket)
        assert caught.value.is_final
        assert "never enabled" in str(caught.value)
    server.set_versioning(bucket, "off")
    check.require_off(bucket)


def test_what_was_forgotten_is_asked_for_again(server, bucket, client_of):
    check = VersioningCheck(client_of())
    check.require_off(bucket)
    server.set_versioning(bucket, "on")
    check.require_off(bucket)  # still the old answer
    check.forget(bucket)
    with pytest.raises(ExclusiveCreationError):
        check.require_off(bucket)


def test_a_missing_right_is_named(server, bucket, client_of):
    server.inject("error", operation="GetBucketVersioning", status=403, code="AccessDenied", message="No.")
    with pytest.raises(ExclusiveCreationError, match="oss:GetBucketVersioning") as caught:
        VersioningCheck(client_of()).require_off(bucket)
    assert isinstance(caught.value, StoreError)
    assert bucket in str(caught.value)


def test_an_unknown_state_is_not_off(server, bucket, client_of):
    server.inject("cut", operation="GetBucketVersioning", times=2)
    check = VersioningCheck(client_of())
    with pytest.raises(OssError) as caught:
        check.require_off(bucket)
    assert not caught.value.is_final
    with pytest.raises(OssError, match="NoSuchBucket") as caught:
        check.require_off("no-such-bucket")
    assert caught.value.is_final
