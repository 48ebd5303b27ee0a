# SPDX-License-Identifier: Apache-2.0
"""Lists of objects and versions: pages, prefixes, delimiters, encodings."""

from __future__ import annotations

import pytest

KEYS = ["a", "b/", "b/1", "b/2", "b/c/3", "d", "e/4", "ü &<"]


@pytest.fixture
def filled(wire):
    for key in KEYS:
        wire.put(key, b"12345")
    return wire


def all_pages(wire, text, texts, **query: str) -> tuple[list[str], list[str], list[int]]:
    """Keys, common prefixes and key counts of all pages."""
    keys, prefixes, counts, token = [], [], [], {}
    while True:
        answer = wire("GET", "", {"list-type": "2", **query, **token})
        assert answer.status_code == 200, answer.text
        keys += texts(answer, "Contents/Key")
        prefixes += texts(answer, "CommonPrefixes/Prefix")
        counts.append(int(text(answer, "KeyCount")))
        if text(answer, "IsTruncated") == "false":
            return keys, prefixes, counts
        token = {"continuation-token": text(answer, "NextContinuationToken")}


def test_keys_are_sorted(filled, text, texts):
    assert all_pages(filled, text, texts) == (KEYS, [], [8])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 1000])
def test_pages_have_each_key_once(filled, text, texts, size):
    keys, prefixes, counts = all_pages(filled, text, texts, **{"max-keys": str(size)})
    assert (keys, prefixes) == (KEYS, [])
    assert counts == [size] * (8 // size) + ([8 % size] if 8 % size else [])


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_delimiter_groups_keys(filled, text, texts, size):
    query = {"delimiter": "/", "max-keys": str(size)}
    keys, prefixes, counts = all_pages(filled, text, texts, **query)
    assert (keys, prefixes, sum(counts)) == (["a", "d", "ü &<"], ["b/", "e/"], 5)


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_folder(filled, text, texts, size):
    query = {"prefix": "b/", "delimiter": "/", "max-keys": str(size)}
    assert all_pages(filled, text, texts, **query)[:2] == (["b/", "b/1", "b/2"], ["b/c/"])


def test_a_start(filled, text, texts):
    assert all_pages(filled, text, texts, **{"start-after": "b/2"})[0] == KEYS[4:]
    assert all_pages(filled, text, texts, **{"start-after": "b/"})[0] == KEYS[2:]
    query = {"start-after": "b/", "delimiter": "/"}
    assert all_pages(filled, text, texts, **query)[1] == ["b/", "e/"]


def test_elements(filled, text, texts):
    answer = filled("GET", "", {"list-type": "2", "prefix": "a", "fetch-owner": "true"})
    assert {
        name: text(answer, name)
        for name in ("Name", "Prefix", "MaxKeys", "KeyCount", "Size", "StorageClass", "Type")
    } == {
        "Name": "shop",
        "Prefix": "a",
        "MaxKeys": "100",
        "KeyCount": "1",
        "Size": "5",
        "StorageClass": "Standard",
        "Type": "Normal",
    }
    assert text(answer, "ETag") == filled("HEAD", "a").headers["ETag"]
    assert text(answer, "LastModified").endswith(".000Z")
    assert texts(answer, "Contents/Owner/ID") == ["1234567890123456"]


def test_names_can_be_encoded(filled, text, texts):
    query = {"list-type": "2", "encoding-type": "url", "prefix": "ü ", "start-after": "ü"}
    answer = filled("GET", "", query)
    assert texts(answer, "Contents/Key") == ["%C3%BC%20%26%3C"]
    assert (text(answer, "Prefix"), text(answer, "StartAfter")) == ("%C3%BC%20", "%C3%BC")
    assert text(answer, "EncodingType") == "url"


@pytest.mark.parametrize(
    "query",
    [
        {"max-keys": "0"},
        {"max-keys": "1001"},
        {"max-keys": "ten"},
        {"encoding-type": "base64"},
        {"continuation-token": "!"},
        {"continuation-token": "_w--"},
    ],
)
def test_parameters_that_are_not_valid(wire, code, query):
    assert code(wire("GET", "", {"list-type": "2", **query})) == (400, "InvalidArgument")


def test_the_older_list_has_markers(filled, text, texts):
    first = filled("GET", "", {"max-keys": "2", "delimiter": "/"})
    assert texts(first, "Contents/Key") + texts(first, "CommonPrefixes/Prefix") == ["a", "b/"]
    second = filled("GET", "", {"marker": text(first, "NextMarker"), "delimiter": "/"})
    assert (texts(second, "Contents/Key"), text(second, "IsTruncated")) == (["d", "ü &<"], "false")
    assert texts(second, "CommonPrefixes/Prefix") == ["e/"]


def test_delete_markers_are_not_listed(wire, emulator, text, texts):
    emulator.set_versioning("shop", "on")
    for key in ("a", "b"):
        wire.put(key)
    wire("DELETE", "a")
    assert all_pages(wire, text, texts)[0] == ["b"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_all_versions_newest_first(wire, emulator, text, texts, size):
    emulator.set_versioning("shop", "on")
    ids = [wire.put("a", b"%d" % n).headers["x-oss-version-id"] for n in range(3)]
    ids.append(wire("DELETE", "a").headers["x-oss-version-id"])
    ids.append(wire.put("b").headers["x-oss-version-id"])
    found, latest, marker = [], [], {}
    while True:
        answer = wire("GET", "", {"versions": "", "max-keys": str(size), **marker})
        for kind in ("DeleteMarker", "Version"):
            found += texts(answer, f"{kind}/VersionId")
            latest += texts(answer, f"{kind}/IsLatest")
        if text(answer, "IsTruncated") == "false":
            break
        marker = {
            "key-marker": text(answer, "NextKeyMarker"),
            "version-id-marker": text(answer, "NextVersionIdMarker"),
        }
    assert found == [ids[3], ids[2], ids[1], ids[0], ids[4]]
    assert latest == ["true", "false", "false", "false", "true"]
