# SPDX-License-Identifier: Apache-2.0
"""Calculates the CRC-64 of ECMA-182, as OSS returns it in ``x-oss-hash-crc64ecma``.

The parameters are those of the page "AppendObject" of the OSS documentation, section "Methods used to
calculate the 64-bit CRC value": reflected; all bits are set at the start and inverted at the end.
"""

from __future__ import annotations

import functools
from typing import Final

_POLYNOMIAL: Final = 0xC96C5795D7870F42
"""The polynomial 0x42F0E1EBA9EA3693 with its bits reflected."""

_ALL_BITS: Final = 0xFFFFFFFFFFFFFFFF


def crc64(data: bytes, previous: int = 0) -> int:
    """Return the checksum of some bytes; about 10 MB take a second.

    :param data: the bytes.
    :param previous: the checksum of the bytes before them.
    :return: an unsigned integer of 64 bits.
    """
    table = _table()
    crc = previous ^ _ALL_BITS
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ _ALL_BITS


@functools.cache
def _table() -> tuple[int, ...]:
    """The checksum's step for each value of a byte."""
    return tuple(_step(value) for value in range(256))


def _step(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value
