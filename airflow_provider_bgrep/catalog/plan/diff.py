# SPDX-License-Identifier: Apache-2.0
"""Compares a catalog with the ledger in DuckDB, a million rows at once.

A row whose cells are those of a purchase is recognized by a hash of them. Only the others are rendered and
validated, in Python. Nothing outside the given DuckDB changes here.

Tables that :meth:`Join.make` leaves: ``best`` (the purchase that counts, for each row and request_hash),
``purchases`` (those of them that decide about a row whose cells have not changed), ``cat`` (the catalog's
rows: ``line, name_hash, name, view, image, mask, purchase``; ``name`` and ``view`` only where no purchase
decides, ``image`` and ``mask`` only where they are paths on object storage, ``purchase`` the place of the one
that decides), ``versions`` (of those images), ``known`` (rows that
need not be rendered) and ``rows`` (those of them that are not simply unchanged).
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_provider_bgrep.catalog.config.defaults import SIGNED_STORES
from airflow_provider_bgrep.catalog.config.prompt_template import (
    CONDITION_WORDS,
    MARKS,
    columns_of,
    conditions_of,
    is_template,
)
from airflow_provider_bgrep.catalog.model.columns import MAIN, URL_FIELDS
from airflow_provider_bgrep.catalog.model.editions import edition_of
from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.catalog.plan.corrected import IS_REFUSED, corrected, refused_rows
from airflow_provider_bgrep.catalog.plan.decision import (
    ALONE,
    DECIDE,
    REASON,
    Decision,
    decision,
    judged,
)
from airflow_provider_bgrep.catalog.source.catalog import Catalog, InvalidRow
from airflow_provider_bgrep.catalog.source.rows import NormalizedRows
from airflow_provider_bgrep.catalog.state.database import has_key
from airflow_provider_bgrep.catalog.state.marks import MarkKind
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_bgrep.catalog.config.options import Options
    from airflow_provider_bgrep.catalog.source.beginnings import SourceReader
    from airflow_provider_bgrep.catalog.state.marks import Marks

Versions = Callable[[Sequence[str]], Mapping[str, str]]
"""Identifies the content of images on object storage: a version for each path; ``!`` and why if none."""

_NAMED: Final = ("name", "view")
_ROW_HASH: Final = "md5(r.content)"
"""The expression that tells versions of a row apart: everything that decides its purchase.

Versions of images on object storage are not in it: they are compared by themselves.
"""

_KNOWN: Final = (Decision.UNCHANGED, Decision.FLAGGED, Decision.UNMASKED, Decision.QUARANTINED)
"""Decisions for which a row need not be rendered."""

_SKU: Final = f"CASE WHEN view = '{MAIN}' THEN name ELSE left(name, length(name) - length(view) - 1) END"
BLOCKS: Final = f"SELECT key, reason FROM marks WHERE kind = '{MarkKind.BLOCK.value}'"
"""A query for the keys of blocked rows, see :func:`~.columns.keys_of`."""

_REORDERING: Final = "join_order,build_side_probe_side"
"""DuckDB's optimizers that choose which side of a join is kept in memory."""

_BATCH: Final = 4_096
"""Rows that are handed over at once."""


class Join:
    """The join of a catalog with the ledger.

    :param db: with the tables ``entries`` and ``live``, see :meth:`~.ledger.Ledger.reading` and
        :func:`~.manifest.live_rows`.
    :param catalog: open; rows that cannot be used are added to its ``invalid``.
    :param options: the run's.
    :param versions: identifies the content of images on object storage.
    :param sources: reads images and masks.
    :param marks: what persons have decided about rows.
    """

    def __init__(
        self,
        db: duckdb.DuckDBPyConnection,
        catalog: Catalog,
        options: Options,
        versions: Versions,
        sources: SourceReader,
        marks: Marks,
    ) -> None:
        self.db, self.catalog, self.options, self._versions_of = db, catalog, options, versions
        self.sources, self.marks = sources, marks
        self.recipe = options.recipe
        variables, conditions = self._words_in_templates()
        self.rows = NormalizedRows(
            catalog,
            self.recipe.defaults,
            self.recipe.categories,
            variables,
            self.recipe.edition,
            conditions,
            marks.generations,
        )
        self.notes: list[str] = []
        """What a person should know about the whole catalog."""
        self.attention: Counter[str] = Counter()
        self.given_up: dict[str, int] = {}
        """See :class:`~.plan.Plan`."""
        self.unchanged = 0
        """Rows that a purchase, which is published, decides about."""

    def make(self) -> None:
        """Fill the tables."""
        self.marks.create_table(self.db)
        # A block may name a product. Rows that no purchase decides about are found by their own keys.
        self.db.execute(
            "CREATE OR REPLACE TABLE blocked AS SELECT DISTINCT name FROM entries WHERE "
            f"{has_key(f'SELECT key FROM ({BLOCKS})')}"
            if self.marks.blocks
            else "CREATE OR REPLACE TABLE blocked (name VARCHAR)"
        )
        self._choose_best()
        self._judge_purchases()
        self._read_catalog()
        self._compare_versions()
        self._find_corrected()
        self._collapse()
        self._drop_twice()
        self._list_known()

    def decide(self, is_listed: str) -> str:
        """The expression that says what a purchase ``b`` means for its row, ``l`` being what is published.

        :param is_listed: the condition that it is published under the row's sku and view.
        """
        return DECIDE.format(**decision(self.options), is_listed=is_listed)

    @property
    def reason(self) -> str:
        """The expression that says why a row is quarantined for its purchase ``b``."""
        return REASON.format(**decision(self.options))

    def edition_of(self, name: str) -> str:
        """The edition of a row: see :mod:`~.editions`."""
        return edition_of(self.recipe.edition, self.marks.generations.get(name, 0))

    def one(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The single row of an aggregate."""
        # All of it: a result that is not read to its end keeps the connection busy.
        (found,) = self.db.execute(query, list(values)).fetchall()
        return tuple(found)

    def insert(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table, by the names of their columns; also while :meth:`unknown_rows` is read."""
        self.db.register("more", rows)
        self.db.execute(f"INSERT INTO {table} BY NAME SELECT * FROM more")
        self.db.unregister("more")

    def unknown_rows(self) -> Iterator[list[dict[str, Any]]]:
        """The normalized rows that have to be rendered, some at a time, with ``row_hash`` and versions."""
        versions = [
            f"coalesce((SELECT any_value(version) FROM versions WHERE url = u.{one}), '') AS {one}_version"
            for one in URL_FIELDS
        ]
        # Another connection has no access to the temporary table.
        self.db.execute(
            f"CREATE OR REPLACE TABLE unknown AS SELECT line, {', '.join(URL_FIELDS)} FROM cat "
            "WHERE purchase IS NULL"
        )
        if self.one("SELECT count(*) FROM unknown") == (0,):
            return
        # Not on the same connection: rows are inserted while these are read.
        with self.db.cursor() as cursor, self._reading():
            cursor.register("reader", self.rows.reader())
            cursor.execute(
                f"SELECT r.* EXCLUDE (content), {_ROW_HASH} AS row_hash, {', '.join(versions)} FROM reader r "
                "JOIN unknown u ON u.line = r.line"
            )
            names = [column[0] for column in cursor.description]
            while some := cursor.fetchmany(_BATCH):
                yield [dict(zip(names, values, strict=True)) for values in some]

    # --- the catalog ------------------------------------------------------------------------------

    def _words_in_templates(self) -> tuple[set[str], set[str]]:
        """Columns that a template may read, and those of them whose truth may decide about it.

        One too many costs time, one too few a stale image.
        """
        read: set[str] = set()
        conditions: set[str] = set()
        for fields in (self.recipe.defaults, *self.recipe.categories.values()):
            for text in fields.values():
                if isinstance(text, str) and is_template(text):
                    read |= columns_of(text)
                    conditions |= conditions_of(text)
        words = self.catalog.template_words(MARKS)
        return read | words, conditions | (words if words & CONDITION_WORDS else set())

    def _read_catalog(self) -> None:
        """Fill ``cat``, in one pass over the file."""
        schemes = ", ".join(f"'{scheme}'" for scheme in sorted(SIGNED_STORES))
        stored = {
            # Other schemes, and other machines that a catalog may name, are not asked about anything.
            name: f"CASE WHEN NOT starts_with(r.{name}, 'http') AND contains(r.{name}, '://') "
            f"AND lower(split_part(r.{name}, '://', 1)) IN ({schemes}) THEN r.{name} END"
            for name in URL_FIELDS
        }
        # Storing a million names takes time and memory. A row that a purchase decides about needs none.
        columns = [f"CASE WHEN p.place IS NULL THEN r.{name} END AS {name}" for name in _NAMED]
        columns += [f"{one} AS {name}" for name, one in stored.items()]
        with self._streamed(self.rows.key_reader()):
            self.db.execute(
                "CREATE OR REPLACE TEMP TABLE cat AS SELECT r.line, r.name_hash, "
                f"{', '.join(columns)}, p.place AS purchase FROM "
                f"(SELECT *, hash(name) AS name_hash, hash({_ROW_HASH}) AS row_key FROM reader r) r "
                "LEFT JOIN (SELECT name_hash, row_key, rowid AS place FROM purchases) p "
                "ON p.row_key = r.row_key AND p.name_hash = r.name_hash"
            )
        if not self.rows.count and not self.catalog.invalid:
            raise InvalidInput([Problem("catalog", "has no row; nothing is planned, and nothing removed")])

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise the catalog's own error instead of DuckDB's."""
        try:
            yield
        except Exception:
            if self.rows.failure is not None:
                raise self.rows.failure from None
            raise

    @contextlib.contextmanager
    def _streamed(self, rows: pa.RecordBatchReader) -> Iterator[None]:
        """For as long as the context lasts, rows of the catalog are the left side of joins, as ``reader``."""
        self.db.register("reader", rows)
        # DuckDB knows nothing of the file's size, and might keep all of it in memory for the join.
        self.db.execute(f"SET disabled_optimizers = '{_REORDERING}'")
        try:
            with self._reading():
                yield
        finally:
            self.db.execute("SET disabled_optimizers = ''")
            self.db.unregister("reader")

    def _restore_names(self, condition: str) -> None:
        """Read the names of rows of ``cat`` that were not stored because a purchase decided about them.

        :param condition: which of them.
        """
        wanted = f"SELECT line FROM cat WHERE name IS NULL AND ({condition})"
        (found,) = self.one(f"SELECT count(*) FROM ({wanted})")
        if not found:
            return
        with self._streamed(self.rows.reader()):
            self.db.execute(
                "CREATE OR REPLACE TEMP TABLE named AS SELECT r.line, r.name, r.view FROM reader r "
                f"SEMI JOIN ({wanted}) w ON w.line = r.line"
            )
        self.db.execute(
            "UPDATE cat SET name = named.name, view = named.view FROM named WHERE named.line = cat.line"
        )

    def _compare_versions(self) -> None:
        """A row is not known by its hash if the content of an image on object storage has changed."""
        stored = " UNION ".join(
            f"SELECT {name} AS url FROM cat WHERE {name} IS NOT NULL" for name in URL_FIELDS
        )
        urls = [str(url) for (url,) in self.db.execute(stored).fetchall()]
        self.db.execute("CREATE OR REPLACE TABLE versions (url VARCHAR, version VARCHAR)")
        found = self._versions_of(urls) if urls else {}
        if found:
            self.insert("versions", pa.table({"url": list(found), "version": list(found.values())}))
        if urls:
            joins = [f"LEFT JOIN versions v_{one} ON v_{one}.url = c.{one}" for one in URL_FIELDS]
            differ = [f"p.{one}_version IS DISTINCT FROM coalesce(v_{one}.version, '')" for one in URL_FIELDS]
            self.db.execute(
                "UPDATE cat SET purchase = NULL WHERE rowid IN (SELECT c.rowid FROM cat c "
                f"JOIN purchases p ON p.rowid = c.purchase {' '.join(joins)} WHERE {' OR '.join(differ)})"
            )

    def _find_corrected(self) -> None:
        """Fill ``corrected`` with the lines of refused rows to submit again: see :mod:`~.corrected`."""
        self.db.execute("CREATE OR REPLACE TABLE corrected (line BIGINT)")
        submitted = refused_rows(self.db, time.time()) if self.options.check_sources != "off" else {}
        if not submitted:
            return
        self.db.register("refused", pa.table({"line": list(submitted)}))
        reader = self.rows.reader()
        own = [name for name in URL_FIELDS if name in reader.schema.names]
        constants = [url for name in URL_FIELDS if name not in own and (url := self.rows.constants.get(name))]
        columns = ", ".join(["r.line", *(f"r.{name}" for name in own)])
        with self._streamed(reader):
            found = self.db.execute(
                f"SELECT {columns} FROM reader r SEMI JOIN refused USING (line)"
            ).fetchall()
        self.db.unregister("refused")
        by_line = {line: [*filter(None, some), *constants] for line, *some in found}
        lines = corrected({line: submitted[line] for line in by_line}, by_line, self.sources)
        if lines:
            self.insert("corrected", pa.table({"line": lines}))
            self.db.execute("UPDATE cat SET purchase = NULL WHERE line IN (FROM corrected)")

    def _collapse(self) -> None:
        """Keep one row for each line: purchases of one row may differ in the content of an image only."""
        (count,) = self.one("SELECT count(*) FROM cat")
        if count == self.rows.count:
            return
        # A hash that stands for two contents (made by two versions of this code) says nothing.
        self.db.execute(
            "CREATE OR REPLACE TEMP TABLE cat AS SELECT line, any_value(name_hash) AS name_hash, "
            "any_value(name) AS name, any_value(view) AS view, any_value(image) AS image, "
            "any_value(mask) AS mask, "
            "CASE WHEN count(purchase) = 1 THEN any_value(purchase) END AS purchase FROM cat GROUP BY line"
        )

    def _drop_twice(self) -> None:
        """Of rows with one name the first counts, also if it cannot be used."""
        # Hashes of names only find candidates, in less memory; names decide.
        self.db.execute(
            "CREATE OR REPLACE TEMP TABLE repeated AS SELECT name_hash FROM cat "
            "GROUP BY name_hash HAVING count(*) > 1"
        )
        unusable = [(name, row.line) for row in self.catalog.invalid if (name := row.name)]
        self.db.execute("CREATE OR REPLACE TEMP TABLE unusable (name VARCHAR, line BIGINT)")
        if unusable:
            names, lines = zip(*unusable, strict=True)
            self.insert("unusable", pa.table({"name": names, "line": lines}))
            self.db.execute(
                "INSERT INTO repeated SELECT name_hash FROM cat "
                "WHERE name_hash IN (SELECT hash(name) FROM unusable)"
            )
        self._restore_names("purchase IS NULL OR name_hash IN (FROM repeated)")
        some = "SELECT * FROM cat WHERE name <> '' AND name_hash IN (FROM repeated)"
        twice = self.db.execute(
            f"SELECT line, {_SKU}, view, first FROM ({some}) JOIN (SELECT name, min(line) AS first FROM "
            f"(SELECT name, line FROM ({some}) UNION ALL FROM unusable) GROUP BY name) USING (name) "
            "WHERE line > first ORDER BY line"
        ).fetchall()
        for line, sku, view, first in twice:
            reason = f"{sku!r} is in line {first} already; give images of one product different views"
            self.catalog.invalid.append(InvalidRow(line, "sku", reason, sku, view))
        if twice:
            self.db.register("twice", pa.table({"line": [row[0] for row in twice]}))
            self.db.execute("DELETE FROM cat WHERE line IN (SELECT line FROM twice)")
            self.db.unregister("twice")

    # --- the ledger -------------------------------------------------------------------------------

    def _choose_best(self) -> None:
        """Choose the purchase that decides about each request of a row, see :func:`~.decision.judged`."""
        columns = (
            "name, view, request_hash, row_hash, outcome, verdict, thresholds, account, image_version, "
            "mask_version, reason, code"
        )
        # Most were submitted once, and stay in their files; only the others are sorted. Two names that share
        # a hash are sorted as well, which changes nothing.
        self.db.execute(
            "CREATE OR REPLACE TABLE again AS SELECT hash(name) AS name_hash FROM entries "
            "GROUP BY name_hash HAVING count(*) > 1"
        )
        records = (
            f"SELECT {columns}, attempts, nonce, result_key, seq FROM entries "
            "SEMI JOIN again ON name_hash = hash(name)"
        )
        chosen = judged(records).format(**decision(self.options))
        self.db.execute(f"CREATE OR REPLACE TABLE best_of_more AS SELECT {columns}, attempts FROM ({chosen})")
        self.db.execute(
            f"CREATE OR REPLACE VIEW best AS SELECT {columns}, {ALONE} FROM entries "
            "ANTI JOIN again ON name_hash = hash(name) UNION ALL FROM best_of_more"
        )

    def _judge_purchases(self) -> None:
        """Fill ``purchases`` with those that decide about their row as long as its cells stay the same."""
        known = ", ".join(f"'{one.value}'" for one in _KNOWN)
        named = [f"CASE WHEN decision <> '{RowState.UNCHANGED.value}' THEN b.{one} END" for one in _NAMED]
        # The purchase of a row with the same cells has its sku and view. What is published may have others: a
        # person has rolled it back meanwhile. Of two skus of one name, the lengths differ.
        decide = self.decide(
            f"l.sku_length = strlen(b.name) - CASE WHEN b.view = '{MAIN}' THEN 0 ELSE strlen(b.view) + 1 END"
        )
        # A million request hashes are kept in memory for this join: as numbers they take a sixth. Only those
        # of one name are compared.
        live = "SELECT name, place, hash(answers) AS answers, strlen(sku)::INTEGER AS sku_length FROM live"
        best = "SELECT * REPLACE (hash(request_hash) AS request_hash) FROM best"
        self.db.execute(
            "CREATE OR REPLACE TEMP TABLE purchases AS SELECT hash(b.name) AS name_hash, "
            "hash(b.row_hash) AS row_key, l.place AS live, b.image_version, b.mask_version, "
            f"TRY_CAST({decide} AS ENUM({known})) AS decision, "
            f"CASE WHEN decision = 'quarantined' THEN {self.reason} ELSE '' END AS change, "
            f"decision = 'quarantined' AND {IS_REFUSED} AS is_refused, "
            f"{named[0]} AS name, {named[1]} AS view "
            f"FROM ({best}) b LEFT JOIN ({live}) l ON l.name = b.name WHERE {decide} IN ({known}) "
            "AND b.name NOT IN (FROM blocked)"
        )

    def _list_known(self) -> None:
        """Make ``known``, and fill ``rows`` with those of them that are not simply unchanged."""
        self.db.execute(
            "CREATE OR REPLACE TEMP VIEW known AS SELECT line, p.name, p.view, decision, change, live "
            "FROM cat JOIN purchases p ON p.rowid = cat.purchase"
        )
        unchanged = RowState.UNCHANGED.value
        self.db.execute(
            f"CREATE OR REPLACE TABLE rows AS SELECT name, {_SKU} AS sku, view, line, "
            f"decision::VARCHAR AS state, change FROM known WHERE decision <> '{unchanged}'"
        )
        (self.unchanged,) = self.one("SELECT count(purchase) - (SELECT count(*) FROM rows) FROM cat")
