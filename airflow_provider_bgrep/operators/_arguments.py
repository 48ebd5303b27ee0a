# SPDX-License-Identifier: Apache-2.0
"""Validates arguments of operators when the DAG file is parsed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta


def one_of(name: str, value: str, choices: Sequence[str]) -> str:
    """Return ``value``.

    :raises ValueError: if it is not among ``choices``.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; give one of {', '.join(choices)}")
    return value


def seconds_of(name: str, value: timedelta | float) -> float:
    """Return a duration in seconds.

    :raises ValueError: if it is not above 0.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ValueError(f"{name} is {value!r}; give seconds above 0, or a timedelta")
    return float(seconds)


def count_of(name: str, value: int | None, most: int | None = None) -> int | None:
    """Return a count, or ``None``.

    :raises ValueError: if it is not a whole number from 0 to ``most``.
    """
    if value is None:
        return None
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not is_count or (most is not None and value > most):
        raise ValueError(f"{name} is {value!r}; give 0 {'or more' if most is None else f'to {most}'}")
    return value
