# SPDX-License-Identifier: Apache-2.0
"""Writing, appending, copying and deleting, in each versioning state."""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_bgrep.oss_emulator.crc64 import crc64

STATES = ["off", "on", "suspended"]
VERSIONED = ["on", "suspended"]


@pytest.fixture(params=STATES)
def state(request, emulator) -> str:
    emulator.set_versioning("shop", request.param)
    return request.param


@pytest.fixture(params=VERSIONED)
def versioned(request, emulator) -> str:
    emulator.set_versioning("shop", request.param)
    return request.param


def test_a_write_answers_checksums(wire, state):
    answer = wire.put("a", b"hello")
    md5 = hashlib.md5(b"hello", usedforsecurity=False)
    assert answer.headers["ETag"] == f'"{md5.hexdigest().upper()}"'
    assert answer.headers["Content-MD5"] == base64.b64encode(md5.digest()).decode()
    assert answer.headers["x-oss-hash-crc64ecma"] == str(crc64(b"hello"))
    assert (
        answer.headers.get("x-oss-version-id", "none")[:4]
        == {
            "off": "none",
            "on": "CAEQ",
            "suspended": "null",
        }[state]
    )


def test_a_write_replaces(wire, state):
    wire.put("a", b"1")
    wire.put("a", b"2")
    assert wire.get("a") == b"2"


def test_a_write_whose_checksum_is_wrong_has_no_effect(wire, code):
    answer = wire("PUT", "a", None, {"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}, b"x")
    assert code(answer) == (400, "InvalidDigest")
    assert wire("HEAD", "a").status_code == 404


def test_overwriting_can_be_forbidden(wire, code, emulator):
    headers = {"x-oss-forbid-overwrite": "true"}
    assert wire("PUT", "a", None, headers, b"1").status_code == 200
    answer = wire("PUT", "a", None, headers, b"2")
    assert code(answer) == (409, "FileAlreadyExists")
    assert wire.get("a") == b"1"
    assert wire("PUT", "a", None, {"x-oss-forbid-overwrite": "false"}, b"3").status_code == 200
    wire("DELETE", "a")
    assert wire("PUT", "a", None, headers, b"4").status_code == 200


def test_a_versioned_bucket_ignores_that_without_error(wire, versioned):
    headers = {"x-oss-forbid-overwrite": "true"}
    for body in (b"1", b"2"):
        assert wire("PUT", "a", None, headers, body).status_code == 200
    assert wire.get("a") == b"2"


def test_a_value_that_is_not_true_or_false_is_refused(wire, code, state):
    answer = wire("PUT", "a", None, {"x-oss-forbid-overwrite": "abc"}, b"x")
    assert code(answer) == (400, "InvalidArgument")
    assert answer.headers["x-oss-ec"] == "0017-00000279"


def statuses_of_eight_writers(emulator, send) -> list[int]:
    """What eight requests answer that arrive at the same time."""
    gathered = emulator.inject("gather", times=8)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(send, range(8)))
    assert gathered.exhausted
    return sorted(statuses)


def test_of_concurrent_writers_one_wins(wire, emulator):
    headers = {"x-oss-forbid-overwrite": "true"}
    signed = [wire.signed("PUT", "a", None, headers) for _ in range(8)]
    statuses = statuses_of_eight_writers(
        emulator, lambda number: wire.send(signed[number], b"%d" % number).status_code
    )
    assert statuses == [200] + [409] * 7


def test_of_concurrent_writers_all_believe_they_won(wire, emulator, versioned):
    headers = {"x-oss-forbid-overwrite": "true"}
    signed = [wire.signed("PUT", "a", None, headers) for _ in range(8)]
    statuses = statuses_of_eight_writers(
        emulator, lambda number: wire.send(signed[number], b"%d" % number).status_code
    )
    assert statuses == [200] * 8


def append(wire, key: str, position: int, data: bytes, **headers: str):
    return wire("POST", key, {"append": "", "position": str(position)}, headers, data)


def test_of_concurrent_appends_one_wins_in_each_state(wire, emulator, state):
    query = {"append": "", "position": "0"}
    signed = [wire.signed("POST", "a", query) for _ in range(8)]
    statuses = statuses_of_eight_writers(
        emulator, lambda number: wire.send(signed[number], b"%d" % number).status_code
    )
    assert statuses == [200] + [409] * 7


def test_an_append_continues_at_the_end(wire, code, state):
    first = append(wire, "a", 0, b"ab", **{"Content-Type": "text/plain"})
    assert first.headers["x-oss-next-append-position"] == "2"
    assert first.headers.get("x-oss-version-id") == (None if state == "off" else "null")
    second = append(wire, "a", 2, b"c")
    assert second.headers["x-oss-hash-crc64ecma"] == str(crc64(b"abc"))
    assert second.headers["ETag"] != first.headers["ETag"]
    wrong = append(wire, "a", 2, b"d")
    assert code(wrong) == (409, "PositionNotEqualToLength")
    assert wrong.headers["x-oss-next-append-position"] == "3"
    head = wire("HEAD", "a").headers
    assert (head["x-oss-object-type"], head["x-oss-next-append-position"]) == ("Appendable", "3")
    assert (head["Content-Type"], wire.get("a")) == ("text/plain", b"abc")


def test_an_append_does_not_add_a_version(wire, emulator, texts, versioned):
    append(wire, "a", 0, b"a")
    append(wire, "a", 1, b"b")
    assert texts(wire("GET", "", {"versions": ""}), "Version/VersionId") == ["null"]


def test_an_append_begins_at_zero(wire, code, state):
    assert code(append(wire, "a", 1, b"a")) == (409, "PositionNotEqualToLength")
    append(wire, "a", 0, b"a")
    assert code(append(wire, "a", 0, b"a")) == (409, "PositionNotEqualToLength")


def test_another_object_cannot_be_appended_to(wire, code, state):
    wire.put("a", b"a")
    assert code(append(wire, "a", 1, b"b")) == (409, "ObjectNotAppendable")
    assert wire.get("a") == b"a"


def test_a_delete_marker_counts_as_no_object(wire, code, state):
    append(wire, "a", 0, b"a")
    wire("DELETE", "a")
    assert code(append(wire, "a", 1, b"b")) == (409, "PositionNotEqualToLength")
    assert append(wire, "a", 0, b"c").status_code == 200
    assert wire.get("a") == b"c"


def test_an_older_version_cannot_be_appended_to(wire, code, emulator):
    emulator.set_versioning("shop", "on")
    append(wire, "a", 0, b"a")
    wire.put("a", b"new")
    assert code(append(wire, "a", 1, b"b")) == (409, "ObjectNotAppendable")
    assert wire.get("a", query={"versionId": "null"}) == b"a"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"append": ""}, "MissingArgument"),
        ({"append": "", "position": "-1"}, "InvalidArgument"),
        ({"append": "", "position": "0", "versionId": "null"}, "InvalidArgument"),
    ],
)
def test_a_position_is_needed(wire, code, query, expected):
    assert code(wire("POST", "a", query, None, b"x")) == (400, expected)


def test_an_appendable_object_has_no_key_of_ones_own(wire, code):
    headers = {"x-oss-server-side-encryption": "KMS", "x-oss-server-side-encryption-key-id": "1"}
    assert code(append(wire, "a", 0, b"a", **headers)) == (400, "InvalidArgument")
    answer = append(wire, "a", 0, b"a", **{"x-oss-server-side-encryption": "AES256"})
    assert answer.headers["x-oss-server-side-encryption"] == "AES256"


def copy(wire, source: str, key: str, **headers: str):
    return wire("PUT", key, None, {"x-oss-copy-source": source, **headers})


def test_a_copy_has_content_and_headers_of_its_source(wire, text, state):
    wire.put("ü a", b"hello", x_oss_meta_a="1", x_oss_server_side_encryption="AES256")
    answer = copy(wire, "/shop/%C3%BC%20a", "b")
    assert text(answer, "ETag") == answer.headers["ETag"] == wire("HEAD", "b").headers["ETag"]
    assert ("x-oss-version-id" in answer.headers) == (state != "off")
    assert ("x-oss-copy-source-version-id" in answer.headers) == (state != "off")
    head = wire("HEAD", "b").headers
    assert (wire.get("b"), head["x-oss-meta-a"]) == (b"hello", "1")
    assert "x-oss-server-side-encryption" not in head


def test_a_copy_can_have_headers_of_its_own(wire):
    wire.put("a", b"hello", x_oss_meta_a="1")
    headers = {"x-oss-metadata-directive": "REPLACE", "x-oss-meta-b": "2"}
    copy(wire, "/shop/a", "b", **headers)
    head = wire("HEAD", "b").headers
    assert ("x-oss-meta-a" in head, head["x-oss-meta-b"]) == (False, "2")


def test_a_copy_to_itself_replaces_the_headers(wire):
    wire.put("a", b"hello", x_oss_meta_a="1")
    copy(wire, "/shop/a", "a", **{"x-oss-meta-b": "2"})
    head = wire("HEAD", "a").headers
    assert ("x-oss-meta-a" in head, head["x-oss-meta-b"]) == (False, "2")


def test_a_copy_may_be_of_an_older_version_and_another_bucket(wire, emulator):
    emulator.create_bucket("other", versioning="on")
    first = wire("PUT", "a", None, None, b"1", bucket="other").headers["x-oss-version-id"]
    wire("PUT", "a", None, None, b"2", bucket="other")
    copy(wire, f"/other/a?versionId={first}", "b")
    assert wire.get("b") == b"1"


def test_a_copy_can_be_forbidden_to_overwrite(wire, code):
    wire.put("a", b"1")
    wire.put("b", b"2")
    headers = {"x-oss-forbid-overwrite": "true"}
    assert code(copy(wire, "/shop/a", "b", **headers)) == (409, "FileAlreadyExists")
    assert copy(wire, "/shop/a", "c", **headers).status_code == 200


@pytest.mark.parametrize(
    ("source", "headers", "status"),
    [
        ("/shop/none", {}, 404),
        ("/none/a", {}, 404),
        ("/shop", {}, 400),
        ("/shop/a", {"x-oss-copy-source-if-match": '"x"'}, 412),
        ("/shop/a", {"x-oss-copy-source-if-none-match": "C4CA4238A0B923820DCC509A6F75849B"}, 304),
        ("/shop/log", {}, 400),
    ],
)
def test_a_copy_that_is_refused(wire, source, headers, status):
    wire.put("a", b"1")
    append(wire, "log", 0, b"1")
    assert copy(wire, source, "b", **headers).status_code == status
    assert wire("HEAD", "b").status_code == 404


def test_a_delete_answers_204_whatever_there_is(wire, state):
    wire.put("a")
    for _ in range(2):
        answer = wire("DELETE", "a")
        assert answer.status_code == 204
        assert answer.headers.get("x-oss-delete-marker") == (None if state == "off" else "true")
    assert wire("GET", "a").status_code == 404


def test_a_version_is_deleted_for_good(wire, emulator):
    emulator.set_versioning("shop", "on")
    first = wire.put("a", b"1").headers["x-oss-version-id"]
    marker = wire("DELETE", "a").headers["x-oss-version-id"]
    answer = wire("DELETE", "a", {"versionId": marker})
    assert (answer.headers["x-oss-delete-marker"], answer.headers["x-oss-version-id"]) == ("true", marker)
    assert wire.get("a") == b"1"
    answer = wire("DELETE", "a", {"versionId": first})
    assert ("x-oss-delete-marker" in answer.headers, answer.headers["x-oss-version-id"]) == (False, first)
    assert wire("GET", "a").status_code == 404


def delete_many(wire, *keys: str, quiet: bool = False, md5: str | None = None, **query: str):
    listed = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    body = f"<Delete><Quiet>{str(quiet).lower()}</Quiet>{listed}</Delete>".encode()
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    headers = {} if md5 == "" else {"Content-MD5": md5 or digest}
    return wire("POST", "", {"delete": "", **query}, headers, body)


def test_many_objects_are_deleted(wire, emulator, texts, state):
    for key in ("a", "b", "c"):
        wire.put(key)
    answer = delete_many(wire, "a", "b", "none")
    assert texts(answer, "Deleted/Key") == ["a", "b", "none"]
    assert texts(answer, "Deleted/DeleteMarker") == ([] if state == "off" else ["true"] * 3)
    assert set(emulator.objects("shop")) == {"c"}


def test_many_objects_are_deleted_quietly(wire, emulator):
    wire.put("a")
    assert delete_many(wire, "a", quiet=True).content == b""
    assert emulator.objects("shop") == {}


def test_deleted_keys_can_be_encoded(wire, texts):
    assert texts(delete_many(wire, "a b", **{"encoding-type": "url"}), "Deleted/Key") == ["a%20b"]


@pytest.mark.parametrize(
    ("keys", "md5", "expected"),
    [
        (["a"], "", "InvalidDigest"),
        (["a"], "1B2M2Y8AsgTpgAmY7PhCfg==", "InvalidDigest"),
        ([], None, "MalformedXML"),
        ([""], None, "MalformedXML"),
        (["a"] * 1001, None, "MalformedXML"),
    ],
)
def test_a_delete_of_many_that_is_refused(wire, code, keys, md5, expected):
    wire.put("a")
    assert code(delete_many(wire, *keys, md5=md5)) == (400, expected)
    assert wire.get("a") == b"x"
