# SPDX-License-Identifier: Apache-2.0
"""Links on tasks and the pages behind them, as the API server of a real Airflow shows them."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from bgrep_demo.airflow import free_ports
from bgrep_demo.services import Service, Services
from bgrep_harness.airflow_refresh import DAG_ID, GENERATE, AirflowRefresh
from bgrep_harness.images import Images
from bgrep_harness.stack import Stack

from airflow_provider_bgrep.operators.links import API_PAGE


@pytest.fixture
def refresh(stack: Any, bill: Any, tmp_path: Path) -> AirflowRefresh:
    return AirflowRefresh(stack, bill, tmp_path, f"file://{tmp_path}/shop-{tmp_path.name}")


def opened(url: str, token: str) -> HTTPResponse | urllib.error.HTTPError:
    """What a browser that is logged in to Airflow gets."""
    request = urllib.request.Request(url, headers={"Cookie": f"_token={token}"})
    try:
        return urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        return error


def token_of(airflow: Any) -> str:
    """The token of an administrator: this Airflow lets everybody be one."""
    with urllib.request.urlopen(f"{airflow.url}/auth/token", timeout=30) as response:
        return str(json.load(response)["access_token"])


@contextlib.contextmanager
def with_login(stack: Stack, folder: Path) -> Iterator[tuple[str, str]]:
    """Another API server on the same database, with a login: its URL, and the token of a reader."""
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps({"reader": "password of a test"}))
    (port,) = free_ports(1)
    env = {
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "reader:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    airflow, url = stack.airflow, f"http://127.0.0.1:{port}"
    service = Service(
        "api-server with a login",
        airflow.command("api-server"),
        airflow.env | env,
        folder / "api-server.log",
    )

    def token() -> str:
        body = json.dumps({"username": "reader", "password": "password of a test"}).encode()
        request = urllib.request.Request(
            f"{url}/auth/token", body, {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return str(json.load(response)["access_token"])
        except urllib.error.HTTPError:
            raise
        except OSError:
            return ""  # it is not up yet

    with Services() as services:
        services.start(service)
        yield url, services.until(token, "a login", 120)


def test_the_gallery_opens_from_its_task(refresh: AirflowRefresh, images: Images):
    airflow = refresh.stack.airflow
    run_id = refresh.run(refresh.rows(images, 3), shard_size=2)
    tasks = f"/dags/{DAG_ID}/dagRuns/{quote(run_id, safe='')}/taskInstances"

    names = [airflow.call("GET", f"{tasks}/{GENERATE}/{shard}")["rendered_map_index"] for shard in (0, 1)]
    assert names == ["shard 0: 2 rows", "shard 1: 1 row"]
    of_shard = airflow.call("GET", f"{tasks}/{GENERATE}/links", map_index=1)["extra_links"]
    assert of_shard == {"Background generation API": API_PAGE, "Plan": None}, "a local disk has no console"

    gallery = airflow.call("GET", f"{tasks}/refresh.report/links")["extra_links"]["Gallery"]
    token = token_of(airflow)
    page = opened(gallery, token)
    assert (page.status, page.headers["Content-Security-Policy"].split(";")[0]) == (200, "default-src 'none'")
    assert page.read() == Path(refresh.report(run_id)["gallery"].removeprefix("file://")).read_bytes()

    root = gallery.partition("/_bgrep/")[0]
    assert opened(f"{root}/_bgrep/index.html", token).status == 200
    assert opened(f"{root}/_bgrep/latest.html", token).status == 200
    published = [row["path"] for row in refresh.manifest()]
    assert len(published) == 3
    for path in published:
        image = opened(f"{root}/{quote(path)}", token)
        assert (image.status, image.headers.get_content_maintype()) == (200, "image")


def test_only_what_belongs_to_the_report_is_served(refresh: AirflowRefresh, images: Images):
    airflow = refresh.stack.airflow
    run_id = refresh.run(refresh.rows(images, 1))
    token = token_of(airflow)
    root = f"{airflow.url}/bgrep/files/{DAG_ID}/{quote(run_id, safe='')}/refresh.report"
    gallery = refresh.report(run_id)["gallery"].partition("/images/")[2]
    (Path(refresh.root.removeprefix("file://")) / "secret.png").write_bytes(b"not in the destination")

    assert opened(f"{root}/{gallery}", token).status == 200
    for name in (
        gallery.replace("report.html", "options.json"),
        gallery.replace("report.html", "plan.json"),
        "%2e%2e/secret.png",
        "%2e%2e%2fsecret.png",
        "%2Fetc%2Fpasswd.png",
        "missing.png",
    ):
        assert opened(f"{root}/{name}", token).status == 404, name
    assert opened(f"{root.replace('refresh.report', 'refresh.plan')}/{gallery}", token).status == 404


def test_whoever_cannot_read_the_dag_sees_nothing(refresh: AirflowRefresh, images: Images, tmp_path: Path):
    run_id = refresh.run(refresh.rows(images, 1))
    gallery = refresh.report(run_id)["gallery"].partition("/images/")[2]
    path = f"bgrep/files/{DAG_ID}/{quote(run_id, safe='')}/refresh.report/{gallery}"
    with with_login(refresh.stack, tmp_path) as (url, token):
        assert opened(f"{url}/{path}", token).status == 200
        for nobody in ("", "wrong"):
            answer = opened(f"{url}/{path}", nobody)
            assert answer.status in (401, 403)
            assert b"<html" not in answer.read()
