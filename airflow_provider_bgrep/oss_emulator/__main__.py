# SPDX-License-Identifier: Apache-2.0
"""Serves the emulator of OSS from the command line."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from airflow_provider_bgrep.oss_emulator.credentials import DEFAULT_ACCESS_KEY_ID, DEFAULT_ACCESS_KEY_SECRET
from airflow_provider_bgrep.oss_emulator.errors import OssError
from airflow_provider_bgrep.oss_emulator.inprocess import DEFAULT_REGION, OssEmulator


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(
        prog="python -m airflow_provider_bgrep.oss_emulator",
        description="Serve Alibaba Cloud's Object Storage Service on 127.0.0.1. Objects are kept in memory.",
    )
    add = options.add_argument
    add("--port", type=int, default=0, help="port, 0 for a free one (default: %(default)s)")
    add("--region", default=DEFAULT_REGION, help="region that signatures name (default: %(default)s)")
    add("--access-key-id", default=DEFAULT_ACCESS_KEY_ID, help="default: %(default)s")
    add("--access-key-secret", default=DEFAULT_ACCESS_KEY_SECRET, help="default: %(default)s")
    add(
        "--bucket",
        action="append",
        default=[],
        metavar="NAME[:VERSIONING]",
        help="create a bucket; VERSIONING is off (the default), on or suspended. Can be repeated.",
    )
    return options


def ready_message(emulator: OssEmulator) -> str:
    """Return what is printed when the emulator is ready: the endpoint alone on the first line."""
    lines = (
        emulator.endpoint,
        f"Internal endpoint: {emulator.internal_endpoint}",
        f"Region: {emulator.region}",
        f"AccessKey ID: {emulator.access_key_id}",
        f"AccessKey secret: {emulator.access_key_secret}",
        f"AIRFLOW_CONN_OSS_DEFAULT={emulator.connection_json}",
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, until SIGINT or SIGTERM.

    :return: the exit status.
    """
    options = parser().parse_args(arguments)
    stopping = threading.Event()
    try:
        emulator = OssEmulator(options.region, options.port, options.access_key_id, options.access_key_secret)
        for bucket in options.bucket:
            name, _, versioning = bucket.partition(":")
            emulator.create_bucket(name, versioning or "off")
        with emulator:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stopping.set())
            print(ready_message(emulator), flush=True)
            stopping.wait()
    except (OSError, OssError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
