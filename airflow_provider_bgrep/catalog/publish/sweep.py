# SPDX-License-Identifier: Apache-2.0
"""Verifies published files, a few in each run, and restores lost ones from the generated images.

Each run verifies a thirtieth of the live rows by size, at least 500 and at most 10,000, and 25 by checksum. A
run continues where the last one stopped, so a catalog of up to 300,000 rows is verified once in 30 runs.
Verifying the size of a file costs one request to the storage; for the checksum, the file is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from airflow_provider_bgrep.catalog.publish.manifest_log import ManifestLog, map_in_threads
from airflow_provider_bgrep.catalog.publish.manifest_writer import open_writer
from airflow_provider_bgrep.catalog.state.database import engine
from airflow_provider_bgrep.catalog.state.ledger_reader import LedgerReader
from airflow_provider_bgrep.catalog.state.manifest import Status
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import get_bytes, put_bytes, size_of

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
    from airflow_provider_bgrep.catalog.state.manifest import Header

_SHARE: Final = 30
_SIZES: Final = (500, 10_000)
_CHECKSUMS: Final = 25

_log = logging.getLogger(__name__)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found.

    :param healed: names of rows whose file was restored.
    :param lost: names of rows whose file is missing or damaged and cannot be restored, and the reasons.
    """

    healed: list[str] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)


def sweep(paths: CatalogPaths) -> Swept:
    """Verify some published files, and restore lost ones. A failure is logged and does not fail the run."""
    try:
        return _sweep(paths)
    except Exception as error:  # whatever the store or the ledger raises: everything is published already
        _log.warning(
            "Could not verify published files in %s: %s: %s",
            paths.destination,
            type(error).__name__,
            sanitize_message(error),
        )
        return Swept()


def _sweep(paths: CatalogPaths) -> Swept:
    log = ManifestLog(paths)
    header = log.latest()
    if header is None:
        return Swept()
    least, most = _SIZES
    count = min(max(header.counts[Status.LIVE.value] // _SHARE, least), most)
    cursors = _cursors(paths)
    with open_writer(paths, header) as writer:

        def window(which: str, count: int) -> list[Row]:
            rows = writer.live_after(cursors.get(which, ""), count)
            if len(rows) < count:  # from the beginning again
                known = {row["name"] for row in rows}
                rows += [one for one in writer.live_after("", count - len(rows)) if one["name"] not in known]
            return list(rows)

        by_size, by_checksum = window("size", count), window("sha256", _CHECKSUMS)
    damaged = {
        **_damaged(paths, by_size, _wrong_size),
        **_damaged(paths, by_checksum, _wrong_checksum),
    }
    if damaged:
        rows = {row["name"]: row for row in (*by_size, *by_checksum) if row["name"] in damaged}
        current = _still_live(paths, log.latest() or header, rows)
        damaged = {name: reason for name, reason in damaged.items() if name in current}
    healed = _heal(paths, {name: rows[name] for name in damaged}) if damaged else set()
    ends = {which: some[-1]["name"] for which, some in (("size", by_size), ("sha256", by_checksum)) if some}
    put_bytes(json.dumps({**cursors, **ends}).encode(), paths.sweep)
    lost = sorted((name, reason) for name, reason in damaged.items() if name not in healed)
    for name in sorted(healed):
        _log.warning("Restored the published image of row %s: %s", name, damaged[name])
    return Swept(sorted(healed), lost)


def _cursors(paths: CatalogPaths) -> dict[str, str]:
    """Return the last rows that were verified, by kind of check; empty if they are not known."""
    with contextlib.suppress(ValueError):
        found = json.loads(get_bytes(paths.sweep) or b"{}")
        if isinstance(found, dict):
            return {str(which): str(name) for which, name in found.items()}
    return {}


def _damaged(
    paths: CatalogPaths, rows: Sequence[Row], problem: Callable[[CatalogPaths, Row], str]
) -> dict[str, str]:
    """Names of damaged rows, and the reasons. A file that cannot be read now counts as intact."""

    def examined(row: Row) -> str:
        try:
            return problem(paths, row)
        except Exception as error:  # the store does not answer: a later run verifies the file
            _log.info("Could not verify %s: %s", row["path"], type(error).__name__)
            return ""

    found = zip(rows, map_in_threads(examined, rows), strict=True)
    return {row["name"]: reason for row, reason in found if reason}


def _wrong_size(paths: CatalogPaths, row: Row) -> str:
    size = size_of(paths.destination / row["path"])
    if size is None:
        return f"{row['path']} does not exist any more"
    return "" if size == row["size"] else f"{row['path']} has {size} bytes, expected {row['size']}"


def _wrong_checksum(paths: CatalogPaths, row: Row) -> str:
    data = get_bytes(paths.destination / row["path"])
    if data is None:
        return f"{row['path']} does not exist any more"
    found = hashlib.sha256(data).hexdigest()
    return "" if found == row["sha256"] else f"{row['path']} has checksum {found}, expected {row['sha256']}"


def _still_live(paths: CatalogPaths, header: Header, rows: Mapping[str, Row]) -> set[str]:
    """Names of the rows that the current manifest still publishes under the same path."""
    with open_writer(paths, header) as writer:
        current = writer.rows(list(rows))
    return {
        name
        for name, row in current.items()
        if row["path"] == rows[name]["path"] and row["status"] == Status.LIVE.value
    }


def _heal(paths: CatalogPaths, rows: Mapping[str, Row]) -> set[str]:
    """Write published files again from the generated images.

    :return: names of the rows whose file is in place again.
    """
    healed = set[str]()
    for name, original in _originals(paths, rows):
        if name in healed:
            continue
        try:
            data = get_bytes(paths.image(original))
            if data is not None and hashlib.sha256(data).hexdigest() == rows[name]["sha256"]:
                put_bytes(data, paths.destination / rows[name]["path"])
                healed.add(name)
        except Exception as error:  # one image must not stop the others
            _log.warning(
                "Could not restore %s from %s: %s", rows[name]["path"], original, type(error).__name__
            )
    return healed


def _originals(paths: CatalogPaths, rows: Mapping[str, Row]) -> list[tuple[str, str]]:
    """Names of rows, and the generated images with the checksum of what they publish."""
    wanted = pa.table(
        {"name": list(rows), "sha256": [row["sha256"] for row in rows.values()]},
        schema=pa.schema([("name", pa.string()), ("sha256", pa.string())]),
    )
    with contextlib.ExitStack() as stack:
        db = stack.enter_context(engine())
        LedgerReader(paths).open_segments(db, stack)
        db.register("wanted", wanted)
        found = db.execute("SELECT e.name, e.files, w.sha256 FROM entries e JOIN wanted w USING (name)")
        return [
            (name, str(file["path"]))
            for name, files, sha256 in found.fetchall()
            for file in json.loads(files or "[]")
            if file.get("sha256") == sha256
        ]
