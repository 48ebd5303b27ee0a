# SPDX-License-Identifier: Apache-2.0
"""Runs of a catalog in this process: executes the operators of the task group one after the other."""

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
    """Return rows as a spreadsheet program writes them."""
    listed = list(rows)
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(dict.fromkeys(name for row in listed for name in row)))
    writer.writeheader()
    writer.writerows(listed)
    return file.getvalue().encode("utf-8-sig")


@dataclass
class Run:
    """A run of the task group and its results.

    :param paths: paths of the destination.
    :param plan: the XCom ``plan`` of the plan task.
    :param results: the outcome of each task by name; those of shards are ``generate[0]`` and so on.
    """

    paths: CatalogPaths
    plan: Mapping[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def states(self) -> dict[str, str]:
        """The final state of each task."""
        return {name: outcome.state for name, outcome in self.results.items()}

    @property
    def counts(self) -> dict[str, int]:
        """Rows by state in the plan."""
        return dict(self.plan["counts"])

    @property
    def files(self) -> PlanPaths:
        """Paths of the plan's files."""
        return self.paths.plan(self.plan["plan_id"])

    @property
    def summary(self) -> dict[str, Any]:
        """The summary that the report task wrote."""
        data = get_bytes(self.files.summary)
        assert data is not None, "the report task wrote no summary"
        return dict(json.loads(data))

    @property
    def processed_rows(self) -> list[dict[str, Any]]:
        """The result rows of all shards."""
        rows = []
        for shard in range(self.plan["shards"]):
            with local_copy(self.files.results(shard)) as local:
                rows += pq.ParquetFile(local).read().to_pylist()
        return rows

    @property
    def outcomes(self) -> Counter[str]:
        """The number of rows of all shards by outcome and verdict, such as ``generated/passed``."""
        return Counter(
            "/".join(filter(None, (row["outcome"], row["verdict"]))) for row in self.processed_rows
        )


@dataclass
class Refresh:
    """A catalog whose runs share a destination.

    :param destination: path or URL.
    :param run_task: runs a task to its end, through its deferrals.
    :param task_instance: creates a task instance.
    :param options: options of ``catalog_refresh``.
    :param generate_options: arguments of the generate operator.
    :param run_count: number of runs so far.
    :param is_count_fixed: whether :meth:`plan` clears the plan task of the same run, and starts no other.
    """

    destination: str
    run_task: Callable[..., Any]
    task_instance: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    generate_options: dict[str, Any] = field(default_factory=dict)
    run_count: int = 0
    is_count_fixed: bool = False

    @property
    def paths(self) -> CatalogPaths:
        """Paths of the destination."""
        return CatalogPaths(storage_path(self.destination))

    def put_catalog(self, rows: Iterable[Mapping[str, Any]] | bytes) -> str:
        """Write the catalog beside the destination and return its path."""
        path = storage_path(self.destination).parent / "catalog.csv"
        put_bytes(rows if isinstance(rows, bytes) else as_csv(rows), path)
        return str(path)

    def plan(self, rows: Sequence[Mapping[str, Any]] | bytes, *, try_number: int = 1, **options: Any) -> Run:
        """Start a run and execute its plan task."""
        self.run_count += not self.is_count_fixed
        run = Run(self.paths)
        given = {
            "destination": self.destination,
            "allow_private_sources": True,  # the servers of tests are on this machine
            **self.options,
            **options,
        }
        if "catalog" not in given:
            given["catalog"] = self.put_catalog(rows)
        plan = operators.BgRepPlanOperator(task_id="plan", options=given)
        self._execute(run, "plan", plan, try_number=try_number)
        run.plan = run.results["plan"].pushed.get("plan", {})
        return run

    def generate(
        self, run: Run, shard: int, *, try_number: int = 1, max_tries: int = 0, **generate: Any
    ) -> Any:
        """Execute the generate task of a shard.

        :param try_number: number of the try, from 1.
        :param max_tries: as Airflow counts them; clearing a task raises it.
        """
        arguments = {
            "deferrable": True,
            "poll_interval": 0.2,
            "timeout": 60,
            **self.generate_options,
            **generate,
        }
        task = operators.BgRepShardOperator(
            task_id="generate",
            destination=self.destination,
            plan_id=run.plan["plan_id"],
            shard=shard,
            inputs=run.plan["inputs"],
            **arguments,
        )
        tries = {"try_number": try_number, "max_tries": max_tries}
        return self._execute(run, f"generate[{shard}]", task, map_index=shard, **tries)

    def check(self, run: Run, shard: int) -> Any:
        """Execute the check task of a shard."""
        task = operators.BgRepCheckOperator(
            task_id="check", destination=self.destination, plan_id=run.plan["plan_id"], shard=shard
        )
        return self._execute(run, f"check[{shard}]", task, map_index=shard)

    def finish(self, run: Run) -> Run:
        """Execute the publish and report tasks."""
        self.publish(run)
        self.report(run)
        return run

    def publish(self, run: Run) -> Any:
        """Execute the publish task."""
        plan_id = run.plan["plan_id"]
        task = operators.BgRepPublishOperator(
            task_id="publish",
            destination=self.destination,
            plan_id=plan_id,
            inputs=json.dumps(run.plan["inputs"]),
        )
        return self._execute(run, "publish", task)

    def report(self, run: Run) -> Any:
        """Execute the report task."""
        plan_id = run.plan["plan_id"]
        task = operators.BgRepReportOperator(task_id="report", destination=self.destination, plan_id=plan_id)
        return self._execute(run, "report", task)

    def run(self, rows: Sequence[Mapping[str, Any]] | bytes, **options: Any) -> Run:
        """Execute all tasks of a run."""
        run = self.plan(rows, **options)
        if "plan_id" not in run.plan:
            return run
        for shard in range(run.plan["shards"]):
            self.generate(run, shard)
            self.check(run, shard)
        return self.finish(run)

    def manifest(self) -> list[dict[str, Any]]:
        """Return the rows of the published manifest."""
        data = get_bytes(self.paths.manifest)
        if data is None:
            return []
        with local_copy(self.paths.destination / json.loads(data)["parquet"]) as local:
            return list(pq.ParquetFile(local).read().to_pylist())

    def _execute(self, run: Run, name: str, task: Any, **facts: Any) -> Any:
        ti = self.task_instance(run_id=f"run-{self.run_count}", task_id=task.task_id, **facts)
        run.results[name] = self.run_task(task, ti, outlet_events={})
        return run.results[name]
