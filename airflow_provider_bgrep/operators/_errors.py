# SPDX-License-Identifier: Apache-2.0
"""Translates the errors of the core, which does not know Airflow, to the exceptions that users catch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_bgrep.exceptions import (
    BgRepServiceError,
    BgRepStateError,
    input_error,
    unreachable_store,
)
from airflow_provider_bgrep.journal.records import JournalError, SupersededError
from airflow_provider_bgrep.protocol.errors import InvalidInput, StoreError


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Raise the core's errors as classes of :mod:`airflow_provider_bgrep.exceptions`."""
    try:
        yield
    except InvalidInput as error:
        raise input_error(error) from None
    except StoreError as error:
        raise unreachable_store(error) from error
    except JournalError as error:
        raise BgRepStateError(str(error)) from None
    except SupersededError as error:
        raise BgRepServiceError(str(error)) from None
