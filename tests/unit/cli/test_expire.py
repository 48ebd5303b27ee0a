# SPDX-License-Identifier: Apache-2.0
"""The command that lists what retention deletes, and deletes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.runs import row

from airflow_provider_bgrep.cli.__main__ import main


def contents(where: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(where).rglob("*") if path.is_file()}


def expire(where: str, capsys: Any, *arguments: str) -> Any:
    capsys.readouterr()
    assert main(["expire", where, *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def plans_in(where: str) -> set[str]:
    return {path.name for path in (Path(where) / "_bgrep" / "plans").iterdir()}


@pytest.mark.slow
def test_what_is_listed_is_deleted_with_yes(destination, where, capsys):
    runs = [destination.refresh([row("a", num_output=2), row("b", seed=n)]) for n in range(4)]
    published, before = destination.published(), contents(where)
    assert expire(where, capsys)["plans"] == [], "30 plans stay"
    listed = expire(where, capsys, "--keep-plans", "1")
    assert listed["plans"] == [run.plan_id for run in runs[:3]]
    assert listed["images"]
    assert contents(where) == before
    assert main(["expire", where, "--keep-plans", "1"]) == 0
    assert "--yes" in capsys.readouterr().out

    done = expire(where, capsys, "--keep-plans", "1", "--yes")
    assert done["deleted"] == {"plans": 3, "images": len(listed["images"])}
    assert plans_in(where) == {runs[3].plan_id}
    deleted = [path for path in before if not path.exists()]
    assert listed["bytes"] == sum(len(before[path]) for path in deleted)
    assert main(["expire", where, "--keep-plans", "1", "--yes"]) == 0
    assert "Nothing to delete" in capsys.readouterr().out
    assert destination.published() == published
    assert destination.refresh([row("a", num_output=2), row("b", seed=3)]).counts == {"unchanged": 2}


@pytest.mark.slow
def test_the_rule_is_that_of_publish(destination, where, capsys):
    catalog = [row("a")]
    for _ in range(3):
        destination.refresh(catalog, keep_plans=2)
    assert len(plans_in(where)) == 2, "publish has deleted the first one"
    found = expire(where, capsys)
    assert (found["keep_plans"], found["plans"], found["images"]) == (2, [], [])


@pytest.mark.slow
def test_what_a_run_or_a_job_needs_stays(destination, where, capsys):
    is_waiting = {"a": "pending"}
    waiting = destination.refresh([row("a"), row("b")], is_waiting)
    over = destination.refresh([row("b")], is_waiting)
    under_way = destination.plan([row("c")])
    under_way.work(is_waiting)
    for run_id in ("other", "last"):
        facts = {"run_id": run_id, "dag_id": "other", "now": under_way.now}
        destination.refresh([row("b"), row("c")], is_waiting, **facts)
    expire(where, capsys, "--keep-plans", "1", "--yes")
    assert {waiting.plan_id, under_way.plan_id} <= plans_in(where)
    assert over.plan_id not in plans_in(where)
    under_way.check()
    under_way.publish()
    assert "c" in destination.published()
    assert destination.refresh([row("a"), row("b"), row("c")]).counts["unchanged"] >= 2
    assert sum(destination.billed.values()) == 3


@pytest.mark.slow
def test_a_damaged_ledger_ends_with_3_and_nothing_is_deleted(destination, where, capsys):
    for n in range(3):
        destination.refresh([row("a", seed=n)])
    for path in (Path(where) / "_bgrep" / "ledger").glob("*.parquet"):
        path.write_bytes(path.read_bytes()[:-5])
    before = contents(where)
    for arguments in ([], ["--yes"]):
        assert main(["expire", where, "--keep-plans", "1", *arguments]) == 3
    assert plans_in(where) == {path.parts[-2] for path in before if path.name == "plan.json"}


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "²"])
def test_a_number_that_is_none_is_refused(text, where, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["expire", where, "--keep-plans", text])
    assert ended.value.code == 2


@pytest.mark.slow
def test_a_plan_that_cannot_be_read_is_named(destination, where, capsys):
    runs = [destination.refresh([row("a", seed=n)]) for n in range(3)]
    (page,) = (Path(where) / "_bgrep" / "plans" / runs[0].plan_id).glob("journal/*/*-p0.json")
    page.write_text("{")
    found = expire(where, capsys, "--keep-plans", "1", "--yes")
    assert list(found["unreadable"]) == [runs[0].plan_id]
    assert (found["plans"], found["images"]) == ([runs[1].plan_id], [])
    assert main(["expire", where, "--keep-plans", "1"]) == 0
    assert runs[0].plan_id in capsys.readouterr().out
