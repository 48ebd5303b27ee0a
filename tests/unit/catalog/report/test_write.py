# SPDX-License-Identifier: Apache-2.0
"""From a plan's files to its report: in which order rows are shown, and what is known of those left over."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bgrep_harness.runs import Destination, Run, row

from airflow_provider_bgrep.catalog.mark.decisions import Decision
from airflow_provider_bgrep.catalog.mark.rollback import rollback
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.plan import Plan, Quote
from airflow_provider_bgrep.catalog.model.schema import ENTRY, blank
from airflow_provider_bgrep.catalog.report.write import write_report
from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.plan_formats import as_lines
from airflow_provider_bgrep.catalog.state.plan_store import ROW_COLUMNS, PlanStore
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.storage import get_bytes, put_bytes, put_file, remove, storage_path


@pytest.fixture
def paths(tmp_path: Path) -> CatalogPaths:
    return CatalogPaths(storage_path(f"file://{tmp_path}/shop/images"))


def state(name: str, state: str, what: str = "") -> dict[str, Any]:
    return {"name": name, "sku": name, "view": "main", "line": 2, "state": state, "change": what}


def submitted(paths: CatalogPaths, plan_id: str, name: str, verdict: str, **given: Any) -> dict[str, Any]:
    """A row that a shard has submitted one image for, and checked."""
    file = {"path": f"{paths.destination}/_bgrep/images/{name}.png", "index": 0, "output": 0}
    return {
        **state(name, "new"),
        "request_hash": f"request_hash of {name}",
        "outcome": "generated",
        "verdict": verdict,
        "plan_id": plan_id,
        "positive_prompt": f"{name} on snow",
        "images": 1,
        "flags": json.dumps([f"{name} is wanting"] if verdict == "flagged" else []),
        "scores": json.dumps([{"ssim": 0.5}]),
        "files": json.dumps([file]),
        "result_key": f"job of {name}",
        "thumb_source": b"RIFF",
        **given,
    }


def run(
    paths: CatalogPaths,
    plan_id: str,
    rows: Sequence[Mapping[str, Any]] = (),
    shards: Sequence[Sequence[Mapping[str, Any]] | None] = (),
    bad: Sequence[Mapping[str, Any]] = (),
    published: Mapping[str, Any] | None = {},
    **more: Any,
) -> None:
    """Write a plan's files down, as its tasks do; a shard that is ``None`` was never checked.

    :param published: what the publish task left; ``None`` if it has not ended.
    :param more: further options.
    """
    files = paths.plan(plan_id)
    counts = dict(Counter(row["state"] for row in rows) + Counter(bad=len(bad), unchanged=5))
    plan = Plan(
        plan_id=plan_id,
        dag_id="shop",
        run_id=f"run of {plan_id}",
        account="bgrep_default",
        catalog="s3://shop/catalog.csv",
        created_at="2026-03-14T02:00:03+00:00",
        until=0,
        counts=counts,
        quote=Quote(price=Decimal("0.2"), currency="CNY"),
        shards=len(shards),
        shard_size=100,
    )
    options = {
        "catalog": "c.csv",
        "destination": str(paths.destination),
        "price_per_image": "0.2",
        "currency": "CNY",
        **more,
    }
    if published is not None:
        store = PlanStore(paths, plan_id)
        store.mark_published(store.begin_publishing(), published)
    put_bytes(json.dumps(options).encode(), files.options)
    put_bytes(as_lines(bad), files.invalid_rows)
    types = {"line": pa.int64()}
    schema = pa.schema([pa.field(name, types.get(name, pa.string())) for name in ROW_COLUMNS])
    local = str(Path(paths.destination.path).parent / "rows.parquet")
    Path(local).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), local)
    put_file(local, files.rows)
    for number, shard in enumerate(shards):
        if shard is not None:
            PlanStore(paths, plan_id).write_results(number, map(dict, shard))
    put_bytes(json.dumps(plan.to_dict()).encode(), files.header)


def settled(paths: CatalogPaths, plan_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put what a plan has come to into the ledger."""
    names = {column.name for column in ENTRY}
    Ledger(paths).commit(
        plan_id, [{**blank(), **{k: v for k, v in row.items() if k in names}} for row in rows]
    )


def summary_in(paths: CatalogPaths, plan_id: str) -> dict[str, Any]:
    """The summary of a plan."""
    return dict(json.loads(Path(paths.plan(plan_id).summary.path).read_text()))


def shown(paths: CatalogPaths, plan_id: str) -> list[dict[str, Any]]:
    """The rows of a plan's gallery."""
    page = Path(paths.plan(plan_id).report.path).read_text()
    blocks = re.findall(r'<script type="application/json" class="rows">(.*?)</script>', page, re.S)
    return [defaultdict(str, row) for block in blocks for row in json.loads(block)]


def test_page_summary_and_line_are_written(paths: CatalogPaths, caplog: pytest.LogCaptureFixture):
    rows = [submitted(paths, "p1", "A", "passed"), submitted(paths, "p1", "B", "flagged")]
    run(paths, "p1", rows, [rows])
    with caplog.at_level(logging.INFO):
        xcom = write_report(PlanStore(paths, "p1"))
    summary = summary_in(paths, "p1")
    line = summary["line"]
    assert xcom == {
        "line": line,
        "gallery": str(paths.plan("p1").report),
        "rows": 7,
        "states": summary["states"],
        "statuses": summary["statuses"],
        "outcomes": {"generated": 2},
        "verdicts": {"passed": 1, "flagged": 1},
        "needs_attention": 1,
        "images": {"quoted": 0, "billable": 2},
        "cost": "0.4",
        "currency": "CNY",
        "unfinished": [],
        "is_published": True,
        "cancelled": "",
        "failures": [],
    }
    assert line in caplog.text
    assert (summary["rows"], summary["needs_attention"], summary["cost"]) == (7, 1, "0.4")
    assert summary["statuses"] == {"flagged": 1, "unpublished": 1, "unchanged": 5}
    assert [row["name"] for row in shown(paths, "p1")] == ["B", "A"]


def test_rows_that_need_attention_come_first_but_leave_room(paths: CatalogPaths):
    shards = [
        [submitted(paths, "p1", "A", "passed"), submitted(paths, "p1", "B", "passed")],
        [submitted(paths, "p1", "C", "passed"), submitted(paths, "p1", "D", "flagged")],
    ]
    rest = [state("R", "removed"), state("Q", "quarantined", "refused")]
    bad = [{"line": n, "column": "sku", "reason": "wrong", "sku": f"X{n}", "view": ""} for n in range(2100)]
    run(paths, "p1", [*shards[0], *shards[1], *rest], shards, bad)
    write_report(PlanStore(paths, "p1"))
    names = [row["name"] for row in shown(paths, "p1")]
    assert names[:2] == ["D", "X0"]
    assert names[2000:2006] == ["X1999", "Q", "A", "B", "C", "R"]
    assert names[2006:] == [f"X{n}" for n in range(2000, 2100)]


def test_what_an_earlier_run_left_is_shown_as_that_run_had_it(paths: CatalogPaths):
    first = [submitted(paths, "p1", "B", "flagged"), submitted(paths, "p1", "C", "flagged")]
    run(paths, "p1", first, [first])
    settled(paths, "p1", first)
    write_report(PlanStore(paths, "p1"))
    failed = submitted(paths, "p2", "D", "", outcome="failed", reason="too dark", files="")
    run(paths, "p2", [failed], [[failed]])
    settled(paths, "p2", [failed])
    left = [state("B", "flagged"), state("D", "quarantined", "too dark"), state("E", "flagged")]
    run(paths, "p3", left)
    reported = write_report(PlanStore(paths, "p3"))
    assert reported["line"].startswith("3 rows need ")
    assert summary_in(paths, "p3")["statuses"] == {"flagged": 2, "quarantined": 1, "unchanged": 5}
    rows = {row["name"]: row for row in shown(paths, "p3")}
    b, d, e = rows["B"], rows["D"], rows["E"]
    assert (b["status"], b["flags"], b["positive_prompt"]) == ("flagged", ["B is wanting"], "B on snow")
    assert b["files"] == ["../../../_bgrep/images/B.png"]
    assert b["report"] == "../p1/report.html"
    assert (b["result_key"], b["cost"]) == ("job of B", "")
    assert (d["status"], d["reason"], d["report"]) == ("quarantined", "too dark", "")
    assert (e["status"], e["positive_prompt"]) == ("flagged", "")


def test_links_are_quoted_and_lead_nowhere_else(paths: CatalogPaths):
    strange = submitted(paths, "p1", "a b#c?d%e", "passed")
    elsewhere = submitted(paths, "p1", "E", "passed", files=json.dumps([{"path": "s3://other/x.png"}]))
    run(paths, "p1", [strange, elsewhere], [[strange, elsewhere]])
    write_report(PlanStore(paths, "p1"))
    one, other = shown(paths, "p1")
    assert one["files"] == ["../../../_bgrep/images/a%20b%23c%3Fd%25e.png"]
    assert other["files"] == ["../../../_bgrep/images/x.png"]  # where a destination that was moved has it


def test_an_unchecked_shard_is_reported_with_its_rows(paths: CatalogPaths):
    done = submitted(paths, "p1", "A", "passed")
    run(paths, "p1", [done, state("B", "new"), state("C", "pending")], [[done], None])
    reported = write_report(PlanStore(paths, "p1"))
    assert reported["unfinished"] == ["shard 1 was not checked"]
    assert reported["line"].startswith("1 shard did not finish.")
    assert summary_in(paths, "p1")["cost"] == "0.2"
    assert [(row["name"], row["status"]) for row in shown(paths, "p1")] == [
        ("A", "unpublished"),
        ("B", "new"),
        ("C", "pending"),
    ]


@pytest.mark.parametrize("is_lost", [False, True])
def test_invalid_rows_that_are_lost_are_not_taken_for_none(paths: CatalogPaths, is_lost: bool):
    shop = Destination(paths, {"fail_on_attention": 1})
    planned = shop.plan([row("a"), row("bad", steps="x")]).complete()
    if is_lost:
        remove(planned.files.invalid_rows)
        with pytest.raises(BgRepStateError, match=r"invalid_rows\.jsonl"):
            write_report(planned.store)
    else:
        assert len(write_report(planned.store)["failures"]) == 1


def test_lone_surrogates_in_an_invalid_row_can_be_reported(paths: CatalogPaths):
    bad = [{"line": 2, "column": "\ud800", "reason": "\udfff", "sku": "\ud800", "view": "\ud800"}]
    run(paths, "p1", bad=bad)
    write_report(PlanStore(paths, "p1"))
    assert summary_in(paths, "p1")["statuses"]["invalid"] == 1
    assert [row["sku"] for row in shown(paths, "p1")] == ["?"]


def test_a_publish_task_that_did_not_end_is_a_failure(paths: CatalogPaths):
    row = submitted(paths, "p1", "A", "passed")
    run(paths, "p1", [row], [[row]], published=None)
    found = write_report(PlanStore(paths, "p1"))
    assert found["line"].startswith("The publish task did not finish.")
    (failure,) = found["failures"]
    assert "clear publish and report" in failure
    assert not found["is_published"]
    assert PlanStore(paths, "p1").has_report


@pytest.mark.parametrize(
    ("limit", "fails"), [(None, False), ("1", True), (2, True), (3, False), (0.25, True), ("0.3", False)]
)
def test_so_many_rows_that_need_attention_fail_the_run(paths: CatalogPaths, limit: Any, fails: bool):
    rows = [submitted(paths, "p1", sku, "flagged") for sku in "AB"]
    rows.append(submitted(paths, "p1", "C", "passed"))
    run(paths, "p1", rows, [rows], fail_on_attention=limit)  # with those that are unchanged, 8 rows
    failures = write_report(PlanStore(paths, "p1"))["failures"]
    assert bool(failures) is fails
    if fails:
        assert "2 rows of 8 need attention (2 flagged)" in failures[0]


def test_rows_without_a_mask_are_counted_and_need_attention(paths: CatalogPaths):
    rows = [submitted(paths, "p1", sku, "unmasked") for sku in "AB"]
    run(paths, "p1", [*rows, state("C", "unmasked")], [rows])
    found = write_report(PlanStore(paths, "p1"))
    assert (found["statuses"]["unmasked"], found["needs_attention"]) == (3, 3)
    assert found["verdicts"] == {"unmasked": 2}
    assert found["line"].startswith("3 rows need attention: 3 not compared: no mask.")


def test_lost_and_restored_files_are_reported(paths: CatalogPaths):
    result = {"lost": [["A", "A/x.png does not exist any more"]], "healed": ["B"]}
    run(paths, "p1", published=result)
    found = write_report(PlanStore(paths, "p1"))
    assert (found["statuses"]["lost"], found["needs_attention"]) == (1, 1)
    notes = summary_in(paths, "p1")["notes"]
    assert notes[0].startswith("The published image of A is lost: A/x.png")
    assert notes[1] == "Restored 1 published image: B"


@pytest.mark.slow
def test_published_rows_that_are_gone_need_attention(destination):
    rows = [row(f"s{i}") for i in range(10)]
    destination.refresh(rows)
    for limit, fails in ((None, False), (3, True), (4, False), (0.3, True)):
        found = write_report(destination.refresh(rows[:7], fail_on_attention=limit).store)
        assert (found["needs_attention"], found["statuses"]) == (3, {"not_removed": 3, "unchanged": 7})
        assert bool(found["failures"]) is fails
    right = destination.refresh(rows[:7], fail_on_attention=1, max_removed_share=1)
    assert write_report(right.store)["failures"] == []


def _waiting(destination: Destination) -> Run:
    """A plan that needs approval: 12 rows have changed, and one is gone."""
    rows = [row(f"s{i}") for i in range(13)]
    destination.refresh(rows)
    run = destination.plan([row(f"s{i}", positive_prompt="on sand") for i in range(12)], fail_on_attention=1)
    assert run.plan.needs_approval
    return run


@pytest.mark.slow
@pytest.mark.parametrize("how", ["refused", "unanswered", "lost", "emptied", "locked"])
def test_what_a_plan_without_approval_keeps_needs_attention(destination, how):
    run = _waiting(destination)
    if how == "locked":  # by a run that waits for approval; so nobody is asked about this one
        same = [row(f"s{i}", positive_prompt="on sand") for i in range(12)]
        run = destination.plan(same, now=run.now + 3600)
        assert (run.plan.needs_approval, run.plan.shards) == (True, 0)
    elif how == "refused":
        run.store.ask()
        run.store.refuse("it was not approved")
    else:
        run.store.ask()
        if how != "unanswered":
            run.store.approve()
            run.work()
            run.check()
            (remove if how == "lost" else partial(put_bytes, b""))(run.files.answer(1))
    if how == "emptied":
        for task in (run.publish, partial(write_report, run.store)):
            with pytest.raises(BgRepStateError, match="clear the approval task"):
                task()
        remove(run.files.answer(1))
    run.publish()
    assert "s12" in destination.published()
    found = write_report(run.store)
    assert (found["statuses"]["not_removed"], found["statuses"].get("removed")) == (1, None)
    assert found["needs_attention"] >= 1
    assert bool(found["failures"]) is (how != "locked")
    summary = json.loads(get_bytes(run.files.summary) or b"")
    assert "1 row that is gone from the catalog" in summary["notes"][-1]
    right = destination.refresh([row(f"s{i}") for i in range(12)])
    assert "s12" not in destination.published()
    assert write_report(right.store)["statuses"]["removed"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("on_removed", ["retire", "delete"])
def test_an_approval_that_is_taken_back_removed_what_it_removed(destination, on_removed):
    rows = [row("a"), row("b")]
    destination.refresh(rows)
    given = {"on_removed": on_removed, "max_removed_share": 1, "price_per_image": 1, "approve_above": 0}
    run = destination.plan([row("a"), row("c")], **given)
    run.store.ask()
    run.store.approve()
    run.complete()
    assert write_report(run.store)["statuses"]["removed"] == 1
    run.store.ask(2)
    run.store.refuse("it was not approved", 2)
    run.publish()
    assert set(destination.published()) == {"a", "c"}
    assert write_report(run.store)["statuses"]["removed"] == 1


@pytest.mark.slow
def test_a_later_plan_without_approval_hinders_no_removal(destination):
    destination.refresh([row("a"), row("b")], max_removed_share=1)
    run = destination.plan([row("a"), row("c")], max_removed_share=1)
    run.work()
    run.check()
    given = {"max_removed_share": 1, "price_per_image": 1, "approve_above": 0}
    later = destination.plan([row("a"), row("c"), row("d")], **given)
    assert later.counts["removed"] == 1
    run.publish()
    assert write_report(run.store)["statuses"]["removed"] == 1
    assert "b" not in destination.published()
    later.store.ask()
    later.store.refuse("it was not approved")
    later.publish()
    assert write_report(later.store)["statuses"].get("not_removed") is None
    back = destination.plan([row("a"), row("b")])
    run.publish()
    back.complete()
    assert "b" in destination.published(), "a cleared publish removes nothing that a later plan has found"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left", "unreadable", "not_removed"),
    [
        (7, 1, 2),  # one of the three may be the row that cannot be read, which counts as invalid
        (7, 5, 0),
        (9, 1, 0),
        (10, 1, 0),  # a row with totals below the products
        (2, 1, 7),
    ],
)
def test_rows_that_are_gone_count_beside_unreadable_ones(destination, left, unreadable, not_removed):
    rows = [row(f"s{i}") for i in range(10)]
    destination.refresh(rows)
    bad = [{"sku": "#REF!", "image": "https://shop.example/x.png"}] * unreadable
    attention = unreadable + not_removed
    for limit, fails in ((attention, True), (attention + 1, False)):
        run = destination.refresh([*rows[:left], *bad], fail_on_attention=limit)
        found = write_report(run.store)
        expected = {"not_removed": not_removed, "invalid": unreadable, "unchanged": left}
        assert found["statuses"] == {name: count for name, count in expected.items() if count}
        assert (found["needs_attention"], bool(found["failures"])) == (attention, fails)
    kept = destination.refresh([*rows[:left], *bad], on_removed="keep")
    assert write_report(kept.store)["needs_attention"] == unreadable
    assert len(destination.published()) == 10


@pytest.mark.slow
@pytest.mark.parametrize(("group_id", "count"), [("one", 1), ("another", 0)])
def test_jobs_that_were_given_up_need_attention(destination, group_id: str, count: int):
    destination.options |= {"max_attempts": 1, "on_removed": "keep"}
    for sku in "abb":
        destination.refresh([row(sku)], {"a": "pending"}, group_id="one")
    run = destination.refresh([row("b")], group_id=group_id, fail_on_attention=1)
    found = write_report(run.store)
    assert (found["needs_attention"], found["statuses"].get("given_up", 0)) == (count, count)
    assert len(found["failures"]) == count


@pytest.mark.slow
@pytest.mark.parametrize(("sku", "status"), [("a", "quarantined"), ("b", "other_account")])
def test_jobs_of_another_connection_need_attention_once(destination, sku: str, status: str):
    destination.refresh([row("a")], {"a": "pending"}, bgrep_conn_id="first")
    run = destination.refresh([row(sku)], bgrep_conn_id="second", fail_on_attention=1)
    found = write_report(run.store)
    assert (found["needs_attention"], found["statuses"][status], len(found["failures"])) == (1, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("outcome", ["pending", "expired"])
def test_jobs_of_another_task_group_fail_no_other_run(destination, outcome: str):
    destination.refresh([row("a")], {"a": outcome}, group_id="slow")
    other = destination.refresh([row("b")], {"a": outcome}, group_id="one", fail_on_attention=1)
    found = write_report(other.store)
    assert (found["failures"], found["needs_attention"], found["unfinished"]) == ([], 0, [])
    assert found["statuses"] == {"published": 1, "orphaned": 1}
    assert found["outcomes"] == {"generated": 1, outcome: 1}
    own = destination.refresh([row("a")], {"a": outcome}, group_id="slow", fail_on_attention=1)
    assert write_report(own.store)["failures"], "it is its own"


@pytest.mark.parametrize(("limit", "fails"), [(None, False), (1, True)])
def test_a_run_that_nobody_could_approve_fails_if_so_chosen(paths: CatalogPaths, limit: Any, fails: bool):
    run(paths, "p1", fail_on_attention=limit)
    PlanStore(paths, "p1").cancel("this Airflow cannot ask anybody")
    found = write_report(PlanStore(paths, "p1"))
    assert found["cancelled"] == "this Airflow cannot ask anybody"
    assert (found["failures"] == ["the run was canceled: this Airflow cannot ask anybody"]) is fails


@pytest.mark.slow
@pytest.mark.parametrize("is_rolled_back", [False, True])
def test_what_was_changed_since_needs_nobody(destination, is_rolled_back: bool):
    destination.refresh([row("a"), row("b")])
    run = destination.refresh([row("a", seed=2), row("b")])
    assert write_report(run.store)["statuses"] == {"published": 1, "unchanged": 1}
    if is_rolled_back:
        rollback(destination.paths, ["a"], Decision(reason="", by="Kim", at="2026"), writes=True)
    else:
        destination.refresh([row("a", seed=3), row("b")])
    found = write_report(run.store)
    assert found["needs_attention"] == 0
    assert "not_published" not in found["statuses"]
