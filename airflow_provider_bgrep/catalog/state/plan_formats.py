# SPDX-License-Identifier: Apache-2.0
"""Reads and writes the formats of a plan's files: JSON, lines of JSON, and Parquet."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import get_bytes, local_copy

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

MISSING: Final = (
    "cannot be found: the plan task did not finish, or the plan was deleted. Clear the plan task, or start a "
    "new DAG run."
)
"""What is said of a file that every plan has."""


def json_object(path: ObjectStoragePath) -> dict[str, Any]:
    """A file with a JSON object; empty if it is missing or damaged."""
    with contextlib.suppress(ValueError):
        found = json.loads(get_bytes(path) or b"{}")
        if isinstance(found, dict):
            return found
    return {}


def json_lines(path: ObjectStoragePath, expected: int | None = None) -> Iterator[dict[str, Any]]:
    """The JSON objects in the lines of a file; none if it is missing.

    :param expected: how many lines were written, where that is known.
    :raises BgRepStateError: if a line is damaged, or lines are missing.
    """
    lines = (get_bytes(path) or b"").splitlines()
    if expected is not None and len(lines) != expected:
        raise BgRepStateError(
            f"{path} has {len(lines)} lines, and the plan has written {expected}: lines were lost. "
            "Restore the file from a backup, or start a new DAG run."
        )
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError("expected a JSON object")  # noqa: TRY004 (all damage is one error)
        except ValueError as error:
            reason = sanitize_message(error)
            raise BgRepStateError(f"{path}, line {number}, cannot be read: {reason}") from None
        yield value


def as_lines(values: Iterable[Mapping[str, Any]]) -> bytes:
    """Values as lines of JSON."""
    lines = (json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    return "".join(lines).encode(errors="surrogatepass")


@contextlib.contextmanager
def local_file(path: ObjectStoragePath) -> Iterator[str]:
    """A file of the plan as a local file, for as long as the context lasts.

    :raises BgRepStateError: if it is missing or damaged.
    """
    try:
        with local_copy(path) as local:
            yield local
    except FileNotFoundError:
        raise BgRepStateError(f"{path} {MISSING}") from None
    except (pa.ArrowException, duckdb.IOException, duckdb.InvalidInputException) as error:
        raise BgRepStateError(f"{path} cannot be read: {sanitize_message(error)}") from None


@contextlib.contextmanager
def parquet_file(path: ObjectStoragePath) -> Iterator[pq.ParquetFile]:
    """A Parquet file of the plan, for as long as the context lasts; errors as of :func:`local_file`."""
    with local_file(path) as local:
        yield pq.ParquetFile(local)
