# SPDX-License-Identifier: Apache-2.0
"""Prompts that are templates over a row's columns, in Jinja's sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, wraps
from typing import Any, Final

from jinja2 import StrictUndefined, Template, TemplateError, TemplateRuntimeError, Undefined, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_RENDERED: Final = 10_000
"""Largest number of characters of a template; a prompt has at most 500."""

MAX_TEMPLATE: Final = 10_000
_SHOWN: Final = 20
"""Number of columns that a message names."""

MARKS: Final = ("{{", "{%", "{#")
"""Beginnings of the parts of a template. Text without any of them is not a template."""

_FORBIDDEN: Final = (
    *(nodes.For, nodes.Macro, nodes.CallBlock, nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends),
    *(nodes.Mul, nodes.Pow, nodes.Mod),
    # A text that is assembled from itself doubles with each of them.
    *(nodes.Assign, nodes.AssignBlock, nodes.With),
)
"""Not allowed, because it can take much time or memory, and a catalog may come from an untrusted source."""

_GONE: Final = (
    *("batch", "slice", "format", "center", "indent", "wordwrap", "pprint", "tojson", "xmlattr", "urlize"),
    "random",  # what differs in each run is submitted again
)


def is_template(text: str) -> bool:
    """Return whether ``text`` is a template."""
    return any(mark in text for mark in MARKS)


def _limited(filter: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that refuses text that is too long, because a chain of ``replace`` grows without
    limit.
    """

    @wraps(filter)
    def limited(*args: Any, **kwargs: Any) -> Any:
        found = filter(*args, **kwargs)
        if isinstance(found, str) and len(found) > MAX_RENDERED:
            raise TemplateRuntimeError(f"a filter returns more than {MAX_RENDERED} characters")
        return found

    return limited


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | float | Undefined):
        return value
    raise TemplateRuntimeError(
        f"a {type(value).__name__} is not text; convert it with a filter, such as | join"
    )


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without features that can take much time or memory."""

    def __init__(self) -> None:
        # Not HTML: the service expects plain text.
        super().__init__(undefined=StrictUndefined, autoescape=False, finalize=_plain)
        self.globals.clear()
        for name in _GONE:
            self.filters.pop(name, None)
        self.filters = {name: _limited(one) for name, one in self.filters.items()}


_ENVIRONMENT: Final = _Environment()


@lru_cache(4096)
def _compiled(text: str) -> Template:
    if len(text) > MAX_TEMPLATE:
        raise TemplateError(f"the template has {len(text)} characters; at most {MAX_TEMPLATE} are allowed")
    tree = _ENVIRONMENT.parse(text)
    for node in tree.find_all(_FORBIDDEN):
        raise TemplateError(f"'{type(node).__name__.lower()}' is not allowed in prompts")
    for node in tree.find_all(nodes.Call):
        raise TemplateError(
            f"calls are not allowed in prompts (line {node.lineno}); use filters, such as | lower"
        )
    return _ENVIRONMENT.from_string(tree)


@lru_cache(4096)
def columns_of(text: str) -> frozenset[str]:
    """Return the columns that a template reads.

    :raises ValueError: if it is not a valid template.
    """
    try:
        _compiled(text)
        return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(text)))
    except Exception as error:  # nested too deeply, say: it is Python that reads what Jinja makes of it
        raise ValueError(_words(error)) from None


def render(text: str, cells: Mapping[str, Any], columns: Iterable[str]) -> str:
    """Return the rendered template for a row.

    :param cells: the row's cells by column, without empty cells.
    :param columns: names of the columns, for messages.
    :raises ValueError: if it cannot be rendered.
    """
    size = 0
    parts: list[str] = []
    try:
        for name, cell in cells.items():
            if len(str(cell)) > MAX_RENDERED and name in columns_of(text):
                raise TemplateError(f"{name!r} has more than {MAX_RENDERED} characters")
        for part in _compiled(text).generate(cells):
            size += len(part)
            if size > MAX_RENDERED:
                raise TemplateError(f"it renders to more than {MAX_RENDERED} characters")
            parts.append(part)
    except TemplateError as error:
        raise ValueError(_explained(error, columns)) from None
    except Exception as error:  # whatever the template raises, it makes only its own row invalid
        raise ValueError(f"cannot be rendered: {_words(error)}") from None
    return "".join(parts)


def _explained(error: TemplateError, columns: Iterable[str]) -> str:
    names = list(columns)
    known = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"cannot be rendered: {_words(error)} (columns of the row that are not empty: {known})"


def _words(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else words[:199] + "…"
