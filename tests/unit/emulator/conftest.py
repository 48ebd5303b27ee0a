# SPDX-License-Identifier: Apache-2.0
"""Plain HTTP to the emulator: no client of ours, so that no bug of it hides here."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from airflow_provider_bgrep.protocol.limits import QUERY_PATH, SUBMIT_PATH
from airflow_provider_bgrep.testing import Emulator, EmulatorClient, bgrep_emulator  # noqa: F401 (a fixture)


@dataclass
class Api:
    """Calls an emulator as the API's documentation describes."""

    url: str
    app_code: str

    def headers(self, **others: str | None) -> dict[str, str]:
        whole = {
            "Content-Type": "application/json",
            "Authorization": f"APPCODE {self.app_code}",
            "X-Ca-Nonce": uuid.uuid4().hex,
        }
        whole |= {name.replace("_", "-"): value for name, value in others.items()}
        return {name: value for name, value in whole.items() if value is not None}

    def post(
        self, path: str, *, data: bytes | None = None, json: Any = None, **others: Any
    ) -> requests.Response:
        return requests.post(
            self.url + path, data=data, json=json, headers=self.headers(**others), timeout=20
        )

    def submit(self, *tasks: dict[str, Any], **others: str | None) -> requests.Response:
        return self.post(SUBMIT_PATH, json={"data": {"task_list": list(tasks)}}, **others)

    def query(self, key: str, **others: str | None) -> requests.Response:
        return self.post(QUERY_PATH, json={"data": {"result_key": key}}, **others)

    def job(self, *tasks: dict[str, Any]) -> str:
        answer = self.submit(*tasks)
        assert answer.status_code == 200, (answer.text, answer.headers)
        return answer.json()["data"]["result_key"]

    def states(self, key: str) -> list[str]:
        return [task["status"] for task in self.query(key).json()["data"]["task_list"]]

    def results(self, key: str) -> list[str]:
        return [url for task in self.query(key).json()["data"]["task_list"] for url in task["results"]]


@pytest.fixture
def emulator(bgrep_emulator: Emulator) -> Emulator:  # noqa: F811
    """An emulator that does not fetch images: most tests are not about images."""
    bgrep_emulator.configure(fetch=False)
    return bgrep_emulator


@pytest.fixture
def api(emulator: Emulator) -> Api:
    return Api(emulator.url, emulator.app_code)


@pytest.fixture
def speak() -> Callable[[Emulator | EmulatorClient], Api]:
    """Returns an API client for another emulator."""
    return lambda other: Api(other.url, other.app_code)


@pytest.fixture
def task(emulator: Emulator) -> Callable[..., dict[str, Any]]:
    """A valid image task; ``None`` leaves a field out."""
    return emulator.image_task
