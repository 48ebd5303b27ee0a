# SPDX-License-Identifier: Apache-2.0
"""A fleet on PostgreSQL, Redis and S3, and one emulator of the API."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bgrep_demo.broker import start_broker
from bgrep_demo.emulator import start_emulator
from bgrep_demo.postgres import postgres
from bgrep_demo.services import Services
from bgrep_harness.fleet import DAG_ID, SLOTS, WORKERS, Site, running_fleet
from bgrep_harness.object_stores import s3_store
from bgrep_harness.s3 import make_bucket, start_s3
from bgrep_harness.stack import CANARY, SETTINGS

DAGS = Path(__file__).parents[1] / "harness" / "dags"
LOGS = "fleet-logs"
"""The bucket of the remote logs."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("fleet")
    dags = home / "dags"
    dags.mkdir()
    for path in DAGS.glob("*.py"):
        shutil.copy(path, dags)
    with Services() as services, postgres(services, home / "postgres.log") as database:
        broker = start_broker(services, home / "broker")
        s3_url = start_s3(services, home / "s3.log")
        store = s3_store(s3_url)
        os.environ.update(store.settings)
        make_bucket(s3_url, LOGS)
        emulator = start_emulator(
            services,
            home / "emulator.log",
            *("--app-code", CANARY, "--timing", "instant", "--backgrounds", "plain"),
        )
        connection = json.dumps({**json.loads(emulator.connection_json), "password": CANARY})
        settings = {
            **SETTINGS,
            **store.settings,
            # On every component, as from a secrets backend.
            "AIRFLOW_CONN_BGREP_DEFAULT": connection,
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
            "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
            "AIRFLOW__CORE__PARALLELISM": str(SLOTS * len(WORKERS)),
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "32",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
            "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
            "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": f"s3://{LOGS}/logs",
            "AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID": store.conn_id,
            "AIRFLOW__LOGGING__DELETE_LOCAL_LOGS": "True",
            # What a lost machine leaves behind is taken over in half a minute; the defaults are minutes.
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
        }
        with running_fleet(services, home, dags, settings, [DAG_ID]) as fleet:
            yield Site(fleet, emulator, store, broker, database)
