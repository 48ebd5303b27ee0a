# SPDX-License-Identifier: Apache-2.0
"""Unknown outcomes that a person settles: what is billed is published, and nothing is submitted twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.refresh import Refresh

from airflow_provider_bgrep.catalog.state.plan_store import PlanStore
from airflow_provider_bgrep.catalog.state.shard_facts import submits
from airflow_provider_bgrep.cli.__main__ import main
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.journal.key_files import FOLDER
from airflow_provider_bgrep.journal.records import State
from airflow_provider_bgrep.storage import connection_of, names_in, put_bytes, remove

OPTIONS = {
    "defaults": {"positive_prompt": "A {{ color }} mug on snow", "steps": 15},
    "max_rebuy_share": 1,
    "publish_unmasked": True,
}


@dataclass
class Shop:
    """A destination whose first submit has an unknown outcome, and the command line on it.

    :param refresh: the runs.
    :param where: the arguments that name the destination.
    :param emulator: the service.
    :param capsys: what was printed.
    :param rows: the catalog.
    """

    refresh: Refresh
    where: list[str]
    emulator: Any
    capsys: Any
    rows: list[dict[str, Any]]

    @property
    def images(self) -> int:
        """Images that are billed."""
        return int(self.emulator.counters.images)

    @property
    def jobs(self) -> list[str]:
        """The keys of the service's jobs, oldest first: what a person finds in the bill."""
        return list(self.emulator.core.state.jobs)

    def adopt(self, *arguments: str, code: int = 0) -> Any:
        """Run the command and return what it prints as JSON."""
        self.capsys.readouterr()
        destination, *connection = self.where
        ended = main(["adopt", destination, *arguments, *connection, "--json"])
        printed = self.capsys.readouterr()
        assert ended == code, printed.err
        return json.loads(printed.out) if printed.out else printed.err

    def lose(self, rows: list[dict[str, Any]], **options: Any) -> Any:
        """Run, and lose the answer to an accepted submit."""
        lost = self.emulator.inject("reset", accepted=True)
        run = self.refresh.run(rows, **options)
        assert lost.exhausted
        return run

    def published(self) -> set[str]:
        """Names of the rows that are published."""
        return {row["name"] for row in self.refresh.manifest() if row["status"] == "live"}


@pytest.fixture
def shop_on(
    request: pytest.FixtureRequest, connection: Any, run: Any, ti: Any, tmp_path: Path, site: str, capsys: Any
) -> Callable[..., Shop]:
    """Returns a new destination on a store, after a run whose only answer was lost."""

    def create(store: str, count: int = 2) -> Shop:
        if store == "local":
            destination, where = f"file://{tmp_path}/shop/images", [f"file://{tmp_path}/shop/images"]
        else:
            folder = request.getfixturevalue(f"{store}_folder")
            bucket = folder.path.partition("/")[0]
            conn_id = str(connection_of(folder))
            destination = f"{store}://{conn_id}@{bucket}/shop/images"
            where = [f"{store}://{bucket}/shop/images", "--conn-id", conn_id]
        images = [{"image": f"{site}/product.png?v={n}", "mask": f"{site}/mask.png"} for n in range(count)]
        rows = [{"sku": f"S{n}", "color": f"red-{n}", **one} for n, one in enumerate(images)]
        shop = Shop(Refresh(destination, run, type(ti), dict(OPTIONS)), where, connection, capsys, rows)
        assert shop.lose(rows).outcomes == {"unknown_outcome": count}
        assert shop.images == count
        return shop

    return create


@pytest.fixture(params=["local", *(pytest.param(one, marks=pytest.mark.thorough) for one in ("s3", "oss"))])
def shop(request: pytest.FixtureRequest, shop_on: Callable[..., Shop]) -> Shop:
    return shop_on(request.param)


@pytest.fixture
def local(shop_on: Callable[..., Shop]) -> Shop:
    return shop_on("local")


@pytest.mark.slow
def test_a_job_that_is_adopted_is_published_and_billed_once(shop: Shop):
    (listed,) = shop.adopt(code=1)["submits"]
    assert listed["rows"] == ["S0", "S1"]
    (key,) = shop.jobs
    assert shop.adopt("S1", "--result-key", key)["is_written"] is False
    assert shop.refresh.run(shop.rows).counts["quarantined"] == 2, "a dry run changes nothing"

    found = shop.adopt(listed["nonce"], "--result-key", key, "--yes")
    assert (found["decision"], found["is_written"]) == ("accepted", True)
    assert shop.adopt() == {"submits": []}
    assert shop.refresh.run(shop.rows).outcomes == {"generated/passed": 2}
    assert shop.published() == {"S0", "S1"}
    assert shop.refresh.run(shop.rows).counts["unchanged"] == 2
    assert (shop.images, shop.emulator.counters.submits) == (2, 1)
    assert shop.adopt("S0", "--result-key", key, "--yes")["is_written"] is True, "it is recorded already"


@pytest.mark.slow
def test_a_submit_that_is_not_billed_is_submitted_again(shop: Shop):
    shop.adopt("S0", "--not-billed")
    assert shop.refresh.run(shop.rows).counts["quarantined"] == 2, "a dry run changes nothing"
    assert shop.adopt("S0", "--not-billed", "--yes")["submit"]["rows"] == ["S0", "S1"]
    again = shop.refresh.run(shop.rows)
    assert again.outcomes == {"generated/passed": 2}
    assert shop.refresh.run(shop.rows).counts["unchanged"] == 2
    # The emulator has billed the first one, which no person has found there.
    assert (shop.images, shop.emulator.counters.submits) == (4, 2)
    assert shop.published() == {"S0", "S1"}


@pytest.mark.slow
def test_a_job_of_another_submit_is_refused(local: Shop, site: str):
    (key,) = local.jobs
    others = [
        [local.emulator.image_task(), local.emulator.image_task(num_output=2)],
        [local.emulator.image_task()],
        # The same images, as the rows had them when they asked for something else.
        [
            {"image": row["image"], "positive_prompt": "A blue mug on snow", "steps": 15, "seed": 1}
            for row in local.rows
        ],
    ]
    for tasks in others:
        other = BgRepHook().submit(tasks).result_key
        assert "is not that of submit" in local.adopt("S0", "--result-key", other, "--yes", code=2)
    before = local.emulator.counters.submits
    local.adopt("S0", "--result-key", "0" * 32, "--yes", code=1)

    # Another row asks for the same; its job is known, and stays its own.
    second = local.refresh.run([*local.rows, {**local.rows[0], "sku": "S9"}])
    (known,) = {row["result_key"] for row in second.processed_rows if row["name"] == "S9"}
    assert "is not that of submit" in local.adopt("S0", "--result-key", known, "--yes", code=2)
    (nonce,) = {one["nonce"] for one in local.adopt(code=1)["submits"]}
    local.adopt(nonce, "--result-key", key, "--yes")
    assert local.refresh.run(local.rows).outcomes == {"generated/passed": 2}
    assert local.emulator.counters.submits == before + 1


def test_an_answer_that_repeats_nothing_is_refused(local: Shop):
    (key,) = local.jobs
    for task in local.emulator.core.state.jobs[key].tasks:
        task.echo = {}
    local.emulator.core.state.jobs[key].cached = None
    assert "repeats nothing" in local.adopt("S0", "--result-key", key, "--yes", code=2)
    assert len(local.adopt(code=1)["submits"]) == 1


@pytest.mark.slow
def test_several_submits_of_a_row_are_told_apart(local: Shop):
    local.lose(local.rows, on_unknown_outcome="resubmit")
    error = local.adopt("S0", "--not-billed", "--yes", code=2)
    listed = local.adopt(code=1)["submits"]
    assert len(listed) == 2
    assert all(one["nonce"] in error for one in listed)
    first, second, _ = local.jobs
    local.adopt(listed[0]["nonce"], "--result-key", first, "--yes")
    assert "another submit" in local.adopt(listed[1]["nonce"], "--result-key", first, "--yes", code=2)
    found = local.adopt(listed[1]["nonce"], "--result-key", second, "--yes")
    assert found["submit"]["submitted_again"] == ["S0", "S1"]
    local.refresh.run(local.rows)
    assert local.published() == {"S0", "S1"}
    assert local.refresh.run(local.rows).counts["unchanged"] == 2
    assert local.images == 6


@pytest.mark.slow
def test_a_late_answer_counts_before_what_a_person_said(local: Shop):
    """A worker that was taken for dead has the key, and writes it after the next run has submitted again."""
    (key,) = local.jobs
    local.adopt("S0", "--not-billed", "--yes")
    local.refresh.run(local.rows)
    assert local.images == 4
    answer_late(local, key)
    late = local.refresh.run(local.rows)
    assert late.counts["unchanged"] == 2
    (row,) = (one for one in explained(local, "S0")["submits"] if one.get("result_key") == key)
    assert row["outcome"] in ("pending", "generated"), "what was billed is known again"
    assert local.images == 4


@pytest.mark.slow
def test_a_late_answer_before_the_next_run_is_collected(local: Shop):
    (key,) = local.jobs
    local.adopt("S0", "--not-billed", "--yes")
    answer_late(local, key)
    assert local.refresh.run(local.rows).outcomes == {"generated/passed": 2}
    assert local.images == 2


@pytest.mark.slow
def test_two_persons_who_contradict_each_other_buy_nothing_twice(local: Shop):
    (key,) = local.jobs
    local.adopt("S0", "--not-billed", "--yes")
    local.adopt("S0", "--result-key", key, "--yes")
    local.adopt("S0", "--not-billed", "--yes", code=2)
    assert local.refresh.run(local.rows).outcomes == {"generated/passed": 2}
    assert local.refresh.run(local.rows).counts["unchanged"] == 2
    assert local.images == billed_images(local) == 2


@pytest.mark.slow
def test_a_submit_whose_run_is_under_way_stays_open(local: Shop):
    rows = [{**row, "color": "green"} for row in local.rows]
    lost = local.emulator.inject("reset", accepted=True)
    run = local.refresh.plan(rows)
    local.refresh.generate(run, 0)
    assert lost.exhausted
    (nonce,) = {one["nonce"] for one in local.adopt(code=1)["submits"] if one["is_under_way"]}
    for decision in (["--not-billed"], ["--result-key", local.jobs[-1]]):
        assert "under way" in local.adopt(nonce, *decision, "--yes", code=2)
    local.refresh.check(run, 0)
    local.refresh.finish(run)
    local.adopt(nonce, "--result-key", local.jobs[-1], "--yes")
    assert local.refresh.run(rows).outcomes == {"generated/passed": 2}
    assert local.images == 4


@pytest.mark.slow
@pytest.mark.parametrize("decision", ["--not-billed", "--result-key"])
def test_a_submit_whose_plan_is_gone_is_settled_in_the_ledger(decision: str, local: Shop):
    for _ in range(3):
        local.refresh.run(local.rows, keep_plans=1)
    plans = names_in(local.refresh.paths.plans)
    (listed,) = local.adopt(code=1)["submits"]
    assert listed["plan_id"] not in plans
    (key,) = local.jobs
    local.adopt("S0", *([decision, key] if decision == "--result-key" else [decision]), "--yes")
    assert local.refresh.run(local.rows).outcomes == {"generated/passed": 2}
    assert local.refresh.run(local.rows).counts["unchanged"] == 2
    assert local.images == (2 if decision == "--result-key" else 4)


@pytest.mark.slow
def test_a_job_that_is_adopted_counts_with_its_images(local: Shop):
    """Also if the plan is gone, and another person has said before that it is not billed."""
    (key,) = local.jobs
    for _ in range(3):
        local.refresh.run(local.rows, keep_plans=1)
    assert billed_images(local) == 2, "it may be billed"
    local.adopt("S0", "--not-billed", "--yes")
    assert billed_images(local) == 0
    local.adopt("S0", "--result-key", key, "--yes")
    assert billed_images(local) == 2
    assert local.refresh.run(local.rows).outcomes == {"generated/passed": 2}
    assert local.images == billed_images(local) == 2


@pytest.mark.slow
@pytest.mark.parametrize("decision", ["--not-billed", "--result-key"])
def test_a_repair_does_not_forget_what_a_person_said(decision: str, local: Shop):
    (key,) = local.jobs
    local.adopt("S0", *([decision, key] if decision == "--result-key" else [decision]), "--yes")
    ledger = local.refresh.paths.ledger
    for name in names_in(ledger):
        remove(ledger / name)
    assert main(["repair", *local.where, "--yes"]) == 0
    assert local.adopt() == {"submits": []}
    assert local.refresh.run(local.rows).outcomes == {"generated/passed": 2}
    assert local.images == (2 if decision == "--result-key" else 4)


@pytest.mark.slow
def test_what_is_not_billed_is_submitted_again_after_failures(local: Shop):
    """It does not count: the command has said that the next run submits the rows again."""
    rows = [{**row, "color": "green"} for row in local.rows]
    for _ in range(2):
        local.emulator.inject("fail_task", index=None)
        assert local.refresh.run(rows, max_attempts=3).outcomes == {"failed": 2}
    local.lose(rows, max_attempts=3)
    nonce = local.adopt(code=1)["submits"][-1]["nonce"]
    local.adopt(nonce, "--not-billed", "--yes")
    assert local.refresh.run(rows, max_attempts=3).outcomes == {"generated/passed": 2}
    assert local.images == 2 + 2 * 4


# --- a plan that is made before the job is found --------------------------------------------------------


@pytest.mark.slow
def test_a_job_found_after_the_plan_is_not_submitted_again(local: Shop):
    """The plan waits for approval, or for a free worker, while a second person finds the job."""
    (key,) = local.jobs
    local.adopt("S0", "--not-billed", "--yes")
    run = local.refresh.plan(local.rows)
    assert local.adopt("S0", "--result-key", key, "--yes")["submit"]["submitted_again"] == []
    assert collected_by_the_next_run(local, run)


@pytest.mark.slow
def test_a_plan_that_resubmits_sees_what_was_adopted_since(local: Shop):
    (key,) = local.jobs
    run = local.refresh.plan(local.rows, on_unknown_outcome="resubmit")
    local.adopt("S0", "--result-key", key, "--yes")
    assert collected_by_the_next_run(local, run)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"on_unknown_outcome": "resubmit"}], ids=["not billed", "resubmit"])
def test_a_late_answer_after_the_plan_is_not_submitted_again(options: dict[str, str], local: Shop):
    (key,) = local.jobs
    if not options:
        local.adopt("S0", "--not-billed", "--yes")
    run = local.refresh.plan(local.rows, **options)
    answer_late(local, key)
    assert collected_by_the_next_run(local, run)


@pytest.mark.slow
def test_a_cleared_run_does_not_submit_what_was_adopted_since(local: Shop):
    """No plan is active when the job is adopted. The last run is cleared after that, and may submit."""
    (key,) = local.jobs
    local.adopt("S0", "--not-billed", "--yes")
    local.emulator.inject("code", operation="submit", code="A403JT", times=50)  # no credit: surely not billed
    run = rest_of(local.refresh, local.refresh.plan(local.rows))
    local.emulator.control("DELETE", "faults")
    found = local.adopt("S0", "--result-key", key, "--yes")
    assert (found["submit"]["submitted_again"], found["submit"]["is_under_way"]) == ([], False)
    assert collected_by_the_next_run(local, run, try_number=2, max_tries=1)


@pytest.mark.slow
def test_a_job_is_found_though_the_plan_of_its_submit_is_gone(local: Shop):
    for _ in range(3):
        local.refresh.run(local.rows, keep_plans=1)
    (key,) = local.jobs
    run = local.refresh.plan(local.rows, on_unknown_outcome="resubmit")
    local.adopt("S0", "--result-key", key, "--yes")
    assert collected_by_the_next_run(local, run)


@pytest.mark.slow
def test_rows_whose_job_is_not_found_are_submitted_with_the_plan(local: Shop):
    """Of two rows with an unknown outcome, only one has a job: the other one is submitted, once."""
    (key,) = local.jobs
    others = [{**row, "sku": f"N{row['sku']}"} for row in local.rows]
    local.lose([*local.rows, *others])
    (nonce,) = {one["nonce"] for one in local.adopt(code=1)["submits"] if one["rows"] == ["NS0", "NS1"]}
    local.adopt(nonce, "--not-billed", "--yes")
    run = local.refresh.plan([*local.rows, *others], on_unknown_outcome="resubmit")
    local.adopt("S0", "--result-key", key, "--yes")
    rest_of(local.refresh, run)
    assert run.outcomes == {"not_submitted": 2, "generated/passed": 2}
    assert local.images == 2 + 2 + 2
    assert local.refresh.run([*local.rows, *others]).outcomes == {"generated/passed": 2}
    assert local.images == 6


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("damage", [remove, lambda path: put_bytes(b"", path)], ids=["lost", "empty"])
def test_a_key_file_that_is_lost_takes_no_job_back(local: Shop, damage: Callable[[Any], None], place: int):
    """The plan was made while the submit counted as not billed. Whoever submits knows the files alone."""
    (key,) = local.jobs
    local.adopt("S0", "--not-billed", "--yes")
    run = local.refresh.plan(local.rows)
    local.adopt("S0", "--result-key", key, "--yes")
    damage(key_files(local)[place])
    assert collected_by_the_next_run(local, run)


@pytest.mark.slow
def test_a_key_file_lost_before_a_clear_takes_no_job_back(local: Shop):
    run = local.lose([{**row, "color": "green"} for row in local.rows])
    nonce = local.adopt(code=1)["submits"][-1]["nonce"]
    local.adopt(nonce, "--not-billed", "--yes")
    local.adopt(nonce, "--result-key", local.jobs[-1], "--yes")
    remove(key_files(local)[0])
    rest_of(local.refresh, run, try_number=2, max_tries=1)
    assert local.images == 4


@pytest.mark.slow
@pytest.mark.parametrize("decision", ["--not-billed", "--result-key"])
@pytest.mark.parametrize("damage", [remove, lambda path: put_bytes(b"", path)], ids=["lost", "empty"])
def test_a_decision_after_the_plan_is_gone_is_kept_twice(
    local: Shop, damage: Callable[[Any], None], decision: str
):
    (key,) = local.jobs
    for _ in range(3):
        local.refresh.run(local.rows, keep_plans=1)
    ledger = local.refresh.paths.ledger
    before = names_in(ledger)
    local.adopt("S0", decision, *([key] if decision == "--result-key" else []), "--yes")
    (segment,) = (one for one in names_in(ledger) if one.endswith(".parquet") and one not in before)
    damage(ledger / segment)
    assert local.refresh.run(local.rows).outcomes == {"generated/passed": 2}
    assert local.images == (2 if decision == "--result-key" else 4)


@pytest.mark.slow
def test_a_row_that_asks_for_something_else_is_submitted_anyway(local: Shop):
    (key,) = local.jobs
    changed = [{**row, "color": "green"} for row in local.rows]
    run = local.refresh.plan(changed)
    local.adopt("S0", "--result-key", key, "--yes")
    assert rest_of(local.refresh, run).outcomes == {"generated/passed": 2}
    assert local.images == 4


# --- help -----------------------------------------------------------------------------------------------


def key_files(shop: Shop) -> list[Any]:
    """The two files with the key of a job that was adopted."""
    folder = shop.refresh.paths.images / FOLDER
    found = [folder / name for name in names_in(folder) if name.startswith("key-")]
    assert len(found) == 2
    return found


def answer_late(shop: Shop, key: str) -> None:
    """Write the answer to the first submit into its journal, as its worker does."""
    plan_id = min(names_in(shop.refresh.paths.plans))
    store = PlanStore(shop.refresh.paths, plan_id)
    journal = store.journal(0)
    (page,) = (
        name.removesuffix(".json") for name in names_in(store.files.journal(0)) if name.endswith("-p0.json")
    )
    value = journal.get(page)
    (submit,) = value["submits"]
    submit.update(state=State.ACCEPTED.value, result_key=key)
    journal.set(page, value)
    (record,) = submits(store, [0])
    assert replace(record, items=()).result_key == key


def explained(shop: Shop, sku: str) -> Any:
    shop.capsys.readouterr()
    assert main(["explain", sku, *shop.where, "--json"]) == 0
    (row,) = json.loads(shop.capsys.readouterr().out)["rows"]
    return row


def billed_images(shop: Shop) -> int:
    """What the ledger says is billed, or may be."""
    shop.capsys.readouterr()
    assert main(["ledger", *shop.where, "--json"]) == 0
    return int(json.loads(shop.capsys.readouterr().out)["total"]["images"])


def rest_of(refresh: Refresh, run: Any, **generate: Any) -> Any:
    """Execute the tasks that follow the plan task of a run."""
    for shard in range(run.plan["shards"]):
        refresh.generate(run, shard, **generate)
        refresh.check(run, shard)
    return refresh.finish(run)


def collected_by_the_next_run(shop: Shop, run: Any, **generate: Any) -> bool:
    """Finish a run, which submits none of the rows. The next one collects the job of the first submit."""
    rest_of(shop.refresh, run, **generate)
    assert run.outcomes == {"not_submitted": 2}
    assert {row["reason"].count("collects its job") for row in run.processed_rows} == {1}
    assert shop.refresh.run(shop.rows).outcomes == {"generated/passed": 2}
    assert shop.published() == {"S0", "S1"}
    assert shop.refresh.run(shop.rows).counts["unchanged"] == 2
    return (shop.images, len(shop.jobs)) == (2, 1)
