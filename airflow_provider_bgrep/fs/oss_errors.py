# SPDX-License-Identifier: Apache-2.0
"""Translates errors of Alibaba's SDK to the ``OSError`` that users of a filesystem expect."""

from __future__ import annotations

import errno
import os
from typing import Any, Final

from alibabacloud_oss_v2 import exceptions as sdk

from airflow_provider_bgrep.protocol.errors import StoreError, reason_of, sanitize_message

_ABSENT: Final = frozenset({"NoSuchKey", "NoSuchVersion", "SymlinkTargetNotExist"})
"""Codes of 404 that are about an object. Of a bucket that is missing, nothing is known about its objects."""

_NO_CODE: Final = "BadErrorResponse"
"""The SDK's code for an answer that is not OSS's XML. Answers to HEAD may have none."""

_TEMPORARY: Final = frozenset({408, 429})


class OssError(StoreError):
    """OSS refused a request, or did not answer.

    :param message: where, and why.
    :param is_final: whether a retry would fail in the same way.
    :param code: OSS's code; empty if there was no answer.
    """

    def __init__(self, message: str, *, is_final: bool, code: str = "") -> None:
        super().__init__(message, is_final=is_final)
        self.code = code


def oss_error(error: BaseException, path: str) -> OSError:
    """Return the exception for an error of the SDK.

    :param error: what the SDK raised.
    :param path: bucket and key, for the message.
    """
    cause = _cause(error)
    where = f"oss://{path}"
    if isinstance(cause, OSError):
        return cause
    if isinstance(cause, sdk.ServiceError):
        return _refusal(cause, where)
    if isinstance(cause, sdk.RequestError | sdk.ResponseError):
        reason = reason_of(cause.unwrap() or cause)
        return OssError(f"{where}: OSS did not answer ({reason})", is_final=False)
    if isinstance(cause, sdk.CredentialsFetchError):
        return OssError(f"{where}: no credentials ({sanitize_message(cause)})", is_final=False)
    if isinstance(cause, sdk.InconsistentError):
        return OssError(f"{where}: the checksum is wrong: the data was damaged on its way", is_final=False)
    return OssError(f"{where}: {reason_of(cause)}", is_final=isinstance(cause, sdk.BaseError))


def _cause(error: BaseException) -> BaseException:
    """The error inside of the SDK's envelopes."""
    while isinstance(error, sdk.BaseError) and not isinstance(error, sdk.RequestError | sdk.ResponseError):
        # CredentialsFetchError has the cause, but no method for it.
        inner = getattr(error, "unwrap", lambda: None)() or error.kwargs.get("error")
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error


def _refusal(error: Any, where: str) -> OSError:
    code, status = str(error.code or ""), int(error.status_code)
    is_head = str(error.request_target).startswith("HEAD ")
    if status == 404 and (code in _ABSENT or (is_head and code == _NO_CODE)):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where)
    if code == "FileAlreadyExists":
        return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), where)
    words = [f"HTTP {status}"]
    words += [f"EC {error.ec}"] if error.ec else []
    words += [f"request {error.request_id}"] if error.request_id else []
    why = f"{code or 'refused'} ({', '.join(words)})"
    if message := sanitize_message(error.message or ""):
        why = f"{why}: {message}"
    if status == 403:
        return PermissionError(errno.EACCES, why, where)
    return OssError(f"{where}: {why}", is_final=status < 500 and status not in _TEMPORARY, code=code)
