# SPDX-License-Identifier: Apache-2.0
"""One table says how an image task can end."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.generation.outcomes import BILLABLE, MEANINGS, Outcome


def test_every_outcome_has_a_meaning():
    assert set(MEANINGS) == set(Outcome)


@pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: outcome.value)
def test_each_meaning_is_a_sentence_with_advice(outcome):
    happened, advice = MEANINGS[outcome]
    assert happened.endswith(".")
    assert advice.endswith(".") or outcome is Outcome.GENERATED


def test_the_values_of_the_manifest_never_change():
    assert [outcome.value for outcome in Outcome] == [
        *("generated", "partial", "refused", "failed", "expired", "unknown_outcome"),
        *("not_submitted", "pending"),
    ]


def test_only_what_was_never_accepted_is_free():
    assert set(Outcome) - BILLABLE == {Outcome.REFUSED, Outcome.NOT_SUBMITTED}
    assert all("not billable" in MEANINGS[outcome][0] for outcome in set(Outcome) - BILLABLE)
