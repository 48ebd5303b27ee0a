# SPDX-License-Identifier: Apache-2.0
"""The command line on what real runs leave behind: on a local folder, on S3 and on OSS."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness import s3 as s3_harness
from bgrep_harness.refresh import Refresh

from airflow_provider_bgrep.cli.__main__ import main
from airflow_provider_bgrep.oss_emulator import resolver
from airflow_provider_bgrep.storage import connection_of, put_bytes

OPTIONS = {
    "defaults": {"positive_prompt": "A {{ color }} mug on snow", "steps": 15},
    "price_per_image": "0.2",
    "currency": "CNY",
    "shard_size": 4,
    "max_rebuy_share": 1,
    "publish_unmasked": True,
}
OBJECT_STORES = ("s3", "oss")


@dataclass
class Shop:
    """A destination, its runs, and the command line on it.

    :param refresh: the runs.
    :param where: the arguments that name the destination.
    :param capsys: what was printed.
    """

    refresh: Refresh
    where: list[str]
    capsys: pytest.CaptureFixture[str]

    def json(self, name: str, *arguments: str, code: int = 0) -> Any:
        """Run a command and return what it prints as JSON."""
        self.capsys.readouterr()
        ended = main([name, *arguments, *self.where, "--json"])
        printed = self.capsys.readouterr()
        assert ended == code, printed.err
        return json.loads(printed.out)

    def text(self, name: str, *arguments: str, code: int = 0) -> str:
        """Run a command and return what it prints."""
        self.capsys.readouterr()
        ended = main([name, *arguments, *self.where])
        printed = self.capsys.readouterr()
        assert ended == code, printed.err
        return printed.out

    @property
    def total(self) -> dict[str, Any]:
        """The sums of the ledger."""
        return dict(self.json("ledger")["total"])

    def files(self) -> dict[str, bytes]:
        """Every file of the destination, by its path in there."""
        folder = self.refresh.paths.destination
        found = folder.fs.find(folder.path)
        return {path.rpartition("/shop/images/")[2]: folder.fs.cat_file(path) for path in found}

    def put_files(self, files: Mapping[str, bytes]) -> None:
        """Write files of another destination."""
        for path, data in files.items():
            put_bytes(data, self.refresh.paths.destination / path)


@pytest.fixture
def shop_on(
    request: pytest.FixtureRequest, connection: Any, run: Any, ti: Any, tmp_path: Path, capsys: Any
) -> Callable[[str], Shop]:
    """Returns a new destination on a store."""

    def create(store: str) -> Shop:
        if store == "local":
            destination, where = f"file://{tmp_path}/shop/images", [f"file://{tmp_path}/shop/images"]
        else:
            folder = request.getfixturevalue(f"{store}_folder")
            bucket = folder.path.partition("/")[0]
            conn_id = str(connection_of(folder))
            destination = f"{store}://{conn_id}@{bucket}/shop/images"
            where = [f"{store}://{bucket}/shop/images", "--conn-id", conn_id]
        return Shop(Refresh(destination, run, type(ti), dict(OPTIONS)), where, capsys)

    return create


@pytest.fixture(params=["local", *OBJECT_STORES])
def shop(request: pytest.FixtureRequest, shop_on: Callable[[str], Shop]) -> Shop:
    return shop_on(request.param)


def rows_of(site: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "sku": f"S{number}",
            "color": f"red-{number}",
            "category": ("cups", "plates", "")[number % 3],
            "image": f"{site}/product.png?v={number}",
            "mask": f"{site}/mask.png",
        }
        for number in range(count)
    ]


@pytest.mark.slow
def test_the_ledger_is_the_bill_over_many_runs(
    shop_on: Callable[[str], Shop], connection: Any, site: str, no_waiting: Any
):
    shop = shop_on("local")
    refresh, counters, bills = shop.refresh, (lambda: connection.counters.images), []
    rows = rows_of(site, 6)

    failed = connection.inject("fail_task", index=0)
    refresh.run(rows)  # new rows, of which one fails
    assert failed.exhausted
    bills.append(counters())
    assert shop.total == {
        "purchases": 6,
        "images": 6,
        "unknown_images": 0,
        "unpriced_images": 0,
        "costs": {"CNY": "1.2"},
    }

    rows[1]["color"] = "blue"
    rows[2]["num_output"] = 2
    refresh.run(rows, price_per_image="0.5")  # changed rows, and the failed one is submitted again
    bills.append(counters())
    assert bills == [6, 10]
    assert (shop.total["images"], shop.total["costs"]) == (10, {"CNY": "3.2"})

    lost = connection.inject("reset", accepted=True)
    for row in rows[3:5]:
        row["color"] = "green"
    refresh.run(rows)  # an accepted submit whose answer is lost
    assert lost.exhausted
    bills.append(counters())
    assert bills[-1] == 12
    assert (shop.total["images"], shop.total["unknown_images"]) == (12, 2)

    refresh.run(rows, on_unknown_outcome="resubmit")
    bills.append(counters())
    assert (shop.total["images"], shop.total["unknown_images"]) == (bills[-1], 2) == (14, 2)

    refused = connection.inject("code", code="23500005")
    rows[5]["color"] = "gray"
    refresh.run(rows)
    assert refused.exhausted
    late = connection.inject("late", seconds=3600)
    rows[0]["color"] = "black"
    refresh.generate_options = {"timeout": 1}
    pending = refresh.run(rows)
    assert late.exhausted
    assert "pending" in pending.outcomes
    bills += [14, counters()]
    assert (shop.total["images"], bills[-1]) == (15, 15)

    before = shop.files()
    by_run = shop.json("ledger", "--by", "run")
    found = [one["images"] for one in by_run["sums"]]
    assert found == [now - earlier for now, earlier in zip(bills, [0, *bills], strict=False) if now > earlier]
    assert by_run["total"] == shop.total
    for by in ("day", "month"):
        assert sum(one["images"] for one in shop.json("ledger", "--by", by)["sums"]) == 15
    catalog = refresh.put_catalog(rows)
    by_category = {
        one["category"]: one["images"]
        for one in shop.json("ledger", "--by", "category", "--catalog", catalog)["sums"]
    }
    assert by_category == expected_categories(shop, rows)
    table = list(csv.DictReader(io.StringIO(shop.text("ledger", "--csv"))))
    assert sum(int(one["images"]) for one in table) == 15
    assert {one["run_id"] for one in table} == {one["run"].split(" ")[1] for one in by_run["sums"]}
    assert "Total: 15 images in 14 submits of a row, of which 2 may not be billed" in shop.text("ledger")
    assert shop.text("ledger", "--since", "2999-01-01").splitlines()[-1].startswith("Total: 0 images")

    explain_all(shop)
    assert shop.files() == before, "reading writes nothing"

    # The same destination on object storage. That a run writes the same there is for other tests.
    for copy in map(shop_on, OBJECT_STORES):
        copy.put_files(before)
        assert copy.json("ledger", "--by", "run") == by_run
        explain_all(copy)
        assert copy.files() == before, "reading writes nothing"


def expected_categories(shop: Shop, rows: list[dict[str, Any]]) -> dict[str, int]:
    category = {row["sku"]: row["category"] or "(no category)" for row in rows}
    found = Counter[str]()
    for one in shop.json("ledger")["purchases"]:
        found[category[one["name"]]] += one["images"]
    return dict(found)


def explain_all(shop: Shop) -> None:
    """What the command says of each row after the runs of the test above."""

    def explain(sku: str) -> Any:
        (row,) = shop.json("explain", sku)["rows"]
        return row

    first = explain("S0")  # failed, submitted again, changed, pending
    assert [one["state"] for one in first["plans"]] == ["changed", "unchanged", "unchanged"]
    assert [one["is_submitted"] for one in first["plans"]] == [True, False, False]
    assert "positive_prompt" in first["plans"][0]["reason"]
    assert first["submits"][-1]["outcome"] == "pending"
    assert first["submits"][-1]["images"] == 1

    second = explain("S1")  # changed once
    assert [one["outcome"] for one in second["submits"]] == ["generated", "generated"]
    (published,) = second["published"]
    assert published["status"] == "live"
    assert len(published["versions"]) == 1
    chosen = [one for one in second["submits"][-1]["files"] if one["is_chosen"]]
    assert len(chosen) == 1
    assert chosen[0]["scores"]
    assert second["submits"][-1]["verdict"] == "passed"

    unknown = explain("S3")
    assert [one["outcome"] for one in unknown["submits"]] == ["generated", "unknown_outcome", "generated"]

    refused = explain("S5")
    assert refused["submits"][-1]["outcome"] == "refused"
    assert refused["submits"][-1]["code"] == "23500005"
    assert any("Correct the cause" in text for text in refused["advice"])
    text = shop.text("explain", "S5")
    assert "refused" in text
    assert "what to do: " in text

    assert shop.json("explain", "nobody", code=1) == {"sku": "nobody", "rows": []}


@pytest.mark.slow
def test_a_plan_is_a_dry_run_that_bills_nothing(shop: Shop, connection: Any, site: str):
    rows = rows_of(site, 3)
    shop.refresh.run(rows)
    rows[0]["color"] = "blue"
    catalog = shop.refresh.put_catalog(
        [*rows, {**rows[0], "sku": "S9"}, {**rows[0], "sku": "S8", "image": ""}]
    )
    ledger = {name: data for name, data in shop.files().items() if "/ledger/" in name}
    options = ["--defaults", json.dumps(OPTIONS["defaults"]), "--price-per-image", "0.2", "--currency", "CNY"]
    options += ["--source", '{"allow_private_sources": true}', "--budget", '{"max_rebuy_share": 1}']
    found = shop.json("plan", *options, catalog, code=1)
    assert (found["images"], found["cost"]) == (2, "0.4")
    assert found["counts"] == {"new": 1, "changed": 1, "unchanged": 2, "invalid": 1}
    assert {(one["name"], one["state"]) for one in found["to_submit"]} == {("S0", "changed"), ("S9", "new")}
    assert [(one["line"], one["column"]) for one in found["invalid"]] == [(6, "image")]
    assert found["plan_id"].endswith("-dry")
    text = shop.text("plan", *options, catalog, code=1)
    assert "A dry run: nothing was submitted." in text
    assert "2 images, 0.40 CNY at 0.2 an image" in text
    assert connection.counters.images == 3
    assert {name: data for name, data in shop.files().items() if "/ledger/" in name} == ledger
    # It locks no row: a run submits what the plan has listed.
    assert shop.refresh.run([*rows, {**rows[0], "sku": "S9"}]).outcomes == {"generated/passed": 2}
    explained = shop.json("explain", "S9")["rows"][0]
    assert [one["is_dry_run"] for one in explained["plans"]] == [False, True, True]
    assert "dry run" in explained["plans"][1]["why_not"]


@pytest.mark.slow
def test_a_report_is_written_again(shop: Shop, connection: Any, site: str):
    run = shop.refresh.run(rows_of(site, 2))
    shop.refresh.plan(rows_of(site, 2), dry_run=True)
    run.files.report.unlink()
    found = shop.json("report")
    assert found["plan_id"] == run.plan["plan_id"]
    assert run.files.report.read_bytes().startswith(b"<!")
    assert shop.text("report", "--plan", run.plan["plan_id"]).splitlines()[0] == found["gallery"]
    assert main(["report", *shop.where, "--plan", "../x"]) == 2
    assert run.plan["plan_id"] in shop.capsys.readouterr().err
    assert connection.counters.images == 2


@pytest.mark.slow
def test_what_an_upload_in_progress_leaves_open_is_read(shop: Shop, connection: Any, site: str):
    """Of a run that has not published yet, the plan's own files are read."""
    refresh = shop.refresh
    run = refresh.plan(rows_of(site, 2))
    assert shop.total["images"] == 0
    (row,) = shop.json("explain", "S1")["rows"]
    assert row["plans"][0]["why_not"]
    refresh.generate(run, 0)
    before = shop.files()
    assert shop.total["images"] == connection.counters.images == 2
    (row,) = shop.json("explain", "S1")["rows"]
    assert row["plans"][0]["is_submitted"] is True
    assert row["submits"][0]["outcome"] == "generated"
    assert shop.files() == before


# --- as a process ---------------------------------------------------------------------------------------


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}


def run_command(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = ["airflow-bgrep", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env=environment(**more)
    )


@pytest.mark.slow
@pytest.mark.parametrize("store", ["local", "s3", "oss"])
def test_the_installed_command_reads_each_store(
    store: str, request: Any, connection: Any, run: Any, ti: Any, tmp_path: Path, site: str
):
    variables: dict[str, str] = {}
    if store == "local":
        where = [f"{tmp_path}/shop/images"]
        destination = f"file://{tmp_path}/shop/images"
    else:
        folder = request.getfixturevalue(f"{store}_folder")
        conn_id, bucket = str(connection_of(folder)), folder.path.partition("/")[0]
        destination = f"{store}://{conn_id}@{bucket}/shop/images"
        where = [f"{store}://{bucket}/shop/images", "--conn-id", "shop_store"]
        if store == "s3":
            pytest.importorskip("airflow.providers.amazon")
            variables["AIRFLOW_CONN_SHOP_STORE"] = s3_harness.connection_json(
                request.getfixturevalue("s3_endpoint")
            )
        else:
            server = request.getfixturevalue("oss_server")
            variables["AIRFLOW_CONN_SHOP_STORE"] = server.connection_json
            variables |= resolver.environment()
    refresh = Refresh(destination, run, type(ti), dict(OPTIONS))
    one = refresh.run(rows_of(site, 2))
    ledger = run_command("ledger", *where, "--json", **variables)
    assert ledger.returncode == 0, ledger.stderr
    assert json.loads(ledger.stdout)["total"]["images"] == connection.counters.images == 2
    if store == "local":
        key = one.processed_rows[0]["result_key"]
        queried = run_command("requery", key)
        assert queried.returncode == 0, queried.stderr
        assert "SUCCESS" in queried.stdout
        assert connection.url not in queried.stdout


def test_a_query_shows_states_and_urls_on_request_only(connection: Any, capsys: Any):
    from airflow_provider_bgrep.hooks.bgrep import BgRepHook

    fault = connection.inject("fail_task", index=1)
    hook = BgRepHook()
    key = hook.submit([connection.image_task(), connection.image_task(num_output=2)]).result_key
    assert main(["requery", key]) in (0, 1)
    connection.advance(3600)
    capsys.readouterr()
    assert main(["requery", key, "--json"]) == 1
    printed = capsys.readouterr().out
    found = json.loads(printed)
    assert fault.exhausted
    assert [one["status"] for one in found["tasks"]] == ["SUCCESS", "FAILED"]
    assert found["is_finished"] is True
    assert "http" not in printed
    assert main(["requery", key, "--urls"]) == 1
    assert f"0: {connection.url}" in capsys.readouterr().out
    assert main(["requery", "0" * 32]) == 1
    assert connection.counters.submits == 1


@pytest.mark.slow
def test_a_missing_connection_is_an_error_without_traceback(tmp_path: Path):
    """Without a metadata database as well: neither can be read outside of a task by default."""
    ended = run_command(
        "requery",
        "0" * 32,
        "--bgrep-conn-id",
        "nobody",
        AIRFLOW_HOME=str(tmp_path),
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{tmp_path}/missing.db",
    )
    assert ended.returncode == 2
    assert "Connection 'nobody' is not defined" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


@pytest.mark.slow
def test_a_connection_in_the_metadata_database_is_found(connection: Any, tmp_path: Path):
    variables = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db?timeout=60",
    }
    for command in (
        ["airflow", "db", "migrate"],
        ["airflow", "connections", "add", "from_database", "--conn-json", connection.connection_json],
    ):
        subprocess.run(command, check=True, capture_output=True, env=environment(**variables), timeout=240)
    ended = run_command("requery", "0" * 32, "--bgrep-conn-id", "from_database", **variables)
    assert ended.returncode == 1, ended.stderr
    assert "is not defined" not in ended.stderr
    assert connection.app_code not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("store", ["local", pytest.param("s3", marks=pytest.mark.thorough)])
def test_decisions_about_rows_are_billed_as_they_say(
    store: str, shop_on: Callable[[str], Shop], connection: Any, site: str, no_waiting: Any
):
    shop = shop_on(store)
    refresh, rows = shop.refresh, rows_of(site, 3)

    def published(sku: str) -> dict[str, Any]:
        (row,) = (one for one in refresh.manifest() if one["sku"] == sku)
        path = refresh.paths.destination / row["path"]
        assert hashlib.sha256(path.fs.cat_file(path.path)).hexdigest() == row["sha256"]
        return row

    refresh.run(rows)
    first = published("S0")
    assert connection.counters.images == 3

    quoted = shop.json("redo", "S0", "--reason", "too dark")
    assert (quoted["images"], quoted["cost"], quoted["is_written"]) == (1, "0.2", False)
    shop.json("redo", "S0", "--reason", "too dark", "--yes")
    run = refresh.run(rows)
    assert run.counts == {"changed": 1, "unchanged": 2}
    assert connection.counters.images == 4
    second = published("S0")
    assert second["sha256"] != first["sha256"]

    (row,) = shop.json("rollback", "--yes", "S0")["rows"]
    assert (row["status"], published("S0")["path"]) == ("rolled_back", first["path"])
    run = refresh.run(rows)
    assert run.counts == {"unchanged": 3}
    assert run.states["publish"] == "success", "the asset is updated, although nothing else has changed"
    assert refresh.run(rows).states["publish"] == "skipped"
    assert published("S0")["path"] == first["path"]

    shop.json("block", "S1", "--yes")
    rows[1]["color"] = "blue"
    assert refresh.run(rows).counts == {"blocked": 1, "unchanged": 2}
    assert published("S1")["status"] == "retired"
    assert connection.counters.images == 4
    shop.json("unblock", "S1", "--yes")
    assert refresh.run(rows).counts == {"changed": 1, "unchanged": 2}
    assert published("S1")["status"] == "live"
    assert connection.counters.images == 5
    assert shop.total["images"] == 5
