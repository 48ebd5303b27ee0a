# SPDX-License-Identifier: Apache-2.0
"""The states of rows and the verdicts: each has a meaning, and a shard gets those that it can work on."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.catalog.model.states import (
    ROW_MEANINGS,
    TO_COLLECT,
    TO_DO,
    TO_SUBMIT,
    VERDICT_MEANINGS,
    RowState,
    Verdict,
)


@pytest.mark.parametrize(("enum", "meanings"), [(RowState, ROW_MEANINGS), (Verdict, VERDICT_MEANINGS)])
def test_every_state_has_a_meaning_in_sentences(enum, meanings):
    assert list(meanings) == list(enum)
    for meaning, remedy in meanings.values():
        assert meaning.endswith(".")
        assert remedy == "" or remedy.endswith(".")
    assert len({meaning for meaning, _ in meanings.values()}) == len(meanings)


def test_no_row_is_both_submitted_and_collected():
    assert not TO_SUBMIT & TO_COLLECT
    assert TO_SUBMIT | TO_COLLECT < TO_DO
    assert {RowState.UNPUBLISHED} == TO_DO - TO_SUBMIT - TO_COLLECT


def test_what_a_shard_works_on_needs_no_remedy_from_a_person():
    assert all(not ROW_MEANINGS[state][1] for state in TO_DO - {RowState.ORPHANED})


def test_the_values_that_files_and_xcoms_have_never_change():
    assert " ".join(RowState) == (
        "new changed pending unpublished unchanged flagged unmasked quarantined over_budget locked removed "
        "invalid orphaned blocked"
    )
    assert " ".join(Verdict) == "passed flagged unmasked unchecked"
