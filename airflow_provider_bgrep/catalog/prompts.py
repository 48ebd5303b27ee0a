# SPDX-License-Identifier: Apache-2.0
"""Prompts that are templates over a row's columns, in Jinja's sandbox."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from jinja2 import StrictUndefined, Template, TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_RENDERED: Final = 10_000
"""Characters; a prompt has at most 500."""

MAX_TEMPLATE: Final = 10_000
MARKS: Final = ("{{", "{%", "{#")
"""What begins a template's part; text without one is taken as it is."""

_FORBIDDEN: Final = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.Import, nodes.FromImport, nodes.Include)
_ARITHMETIC: Final = (nodes.Mul, nodes.Pow, nodes.Mod)


def is_template(text: str) -> bool:
    """Whether ``text`` is a template; other text is taken as it is."""
    return any(mark in text for mark in MARKS)


def variable(column: str) -> str:
    """A column's name as templates call it: ``Farbe (neu)`` is ``farbe_neu``."""
    name = re.sub(r"\W+", "_", column.casefold()).strip("_")
    return f"_{name}" if not name or name[0].isdigit() else name


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without what takes long or much: a catalog may come from anybody."""

    def __init__(self) -> None:
        # Not HTML: the service takes plain text.
        super().__init__(undefined=StrictUndefined, autoescape=False)
        self.globals.clear()
        for name in (
            "batch",
            "slice",
            "format",
            "center",
            "indent",
            "wordwrap",
            "pprint",
            "tojson",
            "xmlattr",
            "urlize",
        ):
            self.filters.pop(name, None)


_ENVIRONMENT: Final = _Environment()


@lru_cache(4096)
def _compiled(text: str) -> Template:
    if len(text) > MAX_TEMPLATE:
        raise TemplateError(f"the template has {len(text)} characters; at most {MAX_TEMPLATE}")
    tree = _ENVIRONMENT.parse(text)
    for kind in (*_FORBIDDEN, *_ARITHMETIC):
        for node in tree.find_all(kind):
            raise TemplateError(f"'{type(node).__name__.lower()}' is not for prompts")
    for node in tree.find_all(nodes.Call):
        raise TemplateError(f"calls are not for prompts (line {node.lineno}); filters are, such as | lower")
    return _ENVIRONMENT.from_string(tree)


@lru_cache(4096)
def columns_of(text: str) -> frozenset[str]:
    """What a template reads, by the names that templates use.

    :raises ValueError: if it is no template of Jinja's.
    """
    try:
        _compiled(text)
        return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(text)))
    except TemplateError as error:
        raise ValueError(_words(error)) from None


def render(text: str, cells: Mapping[str, Any], columns: Iterable[str]) -> str:
    """The template's text for a row.

    :param cells: the row's, by the names that templates use; empty cells are missing.
    :param columns: names there are, for the message.
    :raises ValueError: if it cannot be rendered, in words.
    """
    size = 0
    parts: list[str] = []
    try:
        for part in _compiled(text).generate(cells):
            size += len(part)
            if size > MAX_RENDERED:
                raise ValueError(f"renders to more than {MAX_RENDERED} characters")
            parts.append(part)
    except TemplateError as error:
        raise ValueError(_explained(error, columns)) from None
    except (TypeError, AttributeError, ArithmeticError, LookupError) as error:
        raise ValueError(f"cannot be rendered: {_words(error)}") from None
    return "".join(parts)


def _explained(error: TemplateError, columns: Iterable[str]) -> str:
    known = ", ".join(columns)
    return f"cannot be rendered: {_words(error)} (the row's columns that hold something: {known})"


def _words(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else words[:199] + "…"
