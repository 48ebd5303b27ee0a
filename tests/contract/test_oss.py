# SPDX-License-Identifier: Apache-2.0
"""All that is kept on object storage, on OSS: catalog, sources, destination, ledger, journal and manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.images import draw_images
from bgrep_harness.refresh import Refresh

from airflow_provider_bgrep.catalog import read_manifest
from airflow_provider_bgrep.catalog.source.images import readable_url, versions
from airflow_provider_bgrep.exceptions import BgRepConfigurationError
from airflow_provider_bgrep.hooks.bgrep import BgRepHook
from airflow_provider_bgrep.operators.bgrep import BgRepDownloadOperator, BgRepGenerateOperator
from airflow_provider_bgrep.storage import connection_of, names_in

PROMPT = {"positive_prompt": "A {{ color }} mug on snow", "steps": 15}
SOURCES = ("0", "1", "2")


class Shop:
    """A shop on OSS: a bucket, its connection, its products' images, and a catalog of them."""

    def __init__(self, folder: Any, refresh: Refresh, drawn: Path) -> None:
        self.fs, self.conn_id = folder.fs, str(connection_of(folder))
        self.bucket = folder.path.partition("/")[0]
        self.refresh, self.drawn = refresh, drawn
        refresh.destination = f"oss://{self.conn_id}@{self.bucket}/shop/images"
        refresh.options["source_conn_id"] = self.conn_id
        for name in SOURCES:
            self.draw(name)
        self.fs.put_file(str(drawn / "mask.png"), f"{self.bucket}/in/mask.png")

    def draw(self, name: str, **options: Any) -> None:
        """Put the image of a product."""
        draw_images(self.drawn, **options)
        self.fs.put_file(str(self.drawn / "product.png"), f"{self.bucket}/in/{name}.png")

    def row(self, name: str) -> dict[str, Any]:
        """The row of a product."""
        return {
            "sku": f"S{name}",
            "color": f"red {name}",
            "image": f"oss://{self.bucket}/in/{name}.png",
            "mask": f"oss://{self.bucket}/in/mask.png",
        }

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [self.row(name) for name in SOURCES]


@pytest.fixture
def shop(oss_folder: Any, connection: Any, run: Any, ti: Any, tmp_path: Path) -> Shop:
    options = {"defaults": PROMPT, "price_per_image": "0.2", "currency": "CNY", "shard_size": 2}
    return Shop(oss_folder, Refresh("", run, type(ti), options), tmp_path / "drawn")


@pytest.mark.slow
def test_three_runs_pay_for_exactly_what_changed(shop: Shop, connection: Any, oss_server: Any, caplog: Any):
    refresh = shop.refresh
    oss_server.forget_requests()
    one = refresh.run(
        [*shop.rows, {**shop.row("0"), "sku": "gone", "image": f"oss://{shop.bucket}/in/9.png"}]
    )
    assert one.outcomes == {"generated/passed": 3}, one.results
    assert one.counts == {"new": 3, "invalid": 1}
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
        assert shop.fs.info(f"{shop.bucket}/shop/images/{row['path']}")["size"] == row["size"]
    # Sources were fetched by the service at the public endpoint; all else is internal.
    hosts = {request.host for request in oss_server.requests if "x-oss-expires" in request.query}
    assert hosts == {f"{shop.bucket}.oss-cn-hangzhou.localhost"}
    assert_no_signature_is_kept(shop, one, caplog)


def assert_no_signature_is_kept(shop: Shop, run: Any, caplog: Any) -> None:
    kept = [shop.fs.cat_file(path) for path in shop.fs.find(f"{shop.bucket}/shop")]
    assert len(kept) > 20
    assert not any(b"x-oss-signature" in data or b"x-oss-credential" in data for data in kept)
    pushed = json.dumps([outcome.pushed for outcome in run.results.values()], default=str)
    assert "x-oss-signature" not in caplog.text + pushed


@pytest.mark.parametrize("versioning", ["on", "suspended"])
def test_a_bucket_with_versions_is_refused_before_it_costs(
    shop: Shop, connection: Any, oss_server: Any, versioning: str
):
    oss_server.set_versioning(shop.bucket, versioning)
    plan = shop.refresh.plan(shop.rows).results["plan"]
    assert plan.state == "failed"
    assert isinstance(plan.error, BgRepConfigurationError)
    assert shop.bucket in str(plan.error)
    assert "never enabled" in str(plan.error)
    assert connection.counters.submits == 0


def test_a_missing_right_is_named_before_it_costs(shop: Shop, connection: Any, oss_server: Any):
    fault = oss_server.inject(
        "error", operation="GetBucketVersioning", status=403, code="AccessDenied", times=99
    )
    plan = shop.refresh.plan(shop.rows).results["plan"]
    oss_server.clear_faults()
    assert fault.consumed
    assert isinstance(plan.error, BgRepConfigurationError)
    assert "oss:GetBucketVersioning" in str(plan.error)
    assert connection.counters.submits == 0


@pytest.mark.slow
def test_a_lost_answer_to_a_commit_is_not_a_lost_race(shop: Shop, connection: Any, oss_server: Any):
    """Each exclusive creation takes effect, but its answer is lost."""
    names = [f"_bgrep/ledger/metadata-{number:08}.json" for number in range(1, 5)]
    faults = [
        oss_server.inject("cut", operation="PutObject", key=f"shop/images/{name}", applied=True)
        for name in (*names, "manifests/00000001.json")
    ]
    oss_server.forget_requests()
    one = shop.refresh.run(shop.rows[:1])
    assert all(fault.exhausted for fault in faults)
    assert oss_server.counters.errors["FileAlreadyExists"] >= len(faults)
    assert one.outcomes == {"generated/passed": 1}, one.results
    assert shop.refresh.plan(shop.rows[:1]).counts == {"unchanged": 1}
    assert connection.counters.images == 1


def test_results_and_journal_are_kept(
    oss_folder: Any, connection: Any, run: Any, ti: Any, no_waiting: Any, tmp_path: Path
):
    def generate(**options: Any) -> Any:
        operator = BgRepGenerateOperator(
            task_id="generate",
            task_list=[connection.image_task(num_output=2)],
            destination=f"{oss_folder}/images",
            journal_path=f"{oss_folder}/journal",
            deferrable=False,
            poll_interval=0.2,
            timeout=60,
        )
        return run(operator, ti, **options)

    first = generate()
    assert first.state == "success", first.error
    names = oss_folder.fs.find(oss_folder.path)
    assert any("/journal/" in name for name in names)
    assert len([name for name in names if name.endswith(".png")]) == 2
    ti.try_number = 2
    again = generate()
    assert again.state == "success", again.error
    assert connection.counters.images == 2, "the journal knows what was submitted"


def test_results_are_downloaded_to_oss(oss_folder: Any, connection: Any, run: Any, ti: Any, no_waiting: Any):
    key = BgRepHook().submit([connection.image_task(num_output=2)]).result_key
    operator = BgRepDownloadOperator(task_id="download", result_key=key, destination=f"{oss_folder}/out")
    outcome = run(operator, ti)
    assert outcome.state == "success", outcome.error
    for file in outcome.value["files"]:
        data = oss_folder.fs.cat_file(file["path"].partition("@")[2])
        assert hashlib.sha256(data).hexdigest() == file["sha256"]


# --- versions of sources ----------------------------------------------------------------------------


def test_a_version_does_not_depend_on_the_size_of_parts(oss_folder: Any):
    """F5: an image that was uploaded again, in other parts, is the same image."""
    fs, conn_id = oss_folder.fs, connection_of(oss_folder)
    path = f"{oss_folder.path}/a.png"
    url = f"oss://{path}"
    found = set()
    for parts in ((b"1" * 102_400, b"2" * 102_400), (b"1" * 102_400 + b"2" * 102_400,)):
        upload = fs.uploads.start(*fs.bucket_and_key(path))
        for part in parts:
            upload.add(part)
        upload.complete()
        found.add(versions([url], conn_id)[url])
    (version,) = found
    assert version.startswith("crc64ecma:")
    assert version.endswith(" size:204800")


def test_a_version_does_not_depend_on_how_many_are_asked_for(oss_folder: Any):
    """G3: above some number, a folder is listed; a listing has no checksum."""
    fs, conn_id = oss_folder.fs, connection_of(oss_folder)
    urls = [f"oss://{oss_folder.path}/{number}.png" for number in range(25)]
    for url in urls[1:]:
        fs.pipe_file(url, url.encode())
    upload = fs.uploads.start(*fs.bucket_and_key(urls[0]))
    upload.add(b"in parts")
    upload.complete()
    many = versions([*urls, f"oss://{oss_folder.path}/none.png"], conn_id)
    assert many == {
        **versions(urls[:5], conn_id),
        **versions(urls[5:25], conn_id),
        f"oss://{oss_folder.path}/none.png": "!no such object",
    }
    assert many[urls[0]].startswith("crc64ecma:")
    assert many[urls[1]].startswith("etag:")


def test_a_source_is_signed_for_the_public_endpoint(oss_folder: Any, oss_server: Any):
    oss_folder.fs.pipe_file(f"{oss_folder.path}/雪.png", b"image")
    url = readable_url(f"oss://{oss_folder.path}/雪.png", connection_of(oss_folder), 7200)
    assert url.startswith(f"http://{oss_folder.path.partition('/')[0]}.oss-cn-hangzhou.localhost:")
    assert "x-oss-expires=7200" in url
