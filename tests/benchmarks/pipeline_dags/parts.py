# SPDX-License-Identifier: Apache-2.0
"""What all subjects share: the image tasks, split into jobs, and how a plain DAG saves images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests

POLL_SECONDS = 5
FOLDER = "{{ params.folder }}"
PARAMS = {"folder": ""}


def image_tasks() -> list[dict[str, Any]]:
    """Return all image tasks, which the benchmark wrote beside this file."""
    tasks: list[dict[str, Any]] = json.loads(Path(__file__).with_name("tasks.json").read_text())
    return tasks


def jobs() -> list[list[dict[str, Any]]]:
    """Return the image tasks in jobs of ten, the most that a submit takes."""
    tasks = image_tasks()
    return [tasks[start : start + 10] for start in range(0, len(tasks), 10)]


def save(urls: list[str], folder: str) -> int:
    """Save images as most DAGs do: fetch and write, without any check."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with requests.Session() as session:
        for url in urls:
            answer = session.get(url, timeout=60)
            answer.raise_for_status()
            name = url.partition("?")[0].split("/")[-2:]
            (target / "_".join(name)).write_bytes(answer.content)
    return len(urls)
