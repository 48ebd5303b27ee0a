# SPDX-License-Identifier: Apache-2.0
"""The errors of OSS that the emulator answers, with status, code, message and EC.

The form is that of the page "Error responses". The EC (``x-oss-ec``) identifies one cause of an error, and is
the name of the page that describes it. Errors whose page could not be found have no EC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

THROTTLING: Final = {
    "TotalQpsLimitExceeded": "Max total qps limit is exceeded",
    "MetaOperationQpsLimitExceeded": "Qps limit for the meta operation is exceeded",
    "UploadTrafficRateLimitExceeded": "Please reduce your upload request traffic",
    "DownloadTrafficRateLimitExceeded": "Please reduce your download request traffic",
    "ActiveRequestLimitExceeded": "Max active request limit is exceeded",
    "CpuLimitExceeded": "Please reduce your request rate",
    "ServiceUnavailable": "Thread pool is almost full, please retry later",
}
"""Codes and messages of the page "HTTP status code 503"."""


class OssError(Exception):
    """An error that is answered as XML.

    :param status: the HTTP status.
    :param code: the code, such as ``NoSuchKey``.
    :param message: the service's message.
    :param ec: the EC, or an empty text.
    :param elements: further elements of the XML.
    :param headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        ec: str = "",
        elements: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message, self.ec = status, code, message, ec
        self.elements, self.headers = dict(elements or {}), dict(headers or {})


def access_denied(message: str, ec: str = "", **elements: str) -> OssError:
    """403 AccessDenied."""
    return OssError(403, "AccessDenied", message, ec, elements)


def invalid_argument(message: str, name: str, value: str, ec: str = "") -> OssError:
    """400 InvalidArgument, for one parameter or header."""
    elements = {"ArgumentName": name, "ArgumentValue": value}
    return OssError(400, "InvalidArgument", message, ec, elements)


def no_such_bucket(name: str) -> OssError:
    """404 NoSuchBucket (page "GetBucketInfo")."""
    message = "The specified bucket does not exist."
    return OssError(404, "NoSuchBucket", message, "0015-00000101", {"BucketName": name})


def no_such_key(key: str, headers: Mapping[str, str] | None = None) -> OssError:
    """404 NoSuchKey (page "GetObject")."""
    message = "The specified key does not exist."
    return OssError(404, "NoSuchKey", message, "0026-00000001", {"Key": key}, headers)


def no_such_version(key: str, version_id: str) -> OssError:
    """404 NoSuchVersion."""
    message = "The specified version does not exist."
    return OssError(404, "NoSuchVersion", message, "", {"Key": key, "VersionId": version_id})


def no_such_upload(upload_id: str) -> OssError:
    """404 NoSuchUpload."""
    message = (
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been "
        "aborted or completed."
    )
    return OssError(404, "NoSuchUpload", message, "", {"UploadId": upload_id})


def file_already_exists() -> OssError:
    """409 FileAlreadyExists (page "0026-00000002")."""
    message = "The object you specified already exists and can not be overwritten."
    return OssError(409, "FileAlreadyExists", message, "0026-00000002")


def delete_marker(method: str, headers: Mapping[str, str]) -> OssError:
    """405 for a version that is a delete marker (page "GetObject")."""
    message = "The specified method is not allowed against this resource."
    elements = {"Method": method, "ResourceType": "DeleteMarker"}
    return OssError(405, "MethodNotAllowed", message, "", elements, {**headers, "Allow": "DELETE"})


def not_modified(etag: str) -> OssError:
    """304, which has no body."""
    return OssError(304, "NotModified", "Not Modified", "", None, {"ETag": etag})


def precondition_failed(condition: str) -> OssError:
    """412 PreconditionFailed."""
    message = "At least one of the pre-conditions you specified did not hold."
    return OssError(412, "PreconditionFailed", message, "", {"Condition": condition})


def not_implemented(header: str) -> OssError:
    """501 for a header that stands for a function that OSS does not have (page "0017-00000245")."""
    message = "A header you provided implies functionality that is not implemented."
    return OssError(501, "NotImplemented", message, "0017-00000245", {"Header": header})


def malformed_xml() -> OssError:
    """400 MalformedXML (page "0031-00000001")."""
    message = "The XML you provided was not well-formed or did not validate against our published schema."
    return OssError(400, "MalformedXML", message, "0031-00000001")


def invalid_digest(
    message: str = "The Content-MD5 you specified did not match what we received.",
) -> OssError:
    """400 InvalidDigest (page "UploadPart")."""
    return OssError(400, "InvalidDigest", message)
