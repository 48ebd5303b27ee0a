# SPDX-License-Identifier: Apache-2.0
"""DAGs of the end-to-end tests: the public classes, in situations that a test makes bad."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_bgrep.operators.bgrep import BgRepDownloadOperator, BgRepSubmitOperator
from airflow_provider_bgrep.sensors.bgrep import BgRepSensor

DEADLINE_SECONDS = 60

AT_ONCE = {"retries": 2, "retry_delay": timedelta(seconds=1)}


def form() -> dict[str, Param]:
    return {
        "conn": Param("bgrep_default", type="string"),
        "task_list": Param([], type="array"),
        "directory": Param("", type="string"),
    }


@task
def image_tasks(params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return (params or {})["task_list"]


with DAG("e2e_chain", schedule=None, params=form(), default_args=AT_ONCE):
    submit = BgRepSubmitOperator(task_id="submit", task_list=image_tasks(), bgrep_conn_id="{{ params.conn }}")
    wait = BgRepSensor(
        task_id="wait",
        result_key=submit.output,
        bgrep_conn_id="{{ params.conn }}",
        deferrable=True,
        poke_interval=2,
        timeout=300,
    )
    download = BgRepDownloadOperator(
        task_id="download",
        result_key=submit.output,
        bgrep_conn_id="{{ params.conn }}",
        destination="file://{{ params.directory }}",
    )
    wait >> download


with DAG("e2e_deadline", schedule=None, params=form(), default_args=AT_ONCE):
    submit = BgRepSubmitOperator(task_id="submit", task_list=image_tasks())
    BgRepSensor(
        task_id="wait",
        result_key=submit.output,
        deferrable=True,
        poke_interval=2,
        timeout=DEADLINE_SECONDS,
    )


class DiesAfterSubmit(BgRepSubmitOperator):
    """Submits, and at its first try says who it is and waits to be killed."""

    def execute(self, context: Any) -> str:
        result_key = super().execute(context)
        if context["ti"].try_number == 1:
            own = Path(context["params"]["directory"]) / "pids"
            own.with_suffix(".new").write_text(f"{os.getpid()} {os.getppid()} {result_key}")
            own.with_suffix(".new").rename(own)
            time.sleep(600)
        return result_key


with DAG("e2e_worker_dies", schedule=None, params=form(), default_args=AT_ONCE):
    DiesAfterSubmit(task_id="submit", task_list=image_tasks())


@task
def shards(params: dict[str, Any] | None = None) -> list[list[dict[str, Any]]]:
    return [[one] for one in (params or {})["task_list"]]


with DAG("e2e_mapped", schedule=None, params=form(), default_args=AT_ONCE):
    keys = BgRepSubmitOperator.partial(task_id="submit", bgrep_conn_id="bgrep_default").expand(
        task_list=shards()
    )
    waits = BgRepSensor.partial(task_id="wait", deferrable=True, poke_interval=2, timeout=300).expand(
        result_key=keys.output
    )
    downloads = BgRepDownloadOperator.partial(
        task_id="download", destination="file://{{ params.directory }}"
    ).expand(result_key=keys.output)
    waits >> downloads

# Where a task comes back sooner than the scheduler has heard of the end of its last execution, Airflow takes
# that end for a death, and spends a try. Waits that are meant to end by themselves are longer than that.
LATE_SECONDS = 20

# The three modes of the sensor, side by side in every situation that a DAG can tell apart.
MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule", "poke_interval": LATE_SECONDS + 1},
    "deferrable": {"deferrable": True},
}
SITUATIONS: dict[str, dict[str, Any]] = {
    "done": {"job": "done"},
    "partly_failed": {"job": "failed"},
    "partly_failed_and_fine": {"job": "failed", "fail_on": "all"},
    "partly_failed_soft": {"job": "failed", "soft_fail": True},
    "partly_failed_never": {"job": "failed", "never_fail": True},
    "late": {"job": "late", "timeout": LATE_SECONDS},
    "late_soft": {"job": "late", "timeout": LATE_SECONDS, "soft_fail": True},
    "late_never": {"job": "late", "timeout": LATE_SECONDS, "never_fail": True},
    "refused": {"job": "done", "bgrep_conn_id": "bgrep_wrong"},
    "refused_soft": {"job": "done", "bgrep_conn_id": "bgrep_wrong", "soft_fail": True},
}

with DAG(
    "e2e_modes",
    schedule=None,
    params={
        "done": Param("", type="string"),
        "failed": Param("", type="string"),
        "late": Param("", type="string"),
    },
    default_args=AT_ONCE,
):
    for situation, given in SITUATIONS.items():
        for mode, chosen in MODES.items():
            rest = {name: value for name, value in given.items() if name != "job"}
            BgRepSensor(
                task_id=f"{situation}-{mode}",
                result_key=f"{{{{ params.{given['job']} }}}}",
                **{"poke_interval": 1, "timeout": 120, "deferrable": False, **rest, **chosen},
            )
