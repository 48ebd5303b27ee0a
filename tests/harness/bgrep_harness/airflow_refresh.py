# SPDX-License-Identifier: Apache-2.0
"""Runs of a catalog on a real Airflow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from bgrep_demo.airflow import TASK_FINISHED

from airflow_provider_bgrep.storage import get_bytes, local_copy, put_bytes, storage_path
from bgrep_harness.images import Images
from bgrep_harness.points import Point
from bgrep_harness.refresh import as_csv
from bgrep_harness.stack import Bill, Stack

DAG_ID, GENERATE = "catalog_runs", "refresh.shards.generate"


@dataclass
class AirflowRefresh:
    """A catalog that a real Airflow refreshes, and its destination.

    :param stack: Airflow and the emulator.
    :param bill: the emulator's counters since the test started.
    :param notes: a local folder for messages between the test and its tasks.
    :param root: the ``ObjectStoragePath`` of the folder of catalog and images, as text.
    """

    stack: Stack
    bill: Bill
    notes: Path
    root: str
    runs: list[str] = field(default_factory=list)

    def rows(self, images: Images, count: int) -> list[dict[str, Any]]:
        """Return distinct rows, which differ from those of other catalogs too."""
        name = self.root.rpartition("/")[2]
        return [
            {
                "sku": f"{name}-{number:03}",
                "name": "mug",
                "color": f"red {name} {number}",
                "image": f"{images.url}/product.png?v={number}",
                "mask": f"{images.url}/mask.png",
            }
            for number in range(count)
        ]

    def write(self, rows: Iterable[Mapping[str, Any]] | bytes) -> str:
        """Write the catalog and return its path."""
        path = storage_path(f"{self.root}/catalog.csv")
        put_bytes(rows if isinstance(rows, bytes) else as_csv(rows), path)
        return str(path)

    # --- runs -------------------------------------------------------------------------------------

    def until_tasks(
        self,
        run_id: str,
        task_id: str,
        state: str | tuple[str, ...],
        *,
        tries: int = 1,
        dag_id: str = DAG_ID,
    ) -> None:
        """Wait until all instances of a task are in a state.

        :param state: the state, or several of which any will do.
        :param tries: the lowest number of the try.
        """
        states = (state,) if isinstance(state, str) else state

        def all_in_state() -> bool:
            found = self.tasks(run_id, task_id, dag_id)
            return bool(found) and all(one["state"] in states and one["try_number"] >= tries for one in found)

        self.stack.services.until(all_in_state, f"{task_id} is {states}", 240)

    def trigger(
        self,
        rows: Iterable[Mapping[str, Any]] | bytes,
        *,
        point: Point | None = None,
        dag_id: str = DAG_ID,
        **conf: Any,
    ) -> str:
        """Write the catalog and trigger a run.

        :param point: the point at which the first shard's process stops in its first try.
        :return: the run id.
        """
        self.write(rows)
        given = {"catalog": f"{self.root}/catalog.csv", "destination": f"{self.root}/images", **conf}
        if dag_id == DAG_ID:
            (self.notes / "reached.json").unlink(missing_ok=True)
            given |= {"notes": str(self.notes), "kill_point": point.as_conf() if point else {}}
        self.runs.append(self.stack.airflow.trigger(dag_id, given))
        return self.runs[-1]

    def wait_for_end(self, run_id: str, dag_id: str = DAG_ID, seconds: float = 300) -> str:
        """Wait until a run ends, and return its state."""
        return self.stack.airflow.wait_for_run(dag_id, run_id, seconds)

    def run(self, rows: Iterable[Mapping[str, Any]] | bytes, **conf: Any) -> str:
        """Execute a run, which must succeed, and return its id."""
        dag_id = conf.get("dag_id", DAG_ID)
        run_id = self.trigger(rows, **conf)
        assert self.wait_for_end(run_id, dag_id) == "success", self.errors(run_id, dag_id)
        return run_id

    def wait_for_kill_point(self) -> dict[str, int]:
        """Wait until the first shard's process stops at the kill point; return its process ids."""
        marker = self.notes / "reached.json"

        def is_reached() -> bool:
            if marker.exists():
                return True
            for task in self.tasks(self.runs[-1], GENERATE):
                is_over = task["map_index"] == 0 and task["state"] in TASK_FINISHED
                assert not is_over, self.errors(self.runs[-1])
            return False

        self.stack.services.until(is_reached, "kill point reached", 240)
        return dict(json.loads(marker.read_text()))

    # --- as Airflow sees it -----------------------------------------------------------------------

    def tasks(self, run_id: str, task_id: str, dag_id: str = DAG_ID) -> list[dict[str, Any]]:
        """Return the instances of a task."""
        return [one for one in self.stack.airflow.tasks(dag_id, run_id) if one["task_id"] == task_id]

    def states(self, run_id: str, dag_id: str = DAG_ID) -> dict[str, Counter[str]]:
        """Return the number of instances by task and state."""
        found: dict[str, Counter[str]] = {}
        for one in self.stack.airflow.tasks(dag_id, run_id):
            found.setdefault(one["task_id"].removeprefix("refresh."), Counter())[one["state"]] += 1
        return found

    def report(self, run_id: str, dag_id: str = DAG_ID) -> dict[str, Any]:
        """Return the XCom of the report task."""
        found = self.stack.airflow.xcom(dag_id, run_id, "refresh.report")
        return dict(json.loads(found) if isinstance(found, str) else found)

    def plan(self, run_id: str, dag_id: str = DAG_ID) -> dict[str, Any]:
        """Return the XCom ``plan`` of the plan task."""
        found = self.stack.airflow.xcom(dag_id, run_id, "refresh.plan", "plan")
        return dict(json.loads(found) if isinstance(found, str) else found)

    def all_logs(self, run_id: str, dag_id: str = "*") -> str:
        """Return the logs of a run's tasks."""
        folder = self.stack.airflow.home / "logs"
        return "".join(path.read_text() for path in folder.glob(f"dag_id={dag_id}/run_id={run_id}/**/*.log"))

    def errors(self, run_id: str, dag_id: str = DAG_ID) -> str:
        """Return the task states and logged errors of a run, for the message of a failed assertion."""
        folder = self.stack.airflow.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}"
        lines = [f"{self.states(run_id, dag_id)}"]
        for path in sorted(folder.rglob("*.log")):
            for record in map(json.loads, path.read_text().splitlines()):
                if record.get("level") in ("error", "critical"):
                    lines.append(
                        f"{path.relative_to(folder)}: {record['event']} {record.get('error_detail', '')}"
                    )
        return "\n".join(lines)[:4000]

    # --- results ----------------------------------------------------------------------------------

    def manifest(self) -> list[dict[str, Any]]:
        """Return the rows of the published manifest, and assert that their images exist."""
        destination = storage_path(f"{self.root}/images")
        head = json.loads(get_bytes(destination / "manifest.json") or b"{}")
        if not head:
            return []
        with local_copy(destination / head["parquet"]) as local:
            rows: list[dict[str, Any]] = pq.ParquetFile(local).read().to_pylist()
        for row in rows:
            if row["status"] == "live":
                assert get_bytes(destination / row["path"]), f"{row['path']} does not exist"
        return rows

    @property
    def submitted(self) -> Counter[str]:
        """How often the emulator accepted each prompt of this catalog."""
        name = self.root.rpartition("/")[2]
        return Counter(
            prompt for job in self.stack.emulator.jobs for prompt in job["prompts"] if f" {name} " in prompt
        )
