# SPDX-License-Identifier: Apache-2.0
"""Joins a catalog with the ledger in DuckDB: what is known of each row, for a million rows at once.

A row whose cells are those of a purchase is known by a hash of them. Only others are rendered and checked, in
Python. Nothing outside the given DuckDB changes here.

Tables that are there when it is done: ``cat`` (the catalog), ``hashed`` (its rows and their hashes),
``best`` (the purchase that counts, for each row and request_hash), ``known`` (rows that need no second look),
``rows`` (those of them that are not simply unchanged).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_bgrep.catalog.config.defaults import SIGNED_STORES
from airflow_provider_bgrep.catalog.config.prompt_template import MARKS, columns_of, is_template, variable
from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.catalog.plan.decision import COUNTS, DECIDE, REASON, Decision, decision
from airflow_provider_bgrep.catalog.plan.image_tasks import MAIN
from airflow_provider_bgrep.catalog.source.reader import Catalog, InvalidRow
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_bgrep.catalog.config.options import Options

Versions = Callable[[Sequence[str]], Mapping[str, str]]
"""Tells images on object storage by their content: a version a path; ``!`` and why, where there is none."""

_IMAGES: Final = ("image", "mask")
_TEXTS: Final = tuple(field.name for field in IMAGE_TASK_FIELDS.values() if field.kind == "text")
_KNOWN: Final = (Decision.UNCHANGED, Decision.FLAGGED, Decision.QUARANTINED)
"""What needs no second look at the row."""


class Join:
    """The join of a catalog with the ledger.

    :param db: with the tables ``entries`` and ``live``, see :meth:`~.ledger.Ledger.read` and
        :func:`~.opening.load_live`.
    :param catalog: open; rows that cannot be used are added to its ``invalid``.
    :param options: the night's.
    :param versions: tells images on object storage by their content.
    """

    def __init__(
        self, db: duckdb.DuckDBPyConnection, catalog: Catalog, options: Options, versions: Versions
    ) -> None:
        self.db, self.catalog, self.options, self._versions_of = db, catalog, options, versions
        self.recipe = options.recipe
        # Columns are known by their place: a catalog may call them what it likes.
        self.columns = {name: f"c{place}" for place, name in enumerate(catalog.columns)}

    def make(self) -> None:
        """Fill the tables."""
        self._ingest()
        self._drop_twice()
        self._register_recipe()
        self._tell_versions()
        self._hash()
        self._choose_best()
        self._know()

    @property
    def decide(self) -> str:
        """The expression that says what a purchase ``b`` means for its row, ``l`` being what is published."""
        return DECIDE.format(**decision(self.options))

    @property
    def reason(self) -> str:
        """The expression that says why a row is quarantined for its purchase ``b``."""
        return REASON.format(**decision(self.options))

    def one(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The one row that an aggregate has."""
        found = self.db.execute(query, list(values)).fetchone()
        if found is None:
            raise AssertionError("an aggregate has a row")
        return found

    def add(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table, by the names of their columns."""
        self.db.register("more", rows)
        self.db.execute(f"INSERT INTO {table} BY NAME SELECT * FROM more")
        self.db.unregister("more")

    # --- the catalog ------------------------------------------------------------------------------

    def _ingest(self) -> None:
        renamed = pa.schema(
            [*(pa.field(c, pa.string()) for c in self.columns.values()), ("line", pa.int64())]
        )
        batches = (
            pa.RecordBatch.from_arrays([*map(_trimmed, one.columns[:-1]), one.columns[-1]], schema=renamed)
            for one in self.catalog.batches()
        )
        reader = pa.RecordBatchReader.from_batches(renamed, batches)
        sku, view = self.columns["sku"], self.columns.get("view", "NULL")
        self.db.register("reader", reader)
        self.db.execute(
            f"CREATE OR REPLACE TABLE cat AS SELECT *, coalesce({sku}, '') AS sku, "
            f"coalesce({view}, '{MAIN}') AS view, "
            f"sku || CASE WHEN view = '{MAIN}' THEN '' ELSE '/' || view END AS name FROM reader"
        )
        self.db.unregister("reader")
        (count,) = self.one("SELECT count(*) FROM cat")
        if not count and not self.catalog.invalid:
            raise InvalidInput([Problem("catalog", "has no row; nothing is planned, and nothing removed")])

    def _drop_twice(self) -> None:
        """Of rows with one name the first counts."""
        twice = self.db.execute(
            "SELECT line, sku, view, first FROM (SELECT line, sku, view, min(line) OVER (PARTITION BY name) "
            "AS first FROM cat WHERE name IN (SELECT name FROM cat WHERE sku <> '' GROUP BY name "
            "HAVING count(*) > 1)) WHERE line > first ORDER BY line"
        ).fetchall()
        for line, sku, view, first in twice:
            reason = f"{sku!r} is in line {first} already; give images of one product different views"
            self.catalog.invalid.append(InvalidRow(line, "sku", reason, sku, view))
        if twice:
            self.db.register("twice", pa.table({"line": [row[0] for row in twice]}))
            self.db.execute("DELETE FROM cat WHERE line IN (SELECT line FROM twice)")
            self.db.unregister("twice")

    def _tell_versions(self) -> None:
        """What images on object storage hold, as far as that is cheap to know."""
        cells = [(self.columns[name], "cat") for name in _IMAGES if name in self.columns]
        # Of other schemes, and of other machines that a catalog may name, nothing is asked.
        schemes = ", ".join(f"'{scheme}'" for scheme in sorted(SIGNED_STORES))
        stored = " UNION ".join(
            f"SELECT {cell} AS url FROM {table} "
            f"WHERE contains({cell}, '://') AND lower(split_part({cell}, '://', 1)) IN ({schemes})"
            for cell, table in [*cells, *((name, "recipe") for name in _IMAGES)]
        )
        urls = [str(url) for (url,) in self.db.execute(stored).fetchall()]
        found = self._versions_of(urls) if urls else {}
        self.db.execute("CREATE OR REPLACE TABLE versions (url VARCHAR, version VARCHAR)")
        if found:
            self.add("versions", pa.table({"url": list(found), "version": list(found.values())}))

    # --- what tells two versions of a row apart ---------------------------------------------------

    def _hash(self) -> None:
        """Hash of each row what decides its purchase: its cells, or the defaults in their place."""
        joins = ["JOIN recipe d ON d.category IS NULL"]
        joins.append(f"LEFT JOIN recipe r ON r.category = {self.columns.get('category', 'NULL')}")
        # What a row asks for: its cell, or its category's default, or everybody's.
        fields = {
            name: f"coalesce({self.columns.get(name, 'NULL')}, r.{name}, d.{name})"
            for name in IMAGE_TASK_FIELDS
        }
        joins += [f"LEFT JOIN versions v_{name} ON v_{name}.url = {fields[name]}" for name in _IMAGES]
        versions = [f"coalesce(v_{name}.version, '') AS {name}_version" for name in _IMAGES]
        parts = ["name", *fields.values(), *(self.columns[name] for name in self._columns_in_templates())]
        # Lengths keep ('a', 'bc') from ('ab', 'c'), and an empty cell from none.
        texts = [f"coalesce(strlen({part}) || ':' || {part}, '-')" for part in parts]
        texts += ["image_version", "mask_version", "?"]
        self.db.execute(
            f"CREATE OR REPLACE TABLE hashed AS SELECT line, name, sku, view, {', '.join(versions)}, "
            f"md5(concat_ws('|', {', '.join(texts)})) AS row_hash FROM cat {' '.join(joins)}",
            [self.recipe.edition],
        )

    def _register_recipe(self) -> None:
        """The defaults as a table: for every row (no category), and for each category."""
        rows = [{"category": None, **_as_texts(self.recipe.defaults)}]
        rows += [{"category": name, **_as_texts(values)} for name, values in self.recipe.categories.items()]
        columns = ("category", *IMAGE_TASK_FIELDS)
        table = pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in columns})
        self.db.execute(
            f"CREATE OR REPLACE TABLE recipe ({', '.join(f'{name} VARCHAR' for name in columns)})"
        )
        self.add("recipe", table)

    def _columns_in_templates(self) -> list[str]:
        """Columns that a template may read: one too many costs a second look, one too few a stale image."""
        read: set[str] = set()
        for fields in (self.recipe.defaults, *self.recipe.categories.values()):
            for text in fields.values():
                if isinstance(text, str) and is_template(text):
                    read |= columns_of(text)
        for name in _TEXTS:
            if name in self.columns:
                cell = self.columns[name]
                marked = " OR ".join(f"contains({cell}, '{mark}')" for mark in MARKS)
                words = f"regexp_extract_all({cell}, '[\\pL\\pN\\pM_]+')"
                found = self.db.execute(f"SELECT DISTINCT unnest({words}) FROM cat WHERE {marked}")
                read |= {word for (word,) in found.fetchall()}
        return [name for name in self.columns if variable(name) in read]

    # --- the ledger -------------------------------------------------------------------------------

    def _choose_best(self) -> None:
        """Of several purchases of the same for a row one with images counts, then the last."""
        columns = (
            "name, request_hash, row_hash, outcome, verdict, thresholds, account, "
            "coalesce(attempts, 0) AS attempts, reason"
        )
        # Most were bought once, and stay in their files; only the others are sorted.
        self.db.execute(
            "CREATE OR REPLACE TABLE again AS SELECT name FROM entries GROUP BY name HAVING count(*) > 1"
        )
        self.db.execute(
            f"CREATE OR REPLACE TABLE best_of_more AS SELECT {columns} FROM entries "
            "SEMI JOIN again USING (name) QUALIFY row_number() OVER "
            f"(PARTITION BY name, request_hash ORDER BY {COUNTS}) = 1"
        )
        self.db.execute(
            f"CREATE OR REPLACE VIEW best AS SELECT {columns} FROM entries ANTI JOIN again USING (name) "
            "UNION ALL FROM best_of_more"
        )

    def _know(self) -> None:
        """Fill ``known``, and ``rows`` with those of them that there is something to say of."""
        names = ", ".join(f"'{one.value}'" for one in _KNOWN)
        self.db.execute(
            f"CREATE OR REPLACE TABLE known AS SELECT h.line, {self.decide} AS decision, "
            f"CASE WHEN decision = 'quarantined' THEN {self.reason} ELSE '' END AS change FROM hashed h "
            "JOIN best b ON b.name = h.name AND b.row_hash = h.row_hash LEFT JOIN live l ON l.name = h.name "
            f"WHERE decision IN ({names})"
        )
        # A hash that stands for two contents (made by two versions of this code) says nothing.
        self.db.execute(
            "DELETE FROM known WHERE line IN (SELECT line FROM known GROUP BY line HAVING count(*) > 1)"
        )
        self.db.execute(
            "CREATE OR REPLACE TABLE rows AS SELECT name, sku, view, line, decision AS state, change "
            f"FROM known JOIN hashed USING (line) WHERE decision <> '{RowState.UNCHANGED.value}'"
        )

    # --- what is gone -----------------------------------------------------------------------------

    def remove_gone(self) -> str:
        """Decide about rows that are published, and that the catalog does not name any more.

        :return: why none is removed, if so.
        """
        if self.options.on_removed == "keep":
            return ""
        bad = pa.table({"sku": pa.array([row.sku for row in self.catalog.invalid], pa.string())})
        self.db.register("bad_rows", bad)
        self.db.execute(
            "CREATE OR REPLACE TABLE gone AS SELECT l.name, l.sku, l.view FROM live l "
            "ANTI JOIN cat ON cat.name = l.name ANTI JOIN bad_rows b ON b.sku = l.sku"
        )
        self.db.unregister("bad_rows")
        (gone,) = self.one("SELECT count(*) FROM gone")
        (live,) = self.one("SELECT count(*) FROM live")
        if not gone:
            return ""
        most = self.options.max_removed_share
        if self.catalog.unreadable:
            return (
                f"{gone} published rows are not in the catalog; none is removed, because "
                f"{self.catalog.unreadable} rows cannot be read, and may be theirs."
            )
        if gone / live > most and gone > 1:
            return (
                f"{gone} of {live} published rows ({gone / live:.0%}) are not in the catalog; none is "
                f"removed, because that is more than max_removed_share ({most:.0%})."
            )
        removed = RowState.REMOVED.value
        self.db.execute(f"INSERT INTO rows SELECT name, sku, view, NULL, '{removed}', '' FROM gone")
        return ""


def _trimmed(cells: pa.Array) -> pa.Array:
    """Cells without blanks around them; null where nothing is left."""
    trimmed = pc.utf8_trim_whitespace(cells)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _as_texts(fields: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in fields.items() if value is not None}
