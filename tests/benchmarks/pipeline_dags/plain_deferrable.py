# SPDX-License-Identifier: Apache-2.0
"""One deferrable task instance a job: submit, wait in the triggerer, save."""

from __future__ import annotations

import time
from typing import Any

import parts
from airflow.sdk import DAG, BaseOperator


class JobOperator(BaseOperator):
    """A minimal deferrable operator for this API."""

    template_fields = ("folder",)

    def __init__(self, *, job: list[dict[str, Any]], folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job, self.folder = job, folder

    def execute(self, context: Any) -> None:
        from airflow_provider_bgrep.hooks.bgrep import BgRepHook
        from airflow_provider_bgrep.triggers.bgrep import BgRepTrigger

        key = BgRepHook().submit(self.job).result_key
        trigger = BgRepTrigger(
            result_keys=[key],
            bgrep_conn_id="bgrep_default",
            poll_interval=parts.POLL_SECONDS,
            end_time=time.time() + 1800,
        )
        self.defer(trigger=trigger, method_name="resume", kwargs={"key": key})

    def resume(self, context: Any, key: str, event: Any = None) -> int:
        from airflow_provider_bgrep.hooks.bgrep import BgRepHook

        found = BgRepHook().query(key).tasks
        return parts.save([url for one in found for url in one.results], self.folder)


with DAG("plain_deferrable", schedule=None, params=parts.PARAMS):
    JobOperator.partial(task_id="job", folder=parts.FOLDER).expand(job=parts.jobs())
