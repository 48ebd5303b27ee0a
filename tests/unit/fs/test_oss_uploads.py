# SPDX-License-Identifier: Apache-2.0
"""Writing: exclusively, in parts, encrypted; and with answers that are lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_bgrep.fs.oss_errors import OssError
from airflow_provider_bgrep.fs.oss_uploads import Uploads
from airflow_provider_bgrep.protocol.errors import ExclusiveCreationError

PART = b"p" * 102_400


@pytest.fixture
def uploads(client_of, settings_of):
    return Uploads(client_of(), settings_of(), part_size=len(PART))


def uploads_with(attempts, client_of, settings_of):
    return Uploads(client_of(attempts), settings_of())


# --- exclusive creation ---------------------------------------------------------------------------


def test_what_exists_is_not_created(server, bucket, uploads):
    uploads.put(bucket, "a", b"one", exclusive=True)
    with pytest.raises(FileExistsError):
        uploads.put(bucket, "a", b"one", exclusive=True)
    assert server.objects(bucket) == {"a": b"one"}
    uploads.put(bucket, "a", b"two")
    assert server.objects(bucket) == {"a": b"two"}


def test_of_many_threads_one_creates(server, bucket, uploads):
    server.inject("gather", operation="PutObject", times=8)
    barrier = threading.Barrier(8)

    def create(number: int) -> bool:
        barrier.wait()
        try:
            uploads.put(bucket, "a", b"same", exclusive=True)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(create, range(8))) == 1


def test_a_lost_answer_to_a_creation_is_found_out(server, bucket, uploads):
    fault = server.inject("cut", operation="PutObject", applied=True)
    uploads.put(bucket, "a", b"one", exclusive=True)
    assert fault.exhausted
    assert server.counters.errors["FileAlreadyExists"] == 1  # the repeated request found its own object
    assert server.objects(bucket) == {"a": b"one"}


def test_a_server_error_after_the_effect_is_found_out(server, bucket, uploads):
    fault = server.inject("error", operation="PutObject", applied=True)
    uploads.put(bucket, "a", b"one", exclusive=True)
    assert fault.exhausted


def test_a_lost_answer_without_a_retry_is_found_out(server, bucket, client_of, settings_of):
    server.inject("cut", operation="PutObject", applied=True)
    uploads_with(1, client_of, settings_of).put(bucket, "a", b"one", exclusive=True)
    assert server.counters.operations["PutObject"] == 1


def test_a_lost_request_is_sent_again(server, bucket, uploads):
    fault = server.inject("cut", operation="PutObject")
    uploads.put(bucket, "a", b"one", exclusive=True)
    assert fault.exhausted
    assert server.objects(bucket) == {"a": b"one"}


def test_anothers_object_is_not_taken_for_ours(server, bucket, client_of, settings_of):
    """The request is lost; meanwhile another writer creates an object with the same content."""
    other = uploads_with(1, client_of, settings_of)
    other.put(bucket, "a", b"one", exclusive=True)
    server.inject("cut", operation="PutObject")
    with pytest.raises(FileExistsError):
        uploads_with(2, client_of, settings_of).put(bucket, "a", b"one", exclusive=True)
    server.inject("cut", operation="PutObject")
    with pytest.raises(OssError, match="did not answer"):
        uploads_with(1, client_of, settings_of).put(bucket, "a", b"one", exclusive=True)


def test_an_effect_that_cannot_be_asked_for_is_unknown(server, bucket, uploads):
    server.inject("cut", operation="PutObject", applied=True)
    server.inject("error", operation="HeadObject", status=403, code="AccessDenied")
    with pytest.raises(OssError, match="unknown") as caught:
        uploads.put(bucket, "a", b"one", exclusive=True)
    assert not caught.value.is_final


def test_a_request_that_never_arrived_is_an_error(server, bucket, uploads):
    server.inject("cut", operation="PutObject", times=2)
    with pytest.raises(OssError) as caught:
        uploads.put(bucket, "a", b"one", exclusive=True)
    assert not caught.value.is_final
    assert server.objects(bucket) == {}


@pytest.mark.parametrize("state", ["on", "suspended"])
def test_nothing_is_created_where_versions_are_kept(server, bucket, uploads, state, tmp_path):
    server.set_versioning(bucket, state)
    (tmp_path / "large").write_bytes(PART)
    for create in (
        lambda: uploads.put(bucket, "a", b"one", exclusive=True),
        lambda: uploads.put_file(bucket, "a", str(tmp_path / "large"), exclusive=True),
        lambda: uploads.start(bucket, "a", exclusive=True),
    ):
        with pytest.raises(ExclusiveCreationError):
            create()
    assert server.counters.operations == {"GetBucketVersioning": 3}
    uploads.put(bucket, "a", b"one")
    assert server.objects(bucket) == {"a": b"one"}


@pytest.mark.parametrize("state", ["on", "suspended"])
def test_versions_enabled_meanwhile_are_noticed(server, bucket, uploads, state):
    uploads.put(bucket, "a", b"one", exclusive=True)
    server.set_versioning(bucket, state)
    with pytest.raises(ExclusiveCreationError, match=state.replace("on", "enabled", state == "on")):
        uploads.put(bucket, "b", b"two", exclusive=True)
    with pytest.raises(ExclusiveCreationError):
        uploads.put(bucket, "c", b"two", exclusive=True)
    assert set(server.objects(bucket)) == {"a", "b"}


# --- parts ----------------------------------------------------------------------------------------


def test_parts_become_an_object_when_they_are_completed(server, bucket, uploads):
    upload = uploads.start(bucket, "a.png")
    upload.add(PART)
    upload.add(b"end")
    assert server.objects(bucket) == {}
    upload.complete()
    assert server.objects(bucket) == {"a.png": PART + b"end"}


def test_a_lost_answer_to_a_completion_is_found_out(server, bucket, uploads):
    for exclusive in (False, True):
        upload = uploads.start(bucket, f"a{exclusive}", exclusive=exclusive)
        upload.add(PART)
        fault = server.inject("cut", operation="CompleteMultipartUpload", applied=True)
        upload.complete()
        assert fault.exhausted
    assert set(server.objects(bucket)) == {"aFalse", "aTrue"}


def test_of_two_uploads_in_parts_one_creates(server, bucket, uploads):
    first, second = (uploads.start(bucket, "a", exclusive=True) for _ in range(2))
    for upload, data in ((first, b"1"), (second, b"2")):
        upload.add(data)
    second.complete()
    with pytest.raises(FileExistsError):
        first.complete()
    with pytest.raises(FileExistsError):
        uploads.start(bucket, "a", exclusive=True).complete()
    assert server.objects(bucket) == {"a": b"2"}


def test_an_upload_that_is_aborted_leaves_nothing(server, bucket, uploads):
    upload = uploads.start(bucket, "a")
    upload.add(PART)
    upload.abort()
    with pytest.raises(OssError, match="NoSuchUpload"):
        upload.complete()
    upload.abort()  # once more is allowed
    assert server.objects(bucket) == {}


def test_a_large_file_is_sent_in_parts(server, bucket, uploads, tmp_path):
    local = tmp_path / "large.png"
    local.write_bytes(PART + b"end")
    fault = server.inject("cut", operation="CompleteMultipartUpload", applied=True)
    uploads.put_file(bucket, "a/large.png", str(local), exclusive=True)
    assert fault.exhausted
    assert server.objects(bucket)["a/large.png"] == local.read_bytes()
    assert server.counters.operations["UploadPart"] == 2
    with pytest.raises(FileExistsError):
        uploads.put_file(bucket, "a/large.png", str(local), exclusive=True)
    assert server.counters.operations["AbortMultipartUpload"] <= 1


def test_a_large_file_that_fails_leaves_no_object(server, bucket, uploads, tmp_path):
    local = tmp_path / "large.png"
    local.write_bytes(PART + b"end")
    server.inject("error", operation="UploadPart", status=400, code="InvalidArgument")
    with pytest.raises(OssError, match="InvalidArgument"):
        uploads.put_file(bucket, "a", str(local))
    assert server.objects(bucket) == {}
    assert server.counters.operations["AbortMultipartUpload"] == 1


# --- headers --------------------------------------------------------------------------------------


def test_every_write_is_encrypted_as_the_connection_says(server, bucket, client_of, settings_of):
    extra = {"server_side_encryption": "KMS", "sse_kms_key_id": "key-1"}
    uploads = Uploads(client_of(**extra), settings_of(**extra))
    uploads.put(bucket, "a", b"one")
    uploads.copy((bucket, "a"), (bucket, "b"))
    upload = uploads.start(bucket, "c")
    upload.add(PART)
    upload.complete()
    for request in server.requests:
        if request.operation in ("PutObject", "CopyObject", "InitiateMultipartUpload"):
            assert request.headers["x-oss-server-side-encryption"] == "KMS"
            assert request.headers["x-oss-server-side-encryption-key-id"] == "key-1"


def test_the_content_type_is_that_of_the_name(server, bucket, uploads, fs):
    uploads.put(bucket, "雪 山.png", b"one")
    uploads.put(bucket, "x", b"one")
    assert fs.info(f"{bucket}/雪 山.png")["ContentType"] == "image/png"
    assert fs.info(f"{bucket}/x")["ContentType"] == "application/octet-stream"


def test_a_copy_of_nothing_is_an_error(server, bucket, uploads):
    with pytest.raises(FileNotFoundError):
        uploads.copy((bucket, "none"), (bucket, "b"))
