# SPDX-License-Identifier: Apache-2.0
"""The run of a shard: a spec as any other, made from the plan; and when it may submit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from bgrep_harness.runs import DAY, Destination, Execution, Run, row

from airflow_provider_bgrep.catalog.generate import Shard
from airflow_provider_bgrep.catalog.operators import BgRepShardOperator
from airflow_provider_bgrep.catalog.state.ledger_metadata import DamagedLedgerError
from airflow_provider_bgrep.catalog.state.unfinished import unfinished_shards
from airflow_provider_bgrep.exceptions import BgRepStateError
from airflow_provider_bgrep.operators.bgrep import BgRepGenerateOperator
from airflow_provider_bgrep.operators.spec import GenerateSpec
from airflow_provider_bgrep.protocol.models import ImageTask
from airflow_provider_bgrep.storage import remove

TASK = ImageTask(image="https://a/mug.png", positive_prompt="sea", id="mug/main")


def spec(*, is_open: bool = True, shards: int = 8, slots: int = 4, **facts: Any) -> GenerateSpec:
    shard = Shard(
        paths=SimpleNamespace(images="file:///shop/_bgrep/images"),
        options=SimpleNamespace(
            bgrep_conn_id="shop", source_conn_id="", on_unknown_outcome="resubmit", price_per_image=None
        ),
        shards=shards,
        image_tasks=[TASK],
        keys=("key",),
        collect_only=frozenset(),
        known=["record"],
        store="store",
        manifest="file:///shop/_bgrep/plans/p/manifest-0.jsonl",
        limit=7,
        is_open=is_open,
    )
    given = {"poll_interval": 5.0, "timeout": 60.0, "deferrable": True, "retry_failed": 1, **facts}
    return shard.spec(slots=slots, **given)


def test_a_shards_spec_is_what_its_plan_says():
    made = spec()
    assert (made.task_list, made.destination, made.bgrep_conn_id) == (
        *([TASK], "file:///shop/_bgrep/images", "shop"),
    )
    assert (made.store, made.known_records, made.fail_on) == ("store", ("record",), "never")
    assert (made.may_resubmit, made.deferrable, made.options.retry_failed) == (True, True, 1)
    assert (made.max_images, made.options.over_budget) == (7, "trim")
    assert (made.keys, made.collect_only) == (("key",), frozenset())
    assert made.sign(TASK) == TASK


def test_a_plan_that_is_over_collects_and_submits_nothing():
    made = spec(is_open=False)
    assert (made.max_images, made.options.over_budget) == (0, "trim")
    assert made.known_records == ("record",)


@pytest.mark.parametrize(("shards", "slots", "share"), [(8, 4, 1 / 4), (2, 4, 1 / 2), (1, 4, 1), (0, 0, 1)])
def test_shards_at_work_at_once_share_the_connections_rate(shards, slots, share):
    assert spec(shards=shards, slots=slots).rate_share == share


def _put_back(files: dict[str, bytes], before: dict[str, bytes], lost: str) -> None:
    """Restore the ledger's files, or lose the metadata that was written since."""
    for name in [name for name in files if "/ledger/" in name and name not in before]:
        if lost == "ledger" or name.endswith(".json"):
            del files[name]
    files.update({name: data for name, data in before.items() if "/ledger/" in name})


@pytest.fixture
def closed(destination: Destination, files: dict[str, bytes]) -> tuple[Run, dict[str, bytes]]:
    """A plan that ended with rows left, and the files as they were while its lease was active."""
    run = destination.plan([row("a"), row("b")])
    return run, dict(files)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["ledger", "metadata"])
def test_an_old_ledger_lets_no_closed_plan_submit(destination, files, closed, lost):
    run, before = closed
    destination.refresh([row("a"), row("b")])
    _put_back(files, before, lost)
    (execution,) = run.work()
    assert not execution.read.is_open
    assert destination.billed.total() == 2


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["ledger", "metadata"])
def test_an_old_ledger_stops_a_shard_at_its_next_submit(destination, files, closed, lost):
    run, before = closed
    execution = Execution(run, 0, {})
    destination.refresh([row("a"), row("b")], now=run.now + DAY)
    _put_back(files, before, lost)
    assert execution.read.is_open
    with pytest.raises(DamagedLedgerError):
        execution.submit()
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_with_a_damaged_ledger_a_shard_still_collects(destination, files):
    run = destination.plan([row("a"), row("b")])
    run.work({"a": "pending", "b": "never"})
    before = dict(files)
    destination.plan([row("a"), row("b")], now=run.now + 60)
    _put_back(files, before, "metadata")
    (execution,) = run.work(try_number=2)
    assert not execution.read.is_open
    assert [item.outcome.value for item in execution.board.listed] == ["generated", "not_submitted"]
    assert destination.billed.total() == 1


@pytest.mark.slow
def test_lost_jobs_stop_only_the_shards_that_collect(destination):
    destination.refresh([row("late")], {"late": "pending"})
    rows = [row("late"), row("new")]
    run = destination.plan(rows, shard_size=1)
    shard_of = {item["name"]: shard for shard, item in enumerate(run.work_items)}
    remove(run.files.outstanding_jobs)
    with pytest.raises(BgRepStateError):
        run.work(shards=[shard_of["late"]])
    run.work(shards=[shard_of["new"]])
    run.check()
    run.publish()
    assert len(unfinished_shards(run.store)) == 1
    assert destination.refresh(rows).counts == {"pending": 1, "unchanged": 1}
    assert set(destination.published()) == {"late", "new"}
    assert destination.billed.total() == 2


@pytest.mark.slow
def test_a_shard_knows_the_keys_of_jobs_of_other_shards(destination):
    """The service may answer a submit with one of them: then nobody knows whether it is billed."""
    destination.refresh([row("late")], {"late": "pending"})
    run = destination.plan([row("late"), row("new")], shard_size=1)
    keys = frozenset(record.result_key for record in run.store.outstanding_jobs())
    assert len(keys) == 1
    for shard in range(2):
        read = Shard.read(destination.paths, run.plan_id, shard)
        given = {"poll_interval": 5.0, "timeout": 60.0, "deferrable": True, "retry_failed": 0, "slots": 1}
        assert read.spec(**given).taken_keys == keys


def test_the_shard_operator_checks_its_arguments():
    assert not issubclass(BgRepShardOperator, BgRepGenerateOperator)
    with pytest.raises(ValueError, match="retry_failed is 4"):
        BgRepShardOperator(task_id="t", destination="file:///a", plan_id="p", shard=0, retry_failed=4)
