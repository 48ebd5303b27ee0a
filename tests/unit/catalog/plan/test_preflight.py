# SPDX-License-Identifier: Apache-2.0
"""What the plan task finds out before it plans."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG
from bgrep_harness.plan_tasks import planned
from bgrep_harness.runs import row
from bgrep_harness.stores import Counting, Files, OverwritingFiles, folder_on

from airflow_provider_bgrep.exceptions import (
    BgRepAuthError,
    BgRepConfigurationError,
    BgRepRequestError,
    BgRepStateError,
)
from airflow_provider_bgrep.testing import Emulator, bgrep_emulator  # noqa: F401 (a fixture)


@pytest.fixture
def emulator(bgrep_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:  # noqa: F811
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", bgrep_emulator.connection_uri)
    return bgrep_emulator


def test_the_plan_asks_the_service_whether_it_knows_the_account(emulator, tmp_path):
    assert "plan" in planned(tmp_path / "shop").pushed
    counters = emulator.counters
    assert (counters.requests, counters.images) == (1, 0)


def test_a_missing_connection_stops_the_plan(tmp_path):
    with pytest.raises(BgRepConfigurationError, match="AIRFLOW_CONN_NOBODY"):
        planned(tmp_path / "shop", bgrep_conn_id="nobody")
    assert not (tmp_path / "shop" / "_bgrep" / "plans").exists()
    assert planned(tmp_path / "shop", bgrep_conn_id="nobody", dry_run=True).pushed["plan"]["shards"] == 0


def test_a_wrong_app_code_stops_the_plan(emulator, tmp_path, monkeypatch):
    wrong = emulator.connection_uri.replace(emulator.app_code, "wrong")
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", wrong)
    with pytest.raises(BgRepAuthError):
        planned(tmp_path / "shop")
    assert emulator.counters.images == 0
    assert not (tmp_path / "shop" / "_bgrep" / "plans").exists()


def test_a_destination_that_cannot_be_written_to_is_named(emulator, tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(BgRepConfigurationError, match=r"destination .*file.* cannot be written to"):
        planned(tmp_path / "file")
    assert emulator.counters.requests == 0


def test_a_store_without_its_provider_is_named(tmp_path):
    with pytest.raises(BgRepRequestError, match=r"destination: is on a store, oss3://.*Install an Airflow"):
        planned("oss3://shop/images")


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_store_that_cannot_exclude_is_refused_first(emulator, dry_run):
    files: dict[str, bytes] = {}
    with pytest.raises(BgRepConfigurationError, match="single_writer"):
        planned(folder_on(OverwritingFiles(files)), dry_run=dry_run, check_sources="off")
    assert list(files) == ["/shop/_bgrep/storage.json"], "nothing of a ledger or a plan"
    assert emulator.counters.requests == 0


@pytest.mark.parametrize("runs", [1, 2])
def test_a_single_writer_needs_a_dag_with_one_run(emulator, runs):
    dag = DAG("shop", schedule=None, max_active_runs=runs)
    destination = folder_on(OverwritingFiles({}))
    if runs == 1:
        ti = planned(destination, dag=dag, single_writer=True, check_sources="off")
        assert ti.pushed["plan"]["shards"] == 1
        return
    with pytest.raises(BgRepConfigurationError, match="max_active_runs=2"):
        planned(destination, dag=dag, single_writer="true")


@pytest.mark.slow
def test_an_unchanged_run_on_a_known_store_makes_one_call_more(emulator, destination, files):
    catalog = [row("mug")]
    path = destination.paths.destination
    planned(path, "first", catalog=catalog, dry_run=True)  # checks the store
    destination.refresh(catalog)
    calls = []
    for pattern in ("", "storage"):
        counting = Counting()
        ti = planned(folder_on(Files(files, counting, pattern)), f"run {pattern}", catalog=catalog)
        assert ti.pushed["plan"]["counts"] == {"unchanged": 1}
        calls.append(counting.calls)
    assert calls[1] == 1
    assert calls[0] > 10


@pytest.mark.parametrize("name", ["catalog", "destination"])
def test_relative_paths_are_refused_in_one_way(tmp_path, name):
    with pytest.raises(BgRepRequestError, match=rf"{name}: is 'shop/it'; give an absolute path or a URL"):
        planned(**{"destination": tmp_path / "shop", name: "shop/it"})


def test_a_damaged_manifest_stops_the_plan_in_one_message(emulator, tmp_path):
    shop = Path(tmp_path / "shop")
    (shop / "manifests").mkdir(parents=True)
    (shop / "manifests" / "00000001.json").write_text('{"version": 1')
    with pytest.raises(BgRepStateError, match="Restore it from a backup"):
        planned(shop)


@pytest.mark.parametrize("path", ["s3://KEY:canary@shop/in", "s3://KEY:half/canary@shop/in"])
@pytest.mark.parametrize("option", ["catalog", "destination"])
def test_credentials_in_a_path_are_in_no_log_and_no_error(emulator, tmp_path, capfd, caplog, option, path):
    caplog.set_level("DEBUG")
    given = {"destination": str(tmp_path / "shop"), option: path}
    with pytest.raises(BgRepRequestError, match=f"{option}: .*CONNECTION@shop/in") as refused:
        planned(given.pop("destination"), **given)
    shown = f"{refused.value} {caplog.text} {capfd.readouterr()}"
    assert "canary" not in shown
    assert not (tmp_path / "shop").exists()
    assert emulator.counters.requests == 0
