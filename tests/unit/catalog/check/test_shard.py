# SPDX-License-Identifier: Apache-2.0
"""One row that cannot be checked stops no other, whatever it raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bgrep_harness.runs import Destination, row

from airflow_provider_bgrep.catalog.check.shard import Checker, Images, check_shard
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.state.unfinished import unfinished_shards
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.storage import get_bytes, put_bytes, remove, storage_path

CATALOG = [row("lamp"), row("mug"), row("vase")]


class Unforeseen(Exception):
    """A class that no code names."""


@pytest.fixture
def shop(tmp_path) -> Destination:
    return Destination(CatalogPaths(storage_path(str(tmp_path / "shop"))))


class Failing(Checker):
    """A checker that fails on one row."""

    def __init__(self, run: Any, step: str, error: Exception) -> None:
        super().__init__(run.store.paths.destination, run.store.config.checks, None)
        self._step, self._error = step, error

    def fetch(self, row: Any) -> Images:
        if self._step == "fetch" and row["name"] == "mug":
            raise self._error
        return Images()

    def check(self, row: Any, images: Images) -> None:
        if self._step == "check" and row["name"] == "mug":
            raise self._error
        row.update(verdict="passed", chosen=0, flags="[]", scores="[]")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["fetch", "check"])
@pytest.mark.parametrize(
    "error",
    [Unforeseen("at https://shop.example/a.jpg?Signature=s3cr3t"), MemoryError(), RecursionError("deep")],
)
def test_a_row_that_raises_anything_is_unchecked_alone(shop, step, error):
    run = shop.plan(CATALOG)
    run.work()
    counts = check_shard(run.store, 0, Failing(run, step, error))
    assert (counts["passed"], counts["unchecked"]) == (2, 1)
    (found,) = (one for one in run.store.results(0) if one["name"] == "mug")
    assert (found["verdict"], found["chosen"]) == ("unchecked", None)
    (flag,) = json.loads(found["flags"])
    assert type(error).__name__ in flag
    assert "s3cr3t" not in flag
    run.publish()
    assert set(shop.published()) == {"lamp", "vase"}
    assert shop.refresh(CATALOG).states == {"mug": "unpublished"}
    assert set(shop.published()) == {"lamp", "mug", "vase"}
    assert sum(shop.billed.values()) == 3


def test_a_check_that_fails_leaves_no_results_of_an_earlier_one(shop):
    """What the source showed is over; the run must not end as if the last check had confirmed it."""
    run = shop.plan(CATALOG)
    run.work()
    run.check(dict.fromkeys(("lamp", "mug", "vase"), "unchecked"))
    assert unfinished_shards(run.store) == []
    put_bytes(b"{", run.files.options)
    with pytest.raises(BgRepStateError):
        check_shard(run.store, 0)
    assert not run.store.has_results(0)


@pytest.mark.parametrize("harm", ["lost", "flipped"])
def test_an_image_that_is_not_what_was_saved_is_unchecked(shop, harm):
    run = shop.plan([row("mug")])
    run.work()
    found = shop.paths.images.fs.find(shop.paths.images.path)
    (path,) = (storage_path(one) for one in found if one.endswith(".png"))
    data = get_bytes(path) or b""
    if harm == "lost":
        remove(path)
    else:
        put_bytes(bytes([data[0] ^ 1]) + data[1:], path)
    checker = Checker(run.store.paths, run.store.config.checks, None)
    counts = check_shard(run.store, 0, checker)
    assert counts["unchecked"] == 1
    (found,) = run.store.results(0)
    assert any("restore it from a backup" in flag for flag in json.loads(found["flags"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verdict", "lost", "restored"),
    [
        ("passed", (1,), 0),  # retention deletes what was not chosen
        ("unmasked", (1,), 0),
        ("passed", (0,), 1),
        ("passed", (0, 1), 1),
        ("flagged", (1,), 1),  # none was chosen
    ],
)
def test_only_images_that_were_needed_are_to_be_restored(shop, verdict, lost, restored):
    mug = row("mug", num_output=2)
    shop.plan([mug], publish_unmasked=True).complete(None, {"mug": verdict})
    shop.refresh([row("vase")], max_removed_share=1)
    found = sorted(shop.paths.images.fs.find(shop.paths.images.path))
    images = [storage_path(one) for one in found if one.endswith(".png")]
    for place in lost:
        end = f"_00_{place}.png"
        remove(next(one for one in images if one.name.endswith(end) and b"mug" in (get_bytes(one) or b"")))
    run = shop.plan([mug], publish_unmasked=True, thresholds={"ssim": 0.5}, max_removed_share=1)
    assert run.states["mug"] == "unpublished"
    run.work()
    check_shard(run.store, 0, Checker(run.store.paths, run.store.config.checks, None))
    (result,) = (one for one in run.store.results(0) if one["name"] == "mug")
    flags = json.loads(result["flags"])
    assert sum("restore it from a backup" in flag for flag in flags) == restored
    assert result["verdict"] == "unchecked", "its source does not exist"
    assert sum(shop.billed.values()) == 2
