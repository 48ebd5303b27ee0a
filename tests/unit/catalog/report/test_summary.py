# SPDX-License-Identifier: Apache-2.0
"""Summary, log line, and the gallery as a file: exact numbers, bounded size, and no row breaks the page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.galleries import flagged, gallery, image, invalid, plan_of, row

from airflow_provider_bgrep.catalog.model.states import RowState, Verdict
from airflow_provider_bgrep.catalog.report.gallery import write_gallery
from airflow_provider_bgrep.catalog.report.summary import (
    STATUSES,
    Summary,
    label_text_of,
    line_of,
    needs_attention,
    status_of,
    summary_of,
)
from airflow_provider_bgrep.generation.outcomes import Outcome


def summed(rows: list[dict[str, Any]], *, currency: str = "CNY", **plan: Any) -> Summary:
    problems = [one for one in rows if one["state"] == "invalid"]
    return summary_of(plan=plan_of(rows, **plan), rows=rows, problems=problems, currency=currency)


def of_state(state: str, sku: str = "A") -> dict[str, Any]:
    return {"state": state, "name": sku, "sku": sku, "view": "main", "line": 2, "change": ""}


# --- statuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, "published"),
        ({"published": ""}, "unpublished"),
        ({"outcome": "partial"}, "published"),
        # There are no others, or the row was named before.
        ({"outcome": "partial", "state": "pending", "attempts": 0}, "published"),
        ({"outcome": "partial", "state": "unpublished", "attempts": 6}, "published"),
        ({"outcome": "partial", "state": "pending", "attempts": 6}, "partial"),
        ({"outcome": "partial", "state": "pending", "attempts": 6, "verdict": "flagged"}, "partial"),
        ({"outcome": "partial", "state": "orphaned", "attempts": 6, "verdict": ""}, "unpublished"),
        ({"verdict": "flagged"}, "flagged"),
        ({"verdict": "unchecked"}, "unchecked"),
        ({"verdict": "", "outcome": "generated"}, "unpublished"),
        ({"verdict": "", "outcome": "pending"}, "pending"),
        ({"verdict": "", "outcome": "not_submitted"}, "not_submitted"),
        ({"verdict": "", "outcome": ""}, "new"),
        ({"verdict": "", "outcome": "", "state": "changed"}, "changed"),
        ({"verdict": "", "outcome": "", "state": "pending"}, "pending"),
        ({"verdict": "", "outcome": "", "state": "unpublished"}, "unpublished"),
        # The plan's state takes precedence over the outcome of an earlier run.
        ({"state": "quarantined", "verdict": "", "outcome": "failed"}, "quarantined"),
        ({"state": "flagged", "verdict": "flagged"}, "flagged"),
    ],
)
def test_a_row_has_one_status(given: dict[str, Any], status: str):
    assert status_of(row("A", **given)) == status


def test_every_state_outcome_and_verdict_has_a_status():
    for state in RowState:
        assert status_of(of_state(state.value)) in STATUSES
        for outcome in Outcome:
            for verdict in ("", *Verdict):
                one = {**of_state(state.value), "outcome": outcome.value, "verdict": verdict}
                assert needs_attention(one) is STATUSES[status_of(one)].needs_attention


# --- numbers --------------------------------------------------------------------------------------


def test_a_run_is_summed_up():
    rows = [
        row("A", made=2),
        row("B", state="changed", outcome="partial"),
        flagged("C", "blank"),
        row("D", outcome="failed", verdict="", made=0, billable=1, cost="0.20"),
        of_state("removed"),
        of_state("over_budget"),
        invalid("E", "sku is missing", line=7, column="sku"),
    ]
    quote = {"image_tasks": 4, "images": 5, "price": "0.2", "currency": "CNY", "backlog": 9}
    summary = summed(rows, unchanged=20, quote=quote, notes=["a note"], reading=["Read CSV."])
    assert json.loads(json.dumps(summary)) == summary
    assert summary["plan"] == {
        "plan_id": "20260314T020003-1f2e3d4c",
        "run_id": "run-1",
        "dag_id": "shop",
        "catalog": "s3://shop/catalog.csv",
        "created_at": "2026-03-14T02:00:03+00:00",
    }
    assert summary["rows"] == 26
    states = {"new": 3, "changed": 1, "removed": 1, "over_budget": 1, "invalid": 1, "unchanged": 20}
    assert summary["states"] == states
    assert summary["statuses"] == {
        "flagged": 1,
        "failed": 1,
        "invalid": 1,
        "published": 2,
        "over_budget": 1,
        "removed": 1,
        "unchanged": 20,
    }
    assert summary["outcomes"] == {"generated": 2, "partial": 1, "failed": 1}
    assert summary["verdicts"] == {"passed": 2, "flagged": 1}
    assert summary["images"] == {"quoted": 5, "billable": 5}
    assert (summary["cost"], summary["quoted"], summary["price"]) == ("1.00", "1.0", "0.2")
    assert (summary["needs_attention"], summary["listed"], summary["backlog"]) == (3, 7, 9)
    assert summary["notes"] == ["a note"]
    assert summary["reading"] == ["Read CSV."]


def test_without_a_price_there_is_no_cost():
    quote = {"image_tasks": 1, "images": 1, "price": None, "currency": "", "backlog": 0}
    summary = summed([row("A", cost="")], quote=quote)
    assert (summary["cost"], summary["quoted"], summary["price"]) == ("", "", "")
    assert line_of(summary) == "No rows need attention. Refreshed 1 row: 1 billable image, 1 published."


def test_sums_of_money_are_exact():
    rows = [row(f"R{n}", cost="0.1") for n in range(30)]
    assert Decimal(summed(rows)["cost"]) == Decimal("3.0")


def test_reasons_that_differ_in_values_are_counted_as_one():
    rows = [invalid(f"R{n}", f"'{n}.jpg' is not http or https", column="image", line=n) for n in range(2, 7)]
    rows += [invalid("X", "is 'abc'; give a number from 1 to 20", column="strength", line=9)]
    rows += [invalid("Y", f"reason {'abcdefghijklm'[n]}", column="", line=n) for n in range(13)]
    reasons = summed(rows)["invalid_reasons"]
    assert reasons[0] == {
        "column": "image",
        "reason": "'2.jpg' is not http or https",
        "count": 5,
        "line": 2,
        "sku": "R2",
    }
    assert len(reasons) == 10


def test_lone_surrogates_and_long_reasons_can_be_written():
    rows = [invalid("\ud800" * 1000, "\udfff" * 1000, column="sku", line=2)]
    summary = summed(rows, notes=["\ud800"], catalog="\ud800.csv")
    assert len(json.dumps(summary, ensure_ascii=False).encode()) < 2500


@pytest.mark.slow
def test_however_many_rows_are_summed_in_little_memory():
    one, count = row("A"), 50_000

    def rows() -> Iterator[dict[str, Any]]:
        for n in range(count):
            yield {**one, "name": f"R{n}"}

    plan = {**plan_of([one]), "counts": {"new": count}}
    tracemalloc.start()
    try:
        summary = summary_of(plan=plan, rows=rows(), problems=iter(()), currency="CNY")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert summary["statuses"] == {"published": count}
    assert peak < 1_000_000


# --- the line -------------------------------------------------------------------------------------


def test_a_run_without_attention_in_a_line():
    assert (
        line_of(summed([], unchanged=24))
        == "No rows need attention. Refreshed 24 rows: no billable images, 24 unchanged."
    )
    changed = [row("A", state="changed"), row("B"), of_state("removed")]
    assert line_of(summed(changed, unchanged=20)) == (
        "No rows need attention. "
        "Refreshed 22 rows: 2 billable images (0.40 CNY), 2 published, 1 removed, 20 unchanged."
    )


def test_rows_that_need_attention_come_first_in_the_line():
    assert line_of(summed([invalid("A", "wrong")], unchanged=1)) == (
        "1 row needs attention: invalid. Refreshed 2 rows: no billable images, 1 unchanged."
    )
    rows = [flagged("A"), flagged("B"), row("C", verdict="unchecked", published=""), invalid("D", "wrong")]
    assert line_of(summed(rows)) == (
        "4 rows need attention: 2 flagged, 1 unchecked, 1 invalid. "
        "Refreshed 4 rows: 3 billable images (0.60 CNY)."
    )


def test_images_that_may_not_be_billed_are_counted_as_at_most():
    one = row("A", outcome="unknown_outcome", verdict="", made=0, billable=1, cost="0.2")
    assert line_of(summed([one])) == (
        "1 row needs attention: unknown outcome. Refreshed 1 row: at most 1 billable image (0.20 CNY)."
    )


def test_unfinished_shards_come_first():
    extra: Any = {"unfinished": ["shard 1 was not checked"]}
    assert line_of(summed([row("A")]) | extra).startswith("1 shard did not finish. Refreshed 1 row:")
    both = line_of(summed([flagged("A")]) | extra)
    assert both.startswith("1 shard did not finish. 1 row needs attention: flagged. Refreshed")


def test_a_cancelled_plan_names_its_reason():
    extra: Any = {"cancelled": "rejected by ann"}
    assert line_of(summed([of_state("new")]) | extra) == (
        "No rows need attention. Canceled the refresh of 1 row (rejected by ann): no billable images, 1 new."
    )


def test_a_dry_run_reads_as_one():
    quote = {"image_tasks": 2, "images": 3, "price": "0.2", "currency": "CNY", "backlog": 0}
    rows = [of_state("new", "A"), of_state("changed", "B"), invalid("C", "wrong")]
    assert line_of(summed(rows, unchanged=1, quote=quote) | {"dry_run": True}) == (
        "1 row needs attention: invalid. "
        "Dry run of 4 rows: 3 images to submit (0.60 CNY), 1 new, 1 changed, 1 unchanged."
    )


def test_large_numbers_can_be_read():
    assert "Refreshed 1,000,000 rows: no billable images" in line_of(summed([], unchanged=1_000_000))


# --- the page as a file ---------------------------------------------------------------------------


def blocks(page: Path) -> list[Any]:
    """Return the JSON blocks that the page's script reads, parsed as strictly as a browser does."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page.read_text(), re.S)
    return [json.loads(text, parse_constant=refuse) for text in found]


def rows_of(page: Path) -> list[dict[str, Any]]:
    """Return the rows of a page; an empty value is left out."""
    *rows, _meta = blocks(page)
    return [row for block in rows for row in block]


def test_the_page_names_its_own_script_and_style_and_no_other(tmp_path: Path):
    page = gallery([row("A")], tmp_path).read_text()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.S)
    for name, text in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert not re.findall(
        r"\son\w+=|\sstyle=|https?://", re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.S)
    )
    assert "innerHTML" not in script
    assert not re.findall(
        r"{{|{%|{#", re.sub(r"<script[^>]*>.*?</script>|<style>.*?</style>", "", page, flags=re.S)
    )


def test_nothing_in_a_row_ends_its_block(tmp_path: Path):
    attack = "</script><!--<script>&\u2028\u2029\x00\ud800 [[script]] {{ x }}"
    rows = [row(attack, reason=attack, positive_prompt=attack), invalid(attack, attack)]
    page = gallery(rows, tmp_path, notes=[attack], catalog=attack)
    assert rows_of(page)[0]["positive_prompt"] == attack.replace("\ud800", "?")
    text = page.read_text()
    assert text.count("</script>") == len(re.findall(r"<script[ >]", text))
    assert attack[:20] not in text


def test_numbers_that_json_does_not_know_are_words(tmp_path: Path):
    scores = [{"ssim": float("nan"), "psnr": float("inf"), "delta_e": float("-inf")}, None, {"other": 1}]
    one = row(
        "A", scores=scores, made=3, thresholds='{"ssim": 0.9, "psnr": 20, "delta_e": 4.5}', seed=2**63 - 1
    )
    (cells,) = rows_of(gallery([one], tmp_path))
    assert cells["scores"] == [{"ssim": "–", "delta_e": "-∞", "psnr": "∞"}, {}, {}]
    assert cells["seed"] == "9223372036854775807"


def test_scores_are_compared_with_their_thresholds(tmp_path: Path):
    thresholds = '{"ssim": 0.8, "delta_e": 4.0, "need_mask": true}'
    rows = [
        row("A", scores=[{"ssim": 0.88, "delta_e": 3.0, "area": 0.4}], thresholds=thresholds),
        flagged("B", scores=[{"ssim": 0.4}, {"ssim": 0.6}], thresholds=thresholds, made=2),
        row("C", scores=[], thresholds=""),
    ]
    good, poor, unknown = rows_of(gallery(rows, tmp_path))
    assert good["scores"] == [{"ssim": "0.88", "delta_e": "3", "area": "0.4"}]
    assert good["thresholds"] == {"ssim": "≥ 0.8", "delta_e": "≤ 4"}
    assert good["missed"] == [[]]
    assert poor["scores"] == [{"ssim": "0.4"}, {"ssim": "0.6"}]
    assert poor["missed"] == [["ssim"], ["ssim"]]
    assert good["margin"] == pytest.approx(0.1)
    assert (poor["margin"], poor["lead"], poor.get("chosen")) == (pytest.approx(-0.25), 1, None)
    assert not {"margin", "thresholds", "scores", "missed"} & unknown.keys()


def test_a_score_that_cannot_be_better_has_no_margin(tmp_path: Path):
    """Otherwise each row whose words are all there would be the worst one."""
    thresholds = '{"ssim": 0.8, "label_text": 1.0}'
    scores = [{"ssim": 0.88, "label_text": 1.0}], [{"ssim": 0.88, "label_text": 0.5}]
    good, poor = rows_of(gallery([row("A", scores=one, thresholds=thresholds) for one in scores], tmp_path))
    assert good["margin"] == pytest.approx(0.1)
    assert poor["margin"] == pytest.approx(-0.5)
    assert (good["missed"], poor["missed"]) == ([[]], [["label_text"]])


@pytest.mark.parametrize(
    ("verdict", "scores", "sentence"),
    [
        ("passed", '[{"label_words": 2.0}]', "The words on products were compared in 2 rows."),
        ("passed", "[]", "The words on products were not compared"),
        ("", "[]", ""),
    ],
)
def test_the_report_says_whether_words_were_compared(verdict: str, scores: str, sentence: str):
    rows = [{**row(sku, verdict=verdict), "scores": scores} for sku in ("A", "B")]
    summary = summed([*rows, {**row("C", verdict=verdict), "scores": "[]"}])
    assert label_text_of(summary).startswith(sentence)
    assert bool(label_text_of(summary)) == bool(sentence)


def test_settings_and_the_submitting_run_are_in_the_page(tmp_path: Path):
    rows = [row(f"R{n}", advice="correct it", steps=15 + n % 2) for n in range(100)]
    page = rows_of(gallery(rows, tmp_path))
    assert [one["settings"] for one in page[:2]] == [
        f"guidance_scale 7.5, strength 0.5, steps {steps}, num_output 1" for steps in (15, 16)
    ]
    assert {(one["advice"], one["submitted_by"]) for one in page} == {("correct it", "shop run-1")}


def test_every_key_of_a_row_has_a_value_that_stands_in_for_it(tmp_path: Path):
    """The script's table of left-out values and the written keys cannot drift apart."""
    every = dict.fromkeys(("reason", "advice", "negative_prompt", "column", "report", "change"), "x")
    rows = [row("A", made=2, **every), flagged("B", "blank", thresholds='{"ssim": 0.9}')]
    page = gallery(rows, tmp_path)
    (blank,) = re.findall(r"const BLANK = {(.*?)\n};", page.read_text(), re.S)
    assert set(re.findall(r"(\w+):", blank)) == {name for one in rows_of(page) for name in one}


def test_small_images_keep_to_their_budget(tmp_path: Path):
    rows = [row(f"R{n}", made=4) for n in range(50)]
    for budget in (0, 1, 1000, 5000):
        text = gallery(rows, tmp_path, budget=budget).read_text()
        held = "".join(re.findall(r'<script type="text/plain".*?</script>\n', text))
        assert len(held) <= budget
        assert (len(held) > budget / 2) is (budget >= 1000)


def test_small_images_are_those_of_their_row(tmp_path: Path):
    broken = {"source": None, "mask": None, "candidates": [None, image("blue")]}
    page = gallery([row("A"), row("B", thumbs=broken, made=2, chosen=None), invalid("C", "wrong")], tmp_path)
    held = dict(re.findall(r'<script type="text/plain" id="t(\d+)">(.*?)</script>', page.read_text()))
    assert [base64.b64decode(one) for one in held["0"].split(" ")] == list(
        map(image, ("red", "white", "blue"))
    )
    assert [base64.b64decode(one) for one in held["1"].split(" ")] == [b"", b"", b"", image("blue")]
    assert "2" not in held
    assert [one.get("thumbs") for one in rows_of(page)] == ["111", "0001", None]


@pytest.mark.slow
def test_rows_are_written_as_they_come(tmp_path: Path):
    """Ten times the rows take no more memory."""
    thumbs = {"source": b"s" * 3000, "mask": None, "candidates": [b"c" * 3000]}
    summary = summed([row("A")])

    def peak(count: int) -> int:
        rows = (row(f"R{n}", thumbs=thumbs) for n in range(count))
        tracemalloc.start()
        try:
            write_gallery(rows, summary, str(tmp_path / "page.html"))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # what is loaded once
    few, many = peak(500), peak(5000)
    assert (tmp_path / "page.html").stat().st_size > 5000 * 8000
    assert many < few * 1.5


@pytest.mark.slow
def test_texts_are_cut_and_all_of_them_keep_to_a_budget(tmp_path: Path):
    long = "雪" * 100_000
    page = gallery(
        [row(f"R{n}", reason=long, positive_prompt=long, image=long) for n in range(2000)], tmp_path
    )
    assert page.stat().st_size < 60 * 1024 * 1024
    first, *_, last = rows_of(page)
    assert first["reason"] == f"{long[:4000]}… (100,000 characters)"
    assert last["reason"] == f"{long[:200]}… (100,000 characters)"
