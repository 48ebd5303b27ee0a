# SPDX-License-Identifier: Apache-2.0
"""Directives that render tables of the package, so that the pages do not repeat numbers or codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, ClassVar

import pair_rows
from catalog_forms import HEADER, catalog_forms
from command_help import command_help
from docutils import nodes
from docutils.statemachine import StringList
from metric_rows import rows_of_metrics
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from state_rows import header_of, identity_of, rows_of
from version_rows import PROJECT, header_of_features, rows_of_features, rows_of_versions

from airflow_provider_bgrep.catalog.config.filename_template import TEMPLATE_FIELDS
from airflow_provider_bgrep.catalog.config.thresholds import MEASURES
from airflow_provider_bgrep.catalog.model.columns import COLUMNS, REQUIRED
from airflow_provider_bgrep.catalog.model.schema import ENTRY, Column
from airflow_provider_bgrep.catalog.model.states import ROW_MEANINGS, VERDICT_MEANINGS
from airflow_provider_bgrep.catalog.state.manifest import MANIFEST
from airflow_provider_bgrep.cli.command import EXIT_CODES
from airflow_provider_bgrep.connection import EXTRAS
from airflow_provider_bgrep.exceptions import error_from
from airflow_provider_bgrep.generation.outcomes import BILLABLE, MEANINGS
from airflow_provider_bgrep.masks.confidence import MEASURES as MASK_MEASURES
from airflow_provider_bgrep.protocol import limits
from airflow_provider_bgrep.protocol.codes import (
    GATEWAY_CODES,
    GATEWAY_TEXTS,
    SERVICE_CODES,
    ErrorCode,
    Operation,
    RetryDecision,
    by_status,
)
from airflow_provider_bgrep.protocol.errors import CallError
from airflow_provider_bgrep.storage_check.report import CHECKS

HANDLING = {
    RetryDecision.FINAL: "final",
    RetryDecision.BACK_OFF: "backs off, sends again",
    RetryDecision.SEND_AGAIN: "sends again",
    RetryDecision.UNKNOWN: "**unknown outcome**",
}


def _cell(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace("*", "\\*") if value != "" else "–"


class Table(SphinxDirective):
    """A list table whose cells are reStructuredText."""

    header: tuple[str, ...]
    widths: str

    def rows(self) -> Iterable[tuple[str, ...]]:
        """Return the rows, with one cell for each column."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Render the table."""
        lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {self.widths}", ""]
        for row in (self.header, *self.rows()):
            for i, cell in enumerate(row):
                first, *more = cell.split("\n")
                lines.append(("   * - " if i == 0 else "     - ") + first)
                lines += [f"       {line}" if line else "" for line in more]
        lines.append("")
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, source="table"), 0, parent)
        return parent.children


class Metrics(Table):
    """The metrics."""

    header = ("Name", "Kind", "Unit", "Meaning", "Sent by")
    widths = "33 9 12 32 14"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each metric."""
        return rows_of_metrics()


class StorageChecks(Table):
    """What a check of a store tries."""

    header = ("Check", "Needed", "Why")
    widths = "20 10 70"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """Return a row for each check."""
        return ((name, "yes" if needed else "no", why) for name, (needed, why) in CHECKS.items())


class Fields(Table):
    """The fields of an image task."""

    header = ("Field", "Meaning", "Type and range", "Default")
    widths = "20 45 22 13"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each field."""
        for field in limits.IMAGE_TASK_FIELDS.values():
            kind = f"{field.kind} in " if field.range[0] in "[(" else ""
            none = "required" if field.required else "–"
            default = none if field.default is None else f"``{field.default}``"
            yield (f"``{field.name}``", field.meaning, f"{kind}{_cell(field.range)}", default)


class ExitCodes(Table):
    """The exit codes of the command line."""

    header = ("Exit code", "Meaning")
    widths = "15 85"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each exit code."""
        return (
            (str(code.value), f"{meaning[:1].upper()}{meaning[1:]}.") for code, meaning in EXIT_CODES.items()
        )


class Commands(SphinxDirective):
    """The help of each command, as its parser prints it."""

    def run(self) -> list[nodes.Node]:
        """Render a title and a block of text for each command."""
        found: list[nodes.Node] = []
        for name, text in command_help():
            found += [nodes.rubric(text=name), nodes.literal_block(text, text, language="text")]
        return found


class CatalogForms(Table):
    """What a catalog may look like, from the tables of its reader."""

    header = HEADER
    widths = "22 78"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each property of a file, or of its cells."""
        return catalog_forms()


class Extras(Table):
    """The extras of the connection."""

    header = ("Extra", "Meaning", "Default or example")
    widths = "25 50 25"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each extra."""
        for extra in EXTRAS.values():
            yield (
                f"``{extra.name}``",
                extra.description,
                f"``{extra.placeholder}``" if extra.placeholder else "–",
            )


class MaskMeasures(Table):
    """The measures of a mask's confidence."""

    header = (
        "Measure",
        "The doubt, for a value at which half of the confidence is left",
        "Counts as 1",
        "Counts as 0",
    )
    widths = "16 60 12 12"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each measure."""
        for name, one in MASK_MEASURES.items():
            words = one.words.format((one.doubtful + one.wrong) / 2)
            yield f"``{name}``", words[0].upper() + words[1:], f"{one.doubtful:g}", f"{one.wrong:g}"


class Codes(Table):
    """One of the tables of error codes."""

    required_arguments = 1
    header = ("Code", "Meaning and remedy", "Submit", "Query")
    widths = "18 46 18 18"
    tables: ClassVar[dict[str, Iterable[ErrorCode]]] = {
        "service": SERVICE_CODES.values(),
        "gateway": GATEWAY_CODES.values(),
        "texts": GATEWAY_TEXTS,
    }

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each code."""
        for rule in self.tables[self.arguments[0]]:
            submit, query = (
                f"{HANDLING[rule.then(op)]}: ``{type(error_from(CallError(op, rule))).__name__[5:]}``"
                for op in Operation
            )
            yield (
                f"``{rule.code}`` HTTP {rule.http_status}",
                f"*{_cell(rule.meaning)}.* {_cell(rule.remedy)}",
                submit,
                query,
            )


class Statuses(Table):
    """What a code that is in no table means, by its HTTP status."""

    header = ("HTTP status", "Submit", "Query")
    widths = "40 30 30"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each meaning."""
        found: dict[tuple[str, ...], list[list[int]]] = {}
        for status in range(200, 600):
            rule = by_status(status)
            runs = found.setdefault(tuple(HANDLING[rule.then(op)] for op in Operation), [])
            if runs and runs[-1][1] == status - 1:
                runs[-1][1] = status
            else:
                runs.append([status, status])
        for handling, runs in found.items():
            yield ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in runs), *handling


class Outcomes(Table):
    """The outcomes of an image task."""

    header = ("Outcome", "Meaning", "What to do", "Billable")
    widths = "18 36 36 10"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each outcome."""
        for outcome, (happened, advice) in MEANINGS.items():
            is_billable = "assume yes" if outcome in BILLABLE else "no"
            yield (f"``{outcome.value}``", _cell(happened), _cell(advice), is_billable)


class Words(Table):
    """A table of states: names, meanings and what to do."""

    chosen: ClassVar[str]
    header = ("Name", "Meaning", "What to do")
    widths = "20 50 30"
    words: ClassVar[dict[str, Mapping[Enum, tuple[str, str]]]] = {
        "states": ROW_MEANINGS,
        "verdicts": VERDICT_MEANINGS,
    }

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each state."""
        for state, (means, advice) in self.words[self.chosen].items():
            yield (f"``{state.value}``", _cell(means), _cell(advice))


class RowStates(Words):
    """The states of a row."""

    chosen = "states"


class Verdicts(Words):
    """The verdicts of the checks."""

    chosen = "verdicts"


class States(Table):
    """The states of a row, of a purchase, of a plan or of a run."""

    required_arguments = 1
    widths = "24 22 32 22"

    def run(self) -> list[nodes.Node]:
        """Render what identifies the entity, then the table."""
        entity = self.arguments[0]
        self.header = header_of(entity)
        parent = nodes.Element()
        self.state.nested_parse(StringList([identity_of(entity), ""], source="table"), 0, parent)
        return [*parent.children, *super().run()]

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each state."""
        return rows_of(self.arguments[0])


class CatalogColumns(Table):
    """The columns of a catalog that the API or the provider uses."""

    header = ("Column", "Meaning")
    widths = "20 80"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each column."""
        for name, meaning in COLUMNS.items():
            yield (f"``{name}``" + (", required" if name in REQUIRED else ""), _cell(meaning))


class FileNames(Table):
    """The fields of a file-name template."""

    header = ("Field", "Meaning")
    widths = "20 80"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each field."""
        for name, meaning in TEMPLATE_FIELDS.items():
            yield (f"``{{{name}}}``", _cell(meaning))


class Features(Table):
    """What each version of Airflow has."""

    header = header_of_features()
    widths = f"28 {' '.join(['6'] * (len(header) - 2))} 42"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each feature."""
        return rows_of_features()


class Versions(Table):
    """Which versions of Airflow and Python are tested."""

    header = ("Airflow", "Python", "Whole suites on", "Other packages", "Also required")
    widths = "12 24 18 24 22"

    def run(self) -> list[nodes.Node]:
        """Render the table."""
        self.env.note_dependency(str(PROJECT))
        return super().run()

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each version of Airflow."""
        return rows_of_versions()


class Measures(Table):
    """The scores of the checks."""

    header = ("Score", "Meaning", "Threshold")
    widths = "20 60 20"

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each score."""
        for name, measure in MEASURES.items():
            bound = "at least" if measure.is_least else "at most"
            threshold = "–" if measure.default is None else f"{bound} {measure.default:g}"
            yield (f"``{name}``", _cell(measure.meaning), threshold)


class Pairs(Table):
    """What the checks flag of image pairs of known damage."""

    required_arguments = 1
    widths = "31 8 14 25 22"

    def run(self) -> list[nodes.Node]:
        """Render the table."""
        self.env.note_dependency(str(pair_rows.FILE))
        self.header = pair_rows.header_of(self.arguments[0])
        return super().run()

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each kind of change and strength."""
        return pair_rows.rows_of(self.arguments[0])


class Stored(Table):
    """The columns of a stored table."""

    chosen: ClassVar[str]
    header = ("Column", "Type", "Meaning")
    widths = "22 13 65"
    tables: ClassVar[dict[str, Iterable[Column]]] = {"ledger": ENTRY, "manifest": MANIFEST}

    def rows(self) -> Iterable[tuple[str, ...]]:
        """One row for each column."""
        for column in self.tables[self.chosen]:
            yield (f"``{column.name}``", _cell(column.type), _cell(column.meaning))


class LedgerColumns(Stored):
    """The columns of the ledger."""

    chosen = "ledger"


class ManifestColumns(Stored):
    """The columns of the manifest."""

    chosen = "manifest"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("bgrep-fields", Fields)
    app.add_directive("bgrep-catalog-forms", CatalogForms)
    app.add_directive("bgrep-extras", Extras)
    app.add_directive("bgrep-mask-measures", MaskMeasures)
    app.add_directive("bgrep-codes", Codes)
    app.add_directive("bgrep-statuses", Statuses)
    app.add_directive("bgrep-outcomes", Outcomes)
    app.add_directive("bgrep-columns", CatalogColumns)
    app.add_directive("bgrep-row-states", RowStates)
    app.add_directive("bgrep-verdicts", Verdicts)
    app.add_directive("bgrep-states", States)
    app.add_directive("bgrep-features", Features)
    app.add_directive("bgrep-versions", Versions)
    app.add_directive("bgrep-measures", Measures)
    app.add_directive("bgrep-pairs", Pairs)
    app.add_directive("bgrep-file-names", FileNames)
    app.add_directive("bgrep-ledger-columns", LedgerColumns)
    app.add_directive("bgrep-manifest-columns", ManifestColumns)
    app.add_directive("bgrep-storage-checks", StorageChecks)
    app.add_directive("bgrep-metrics", Metrics)
    app.add_directive("bgrep-exit-codes", ExitCodes)
    app.add_directive("bgrep-commands", Commands)
    return {"parallel_read_safe": True}
