# SPDX-License-Identifier: Apache-2.0
"""OSS as an fsspec filesystem: synchronous, safe for many threads, and without a cache of listings."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

import alibabacloud_oss_v2 as oss
from fsspec import AbstractFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK

from airflow_provider_bgrep.fs.oss_client import make_client
from airflow_provider_bgrep.fs.oss_connection import OssSettings
from airflow_provider_bgrep.fs.oss_credentials import credentials_of
from airflow_provider_bgrep.fs.oss_downloads import Downloads
from airflow_provider_bgrep.fs.oss_errors import oss_error
from airflow_provider_bgrep.fs.oss_file import OssFile
from airflow_provider_bgrep.fs.oss_presigner import Presigner
from airflow_provider_bgrep.fs.oss_uploads import Uploads

_MOST_KEYS: Final = 1000
"""Keys of one listing or one deletion; OSS allows no more."""


class OssFileSystem(AbstractFileSystem):
    """Alibaba Cloud's Object Storage Service.

    Paths are ``bucket/key``. Folders are prefixes of keys: they need not be made, and an empty one does not
    exist. A bucket is neither made nor deleted.

    :param settings: the connection.
    :param page_size: keys of one answer to a listing.
    """

    protocol = "oss"
    root_marker = ""
    cachable = False  # fsspec would make one instance for each thread; see oss.filesystem_of

    def __init__(self, settings: OssSettings, page_size: int = _MOST_KEYS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._page_size = page_size
        self.console_region = settings.region if ".aliyuncs.com" in settings.endpoint else ""
        """The region in URLs of the console; empty if the endpoint is not one of Alibaba Cloud's own."""
        credentials = credentials_of(settings)
        self._client = make_client(settings, settings.endpoint, credentials)
        presign_client = make_client(settings, settings.presign_endpoint, credentials)
        self._presigner = Presigner(presign_client, credentials)
        self.uploads = Uploads(self._client, settings)
        self.downloads = Downloads(self._client)

    # --- paths ------------------------------------------------------------------------------------

    def bucket_and_key(self, path: str) -> tuple[str, str]:
        """Return the bucket and the key of an object.

        :raises ValueError: if there is no key, or HTTP would make another of it.
        """
        bucket, key = self._split(path)
        if not bucket or not key:
            raise ValueError(f"oss://{bucket} names no object; give oss://bucket/key")
        if not {".", ".."}.isdisjoint(key.split("/")):
            raise ValueError(f"oss://{bucket}/{key} cannot be used: a component of the key is '.' or '..'")
        return bucket, key

    def _split(self, path: str) -> tuple[str, str]:
        bucket, _, key = self._strip_protocol(path).lstrip("/").partition("/")
        return bucket, key

    # --- what is there ------------------------------------------------------------------------------

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return name, size, type, ``ETag``, ``LastModified`` and ``crc64ecma`` of an object, or a folder.

        :raises FileNotFoundError: if there is neither.
        """
        bucket, key = self._split(path)
        if key:
            with contextlib.suppress(FileNotFoundError):
                return self._file_info(path)
        prefix = f"{key}/" if key else ""
        page = next(self._pages(bucket, prefix, "", limit=1))
        if key and not (page.contents or page.common_prefixes):
            raise FileNotFoundError(f"oss://{bucket}/{key}")
        return _folder(f"{bucket}/{key}".rstrip("/"))

    def _file_info(self, path: str) -> dict[str, Any]:
        bucket, key = self.bucket_and_key(path)
        try:
            head = self._client.head_object(oss.HeadObjectRequest(bucket=bucket, key=key))
        except Exception as error:
            raise oss_error(error, f"{bucket}/{key}") from error
        found = _file(f"{bucket}/{key}", head.content_length, head.etag, head.last_modified)
        found["ContentType"] = head.content_type
        if head.hash_crc64:
            found["crc64ecma"] = head.hash_crc64
        return found

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Return whether there is such an object or folder. Unlike fsspec's own, it raises other errors."""
        try:
            self.info(path, **kwargs)
        except FileNotFoundError:
            return False
        return True

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """Return what is in a folder, as OSS lists it now: there is no cache to refresh.

        :param detail: whether to return what :meth:`info` does, without ``crc64ecma``; else names.
        :raises FileNotFoundError: if there is no such folder or object.
        """
        found = [one for page in self.ls_pages(path) for one in page]
        return found if detail else [one["name"] for one in found]

    def ls_pages(self, path: str) -> Iterator[list[dict[str, Any]]]:
        """Yield what is in a folder in pages of up to 1,000 entries, each of which is one request.

        :raises FileNotFoundError: if there is no such folder or object.
        """
        bucket, key = self._split(path)
        is_there = not key
        for page in self.pages_below(bucket, f"{key}/" if key else ""):
            is_there = True
            yield page
        if not is_there:
            yield [self._file_info(path)]

    def pages_below(self, bucket: str, prefix: str) -> Iterator[list[dict[str, Any]]]:
        """Yield the objects and folders below a prefix in pages of up to 1,000 entries, each of which is one
        request; nothing if there are none.

        :param prefix: ``""``, or what ends in a slash. Unlike a path, it may end in several.
        """
        for page in self._pages(bucket, prefix, "/"):
            if not (page.contents or page.common_prefixes):
                continue
            folders = [one.prefix.removesuffix("/") for one in page.common_prefixes or ()]
            # A key that ends in a slash is how consoles make a folder.
            objects = [one for one in page.contents or () if one.key != prefix]
            yield [_folder(f"{bucket}/{name}") for name in folders] + [
                _listed(bucket, one) for one in objects
            ]

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return all objects below a folder, by one listing.

        :param maxdepth: how deep; ``None`` for everything.
        :param withdirs: whether to include folders.
        :param detail: whether to return what :meth:`ls` does, by name; else a sorted list of names.
        """
        if maxdepth is not None:
            return super().find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail, **kwargs)
        bucket, key = self._split(path)
        top = f"{bucket}/{key}".rstrip("/")
        found: dict[str, dict[str, Any]] = {}
        for page in self._pages(bucket, f"{key}/" if key else "", ""):
            for one in page.contents or ():
                name = f"{bucket}/{one.key}"
                if withdirs:
                    found |= {
                        folder: _folder(folder) for folder in _folders(top, name) if folder not in found
                    }
                if not name.endswith("/"):
                    found[name] = _listed(bucket, one)
        if not found and key:
            with contextlib.suppress(FileNotFoundError):
                found[top] = self._file_info(top)
        names = sorted(found)
        return {name: found[name] for name in names} if detail else names

    def _pages(self, bucket: str, prefix: str, delimiter: str, limit: int = 0) -> Iterator[Any]:
        if not bucket:
            raise ValueError("oss:// names no bucket; give oss://bucket/key")
        request = oss.ListObjectsV2Request(
            bucket=bucket,
            prefix=prefix or None,
            delimiter=delimiter or None,
            max_keys=limit or self._page_size,
        )
        try:
            yield from self._client.list_objects_v2_paginator().iter_page(request)
        except Exception as error:
            raise oss_error(error, f"{bucket}/{prefix}") from error

    def modified(self, path: str) -> datetime:
        """Return when an object was last written."""
        found: datetime = self._file_info(path)["LastModified"]
        return found

    def created(self, path: str) -> datetime:
        """Return when an object was last written: OSS keeps no other time."""
        return self.modified(path)

    def checksum(self, path: str) -> int:
        """Return the CRC64 of an object's content, or a number from its ETag if there is none."""
        info = self._file_info(path)
        return int(info["crc64ecma"]) if "crc64ecma" in info else int(_digest(str(info["ETag"])), 16)

    def ukey(self, path: str) -> str:
        """Return a text that changes with an object."""
        info = self._file_info(path)
        return _digest(f"{info['ETag']} {info['size']} {info['LastModified']}")

    # --- reading ------------------------------------------------------------------------------------

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Return an object's bytes, or a range of them; negative numbers count from its end."""
        bucket, key = self.bucket_and_key(path)
        if (start or 0) < 0 or (end or 0) < 0:
            size = int(self._file_info(path)["size"])
            start, end = (
                max(0, size + place) if place is not None and place < 0 else place for place in (start, end)
            )
        if end is not None and end <= (start or 0):
            return b""
        return self.downloads.read(bucket, key, start or 0, end).data

    def get_file(self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, **kwargs: Any) -> None:
        """Copy an object to a local file, which is removed again if reading breaks off.

        :param lpath: path of the file. Of a folder, a local folder is made.
        """
        bucket, key = self.bucket_and_key(rpath)
        local = Path(os.fspath(lpath))
        blocks = self.downloads.blocks(bucket, key)
        try:
            first = next(blocks)
        except FileNotFoundError:
            if not self.isdir(rpath):
                raise
            local.mkdir(parents=True, exist_ok=True)
            return
        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            with local.open("wb") as file:
                for block in chain((first,), blocks):
                    file.write(block)
        except BaseException:
            local.unlink(missing_ok=True)
            raise
        size = local.stat().st_size
        callback.set_size(size)
        callback.relative_update(size)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> OssFile:
        if mode not in ("rb", "wb", "xb") or not autocommit:
            raise NotImplementedError(
                f"OSS opens files with 'rb', 'wb' or 'xb', without transactions, not {mode!r}"
            )
        self.bucket_and_key(path)
        file = OssFile(self, path, mode, block_size, cache_options=cache_options, **kwargs)
        if mode == "rb" and file.details["type"] == "directory":
            raise IsADirectoryError(f"oss://{path}")
        return file

    # --- writing ------------------------------------------------------------------------------------

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Write an object.

        :param mode: ``create`` to write only if it does not exist.
        :raises FileExistsError: if it exists, and ``mode`` is ``create``.
        :raises ExclusiveCreationError: if the bucket keeps versions, and ``mode`` is ``create``.
        """
        bucket, key = self.bucket_and_key(path)
        self.uploads.put(bucket, key, bytes(value), exclusive=mode == "create")

    def put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: Any = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> None:
        """Copy a local file to an object, a large one in several parts.

        :param mode: as in :meth:`pipe_file`.
        """
        local = Path(os.fspath(lpath))
        if local.is_dir():
            return  # folders need not be made
        bucket, key = self.bucket_and_key(rpath)
        self.uploads.put_file(bucket, key, str(local), exclusive=mode == "create")
        size = local.stat().st_size
        callback.set_size(size)
        callback.relative_update(size)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy an object within OSS."""
        try:
            self.uploads.copy(self.bucket_and_key(path1), self.bucket_and_key(path2))
        except FileNotFoundError:
            if not self.isdir(path1):  # folders need not be made
                raise

    def rm_file(self, path: str) -> None:
        """Delete an object. One that does not exist is not an error."""
        bucket, key = self.bucket_and_key(path)
        try:
            self._client.delete_object(oss.DeleteObjectRequest(bucket=bucket, key=key))
        except Exception as error:
            raise oss_error(error, f"{bucket}/{key}") from error

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete objects.

        :param path: one, or several; a pattern is expanded.
        :param recursive: whether to delete everything below folders.
        :raises FileNotFoundError: if there is no such object or folder.
        """
        if not recursive or maxdepth is not None:
            super().rm(path, recursive=recursive, maxdepth=maxdepth)
            return
        for one in self.expand_path(path):
            bucket, key = self._split(one)
            is_folder = not key
            for page in self._pages(bucket, f"{key}/" if key else "", ""):
                is_folder = is_folder or bool(page.contents)
                self._delete(bucket, [found.key for found in page.contents or ()])
            if not is_folder:
                self._file_info(one)  # an error if there is neither folder nor object
                self.rm_file(one)

    def _delete(self, bucket: str, keys: list[str]) -> None:
        if not keys:
            return
        request = oss.DeleteMultipleObjectsRequest(
            bucket=bucket, objects=[oss.DeleteObject(key=key) for key in keys], quiet=True
        )
        try:
            self._client.delete_multiple_objects(request)
        except Exception as error:
            raise oss_error(error, bucket) from error

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Do nothing: folders need not be made."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing: folders need not be made."""

    # --- the bucket and its credentials -------------------------------------------------------------

    def bucket_versioning(self, path: str) -> str:
        """Return ``Enabled`` or ``Suspended``; ``""`` for a bucket that has never kept versions.

        :raises PermissionError: if the right ``oss:GetBucketVersioning`` is missing.
        """
        return self.uploads.versioning.status(self._split(path)[0])

    def credential_seconds(self) -> float | None:
        """Return how long the credentials are valid; ``None`` if they are permanent, or if it is unknown."""
        return self._presigner.credential_seconds()

    # --- signing ------------------------------------------------------------------------------------

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> str:
        """Return a URL that reads an object without credentials. Log it nowhere.

        It is for the connection's ``presign_endpoint``. With temporary credentials it is not valid for longer
        than they are.

        :param expiration: how long it is valid, in seconds: at most 7 days.
        :raises ValueError: if that is longer.
        :raises PermissionError: if the credentials have expired.
        """
        bucket, key = self.bucket_and_key(path)
        return self._presigner.url(bucket, key, int(expiration))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _folder(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}


def _file(name: str, size: int | None, etag: str | None, modified: datetime | None) -> dict[str, Any]:
    return {
        "name": name,
        "size": int(size or 0),
        "type": "file",
        "ETag": etag or "",
        "LastModified": modified.astimezone(UTC) if modified else None,
    }


def _listed(bucket: str, entry: Any) -> dict[str, Any]:
    return _file(f"{bucket}/{entry.key}", entry.size, entry.etag, entry.last_modified)


def _folders(top: str, name: str) -> Iterator[str]:
    """The folders of an object, from ``top`` down."""
    yield top
    place = len(top)
    while (place := name.find("/", place + 1)) > 0:
        yield name[:place]
