# SPDX-License-Identifier: Apache-2.0
"""Runs the emulator of the API as a service beside Airflow."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_bgrep.emulator.control import EmulatorClient
from bgrep_demo.airflow import clean_environment
from bgrep_demo.services import Service, Services

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def start_emulator(
    services: Services, log: Path, *options: str, environment: Mapping[str, str] | None = None
) -> EmulatorClient:
    """Start the emulator on a free port.

    :param services: supervise it.
    :param log: its log, whose first line is its URL.
    :param options: options of its command line.
    :param environment: further environment variables.
    :return: a client of its control routes.
    """
    command = [sys.executable, "-m", "airflow_provider_bgrep.emulator", *options]
    service = services.start(
        Service("emulator", command, {**clean_environment(), **(environment or {})}, log)
    )

    def url() -> str | None:
        return next((line for line in service.tail().splitlines() if line.startswith("http://")), None)

    return EmulatorClient(services.until(url, "the emulator listens", seconds=120))


def save(url: str, folder: Path, stem: str) -> Path:
    """Save an image that the emulator serves.

    :param folder: the folder to save to; created if missing.
    :param stem: the file name without its extension, which comes from the URL.
    :return: the path of the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{stem}{Path(urlsplit(url).path).suffix}"
    with _DIRECT.open(url, timeout=30) as answer:
        target.write_bytes(answer.read())
    return target
