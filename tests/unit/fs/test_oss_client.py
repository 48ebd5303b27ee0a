# SPDX-License-Identifier: Apache-2.0
"""The SDK's client: what signs, what retries, and what must not interfere."""

from __future__ import annotations

import alibabacloud_oss_v2 as oss
import pytest


def head(client, bucket):
    return client.head_object(oss.HeadObjectRequest(bucket=bucket, key="a"))


@pytest.fixture
def stored(fs, bucket):
    fs.pipe_file(f"{bucket}/a", b"one")
    return bucket


def test_an_entry_in_netrc_does_not_replace_the_signature(server, client_of, stored, tmp_path, monkeypatch):
    host = f"{stored}.oss-cn-hangzhou-internal.localhost"
    (tmp_path / ".netrc").write_text(f"machine {host} login other password canary\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert head(client_of(), stored).content_length == 3


def test_a_request_is_retried_as_often_as_said(server, client_of, stored):
    server.inject("throttle", operation="HeadObject", times=2)
    with pytest.raises(oss.exceptions.OperationError, match="503"):
        head(client_of(1), stored)
    assert head(client_of(2), stored).content_length == 3
    server.inject("error", operation="HeadObject", status=403, code="AccessDenied", times=2)
    for _ in range(2):  # what is refused is not retried
        with pytest.raises(oss.exceptions.OperationError, match="403"):
            head(client_of(2), stored)


def test_a_security_token_is_sent_and_signed(server, client_of, stored):
    key = server.sts()
    extra = {
        "access_key_id": key.access_key_id,
        "access_key_secret": key.access_key_secret,
        "security_token": key.security_token,
    }
    assert head(client_of(**extra), stored).content_length == 3
    with pytest.raises(oss.exceptions.OperationError, match="403"):
        head(client_of(1, **{**extra, "security_token": "other"}), stored)


def test_a_wrong_region_or_secret_is_refused(client_of, stored):
    for extra in ({"access_key_secret": "wrong"}, {"access_key_id": "wrong"}):
        with pytest.raises(oss.exceptions.OperationError, match="403"):
            head(client_of(1, **extra), stored)
