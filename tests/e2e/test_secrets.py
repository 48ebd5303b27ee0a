# SPDX-License-Identifier: Apache-2.0
"""The AppCode is in the connection and nowhere else, whatever goes wrong.

Runs after the other end-to-end tests, and so searches what they left behind, too.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet, InvalidToken


def spellings(secret: str) -> list[str]:
    """The secret as it is, and as base64 at each of the three alignments."""
    inner = [base64.b64encode(b"x" * offset + secret.encode())[4:-4].decode() for offset in range(3)]
    return [secret, *inner]


def stored(stack: Any) -> Iterator[tuple[str, str]]:
    """Every value of every table but ``connection``: where it is and what it says, decrypted."""
    fernet = Fernet(stack.airflow.env["AIRFLOW__CORE__FERNET_KEY"])
    with sqlite3.connect(stack.airflow.database, timeout=60) as database:
        database.text_factory = bytes
        tables = [
            name.decode()
            for (name,) in database.execute("select name from sqlite_master where type = 'table'")
        ]
        assert {"connection", "task_instance", "trigger", "xcom", "log"} <= set(tables)
        for table in set(tables) - {"connection"}:
            for row in database.execute(f'select * from "{table}"'):
                for value in row:
                    data = value if isinstance(value, bytes) else str(value).encode()
                    with contextlib.suppress(InvalidToken):
                        data = fernet.decrypt(data)
                    yield table, data.decode("utf-8", "replace")


def written(stack: Any) -> Iterator[tuple[str, str]]:
    """Every file under Airflow's home but the database: where it is and what it says."""
    for path in Path(stack.airflow.home).rglob("*"):
        if path.is_file() and not path.name.startswith("airflow.db"):
            yield str(path.relative_to(stack.airflow.home)), path.read_text(errors="replace")


def places(everything: Iterator[tuple[str, str]], words: list[str]) -> set[str]:
    return {where for where, text in everything if any(word in text for word in words)}


@pytest.fixture
def failures(stack: Any, bill: Any, app_codes: tuple[str, str], tmp_path: Path) -> list[str]:
    """Runs that fail in as many ways as there are places that could say too much."""
    fine = {"task_list": [stack.emulator.image_task()], "directory": str(tmp_path)}
    lost = {**fine, "conn": "bgrep_default"}
    runs = []

    def fails(conf: dict[str, Any]) -> None:
        run_id, state = stack.run("e2e_chain", conf)
        assert state == "failed"
        runs.append(run_id)

    fails({**fine, "conn": "bgrep_wrong"})
    reset = stack.emulator.inject("reset", accepted=True)
    fails(lost)
    assert reset.exhausted
    html = stack.emulator.inject("html", accepted=True)
    fails(lost)
    assert html.exhausted

    # In the triggerer: the AppCode is revoked while a job is waited for.
    stack.emulator.inject("late", seconds=10**7)
    run_id = stack.airflow.trigger("e2e_chain", fine)
    stack.until_task("e2e_chain", run_id, "wait", "deferred")
    secrets = [word for code in app_codes for word in spellings(code)]
    assert "trigger" in places(stored(stack), ["bgrep_default"]), "the trigger's arguments were looked into"
    assert places(stored(stack), secrets) == set()
    revoked = stack.emulator.inject("code", operation="query", code="A403PR")
    assert stack.airflow.wait_for_run("e2e_chain", run_id) == "failed"
    assert revoked.exhausted
    return [*runs, run_id]


def test_the_app_code_is_in_the_connection_and_nowhere_else(
    stack: Any, app_codes: tuple[str, str], failures: list[str]
):
    said = stack.airflow.cli("connections", "test", "bgrep_default")
    assert "success" in said.lower()
    shown = json.dumps(stack.airflow.call("GET", "/connections"))
    secrets = [word for code in app_codes for word in spellings(code)]

    # The search finds what is there: runs in tables and logs, the connection in the API's answer.
    assert "dag_run" in places(stored(stack), failures)
    assert any(where.startswith("logs/") for where in places(written(stack), failures))
    assert any(where.startswith("services/") for where in places(written(stack), failures))
    assert "bgrep_default" in shown

    assert places(stored(stack), secrets) == set()
    # The emulator prints the AppCode that it accepts, for people to copy.
    assert places(written(stack), secrets) <= {"services/emulator.log"}
    assert not any(word in text for word in secrets for text in (said, shown))


def test_result_urls_stand_in_the_sensors_xcom_and_nowhere_else(stack: Any, bill: Any, tmp_path: Path):
    late = stack.emulator.inject("late", seconds=3600)
    conf = {"task_list": [stack.emulator.image_task()], "directory": str(tmp_path)}
    run_id = stack.airflow.trigger("e2e_chain", conf)
    stack.until_task("e2e_chain", run_id, "wait", "deferred")
    stack.emulator.advance(3600)
    assert stack.airflow.wait_for_run("e2e_chain", run_id) == "success"
    assert late.exhausted

    waited = stack.airflow.xcom("e2e_chain", run_id, "wait")
    (url,) = waited["tasks"][0]["results"]
    signature = url.partition("Signature=")[2]
    assert len(signature) > 20
    # Of every run of these tests, not of this one alone.
    assert places(stored(stack), [signature, "OSSAccessKeyId="]) == {"xcom"}
    assert places(written(stack), [signature, "OSSAccessKeyId="]) == set()
    assert all("Signature" not in path.read_text() for path in tmp_path.rglob("*.json"))
