# SPDX-License-Identifier: Apache-2.0
"""What the text of a cell spells: nothing, a truth value, or a number."""

from __future__ import annotations

import math
import re
import unicodedata
from enum import StrEnum
from typing import Final

from airflow_provider_bgrep.catalog.model.columns import INVISIBLE

EMPTY_CELLS: Final = (
    *("NULL", "None", "NaN", "NaT", "<NA>", "(null)", "\\N"),
    *("#N/A", "#NV", "#N/D", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!"),
    *("N/A", "n.a.", "-", "--", "–", "—"),
)
"""What programs write into a cell that has no value, or an error. Case does not matter."""

TRUE_WORDS: Final = frozenset(
    "true yes y t on 1 wahr ja vrai oui verdadero verdadeiro sí si sim vero sì prawda tak waar 是 真".split()
)
FALSE_WORDS: Final = frozenset(
    "false no n f off 0 falsch nein faux non falso não nao fałsz nie onwaar nee 否 假".split()
)
"""Words of spreadsheet programs and people for true and false, in small letters."""

BOOLEAN_MARK: Final = "\x1c"
NUMBER_MARK: Final = "\x1d"
"""What precedes the text of a truth value or number in a column for templates. Text never begins with it."""

NUMBERS: Final = ("42", "-7", "19.90", "19,90", ".5", "1e3", "1,000", "1.234,56", "12 %", "0x10")
"""Texts that are numbers, and texts that are not, as examples for people: :func:`number_of` says which."""

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_THOUSANDS: Final = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+")
_MAX_DIGITS: Final = 400


class ColumnKind(StrEnum):
    """What all cells of a column spell."""

    TEXT = "text"
    BOOLEAN = "boolean"
    NUMBER = "number"


def number_of(text: str) -> int | float | None:
    """The number that a text spells, with a decimal point or a decimal comma; ``None`` if it spells none.

    ``1,000`` can mean one thousand or one, so it is not a number. Nor is ``1E999``, which is too large for
    one: it is the name of a product.
    """
    if not _NUMBER.fullmatch(text) or _THOUSANDS.fullmatch(text) or len(text) > _MAX_DIGITS:
        return None
    plain = str(text).replace(",", ".")  # of a class of str, int() asks the class
    try:
        return int(plain)
    except ValueError:
        found = float(plain)
        if math.isinf(found):
            return None
        return int(found) if found.is_integer() else found


def word_of(text: object) -> str:
    """The form of a text in which it is compared with words that people have listed.

    Two texts that look the same are the same word, in capital letters or not: macOS writes an accent as a
    character of its own, and web pages and Excel a no-break space for a space, or several spaces for one.
    """
    plain = str(text)
    if plain.isascii():
        return " ".join(plain.split()).casefold()
    visible = unicodedata.normalize("NFD", plain).translate(INVISIBLE)
    return unicodedata.normalize("NFC", " ".join(visible.split()).casefold())


def truth_of(text: str) -> bool | None:
    """The truth value that a text spells; ``None`` if it spells none."""
    word = word_of(text)
    return word in TRUE_WORDS if word in TRUE_WORDS or word in FALSE_WORDS else None


class KindFinder:
    """Finds out what all cells of a column spell."""

    def __init__(self) -> None:
        self._is_boolean = self._is_number = True
        self._is_empty = True

    def add(self, texts: list[str | None]) -> None:
        """Add some cells."""
        for text in texts:
            if text is None:
                continue
            self._is_empty = False
            plain = text.lstrip(BOOLEAN_MARK + NUMBER_MARK)
            self._is_boolean = self._is_boolean and truth_of(plain) is not None
            self._is_number = self._is_number and number_of(plain) is not None
            if self.is_text:
                return

    @property
    def is_text(self) -> bool:
        """Whether a cell is neither a truth value nor a number."""
        return not (self._is_boolean or self._is_number)

    @property
    def kind(self) -> ColumnKind:
        """The kind of a column with these cells."""
        if self._is_empty or self.is_text:
            return ColumnKind.TEXT
        return ColumnKind.BOOLEAN if self._is_boolean else ColumnKind.NUMBER
