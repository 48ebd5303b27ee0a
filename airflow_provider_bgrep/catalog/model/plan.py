# SPDX-License-Identifier: Apache-2.0
"""A plan: what a run does with each row, and what that costs."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.figures import counted

VERSION: Final = 1
_DRY: Final = "-dry"
_MAY_SUBMIT: Final = re.compile(r"[0-9]{8,}-[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")
MAX_SHARDS: Final = 1000
"""Maximum number of shards: by default, Airflow maps a task up to 1,024 times."""


def new_plan_id(number: int, now: float, token: str = "", *, dry: bool = False) -> str:
    """Return a new plan id, ``{number}-{YYYYMMDDTHHMMSS}-{token}``. Ids sort in the ledger's sequence.

    :param number: the plan's number in the ledger's sequence, from 1. A dry run has the number of the last
        plan that acquired a lease.
    :param now: wall clock in seconds, for people to read. It does not affect the order.
    :param token: 8 hex digits that no other plan has; random if not given.
    :param dry: whether the plan is that of a dry run.
    """
    at = datetime.fromtimestamp(now, UTC)
    return f"{number:08}-{at:%Y%m%dT%H%M%S}-{token or secrets.token_hex(4)}{_DRY if dry else ''}"


def may_submit(plan_id: str) -> bool:
    """Return whether the plan with this id may submit: dry runs may not."""
    return _MAY_SUBMIT.fullmatch(plan_id) is not None


def is_plan_id(name: str) -> bool:
    """Whether a folder's name is that of a plan, dry runs included."""
    return may_submit(name.removesuffix(_DRY))


def number_of(plan_id: str) -> int:
    """Return the number of a plan in the ledger's sequence; 0 if the name is not a plan id."""
    return int(plan_id.partition("-")[0]) if is_plan_id(plan_id) else 0


def made_at(plan_id: str) -> float:
    """Return when a plan was made, wall clock of its plan task in seconds; 0 if the name is not a plan id."""
    if not is_plan_id(plan_id):
        return 0.0
    return datetime.strptime(plan_id.split("-")[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()


PLANS_OF_OTHERS: Final = 200
"""Plans of a destination after which a task group that has made none of them counts as gone. Other groups
collect its jobs for as many plans, counted from the plan of the job.
"""

NOT_OF_CATALOG: Final = frozenset({RowState.REMOVED.value, RowState.ORPHANED.value})
"""States of rows that the catalog does not have."""


@dataclass(frozen=True, slots=True)
class Quote:
    """What a plan costs.

    :param image_tasks: rows to submit.
    :param images: billable images if each row is submitted once.
    :param most_images: maximum number of billable images, with everything that ``retry_failed`` and
        ``on_unknown_outcome="resubmit"`` may submit again within ``max_images_per_run``.
    :param price: price of an image; ``None`` if it is not known.
    :param currency: currency of the price.
    :param backlog: maximum number of images that are left for later runs.
    """

    image_tasks: int = 0
    images: int = 0
    price: Decimal | None = None
    currency: str = ""
    backlog: int = 0
    most_images: int = 0

    @property
    def cost(self) -> Decimal | None:
        """Cost of the images; ``None`` if the price is not known."""
        return None if self.price is None else self.images * self.price

    @property
    def most_cost(self) -> Decimal | None:
        """Cost of the images at most; ``None`` if the price is not known."""
        return None if self.price is None else self.most_images * self.price

    @property
    def description(self) -> str:
        """The quote in words."""
        images = counted(self.images, "image")
        most = f", at most {self.most_images} with retries" if self.most_images > self.images else ""
        if self.cost is None or self.most_cost is None:
            return f"{images}{most} (no price_per_image given)"
        currency = f" {self.currency}" if self.currency else ""
        cost = f"{self.cost:,.2f}{currency}"
        if most:
            cost += f", at most {self.most_cost:,.2f}{currency},"
        return (
            f"{images}{most}; {cost} at {self.price:f} an image"
            if most
            else (f"{images}, {cost} at {self.price:f} an image")
        )


_TUPLES: Final = ("merged_plans", "limits", "notes", "reading", "sources")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run does with each row.

    :param plan_id: the plan's id.
    :param dag_id: the DAG that it was made for.
    :param run_id: the DAG run.
    :param group_id: the task group that it was made for: a DAG may refresh several catalogs.
    :param account: the connection to submit with.
    :param catalog: the catalog's name.
    :param created_at: when it was made, ISO 8601 in UTC.
    :param until: when its lease expires, wall clock in seconds.
    :param counts: number of rows by state.
    :param quote: what it costs.
    :param shards: number of shards.
    :param shard_size: rows in a shard.
    :param merged_plans: earlier plans, whose submits this plan commits to the ledger.
    :param limits: maximum number of images for each shard; their sum is ``quote.most_images``.
    :param needs_approval: whether a person must approve the plan before a shard may submit.
    :param concern: why it needs approval whatever it costs: it submits a large share of the rows again, or
        many images would be refused.
    :param notes: warnings for people.
    :param attention: what notes ask a person to do something about: rows or image tasks that no row's state
        stands for, by the status that the report gives them.
    :param given_up: image tasks that this task group no longer asks for and that a note names, by a short
        hash: how many plans of the group have named each, this one included. One that was named often enough
        stays, so that the next plan knows.
    :param reading: what the catalog was taken for, in sentences: format, encoding, delimiter and header,
        columns used and ignored, cells taken for empty, and the most frequent prompt.
    :param sources: hosts and buckets of the images and masks of its work items, as URLs.
    :param lines: number of lines of each JSONL file that was written with the plan, by its name: without it,
        a lost file would be taken for an empty one.
    """

    plan_id: str
    dag_id: str
    run_id: str
    group_id: str = ""
    account: str
    catalog: str
    created_at: str
    until: float
    counts: Mapping[str, int]
    quote: Quote
    shards: int
    shard_size: int
    merged_plans: tuple[str, ...] = ()
    limits: tuple[int, ...] = ()
    needs_approval: bool = False
    concern: str = ""
    notes: tuple[str, ...] = field(default=())
    attention: Mapping[str, int] = field(default_factory=dict)
    given_up: Mapping[str, int] = field(default_factory=dict)
    reading: tuple[str, ...] = field(default=())
    sources: tuple[str, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows in the catalog, invalid ones included."""
        return sum(count for state, count in self.counts.items() if state not in NOT_OF_CATALOG)

    def is_of_others(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is the orphaned job of another DAG or task group, which this plan only helps to save.

        If it has no images yet, this plan's run does not fail for it, and nobody is asked to do anything.

        :param row: has ``state``, ``dag_id`` and ``group_id``: those that submitted it.
        """
        is_own = (row["dag_id"], row["group_id"]) == (self.dag_id, self.group_id)
        return row["state"] == RowState.ORPHANED.value and not is_own

    @property
    def valid_for(self) -> float:
        """Seconds for which its lease was given."""
        return self.until - datetime.fromisoformat(self.created_at).timestamp()

    def to_dict(self) -> dict[str, Any]:
        """Return the plan in its JSON form."""
        values = asdict(self)
        values["quote"]["price"] = None if self.quote.price is None else str(self.quote.price)
        return {"version": VERSION, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Return the plan from its JSON form.

        :raises ValueError: if it has another format version, or its price is not a number.
        """
        if values.get("version") != VERSION:
            raise ValueError(f"the plan has format version {values.get('version')!r}, expected {VERSION}")
        price = values["quote"]["price"]
        try:
            quote = Quote(**{**values["quote"], "price": None if price is None else Decimal(price)})
        except InvalidOperation:
            raise ValueError(f"the plan's price is {price!r}, expected a number") from None
        rest = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        tuples = {name: tuple(values.get(name) or ()) for name in _TUPLES}
        return cls(**{**rest, **tuples, "quote": quote})


def explain(plan: Plan) -> str:
    """Describe the plan, for the log and the approval."""
    states = {
        state.value: f"{plan.counts[state.value]} {state.value.replace('_', ' ')}"
        for state in RowState
        if plan.counts.get(state.value)
    }
    inside = ", ".join(text for state, text in states.items() if state not in NOT_OF_CATALOG)
    outside = ", ".join(text for state, text in states.items() if state in NOT_OF_CATALOG)
    total = f"Of {counted(plan.rows, 'row')} in {plan.catalog}: {inside or 'none'}."
    lines = [f"To submit: {plan.quote.description}.", total]
    if outside:
        lines.append(f"Not in it: {outside}.")
    if plan.quote.backlog:
        lines.append(f"Left for later runs: at most {counted(plan.quote.backlog, 'image')}.")
    if plan.shards:
        lines.append(f"In {counted(plan.shards, 'shard')} of {counted(plan.shard_size, 'row')}.")
    return "\n".join(filter(None, [*lines, plan.concern, *plan.notes, *plan.reading]))
