# SPDX-License-Identifier: Apache-2.0
"""A DAG of the HTTP provider's parts: submit, wait, save; three task instances a job."""

from __future__ import annotations

import json
import uuid
from typing import Any

import parts
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG, PokeReturnValue, task, task_group

CONN_ID = "bench_http"
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


class FreshNonceSensor(HttpSensor):
    """``HttpSensor`` sends the same headers with each poke; the gateway takes a nonce only once."""

    def poke(self, context: Any) -> Any:
        self.headers = {**self.headers, "X-Ca-Nonce": uuid.uuid4().hex}
        return super().poke(context)


def query_body(response: Any) -> str:
    """Return the body of the query for the submitted job."""
    return json.dumps({"data": {"result_key": response.json()["data"]["result_key"]}})


def finished(response: Any) -> PokeReturnValue:
    """Return whether every image task is finished; then the URLs of its images go to XCom."""
    found = response.json()["data"]["task_list"]
    is_done = all(one["status"] in ("SUCCESS", "FAILED") for one in found)
    return PokeReturnValue(is_done, [url for one in found for url in one["results"]] if is_done else None)


@task
def download(urls: list[str], params: dict[str, Any]) -> int:
    return parts.save(urls, params["folder"])


def stock_dag(mode: str) -> DAG:
    """The DAG with the sensor in one of its modes; a group a job, so that a failure costs one job only."""

    @task_group
    def job(body: str) -> None:
        submit = HttpOperator(
            task_id="submit",
            http_conn_id=CONN_ID,
            endpoint="api/v1/bg-rep/submit",
            headers={**HEADERS, "X-Ca-Nonce": "{{ macros.uuid.uuid4().hex }}"},
            data=body,
            response_filter=query_body,
        )
        wait = FreshNonceSensor(
            task_id="wait",
            http_conn_id=CONN_ID,
            method="POST",
            endpoint="api/v1/bg-rep/query",
            headers=HEADERS,
            request_params=submit.output,
            response_check=finished,
            mode=mode,
            poke_interval=parts.POLL_SECONDS,
            timeout=1800,
        )
        download(wait.output)

    with DAG(f"stock_{mode}", schedule=None, params=parts.PARAMS) as dag:
        job.expand(body=[json.dumps({"data": {"task_list": one}}) for one in parts.jobs()])
    return dag
