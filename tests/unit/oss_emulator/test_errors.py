# SPDX-License-Identifier: Apache-2.0
"""The errors: what they carry."""

from __future__ import annotations

from airflow_provider_bgrep.oss_emulator import errors


def test_an_error_names_status_code_and_message():
    error = errors.no_such_key("a")
    assert str(error) == "404 NoSuchKey: The specified key does not exist."
    assert (error.ec, error.elements) == ("0026-00000001", {"Key": "a"})


def test_throttling_has_the_codes_of_its_page():
    assert {"TotalQpsLimitExceeded", "UploadTrafficRateLimitExceeded"} <= set(errors.THROTTLING)


def test_a_delete_marker_allows_to_be_deleted():
    error = errors.delete_marker("GET", {"x-oss-delete-marker": "true"})
    assert (error.status, error.headers["Allow"]) == (405, "DELETE")
    assert error.elements == {"Method": "GET", "ResourceType": "DeleteMarker"}
