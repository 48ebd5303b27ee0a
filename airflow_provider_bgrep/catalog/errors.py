# SPDX-License-Identifier: Apache-2.0
"""Translates errors in the catalog's files to exceptions of this package, for tasks and commands."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from airflow_provider_bgrep.exceptions import BgRepError, BgRepStateError, input_error, unreachable_store
from airflow_provider_bgrep.protocol.errors import InvalidInput, StoreError, reason_of, sanitize_message

_STORES = frozenset(
    "botocore aiobotocore boto3 s3fs gcsfs google azure adlfs ossfs aiohttp urllib3 requests fsspec".split()
)
"""Packages whose exceptions are those of a store."""

_REMEDY = "Restore it from a backup, or start a new DAG run."


@contextlib.contextmanager
def state_errors() -> Iterator[None]:
    """Translate errors in the catalog's files to exceptions of this package.

    A damaged or missing file is final: :class:`~airflow_provider_bgrep.exceptions.BgRepStateError`. Lost
    races are retried: :class:`~airflow_provider_bgrep.exceptions.BgRepConflictError`. An ``OSError`` is left
    alone, so that Airflow retries it. Errors of DuckDB, Arrow and the libraries of stores never leave a task.

    :raises BgRepError: for invalid input and unreadable files.
    """
    try:
        yield
    except BgRepError:
        raise
    except InvalidInput as error:
        raise input_error(error) from None
    except StoreError as error:
        raise unreachable_store(error) from error
    except FileNotFoundError as error:
        raise BgRepStateError(f"A file cannot be found: {sanitize_message(error)}. {_REMEDY}") from error
    except ValueError as error:  # JSON, Arrow and journals raise these for unreadable bytes
        raise BgRepStateError(f"A file cannot be read: {sanitize_message(error)}. {_REMEDY}") from error
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        if type(error).__name__ in ("OutOfMemoryException", "ArrowMemoryError"):
            raise BgRepStateError(
                f"There is not enough memory ({reason_of(error)}). Give the worker more, or divide the "
                "catalog between several destinations."
            ) from error
        if library in ("duckdb", "_duckdb", "pyarrow"):
            raise BgRepStateError(f"A file cannot be read ({reason_of(error)}). {_REMEDY}") from error
        if library in _STORES:
            from airflow_provider_bgrep.store_errors import store_error

            raise unreachable_store(store_error("A file", error, "be read or written")) from error
        raise
