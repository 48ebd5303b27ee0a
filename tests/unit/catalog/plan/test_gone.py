# SPDX-License-Identifier: Apache-2.0
"""Published rows that the catalog lacks: which are removed, and when the catalog is refused instead."""

from __future__ import annotations

from typing import Any

import pytest
from bgrep_harness.runs import row

from airflow_provider_bgrep.protocol.errors import InvalidInput

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")

CATALOG = [row(name) for name in ("lamp", "mug", "vase")]


def states(destination: Any, catalog: Any, **options: Any) -> dict[str, str]:
    with destination.draft(catalog, **options) as draft:
        return dict(draft.db.execute("SELECT name, state FROM rows").fetchall())


def test_published_rows_that_the_catalog_lacks_are_removed(destination):
    destination.refresh(CATALOG)
    assert states(destination, CATALOG[:2]) == {"vase": "removed"}
    assert states(destination, CATALOG[:2], publish={"on_removed": "keep"}) == {}


def test_rows_that_were_never_published_are_not_removed(destination):
    run = destination.plan(CATALOG)
    run.complete({"vase": "failed"})
    assert states(destination, CATALOG[:2]) == {}


def test_a_row_that_is_invalid_now_is_not_gone(destination):
    destination.refresh(CATALOG)
    assert states(destination, [*CATALOG[:2], row("vase", steps="many")]) == {}


def test_many_rows_at_once_are_not_removed(destination):
    destination.refresh(CATALOG)
    with destination.draft(CATALOG[:1]) as draft:
        assert draft.plan.counts["removed"] == 0
        assert any("max_removed_share" in note for note in draft.plan.notes)
    assert states(destination, CATALOG[:1], publish={"max_removed_share": 1}) == {
        "mug": "removed",
        "vase": "removed",
    }


def test_a_catalog_that_lost_most_of_many_rows_is_refused(destination):
    many = [row(f"s{i}") for i in range(20)]
    destination.refresh(many)
    with pytest.raises(InvalidInput) as caught:
        states(destination, many[:5])
    assert [problem.where for problem in caught.value.problems] == ["catalog"]
