# SPDX-License-Identifier: Apache-2.0
"""The code in the documentation is valid, and what it imports exists."""

from __future__ import annotations

import ast
import html
import importlib
import json
import re
import runpy
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from bgrep_harness.inboxes import mail_server, web_server
from bgrep_harness.runs import Destination, row

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.manifest import MANIFEST
from airflow_provider_bgrep.compat import has_task_state_store
from airflow_provider_bgrep.storage import storage_path

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"^( *)\.\. code-block:: python\n\n((?:\1   .*\n|\s*\n)+)", re.MULTILINE)
BLOCKS = [
    pytest.param(textwrap.dedent(match[2]), id=f"{page.stem}-{number}")
    for page in sorted(DOCS.glob("*.rst"))
    for number, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")))
]
AVAILABLE = {"airflow_provider_bgrep.retry_policy": has_task_state_store}
"""Modules that not every Airflow can import."""


def has_anything() -> bool:
    return True


@pytest.mark.parametrize("source", BLOCKS)
def test_code_blocks_are_valid_and_their_imports_exist(source: str):
    # `f(..., ...)` stands for further arguments.
    tree = ast.parse(re.sub(r", \.\.\.\)", ")", source))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if not AVAILABLE.get(str(node.module), has_anything)():
                pytest.skip(f"this Airflow has no {node.module}")
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, name.name) for name in node.names)


def test_the_example_of_a_consumer_reads_columns_of_the_manifest(tmp_path: Path):
    file = DOCS / "examples" / "published.py"
    columns = set(re.findall(r"row\[[\"'](\w+)[\"']\]", file.read_text(encoding="utf-8")))
    assert columns
    assert columns <= {column.name for column in MANIFEST}
    assert list(runpy.run_path(str(file))["changed_images"](str(tmp_path), 0)) == []


# --- alerts -----------------------------------------------------------------------------------------

FOUND = "3 rows need attention: <b>3 flagged</b> {{ ti.dag_id }}."


class FailedTask:
    """What an alert asks of the task instance that failed."""

    dag_id = "shop_images"

    def __init__(self, task_id: str, summary: dict[str, Any] | None) -> None:
        self.task_id, self._summary = task_id, summary

    def xcom_pull(self, *, task_ids: str, key: str) -> dict[str, Any] | None:
        assert (task_ids, key) == (self.task_id, "return_value")
        return self._summary


@pytest.fixture
def inboxes(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[Any], list[tuple[str, Any]]]]:
    """What the mail server and the web server of Slack and DingTalk got."""
    answers = {"/slack": b"ok", "/robot/send": b'{"errcode": 0}'}
    with mail_server() as (mails, port), web_server(answers) as (requests, url):
        connections = {
            "smtp": {"host": "127.0.0.1", "port": port, "extra": {"disable_ssl": True, "disable_tls": True}},
            "slack": {"conn_type": "slackwebhook", "host": f"{url}/slack", "password": "T0/B0/secret"},
            "dingding": {"host": url, "password": "robot-token"},
        }
        for name, values in connections.items():
            given = {"conn_type": name, **values}
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}_DEFAULT", json.dumps(given))
        yield mails, requests


@pytest.mark.parametrize(
    ("task_id", "summary", "expected"),
    [
        ("catalog_refresh.report", {"line": FOUND}, FOUND),
        ("catalog_refresh.report", None, "failed; see its log"),
        ("catalog_refresh.plan", None, "failed; see its log"),
        ("catalog_refresh.shards.generate", {"items": {"failed": 1}}, "failed; see its log"),
    ],
)
def test_alerts_reach_mail_slack_and_dingtalk(inboxes, task_id: str, summary: Any, expected: str):
    for provider in ("dingding", "slack", "smtp"):
        pytest.importorskip(f"airflow.providers.{provider}")
    mails, requests = inboxes
    dag = runpy.run_path(str(DOCS / "examples" / "alert.py"))["dag"]
    (callbacks,) = {tuple(task.on_failure_callback) for task in dag.tasks}
    for notify in callbacks:
        notify({"dag": dag, "ti": FailedTask(task_id, summary)})
    text = f"shop_images, {task_id}: {expected}"
    (mail,) = mails
    assert mail["Subject"] == f"Airflow: {task_id} failed"
    assert mail["To"] == "shop@example.com"
    assert html.unescape(mail.get_body(("html",)).get_content().strip()) == text
    assert "<b>" not in mail.as_string()
    (slack, message), (dingtalk, payload) = requests
    assert slack == "/slack/T0/B0/secret"
    assert message["text"] == text
    assert dingtalk == "/robot/send?access_token=robot-token"
    assert (payload["msgtype"], payload["text"]) == ("text", {"content": text})


@pytest.mark.parametrize(("days", "is_late"), [(6, False), (8, True)])
def test_the_watch_fails_once_nothing_was_published(tmp_path: Path, days: int, is_late: bool):
    module = runpy.run_path(str(DOCS / "examples" / "watch.py"))
    with pytest.raises(ValueError, match="Nothing was ever published"):
        module["check_age"](str(tmp_path / "shop"), module["MOST"])
    destination = Destination(CatalogPaths(storage_path(str(tmp_path / "shop"))))
    destination.refresh([row("mug")])
    with time_machine.travel(datetime.now(UTC) + timedelta(days=days), tick=True):
        if is_late:
            with pytest.raises(ValueError, match=r"Nothing was published to .* since 2"):
                module["check_age"](str(tmp_path / "shop"), module["MOST"])
        else:
            assert module["check_age"](str(tmp_path / "shop"), module["MOST"])
    assert [task.task_id for task in module["dag"].tasks] == ["watch"]
