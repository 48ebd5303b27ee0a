# SPDX-License-Identifier: Apache-2.0
"""A run of a catalog on two workers, two triggerers and two schedulers, of which machines are lost."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pyarrow.parquet as pq
import pytest
from bgrep_demo.broker import ask
from bgrep_harness.fleet import DAG_ID, SCHEDULERS, SLOTS, TRIGGERERS, WORKERS, Site
from bgrep_harness.images import draw_images
from bgrep_harness.refresh import as_csv
from bgrep_harness.stack import CANARY

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.storage import get_bytes, local_copy, put_bytes, storage_path

SHARDS = 20
FINAL = ("success", "failed")
JOB = 10
"""Image tasks of a job."""


class Catalog:
    """A catalog of one product image under many names, all on object storage.

    :param site: the fleet.
    :param rows: number of rows.
    """

    def __init__(self, site: Site, rows: int, drawn: Path) -> None:
        self.site, self.count = site, rows
        shop = site.store.new_shop(drawn)
        self.name, self.root = shop.name, shop.root
        draw_images(drawn)
        folder = storage_path(self.root).parent / "in"
        for name in ("product.png", "mask.png"):
            put_bytes((drawn / name).read_bytes(), folder / name)
        for number in range(rows):
            folder.fs.copy(f"{folder.path}/product.png", f"{folder.path}/{number:06}.png")
        source = f"{site.store.scheme}://{self.name}/in"
        rows_ = [
            {
                "sku": f"{self.name}-{number:06}",
                "name": "mug",
                "color": f"red {self.name} {number}",
                "image": f"{source}/{number:06}.png",
                "mask": f"{source}/mask.png",
            }
            for number in range(rows)
        ]
        put_bytes(as_csv(rows_), storage_path(f"{self.root}/catalog.csv"))

    @property
    def paths(self) -> CatalogPaths:
        return CatalogPaths(storage_path(f"{self.root}/images"))

    def trigger(self) -> str:
        conf = {
            "catalog": f"{self.root}/catalog.csv",
            "destination": f"{self.root}/images",
            "source_conn_id": self.site.store.conn_id,
            "shard_size": -(-self.count // SHARDS),
        }
        return self.site.fleet.airflow.trigger(DAG_ID, conf)

    @property
    def submitted(self) -> Counter[str]:
        """How often the emulator accepted each row."""
        prompts = (prompt for job in self.site.emulator.jobs for prompt in job["prompts"])
        return Counter(prompt for prompt in prompts if f" {self.name} " in prompt)

    def manifest(self) -> list[dict[str, Any]]:
        """The live rows of the published manifest."""
        head = json.loads(get_bytes(self.paths.manifest) or b"{}")
        with local_copy(self.paths.destination / head["parquet"]) as local:
            return [row for row in pq.ParquetFile(local).read().to_pylist() if row["status"] == "live"]

    def files(self) -> dict[str, bytes]:
        """All of the destination's files, images aside."""
        folder = self.paths.destination
        found = folder.fs.find(folder.path)
        return {path: folder.fs.cat_file(path) for path in found if not path.endswith((".png", ".jpg"))}


def ask_database(url: str, query: str, *values: Any) -> float:
    """Return the only value of a query."""
    with psycopg2.connect(url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute(query, values)
        return float(cursor.fetchone()[0])


def commits(database: str) -> int:
    """Transactions that the database has committed."""
    return int(ask_database(database, "SELECT sum(xact_commit) FROM pg_stat_database"))


def commands(broker: str) -> int:
    """Commands that the broker has processed."""
    info = ask(urlsplit(broker).port or 0, "INFO", "stats")
    return int(info.partition("total_commands_processed:")[2].split()[0])


def slot_seconds(site: Site, run_id: str) -> float:
    """The time that tasks of a run had a worker's slot, of all their tries."""
    return ask_database(
        site.database,
        "SELECT coalesce(sum(duration), 0) FROM (SELECT duration, run_id FROM task_instance "
        "UNION ALL SELECT duration, run_id FROM task_instance_history) t WHERE run_id = %s",
        run_id,
    )


@pytest.mark.parametrize("rows", [200, 2000])
def test_a_run_that_loses_machines_bills_each_row_once(site: Site, rows: int, tmp_path: Path):
    fleet, emulator = site.fleet, site.emulator
    catalog = Catalog(site, rows, tmp_path)
    before = emulator.counters
    jobs = rows // JOB
    late = emulator.inject("late", times=jobs, seconds=20)
    began = {"wall": time.monotonic(), "commits": commits(site.database), "commands": commands(site.broker)}
    cpu = fleet.cpu_seconds()
    run_id = catalog.trigger()

    def submits() -> int:
        return int(emulator.counters.submits - before.submits)

    fleet.until(lambda: submits() >= jobs // 10, "some jobs are submitted", 300)
    fleet.kill(WORKERS[0])
    at_kill = submits()
    assert at_kill < jobs, "it was killed while it submitted"
    fleet.until(lambda: submits() > at_kill, "others submit", 300)
    fleet.restart("broker")
    fleet.until(lambda: submits() >= jobs // 2, "half of the jobs are submitted", 600)
    fleet.kill(TRIGGERERS[0])
    fleet.kill(SCHEDULERS[0])
    fleet.restart("postgres")
    state = fleet.until(
        lambda: (found := fleet.airflow.run_state(DAG_ID, run_id)) in FINAL and found, "the run ends", 1500
    )
    wall = time.monotonic() - began["wall"]

    assert late.consumed > 0, "jobs were waited for"
    for name in (WORKERS[0], TRIGGERERS[0], SCHEDULERS[0]):
        assert fleet.restarts[name] >= 1
    assert set(catalog.submitted.values()) == {1}, "no row is submitted twice"
    billed = emulator.counters.images - before.images
    assert billed == len(catalog.submitted)
    published = {row["name"] for row in catalog.manifest()}
    # A machine that is lost during a submit leaves an unknown outcome, which is named and not repeated.
    unknown = rows - len(published)
    assert unknown <= JOB * SLOTS
    states = Counter(one["state"] for one in fleet.airflow.tasks(DAG_ID, run_id))
    assert state == ("failed" if unknown else "success"), states
    files = catalog.files()
    for secret in (CANARY, *site.store.secrets):
        assert not any(secret.encode() in data for data in files.values())
    alive = [name for name in (*WORKERS, *TRIGGERERS) if name not in fleet.restarts]
    assert fleet.leftovers(alive) == []

    figures = {
        "rows": rows,
        "billed": billed,
        "published": len(published),
        "unknown": unknown,
        "wall_seconds": round(wall),
        "slot_seconds": round(slot_seconds(site, run_id)),
        "database_commits": commits(site.database) - began["commits"],
        "broker_commands": commands(site.broker) - began["commands"],
        "cpu_seconds": {
            name: round(now - cpu.get(name, 0)) for name, now in sorted(fleet.cpu_seconds().items())
        },
        "restarts": fleet.restarts,
    }
    target = Path("build")
    target.mkdir(exist_ok=True)
    (target / f"fleet-{rows}.json").write_text(json.dumps(figures, indent=2))
    print(json.dumps(figures, indent=2))
