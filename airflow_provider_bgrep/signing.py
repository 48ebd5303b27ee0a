# SPDX-License-Identifier: Apache-2.0
"""Presigned URLs of objects on a store: always of signature version 4 on S3."""

from __future__ import annotations

import contextlib
import weakref
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

_EVENT: Final = "choose-signer.s3"
_VERSION_4: Final = "s3v4-query"
_REPLACED: Final = frozenset({"s3-query", "v4-query", "s3v4-query"})
"""Versions of presigned URLs that become version 4. Others are of requests without a signature, to several
regions, or to directory buckets."""

_regions: weakref.WeakKeyDictionary[Any, dict[str, str]] = weakref.WeakKeyDictionary()
"""The regions of buckets that were found out, for each file system; ``""`` where they cannot be."""


class SigningError(Exception):
    """The connection reads the store, but cannot sign its URLs."""


def signed_url(path: ObjectStoragePath, seconds: int) -> str:
    """Return a URL with which anybody can read an object for a while. Log it nowhere.

    On S3 it has signature version 4 (``X-Amz-Algorithm=AWS4-HMAC-SHA256``), for the bucket's region. By
    default, botocore presigns with version 2 in older regions, which buckets with SSE-KMS refuse.

    :param path: the object.
    :param seconds: how long the signature is valid.
    :raises Exception: whatever the store's library raises if it cannot sign.
    """
    fs = path.fs
    url = str((_signed_by_s3(fs, path.path, seconds) if _is_s3(fs) else fs.sign(path.path, seconds)) or "")
    if _is_s3(fs) and not fs.anon and "X-Amz-Signature=" not in url:
        raise SigningError("the connection signs requests by other means, and cannot sign URLs")
    if not url.startswith(("http://", "https://")):
        raise SigningError("the store does not return a URL")
    return url


def credential_seconds(path: ObjectStoragePath) -> float | None:
    """Return for how many seconds the credentials of a store stay valid. What they signed ends with them.

    :param path: a path in the store.
    :return: ``None`` if the credentials are permanent, or if their end is not known.
    """
    fs = path.fs
    if hasattr(fs, "credential_seconds"):  # OSS's
        with contextlib.suppress(Exception):  # only a warning depends on it
            return cast("float | None", fs.credential_seconds())
    if not _is_s3(fs):
        return None
    from fsspec.asyn import sync

    with contextlib.suppress(Exception):  # only a warning depends on it
        end = sync(fs.loop, _expiry, fs)
        if isinstance(end, datetime):
            return (end - datetime.now(UTC)).total_seconds()
    return None


def _is_s3(fs: Any) -> bool:
    return hasattr(fs, "get_s3") and hasattr(fs, "call_s3")


async def _client(fs: Any, bucket: str) -> Any:
    await fs.set_session()
    return await fs.get_s3(bucket)


async def _expiry(fs: Any) -> Any:
    client = await _client(fs, "")
    credentials = client._request_signer._credentials  # there is no public way to ask
    await credentials.get_frozen_credentials()  # the first time, this requests them
    return getattr(credentials, "_expiry_time", None)


def _signed_by_s3(fs: Any, path: str, seconds: int) -> str:
    """Presign with signature version 4, for the bucket's region.

    s3fs makes a new client now and then, so one and the same is prepared and asked here. Requests that are
    sent are not affected: botocore signs those with version 4 anyway.
    """
    from fsspec.asyn import sync

    bucket, key, version = fs.split_path(path)
    regions = _regions.setdefault(fs, {})
    if bucket not in regions:
        endpoint = sync(fs.loop, _client, fs, bucket).meta.endpoint_url
        is_aws = ".amazonaws.com" in endpoint and not bucket.startswith("arn:")
        regions[bucket] = _region_of(fs, bucket) if is_aws else ""
    parameters = {"Bucket": bucket, "Key": key, **({"VersionId": version} if version else {})}
    return str(sync(fs.loop, _presigned, fs, regions, parameters, seconds))


async def _presigned(fs: Any, regions: dict[str, str], parameters: dict[str, str], seconds: int) -> str:
    client = await _client(fs, parameters["Bucket"])
    # Before the handler of botocore that chooses version 2. Registered once for each client: it has an id.
    handler = partial(_choose_version, regions)
    client.meta.events.register_first(_EVENT, handler, unique_id="bgrep-presign")
    return str(await client.generate_presigned_url("get_object", parameters, seconds))


def _region_of(fs: Any, bucket: str) -> str:
    """Return the region of a bucket; ``""`` if it cannot be found out.

    Version 4 covers the region, version 2 does not. Clients find out that a bucket is in another region than
    their own when they send a request, but botocore signs URLs for the client's region all the same.
    """
    try:
        answer = fs.call_s3("head_bucket", Bucket=bucket)
    except Exception as error:  # without the right to list, the answer has the region as well
        answer = getattr(error.__cause__, "response", {})
    return str(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region", ""))


def _choose_version(
    regions: dict[str, str], signature_version: Any, context: dict[str, Any], **kwargs: Any
) -> str | None:
    """Choose the signature version, and for a presigned URL the region. A handler of botocore's event.

    :return: ``None`` for botocore's own choice.
    """
    if signature_version not in _REPLACED:
        return None
    if region := regions.get(context.get("s3_redirect", {}).get("bucket", "")):
        context["signing"] = {**context.get("signing", {}), "region": region}
    return _VERSION_4
