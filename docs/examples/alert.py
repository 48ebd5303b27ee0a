# SPDX-License-Identifier: Apache-2.0
"""Alerts people by mail, in Slack and in DingTalk when a task of a catalog refresh fails."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.notifier import BaseNotifier
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.dingding.hooks.dingding import DingdingHook
from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from airflow_provider_bgrep.catalog import catalog_refresh

# What the report found, or that another task failed. Jinja renders it when the alert is sent.
LINE = """{%- set report = ti.xcom_pull(task_ids=ti.task_id, key="return_value")
    if ti.task_id.endswith("report") else none -%}
{{ ti.dag_id }}, {{ ti.task_id }}: {{ report["line"] if report else "failed; see its log" }}"""


class DingTalkNotifier(BaseNotifier):
    """Sends a text to a DingTalk group. The provider has a hook and no notifier.

    :param message: the text. Templated. It must contain a keyword of the group's robot, if that has any.
    :param dingding_conn_id: the connection; its password is the robot's access token.
    """

    template_fields: Sequence[str] = ("message",)

    def __init__(self, *, message: str, dingding_conn_id: str = "dingding_default") -> None:
        super().__init__()
        self.message, self.dingding_conn_id = message, dingding_conn_id

    def notify(self, context: Any) -> None:
        """Send the text. Airflow calls this after it has rendered the templates."""
        DingdingHook(self.dingding_conn_id, message=self.message).send()


mail = SmtpNotifier(
    to="shop@example.com",
    from_email="airflow@example.com",
    subject="Airflow: {{ ti.task_id }} failed",
    html_content=f"{{% filter escape %}}{LINE}{{% endfilter %}}",
)
slack = SlackWebhookNotifier(text=LINE)
dingtalk = DingTalkNotifier(message=LINE)

with DAG(
    "shop_images",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"on_failure_callback": [mail, slack, dingtalk]},
) as dag:
    catalog_refresh(
        catalog="s3://shop/catalog.csv",
        destination="s3://shop/images",
        checks={"fail_on_attention": 0.05},
    )
