# SPDX-License-Identifier: Apache-2.0
"""A shop whose catalog, source images and destination are on object storage, on a real Airflow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness import points
from bgrep_harness.airflow_refresh import GENERATE, AirflowRefresh
from bgrep_harness.object_stores import ObjectStore, Shop
from bgrep_harness.orders import kill

from airflow_provider_bgrep.storage import storage_path

ROWS = 12


class StoreRefresh:
    """A catalog of a shop on a store, and its runs.

    :param shop: the shop.
    :param refresh: the runs of its catalog.
    """

    def __init__(self, shop: Shop, refresh: AirflowRefresh) -> None:
        self.shop, self.refresh = shop, refresh
        self.options = {"source_conn_id": shop.store.conn_id}

    def trigger(self, rows: list[dict[str, Any]], **options: Any) -> str:
        """Trigger a run."""
        return self.refresh.trigger(rows, **self.options, **options)

    def run(self, rows: list[dict[str, Any]], **options: Any) -> dict[str, int]:
        """Execute a run, which must succeed, and return its plan's rows by state."""
        run_id = self.refresh.run(rows, **self.options, **options)
        return dict(self.refresh.plan(run_id)["counts"])

    def check(self, rows: list[dict[str, Any]], *, images: int) -> None:
        """Assert what was billed, what is published, and that no secret is in a log or a file."""
        assert self.refresh.bill.images == images
        assert {row["name"] for row in self.refresh.manifest() if row["status"] == "live"} == {
            row["sku"] for row in rows
        }
        logs = "".join(self.refresh.all_logs(run_id) for run_id in self.refresh.runs)
        root = storage_path(self.shop.root)
        root.fs.invalidate_cache()  # it keeps what it has listed, and runs have replaced files since
        files = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
        assert len(files) > len(rows)
        for secret in self.shop.store.secrets:
            assert secret not in logs
            assert not any(secret.encode() in data for data in files)


@pytest.fixture(params=["s3", "oss"])
def store(request: pytest.FixtureRequest, stores: dict[str, ObjectStore]) -> ObjectStore:
    return stores[request.param]


@pytest.fixture
def open_shop(stack: Any, bill: Any, tmp_path: Path) -> Any:
    """Opens the test's shop on a store."""

    def open_shop(store: ObjectStore, versioning: str = "off") -> StoreRefresh:
        shop = store.new_shop(tmp_path / "drawn", versioning)
        return StoreRefresh(shop, AirflowRefresh(stack, bill, tmp_path, shop.root))

    return open_shop


def test_three_runs_of_which_one_loses_a_worker(store: ObjectStore, open_shop: Any):
    shop = open_shop(store)
    rows = [shop.shop.upload(number) for number in range(ROWS)]
    first = shop.trigger(rows, shard_size=ROWS, point=points.LAST_KEY)
    kill(shop.refresh.wait_for_kill_point()["task"])
    assert shop.refresh.wait_for_end(first) == "success", shop.refresh.errors(first)
    assert [one["try_number"] for one in shop.refresh.tasks(first, GENERATE)] == [2]
    shop.check(rows, images=ROWS)
    assert set(shop.refresh.submitted.values()) == {1}

    assert shop.run(rows, shard_size=3) == {"unchanged": ROWS}
    shop.check(rows, images=ROWS)

    shop.shop.upload(0, product=(20, 60, 180))
    assert shop.run(rows, shard_size=3) == {"changed": 1, "unchanged": ROWS - 1}
    shop.check(rows, images=ROWS + 1)


@pytest.mark.parametrize(
    ("scheme", "versioning"), [("s3", "off"), ("s3", "on"), ("s3", "suspended"), ("oss", "off")]
)
def test_two_runs_at_once_submit_each_row_once(
    stores: dict[str, ObjectStore], open_shop: Any, scheme: str, versioning: str
):
    shop = open_shop(stores[scheme], versioning)
    rows = [shop.shop.upload(number) for number in range(2 * ROWS)]
    runs = [shop.trigger(rows, shard_size=6) for _ in range(2)]
    states = [shop.refresh.wait_for_end(run_id) for run_id in runs]
    assert "success" in states, [shop.refresh.errors(run_id) for run_id in runs]
    shop.run(rows)
    shop.check(rows, images=2 * ROWS)
    assert set(shop.refresh.submitted.values()) == {1}


@pytest.mark.parametrize("versioning", ["on", "suspended"])
def test_two_runs_at_once_on_oss_with_versions_are_refused(
    stores: dict[str, ObjectStore], open_shop: Any, versioning: str
):
    shop = open_shop(stores["oss"], versioning)
    rows = [shop.shop.upload(number) for number in range(2)]
    runs = [shop.trigger(rows) for _ in range(2)]
    for run_id in runs:
        assert shop.refresh.wait_for_end(run_id) == "failed"
        states = shop.refresh.states(run_id)
        assert states["plan"] == {"failed": 1}
        assert states["shards.generate"] == Counter({"upstream_failed": 1})
        errors = shop.refresh.errors(run_id)
        assert "BgRepConfigurationError" in errors
        assert "versioning was never enabled" in errors, "it says what to do"
        assert [one["try_number"] for one in shop.refresh.tasks(run_id, "refresh.plan")] == [1]
    assert shop.refresh.bill.submits == 0
