# SPDX-License-Identifier: Apache-2.0
"""All that is kept on object storage, on Azure: catalog, sources, destination, ledger, journal and manifest.

The store is Azurite, reached with Airflow's provider and adlfs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from bgrep_harness.azurite import ACCOUNT, KEY, Proxy, key_words
from bgrep_harness.images import draw_images
from bgrep_harness.refresh import Refresh, Run

from airflow_provider_bgrep.catalog import read_manifest
from airflow_provider_bgrep.catalog.source.images import readable_url, versions
from airflow_provider_bgrep.catalog.source.listing import WHOLE_ABOVE
from airflow_provider_bgrep.cli.__main__ import main
from airflow_provider_bgrep.exceptions import BgRepError
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.operators.bgrep import BgRepDownloadOperator, BgRepGenerateOperator
from airflow_provider_bgrep.storage import (
    connection_of,
    copy_file,
    create_bytes,
    create_exclusively,
    get_bytes,
    names_in,
    put_bytes,
    remove,
    size_of,
    storage_path,
)
from airflow_provider_bgrep.storage_check import Level, check_storage
from airflow_provider_bgrep.store_errors import store_error

PROMPT = {"positive_prompt": "A {{ color }} mug on snow", "steps": 15}
SOURCES = ("0", "1", "2")
NAMES = ("a.jpg", "a b.jpg", "a#b.jpg", "a?b.jpg", "a%20b.jpg", "ü.jpg", "a+b.jpg", "deep/x.jpg", "雪.jpg")


class Shop:
    """A shop on Azure: a container, its connection, its products' images, and a catalog of them."""

    def __init__(self, folder: Any, refresh: Refresh, drawn: Path) -> None:
        self.fs, self.conn_id = folder.fs, str(connection_of(folder))
        self.container = folder.path.partition("/")[0]
        self.refresh, self.drawn = refresh, drawn
        refresh.destination = self.destination(self.conn_id)
        refresh.options["source_conn_id"] = self.conn_id
        for name in SOURCES:
            self.draw(name)
        self.fs.put_file(str(drawn / "mask.png"), f"{self.container}/in/mask.png")

    def destination(self, conn_id: str) -> str:
        return f"abfs://{conn_id}@{self.container}/shop/images"

    def draw(self, name: str, **options: Any) -> None:
        """Put the image of a product."""
        draw_images(self.drawn, **options)
        self.fs.put_file(str(self.drawn / "product.png"), f"{self.container}/in/{name}.png")

    def row(self, name: str) -> dict[str, Any]:
        """The row of a product."""
        return {
            "sku": f"S{name}",
            "color": f"red {name}",
            "image": f"abfs://{self.container}/in/{name}.png",
            "mask": f"abfs://{self.container}/in/mask.png",
        }

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [self.row(name) for name in SOURCES]

    def kept(self) -> dict[str, bytes]:
        """All files that runs have written."""
        return {path: self.fs.cat_file(path) for path in self.fs.find(f"{self.container}/shop")}


@pytest.fixture
def shop(folder: Any, connection: Any, run: Any, ti: Any, tmp_path: Path) -> Shop:
    options = {"defaults": PROMPT, "price_per_image": "0.2", "currency": "CNY", "shard_size": 2}
    return Shop(folder, Refresh("", run, type(ti), options), tmp_path / "drawn")


def sas_of(container: str, rights: str) -> str:
    return generate_container_sas(
        ACCOUNT,
        container,
        account_key=KEY,
        permission=ContainerSasPermissions.from_string(rights),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )


def quick_retries(path: str) -> None:
    """Let Azure's SDK repeat requests at once: by default it waits for 15 seconds and more."""
    policy = storage_path(path).fs.service_client._config.retry_policy
    policy.initial_backoff = policy.increment_base = policy.random_jitter_range = 0


# --- the check --------------------------------------------------------------------------------------


def test_the_check_finds_azure_safe(folder: Any, capsys: pytest.CaptureFixture[str]):
    report = check_storage(folder)
    assert report.is_safe, str(report)
    assert report.can_exclude
    found = {(one.check, one.tried.partition(",")[0]): one for one in report.findings}
    assert {one.check: one.level for one in report.findings} == {
        "versioning": Level.NOTE,
        "write": Level.OK,
        "list after write": Level.OK,
        "replace": Level.OK,
        "exclusive creation": Level.OK,
        "ETag": Level.OK,
        "presigned URL": Level.OK,
        "expiry of URLs": Level.OK,
        "delete": Level.OK,
    }, str(report)
    came = {check: one.came for (check, _), one in found.items()}
    assert came["ETag"] == "content_md5: differs and is equal"
    assert came["versioning"] == "the store cannot be asked"
    assert came["presigned URL"] == "the content"
    assert came["expiry of URLs"] == "answers HTTP 403"
    assert len([one for one in report.findings if one.check == "exclusive creation"]) == 2
    assert names_in(folder.parent) == []
    assert "adlfs" in report.store

    where = str(folder).replace(f"{connection_of(folder)}@", "")
    assert main(["check-storage", where, "--conn-id", str(connection_of(folder)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_safe"] is True


def test_of_several_that_create_at_once_one_does(folder: Any):
    for number in range(10):
        path, barrier = folder / f"{number}.json", threading.Barrier(4)

        def create(who: int, path: Any = path, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            return create_exclusively(b"%d" % who, path)

        with ThreadPoolExecutor(4) as pool:
            created = list(pool.map(create, range(4)))
        assert created.count(True) == 1
        assert get_bytes(path) == b"%d" % created.index(True)


def test_files_are_read_as_they_are_now(folder: Any, endpoint: str, connect: Callable[..., str]):
    """The file system keeps listings, and answers from them."""
    other = type(folder)(f"abfs://{folder.path}", conn_id=connect(endpoint, *reversed(key_words())))
    assert other.fs is not folder.fs
    put_bytes(b"one", folder / "a.json")
    assert names_in(other) == ["a.json"]
    other.fs.ls(other.path, detail=True)
    put_bytes(b"other", folder / "a.json")
    put_bytes(b"two", folder / "b.json")
    assert (size_of(other / "a.json"), size_of(other / "b.json")) == (5, 3)
    remove(folder / "b.json")
    assert size_of(other / "b.json") is None
    assert size_of(other.parent / "shop") is None, "a folder"
    assert not create_bytes(b"three", other / "a.json")
    copy_file(folder / "a.json", folder / "in" / "c.json")
    assert get_bytes(other / "in" / "c.json") == b"other"
    with pytest.raises(FileNotFoundError):
        copy_file(folder / "none.json", folder / "d.json")


def test_folders_with_a_common_beginning_are_told_apart(folder: Any):
    for name in ("a/1", "a-b/2", "a.c/3", "a/deep/4", "ab"):
        put_bytes(b"x", folder / name)
    assert names_in(folder / "a") == ["1", "deep"]
    assert names_in(folder) == ["a", "a-b", "a.c", "ab"]
    assert names_in(folder / "none") == []


# --- runs -------------------------------------------------------------------------------------------


def test_three_runs_pay_for_exactly_what_changed(shop: Shop, connection: Any, caplog: Any):
    caplog.set_level(logging.DEBUG)
    refresh = shop.refresh
    one = refresh.run(
        [*shop.rows, {**shop.row("0"), "sku": "gone", "image": f"abfs://{shop.container}/in/9.png"}]
    )
    assert one.outcomes == {"generated/passed": 3}, one.results
    assert one.counts == {"new": 3, "invalid": 1}
    shop.draw("0")  # the same image, uploaded again
    assert refresh.run(shop.rows).counts == {"unchanged": 3}
    shop.draw("1", product=(20, 60, 180))
    three = refresh.run(shop.rows)
    assert three.counts == {"unchanged": 2, "changed": 1}
    assert [row["change"] for row in three.processed_rows] == ["image (its content)"]
    assert connection.counters.images == 4

    assert names_in(refresh.paths.ledger)
    manifest = list(read_manifest(refresh.destination))
    assert {row["sku"] for row in manifest if row["status"] == "live"} == {"S0", "S1", "S2"}
    for row in manifest:
        assert shop.fs.info(f"{shop.container}/shop/images/{row['path']}")["size"] == row["size"]
    kept = shop.kept()
    assert len(kept) > 20
    pushed = json.dumps(
        [outcome.pushed for run in (one, three) for outcome in run.results.values()], default=str
    )
    for text in (*kept.values(), pushed.encode(), caplog.text.encode()):
        assert b"sig=" not in text.replace(b"sig=REDACTED", b"")
        assert KEY.encode() not in text


@pytest.mark.parametrize("attempt", range(2))
def test_of_two_runs_at_once_each_row_is_submitted_once(
    shop: Shop, connection: Any, endpoint: str, connect: Callable[..., str], attempt: int
):
    """Each run has a connection of its own, so that no listing is shared."""
    other = Refresh(
        shop.destination(connect(endpoint, *reversed(key_words()))),
        shop.refresh.run_task,
        shop.refresh.task_instance,
        shop.refresh.options,
        run_count=100,
    )
    refreshes = (shop.refresh, other)
    assert refreshes[0].paths.destination.fs is not refreshes[1].paths.destination.fs
    catalog = shop.refresh.put_catalog(shop.rows)
    planned, generated = threading.Barrier(2), threading.Barrier(2)

    def whole_run(refresh: Refresh) -> Run:
        planned.wait(60)
        run = refresh.plan(shop.rows, catalog=catalog)
        generated.wait(60)
        for shard in range(run.plan.get("shards", 0)):
            refresh.generate(run, shard)
            refresh.check(run, shard)
        return refresh.finish(run) if "plan_id" in run.plan else run

    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(whole_run, refreshes))
    assert connection.counters.images == len(shop.rows), [run.results for run in runs]
    done = [row["sku"] for run in runs if run.plan.get("shards") for row in run.processed_rows]
    assert sorted(done) == sorted(row["sku"] for row in shop.rows)
    assert shop.refresh.run(shop.rows).counts == {"unchanged": 3}
    assert {row["sku"] for row in shop.refresh.manifest()} == {"S0", "S1", "S2"}
    assert connection.counters.images == len(shop.rows)


# --- lost answers -----------------------------------------------------------------------------------


@pytest.fixture
def lossy(shop: Shop, proxy: Proxy, connect: Callable[..., str]) -> Shop:
    """A shop whose destination is behind a proxy that loses answers."""
    shop.refresh.destination = shop.destination(connect(proxy.url, *key_words()))
    quick_retries(shop.refresh.destination)
    return shop


def test_a_lost_answer_to_a_commit_is_not_a_lost_race(lossy: Shop, proxy: Proxy, connection: Any):
    """Each exclusive creation takes effect, but its answer is lost; the SDK then finds its own blob."""
    names = [f"_bgrep/ledger/metadata-{number:08}.json" for number in range(1, 5)]
    losses = [proxy.lose(f"^PUT .*/shop/images/{name}$") for name in (*names, "manifests/00000001.json")]
    one = lossy.refresh.run(lossy.rows[:1])
    assert [loss.lost for loss in losses] == [1] * len(losses)
    refused = [request for request, status in proxy.answers if status == 409]
    assert len(refused) >= len(losses), "the SDK has repeated each of them"
    assert one.outcomes == {"generated/passed": 1}, one.results
    assert lossy.refresh.plan(lossy.rows[:1]).counts == {"unchanged": 1}
    assert connection.counters.images == 1


@pytest.mark.parametrize("number", [1, 2])
def test_a_commit_that_stays_without_an_answer_is_safe(
    lossy: Shop, proxy: Proxy, connection: Any, number: int
):
    """The blob is there, but no repeated request is answered either. A retry continues with what is there."""
    blob = rf"^PUT .*/metadata-{number:08}\.json$"
    loss, losses = proxy.lose(blob), proxy.lose(blob, times=99, status=409)
    refresh, rows = lossy.refresh, lossy.rows[:1]
    first = refresh.plan(rows).results["plan"]
    assert loss.lost == 1
    assert losses.lost >= 3
    losses.times = 0
    assert first.state == "up_for_retry", first
    assert isinstance(first.error, BgRepError)
    assert connection.counters.submits == 0
    refresh.is_count_fixed = True  # Airflow retries the task
    again = refresh.run(rows)
    assert again.outcomes == {"generated/passed": 1}, again.results
    refresh.is_count_fixed = False
    assert refresh.plan(rows).counts == {"unchanged": 1}
    assert connection.counters.images == 1


def test_a_lost_answer_to_a_plain_write_is_repeated(lossy: Shop, proxy: Proxy, connection: Any):
    loss = proxy.lose(r"^PUT .*\.(png|jpg|parquet|jsonl)$", times=5)
    one = lossy.refresh.run(lossy.rows[:1])
    assert loss.lost == 5
    assert one.outcomes == {"generated/passed": 1}, one.results
    assert connection.counters.images == 1


# --- signed URLs and rights -------------------------------------------------------------------------


def test_a_signed_url_is_what_the_service_can_read(folder: Any):
    conn_id = connection_of(folder)
    for name in NAMES:
        path = f"{folder.path}/{name}"
        folder.fs.pipe_file(path, name.encode())
        url = readable_url(f"abfs://{path}", conn_id, 600)
        assert "sig=" in url
        assert "sp=r&" in url, "it allows to read, and nothing else"
        assert requests.get(url, timeout=10).content == name.encode()
        assert requests.put(url, b"x", headers={"x-ms-blob-type": "BlockBlob"}, timeout=10).status_code == 403
    found = versions([f"abfs://{folder.path}/{name}" for name in NAMES], conn_id)
    assert len(set(found.values())) == len(NAMES)
    assert all(version.startswith("content_md5:") for version in found.values())


def test_a_connection_without_a_key_is_found_before_it_costs(
    shop: Shop, connection: Any, endpoint: str, connect: Callable[..., str], caplog: Any
):
    caplog.set_level(logging.DEBUG)
    sas = sas_of(shop.container, "rl")
    conn_id = connect(endpoint, f"SharedAccessSignature={sas}")
    plan = shop.refresh.plan(shop.rows, source_conn_id=conn_id).results["plan"]
    assert plan.state == "failed"
    assert isinstance(plan.error, BgRepError)
    assert "cannot sign URLs" in str(plan.error)
    signature = sas.partition("sig=")[2].partition("&")[0]
    assert signature not in str(plan.error) + caplog.text
    assert connection.counters.submits == 0


def test_an_anonymous_connection_is_found_before_it_costs(
    shop: Shop, connection: Any, endpoint: str, connect: Callable[..., str]
):
    one = shop.refresh.run(shop.rows, source_conn_id=connect(endpoint))
    assert one.counts == {"invalid": 3}
    assert b"AuthorizationFailure" in get_bytes(one.files.invalid_rows)
    assert connection.counters.submits == 0


def test_rows_that_can_be_read_are_submitted_without_the_others(
    shop: Shop, connection: Any, endpoint: str, connect: Callable[..., str]
):
    conn_id = connect(endpoint, f"SharedAccessSignature={sas_of(shop.container, 'rl')}")
    public = {"sku": "web", "color": "red", "image": connection.image_task()["image"]}
    one = shop.refresh.plan([*shop.rows, public], source_conn_id=conn_id)
    assert one.counts == {"new": 1, "invalid": 3}
    assert "cannot sign URLs" in json.dumps(one.plan)


def test_a_sas_is_enough_for_a_destination(
    shop: Shop, connection: Any, endpoint: str, connect: Callable[..., str], caplog: Any
):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "azure.core.pipeline.policies.http_logging_policy")
    conn_id = connect(endpoint, f"SharedAccessSignature={sas_of(shop.container, 'rcwdl')}")
    shop.refresh.destination = shop.destination(conn_id)
    one = shop.refresh.run(shop.rows)
    assert one.outcomes == {"generated/passed": 3}, one.results
    kept = shop.kept()
    assert len(kept) > 20
    assert not any(b"sig=" in data for data in kept.values())
    assert "Request URL" in caplog.text, "Azure's SDK logs each request"
    assert "sig=" not in caplog.text.replace("sig=REDACTED", "")


def test_a_missing_right_is_final_and_named(
    shop: Shop, connection: Any, endpoint: str, connect: Callable[..., str]
):
    conn_id = connect(endpoint, f"SharedAccessSignature={sas_of(shop.container, 'rl')}")
    path = storage_path(shop.destination(conn_id)) / "a.json"
    with pytest.raises(Exception, match="not authorized") as caught:
        put_bytes(b"x", path)
    assert store_error(str(path), caught.value).is_final
    catalog = shop.refresh.put_catalog(shop.rows)
    shop.refresh.destination = shop.destination(conn_id)
    plan = shop.refresh.plan(shop.rows, catalog=catalog).results["plan"]
    assert isinstance(plan.error, BgRepError)
    assert "not authorized" in str(plan.error)
    assert connection.counters.submits == 0


# --- versions of sources ----------------------------------------------------------------------------


def test_an_image_uploaded_again_in_one_part_is_the_same(folder: Any):
    conn_id, url = connection_of(folder), f"abfs://{folder.path}/a.png"
    found = []
    for data in (b"image", b"other", b"image"):
        folder.fs.pipe_file(url, data)
        found.append((versions([url], conn_id)[url], folder.fs.info(url, refresh=True)["etag"]))
    (first, other, again), etags = zip(*found, strict=True)
    assert first == again == f"content_md5:{hashlib.md5(b'image', usedforsecurity=False).hexdigest()}"
    assert first != other
    assert len(set(etags)) == 3


def test_an_image_uploaded_in_blocks_has_its_etag_only(folder: Any):
    """Azure computes no checksum then. Uploaders can give one: ``azcopy --put-md5``."""
    conn_id, url = connection_of(folder), f"abfs://{folder.path}/a.png"
    found = []
    for _ in range(2):
        with folder.fs.open(url, "wb") as file:
            file.write(b"image")
        found.append(versions([url], conn_id)[url])
    assert all(version.startswith("etag:") for version in found)
    assert found[0] != found[1], "it counts as changed"


def test_a_version_does_not_depend_on_how_many_are_asked_for(folder: Any):
    conn_id = connection_of(folder)
    urls = [f"abfs://{folder.path}/{number}.png" for number in range(WHOLE_ABOVE + 1)]
    folder.fs.pipe({url: url.encode() for url in urls[2:]})
    with folder.fs.open(urls[1], "wb") as file:
        file.write(b"in blocks")
    many = versions(urls, conn_id)
    assert many[urls[0]] == "!no such object"
    assert {url: many[url] for url in urls[:20]} == versions(urls[:20], conn_id)
    assert many[urls[1]].startswith("etag:")
    assert many[urls[2]].startswith("content_md5:")
    folder.fs.pipe_file(urls[2], b"other")
    assert versions(urls, conn_id)[urls[2]] != many[urls[2]], "listed again"


def test_a_path_that_names_an_account_is_refused(shop: Shop, connection: Any):
    image = f"abfs://{shop.container}@shop.dfs.core.windows.net/in/0.png"
    one = shop.refresh.plan([*shop.rows[1:], {**shop.rows[0], "image": image}])
    assert one.counts == {"new": 2, "invalid": 1}
    assert f"abfs://{shop.container}/in/0.png" in get_bytes(one.files.invalid_rows).decode()


# --- results and journal ----------------------------------------------------------------------------


def test_results_and_journal_are_kept(folder: Any, connection: Any, run: Any, ti: Any, no_waiting: Any):
    def generate() -> Any:
        operator = BgRepGenerateOperator(
            task_id="generate",
            task_list=[connection.image_task(num_output=2)],
            destination=f"{folder}/images",
            journal_path=f"{folder}/journal",
            deferrable=False,
            poll_interval=0.2,
            timeout=60,
        )
        return run(operator, ti)

    first = generate()
    assert first.state == "success", first.error
    names = folder.fs.find(folder.path)
    assert any("/journal/" in name for name in names)
    assert len([name for name in names if name.endswith(".png")]) == 2
    ti.try_number = 2
    again = generate()
    assert again.state == "success", again.error
    assert connection.counters.images == 2, "the journal knows what was submitted"


def test_results_are_downloaded(folder: Any, connection: Any, run: Any, ti: Any, no_waiting: Any):
    key = BgRepHook().submit([connection.image_task(num_output=2)]).result_key
    outcome = run(BgRepDownloadOperator(task_id="download", result_key=key, destination=f"{folder}/out"), ti)
    assert outcome.state == "success", outcome.error
    for file in outcome.value["files"]:
        data = folder.fs.cat_file(file["path"].partition("@")[2])
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
