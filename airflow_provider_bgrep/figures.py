# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them: with their noun, or as money."""

from __future__ import annotations

from decimal import Decimal


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def money(amount: str, currency: str = "") -> str:
    """Return a sum of money with two decimals, or with more if it has more.

    :param amount: a decimal number as text.
    """
    number = Decimal(amount)
    decimals = max(2, -int(number.normalize().as_tuple().exponent)) if number else 2
    return f"{number:,.{decimals}f}{f' {currency}' if currency else ''}"
