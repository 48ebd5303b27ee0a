# SPDX-License-Identifier: Apache-2.0
"""Writes objects to OSS. An object appears only when it is complete, and can be created exclusively.

A request may take effect although its answer is lost. The SDK then repeats it, and finds its own object. For
an exclusive creation, this looks as if another writer had been faster; for a multipart upload, as if it had
never been started. Such objects therefore carry a token of their writer in their metadata.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import math
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import alibabacloud_oss_v2 as oss
from alibabacloud_oss_v2.utils import guess_content_type

from airflow_provider_bgrep.fs.oss_connection import OssSettings
from airflow_provider_bgrep.fs.oss_errors import OssError, oss_error
from airflow_provider_bgrep.fs.oss_versioning import VersioningCheck, versioned_error

PART_SIZE: Final = 8 * 1024 * 1024

_MOST_PARTS: Final = 10_000
_PARALLEL: Final = 3
_WRITER: Final = "bgrep-writer"
"""Key of the metadata with the token."""

_BINARY: Final = "application/octet-stream"


class Uploads:
    """Writes objects.

    :param client: the client to write with.
    :param settings: the connection, for its encryption.
    :param part_size: bytes of a part of a large file; files with fewer are sent in one request.
    """

    def __init__(self, client: oss.Client, settings: OssSettings, part_size: int = PART_SIZE) -> None:
        self.client = client
        self._part_size = part_size
        self.versioning = VersioningCheck(client)
        self._encryption = {
            "server_side_encryption": settings.server_side_encryption or None,
            "server_side_encryption_key_id": settings.sse_kms_key_id or None,
        }

    def put(self, bucket: str, key: str, data: bytes, *, exclusive: bool = False) -> None:
        """Write an object in one request.

        :param exclusive: whether to write only if the object does not exist.
        :raises FileExistsError: if it exists, and ``exclusive`` is true.
        :raises ExclusiveCreationError: if the bucket keeps versions, and ``exclusive`` is true.
        """
        token = secrets.token_hex(16) if exclusive else ""
        request = self._request(bucket, key, token, exclusive=exclusive)
        request.body = data
        # OSS refuses what was damaged on its way, so that a repeated request never finds a damaged object.
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        request.content_md5 = base64.b64encode(digest).decode()
        self.confirmed(bucket, key, token, lambda: self.client.put_object(request), exclusive=exclusive)

    def put_file(self, bucket: str, key: str, local: str, *, exclusive: bool = False) -> None:
        """Write an object from a local file, a large one in several parts.

        :param local: path of the file.
        :param exclusive: as in :meth:`put`.
        """
        with open(local, "rb") as file:  # noqa: PTH123 (a path as fsspec has it)
            size = os.fstat(file.fileno()).st_size
            if size < self._part_size:
                self.put(bucket, key, file.read(), exclusive=exclusive)
                return
            upload = self.start(bucket, key, exclusive=exclusive)
            try:
                self._send_parts(upload, file.fileno(), size)
                upload.complete()
            except BaseException:
                upload.abort()
                raise

    def _send_parts(self, upload: MultipartUpload, file: int, size: int) -> None:
        part_size = max(self._part_size, math.ceil(size / _MOST_PARTS))

        def send(number: int) -> None:
            upload.add(os.pread(file, part_size, (number - 1) * part_size), number)

        with ThreadPoolExecutor(_PARALLEL) as threads:
            try:
                list(threads.map(send, range(1, math.ceil(size / part_size) + 1)))
            finally:
                threads.shutdown(cancel_futures=True)

    def copy(self, source: tuple[str, str], target: tuple[str, str]) -> None:
        """Copy an object within OSS.

        :param source: bucket and key.
        :param target: bucket and key.
        :raises FileNotFoundError: if the source does not exist.
        """
        request = oss.CopyObjectRequest(
            bucket=target[0],
            key=target[1],
            source_bucket=source[0],
            source_key=source[1],
            **self._encryption,
        )
        try:
            try:
                self.client.copy_object(request)
            except oss.exceptions.OperationError as error:
                if getattr(error.unwrap(), "code", "") != "EntityTooLarge":
                    raise
                self.client.copier().copy(request)  # more than 1 GB: in parts
        except Exception as error:
            raise oss_error(error, "/".join(source)) from error

    def start(self, bucket: str, key: str, *, exclusive: bool = False) -> MultipartUpload:
        """Begin an upload in parts.

        :param exclusive: as in :meth:`put`.
        """
        token = secrets.token_hex(16)
        if exclusive:
            self.versioning.require_off(bucket)
        request = oss.InitiateMultipartUploadRequest(
            bucket=bucket,
            key=key,
            metadata={_WRITER: token},
            forbid_overwrite=exclusive or None,
            **self._encryption,
        )
        try:
            upload_id = self.client.initiate_multipart_upload(request).upload_id
        except Exception as error:
            raise oss_error(error, f"{bucket}/{key}") from error
        return MultipartUpload(self, bucket, key, str(upload_id), token, exclusive=exclusive)

    def _request(self, bucket: str, key: str, token: str, *, exclusive: bool) -> oss.PutObjectRequest:
        return oss.PutObjectRequest(
            bucket=bucket,
            key=key,
            metadata={_WRITER: token} if token else None,
            content_type=guess_content_type(key, _BINARY),
            forbid_overwrite=exclusive or None,
            **self._encryption,
        )

    def confirmed(
        self, bucket: str, key: str, token: str, send: Callable[[], Any], *, exclusive: bool
    ) -> None:
        """Send the request that makes an object appear, and find out whether it did if its answer is lost.

        :param token: in the metadata of the object; empty if the request may be repeated without harm.
        :param send: sends the request.
        :param exclusive: as in :meth:`put`.
        """
        if exclusive:
            self.versioning.require_off(bucket)
        path = f"{bucket}/{key}"
        try:
            version_id = send().version_id
        except Exception as error:
            failure = oss_error(error, path)
            if not (token and _may_have_happened(failure)):
                raise failure from error
            found = self._head(bucket, key, failure)
            if (found.metadata or {}).get(_WRITER) != token:
                raise failure from error
            version_id = found.version_id
        if exclusive and version_id:
            # Versioning was enabled after it was asked for: another writer may have been overwritten.
            self.versioning.forget(bucket)
            raise versioned_error(bucket, "Suspended" if version_id == "null" else "Enabled")

    def _head(self, bucket: str, key: str, failure: OSError) -> oss.HeadObjectResult:
        try:
            return self.client.head_object(oss.HeadObjectRequest(bucket=bucket, key=key))
        except Exception as error:
            second = oss_error(error, f"{bucket}/{key}")
            if isinstance(second, FileNotFoundError):
                raise failure from error
            raise OssError(
                f"{failure}; whether it was written is unknown: {second}", is_final=False
            ) from error


def _may_have_happened(failure: OSError) -> bool:
    if isinstance(failure, OssError):
        return not failure.is_final or failure.code == "NoSuchUpload"
    return isinstance(failure, FileExistsError)


class MultipartUpload:
    """An upload in parts, which becomes an object when it is completed.

    :param uploads: what began it.
    :param bucket: the bucket.
    :param key: the object's key.
    :param upload_id: OSS's name of it.
    :param token: the writer's token in the metadata.
    :param exclusive: whether to write only if the object does not exist.
    """

    def __init__(
        self, uploads: Uploads, bucket: str, key: str, upload_id: str, token: str, *, exclusive: bool
    ) -> None:
        self._uploads = uploads
        self._at = {"bucket": bucket, "key": key, "upload_id": upload_id}
        self._path = f"{bucket}/{key}"
        self._token = token
        self._exclusive = exclusive
        self._parts: dict[int, oss.UploadPart] = {}

    def add(self, data: bytes, number: int | None = None) -> None:
        """Send a part.

        :param data: its bytes: at least 100 KiB, unless it is the last.
        :param number: its position, from 1, if several threads send parts; default: behind the others.
        """
        number = number or len(self._parts) + 1
        request = oss.UploadPartRequest(**self._at, part_number=number, body=io.BytesIO(data))
        try:
            result = self._uploads.client.upload_part(request)
        except Exception as error:
            raise oss_error(error, self._path) from error
        self._parts[number] = oss.UploadPart(part_number=number, etag=result.etag)

    def complete(self) -> None:
        """Make the object appear."""
        request = oss.CompleteMultipartUploadRequest(
            **self._at,
            forbid_overwrite=self._exclusive or None,
            complete_multipart_upload=oss.CompleteMultipartUpload(
                parts=[self._parts[number] for number in sorted(self._parts)]
            ),
        )
        client = self._uploads.client
        self._uploads.confirmed(
            self._at["bucket"],
            self._at["key"],
            self._token,
            lambda: client.complete_multipart_upload(request),
            exclusive=self._exclusive,
        )

    def abort(self) -> None:
        """Remove the parts. Errors are ignored: a lifecycle rule of the bucket removes what is left."""
        with contextlib.suppress(Exception):
            self._uploads.client.abort_multipart_upload(oss.AbortMultipartUploadRequest(**self._at))
