# SPDX-License-Identifier: Apache-2.0
"""A shop whose catalog a real Airflow refreshes night after night."""

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

DAG_ID, GENERATE = "nights", "refresh.shards.generate"


@dataclass
class Shop:
    """One catalog and its destination.

    :param stack: Airflow and the emulator.
    :param bill: what was counted since the test began.
    :param notes: a folder on this machine.
    :param root: folder on an ``ObjectStoragePath``, as text, in which catalog and images lie.
    """

    stack: Stack
    bill: Bill
    notes: Path
    root: str
    runs: list[str] = field(default_factory=list)

    def rows(self, images: Images, count: int) -> list[dict[str, Any]]:
        """Rows of which no two are equal, and none is another shop's."""
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
        """Write the catalog. :return: where."""
        path = storage_path(f"{self.root}/catalog.csv")
        put_bytes(rows if isinstance(rows, bytes) else as_csv(rows), path)
        return str(path)

    # --- a night ----------------------------------------------------------------------------------

    def until_tasks(
        self,
        run_id: str,
        task_id: str,
        state: str | tuple[str, ...],
        *,
        tries: int = 1,
        dag_id: str = DAG_ID,
    ) -> None:
        """Wait until all instances of a task are in a state, at their so manieth try."""
        states = (state,) if isinstance(state, str) else state

        def look() -> bool:
            found = self.tasks(run_id, task_id, dag_id)
            return bool(found) and all(one["state"] in states and one["try_number"] >= tries for one in found)

        self.stack.services.until(look, f"{task_id} is {states}", 120)

    def begin(
        self,
        rows: Iterable[Mapping[str, Any]] | bytes,
        *,
        point: Point | None = None,
        dag_id: str = DAG_ID,
        **conf: Any,
    ) -> str:
        """Write the catalog and start a run.

        :param point: where the first shard's process stops at its first try.
        :return: the run's id.
        """
        self.write(rows)
        given = {"catalog": f"{self.root}/catalog.csv", "destination": f"{self.root}/images", **conf}
        if dag_id == DAG_ID:
            (self.notes / "reached.json").unlink(missing_ok=True)
            given |= {"notes": str(self.notes), "kill_point": point.as_conf() if point else {}}
        self.runs.append(self.stack.airflow.trigger(dag_id, given))
        return self.runs[-1]

    def ends(self, run_id: str, dag_id: str = DAG_ID, seconds: float = 300) -> str:
        """Wait for a run's end: its state."""
        return self.stack.airflow.wait_for_run(dag_id, run_id, seconds)

    def night(self, rows: Iterable[Mapping[str, Any]] | bytes, **conf: Any) -> str:
        """A whole run that must end well. :return: its id."""
        dag_id = conf.get("dag_id", DAG_ID)
        run_id = self.begin(rows, **conf)
        assert self.ends(run_id, dag_id) == "success", self.trouble(run_id, dag_id)
        return run_id

    def reached(self) -> dict[str, int]:
        """Wait until the first shard's process stands at the point to be killed at."""
        marker = self.notes / "reached.json"

        def look() -> bool:
            if marker.exists():
                return True
            for task in self.tasks(self.runs[-1], GENERATE):
                is_over = task["map_index"] == 0 and task["state"] in TASK_FINISHED
                assert not is_over, self.trouble(self.runs[-1])
            return False

        self.stack.services.until(look, "the point is reached", 90)
        return dict(json.loads(marker.read_text()))

    # --- as Airflow sees it -----------------------------------------------------------------------

    def tasks(self, run_id: str, task_id: str, dag_id: str = DAG_ID) -> list[dict[str, Any]]:
        """The instances of a task."""
        return [one for one in self.stack.airflow.tasks(dag_id, run_id) if one["task_id"] == task_id]

    def states(self, run_id: str, dag_id: str = DAG_ID) -> dict[str, Counter[str]]:
        """How many instances of each task there are of each state."""
        found: dict[str, Counter[str]] = {}
        for one in self.stack.airflow.tasks(dag_id, run_id):
            found.setdefault(one["task_id"].removeprefix("refresh."), Counter())[one["state"]] += 1
        return found

    def report(self, run_id: str, dag_id: str = DAG_ID) -> dict[str, Any]:
        """What the last task of a run returned."""
        found = self.stack.airflow.xcom(dag_id, run_id, "refresh.report")
        return dict(json.loads(found) if isinstance(found, str) else found)

    def plan(self, run_id: str, dag_id: str = DAG_ID) -> dict[str, Any]:
        """What the first task of a run told."""
        found = self.stack.airflow.xcom(dag_id, run_id, "refresh.plan", "plan")
        return dict(json.loads(found) if isinstance(found, str) else found)

    def all_logs(self, run_id: str, dag_id: str = "*") -> str:
        """All that a run's tasks logged."""
        folder = self.stack.airflow.home / "logs"
        return "".join(path.read_text() for path in folder.glob(f"dag_id={dag_id}/run_id={run_id}/**/*.log"))

    def trouble(self, run_id: str, dag_id: str = DAG_ID) -> str:
        """What a run's tasks logged above the usual, for the reader of a failed test."""
        folder = self.stack.airflow.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}"
        told = [f"{self.states(run_id, dag_id)}"]
        for path in sorted(folder.rglob("*.log")):
            for line in map(json.loads, path.read_text().splitlines()):
                if line.get("level") in ("error", "critical"):
                    told.append(f"{path.relative_to(folder)}: {line['event']} {line.get('error_detail', '')}")
        return "\n".join(told)[:4000]

    # --- what lies there --------------------------------------------------------------------------

    def manifest(self) -> list[dict[str, Any]]:
        """What consumers read; that every image it names is there is held on the way."""
        destination = storage_path(f"{self.root}/images")
        head = json.loads(get_bytes(destination / "manifest.json") or b"{}")
        with local_copy(destination / head["parquet"]) as local:
            rows: list[dict[str, Any]] = pq.ParquetFile(local).read().to_pylist()
        for row in rows:
            if row["status"] == "live":
                assert get_bytes(destination / row["path"]), f"{row['path']} is not there"
        return rows

    @property
    def sold(self) -> Counter[str]:
        """How often the emulator sold which prompt of this shop."""
        name = self.root.rpartition("/")[2]
        return Counter(
            prompt for job in self.stack.emulator.jobs for prompt in job["prompts"] if f" {name} " in prompt
        )
