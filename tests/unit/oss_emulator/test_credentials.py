# SPDX-License-Identifier: Apache-2.0
"""Access keys: permanent ones, temporary ones, and their tokens."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.oss_emulator.credentials import AccessKey, AccessKeys
from airflow_provider_bgrep.oss_emulator.errors import OssError

PERMANENT = AccessKey("id", "secret")


@pytest.fixture
def keys() -> AccessKeys:
    return AccessKeys(PERMANENT)


def refused(keys: AccessKeys, access_key_id: str, token: str, now: float = 0.0) -> str:
    with pytest.raises(OssError) as caught:
        keys.find(access_key_id, token, now)
    assert caught.value.status == 403
    return caught.value.code


def test_a_permanent_key_has_no_token_and_does_not_expire(keys):
    assert keys.find("id", "", 1e12) is PERMANENT
    assert refused(keys, "id", "a token") == "InvalidSecurityToken"
    assert refused(keys, "other", "") == "InvalidAccessKeyId"


def test_a_temporary_key_needs_its_own_token(keys):
    one, other = keys.issue(100.0), keys.issue(100.0)
    assert one.access_key_id.startswith("STS.")
    assert keys.find(one.access_key_id, one.security_token, 99.9) is one
    assert refused(keys, one.access_key_id, "") == "InvalidAccessKeyId"
    assert refused(keys, one.access_key_id, "invented") == "InvalidSecurityToken"
    assert refused(keys, one.access_key_id, other.security_token) == "AccessKeyIdAndSecurityTokenNotMatch"


def test_a_temporary_key_expires(keys):
    key = keys.issue(100.0)
    assert refused(keys, key.access_key_id, key.security_token, 100.0) == "SecurityTokenExpired"


def test_secrets_are_not_shown(keys):
    shown = repr(keys.issue(0.0)) + repr(PERMANENT)
    assert "secret=" not in shown
    assert "CAIS" not in shown
