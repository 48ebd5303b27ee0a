# SPDX-License-Identifier: Apache-2.0
"""The checksum, compared with known values and with the one of Alibaba's SDK."""

from __future__ import annotations

import pytest
from alibabacloud_oss_v2.crc import Crc64
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bgrep.oss_emulator.crc64 import crc64


@pytest.mark.parametrize(("data", "value"), [(b"", 0), (b"123456789", 0x995DC9BBDF1939FA)])
def test_known_values(data, value):
    assert crc64(data) == value


@given(st.binary(max_size=200))
def test_it_is_the_checksum_of_the_sdk(data):
    sdk = Crc64(0)
    sdk.write(data)
    assert crc64(data) == int(sdk.sum64())


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_it_can_be_continued(first, second):
    assert crc64(second, crc64(first)) == crc64(first + second)
