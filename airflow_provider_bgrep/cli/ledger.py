# SPDX-License-Identifier: Apache-2.0
"""Lists what was submitted: when, for what, by which run, and what it costs."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.cli.arguments import add_destination, existing_paths_of
from airflow_provider_bgrep.cli.command import FREE, Command, ExitCode
from airflow_provider_bgrep.cli.errors import UsageError
from airflow_provider_bgrep.cli.output import Output
from airflow_provider_bgrep.figures import counted, money

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_provider_bgrep.catalog.state.purchases import Price, Purchases, Total

_BY: Final = ("day", "month", "category", "run")

_LISTED: Final = (
    *("submitted_at", "name", "outcome", "verdict", "images", "cost", "currency", "dag_id", "run_id"),
    *("plan_id", "account", "result_key"),
)
_SHOWN: Final = ("submitted_at", "name", "outcome", "images", "cost", "run_id")
_SUMS: Final = ("purchases", "images", "unknown_images", "unpriced_images")

_DESCRIPTION: Final = """\
List the submits of a destination that are billable, or may be: when, for which row, by which run, with how
many images, and what they cost. With --by, add them up by day or month (UTC), category or DAG run.

The ledger is read, and the files of runs that have not committed yet. Nothing is written or repaired.
An image's price is the price_per_image that its run was planned with; --price-per-image is used where that
is not known, for example because keep_plans has deleted the plan. The console of Alibaba Cloud shows the
actual charges.

"unknown_images" are images of submits whose answer was lost: they may not be billed. The ledger does not
know categories: --by category reads them from the catalog that --catalog names, as it is now.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_destination(parser)
    parser.add_argument("--by", choices=_BY, help="add up by day, month, category or DAG run")
    parser.add_argument("--catalog", help="the catalog that categories are read from")
    parser.add_argument("--since", type=_day, metavar="DAY", help="first day, YYYY-MM-DD in UTC")
    parser.add_argument("--until", type=_day, metavar="DAY", help="the day after the last one, likewise")
    parser.add_argument("--price-per-image", type=_price, metavar="PRICE", help="for images without a price")
    parser.add_argument("--currency", default="", help="currency of --price-per-image")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of text")
    form.add_argument("--csv", action="store_true", help="print CSV instead of text, without the total")


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a day; give YYYY-MM-DD, such as 2026-01-31"
        ) from None


def _price(text: str) -> Decimal:
    try:
        price = Decimal(text)
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite() or price < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a price; give 0 or more, such as 0.20")
    return price


def run(given: argparse.Namespace, out: Output) -> ExitCode:
    """Print the purchases, or their sums."""
    if (given.by == "category") is not bool(given.catalog):
        raise UsageError(
            "--by category needs --catalog, and --catalog is for --by category; give both or none"
        )
    paths = existing_paths_of(given)
    from airflow_provider_bgrep.catalog.errors import state_errors
    from airflow_provider_bgrep.catalog.state.purchases import Price, open_purchases

    price: Price | None = None
    if given.price_per_image is not None:
        price = Price(given.price_per_image, given.currency)
    with state_errors(), open_purchases(paths, price) as purchases:
        if given.by:
            _print_sums(given, purchases, out)
        else:
            _print_purchases(given, purchases, out)
    return ExitCode.OK


def _print_purchases(given: argparse.Namespace, purchases: Purchases, out: Output) -> None:
    days = (given.since or "", given.until or "")
    rows = purchases.billable(*days)
    if given.csv:
        out.csv(_LISTED, rows)
        return
    total = _total(purchases.totals("", *days))
    if given.json:
        out.json(
            {
                "purchases": [{name: _plain(row[name]) for name in _LISTED} for row in rows],
                "total": _as_dict(total),
            }
        )
        return
    shown = [[row[name] for name in _SHOWN[:4]] + [_cost(row), row["run_id"]] for row in rows]
    out.table(_SHOWN, shown)
    out.line()
    out.line(_sentence(total))


def _print_sums(given: argparse.Namespace, purchases: Purchases, out: Output) -> None:
    days = (given.since or "", given.until or "")
    with _categories(given.catalog) as categories:
        sums = purchases.totals(given.by, *days, categories)
    total = _total(sums)
    if given.csv:
        out.csv(
            (given.by, *_SUMS, "cost"),
            ({**_as_dict(one), given.by: one.key, "cost": _costs(one)} for one in sums),
        )
    elif given.json:
        out.json(
            {
                "by": given.by,
                "sums": [{given.by: one.key, **_as_dict(one)} for one in sums],
                "total": _as_dict(total),
            }
        )
    else:
        rows = [(one.key, one.purchases, one.images, one.unknown_images, _costs(one)) for one in sums]
        out.table((given.by, "purchases", "images", "unknown_images", "cost"), rows)
        out.line()
        out.line(_sentence(total))


@contextlib.contextmanager
def _categories(catalog: str | None) -> Iterator[Iterator[pa.RecordBatch]]:
    """The names and categories of a catalog's rows."""
    if catalog is None:
        yield iter(())
        return
    import pyarrow as pa

    from airflow_provider_bgrep.catalog.config.options import path_problems
    from airflow_provider_bgrep.catalog.source.reader import open_catalog
    from airflow_provider_bgrep.catalog.source.rows import VARIABLE, NormalizedRows
    from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem

    if problems := path_problems({"catalog": catalog}):
        raise InvalidInput(problems)
    with open_catalog(catalog) as opened:
        if "category" not in opened.columns:
            raise InvalidInput([Problem("catalog", "has no column 'category'")])
        rows = NormalizedRows(opened, {}, {}, variables=("category",))
        yield (
            pa.record_batch({"name": batch.column("name"), "category": batch.column(f"{VARIABLE}category")})
            for batch in rows.batches()
        )


def _total(sums: list[Total]) -> Total:
    from airflow_provider_bgrep.catalog.state.purchases import Total

    total = Total()
    for one in sums:
        for name in _SUMS:
            setattr(total, name, getattr(total, name) + getattr(one, name))
        for currency, cost in one.costs.items():
            total.costs[currency] = total.costs.get(currency, Decimal(0)) + cost
    return total


def _as_dict(total: Total) -> dict[str, Any]:
    from airflow_provider_bgrep.catalog.state.purchases import costs_of

    return {**{name: getattr(total, name) for name in _SUMS}, "costs": costs_of(total)}


def _plain(value: Any) -> Any:
    return f"{value:f}" if isinstance(value, Decimal) else value


def _cost(row: dict[str, Any]) -> str:
    return "" if row["cost"] is None else money(f"{row['cost']:f}", row["currency"])


def _costs(total: Total) -> str:
    costs = [money(f"{cost:f}", currency) for currency, cost in sorted(total.costs.items())]
    if total.unpriced_images:
        costs.append(f"{counted(total.unpriced_images, 'image')} without a price")
    return " + ".join(costs)


def _sentence(total: Total) -> str:
    unknown = (
        f", of which {total.unknown_images} may not be billed, because their outcome is unknown"
        if total.unknown_images
        else ""
    )
    costs = _costs(total)
    submits = f"{counted(total.purchases, 'submit')} of a row"
    return f"Total: {counted(total.images, 'image')} in {submits}{unknown}{f'; {costs}' if costs else ''}."


COMMAND: Final = Command(
    name="ledger",
    help="list what was submitted, when, by which run, and what it costs",
    description=_DESCRIPTION,
    cost=FREE,
    examples=(
        "ledger /data/images",
        "ledger s3://shop/images --conn-id my_s3 --by month --csv",
        "ledger /data/images --by category --catalog /data/catalog.csv --since 2026-01-01",
    ),
    add_arguments=add_arguments,
    run=run,
)
