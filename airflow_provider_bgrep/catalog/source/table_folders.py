# SPDX-License-Identifier: Apache-2.0
"""Tells by the names in a folder whether its files are a table: all of them, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from airflow_provider_bgrep.catalog.source.catalog import refusal
from airflow_provider_bgrep.exceptions import BgRepConflictError
from airflow_provider_bgrep.protocol.errors import sanitize_message

PARTITION: Final = re.compile(r"[^=/]+=[^/]*")
"""The name of a folder with one part of a table that Spark or Hive has partitioned by a column."""

_LOGS: Final = {
    "_delta_log": "a Delta Lake table",
    ".hoodie": "a Hudi table",
    ".hoodie_partition_metadata": "a part of a Hudi table",
    "_spark_metadata": "written by a streaming query of Spark",
}
"""What says which files count. Others are left from earlier versions of rows, or from writes that failed."""

_UNFINISHED: Final = re.compile(r"_temporary|__magic(_job-.*)?")
"""Where jobs of Spark and Hadoop keep files until they move them into the folder, one by one."""

_STARTED: Final = "_started_"
_COMMITTED: Final = "_committed_"
"""Beginnings of the names of files in which Databricks records a write. Parts have its id in their names."""


def check_log(path: str, names: Iterable[str]) -> None:
    """Check that every file of a folder counts.

    :param path: the folder, as a message shows it.
    :param names: what is in it, or in the folder of the table whose partition it is.
    :raises InvalidInput: if files count only by a log, which is not read here.
    :raises BgRepConflictError: if a job has not written all files yet.
    """
    names = sorted(names)
    if log := next((name for name in names if name in _LOGS), ""):
        raise refusal(
            f"{path!r} is {_LOGS[log]}: its {log} says which files count, and it is not read. Write the rows "
            "as they are now to a folder of their own, for example with write.parquet in Spark, or let an "
            "upstream task return them"
        )
    marker = next((name for name in names if _UNFINISHED.fullmatch(name)), "") or _uncommitted(names)
    if marker:
        marker = sanitize_message(marker)[:100]
        raise BgRepConflictError(
            f"{path} is being written to, or a job that wrote to it has failed: it has {marker}. Nothing was "
            "submitted. Retry the task when the job has ended. If none is running, let the job write all of "
            f"it again; if you are sure that all files are there and count, remove {marker}."
        )


def _uncommitted(names: Sequence[str]) -> str:
    """The record of a write to Databricks' storage that has parts here, but has not ended; ``""`` if none."""
    started, committed = (
        {name.removeprefix(beginning) for name in names if name.startswith(beginning)}
        for beginning in (_STARTED, _COMMITTED)
    )
    is_open = (one for one in sorted(started - committed) if any(f"-tid-{one}-" in name for name in names))
    return next((f"{_STARTED}{one}" for one in is_open), "")


def check_partitions(path: str, names: Iterable[str]) -> None:
    """Check that a folder is not partitioned: the partitions' column is in no file.

    :param path: the folder, as a message shows it.
    :param names: what is in it, without markers.
    :raises InvalidInput: if it is.
    """
    found = [name for name in names if PARTITION.fullmatch(name)]
    if not found:
        return
    column = sanitize_message(found[0].partition("=")[0])[:40]
    shown = sanitize_message(", ".join(found[:3]))[:100]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    raise refusal(
        f"{path!r} is partitioned by {column!r} into folders ({shown}{more}), and the files do not have that "
        "column. Write the table without partitions, for example without partitionBy in Spark, or give one "
        "of these folders"
    )
