# SPDX-License-Identifier: Apache-2.0
"""Rows that are rolled back: what consumers see, what runs do after that, and what is billed."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from bgrep_harness.runs import Destination, row
from bgrep_harness.stores import Counting, CrashingStore, Died, folder

from airflow_provider_bgrep.catalog.mark.block import block, unblock
from airflow_provider_bgrep.catalog.mark.decisions import Decision
from airflow_provider_bgrep.catalog.mark.redo import redo
from airflow_provider_bgrep.catalog.mark.rollback import (
    DONE,
    ROLLBACK_MEANINGS,
    RollbackStatus,
    rollback,
    rollback_to_plan,
    undo,
)
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.publish.manifest_log import ManifestLog
from airflow_provider_bgrep.catalog.publish.plan import publish_plan
from airflow_provider_bgrep.catalog.report.write import write_report
from airflow_provider_bgrep.catalog.state.manifest import read_manifest
from airflow_provider_bgrep.catalog.state.marks import MarkKind, MarkLog
from airflow_provider_bgrep.catalog.state.row_history import history_of
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import get_bytes

DECISION = Decision(reason="the handle is gone", by="Kim", at="2026-01-31T02:00:00+00:00")
FIRST = [row("a"), row("b")]
SECOND = [row("a", positive_prompt="a in snow"), row("b")]
THIRD = [row("a", positive_prompt="a in sand"), row("b")]


@pytest.fixture
def shop() -> Destination:
    """A destination where the image of the row a has changed once."""
    found = Destination(CatalogPaths(folder({})))
    found.refresh(FIRST)
    found.refresh(SECOND)
    return found


def seen(shop: Destination) -> dict[str, dict[str, Any]]:
    """What consumers see, once it is certain that each live file has its checksum."""
    rows = {one["name"]: one for one in read_manifest(shop.paths.destination)}
    for one in rows.values():
        for version in (one, *one["versions"]):
            data = get_bytes(shop.paths.destination / version["path"])
            assert data is not None
            assert hashlib.sha256(data).hexdigest() == version["sha256"]
    return rows


def rolled_back(shop: Destination, *skus: str, to: str = "", writes: bool = True) -> dict[str, str]:
    found = rollback(shop.paths, skus, DECISION, to=to, writes=writes)
    return {one.name: one.status.value for one in found}


def billed(shop: Destination) -> int:
    return sum(shop.billed.values())


def files_of(shop: Destination) -> dict[str, bytes]:
    return shop.paths.destination.fs.files


@pytest.mark.slow
def test_consumers_see_the_entry_of_the_earlier_purchase(shop: Destination):
    after = seen(shop)["a"]
    (before,) = after["versions"]
    number = ManifestLog(shop.paths).latest().number
    assert rolled_back(shop, "a") == {"a": "rolled_back"}
    now = seen(shop)["a"]
    assert {name: now[name] for name in ("path", "sha256", "size", "request_hash")} == {
        name: before[name] for name in ("path", "sha256", "size", "request_hash")
    }
    assert now["positive_prompt"] == "a on marble"
    assert now["result_key"] not in ("", after["result_key"])
    assert (now["status"], now["since"]) == ("live", number + 1)
    assert [one["path"] for one in now["versions"]] == [after["path"]]
    assert seen(shop)["b"]["since"] < number, "other rows do not change"
    assert billed(shop) == 3


@pytest.mark.slow
@pytest.mark.parametrize("given", ["10.0/5", "10.0/5/main", "10/6.0", "10.0/6.0", "b/main"])
def test_each_way_to_name_a_row_rolls_back_it_alone(given: str):
    shop = Destination(CatalogPaths(folder({})))
    for seed in (1, 2):
        products = [row("10.0/5", seed=seed), row("10", view="5", seed=seed), row("10", view="6", seed=seed)]
        shop.refresh([*products, row("b", seed=seed), row("b", view="side", seed=seed)])
    name = given.removesuffix("/main") if "/main" in given or given == "10.0/5" else "10/6"
    assert rolled_back(shop, given) == {name: "rolled_back"}
    assert {one["name"] for one in seen(shop).values() if one["rolled_back_from"]} == {name}
    assert billed(shop) == 10


@pytest.mark.slow
def test_runs_leave_it_until_its_cells_change(shop: Destination):
    rolled_back(shop, "a")
    before = seen(shop)
    for _ in range(2):
        assert shop.refresh(SECOND).counts == {"unchanged": 2}
    assert seen(shop) == before
    assert shop.refresh(THIRD).states == {"a": "changed"}
    assert seen(shop)["a"]["positive_prompt"] == "a in sand"
    assert billed(shop) == 4


@pytest.mark.slow
def test_asking_for_the_earlier_image_ends_the_pin(shop: Destination):
    rolled_back(shop, "a")
    before = seen(shop)["a"]["path"]
    assert shop.refresh(FIRST).counts == {"unpublished": 1, "unchanged": 1}
    assert shop.refresh(FIRST).counts == {"unchanged": 2}
    assert seen(shop)["a"]["path"] == before
    assert shop.refresh(SECOND).states == {"a": "unpublished"}
    assert seen(shop)["a"]["positive_prompt"] == "a in snow"
    assert billed(shop) == 3


@pytest.mark.slow
def test_a_pin_that_is_over_does_not_count_again(shop: Destination):
    rolled_back(shop, "a")
    for rows, prompt in ((THIRD, "a in sand"), (FIRST, "a on marble"), (SECOND, "a in snow")):
        shop.refresh(rows)
        assert seen(shop)["a"]["positive_prompt"] == prompt
        assert shop.refresh(rows).counts == {"unchanged": 2}
    assert billed(shop) == 4


@pytest.mark.slow
@pytest.mark.parametrize("on_removed", ["retire", "keep"])
def test_a_pin_outlives_a_block(shop: Destination, on_removed: str):
    rolled_back(shop, "a")
    before = seen(shop)["a"]
    block(shop.paths, ["a"], DECISION, keeps_published=False, writes=True)
    shop.refresh(SECOND, on_removed=on_removed)
    assert seen(shop)["a"]["status"] == "retired"
    unblock(shop.paths, ["a"], writes=True)
    run = shop.refresh(SECOND, on_removed=on_removed)
    after = seen(shop)["a"]
    assert (after["status"], after["path"], after["versions"]) == ("live", before["path"], before["versions"])
    report = write_report(run.store)
    assert (report["statuses"], report["failures"]) == ({"published": 1, "unchanged": 1}, [])
    assert shop.refresh(SECOND, on_removed=on_removed).counts == {"unchanged": 2}
    assert billed(shop) == 3


@pytest.mark.slow
def test_a_pin_outlives_a_night_without_the_row(shop: Destination):
    rolled_back(shop, "a")
    before = seen(shop)["a"]["path"]
    for _ in range(2):
        shop.refresh([row("b")])
        assert seen(shop)["a"]["status"] == "retired"
        shop.refresh(SECOND)
        assert (seen(shop)["a"]["status"], seen(shop)["a"]["path"]) == ("live", before)
    assert shop.refresh(SECOND).counts == {"unchanged": 2}
    shop.refresh([row("b")])
    shop.refresh(THIRD)
    assert seen(shop)["a"]["positive_prompt"] == "a in sand", "it came back and asks for something else"
    assert billed(shop) == 4


@pytest.mark.slow
def test_the_lost_file_of_a_retired_row_is_named(shop: Destination):
    rolled_back(shop, "a")
    path = seen(shop)["a"]["path"]
    shop.refresh([row("b")])
    (file,) = (name for name in files_of(shop) if name.endswith(path))
    data = files_of(shop).pop(file)
    run = shop.refresh(SECOND)
    ((name, reason),) = run.store.publish_result()["failed"]
    assert name == "a"
    assert path in reason
    files_of(shop)[file] = data
    shop.refresh(SECOND)
    assert (seen(shop)["a"]["status"], seen(shop)["a"]["path"]) == ("live", path)
    assert billed(shop) == 3


@pytest.mark.slow
def test_a_retired_row_can_be_undone(shop: Destination):
    rolled_back(shop, "a")
    shop.refresh([row("b")])
    (found,) = undo(shop.paths, ["a"], writes=True)
    assert found.status is RollbackStatus.UNPINNED
    assert seen(shop)["a"]["status"] == "retired"
    shop.refresh(SECOND)
    assert seen(shop)["a"]["positive_prompt"] == "a in snow"
    assert billed(shop) == 3


@pytest.mark.slow
def test_a_second_rollback_that_dies_keeps_the_first(shop: Destination):
    shop.refresh(THIRD)
    snow, marble = (one["path"] for one in seen(shop)["a"]["versions"])
    rolled_back(shop, "a", to=snow)
    files, saved, only = files_of(shop), dict(files_of(shop)), "^(create|put|rm) "
    counting = Counting()
    rollback(CatalogPaths(folder(files, counting, only)), ["a"], DECISION, to=marble, writes=True)
    for call in range(1, counting.calls + 1):
        files.clear()
        files.update(saved)
        dying = CatalogPaths(folder(files, CrashingStore(call), only))
        with pytest.raises(Died):
            rollback(dying, ["a"], DECISION, to=marble, writes=True)
        assert shop.plan(THIRD, dry_run=True).counts == {"unchanged": 2}
        assert seen(shop)["a"]["path"] in (snow, marble)
    assert billed(shop) == 4


@pytest.mark.slow
def test_of_two_persons_the_first_rolls_back():
    files: dict[str, bytes] = {}
    shop = Destination(CatalogPaths(folder(files)))
    for rows in (FIRST, SECOND, THIRD):
        shop.refresh(rows)
    snow, marble = (one["path"] for one in seen(shop)["a"]["versions"])
    done: list[dict[str, str]] = []

    def between(effect: Any) -> Any:
        if not done:
            done.append(rolled_back(shop, "a", to=snow))
        return effect()

    paths = CatalogPaths(folder(files, between, only="^create .*/manifests/"))
    (found,) = rollback(paths, ["a"], DECISION, to=marble, writes=True)
    assert (done, found.status) == ([{"a": "rolled_back"}], RollbackStatus.OVERTAKEN)
    assert shop.refresh(THIRD).counts == {"unchanged": 2}
    assert seen(shop)["a"]["path"] == snow
    assert rolled_back(shop, "a", to=marble) == {"a": "rolled_back"}
    assert shop.refresh(THIRD).counts == {"unchanged": 2}
    assert seen(shop)["a"]["path"] == marble
    assert billed(shop) == 4


@pytest.mark.slow
@pytest.mark.parametrize("is_published", [False, True])
def test_blocked_meanwhile_it_is_not_rolled_back(is_published: bool):
    files: dict[str, bytes] = {}
    shop = Destination(CatalogPaths(folder(files)))
    shop.refresh(FIRST)
    shop.refresh(SECOND)
    run = shop.plan(SECOND)
    run.work()
    run.check()
    done = []

    def between(effect: Any) -> Any:
        if not done:
            done.append(block(shop.paths, ["a"], DECISION, keeps_published=False, writes=True))
            if is_published:
                run.publish()
        return effect()

    # Its number is taken, and it has not yet read the manifest that it changes.
    paths = CatalogPaths(folder(files, between, only="^create .*/ledger/"))
    (found,) = rollback(paths, ["a"], DECISION, writes=True)
    assert done
    assert found.status is (RollbackStatus.RETIRED if is_published else RollbackStatus.BLOCKED)
    assert seen(shop)["a"]["status"] == ("retired" if is_published else "live")
    assert seen(shop)["a"]["positive_prompt"] == "a in snow"


@pytest.mark.slow
@pytest.mark.parametrize("has_plan", [False, True])
def test_a_file_that_expires_meanwhile_is_restored(has_plan: bool):
    files: dict[str, bytes] = {}
    shop = Destination(CatalogPaths(folder(files)))
    first = shop.refresh(FIRST)
    path = seen(shop)["a"]["path"]
    shop.refresh(SECOND)
    (file,) = (name for name in files if name.endswith(path))
    deleted = []

    def after(effect: Any) -> Any:
        done = effect()
        if not deleted:
            deleted.append(files.pop(file))
        return done

    paths = CatalogPaths(folder(files, after, only="^create .*/manifests/[0-9]+.json"))
    if has_plan:
        (found,) = rollback_to_plan(paths, first.plan_id, DECISION, writes=True)
    else:
        (found,) = rollback(paths, ["a"], DECISION, writes=True)
    assert deleted
    assert found.status is RollbackStatus.ROLLED_BACK
    assert seen(shop)["a"]["path"] == path, "the file is there again"


@pytest.mark.slow
def test_without_a_plan_nothing_is_promised(shop: Destination):
    for name in [one for one in files_of(shop) if "/_bgrep/plans/" in one]:
        del files_of(shop)[name]
    before = dict(files_of(shop))
    for writes in (False, True):
        with pytest.raises(InvalidInput):
            rolled_back(shop, "a", writes=writes)
    assert files_of(shop) == before


@pytest.mark.slow
def test_only_a_rollback_that_counts_is_explained(shop: Destination):
    def explained() -> list[str]:
        return [one.by for one in history_of(shop.paths, ["a"], 1).marks]

    rolled_back(shop, "a")
    assert explained() == ["Kim"]
    shop.refresh(THIRD)
    assert explained() == []


@pytest.mark.slow
def test_redone_it_gets_a_new_image(shop: Destination):
    rolled_back(shop, "a")
    before = seen(shop)["a"]["path"]
    redo(shop.paths, ["a"], DECISION, writes=True)
    assert shop.refresh(SECOND).submits == ["a"]
    assert shop.refresh(SECOND).counts == {"unchanged": 2}
    assert seen(shop)["a"]["path"] != before
    assert billed(shop) == 4


@pytest.mark.slow
def test_undone_the_next_run_publishes_what_the_row_asks_for(shop: Destination):
    wanted = seen(shop)["a"]["sha256"]
    rolled_back(shop, "a")
    assert {one.name: one.status.value for one in undo(shop.paths, ["a", "b"], writes=True)} == {
        "a": "unpinned",
        "b": "not_pinned",
    }
    assert shop.refresh(SECOND).states == {"a": "unpublished"}
    assert seen(shop)["a"]["sha256"] == wanted
    assert shop.refresh(SECOND).counts == {"unchanged": 2}
    assert billed(shop) == 3


@pytest.mark.slow
def test_repeated_it_does_not_take_back_what_it_did(shop: Destination):
    rolled_back(shop, "a")
    before = dict(files_of(shop))
    assert rolled_back(shop, "a") == {"a": "current"}
    assert files_of(shop) == before


@pytest.mark.slow
def test_a_version_is_named_by_path_file_or_checksum(shop: Destination):
    shop.refresh(THIRD)
    versions = [seen(shop)["a"], *seen(shop)["a"]["versions"]]
    newest, second, first = ({"path": one["path"], "sha256": one["sha256"]} for one in versions)
    for to, wanted in (
        (first["path"], first),
        (second["path"].rpartition("/")[2], second),
        (first["sha256"][:8], first),
        (newest["sha256"], newest),
    ):
        assert rolled_back(shop, "a", to=to) == {"a": "rolled_back"}
        assert seen(shop)["a"]["path"] == wanted["path"]
        assert shop.refresh(THIRD).counts == {"unchanged": 2}
    assert MarkLog(shop.paths).latest().find(MarkKind.ROLLBACK, ["a"]) == {}, "it has what it asks for"
    assert rolled_back(shop, "a", to=newest["path"]) == {"a": "current"}
    assert rolled_back(shop, "a", to="0" * 8) == {"a": "no_version"}
    assert billed(shop) == 4


@pytest.mark.slow
def test_what_cannot_be_rolled_back_says_why(shop: Destination):
    assert rolled_back(shop, "b") == {"b": "no_version"}
    block(shop.paths, ["a"], DECISION, keeps_published=True, writes=True)
    assert rolled_back(shop, "a") == {"a": "blocked"}
    shop.refresh([row("b")], max_removed_share=1)
    assert rolled_back(shop, "a") == {"a": "retired"}
    with pytest.raises(InvalidInput) as caught:
        rolled_back(shop, "b", "x", "y")
    assert [one.where for one in caught.value.problems] == ["'x'", "'y'"]


@pytest.mark.slow
def test_a_lost_file_is_restored_from_the_generated_image(shop: Destination):
    (before,) = seen(shop)["a"]["versions"]
    (path,) = (name for name in files_of(shop) if name.endswith(before["path"]))
    files_of(shop)[path] = b"damaged"
    assert rolled_back(shop, "a") == {"a": "rolled_back"}
    assert seen(shop)["a"]["sha256"] == before["sha256"]


@pytest.mark.slow
def test_what_is_gone_is_refused_and_nothing_changes(shop: Destination):
    (before,) = seen(shop)["a"]["versions"]
    for name, data in list(files_of(shop).items()):
        if hashlib.sha256(data).hexdigest() == before["sha256"]:
            del files_of(shop)[name]
    saved = dict(files_of(shop))
    assert rolled_back(shop, "a") == {"a": "gone"}
    assert files_of(shop) == saved


@pytest.mark.slow
def test_an_older_plan_does_not_undo_it(shop: Destination):
    run = shop.plan(THIRD)
    run.work()
    run.check()
    rolled_back(shop, "a")
    before = seen(shop)
    run.publish()
    assert seen(shop) == before, "the run under way was planned before"
    assert shop.refresh(THIRD).states == {"a": "unpublished"}, "its cells have changed: the next run does it"
    assert seen(shop)["a"]["positive_prompt"] == "a in sand"
    assert billed(shop) == 4


@pytest.mark.slow
def test_a_later_plan_is_not_undone():
    files: dict[str, bytes] = {}
    shop = Destination(CatalogPaths(folder(files)))
    shop.refresh(FIRST)
    shop.refresh(SECOND)
    done = []

    def between(effect: Any) -> Any:
        if not done:
            done.append(shop.refresh(THIRD))
        return effect()

    paths = CatalogPaths(folder(files, between, only="^create .*/manifests/"))
    (found,) = rollback(paths, ["a"], DECISION, to="", writes=True)
    assert done
    assert found.status is RollbackStatus.OVERTAKEN
    assert seen(shop)["a"]["positive_prompt"] == "a in sand"
    assert shop.refresh(THIRD).counts == {"unchanged": 2}


@pytest.mark.slow
def test_other_runs_neither_wait_for_it_nor_count_it(shop: Destination):
    run = shop.plan(THIRD)
    rolled_back(shop, "a")
    run.work()  # it still has its lease
    run.check()
    run.publish()
    run.work()  # cleared: no later plan was made
    assert shop.entries()[-1]["outcome"] == "generated"
    assert billed(shop) == 4


@pytest.mark.slow
def test_without_writes_nothing_is_written(shop: Destination):
    before = dict(files_of(shop))
    plan_id = min(ManifestLog(shop.paths).plans())
    assert rolled_back(shop, "a", writes=False) == {"a": "rolled_back"}
    rollback_to_plan(shop.paths, plan_id, DECISION, writes=False)
    assert files_of(shop) == before


@pytest.mark.slow
def test_a_whole_publication_is_rolled_back(shop: Destination):
    first = seen(shop)
    plan_id = ManifestLog(shop.paths).latest().plan_id
    rows = [row("a", seed=1), row("b", seed=2), row("new")]
    shop.refresh(rows, keep_versions=2)
    shop.refresh([*rows[:2], row("new", seed=3)], keep_versions=2)
    found = rollback_to_plan(shop.paths, plan_id, DECISION, writes=True)
    assert {one.name: one.status.value for one in found} == {"a": "rolled_back", "b": "rolled_back"}
    now = seen(shop)
    for name in ("a", "b"):
        assert now[name]["sha256"] == first[name]["sha256"]
        assert now[name]["positive_prompt"] == first[name]["positive_prompt"]
    assert now["new"]["status"] == "live"
    count = billed(shop)
    assert shop.refresh([*rows[:2], row("new", seed=3)], keep_versions=2).counts == {"unchanged": 3}
    assert rollback_to_plan(shop.paths, plan_id, DECISION, writes=True) == []
    assert billed(shop) == count


@pytest.mark.slow
def test_a_plan_without_a_manifest_names_those_that_are_kept(shop: Destination):
    with pytest.raises(InvalidInput) as caught:
        rollback_to_plan(shop.paths, "x", DECISION, writes=True)
    assert ManifestLog(shop.paths).latest().plan_id in str(caught.value.problems[0])


@pytest.mark.slow
def test_consumers_are_told_once_by_the_next_run(shop: Destination):
    def is_told() -> bool:
        return bool(shop.refresh(SECOND).store.publish_result().get("is_rolled_back"))

    assert not is_told()
    rolled_back(shop, "a")
    assert is_told()
    assert not is_told()


@pytest.mark.slow
def test_killed_at_any_write_and_repeated_it_is_rolled_back_once(shop: Destination):
    files = files_of(shop)
    saved = dict(files)
    wanted = seen(shop)["a"]["versions"][0]["sha256"]
    only = "^(create|put|rm) "
    counting = Counting()
    rollback(CatalogPaths(folder(files, counting, only)), ["a"], DECISION, writes=True)
    assert counting.calls >= 5
    for call in range(1, counting.calls + 1):
        for after in (False, True):
            files.clear()
            files.update(saved)
            dying = CatalogPaths(folder(files, CrashingStore(call, after=after), only))
            with pytest.raises(Died):
                rollback(dying, ["a"], DECISION, writes=True)
            assert rolled_back(shop, "a")["a"] in {one.value for one in DONE}
            assert seen(shop)["a"]["sha256"] == wanted
            assert shop.plan(SECOND, dry_run=True).counts == {"unchanged": 2}
    shop.refresh(SECOND)
    assert billed(shop) == 3


@pytest.mark.slow
def test_a_cleared_publish_of_the_plan_before_changes_nothing():
    shop = Destination(CatalogPaths(folder({})))
    shop.refresh(FIRST)
    run = shop.refresh(SECOND)
    rolled_back(shop, "a")
    before = seen(shop)
    publish_plan(run.store)
    assert seen(shop) == before


def test_every_status_has_a_meaning():
    assert set(ROLLBACK_MEANINGS) == set(RollbackStatus)
