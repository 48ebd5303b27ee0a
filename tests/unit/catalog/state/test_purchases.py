# SPDX-License-Identifier: Apache-2.0
"""What was submitted for a destination, added up: it is what was billed."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pyarrow as pa
import pytest
from bgrep_harness.runs import OUTCOMES, Destination, row

from airflow_provider_bgrep.catalog.state.ledger_metadata import DamagedLedgerError
from airflow_provider_bgrep.catalog.state.purchases import (
    NOT_IN_CATALOG,
    WITHOUT_CATEGORY,
    Price,
    Total,
    costs_of,
    open_purchases,
)

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory", "no_waiting")

CNY = {"price_per_image": "0.2", "currency": "CNY"}


def total_of(destination: Destination, price: Price | None = None) -> Total:
    with open_purchases(destination.paths, price, destination.later) as purchases:
        return next(iter(purchases.totals("")), Total())


@pytest.mark.slow
def test_every_outcome_counts_as_it_was_billed(destination):
    rows = [row(name) for name in OUTCOMES]
    destination.refresh(rows, {name: name for name in OUTCOMES}, **CNY)
    billed = destination.billed.total()
    total = total_of(destination)
    assert (total.purchases, total.images, total.unknown_images) == (billed, billed, 1) == (6, 6, 1)
    assert costs_of(total) == {"CNY": "1.2"}
    with open_purchases(destination.paths, now=destination.later) as purchases:
        found = {one["name"]: one["outcome"] for one in purchases.billable()}
    assert "refused" not in found
    assert found["lost"] == "unknown_outcome"


def test_a_run_that_has_not_committed_counts(destination):
    run = destination.plan([row("a"), row("b")], **CNY)
    run.work()
    assert total_of(destination).images == destination.billed.total() == 2
    run.check()
    run.publish()
    assert total_of(destination).images == 2, "and is not counted twice"


def test_submits_that_a_run_repeats_are_purchases_of_their_own(destination):
    run = destination.plan([row("a")], retry_failed=1)
    run.work({"a": "failed"}, retry_failed=1)
    run.check()
    run.publish()
    assert total_of(destination).images == destination.billed.total() == 2


@pytest.mark.slow
def test_each_plan_has_its_price(destination, files):
    destination.refresh([row("a")], price_per_image="0.25", currency="CNY")
    second = destination.refresh([row("a"), row("b", num_output=3)], price_per_image="1", currency="USD")
    destination.refresh([row("a"), row("b", num_output=3), row("c")])
    total = total_of(destination)
    assert costs_of(total) == {"CNY": "0.25", "USD": "3"}
    assert total.unpriced_images == 1
    given = total_of(destination, Price(Decimal("0.1"), "CNY"))
    assert costs_of(given) == {"CNY": "0.35", "USD": "3"}
    assert given.unpriced_images == 0
    for name in [name for name in files if f"/plans/{second.plan_id}/" in name]:
        del files[name]  # as keep_plans does
    assert costs_of(total_of(destination)) == {"CNY": "0.25"}
    assert total_of(destination).unpriced_images == 4


@pytest.mark.slow
def test_sums_by_each_key_are_the_whole(destination):
    for number in range(3):
        destination.refresh([row(name, steps=20 + number) for name in "abc"], max_rebuy_share=1)
    batch = pa.record_batch(
        {"name": ["a", "b", "a"], "category": pa.array(["cups", None, "other"], pa.string())}
    )
    with open_purchases(destination.paths, now=destination.later) as purchases:
        sums = {by: purchases.totals(by, categories=[batch]) for by in ("day", "month", "run", "category")}
        days = [one.key for one in sums["day"]]
        later = purchases.totals("", since=days[1])
        earlier = purchases.totals("", until=days[1])
    assert [one.images for one in sums["day"]] == [3, 3, 3]
    assert [one.key for one in sums["run"]] == ["nightly run-1", "nightly run-2", "nightly run-3"]
    assert {one.key: one.images for one in sums["category"]} == {
        "cups": 3,
        WITHOUT_CATEGORY: 3,
        NOT_IN_CATALOG: 3,
    }
    for some in sums.values():
        assert sum(one.images for one in some) == 9
    assert (later[0].images, earlier[0].images) == (6, 3)


def test_the_purchases_of_a_product_have_all_of_its_views(destination):
    rows = [row("a"), {**row("a"), "view": "side"}, row("ab")]
    destination.refresh(rows)
    with open_purchases(destination.paths, now=destination.later) as purchases:
        found = {
            name: Counter(one["name"] for one in purchases.of_rows([name])) for name in ("a", "a/side", "x")
        }
    assert found == {"a": {"a": 1, "a/side": 1}, "a/side": {"a/side": 1}, "x": {}}


def test_a_damaged_ledger_is_reported_and_not_repaired(destination, files):
    destination.refresh([row("a")])
    (segment,) = (name for name in files if "/ledger/" in name and name.endswith(".parquet"))
    del files[segment]
    before = dict(files)
    with pytest.raises(DamagedLedgerError), open_purchases(destination.paths, now=destination.later):
        pass
    assert files == before
