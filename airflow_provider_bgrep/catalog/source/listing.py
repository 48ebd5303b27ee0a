# SPDX-License-Identifier: Apache-2.0
"""Lists a folder on object storage, as far as that costs less than to ask for its images one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.storage import fresh_fs

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

PAGE_COST: Final = 12
"""Single requests that cost as much as one page of a listing. On S3, a page has 1,000 objects, is billed like
12 requests for one object, and takes longer than 16 of them at once."""

WHOLE_ABOVE: Final = 1_000
"""Images of one folder above which it is listed on a store that cannot be listed page by page. The folder may
have any number of other objects, and all of them are read."""

Info = dict[str, Any]
"""What a file system says of an object, at least ``name`` and ``type``."""


def pages_of(path: ObjectStoragePath, count: int) -> Iterator[list[Info]]:
    """Yield the pages of a folder's listing, until one more would not be worth it.

    The folder is that of a path and not a path itself, which would lose the slash of an empty name:
    ``shop/in//0.png`` is not in the folder ``shop/in``.

    :param path: anything in the folder.
    :param count: how many of its objects are wanted.
    :return: pages; the caller stops as soon as it has what it wants. The last page is followed by an empty
        one if the listing is complete.
    """
    folder = path.path.rpartition("/")[0]
    if hasattr(path.fs, "pages_below"):  # OSS's
        bucket, _, key = folder.partition("/")
        pages = path.fs.pages_below(bucket, f"{key}/" if "/" in folder else "")
        for _ in range(count // PAGE_COST):
            page = next(pages, None)
            yield page or []
            if page is None:
                return
        return
    if not hasattr(path.fs, "call_s3"):
        if count > WHOLE_ABOVE and not folder.endswith("/"):  # file systems remove it
            yield fresh_fs(path).ls(folder, detail=True)
            yield []
        return
    bucket, key, _ = path.fs.split_path(path.path)
    prefix = key.removesuffix(key.rpartition("/")[2])
    token: dict[str, str] = {}
    for _ in range(count // PAGE_COST):
        page = path.fs.call_s3(
            "list_objects_v2",
            Bucket=bucket,
            Prefix=prefix,
            Delimiter="/",
            **token,
            **path.fs.req_kw,
        )
        objects = [{**one, "name": one["Key"], "type": "file"} for one in page.get("Contents", ())]
        folders = [
            {"name": one["Prefix"].removesuffix("/"), "type": "directory"}
            for one in page.get("CommonPrefixes", ())
        ]
        yield [*objects, *folders]
        if not page.get("IsTruncated"):
            yield []
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}
