# SPDX-License-Identifier: Apache-2.0
"""Large changes of a catalog: many rows to submit again, or most rows lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bgrep_harness.runs import Destination, row

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.report.write import write_report
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import get_bytes, storage_path

COUNT = 40


@pytest.fixture
def destination(tmp_path) -> Destination:
    found = Destination(CatalogPaths(storage_path(str(tmp_path))))
    found.refresh(catalog())
    return found


def catalog(changed: int = 0, **cells: Any) -> list[dict[str, Any]]:
    """The rows of a catalog, the first ones with other cells."""
    return [row(f"s{i}", **(cells if i < changed else {})) for i in range(COUNT)]


def test_a_first_run_needs_no_approval(tmp_path):
    plan = Destination(CatalogPaths(storage_path(str(tmp_path)))).plan(catalog()).plan
    assert (plan.needs_approval, plan.concern) == (False, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "options", "needs_approval"),
    [
        (8, {}, False),
        (12, {}, True),
        (COUNT, {}, True),
        (12, {"max_rebuy_share": 0.3}, False),
        (13, {"max_rebuy_share": 0.3}, True),
        (COUNT, {"max_rebuy_share": 1}, False),
        (10, {"max_rebuy_share": 0}, False),
        (11, {"max_rebuy_share": 0}, True),
    ],
)
def test_changed_rows_need_approval_above_a_share(destination, changed, options, needs_approval):
    run = destination.plan(catalog(changed, positive_prompt="changed"), **options)
    assert run.counts["changed"] == changed
    assert run.plan.needs_approval is needs_approval
    assert run.xcom["needs_approval"] is needs_approval
    assert bool(run.plan.concern) is needs_approval
    if needs_approval:
        assert f"positive_prompt: {changed} rows" in run.xcom["explained"]
        run.work()
        assert destination.billed.total() == COUNT, "nobody has approved it"
        write_report(run.store)
        summary = json.loads(get_bytes(run.files.summary) or b"")
        assert summary["notes"][0][:200] == run.plan.concern[:200]
        run.store.ask()
        run.store.approve()
        run.work(try_number=2)
        assert destination.billed.total() == COUNT + changed


@pytest.mark.slow
def test_a_changed_template_is_the_reason(destination):
    plan = destination.plan(catalog(), defaults={"guidance_scale": 9}).plan
    assert plan.needs_approval
    assert f"guidance_scale: {COUNT} rows" in plan.concern


@pytest.mark.slow
def test_a_url_that_differs_only_in_its_query_is_named_as_such(destination):
    rows = catalog()
    plan = destination.plan([{**one, "image": f"{one['image']}?v=2"} for one in rows]).plan
    assert plan.needs_approval
    assert f"image (only its query): {COUNT} rows" in plan.concern


@pytest.mark.slow
@pytest.mark.parametrize("on_removed", ["keep", "retire"])
def test_renamed_rows_are_recognized_by_their_images(destination, on_removed):
    rows = catalog()
    renamed = [{**one, "sku": f"{one['sku']}.0"} for one in rows[:15]] + rows[15:]
    plan = destination.plan(renamed, on_removed=on_removed).plan
    assert plan.needs_approval
    assert "name (its image is that of a row that is gone): 15 rows" in plan.concern


def refuse(run):
    run.store.ask()
    assert run.store.refuse("it was not approved")
    run.complete()


@pytest.mark.parametrize("on_removed", ["retire", "delete"])
@pytest.mark.parametrize("most", [0.5, 1])
def test_what_was_refused_is_asked_again_and_removes_nothing(destination, most, on_removed):
    renamed = [{**one, "sku": f"{one['sku']}.0"} for one in catalog()[:15]] + catalog()[15:]
    published, billed = destination.published(), destination.billed.total()
    for _ in range(3):
        run = destination.plan(renamed, on_removed=on_removed, max_removed_share=most)
        assert run.plan.needs_approval
        assert run.counts["new"] == 15
        refuse(run)
        assert (destination.published(), destination.billed.total()) == (published, billed)
    run = destination.plan(renamed, on_removed=on_removed, max_removed_share=most)
    run.store.ask()
    run.store.approve()
    run.complete()
    assert destination.billed.total() == billed + 15
    assert len(destination.published()) == COUNT


def test_a_plan_that_could_not_be_approved_removes_nothing(destination):
    renamed = [{**one, "sku": f"{one['sku']}.0"} for one in catalog()[:15]] + catalog()[15:]
    published = destination.published()
    run = destination.plan(renamed, max_removed_share=1)
    run.store.cancel("a person must approve it, which Airflow cannot ask for")
    run.complete()
    assert destination.published() == published


@pytest.mark.parametrize("before", ["retired", "unmasked", "flagged"])
def test_renamed_rows_are_recognized_though_not_published(tmp_path, before):
    shop = Destination(CatalogPaths(storage_path(str(tmp_path))))
    run = shop.plan(catalog())
    run.complete(None, {} if before == "retired" else {one["sku"]: before for one in catalog()})
    if before == "retired":
        shop.refresh([row("other")], max_removed_share=1)
        assert set(shop.published()) == {"other"}
    renamed = [{**one, "sku": f"{one['sku']}.0"} for one in catalog()]
    plan = shop.plan(renamed).plan
    assert plan.needs_approval
    assert f"name (its image is that of a row that is gone): {COUNT} rows" in plan.concern


def beside(rows: list[dict[str, Any]], **cells: Any) -> list[dict[str, Any]]:
    """The rows of another catalog with the same photos: its skus are its own."""
    return [{**one, "sku": f"fr-{one['sku']}", **cells} for one in rows]


@pytest.mark.slow
@pytest.mark.parametrize("most", [None, 15])
def test_a_catalog_with_the_same_photos_is_not_a_renamed_one(destination, most):
    whose = {"dag_id": "french", "on_removed": "keep", "max_images_per_run": most}
    french = beside(catalog(), positive_prompt="sur du marbre")
    while (run := destination.refresh(french, **whose)).counts.get("unchanged") != COUNT:
        assert run.plan.concern == ""
    assert destination.billed.total() == 2 * COUNT
    assert len(destination.published()) == 2 * COUNT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cells", "options", "first"),
    [
        ({}, {}, {}),  # what is billed already is asked for again
        ({"positive_prompt": "sur du marbre"}, {"dag_id": "nightly"}, {}),
        ({"positive_prompt": "sur du marbre"}, {"on_removed": "retire", "max_removed_share": 1}, {}),
        ({"positive_prompt": "sur du marbre"}, {}, {one["sku"]: "flagged" for one in catalog()}),
    ],
)
def test_rows_that_may_be_renamed_ask_whatever_the_dag_is_called(tmp_path, cells, options, first):
    shop = Destination(CatalogPaths(storage_path(str(tmp_path))))
    shop.plan(catalog()).complete(None, first)
    plan = shop.plan(beside(catalog(), **cells), **{"dag_id": "french", "on_removed": "keep", **options}).plan
    assert plan.needs_approval
    assert f": {COUNT} rows" in plan.concern


@pytest.mark.slow
def test_other_products_are_no_reason(destination):
    others = [row(f"n{i}") for i in range(15)]
    plan = destination.plan(catalog()[15:] + others).plan
    assert plan.counts["new"] == 15
    assert not plan.needs_approval


@pytest.mark.slow
def test_a_new_edition_is_no_reason(destination):
    run = destination.plan(catalog(), edition="spring", defaults={"steps": 30})
    assert run.counts == {"changed": COUNT}
    assert not run.plan.needs_approval
    run.complete()
    again = destination.plan(catalog(), edition="spring", defaults={"steps": 40})
    assert again.plan.needs_approval, "the edition is that of the run before"


@pytest.mark.slow
def test_an_edition_is_new_until_its_last_row_was_submitted(destination):
    most = {"edition": "spring", "max_images_per_run": 15}
    for left in (25, 10, 0):
        run = destination.plan(catalog(), **most)
        assert (run.plan.quote.backlog, run.plan.needs_approval) == (left, False)
        run.complete()
    changed = destination.plan(catalog(COUNT, positive_prompt="changed"), edition="spring")
    assert changed.plan.needs_approval


@pytest.mark.slow
def test_a_first_edition_that_is_left_for_later_runs_is_not_new(tmp_path):
    shop = Destination(CatalogPaths(storage_path(str(tmp_path))))
    shop.refresh(catalog(), max_images_per_run=30)
    changed = shop.plan(catalog(COUNT, positive_prompt="changed"), max_images_per_run=40)
    assert changed.plan.needs_approval


@pytest.mark.slow
def test_the_edition_of_another_task_group_does_not_count(destination):
    """Two task groups share a destination, each with an edition of its own."""
    others = [row(f"t{i}") for i in range(COUNT)]
    for catalog_of, edition in (("t", "winter"), ("s", ""), ("t", "winter")):
        rows = others if catalog_of == "t" else catalog()
        destination.refresh(rows, group_id=catalog_of, edition=edition, on_removed="keep")
    run = destination.plan(catalog(COUNT, positive_prompt="changed"), group_id="s", on_removed="keep")
    assert run.plan.needs_approval
    renamed = destination.plan(others, group_id="u", edition="winter", on_removed="keep")
    assert not renamed.plan.needs_approval
    changed = [{**one, "steps": "40"} for one in others]
    renamed = destination.plan(changed, group_id="u", edition="winter", on_removed="keep")
    assert renamed.plan.needs_approval, "whichever task group has submitted them"


@pytest.mark.slow
def test_a_row_billed_in_an_edition_counts_despite_a_backlog(destination):
    """An edition that the budget divides into several runs: what changes meanwhile is billable already."""
    destination.refresh(catalog(), edition="spring", max_images_per_run=35)
    moved = [{**one, "image": f"{one['image']}?w=2000"} for one in catalog()]
    run = destination.plan(moved, edition="spring")
    assert run.counts == {"changed": COUNT}
    assert run.plan.needs_approval
    assert "35 rows" in run.plan.concern


@pytest.mark.slow
@pytest.mark.parametrize("outcome", ["never", "refused"])
def test_an_edition_is_new_for_rows_that_were_not_billable(destination, outcome):
    destination.refresh(catalog(), {f"s{i}": outcome for i in range(COUNT)}, edition="spring")
    run = destination.plan(catalog(COUNT, positive_prompt="corrected"), edition="spring")
    assert run.counts == {"changed": COUNT}
    assert not run.plan.needs_approval


@pytest.mark.slow
def test_an_edition_that_returns_is_not_new(destination):
    destination.refresh(catalog(), edition="spring")
    run = destination.plan(catalog(COUNT, positive_prompt="changed"))
    assert run.plan.needs_approval, "the rows were submitted in it before"


@pytest.mark.slow
def test_a_new_edition_of_renamed_rows_is_no_reason(destination):
    renamed = [{**one, "sku": f"{one['sku']}.0"} for one in catalog()[:15]] + catalog()[15:]
    assert not destination.plan(renamed, edition="spring", on_removed="keep").plan.needs_approval
    assert destination.plan(renamed, on_removed="keep").plan.needs_approval


@pytest.mark.slow
def test_rows_that_cannot_be_submitted_are_no_reason(destination):
    many = catalog(20, num_output=4)
    assert not destination.plan(many, max_images_per_run=3).plan.needs_approval
    assert destination.plan(many, max_images_per_run=4).plan.needs_approval


@pytest.mark.slow
def test_rows_that_are_tried_again_are_no_reason(tmp_path):
    found = Destination(CatalogPaths(storage_path(str(tmp_path))))
    found.refresh(catalog(), {f"s{i}": "failed" for i in range(COUNT)})
    run = found.plan(catalog())
    assert run.counts == {"changed": COUNT}
    assert not run.plan.needs_approval


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left", "options"), [(19, {}), (1, {}), (5, {"max_removed_share": 0.8}), (10, {"dry_run": True})]
)
def test_a_catalog_that_lost_most_rows_is_refused(destination, left, options):
    with pytest.raises(InvalidInput) as refused:
        destination.plan(catalog()[:left], **options)
    (problem,) = refused.value.problems
    assert problem.where == "catalog"
    assert destination.plan(catalog()).counts == {"unchanged": COUNT}, "nothing is locked"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left", "options"), [(20, {}), (5, {"max_removed_share": 0.9}), (1, {"on_removed": "keep"})]
)
def test_a_catalog_that_lost_fewer_rows_is_planned(destination, left, options):
    assert destination.plan(catalog()[:left], **options).counts["unchanged"] == left


EXCEL_ERROR = {"sku": "#REF!", "image": "https://shop.example/x.png", "positive_prompt": "x"}


@pytest.mark.slow
@pytest.mark.parametrize("unreadable", [0, 1, 3])
@pytest.mark.parametrize("on_removed", ["retire", "delete"])
@pytest.mark.parametrize("left", [0, 17])
def test_rows_that_cannot_be_read_excuse_no_more_than_they_are(destination, unreadable, on_removed, left):
    """The other rows have new skus, and their images are on a new host: nothing tells that they are known."""
    renamed = [row(f"r{i}", image=f"https://cdn2.example/{i}.png") for i in range(COUNT - left)]
    destination.refresh(catalog())
    with pytest.raises(InvalidInput):
        destination.refresh([*catalog()[:left], *renamed, *[EXCEL_ERROR] * unreadable], on_removed=on_removed)
    assert sum(destination.billed.values()) == COUNT
    assert len(destination.published()) == COUNT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left", "unreadable"),
    [
        (19, 21),  # each row that is gone may be one of these
        (10, 25),  # of 15 that are none of these, 5 are gone
        (20, 1),
        (0, COUNT),
    ],
)
def test_rows_that_may_be_in_the_catalog_are_not_lost(destination, left, unreadable):
    destination.refresh(catalog())
    run = destination.refresh([*catalog()[:left], *[EXCEL_ERROR] * unreadable], on_removed="delete")
    assert run.counts == {**({"unchanged": left} if left else {}), "invalid": unreadable}
    assert len(destination.published()) == COUNT
