# SPDX-License-Identifier: Apache-2.0
"""What users' test suites import: the fixture and the classes of its documentation."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep import testing
from airflow_provider_bgrep.testing import (
    Emulator,
    OssEmulator,
    bgrep_emulator,  # noqa: F401 (a fixture)
    oss_emulator,  # noqa: F401 (a fixture)
)


@pytest.mark.parametrize("name", testing.__all__)
def test_every_name_is_there(name):
    assert getattr(testing, name) is not None


def test_each_test_gets_an_emulator_as_documented(bgrep_emulator: Emulator):  # noqa: F811
    fault = bgrep_emulator.inject("throttle", operation="query")
    assert (fault.consumed, fault.exhausted) == (0, False)
    assert bgrep_emulator.counters.images == 0
    assert bgrep_emulator.connection_uri.startswith("bgrep")


def test_each_test_gets_an_emulator_of_oss(oss_emulator: OssEmulator):  # noqa: F811
    oss_emulator.create_bucket("shop")
    fault = oss_emulator.inject("throttle", operation="GetObject")
    assert (fault.consumed, oss_emulator.requests, oss_emulator.objects("shop")) == (0, [], {})
    assert oss_emulator.endpoint.startswith("http://oss-cn-hangzhou.localhost:")
