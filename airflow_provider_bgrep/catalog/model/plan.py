# SPDX-License-Identifier: Apache-2.0
"""A plan: what a run would do with each row, and what that costs. A frozen value; to explain it is to read
it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from airflow_provider_bgrep.catalog.model.states import RowState

VERSION: Final = 1
_DRY: Final = "-dry"
_MAY_BUY: Final = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")
MAX_SHARDS: Final = 1000
"""Mapped tasks of one run; Airflow's own limit is 1,024 unless configured."""


def new_plan_id(now: float, *, dry: bool = False) -> str:
    """A plan's id: they sort by time.

    :param dry: whether it never buys.
    """
    return f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}{_DRY if dry else ''}"


def may_buy(plan_id: str) -> bool:
    """Whether it is the id of a plan that may buy: the ledger has nothing of a dry run."""
    return _MAY_BUY.fullmatch(plan_id) is not None


@dataclass(frozen=True, slots=True)
class Quote:
    """What a plan buys, before it does.

    :param image_tasks: rows to buy for.
    :param images: images to buy: each is paid for.
    :param price: of one image; ``None`` if nobody said.
    :param currency: of the price.
    :param backlog: images that wait for a later run, at most.
    """

    image_tasks: int = 0
    images: int = 0
    price: Decimal | None = None
    currency: str = ""
    backlog: int = 0

    @property
    def cost(self) -> Decimal | None:
        """What the images cost."""
        return None if self.price is None else self.images * self.price

    @property
    def told(self) -> str:
        """In words."""
        if self.cost is None:
            return f"{self.images} images (no price_per_image given)"
        currency = f" {self.currency}" if self.currency else ""
        return f"{self.images} images, {self.cost:,.2f}{currency} at {self.price:f} an image"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do.

    :param plan_id: its id.
    :param dag_id: the DAG it is made for.
    :param run_id: the DAG run.
    :param account: the connection to buy with.
    :param catalog: the catalog's name.
    :param created_at: when, ISO 8601 in UTC.
    :param until: when it lapses, wall clock in seconds.
    :param counts: rows by state.
    :param quote: what it buys.
    :param shards: how many tasks work on it.
    :param shard_size: rows of each.
    :param merged_plans: plans that are over, and whose purchases it takes into the ledger.
    :param notes: what people should know.
    """

    plan_id: str
    dag_id: str
    run_id: str
    account: str
    catalog: str
    created_at: str
    until: float
    counts: Mapping[str, int]
    quote: Quote
    shards: int
    shard_size: int
    merged_plans: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> int:
        """Rows that the catalog has, those that cannot be used included."""
        return sum(count for state, count in self.counts.items() if state != RowState.REMOVED.value)

    def to_dict(self) -> dict[str, Any]:
        """The form that is stored."""
        values = asdict(self)
        values["quote"]["price"] = None if self.quote.price is None else str(self.quote.price)
        return {"version": VERSION, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The plan again.

        :raises ValueError: if it is of another version.
        """
        if values.get("version") != VERSION:
            raise ValueError(f"the plan has version {values.get('version')!r}; this can read {VERSION}")
        price = values["quote"]["price"]
        quote = Quote(**{**values["quote"], "price": None if price is None else Decimal(price)})
        rest = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        tuples = {name: tuple(values[name]) for name in ("merged_plans", "notes")}
        return cls(**{**rest, **tuples, "quote": quote})


def explain(plan: Plan) -> str:
    """The plan in some lines for people: the quote first."""
    counted = ", ".join(
        f"{plan.counts[state.value]} {state.value.replace('_', ' ')}"
        for state in RowState
        if plan.counts.get(state.value)
    )
    lines = [f"To buy: {plan.quote.told}.", f"Of {plan.rows} rows in {plan.catalog}: {counted or 'none'}."]
    if plan.quote.backlog:
        lines.append(f"Left for later runs: at most {plan.quote.backlog} images.")
    if plan.shards:
        lines.append(f"In {plan.shards} shards of {plan.shard_size} rows.")
    return "\n".join([*lines, *plan.notes])
