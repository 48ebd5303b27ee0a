# SPDX-License-Identifier: Apache-2.0
"""What was submitted for a destination, when, for what and by which run. Nothing here writes to storage.

The ledger has an entry for each record of a purchase; here, each purchase is one row. What runs have
submitted and not committed yet is included.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_provider_bgrep.catalog.state.database import engine, has_key
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.progress import in_sql, merged
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.generation.outcomes import BILLABLE, Outcome

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

_KEPT: Final = (
    *("name", "sku", "view", "edition", "submitted_at", "saved_at", "outcome", "reason", "code", "verdict"),
    *("flags", "scores", "chosen", "files", "images", "attempts", "account", "result_key", "request_id"),
    *("gateway_request_id", "nonce", "dag_id", "run_id", "group_id", "plan_id", "shard"),
)
"""Columns of a purchase. What was sent is in the ledger as well; it is not shown."""

_BATCH: Final = 2_000

WITHOUT_CATEGORY: Final = "(no category)"
NOT_IN_CATALOG: Final = "(not in the catalog)"

KEYS: Final[dict[str, str]] = {
    "day": "left(submitted_at, 10)",
    "month": "left(submitted_at, 7)",
    "run": "concat_ws(' ', dag_id, run_id, nullif(group_id, ''))",
    "category": f"CASE WHEN c.name IS NULL THEN '{NOT_IN_CATALOG}' ELSE coalesce(nullif(c.category, ''), "
    f"'{WITHOUT_CATEGORY}') END",
}
"""What purchases are added up by, as SQL. Days and months are those of UTC."""

_ALL: Final = "''"
"""The key that all purchases share."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Price:
    """What an image costs.

    :param amount: price of one image.
    :param currency: its currency; ``''`` if none was given.
    """

    amount: Decimal
    currency: str = ""


@dataclass(slots=True)
class Total:
    """The sum of some purchases.

    :param key: what they have in common; ``''`` for all purchases.
    :param purchases: number of submits of a row that are billable, or may be.
    :param images: billable images, those of unknown outcomes included.
    :param unknown_images: of these, the images of submits whose outcome is unknown: they may not be billed.
    :param unpriced_images: of these, the images whose price is not known.
    :param costs: cost of the others, by currency.
    """

    key: str = ""
    purchases: int = 0
    images: int = 0
    unknown_images: int = 0
    unpriced_images: int = 0
    costs: dict[str, Decimal] = field(default_factory=dict)

    def add(self, purchases: int, images: int, unknown_images: int, price: Price | None) -> None:
        """Add purchases that have one price."""
        self.purchases += purchases
        self.images += images
        self.unknown_images += unknown_images
        if price is None:
            self.unpriced_images += images
        else:
            cost = self.costs.get(price.currency, Decimal(0)) + images * price.amount
            self.costs[price.currency] = cost


class Purchases:
    """The purchases of a destination. Use :func:`open_purchases`.

    :param db: with the table ``purchases``.
    :param paths: the destination's paths.
    :param price: price of images whose plan does not know it.
    """

    def __init__(self, db: duckdb.DuckDBPyConnection, paths: CatalogPaths, price: Price | None) -> None:
        self._db, self._paths, self._price = db, paths, price
        self._prices: dict[str, Price | None] = {}

    def of_rows(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """The purchases of products and rows, refused submits included, oldest first.

        :param keys: see :func:`~.columns.keys_of`.
        """
        return list(self._rows(has_key("SELECT unnest(?)"), [list(keys), list(keys)]))

    def locked_of(self, keys: Sequence[str]) -> list[dict[str, str]]:
        """The name and sku of each row of some products that a run which has not ended may still submit.

        A row that was never submitted is not among the purchases, so its sku is that of its plan.

        :param keys: see :func:`~.columns.keys_of`.
        """
        found: list[dict[str, str]] = []
        for (plan_id,) in self._db.execute("SELECT DISTINCT plan_id FROM locked").fetchall():
            named = {row["name"]: row["sku"] for row in PlanStore(self._paths, plan_id).rows_of(keys)}
            locked = self.locked(named)
            found += [{"name": name, "sku": sku} for name, sku in named.items() if name in locked]
        return found

    def locked(self, names: Iterable[str]) -> set[str]:
        """Those of some rows that a run which has not ended may still submit."""
        query = "SELECT DISTINCT name FROM locked WHERE name IN (SELECT unnest(?))"
        return {name for (name,) in self._db.execute(query, [list(names)]).fetchall()}

    def billable(self, since: str = "", until: str = "") -> Iterator[dict[str, Any]]:
        """The purchases that are billable, or may be, oldest first. ``price`` and ``currency`` are added.

        :param since: the first day, ``YYYY-MM-DD`` in UTC; ``''`` for all.
        :param until: the day after the last one, likewise.
        """
        condition, values = _between(since, until)
        for row in self._rows(condition, values):
            price = self._price_of(row["plan_id"])
            cost = None if price is None else row["images"] * price.amount
            yield {**row, "cost": cost, "currency": price.currency if price else ""}

    def totals(
        self, by: str, since: str = "", until: str = "", categories: Iterable[pa.RecordBatch] = ()
    ) -> list[Total]:
        """The sums of what :meth:`billable` returns, by key.

        :param by: a key of :data:`KEYS`, or ``''`` for one sum.
        :param categories: for ``category``: batches with ``name`` and ``category`` of the catalog's rows.
        """
        condition, values = _between(since, until)
        joined = ""
        if by == "category":
            self._db.execute("CREATE OR REPLACE TABLE categories (name VARCHAR, category VARCHAR)")
            for batch in categories:
                self._db.register("batch", pa.Table.from_batches([batch]))
                self._db.execute("INSERT INTO categories SELECT name, category FROM batch")
                self._db.unregister("batch")
            # Of rows with one name the first counts, as in a plan.
            first = "SELECT name, first(category ORDER BY rowid) AS category FROM categories GROUP BY name"
            joined = f"LEFT JOIN ({first}) c ON c.name = p.name"
        found = self._db.execute(
            f"SELECT {KEYS.get(by, _ALL)} AS key, plan_id, count(*), sum(images), "
            f"coalesce(sum(images) FILTER (outcome = '{Outcome.UNKNOWN.value}'), 0) "
            f"FROM purchases p {joined} WHERE {condition} GROUP BY key, plan_id ORDER BY key, plan_id",
            values,
        ).fetchall()
        totals: dict[str, Total] = {}
        for key, plan_id, *numbers in found:
            purchases, images, unknown_images = map(int, numbers)
            total = totals.setdefault(key, Total(key))
            total.add(purchases, images, unknown_images, self._price_of(plan_id))
        return list(totals.values())

    def _rows(self, condition: str, values: list[Any]) -> Iterator[dict[str, Any]]:
        with self._db.cursor() as cursor:
            cursor.execute(
                f"SELECT {', '.join(_KEPT)} FROM purchases p WHERE {condition} "
                "ORDER BY submitted_at, name, seq, nonce",
                values,
            )
            while some := cursor.fetchmany(_BATCH):
                for row in some:
                    yield dict(zip(_KEPT, row, strict=True))

    def _price_of(self, plan_id: str) -> Price | None:
        """The price that a plan was quoted with; the given one if it has none, or if its folder is gone."""
        if plan_id not in self._prices:
            self._prices[plan_id] = _quoted_price(PlanStore(self._paths, plan_id)) or self._price
        return self._prices[plan_id]


@contextlib.contextmanager
def open_purchases(
    paths: CatalogPaths, price: Price | None = None, now: float | None = None
) -> Iterator[Purchases]:
    """The purchases of a destination, for as long as the context lasts. Nothing is repaired.

    :param price: price of images whose plan does not know it.
    :param now: wall clock in seconds; the current time if not given.
    :raises DamagedLedgerError: if a file of the ledger is damaged or missing.
    """
    now = time.time() if now is None else now
    columns = ", ".join((*_KEPT, "seq"))
    with engine() as db, LedgerReader(paths).snapshot(db, own="", now=now):
        db.execute(f"CREATE TABLE purchases AS {merged(f'SELECT {columns} FROM entries')}")
        yield Purchases(db, paths, price)


def costs_of(total: Total) -> Mapping[str, str]:
    """Return the costs of a total by currency, as plain decimal numbers."""
    return {currency: f"{cost:f}" for currency, cost in sorted(total.costs.items())}


def _between(since: str, until: str) -> tuple[str, list[str]]:
    condition = f"outcome IN {in_sql(one.value for one in BILLABLE)} AND coalesce(images, 0) > 0"
    values = []
    for day, compared in ((since, ">="), (until, "<")):
        if day:
            condition += f" AND submitted_at {compared} ?"
            values.append(day)
    return condition, values


def _quoted_price(store: PlanStore) -> Price | None:
    try:
        plan = store.find_plan()
    except BgRepStateError as error:
        _log.warning("The price of plan %s is not known: %s", store.plan_id, error)
        return None
    if plan is None or plan.quote.price is None:
        return None
    return Price(plan.quote.price, plan.quote.currency)
