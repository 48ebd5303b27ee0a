# SPDX-License-Identifier: Apache-2.0
"""An emulator in this process: started, stopped, started again, and asked in between."""

from __future__ import annotations

import socket

import alibabacloud_oss_v2 as oss
import pytest
import requests

from airflow_provider_bgrep.testing import OssEmulator


def test_it_serves_while_the_context_lasts():
    with OssEmulator() as emulator:
        assert requests.get(emulator.endpoint, timeout=20).status_code == 403
        url = f"http://127.0.0.1:{emulator.port}"
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=20)


def test_objects_and_port_survive_a_restart(connect):
    emulator = OssEmulator()
    emulator.create_bucket("shop")
    with emulator:
        port = emulator.port
        connect(emulator).put_object(oss.PutObjectRequest("shop", "a", body=b"1"))
    with emulator:
        assert (emulator.port, emulator.objects("shop")) == (port, {"a": b"1"})
        connect(emulator).put_object(oss.PutObjectRequest("shop", "b", body=b"2"))
    assert emulator.counters.operations["PutObject"] == 2
    assert [one.key for one in emulator.requests] == ["a", "b"]


def test_it_is_started_once_at_a_time():
    with OssEmulator() as emulator, pytest.raises(RuntimeError):
        emulator.start()
    emulator.stop()


def test_region_and_key_can_be_chosen(connect):
    with OssEmulator("us-east-1", access_key_id="id", access_key_secret="secret") as emulator:
        emulator.create_bucket("shop")
        assert emulator.endpoint == f"http://oss-us-east-1.localhost:{emulator.port}"
        answer = connect(emulator).get_bucket_location(oss.GetBucketLocationRequest("shop"))
        assert answer.location == "oss-us-east-1"


def test_urls(emulator):
    host = f"oss-cn-hangzhou.localhost:{emulator.port}"
    assert emulator.url("shop") == f"http://shop.{host}/"
    assert emulator.url("shop", "a b/ü") == f"http://shop.{host}/a%20b/%C3%BC"


def test_an_internal_endpoint(emulator, connect):
    client = connect(emulator, endpoint=emulator.internal_endpoint)
    client.put_object(oss.PutObjectRequest("shop", "a", body=b"1"))
    assert emulator.requests[-1].host == "shop.oss-cn-hangzhou-internal.localhost"
    assert emulator.objects("shop") == {"a": b"1"}


@pytest.mark.parametrize("domain", ["images.localhost", "localhost"])
def test_a_domain_of_ones_own(emulator, connect, domain):
    emulator.bind_domain(domain, "shop")
    client = connect(emulator, endpoint=f"http://{domain}:{emulator.port}", use_cname=True)
    client.put_object(oss.PutObjectRequest("shop", "a", body=b"1"))
    assert emulator.objects("shop") == {"a": b"1"}


def test_a_versioning_state_that_does_not_exist(emulator):
    with pytest.raises(ValueError) as caught:
        emulator.create_bucket("other", versioning="Enabled")
    assert "Enabled" in str(caught.value)


def test_the_clock(emulator):
    before = emulator.now
    emulator.advance(3600)
    assert 3600 <= emulator.now - before < 3700


def test_names_are_resolved_only_while_it_runs(emulator):
    assert socket.getaddrinfo("a.localhost", 80)[0][4][0] == "127.0.0.1"
