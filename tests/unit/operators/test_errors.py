# SPDX-License-Identifier: Apache-2.0
"""Errors of the core leave an operator as classes that users catch."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.exceptions import (
    BgRepQuotaError,
    BgRepRequestError,
    BgRepServiceError,
    BgRepStateError,
)
from airflow_provider_bgrep.journal.records import JournalError, SupersededError
from airflow_provider_bgrep.operators._errors import airflow_errors
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem


@pytest.mark.parametrize(
    ("error", "cls"),
    [
        (InvalidInput([Problem("task_list[0].steps", "is 7")]), BgRepRequestError),
        (JournalError("is damaged", file="a.json", location="/journal"), BgRepStateError),
        (SupersededError("a later execution has taken over"), BgRepServiceError),
    ],
)
def test_an_error_of_the_core_keeps_its_words(error, cls):
    with pytest.raises(cls) as caught, airflow_errors():
        raise error
    assert type(caught.value) is cls
    assert str(error) in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("error", [BgRepQuotaError("used up", code="B403MQ"), OSError(5), KeyError("a")])
def test_any_other_error_passes_unchanged(error):
    with pytest.raises(type(error)) as caught, airflow_errors():
        raise error
    assert caught.value is error


def test_without_an_error_nothing_happens():
    with airflow_errors():
        pass
