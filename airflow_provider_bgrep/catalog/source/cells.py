# SPDX-License-Identifier: Apache-2.0
"""What a cell is: one rule for CSV, JSON lines, Parquet and the rows of an upstream task.

Every value becomes text, as a person would have written it, or is empty. :func:`cell_text` is the rule for
one value, :func:`cell_texts` the same rule for an Arrow array.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from numbers import Integral, Real
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_bgrep.catalog.model.cell_values import BOOLEAN_MARK, NUMBER_MARK, word_of

BLANKS: Final = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u180e"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b"
    "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    "\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
"""Trimmed from both ends of a cell: what Unicode calls white space, and marks without a width."""

_FIRST_BYTES: Final = np.isin(np.arange(256), [one.encode()[0] for one in BLANKS])
_LAST_BYTES: Final = np.isin(np.arange(256), [one.encode()[-1] for one in BLANKS])
"""For each byte, whether a blank begins or ends with it in UTF-8."""

_MAX_DIGITS: Final = 18
"""Whole numbers of at most this many digits are written without an exponent."""


_WHOLE: Final = re.compile(r"(0|[1-9][0-9]*)\.0+")
_SHORTENED: Final = re.compile(r"-?[1-9](?:[.,][0-9]+[eE]\+?|[eE]\+)[0-9]{1,3}")
_MAY_BE_SHORTENED: Final = r"[.,][0-9]+[eE]\+?[0-9]|[eE]\+[0-9]"
"""A number as programs write floats: Excel ``4.00638E+12`` in a narrow column, without its last digits,
pandas ``1.2345678901234568e+17``, Java ``1.2345678E7``. ``12E5`` and ``1E2`` are skus that shops use."""

_EXACT_BITS: Final = 53
"""Bits of a whole number up to which a float of 64 bits has each whole number."""

_EXACT: Final = range(-10, 22)
"""Powers of ten between which a number is written without an exponent."""


class UnreadableCellError(ValueError):
    """A cell has no text; the message says what it holds and what to do."""


class FloatText(Decimal):
    """A number that JSON has with an exponent, as programs write large floats."""


class EmptyWords:
    """Texts that are taken for empty cells, and how often they were.

    :param words: the texts, compared as words, see :func:`~.cell_values.word_of`.
    """

    def __init__(self, words: Iterable[str] = ()) -> None:
        self._words = frozenset(text for word in words if (text := word_of(word)))
        self.counts: Counter[str] = Counter()
        """Cells that were taken for empty, by their text."""
        self.is_counting = True
        forms = [unicodedata.normalize(form, word) for word in self._words for form in ("NFC", "NFD")]
        self._longest = max(map(len, forms), default=0)
        firsts = {one.encode()[0] for word in forms for one in (word[0], word[0].upper())}
        self._first_bytes = np.isin(np.arange(256), list(firsts))
        self._first_or_blank = self._first_bytes | _FIRST_BYTES

    def has(self, text: str, count: int = 1) -> bool:
        """Whether a text without blanks around it is one of them.

        :param count: cells with this text, which are counted.
        """
        if len(text) > self._longest or word_of(text) not in self._words:
            return False
        if self.is_counting:
            self.counts[text] += count
        return True

    def may_begin(self, firsts: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[bool, bool]:
        """Whether a blank, and whether one of the texts, may begin with one of the bytes."""
        if not self._first_or_blank.take(firsts).any():
            return False, False
        return bool(_FIRST_BYTES.take(firsts).any()), bool(self._first_bytes.take(firsts).any())

    def cleared(self, texts: pa.Array) -> pa.Array:
        """Texts without blanks around them, null where they are one of the words."""
        if not self._words:
            return texts
        short = texts.filter(pc.less_equal(pc.utf8_length(texts), self._longest))
        found = [one["values"] for one in pc.value_counts(short).to_pylist() if self._is_one(one)]
        if not found:
            return texts
        return pc.if_else(pc.is_in(texts, pa.array(found, pa.string())), pa.scalar(None, pa.string()), texts)

    def _is_one(self, counted: Mapping[str, Any]) -> bool:
        return counted["values"] is not None and self.has(counted["values"], counted["counts"])


NO_WORDS: Final = EmptyWords()


def cell_text(value: Any, empty: EmptyWords = NO_WORDS) -> str | None:
    """The text of a cell.

    :param value: what a reader found: text, bytes, a number, a truth value, a date; NumPy's scalars too.
    :param empty: texts that are taken for empty cells.
    :return: the text without blanks around it; ``None`` of an empty cell.
    :raises UnreadableCellError: if the value has no text: bytes that are not UTF-8, lists, mappings.
    """
    if value is None or type(value).__name__ == "NAType":  # pandas' NA is not even equal or unequal to itself
        return None
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            value = bytes(value).decode()
        except UnicodeDecodeError:
            raise UnreadableCellError("holds bytes that are not UTF-8; save the text as UTF-8") from None
    if isinstance(value, str):
        text = value.strip(BLANKS)
        if not text.isascii():
            _check_unicode(text)
        return text if text and not empty.has(text) else None
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return str(bool(value)).lower()
    if isinstance(value, Decimal | Real):
        return _number_text(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset) or hasattr(value, "__array__"):
        if not _is_scalar(value):
            raise UnreadableCellError(f"is a {type(value).__name__}; give text or a number")
        return cell_text(value.item(), empty)
    if value != value:  # pandas' NaT is not equal to itself
        return None
    text = str(value).strip(BLANKS)
    return text or None


def _is_scalar(value: Any) -> bool:
    return hasattr(value, "item") and getattr(value, "shape", None) == ()


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnreadableCellError("holds a character that is not Unicode text (a lone surrogate)") from None


def _number_text(value: Any) -> str | None:
    """A number as a person writes it: ``42`` for ``42.0``, ``19.9`` for the float32 nearest to it."""
    if isinstance(value, Integral):
        return str(int(value))
    if value != value:
        return None
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    if not number.is_finite() or number.adjusted() not in _EXACT:
        return str(value)
    if number.adjusted() < _MAX_DIGITS and number == number.to_integral_value():
        return str(int(number))
    return f"{number:f}"


def whole_key(value: Any, empty: EmptyWords = NO_WORDS) -> str | None:
    """The text of a key column (``sku``, ``view``), in which ``1001`` and ``1001.0`` are one product.

    :raises UnreadableCellError: if the value has no text, or is a number with a fraction, or one of which a
        float may have lost the last digits: it may be another product's.
    """
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    text = cell_text(value, empty)
    if text is None or isinstance(value, str | bytes):
        return _checked_key(text) if text else text
    is_number = type(value) is not bool and isinstance(value, Decimal | Real)
    if is_number and not text.lstrip("-").isdigit():
        raise UnreadableCellError(f"is the number {text}; give text or a whole number")
    if is_number and value == value and (bits := _float_bits(value)) and abs(value) >= 2**bits:
        raise UnreadableCellError(
            f"is the float {text}, and may have been another number: from {2**bits} on, floats of this type "
            "lose last digits; give text or an integer"
        )
    return text


def _float_bits(value: Any) -> int:
    """How many bits a whole number may have that a binary float has exactly; 0 if it is none."""
    if isinstance(value, np.floating):
        return int(np.finfo(value.dtype).nmant) + 1
    return _EXACT_BITS if isinstance(value, float | FloatText) else 0


def _checked_key(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)  # macOS writes an accent as a character of its own
    if _SHORTENED.fullmatch(text):
        raise UnreadableCellError(f"is {text}, a number that a program has shortened; write it as text")
    return _without_fraction(text)


def _without_fraction(text: str) -> str:
    """``1001`` for ``1001.0``: programs that know only floats or decimals write whole numbers like this."""
    found = _WHOLE.fullmatch(text)
    return found[1] if found and len(found[1]) <= _MAX_DIGITS else text


def typed_text(value: Any, empty: EmptyWords = NO_WORDS) -> str | None:
    """The text of a cell for templates: marked if it is a truth value or a number.

    :raises UnreadableCellError: if the value has no text.
    """
    text = cell_text(value, empty)
    if text is None or isinstance(value, str | bytes):
        return text
    if isinstance(value, bool | np.bool_):
        return BOOLEAN_MARK + text
    return NUMBER_MARK + text if isinstance(value, Decimal | Real) else text


# --- arrays -----------------------------------------------------------------------------------------


def cell_texts(
    array: pa.Array, is_key: bool = False, empty: EmptyWords = NO_WORDS
) -> tuple[pa.Array, dict[int, str]]:
    """The texts of an array's cells, by the rule of :func:`cell_text` or, for keys, :func:`whole_key`.

    :param array: of any type that a Parquet file can have.
    :param is_key: whether it is the column ``sku`` or ``view``.
    :param empty: texts that are taken for empty cells.
    :return: an array of strings, null for empty; and what is wrong with cells that have no text, by place.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    texts = _cast(array)
    if texts is None:
        return _one_by_one(array, partial(whole_key if is_key else cell_text, empty=empty))
    if not isinstance(texts, pa.StringArray):
        texts = texts.cast(pa.string())
    if is_key and has_shortened(texts):
        return _one_by_one(texts, partial(whole_key, empty=empty))
    return trimmed(texts, is_key, empty), {}


def typed_texts(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """The texts of a column for templates: marked if the column's type is a truth value or a number."""
    if pa.types.is_boolean(kind):
        mark = BOOLEAN_MARK
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        mark = NUMBER_MARK
    else:
        return texts
    return pc.binary_join_element_wise(pa.scalar(mark), texts, "")


def has_shortened(texts: pa.Array) -> bool:
    """Whether a text may be a number that a program has shortened."""
    return bool(pc.any(pc.match_substring_regex(texts, _MAY_BE_SHORTENED)).as_py())


def trimmed(texts: pa.Array, is_key: bool = False, empty: EmptyWords = NO_WORDS) -> pa.Array:
    """Texts without blanks around them; null where nothing is left.

    :param texts: an array of strings, all of them UTF-8.
    :param is_key: whether ``1001.0`` is ``1001``.
    """
    # Most columns have no blank at either end, and no empty text: both are known from a few bytes of each.
    blanks, words = _may_have(texts, empty)
    if blanks:
        texts = pc.utf8_trim(texts, BLANKS)
    if _has_empty(texts):
        texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if words or blanks:
        texts = empty.cleared(texts)
    if is_key and not pc.all(pc.string_is_ascii(texts)).as_py():
        # Not Arrow's own: before version 26, it leaves an accent a character of its own.
        normal = (text and unicodedata.normalize("NFC", text) for text in texts.to_pylist())
        texts = pa.array(normal, pa.string())
    if is_key and pc.any(pc.match_substring(texts, ".0")).as_py():
        return pa.array([text and _without_fraction(text) for text in texts.to_pylist()], pa.string())
    return texts


def _may_have(texts: pa.StringArray, empty: EmptyWords) -> tuple[bool, bool]:
    """Whether a text may begin or end with a blank, and whether one may be taken for empty.

    Both are true of some texts for which they are not.
    """
    offsets, data = _offsets(texts), texts.buffers()[2]
    if offsets[0] == offsets[-1]:
        return False, False
    characters = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    # An empty text stands for its neighbors' bytes, which are ends as well.
    firsts = characters.take(offsets[:-1], mode="clip")
    lasts = characters.take(offsets[1:] - 1, mode="clip")
    blanks, words = empty.may_begin(firsts)
    return blanks or bool(_LAST_BYTES.take(lasts).any()), words


def _has_empty(texts: pa.StringArray) -> bool:
    """Whether a text is empty; nulls are not."""
    if texts.null_count:
        return bool(pc.any(pc.equal(texts, "")).as_py())
    offsets = _offsets(texts)
    return bool((offsets[1:] == offsets[:-1]).any())


def _offsets(texts: pa.StringArray) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Where each text begins in the array's bytes, and where the last ends."""
    found = np.frombuffer(texts.buffers()[1] or b"\0\0\0\0", np.int32)
    return found[texts.offset : texts.offset + len(texts) + 1]


def has_blank_row(columns: Sequence[pa.Array]) -> bool:
    """Whether every column is empty in one of the rows."""
    blank: Any = None
    for column in columns:
        if column.null_count == 0:
            return False
        empty = column.is_null()
        blank = empty if blank is None else pc.and_(blank, empty)
    return bool(pc.any(blank).as_py())


def _cast(array: pa.Array) -> pa.Array | None:
    """The cells as text where Arrow's own conversion follows the rule; else ``None``."""
    kind = array.type
    if pa.types.is_null(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return array.cast(pa.string())
    if _is_text(kind):
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            return None
        return array.cast(pa.string())
    if _is_binary(kind):
        try:
            return array.cast(pa.binary()).cast(pa.string())
        except pa.ArrowInvalid:
            return None
    return None


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view"


def _is_binary(kind: pa.DataType) -> bool:
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or str(kind) == "binary_view"
    )


def _one_by_one(array: pa.Array, rule: Callable[[Any], str | None]) -> tuple[pa.Array, dict[int, str]]:
    texts: list[str | None] = []
    wrong: dict[int, str] = {}
    for place, value in enumerate(_values(array)):
        try:
            texts.append(rule(value))
        except UnreadableCellError as error:
            wrong[place] = str(error)
            texts.append(None)
        except Exception as error:  # whatever its class: see isolation.py
            wrong[place] = f"is a {array.type} that cannot be read ({type(error).__name__}); give text"
            texts.append(None)
    return pa.array(texts, pa.string()), wrong


def _values(array: pa.Array) -> Any:
    """Python's values of an array's cells, each of which :func:`cell_text` understands."""
    kind = array.type
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        # Their own shortest text: as Python's float, the float32 19.9 is 19.899999618530273.
        floats = array.to_numpy(zero_copy_only=False)
        return (
            None if not valid else one
            for valid, one in zip(array.is_valid().to_pylist(), floats, strict=True)
        )
    if _is_text(kind):
        return array.cast(pa.binary() if pa.types.is_string(kind) else pa.large_binary()).to_pylist()
    if pa.types.is_temporal(kind):
        return _times(array)
    return _read_by_python(array, lambda value: value)


def _times(array: pa.Array) -> Any:
    """Dates and times as text, nanoseconds and far years included, for which Python has no value."""
    if pa.types.is_duration(array.type):
        return _read_by_python(array)
    try:
        texts = array.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _read_by_python(array)
    return (text if text is None else _without_zeros(text) for text in texts)


def _read_by_python(array: pa.Array, as_value: Callable[[Any], Any] = str) -> list[Any]:
    try:
        return [one if one is None else as_value(one) for one in array.to_pylist()]
    except Exception:  # a zone that is not installed, for one
        kind = str(array.type)
        return [_Unreadable(kind) if valid else None for valid in array.is_valid().to_pylist()]


def _without_zeros(text: str) -> str:
    """``12:30:00`` for ``12:30:00.000000``; a zone that follows stays."""
    head, dot, fraction = text.partition(".")
    digits = fraction.rstrip("Z") if dot else ""
    return head + fraction[len(digits) :] if dot and digits and not digits.strip("0") else text


class _Unreadable:
    """A cell that neither Arrow nor Python can read."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __str__(self) -> str:
        raise UnreadableCellError(f"is a {self._kind} that cannot be written as text; give text")
