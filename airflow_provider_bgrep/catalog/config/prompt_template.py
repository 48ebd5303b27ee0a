# SPDX-License-Identifier: Apache-2.0
"""Prompts that are templates over a row's columns, in Jinja's sandbox.

A catalog is not trusted, so the time and memory of a template are limited: constants are not evaluated when
it is compiled, multiplication is not allowed, the arguments and results of filters are limited, and rendering
may take :data:`SECONDS`. A row whose template exceeds a limit is invalid; the other rows are processed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, wraps
from typing import Any, Final

from jinja2 import (
    StrictUndefined,
    Template,
    TemplateError,
    TemplateRuntimeError,
    Undefined,
    meta,
    nodes,
    pass_context,
)
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from airflow_provider_bgrep.catalog.config.template_cell import TYPE_TESTS, test_of_type
from airflow_provider_bgrep.protocol.errors import sanitize_message

MAX_RENDERED: Final = 10_000
"""Largest number of characters of a template; a prompt has at most 500."""

MAX_TEMPLATE: Final = 10_000
MAX_ARGUMENT: Final = 1_000
"""Largest argument of a filter: the length of a text or list, or the absolute value of a number."""
SECONDS: Final = 2.0
"""Seconds that rendering one template for one row may take."""

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

CONDITION_WORDS: Final = frozenset(
    "if and or not default d select reject selectattr rejectattr true false boolean".split()
)
"""Words of templates that depend on the truth of a column."""

_clock = threading.local()
"""The deadline of the template that this thread renders, by the monotonic clock."""


_RESERVED: Final = frozenset({"caller", "kwargs", "loop", "self", "super", "varargs"})
"""Names that Jinja may give a meaning of its own."""


def is_template(text: str) -> bool:
    """Return whether ``text`` is a template."""
    return any(mark in text for mark in MARKS)


def _limited(filter: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter with limited arguments and results: a chain of ``replace`` grows without limit."""
    # Before the value, Jinja passes some filters its context or environment.
    first = 1 + hasattr(filter, "jinja_pass_arg")

    @wraps(filter)
    def limited(*args: Any, **kwargs: Any) -> Any:
        _check_time()
        for argument in (*args[first:], *kwargs.values()):
            _check_argument(argument)
        for value in args[first - 1 : first]:
            _check_length(value, "takes")
        found = filter(*args, **kwargs)
        _check_length(found, "returns")
        return found

    return limited


def _check_time() -> None:
    if time.monotonic() > getattr(_clock, "deadline", float("inf")):
        raise TemplateRuntimeError(f"it takes longer than {SECONDS:g} seconds")


def _check_argument(value: Any) -> None:
    is_number = isinstance(value, int | float)
    if (is_number and not -MAX_ARGUMENT <= value <= MAX_ARGUMENT) or (
        isinstance(value, str | bytes | list | tuple | dict) and len(value) > MAX_ARGUMENT
    ):
        what = "a number" if is_number else "an argument"
        raise TemplateRuntimeError(f"{what} of a filter is larger than {MAX_ARGUMENT}")


def _check_length(value: Any, verb: str) -> None:
    if isinstance(value, str | bytes | list | tuple | dict) and len(value) > MAX_RENDERED:
        raise TemplateRuntimeError(f"a filter {verb} more than {MAX_RENDERED} characters")


@pass_context  # so that Jinja does not evaluate constants when it compiles a template
def _plain(context: Context, value: Any) -> Any:
    _check_time()
    if isinstance(value, str | int | float | Undefined):
        return value
    raise TemplateRuntimeError(
        f"a {type(value).__name__} is not text; convert it with a filter, such as | join"
    )


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without features that can take much time or memory."""

    def __init__(self) -> None:
        # Not HTML: the service expects plain text.
        super().__init__(undefined=StrictUndefined, autoescape=False, finalize=_plain, optimized=False)
        self.globals.clear()
        for name in _GONE:
            self.filters.pop(name, None)
        self.filters = {name: _limited(one) for name, one in self.filters.items()}
        tests: dict[str, Any] = self.tests
        for name in TYPE_TESTS:
            tests[name] = test_of_type(name, tests[name])


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
        # As meta.find_undeclared_variables does, but without evaluating constants.
        generator = meta.TrackingCodeGenerator(_ENVIRONMENT)
        generator.optimizer = None
        generator.visit(_ENVIRONMENT.parse(text))
        return frozenset(generator.undeclared_identifiers)
    except Exception as error:  # nested too deeply, say: it is Python that reads what Jinja makes of it
        raise ValueError(_words(error)) from None


@lru_cache(4096)
def conditions_of(text: str) -> frozenset[str]:
    """Return the columns whose truth may decide about what a template renders to.

    :raises ValueError: if it is not a valid template.
    """
    found: set[str] = set()
    try:
        for node in _ENVIRONMENT.parse(text).find_all(_CONDITIONS):
            if isinstance(node, nodes.If | nodes.CondExpr):
                found |= _tested(node.test)
            elif not isinstance(node, nodes.Filter | nodes.Test):
                found |= _tested(node)
            elif node.name in CONDITION_WORDS:
                found |= {name.name for name in node.find_all(nodes.Name)}
    except Exception as error:  # as for columns_of
        raise ValueError(_words(error)) from None
    return frozenset(found)


_CONDITIONS: Final = (
    nodes.If,
    nodes.CondExpr,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Filter,
    nodes.Test,
)


def _tested(node: nodes.Node) -> set[str]:
    """Columns that are in a condition, and not compared with anything."""
    if isinstance(node, nodes.Name):
        return {node.name}
    if isinstance(node, nodes.Compare | nodes.Test):
        return set()
    return set().union(*map(_tested, node.iter_child_nodes()))


@lru_cache(4096)
def _plain_parts(text: str) -> tuple[tuple[str, bool], ...] | None:
    """The parts of a template of text and columns alone, and whether each is a column; else ``None``."""
    parts: list[tuple[str, bool]] = []
    for node in _ENVIRONMENT.parse(text).body:
        if not isinstance(node, nodes.Output):
            return None
        for part in node.nodes:
            if isinstance(part, nodes.TemplateData):
                parts.append((part.data, False))
            elif isinstance(part, nodes.Name) and part.name not in _RESERVED:
                parts.append((part.name, True))
            else:
                return None
    return tuple(parts)


def _joined(text: str, cells: Mapping[str, Any]) -> str | None:
    """The text of a plain template, without Jinja; ``None`` of others, and if anything is wrong."""
    if len(text) > MAX_TEMPLATE:
        return None
    try:
        parts = _plain_parts(text)
        found = None if parts is None else [cells[part] if is_column else part for part, is_column in parts]
    except Exception:  # Jinja says what is wrong
        return None
    if found is None or not all(isinstance(part, str) for part in found):
        return None
    joined = "".join(found)
    return joined if len(joined) <= MAX_RENDERED else None


def render(text: str, cells: Mapping[str, Any], columns: Iterable[str]) -> str:
    """Return the rendered template for a row.

    :param cells: the row's cells by column, without empty cells.
    :param columns: names of the columns, for messages.
    :raises ValueError: if it cannot be rendered.
    """
    joined = _joined(text, cells)
    if joined is not None:
        return joined
    size = 0
    parts: list[str] = []
    _clock.deadline = time.monotonic() + SECONDS
    try:
        for name, cell in cells.items():
            if len(str(cell)) > MAX_RENDERED and name in columns_of(text):
                raise TemplateError(f"{name!r} has more than {MAX_RENDERED} characters")
        for part in _compiled(text).generate(cells):
            size += len(part)
            if size > MAX_RENDERED:
                raise TemplateError(f"it renders to more than {MAX_RENDERED} characters")
            parts.append(part)
            _check_time()
    except TemplateError as error:
        raise ValueError(_explained(error, columns)) from None
    except Exception as error:  # whatever the template raises, it makes only its own row invalid
        raise ValueError(f"cannot be rendered: {_words(error)}") from None
    finally:
        del _clock.deadline
    return "".join(parts)


def _explained(error: TemplateError, columns: Iterable[str]) -> str:
    names = list(columns)
    known = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"cannot be rendered: {_words(error)} (columns of the row that are not empty: {known})"


def _words(error: Exception) -> str:
    words = sanitize_message(error) or type(error).__name__
    return words if len(words) <= 200 else words[:199] + "…"
