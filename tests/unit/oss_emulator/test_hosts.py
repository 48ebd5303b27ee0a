# SPDX-License-Identifier: Apache-2.0
"""Hosts: virtual-hosted style, path style, domains of one's own."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.oss_emulator.errors import OssError
from airflow_provider_bgrep.oss_emulator.hosts import Hosts, is_bucket_name


@pytest.fixture
def hosts() -> Hosts:
    return Hosts("cn-hangzhou")


@pytest.mark.parametrize("suffix", ["", "-internal"])
def test_the_first_label_is_the_bucket(hosts, suffix):
    assert hosts.bucket(f"shop.oss-cn-hangzhou{suffix}.localhost", "/a/b") == "shop"
    assert hosts.bucket(f"SHOP.oss-cn-hangzhou{suffix}.localhost.", "/") == "shop"


@pytest.mark.parametrize("host", ["oss-cn-hangzhou.localhost", "127.0.0.1", "[::1]", "localhost"])
def test_path_style_is_refused(hosts, host):
    assert hosts.bucket(host, "/") is None
    with pytest.raises(OssError) as caught:
        hosts.bucket(host, "/shop/a")
    assert (caught.value.status, caught.value.code) == (403, "SecondLevelDomainForbidden")


def test_a_domain_that_is_bound_is_the_bucket(hosts):
    hosts.bind("Images.example.com", "shop")
    assert hosts.bucket("images.example.com", "/a") == "shop"


@pytest.mark.parametrize("region", ["cn-beijing", "cn-beijing-internal"])
def test_the_endpoint_of_another_region_is_refused(hosts, region):
    with pytest.raises(OssError) as caught:
        hosts.bucket(f"shop.oss-{region}.localhost", "/a")
    assert (caught.value.status, caught.value.code) == (403, "AccessDenied")
    assert caught.value.elements == {"Endpoint": "oss-cn-hangzhou.localhost"}


@pytest.mark.parametrize("host", ["images.example.com", "a.b.oss-cn-beijing.localhost", ""])
def test_another_host_is_no_bucket(hosts, host):
    with pytest.raises(OssError) as caught:
        hosts.bucket(host, "/a")
    assert caught.value.code == "NoSuchBucket"


@pytest.mark.parametrize("name", ["ab", "a" * 64, "-ab", "ab-", "a_b", "a.b", "Abc", "äbc"])
def test_names_that_no_bucket_can_have(hosts, name):
    assert not is_bucket_name(name)
    if name != "Abc":  # hosts are in lower case
        with pytest.raises(OssError) as caught:
            hosts.bucket(f"{name}.oss-cn-hangzhou.localhost", "/")
        assert (caught.value.status, caught.value.code) == (400, "InvalidBucketName")


@pytest.mark.parametrize("name", ["abc", "a" * 63, "1-2"])
def test_names_that_a_bucket_can_have(name):
    assert is_bucket_name(name)
