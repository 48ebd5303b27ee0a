# SPDX-License-Identifier: Apache-2.0
"""A catalog's nights by hand: the task group's own operators, one after the other, in this process."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from airflow_provider_bgrep.catalog import operators
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths, PlanPaths
from airflow_provider_bgrep.storage import get_bytes, local_copy, put_bytes, storage_path


def as_csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as a spreadsheet program writes them."""
    listed = list(rows)
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(dict.fromkeys(name for row in listed for name in row)))
    writer.writeheader()
    writer.writerows(listed)
    return file.getvalue().encode("utf-8-sig")


@dataclass
class Night:
    """One run of the task group, and what came of it.

    :param layout: where everything lies.
    :param plan: what the task that plans pushed.
    :param ended: how each task ended, by its name; shards as ``generate[0]``.
    """

    layout: CatalogPaths
    plan: Mapping[str, Any] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)

    @property
    def states(self) -> dict[str, str]:
        """The state of each task."""
        return {name: outcome.state for name, outcome in self.ended.items()}

    @property
    def counts(self) -> dict[str, int]:
        """Rows by state, as planned."""
        return dict(self.plan["counts"])

    @property
    def files(self) -> PlanPaths:
        """The plan's files."""
        return self.layout.plan(self.plan["plan_id"])

    @property
    def summary(self) -> dict[str, Any]:
        """The report's numbers."""
        data = get_bytes(self.files.summary)
        assert data is not None, "there is no report"
        return dict(json.loads(data))

    @property
    def worked_on(self) -> list[dict[str, Any]]:
        """The rows of all shards, with what became of them."""
        rows = []
        for shard in range(self.plan["shards"]):
            with local_copy(self.files.results(shard)) as local:
                rows += pq.ParquetFile(local).read().to_pylist()
        return rows

    @property
    def outcomes(self) -> Counter[str]:
        """The rows of all shards, by outcome and verdict."""
        return Counter("/".join(filter(None, (row["outcome"], row["verdict"]))) for row in self.worked_on)


@dataclass
class Refresh:
    """A task group over one destination.

    :param destination: its path or URL.
    :param run_legs: runs one task to its end, deferrals included.
    :param task_instance: makes a task instance.
    :param options: as ``catalog_refresh`` takes them.
    """

    destination: str
    run_legs: Callable[..., Any]
    task_instance: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    generate: dict[str, Any] = field(default_factory=dict)
    nights: int = 0

    @property
    def layout(self) -> CatalogPaths:
        """Where everything lies."""
        return CatalogPaths(storage_path(self.destination))

    def put_catalog(self, rows: Iterable[Mapping[str, Any]] | bytes) -> str:
        """Write the catalog beside the destination. :return: its path."""
        path = storage_path(self.destination).parent / "catalog.csv"
        put_bytes(rows if isinstance(rows, bytes) else as_csv(rows), path)
        return str(path)

    def plan(self, rows: Sequence[Mapping[str, Any]] | bytes, **options: Any) -> Night:
        """The first task of a new run."""
        self.nights += 1
        night = Night(self.layout)
        given = {"destination": self.destination, **self.options, **options}
        given.setdefault("catalog", self.put_catalog(rows))
        plan = operators.BgRepPlanOperator(task_id="plan", options=given)
        self._do(night, "plan", plan)
        night.plan = night.ended["plan"].pushed.get("plan", {})
        return night

    def buy(
        self, night: Night, shard: int, *, try_number: int = 1, max_tries: int = 0, **generate: Any
    ) -> Any:
        """One shard's buying, at its so manieth try; a clear raises ``max_tries``."""
        asked = {"deferrable": True, "poll_interval": 0.2, "timeout": 60, **self.generate, **generate}
        task = operators.BgRepShardOperator(
            task_id="generate",
            destination=self.destination,
            plan_id=night.plan["plan_id"],
            shard=shard,
            **asked,
        )
        tries = {"try_number": try_number, "max_tries": max_tries}
        return self._do(night, f"generate[{shard}]", task, map_index=shard, **tries)

    def check(self, night: Night, shard: int) -> Any:
        """One shard's check."""
        task = operators.BgRepCheckOperator(
            task_id="check", destination=self.destination, plan_id=night.plan["plan_id"], shard=shard
        )
        return self._do(night, f"check[{shard}]", task, map_index=shard)

    def close(self, night: Night) -> Night:
        """Publish and report."""
        for name, kind in (
            ("publish", operators.BgRepPublishOperator),
            ("report", operators.BgRepReportOperator),
        ):
            task = kind(task_id=name, destination=self.destination, plan_id=night.plan["plan_id"])
            self._do(night, name, task)
        return night

    def night(self, rows: Sequence[Mapping[str, Any]] | bytes, **options: Any) -> Night:
        """A whole run."""
        night = self.plan(rows, **options)
        if "plan_id" not in night.plan:
            return night
        for shard in range(night.plan["shards"]):
            self.buy(night, shard)
            self.check(night, shard)
        return self.close(night)

    def manifest(self) -> list[dict[str, Any]]:
        """What consumers read."""
        data = get_bytes(self.layout.manifest)
        if data is None:
            return []
        with local_copy(self.layout.destination / json.loads(data)["parquet"]) as local:
            return list(pq.ParquetFile(local).read().to_pylist())

    def _do(self, night: Night, name: str, task: Any, **facts: Any) -> Any:
        ti = self.task_instance(run_id=f"night-{self.nights}", task_id=task.task_id, **facts)
        night.ended[name] = self.run_legs(task, ti, outlet_events={})
        return night.ended[name]
