# SPDX-License-Identifier: Apache-2.0
"""Cells as templates read them: text that has the truth and the comparisons of what it spells."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

from jinja2 import TemplateRuntimeError

from airflow_provider_bgrep.catalog.model.cell_values import (
    BOOLEAN_MARK,
    NUMBER_MARK,
    ColumnKind,
    number_of,
    truth_of,
)
from airflow_provider_bgrep.protocol.urls import redacted_beginning

TYPE_TESTS: Final = ("boolean", "true", "false", "number", "integer", "float", "string")
"""Jinja's tests of a value's type."""

_SHOWN: Final = 40
"""Characters of a cell that a message shows."""


class Cell(str):
    """A cell as templates read it: its text, compared with numbers and truth values by what it spells.

    In a prompt it is the text of the catalog: ``FALSE``, or ``19.90``.

    :param text: the text.
    :param truth: whether a condition holds.
    :param is_number: whether it is a number in the catalog: two numbers are added, two texts are joined.
    :param is_boolean: whether it is a truth value.
    """

    __slots__ = ("_is_boolean", "_is_number", "_truth")
    _truth: bool
    _is_number: bool
    _is_boolean: bool

    def __new__(  # noqa: D102 (the class's own)
        cls, text: str, truth: bool = True, is_number: bool = False, is_boolean: bool = False
    ) -> Cell:
        found = super().__new__(cls, text)
        found._truth, found._is_number, found._is_boolean = truth, is_number, is_boolean
        return found

    def __bool__(self) -> bool:
        return self._truth

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, bool):
            return truth_of(self) is other
        if isinstance(other, int | float):
            return number_of(self) == other
        return str.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def _compared(self, other: Any, compare: Callable[[Any, Any], bool]) -> bool:
        if isinstance(other, str):
            pair = (number_of(self), number_of(other))
            return compare(str(self), str(other)) if None in pair else compare(*pair)
        return compare(self._number(), other) if _is_number(other) else NotImplemented

    def __lt__(self, other: Any) -> bool:
        return self._compared(other, operator.lt)

    def __le__(self, other: Any) -> bool:
        return self._compared(other, operator.le)

    def __gt__(self, other: Any) -> bool:
        return self._compared(other, operator.gt)

    def __ge__(self, other: Any) -> bool:
        return self._compared(other, operator.ge)

    def _number(self) -> int | float:
        found = number_of(self)
        if found is None:
            raise TemplateRuntimeError(f"{redacted_beginning(str(self), _SHOWN)!r} is not a number")
        return found

    def _calculated(self, other: Any, calculate: Callable[[Any, Any], Any]) -> Any:
        if isinstance(other, Cell):
            return calculate(self._number(), other._number())
        return calculate(self._number(), other) if _is_number(other) else NotImplemented

    def __add__(self, other: Any) -> Any:
        if isinstance(other, str) and not (self._is_number and isinstance(other, Cell) and other._is_number):
            return str.__add__(self, other)
        return self._calculated(other, operator.add)

    def __radd__(self, other: Any) -> Any:
        return other + self._number() if _is_number(other) else NotImplemented

    def __sub__(self, other: Any) -> Any:
        return self._calculated(other, operator.sub)

    def __rsub__(self, other: Any) -> Any:
        return other - self._number() if _is_number(other) else NotImplemented

    def __truediv__(self, other: Any) -> Any:
        return self._calculated(other, operator.truediv)

    def __rtruediv__(self, other: Any) -> Any:
        return other / self._number() if _is_number(other) else NotImplemented

    def __floordiv__(self, other: Any) -> Any:
        return self._calculated(other, operator.floordiv)

    def __mul__(self, other: Any) -> Any:
        return self._calculated(other, operator.mul)

    __rmul__ = __mul__

    def __neg__(self) -> int | float:
        return -self._number()

    def __abs__(self) -> int | float:
        return abs(self._number())

    def __round__(self, digits: int | None = None) -> int | float:
        return round(self._number(), digits)

    def __float__(self) -> float:
        return float(self._number())

    def __int__(self) -> int:
        return int(self._number())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def template_cell(text: str, kind: ColumnKind = ColumnKind.TEXT) -> Cell:
    """A cell as templates read it.

    :param text: its text, after :data:`~.cell_values.BOOLEAN_MARK` or :data:`~.cell_values.NUMBER_MARK` if it
        has such a type in the catalog.
    :param kind: what all cells of its column spell.
    """
    if text[0] == BOOLEAN_MARK:
        return Cell(text[1:], text[1:] == "true", is_boolean=True)
    if text[0] == NUMBER_MARK:
        return Cell(text[1:], number_of(text[1:]) != 0, is_number=True)
    if kind is ColumnKind.BOOLEAN:
        return Cell(text, truth_of(text) is True, is_boolean=True)
    if kind is ColumnKind.NUMBER:
        return Cell(text, number_of(text) != 0)
    return Cell(text)


def test_of_type(name: str, test: Callable[..., Any]) -> Callable[[Any], bool]:
    """A test that knows the types of cells."""

    def found(value: Any) -> bool:
        if not isinstance(value, Cell):
            return bool(test(value))
        if name in ("boolean", "true", "false"):
            return value._is_boolean and (name == "boolean" or value._truth is (name == "true"))
        if name == "string":
            return not (value._is_number or value._is_boolean)
        number = number_of(value) if value._is_number else None
        return number is not None and (name == "number" or isinstance(number, int) is (name == "integer"))

    return found
