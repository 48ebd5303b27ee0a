# SPDX-License-Identifier: Apache-2.0
"""What the purchases of a row mean for the next run, as SQL for all rows at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from airflow_provider_bgrep.catalog.config.options import Options
from airflow_provider_bgrep.catalog.model.schema import REQUEST, WORK_ITEM, arrow_schema, blank
from airflow_provider_bgrep.catalog.model.states import TO_SUBMIT
from airflow_provider_bgrep.catalog.plan.decision import (
    ALONE,
    DECIDE,
    REASON,
    SUBMITTED_STATES,
    WAITING,
    Decision,
    changes,
    decision,
    in_edition,
    judged,
)
from airflow_provider_bgrep.catalog.state.progress import COLLECTED, UNSENT
from airflow_provider_bgrep.generation.outcomes import Outcome
from airflow_provider_bgrep.protocol.codes import MAY_PASS

SHOP = Options(catalog="c.csv", destination="/shop", bgrep_conn_id="shop", max_attempts=2)
THRESHOLDS = SHOP.checks.to_json()


def entry(outcome: str = "pending", **cells: Any) -> dict[str, Any]:
    given = {"name": "a", "request_hash": "h", "nonce": "n", "account": "shop", "attempts": 1, "seq": 1}
    return {**blank(WORK_ITEM), **given, "outcome": outcome, "thresholds": THRESHOLDS, **cells}


def run(query: str, options: Options = SHOP, **tables: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Run a query over entries."""
    schema = arrow_schema(WORK_ITEM).append(pa.field("seq", pa.int64()))
    with duckdb.connect() as db:
        for name, rows in tables.items():
            db.register(name, pa.Table.from_pylist(list(map(dict, rows)), schema=schema))
        values = {**decision(options), "is_listed": "l.is_listed"}
        return db.execute(query.format(**values)).fetchall()


def decided(
    entry_or_none: dict[str, Any] | None,
    answers: str = "",
    *,
    is_listed: bool = True,
    options: Options = SHOP,
) -> tuple[str, str]:
    """What a run does with a row, and why.

    :param answers: hash of what is published of the row.
    :param is_listed: whether it is published under the row's sku and view.
    """
    rows = [entry_or_none] if entry_or_none else []
    published = "(SELECT " + (f"'{answers}'" if answers else "NULL::VARCHAR")
    published += f" AS answers, {is_listed} AS is_listed) l"
    query = f"SELECT {DECIDE}, {REASON} FROM (SELECT 1) x LEFT JOIN b ON true, {published}"
    (found,) = run(query, options, b=rows)
    return found


def changed(**options: Any) -> Options:
    return Options.checked({"catalog": "/c.csv", "destination": "/shop", "bgrep_conn_id": "shop", **options})


@pytest.mark.parametrize(
    ("cells", "live", "what"),
    [
        ({"outcome": "generated", "verdict": "passed"}, "h", "unchanged"),
        ({"outcome": "partial", "verdict": "unmasked"}, "h", "unchanged"),
        ({"outcome": "generated", "verdict": "passed"}, "", "unpublished"),
        ({"outcome": "generated", "verdict": "passed"}, "other", "unpublished"),
        ({"outcome": "generated", "verdict": ""}, "", "unpublished"),
        ({"outcome": "generated", "verdict": "flagged"}, "", "flagged"),
        ({"outcome": "generated", "verdict": "flagged", "thresholds": "{}"}, "", "unpublished"),
        ({"outcome": "generated", "verdict": "unmasked"}, "", "unmasked"),
        ({"outcome": "generated", "verdict": "unchecked"}, "", "unpublished"),
        ({"outcome": "pending"}, "", "pending"),
        ({"outcome": "expired", "attempts": 5}, "", "pending"),
        ({"outcome": "pending", "attempts": 6}, "", "quarantined"),
        ({"outcome": "pending", "account": "other"}, "", "quarantined"),
        ({"outcome": "failed", "attempts": 1}, "", "submit"),
        ({"outcome": "failed", "attempts": 2}, "", "quarantined"),
        ({"outcome": "unknown_outcome", "attempts": 0}, "", "quarantined"),
        ({"outcome": "refused", "code": "23500005"}, "", "quarantined"),
        *(({"outcome": "refused", "code": code}, "", "submit") for code in sorted(MAY_PASS)),
        *(
            ({"outcome": "refused", "code": code, "attempts": 2}, "", "quarantined")
            for code in sorted(MAY_PASS)
        ),
    ],
    ids=str,
)
def test_a_purchase_decides_about_its_row(cells, live, what):
    assert decided(entry(**cells), live)[0] == what
    assert what in [one.value for one in Decision]


def test_a_row_that_was_rolled_back_is_unchanged():
    passed = entry("generated", verdict="passed")
    assert decided(passed, "h")[0] == "unchanged"
    assert decided(passed, "another")[0] == "unpublished", "also if the earlier image is what it asks for"
    assert decided(entry("generated", verdict="flagged"), "h")[0] == "flagged"
    assert decided(entry("pending"), "h")[0] == "pending"
    assert decided(None, "h")[0] == "submit"


def test_a_row_under_another_sku_is_published_again():
    passed = entry("generated", verdict="passed")
    assert decided(passed, "h", is_listed=False)[0] == "unpublished"
    assert decided(entry("pending"), "h", is_listed=False)[0] == "pending"


def test_the_states_to_submit_are_those_of_the_table():
    assert f"({', '.join(sorted(repr(one.value) for one in TO_SUBMIT))})" == SUBMITTED_STATES


def test_a_row_without_a_purchase_is_submitted():
    assert decided(None) == ("submit", None)


@pytest.mark.parametrize(
    ("cells", "given", "what"),
    [
        ({"outcome": "unknown_outcome"}, {"budget": {"on_unknown_outcome": "resubmit"}}, "submit"),
        (
            {"outcome": "unknown_outcome", "attempts": 2},
            {"budget": {"on_unknown_outcome": "resubmit"}},
            "quarantined",
        ),
        ({"outcome": "failed", "attempts": 2}, {"budget": {"max_attempts": 3}}, "submit"),
        ({"outcome": "pending", "attempts": 6}, {"budget": {"max_attempts": 3}}, "pending"),
        ({"outcome": "pending", "attempts": 6}, {"budget": {"collect_runs": 7}}, "pending"),
        ({"outcome": "failed", "attempts": 2}, {"budget": {"collect_runs": 7}}, "quarantined"),
        ({"outcome": "pending", "attempts": 1}, {"budget": {"collect_runs": 1}}, "quarantined"),
        (
            {"outcome": "generated", "verdict": "unmasked"},
            {"publish": {"publish_unmasked": True}},
            "unpublished",
        ),
        (
            {"outcome": "generated", "verdict": "flagged"},
            {"checks": {"thresholds": {"ssim": 0.5}}},
            "unpublished",
        ),
    ],
    ids=str,
)
def test_options_decide_as_well(cells, given, what):
    assert decided(entry(**cells), options=changed(**given))[0] == what


@pytest.mark.parametrize(
    ("cells", "part"),
    [
        ({"outcome": "pending", "account": "other"}, "other"),
        ({"outcome": "pending", "attempts": 6}, "6 runs"),
        ({"outcome": "expired", "attempts": 6, "reason": "it is gone"}, "it is gone"),
        ({"outcome": "failed", "attempts": 2, "reason": "no foreground"}, "no foreground"),
    ],
)
def test_a_quarantined_row_has_a_reason(cells, part):
    what, reason = decided(entry(**cells))
    assert what == "quarantined"
    assert part in reason


@pytest.mark.parametrize("outcome", [one.value for one in Outcome])
@pytest.mark.parametrize("account", ["shop", "other"])
@pytest.mark.parametrize("attempts", [0, 5, 6])
def test_what_is_waited_for_is_what_is_pending(outcome, account, attempts):
    one = entry(outcome, account=account, attempts=attempts)
    ((waits,),) = run(f"SELECT {WAITING} FROM b", b=[one])
    assert waits is (decided(one)[0] == "pending")
    assert not waits or outcome in COLLECTED


# --- of several purchases -----------------------------------------------------------------------------


def chosen(*entries: dict[str, Any]) -> list[tuple[str, int]]:
    """The purchase that decides about each request: its nonce and its attempts."""
    query = judged("SELECT * FROM entries")
    found = run(f"SELECT nonce, attempts FROM ({query}) ORDER BY name, request_hash", entries=entries)
    return [(nonce, attempts) for nonce, attempts in found]


def test_images_decide_before_jobs_doubts_and_failures():
    outcomes = ["generated", "pending", "unknown_outcome", "failed", "refused"]
    entries = [entry(outcome, nonce=outcome, seq=9 - i) for i, outcome in enumerate(reversed(outcomes))]
    for first in range(len(outcomes)):
        some = [one for one in entries if one["outcome"] in outcomes[first:]]
        assert chosen(*some)[0][0] == outcomes[first]


def test_purchases_without_success_are_counted():
    entries = [entry("failed", nonce=str(i), seq=i) for i in range(3)]
    assert chosen(*entries) == [("2", 3)]
    assert chosen(*entries, entry("refused", nonce="r", seq=9)) == [("2", 4)]
    assert chosen(*entries, entry("pending", nonce="p", attempts=7)) == [("p", 7)]


@pytest.mark.parametrize("code", sorted(UNSENT))
def test_what_is_not_billed_does_not_count(code):
    entries = [entry("failed", nonce="f", seq=0), entry("refused", nonce="r", code=code, seq=9)]
    assert chosen(*entries) == [("f", 1)]
    assert chosen(*entries[1:]) == [("r", 0)]
    assert run(f"SELECT {ALONE} FROM b", b=entries[1:]) == [(0,)]
    # The answer to another submit of the row is not known.
    assert chosen(entries[1], entry("unknown_outcome", nonce="u", code=code)) == [("u", 1)]


def test_of_several_jobs_the_one_asked_for_least_decides():
    jobs = [entry("pending", nonce=str(attempts), attempts=attempts) for attempts in (3, 1, 2)]
    assert chosen(*jobs) == [("1", 1)]
    assert chosen(*jobs, entry("pending", nonce="other", attempts=0, account="other")) == [("1", 1)]


def test_of_several_with_images_one_that_passed_decides():
    entries = [
        entry("generated", nonce=verdict, verdict=verdict, seq=i)
        for i, verdict in enumerate(["passed", "flagged"])
    ]
    assert chosen(*entries)[0][0] == "passed"


def test_each_request_of_each_row_has_its_own():
    entries = [
        entry(name=name, request_hash=request, nonce=f"{name}{request}") for name in "ab" for request in "xy"
    ]
    assert [nonce for nonce, _ in chosen(*entries)] == ["ax", "ay", "bx", "by"]


def test_an_only_purchase_counts_as_one_attempt_without_success():
    found = run(f"SELECT outcome, {ALONE} FROM b", b=[entry(one.value, attempts=5) for one in Outcome])
    assert {outcome for outcome, attempts in found if attempts == 1} == {
        "failed",
        "unknown_outcome",
        "refused",
    }
    assert run(f"SELECT {ALONE} FROM b", b=[entry("pending", attempts=None)]) == [(0,)]


# --- what has changed ---------------------------------------------------------------------------------


def difference(before: Mapping[str, Any], now: Mapping[str, Any], reason: str = "") -> str:
    base = {"image": "https://a/1.png", "image_version": "", "steps": 20}
    ((found,),) = run(
        f"SELECT {changes('t', 'm', 'k')} FROM t, m, (SELECT '{reason}' AS reason) k",
        t=[entry(**{**base, **before})],
        m=[entry(**{**base, **now})],
    )
    return str(found)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({"request_hash": "x"}, "edition"),
        ({}, "tried again: pending"),
        ({"steps": 30}, "steps"),
        ({"steps": None, "seed": 0}, "seed, steps"),
        ({"positive_prompt": "sea"}, "positive_prompt"),
        ({"image": "https://a/2.png"}, "image"),
        ({"image": "https://a/1.png?v=2"}, "image (only its query)"),
        ({"image_version": "etag:2"}, "image (its content)"),
        ({"image": "https://a/2.png", "image_version": "etag:2"}, "image"),
        ({"mask": "https://a/m.png"}, "mask"),
    ],
    ids=str,
)
def test_what_differs_is_named(now, words):
    assert difference({}, now) == words


def test_every_field_of_a_request_is_named():
    for column in REQUEST:
        value = {"VARCHAR": "https://b/x", "DOUBLE": 0.25, "BIGINT": 3}[column.type]
        name = column.name.removesuffix("_version")
        assert name in difference({}, {column.name: value, "request_hash": "x"})


def test_a_person_who_asks_for_another_image_is_named_first():
    redone = {"request_hash": "x", "edition": "autumn#redo-1", "seed": 8}
    before = {"edition": "autumn", "seed": 7}
    assert difference(before, redone) == "redo"
    assert difference(before, redone, "too dark") == "redo: too dark"
    assert difference(before, {**redone, "steps": 30}) == "redo, steps"
    again = {**redone, "edition": "winter#redo-1"}
    assert difference({**redone, "request_hash": "h"}, again, "too dark") == "edition"
    assert difference(redone, redone, "too dark") == "tried again: pending"


@pytest.mark.parametrize(
    ("edition", "is_in"),
    [
        ("it's", True),
        ("it's#redo-1", True),
        ("it's#redo-12", True),
        ("it's 2", False),
        ("it's 2#redo-1", False),
        ("", False),
        ("#redo-1", False),
    ],
)
def test_a_redone_row_is_still_in_the_edition_of_its_run(edition: str, is_in: bool):
    own = in_edition("e", "it's")
    found = run(f"SELECT {own} FROM e", e=[entry(edition=edition)])
    assert found == [(is_in,)]
