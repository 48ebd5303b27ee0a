# SPDX-License-Identifier: Apache-2.0
"""Errors of stores: whether a retry can help."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.store_errors import store_error


class AzureError(Exception):
    """An error as Azure's SDK raises it."""

    def __init__(self, code: str) -> None:
        super().__init__("refused")
        self.error_code, self.response = code, object()


@pytest.mark.parametrize(
    ("code", "is_final"),
    [
        ("AuthorizationPermissionMismatch", True),
        ("AuthenticationFailed", True),
        ("ContainerNotFound", True),
        ("ServerBusy", False),
    ],
)
def test_a_refusal_of_azure_is_known_by_its_code(code, is_final):
    assert store_error("abfs://shop", AzureError(code)).is_final is is_final
