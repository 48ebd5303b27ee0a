# SPDX-License-Identifier: Apache-2.0
"""Which operation a request asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from airflow_provider_bgrep.oss_emulator import bucket_operations, listing, multipart, objects, reads
from airflow_provider_bgrep.oss_emulator.errors import OssError, not_implemented
from airflow_provider_bgrep.oss_emulator.hosts import is_bucket_name
from airflow_provider_bgrep.oss_emulator.messages import Answer, Request
from airflow_provider_bgrep.oss_emulator.store import Call

Operation = Callable[[Call], Answer]

OPERATIONS: Final[dict[str, Operation]] = {
    "AbortMultipartUpload": multipart.abort_multipart_upload,
    "AppendObject": objects.append_object,
    "CompleteMultipartUpload": multipart.complete_multipart_upload,
    "CopyObject": objects.copy_object,
    "DeleteBucket": bucket_operations.delete_bucket,
    "DeleteMultipleObjects": objects.delete_multiple_objects,
    "DeleteObject": objects.delete_object,
    "GetBucketAcl": bucket_operations.get_bucket_acl,
    "GetBucketInfo": bucket_operations.get_bucket_info,
    "GetBucketLocation": bucket_operations.get_bucket_location,
    "GetBucketVersioning": bucket_operations.get_bucket_versioning,
    "GetObject": reads.get_object,
    "GetObjectMeta": reads.get_object_meta,
    "HeadObject": reads.head_object,
    "InitiateMultipartUpload": multipart.initiate_multipart_upload,
    "ListBuckets": bucket_operations.list_buckets,
    "ListMultipartUploads": multipart.list_multipart_uploads,
    "ListObjectVersions": listing.list_object_versions,
    "ListObjects": listing.list_objects,
    "ListObjectsV2": listing.list_objects_v2,
    "ListParts": multipart.list_parts,
    "PutBucket": bucket_operations.put_bucket,
    "PutBucketVersioning": bucket_operations.put_bucket_versioning,
    "PutObject": objects.put_object,
    "UploadPart": multipart.upload_part,
    "UploadPartCopy": multipart.upload_part_copy,
}
"""The operations by the names of their pages."""

_OF_BUCKET: Final = {
    ("GET", ""): "ListObjects",
    ("GET", "acl"): "GetBucketAcl",
    ("GET", "bucketInfo"): "GetBucketInfo",
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "location"): "GetBucketLocation",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "versioning"): "GetBucketVersioning",
    ("GET", "versions"): "ListObjectVersions",
    ("PUT", ""): "PutBucket",
    ("PUT", "versioning"): "PutBucketVersioning",
    ("POST", "delete"): "DeleteMultipleObjects",
    ("DELETE", ""): "DeleteBucket",
}
_OF_OBJECT: Final = {
    ("GET", ""): "GetObject",
    ("GET", "uploadId"): "ListParts",
    ("HEAD", ""): "HeadObject",
    ("HEAD", "objectMeta"): "GetObjectMeta",
    ("PUT", ""): "PutObject",
    ("PUT", "uploadId"): "UploadPart",
    ("POST", "append"): "AppendObject",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("POST", "uploads"): "InitiateMultipartUpload",
    ("DELETE", ""): "DeleteObject",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
}
_COPIES: Final = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}
_SUBRESOURCES: Final = tuple(
    "acl append bucketInfo cors delete encryption inventory lifecycle list-type live location logging meta "
    "objectMeta policy qos referer replication restore seal stat style symlink tagging transferAcceleration "
    "uploadId uploads versioning versions website worm x-oss-process x-oss-async-process".split()
)
_CONDITIONS: Final = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
_LENGTHS: Final = {"content-length", "transfer-encoding"}
_LONGEST_KEY: Final = 1023


def operation_of(request: Request) -> str:
    """Return the name of the operation that a request asks for.

    :raises OssError: 501 for an operation of OSS that the emulator does not have.
    """
    subresource = next((name for name in _SUBRESOURCES if name in request.query), "")
    if request.bucket is None:
        name = "ListBuckets" if request.method == "GET" and not subresource else None
    elif request.key:
        name = _OF_OBJECT.get((request.method, subresource))
        if name and "x-oss-copy-source" in request.headers:
            name = _COPIES.get(name, name)
    else:
        name = _OF_BUCKET.get((request.method, subresource))
    if name is None:
        message = f"The emulator has no {request.method} for {subresource or 'this resource'}."
        raise OssError(501, "NotImplemented", message)
    return name


def check_request(request: Request, operation: str) -> None:
    """Refuse what OSS refuses whoever sends it.

    - Conditions on PutObject (page "0017-00000245"; the page mentions status 400, and the S3-compatible
      endpoint has been seen to answer 501, as this does).
    - Uploads in the encoding ``aws-chunked`` (page "0017-00000804").
    - Keys that are longer than 1,023 bytes or begin with a slash or backslash (page "Objects").
    - Uploads without a length (page "PutObject").

    :raises OssError: the error.
    """
    if request.method in ("PUT", "POST") and not _LENGTHS & set(request.headers):
        raise OssError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
    if operation == "PutObject":
        for header in _CONDITIONS:
            if header in request.headers:
                raise not_implemented(header.title())
    if "aws-chunked" in request.header("content-encoding").lower():
        message = "aws-chunked encoding is not supported with the specified x-amz-content-sha256 value."
        elements = {"ArgumentName": "Content-Encoding", "ArgumentValue": "aws-chunked"}
        raise OssError(400, "InvalidArgument", message, "0017-00000804", elements)
    if request.bucket is not None and not is_bucket_name(request.bucket):
        message = "The specified bucket is not valid."
        raise OssError(400, "InvalidBucketName", message, "", {"BucketName": request.bucket})
    if len(request.key.encode()) > _LONGEST_KEY or request.key.startswith(("/", "\\")):
        raise OssError(400, "InvalidObjectName", "The specified object is not valid.")
