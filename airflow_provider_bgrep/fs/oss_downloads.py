# SPDX-License-Identifier: Apache-2.0
"""Reads objects of OSS, whole or in ranges of one version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import alibabacloud_oss_v2 as oss
from alibabacloud_oss_v2.crc import Crc64

from airflow_provider_bgrep.fs.oss_errors import OssError, oss_error

_BLOCK_SIZE: Final = 8 * 1024 * 1024

_CRC: Final = "x-oss-hash-crc64ecma"


@dataclass(frozen=True, slots=True)
class Content:
    """A range of an object.

    :param data: its bytes.
    :param size: bytes of the whole object.
    :param etag: the object's ETag.
    :param crc64: CRC64 of the whole object, as decimal digits; empty if the store does not know it.
    """

    data: bytes
    size: int
    etag: str
    crc64: str


class Downloads:
    """Reads objects.

    :param client: the client to read with.
    :param block_size: bytes of a block of a large object. A block that breaks off is read again.
    """

    def __init__(self, client: oss.Client, block_size: int = _BLOCK_SIZE) -> None:
        self._client = client
        self._block_size = block_size

    def read(
        self, bucket: str, key: str, start: int = 0, end: int | None = None, *, etag: str = ""
    ) -> Content:
        """Return a range of an object, or all of it.

        The whole answer is read within the SDK's attempt, so that its retries include one that breaks off.

        :param start: first byte; a range that begins behind the object is empty.
        :param end: the byte after the last; ``None`` for the end of the object.
        :param etag: read only an object with this ETag.
        :raises FileNotFoundError: if the object does not exist.
        :raises OSError: for other errors, and if the object has another ETag.
        """
        headers: dict[str, str] = {"If-Match": etag} if etag else {}
        handlers = []
        if start or end is not None:
            last = "" if end is None else str(end - 1)
            # Without the second header, OSS answers an invalid range with the whole object.
            headers |= {"Range": f"bytes={start}-{last}", "x-oss-range-behavior": "standard"}
        else:
            handlers = [_check_crc]
        operation = oss.OperationInput(
            op_name="GetObject",
            method="GET",
            headers=oss.CaseInsensitiveDict(headers),
            bucket=bucket,
            key=key,
            op_metadata={"opm-response-handler": handlers},
        )
        try:
            output = self._client.invoke_operation(operation)
        except Exception as error:
            failure = oss_error(error, f"{bucket}/{key}")
            code = failure.code if isinstance(failure, OssError) else ""
            if code == "InvalidRange":
                return Content(b"", 0, "", "")
            if code == "PreconditionFailed":
                raise OssError(
                    f"oss://{bucket}/{key} was replaced while it was read", is_final=False, code=code
                ) from error
            raise failure from error
        data = bytes(output.http_response.content)
        total = (output.headers.get("Content-Range") or "").rpartition("/")[2]
        return Content(
            data,
            int(total) if total.isdigit() else len(data),
            str(output.headers.get("ETag") or ""),
            str(output.headers.get(_CRC) or ""),
        )

    def blocks(self, bucket: str, key: str) -> Iterator[bytes]:
        """Yield the bytes of an object in blocks, of one version; one empty block for an empty object.

        :raises OSError: as in :meth:`read`, and if the checksum is wrong.
        """
        content = self.read(bucket, key, 0, self._block_size)
        crc, done = Crc64(0), 0
        while True:
            yield content.data
            crc.update(content.data)
            done += len(content.data)
            if done >= content.size:
                break
            content = self.read(bucket, key, done, done + self._block_size, etag=content.etag)
            if not content.data:
                raise OssError(f"oss://{bucket}/{key} ended after {done} bytes", is_final=False)
        if content.crc64 and int(content.crc64) != crc.sum64():
            raise OssError(f"oss://{bucket}/{key}: the checksum of what was read is wrong", is_final=False)


def _check_crc(response: Any) -> None:
    expected = response.headers.get(_CRC)
    if expected:
        crc = Crc64(0)
        crc.update(response.content)
        if int(expected) != crc.sum64():
            raise oss.exceptions.InconsistentError(client_crc=crc.sum64(), server_crc=expected)
