# SPDX-License-Identifier: Apache-2.0
"""Directives that render the package's own tables, so that no page repeats a number or a code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from airflow_provider_bgrep.connection import EXTRAS
from airflow_provider_bgrep.exceptions import error_from
from airflow_provider_bgrep.generation.outcomes import BOUGHT, MEANINGS
from airflow_provider_bgrep.protocol import limits
from airflow_provider_bgrep.protocol.codes import (
    GATEWAY_CODES,
    GATEWAY_TEXTS,
    SERVICE_CODES,
    Operation,
    Rule,
    Then,
)
from airflow_provider_bgrep.protocol.errors import CallError

THEN = {
    Then.FINAL: "ends",
    Then.BACK_OFF: "backs off, sends again",
    Then.SEND_AGAIN: "sends again",
    Then.UNKNOWN: "**unknown outcome**",
}


def _cell(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace("*", "\\*") if value != "" else "–"


class Table(SphinxDirective):
    """A list-table out of rows of reStructuredText."""

    header: tuple[str, ...]
    widths: str

    def rows(self) -> Iterable[tuple[str, ...]]:
        """The rows, a cell a column."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Render."""
        lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {self.widths}", ""]
        for row in (self.header, *self.rows()):
            for i, cell in enumerate(row):
                lines.append(("   * - " if i == 0 else "     - ") + cell)
        lines.append("")
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, source="table"), 0, parent)
        return parent.children


class Fields(Table):
    """Fields of an image task."""

    header = ("field", "type", "on the wire", "range", "default", "meaning")
    widths = "18 8 10 16 8 40"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row a field."""
        for field in limits.IMAGE_TASK_FIELDS.values():
            required = "always" if field.required else "if given"
            default = "–" if field.default is None else f"``{field.default}``"
            yield (f"``{field.name}``", field.kind, required, _cell(field.range), default, field.meaning)


class Extras(Table):
    """Extras of the connection."""

    header = ("extra", "meaning", "when empty")
    widths = "25 50 25"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row an extra."""
        for extra in EXTRAS.values():
            yield (
                f"``{extra.name}``",
                extra.description,
                f"``{extra.placeholder}``" if extra.placeholder else "–",
            )


class Codes(Table):
    """One of the tables of codes."""

    required_arguments = 1
    header = ("code", "meaning, and what to do", "a submit", "a query")
    widths = "18 46 18 18"
    tables: ClassVar[dict[str, Iterable[Rule]]] = {
        "service": SERVICE_CODES.values(),
        "gateway": GATEWAY_CODES.values(),
        "texts": GATEWAY_TEXTS,
    }

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row a code."""
        for rule in self.tables[self.arguments[0]]:
            submit, query = (
                f"{THEN[rule.then(op)]}: ``{type(error_from(CallError(op, rule))).__name__[5:]}``"
                for op in Operation
            )
            yield (
                f"``{rule.code}`` HTTP {rule.http_status}",
                f"*{_cell(rule.meaning)}.* {_cell(rule.remedy)}",
                submit,
                query,
            )


class Outcomes(Table):
    """How an image task can end."""

    header = ("``status``", "what happened", "what to do", "paid for")
    widths = "18 36 36 10"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row an outcome."""
        for outcome, (happened, advice) in MEANINGS.items():
            is_paid = "assume so" if outcome in BOUGHT else "no"
            yield (f"``{outcome.value}``", _cell(happened), _cell(advice), is_paid)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("bgrep-fields", Fields)
    app.add_directive("bgrep-extras", Extras)
    app.add_directive("bgrep-codes", Codes)
    app.add_directive("bgrep-outcomes", Outcomes)
    return {"parallel_read_safe": True}
