# SPDX-License-Identifier: Apache-2.0
"""Errors of the SDK become those that users of a filesystem expect, short and without secrets."""

from __future__ import annotations

import pytest
import requests
from alibabacloud_oss_v2 import exceptions as sdk
from alibabacloud_oss_v2.uploader import UploadError

from airflow_provider_bgrep.fs.oss_errors import OssError, oss_error
from airflow_provider_bgrep.protocol.errors import StoreError


def refusal(status: int, code: str, message: str = "", method: str = "GET") -> sdk.OperationError:
    error = sdk.ServiceError(
        status_code=status,
        code=code,
        message=message,
        request_id="5F",
        ec="0002",
        timestamp=None,
        request_target=f"{method} https://shop.oss-cn-hangzhou.aliyuncs.com/a?x-oss-signature=canary",
    )
    return sdk.OperationError(name="GetObject", error=error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refusal(404, "NoSuchKey"), FileNotFoundError),
        (refusal(404, "BadErrorResponse", method="HEAD"), FileNotFoundError),
        (refusal(409, "FileAlreadyExists"), FileExistsError),
        (refusal(403, "AccessDenied"), PermissionError),
    ],
)
def test_common_errors_are_those_of_the_standard_library(error: Exception, kind: type[OSError]):
    found = oss_error(error, "shop/a.txt")
    assert type(found) is kind
    assert "oss://shop/a.txt" in str(found)


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (refusal(404, "NoSuchBucket"), True),
        (refusal(404, "BadErrorResponse"), True),  # perhaps of a proxy: nothing is known of the object
        (refusal(404, "NoSuchUpload"), True),
        (refusal(409, "FileImmutable"), True),
        (refusal(400, "InvalidArgument"), True),
        (refusal(429, "QpsLimitExceeded"), False),
        (refusal(503, "TotalQpsLimitExceeded"), False),
        (
            sdk.OperationError(name="GetObject", error=sdk.RequestError(error=requests.ConnectionError())),
            False,
        ),
        (sdk.OperationError(name="GetObject", error=sdk.ResponseError(error=requests.ReadTimeout())), False),
        (
            sdk.OperationError(name="PutObject", error=sdk.InconsistentError(client_crc=1, server_crc=2)),
            False,
        ),
        (sdk.OperationError(name="PutObject", error=sdk.BucketNameInvalidError(name="A")), True),
        (RuntimeError("a bug"), False),
    ],
)
def test_others_say_whether_a_retry_may_help(error: Exception, is_final: bool):
    found = oss_error(error, "shop/a.txt")
    assert isinstance(found, OssError)
    assert found.is_final is is_final


def test_an_error_is_found_inside_of_all_envelopes():
    inner = refusal(503, "TotalQpsLimitExceeded", "Slow down.\nPlease")
    error = oss_error(UploadError(upload_id="", path="oss://shop/a", error=inner), "shop/a")
    assert isinstance(error, OssError)
    assert error.code == "TotalQpsLimitExceeded"
    assert str(error) == (
        "oss://shop/a: TotalQpsLimitExceeded (HTTP 503, EC 0002, request 5F): Slow down. Please"
    )


def test_an_error_of_the_source_of_credentials_stays_itself():
    ours = StoreError("no role", is_final=False)
    error = sdk.OperationError(name="GetObject", error=sdk.CredentialsFetchError(error=ours))
    assert oss_error(error, "shop/a") is ours
    error = sdk.OperationError(name="GetObject", error=sdk.CredentialsFetchError(error=KeyError("x")))
    assert isinstance(oss_error(error, "shop/a"), OssError)


def test_no_message_has_a_signature():
    for status in (403, 500):
        assert "canary" not in str(oss_error(refusal(status, "X"), "shop/a"))
