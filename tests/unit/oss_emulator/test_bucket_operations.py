# SPDX-License-Identifier: Apache-2.0
"""Operations on buckets."""

from __future__ import annotations

import alibabacloud_oss_v2 as oss
import pytest
import requests

STATES = [("off", ""), ("on", "Enabled"), ("suspended", "Suspended")]


@pytest.mark.parametrize(("state", "status"), STATES)
def test_the_versioning_state(wire, emulator, text, state, status):
    emulator.create_bucket("other", versioning=state)
    assert text(wire("GET", "", {"versioning": ""}, bucket="other"), "Status") == status
    assert text(wire("GET", "", {"bucketInfo": ""}, bucket="other"), "Versioning") == status


def test_versioning_is_changed(wire, text, code):
    def change(status: str):
        body = f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>"
        return wire("PUT", "", {"versioning": ""}, None, body.encode())

    for status in ("Enabled", "Suspended", "Enabled"):
        assert change(status).status_code == 200
        assert text(wire("GET", "", {"versioning": ""}), "Status") == status
    assert code(change("Off")) == (400, "MalformedXML")


def test_the_properties_of_a_bucket(wire, text):
    answer = wire("GET", "", {"bucketInfo": ""})
    assert text(answer, "Name") == "shop"
    assert text(answer, "ExtranetEndpoint") == "oss-cn-hangzhou.localhost"
    assert text(answer, "IntranetEndpoint") == "oss-cn-hangzhou-internal.localhost"
    assert text(answer, "Location") == "oss-cn-hangzhou"
    assert text(answer, "Grant") == "private"
    assert b">oss-cn-hangzhou</LocationConstraint>" in wire("GET", "", {"location": ""}).content
    assert text(wire("GET", "", {"acl": ""}), "Grant") == "private"


@pytest.mark.parametrize("name", ["bucketInfo", "location", "acl", "versioning", "versions", "uploads"])
def test_a_bucket_that_does_not_exist(wire, code, name):
    assert code(wire("GET", "", {name: ""}, bucket="none")) == (404, "NoSuchBucket")


def test_a_bucket_is_created_and_deleted(wire, code):
    assert wire("PUT", bucket="other").status_code == 200
    assert wire("PUT", bucket="other").status_code == 200
    wire("PUT", "a", None, None, b"x", bucket="other")
    assert code(wire("DELETE", bucket="other")) == (409, "BucketNotEmpty")
    wire("DELETE", "a", bucket="other")
    assert wire("DELETE", bucket="other").status_code == 204
    assert code(wire("GET", bucket="other")) == (404, "NoSuchBucket")


def test_buckets_are_listed(emulator, client):
    emulator.create_bucket("other")
    found = client.list_buckets(oss.ListBucketsRequest()).buckets
    assert [(one.name, one.location) for one in found] == [
        ("other", "oss-cn-hangzhou"),
        ("shop", "oss-cn-hangzhou"),
    ]


def test_buckets_are_not_listed_for_all(emulator, code):
    assert code(requests.get(emulator.endpoint, timeout=30)) == (403, "AccessDenied")
