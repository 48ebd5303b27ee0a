# SPDX-License-Identifier: Apache-2.0
"""A connection of type ``oss`` becomes settings, or one message with every problem."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from airflow_provider_bgrep.fs.oss_connection import (
    AuthType,
    OssConnectionError,
    OssSettings,
    parse_connection,
)

KEY = {"auth_type": "AK", "access_key_id": "LTAI", "access_key_secret": "canary"}


def parsed(**extra: object) -> OssSettings:
    return parse_connection("shop", extra={**KEY, **extra})


def problems_of(**extra: object) -> list[str]:
    with pytest.raises(OssConnectionError) as caught:
        parse_connection("shop", extra=extra)
    return caught.value.problems


def test_a_connection_of_alibabas_provider_works_unchanged():
    settings = parse_connection("shop", extra=json.dumps({**KEY, "region": "cn-hangzhou"}))
    assert settings == OssSettings(
        endpoint="https://oss-cn-hangzhou.aliyuncs.com",
        presign_endpoint="https://oss-cn-hangzhou.aliyuncs.com",
        region="cn-hangzhou",
        access_key_id="LTAI",
        access_key_secret="canary",
    )


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        ("https://oss-cn-hangzhou-internal.aliyuncs.com/", "cn-hangzhou"),
        ("http://OSS-ap-southeast-1.aliyuncs.com:80", "ap-southeast-1"),
        ("cn-beijing.oss.aliyuncs.com", "cn-beijing"),
    ],
)
def test_the_region_is_found_in_the_endpoints_name(endpoint: str, region: str):
    assert parsed(endpoint=endpoint).region == region


def test_a_region_need_not_be_in_the_endpoints_name():
    settings = parsed(endpoint="oss-accelerate.aliyuncs.com", region="cn-hangzhou")
    assert (settings.endpoint, settings.region) == ("https://oss-accelerate.aliyuncs.com", "cn-hangzhou")
    settings = parsed(endpoint="http://files.shop.example", region="cn-hangzhou", cname=True)
    assert settings.is_cname(settings.endpoint)


def test_urls_are_signed_for_the_public_endpoint_by_default():
    settings = parsed(endpoint="http://oss-cn-hangzhou-internal.aliyuncs.com")
    assert settings.endpoint == "http://oss-cn-hangzhou-internal.aliyuncs.com"
    assert settings.presign_endpoint == "http://oss-cn-hangzhou.aliyuncs.com"


def test_a_domain_to_sign_for_leaves_the_endpoint_virtual_hosted():
    settings = parsed(
        endpoint="oss-cn-hangzhou-internal.aliyuncs.com", presign_endpoint="img.shop.example", cname="true"
    )
    assert settings.is_cname(settings.presign_endpoint)
    assert not settings.is_cname(settings.endpoint)
    assert not parsed(endpoint="img.shop.example", region="cn-hangzhou").is_cname("https://img.shop.example")


def test_login_and_password_stand_in_for_the_extras():
    extra = {"region": "cn-hangzhou"}
    settings = parse_connection("shop", login="LTAI", password="canary", extra=extra)
    assert (settings.access_key_id, settings.access_key_secret) == ("LTAI", "canary")


def test_options_replace_extras():
    settings = parse_connection(
        "shop", extra={**KEY, "region": "cn-hangzhou"}, options={"server_side_encryption": "aes256"}
    )
    assert settings.server_side_encryption == "AES256"


def test_temporary_credentials_may_have_an_expiry():
    settings = parsed(region="cn-hangzhou", security_token="CAIS", expiration="2026-11-29T01:00:00Z")
    assert settings.security_token == "CAIS"
    assert settings.expiration == datetime(2026, 11, 29, 1, tzinfo=UTC)
    assert parsed(region="cn-hangzhou", expiration="2026-11-29T01:00:00").expiration == settings.expiration


@pytest.mark.parametrize(
    ("extra", "auth_type"),
    [
        ({"auth_type": "ecs_ram_role", "ram_role_name": "shop"}, AuthType.ECS_RAM_ROLE),
        ({"auth_type": "credentials_uri", "credentials_uri": "http://localhost/c"}, AuthType.CREDENTIALS_URI),
        ({"credentials_uri": "http://localhost/c"}, AuthType.CREDENTIALS_URI),
    ],
)
def test_credentials_may_come_from_elsewhere(extra: dict[str, str], auth_type: AuthType):
    settings = parse_connection("shop", extra={**extra, "region": "cn-hangzhou"})
    assert settings.auth_type is auth_type


def test_all_problems_are_reported_at_once_and_no_secret():
    with pytest.raises(OssConnectionError) as caught:
        parse_connection(
            "shop",
            conn_type="aws",
            extra={
                "auth_type": "STS",
                "access_key_secret": "canary",
                "region": "oss-cn-hangzhou",
                "endpoint": "https://user:canary@oss-cn-hangzhou.aliyuncs.com",
                "presign_endpoint": "shop.oss-cn-hangzhou.aliyuncs.com",
                "expiration": "tomorrow",
                "cname": "yes",
                "server_side_encryption": "RSA",
                "sse_kms_key_id": "k",
            },
        )
    assert len(caught.value.problems) == 10
    assert "canary" not in str(caught.value)
    assert "'shop'" in str(caught.value)
    assert caught.value.is_final


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({}, "region is missing"),
        ({"endpoint": "oss-accelerate.aliyuncs.com"}, "region is missing"),
        ({"endpoint": "10.0.0.7", "region": "cn-hangzhou"}, "IP addresses"),
        ({"endpoint": "oss-cn-beijing.aliyuncs.com", "region": "cn-hangzhou"}, "is in region 'cn-beijing'"),
        ({"presign_endpoint": "oss-cn-beijing.aliyuncs.com", "region": "cn-hangzhou"}, "presign_endpoint"),
        ({"endpoint": "s3.oss-cn-hangzhou.aliyuncs.com"}, "remove 's3.'"),
        ({"endpoint": "shop.oss-cn-hangzhou.aliyuncs.com"}, "remove 'shop.'"),
        ({"endpoint": "oss-cn-hangzhou.aliyuncs.com/shop"}, "without a bucket"),
        ({"endpoint": "ftp://oss-cn-hangzhou.aliyuncs.com"}, "give a host"),
        ({"endpoint": "http://[", "region": "cn-hangzhou"}, "not a URL"),
        ({"region": "cn-hangzhou", "auth_type": "credentials_uri"}, "credentials_uri is missing"),
        ({"region": "cn-hangzhou", "auth_type": "RSA"}, "give AK or STS or ecs_ram_role or credentials_uri"),
    ],
)
def test_a_problem_says_what_to_do(extra: dict[str, str], words: str):
    (problem,) = problems_of(**{**KEY, **extra})
    assert words in problem


def test_extras_that_are_not_an_object_are_a_problem():
    for extra in ('{"access_key_secret": "canary"', '["canary"]'):
        with pytest.raises(OssConnectionError, match="not a JSON object") as caught:
            parse_connection("shop", extra=extra)
        assert "canary" not in str(caught.value)


def test_settings_show_no_secret_but_differ_by_it():
    one, other = parsed(region="cn-hangzhou"), parsed(region="cn-hangzhou", access_key_secret="0ther")
    assert "canary" not in repr(one)
    assert one != other
    assert len({one, other}) == 2
