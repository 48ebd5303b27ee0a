# SPDX-License-Identifier: Apache-2.0
"""Reads what a catalog refresh has published since the last time."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_bgrep.catalog import read_manifest


def changed_images(destination: str, seen: int) -> Iterator[tuple[str, str]]:
    """Yield the row and the path of each image that was published after a manifest.

    :param destination: the destination of the catalog refresh.
    :param seen: number of the last manifest that was read, 0 for none.
    """
    for row in read_manifest(destination):
        if row["status"] == "live" and row["since"] > seen:
            yield row["name"], f"{destination}/{row['path']}"
