# SPDX-License-Identifier: Apache-2.0
"""An object of OSS as an open file."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol

from fsspec.spec import AbstractBufferedFile

if TYPE_CHECKING:
    from airflow_provider_bgrep.fs.oss_downloads import Downloads
    from airflow_provider_bgrep.fs.oss_uploads import MultipartUpload, Uploads

DEFAULT_BLOCK_SIZE: Final = 5 * 1024 * 1024
_SMALLEST_PART: Final = 1024 * 1024
"""OSS takes parts of 100 KiB and more, but at most 10,000 of them."""


class FileSystem(Protocol):
    """What a file uses of its file system, besides what fsspec's base class uses."""

    uploads: Uploads
    downloads: Downloads

    def bucket_and_key(self, path: str) -> tuple[str, str]:
        """Return bucket and key of a path."""


class OssFile(AbstractBufferedFile):
    """An object that is read with read-ahead, or written in one request or in parts.

    What is read stays one version: an object that is replaced meanwhile is an error. What is written appears
    when the file is closed, and not at all if an exception leaves its ``with`` block.

    :param fs: the file system, which is a :class:`FileSystem` and one of fsspec.
    :param path: bucket and key.
    :param mode: ``rb``, ``wb``, or ``xb`` to create the object only if it does not exist.
    :param block_size: bytes to read at once, or of a part.
    """

    def __init__(
        self, fs: FileSystem, path: str, mode: str, block_size: int | None = None, **kwargs: Any
    ) -> None:
        self._upload: MultipartUpload | None = None
        size = block_size or DEFAULT_BLOCK_SIZE
        if mode != "rb":
            size = max(size, _SMALLEST_PART)
        super().__init__(fs, path, mode, block_size=size, **kwargs)

    @property
    def _is_exclusive(self) -> bool:
        return "x" in str(self.mode)

    def _fetch_range(self, start: int, end: int) -> bytes:
        bucket, key = self.fs.bucket_and_key(self.path)
        return bytes(self.fs.downloads.read(bucket, key, start, end, etag=self.details.get("ETag", "")).data)

    def _initiate_upload(self) -> None:
        """Nothing yet: :meth:`_upload_chunk` knows whether the file is small."""

    def _upload_chunk(self, final: bool = False) -> bool:
        data = self.buffer.getvalue()
        bucket, key = self.fs.bucket_and_key(self.path)
        if final and self._upload is None:
            self.fs.uploads.put(bucket, key, data, exclusive=self._is_exclusive)
            return True
        try:
            if self._upload is None:
                self._upload = self.fs.uploads.start(bucket, key, exclusive=self._is_exclusive)
            if data:
                self._upload.add(data)
            if final:
                self._upload.complete()
        except BaseException:
            self.discard()
            raise
        return True

    def discard(self) -> None:
        """Close the file without making the object appear."""
        if self._upload is not None:
            self._upload.abort()
            self._upload = None
        self.closed = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and self.mode != "rb":
            self.discard()
        else:
            self.close()
