# SPDX-License-Identifier: Apache-2.0
"""What a plan takes for the same image, and where its images may be."""

from __future__ import annotations

import errno
import io
import json
from typing import Any

import pyarrow.parquet as pq
import pytest
from bgrep_harness.runs import Destination, Run, row

from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.report.write import write_report
from airflow_provider_bgrep.catalog.source.images import fetch, readable_url
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import connection_of, storage_path

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")

SIGNATURE, PASSWORD = "canary0signature", "canary0password"


def catalog(*urls: str, **cells: Any) -> list[dict[str, Any]]:
    return [row(f"S{number}", image=url, **cells) for number, url in enumerate(urls)]


def reasons(run: Run) -> list[str]:
    return [one["reason"] for one in run.problems]


# --- the same image ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_url_written_in_another_way_is_not_submitted_again(destination):
    """F1, F2."""
    one = ("https://a.b/%e6%8b%a1.jpg", "https://a.b/~x/a.jpg", "https://straße.example/ä.jpg")
    two = (
        "https://A.B/%E6%8B%A1.jpg",
        "https://a.b:443/%7Ex/a.jpg",
        "https://xn--strae-oqa.example/%c3%a4.jpg",
    )
    first = destination.refresh(catalog(*one))
    assert [item["image_url"] or item["image"] for item in first.work_items] == [
        # What is sent is what the catalog says, and not the form that identifies it.
        "https://a.b/%e6%8b%a1.jpg",
        "https://a.b/~x/a.jpg",
        "https://xn--strae-oqa.example/%C3%A4.jpg",
    ]
    assert destination.refresh(catalog(*two)).counts == {"unchanged": 3}
    assert sum(destination.billed.values()) == 3


@pytest.mark.slow
def test_two_images_are_not_taken_for_one(destination):
    """F3."""
    destination.refresh(catalog("https://a.b/x?t=front&sign=x"))
    assert destination.plan(catalog("https://a.b/x?t=back&sign=x"), max_rebuy_share=1).counts == {
        "changed": 1
    }


@pytest.mark.slow
def test_urls_signed_in_each_run_are_not_submitted_again(destination):
    """F4."""
    form = "https://abc.supabase.co/storage/v1/object/sign/shop/mug.png?token=eyJ{0}.eyJ{0}.sig{0}"
    destination.refresh(catalog(form.format(1), mask=form.format(7)))
    assert destination.refresh(catalog(form.format(2), mask=form.format(8))).counts == {"unchanged": 1}


def form_of(run: int) -> list[dict[str, Any]]:
    """URLs whose signature has a form that is not known."""
    return catalog(
        *(f"https://a.b/{name}.jpg?w=8&sess={run}{name}" for name in "abc"), mask=f"https://a.b/m?Sess={run}"
    )


@pytest.mark.slow
def test_parameters_that_an_option_names_do_not_count(destination):
    """F4."""
    ignoring = {"ignored_url_parameters": ["sess"]}
    first = destination.refresh(form_of(1), **ignoring)
    assert [item["image_url"] for item in first.work_items] == [one["image"] for one in form_of(1)]
    assert destination.refresh(form_of(2), **ignoring).counts == {"unchanged": 3}
    changed = form_of(3)
    changed[1]["image"] = changed[1]["image"].replace("w=8", "w=9")
    assert destination.plan(changed, max_rebuy_share=1, **ignoring).states == {"S1": "changed"}


@pytest.mark.slow
def test_parameters_may_be_named_after_the_first_run(destination):
    """F4: what was submitted before is recognized, so that the option helps when it is needed."""
    destination.refresh(form_of(1))
    assert destination.plan(form_of(2), max_rebuy_share=1).counts == {"changed": 3}
    ignoring = {"ignored_url_parameters": '["sess"]'}
    assert destination.refresh(form_of(3), **ignoring).counts == {"unchanged": 3}
    assert destination.refresh(form_of(4), **ignoring).counts == {"unchanged": 3}
    assert sum(destination.billed.values()) == 3
    edited = [one | {"positive_prompt": "on snow"} if one["sku"] == "S2" else one for one in form_of(5)]
    assert destination.plan(edited, **ignoring).states == {"S2": "changed"}
    assert destination.plan(form_of(5), edition="spring", **ignoring).counts == {"changed": 3}


@pytest.mark.slow
@pytest.mark.parametrize("first", ["https://a.b/x.jpg?sess=1", "https://a.b/x.jpg"])
@pytest.mark.parametrize("outcomes", [("generated", "failed"), ("failed", "generated")], ids=" ".join)
def test_of_several_submits_of_one_image_the_best_counts(destination, first, outcomes):
    """F4: the option is set after the same image was submitted twice."""
    for url, outcome in zip((first, "https://a.b/x.jpg?sess=2"), outcomes, strict=True):
        destination.refresh(catalog(url), {"S0": outcome}, max_rebuy_share=1)
    run = destination.refresh(catalog("https://a.b/x.jpg?sess=3"), ignored_url_parameters=["sess"])
    assert run.counts == {"unchanged": 1}
    assert sum(destination.billed.values()) == 2


@pytest.mark.slow
def test_a_plan_says_which_option_helps_if_only_queries_differ(destination):
    """F4."""

    def signed_by(run: int) -> list[dict[str, Any]]:
        return catalog(*(f"https://a.b/{number}.jpg?sess={run}" for number in range(30)))

    destination.refresh(signed_by(1))
    run = destination.plan(signed_by(2))
    assert run.plan.needs_approval
    assert "image (only its query): 30 rows" in run.xcom["explained"]
    assert "ignored_url_parameters" in run.xcom["explained"]
    assert destination.plan(signed_by(3), ignored_url_parameters="sess").counts == {"unchanged": 30}


@pytest.mark.parametrize("value", [["a b"], ["a=b"], [1], {"a": 1}, ["a", ""], "[a", ["a&b"]])
def test_names_of_parameters_are_checked(destination, value):
    """F4."""
    with pytest.raises(InvalidInput, match="ignored_url_parameters"):
        destination.plan(form_of(1), ignored_url_parameters=value)


def write_in_parts(s3: Any, url: str, data: bytes, size: int) -> None:
    """Write an object as the AWS CLI does, with a checksum of the whole object."""
    bucket, key, _ = s3.split_path(url)
    names = {"Bucket": bucket, "Key": key}
    how = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
    upload = s3.call_s3("create_multipart_upload", **names, **how)["UploadId"]
    parts = []
    for number, start in enumerate(range(0, len(data), size), 1):
        part = data[start : start + size]
        made = s3.call_s3("upload_part", **names, PartNumber=number, UploadId=upload, Body=part)
        parts.append({"PartNumber": number, "ETag": made["ETag"]})
    s3.call_s3("complete_multipart_upload", **names, UploadId=upload, MultipartUpload={"Parts": parts})
    if "ChecksumType" not in s3.call_s3("head_object", **names, ChecksumMode="ENABLED"):
        pytest.skip("before version 5.2, moto's server does not compute checksums of whole objects")


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 25], ids=["one by one", "by listing"])
def test_the_same_bytes_in_other_parts_are_not_submitted_again(s3, s3_folder, tmp_path, count):
    """F5: where the store has a checksum of the whole object."""
    destination = Destination(
        CatalogPaths(storage_path(str(tmp_path / "shop"))), {"source_conn_id": connection_of(s3_folder)}
    )
    urls = [f"s3://{s3_folder.path}/{number}.png" for number in range(count)]
    for url in urls:
        s3.pipe_file(url, b"small")
    write_in_parts(s3, urls[0], b"a" * (11 << 20), 5 << 20)
    etag = s3.info(urls[0])["ETag"]
    destination.refresh(catalog(*urls))
    write_in_parts(s3, urls[0], b"a" * (11 << 20), 6 << 20)
    s3.invalidate_cache()
    assert s3.info(urls[0])["ETag"] != etag
    s3.pipe_file(urls[1], b"small")  # with a new date
    assert destination.plan(catalog(*urls)).counts == {"unchanged": count}
    write_in_parts(s3, urls[0], b"b" * (11 << 20), 6 << 20)
    assert destination.plan(catalog(*urls), max_rebuy_share=1).states == {"S0": "changed"}


@pytest.mark.slow
def test_a_store_that_does_not_answer_changes_no_row(s3, s3_folder, tmp_path, monkeypatch):
    """F5. Without the checksum, the ETag of an object in parts would be taken for its version."""
    destination = Destination(
        CatalogPaths(storage_path(str(tmp_path / "shop"))), {"source_conn_id": connection_of(s3_folder)}
    )
    urls = [f"s3://{s3_folder.path}/{number}.png" for number in range(2)]
    s3.pipe_file(urls[1], b"small")
    write_in_parts(s3, urls[0], b"a" * (6 << 20), 5 << 20)
    destination.refresh(catalog(*urls))

    def busy(self: Any, operation: str, **parameters: Any) -> Any:
        raise OSError(errno.EBUSY, "Please reduce your request rate.")

    with monkeypatch.context() as patched:
        patched.setattr(type(s3), "call_s3", busy)
        run = destination.plan(catalog(*urls))
    assert run.counts == {"unchanged": 1, "invalid": 1}
    assert "reduce your request rate" in run.problems[0]["reason"]
    assert destination.plan(catalog(*urls)).counts == {"unchanged": 2}


# --- where images may be ------------------------------------------------------------------------------


WITH_CREDENTIALS = [
    f"{scheme}://{place}/a.png"
    for scheme in ("s3", "S3A", "oss", "gs", "abfs")
    for place in (
        *("KEY:canary@shop", "KEY:canary/more@shop", "KEY:can/ca/nary@shop", "KEY%3Acanary@shop"),
        *("conn:canary@KEY:canary@shop", "KEY:canary@shop.dfs.core.windows.net"),
    )
]
"""Paths as older tools write them."""


@pytest.mark.parametrize("column", ["image", "mask", "view", "sku"])
def test_credentials_in_a_path_are_shown_nowhere(
    destination: Destination, files: dict[str, bytes], caplog, column: str
):
    """L1, L3: neither in the log, nor in a file of the plan or the report."""
    caplog.set_level("INFO")
    rows = [{**row(f"b{number}"), column: cell} for number, cell in enumerate(WITH_CREDENTIALS)]
    run = destination.plan([row("a"), *rows], source_conn_id="shop")
    write_report(run.store)
    assert run.counts == {"new": 1, "invalid": len(rows)}
    assert {one["column"] for one in run.problems} == {"sku" if column == "view" else column}
    for secret in ("canary", "/nary"):
        assert secret not in caplog.text
        assert [name for name, data in files.items() if secret.encode() in data] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [
        "https://bob:canary@cdn.example/mug.png",
        "https://media-export:canary-canary-canary-canary@cdn.example/mug.png",
        "s3://AKIAIOSFODNN7EXAMPLE:canary/bPxRfiCYEXAMPLE@shop/mug.png",
        "a mug, see https://media-export:canary-canary-canary@cdn.example/mug.png",
        f"https://cdn.example/{'x' * 40}/mug.png?Expires=1&Signature=canary",
    ],
)
@pytest.mark.parametrize(
    "template", ["a mug{% if stock > 0 %} in stock{% endif %}", "{{ stock | round }} mugs", "{{ stock + 1 }}"]
)
def test_credentials_are_redacted_before_a_cell_is_cut(destination, files, caplog, cell: str, template: str):
    caplog.set_level("INFO")
    rows = [row("a", stock="1"), row("b", stock=cell)]
    run = destination.refresh([{**one, "positive_prompt": template} for one in rows])
    write_report(run.store)
    assert (run.counts, sum(destination.billed.values())) == ({"new": 1, "invalid": 1}, 1)
    assert "canary" not in caplog.text
    assert [name for name, data in files.items() if b"canary" in data] == []


def test_credentials_in_a_path_are_not_used():
    """L1: no store is asked; the message says what to do."""
    for read in (lambda url: readable_url(url, "shop", 60), lambda url: fetch(url, None, 9)):
        for url in ("s3://KEY:canary@shop/a.png", "s3://KEY:can/ary@shop/a.png", "gs://KEY:canary"):
            with pytest.raises(OSError, match="credentials") as refused:
                read(url)
            assert "canary" not in str(refused.value)


def test_no_cell_names_a_connection(destination, caplog):
    """L1."""
    rows = catalog(
        "s3://other_conn@bucket/key.jpg",
        "S3://other_conn@bucket/key.jpg",
        "gs://@bucket/key.jpg",
        "https://a.b/x.jpg",
    )
    rows[3]["mask"] = "s3://other_conn@bucket/mask.png"
    run = destination.plan(rows, source_conn_id="shop")
    assert run.counts == {"invalid": 4}
    assert all("names the connection" in reason and "source_conn_id" in reason for reason in reasons(run))
    assert [one["column"] for one in run.problems] == ["image", "image", "image", "mask"]
    for read in (
        lambda: readable_url(rows[0]["image"], "shop", 60),
        lambda: fetch(rows[0]["image"], None, 9),
    ):
        with pytest.raises(OSError, match="other_conn"):
            read()


def test_a_default_names_no_other_connection_either(destination):
    """L1."""
    run = destination.plan(catalog("https://a.b/x.jpg"), defaults={"mask": "s3://other@bucket/mask.png"})
    assert run.counts == {"invalid": 1}


def test_a_cell_may_name_the_connection_of_the_options(s3, s3_folder, tmp_path):
    """L1."""
    conn_id = connection_of(s3_folder)
    destination = Destination(CatalogPaths(storage_path(str(tmp_path / "shop"))), {"source_conn_id": conn_id})
    s3.pipe_file(f"s3://{s3_folder.path}/a.png", b"a")
    assert destination.plan(catalog(f"s3://{conn_id}@{s3_folder.path}/a.png")).counts == {"new": 1}


PREFIXES = ["https://cdn.example/shop/", "https://img.example", "s3://shop/images"]


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("https://cdn.example/shop/a.jpg?w=8", True),
        ("https://CDN.example:443/shop/a.jpg", True),
        ("https://img.example/a.jpg", True),
        ("https://cdn.example/shopping/a.jpg", False),
        ("https://cdn.example/shop/../a.jpg", False),
        ("https://cdn.example/shop/%2e%2e/a.jpg", False),
        ("http://cdn.example/shop/a.jpg", False),
        ("https://cdn.example.evil.example/shop/a.jpg", False),
        ("https://img.example@evil.example/a.jpg", False),
        ("https://evil.example/https://img.example/a.jpg", False),
        ("https://img.example:8443/a.jpg", False),
    ],
)
def test_images_are_at_allowed_places_only(destination, url, is_allowed):
    """L1."""
    run = destination.plan(catalog(url), allowed_image_prefixes=PREFIXES)
    assert run.counts == ({"new": 1} if is_allowed else {"invalid": 1})
    if not is_allowed:
        assert "allowed_image_prefixes" in reasons(run)[0]


@pytest.mark.parametrize(
    "url", ["https://evil.example\\@img.example/a.jpg", "https://cdn.example/shop/\\..\\..\\in/a.jpg"]
)
def test_a_url_that_is_read_in_two_ways_is_at_no_allowed_place(destination, url):
    run = destination.plan(catalog(url), allowed_image_prefixes=PREFIXES)
    assert (run.counts, run.submits) == ({"invalid": 1}, [])


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("s3://shop/images/a.jpg", True),
        ("S3://shop/images/deep/a.jpg", True),
        ("s3://shop/images-of-others/a.jpg", False),
        ("s3://shop/images/../private/a.jpg", False),
        ("s3://other/images/a.jpg", False),
        ("gs://shop/images/a.jpg", False),
    ],
)
def test_paths_are_at_allowed_places_only(destination, s3_folder, url, is_allowed):
    """L1."""
    versions = {url: "etag:1"}
    options = {"allowed_image_prefixes": PREFIXES, "source_conn_id": connection_of(s3_folder)}
    with destination.draft(catalog(url), lambda urls: versions, **options) as draft:
        assert draft.plan.counts["new" if is_allowed else "invalid"] == 1


@pytest.mark.parametrize(
    "value", [["shop/images"], ["s3://"], ["https://a.b/?x=1"], [1], {"a": "b"}, ["s3://c@b/x"]]
)
def test_prefixes_are_checked(destination, value):
    """L1."""
    with pytest.raises(InvalidInput, match="allowed_image_prefixes"):
        destination.plan(form_of(1), allowed_image_prefixes=value)


# --- secrets ------------------------------------------------------------------------------------------

SIGNED = f"https://user:{PASSWORD}@shop.example/mask.png?Expires=4102444800&OSSAccessKeyId=LTAI&Signature={SIGNATURE}"


def test_signed_urls_of_options_are_in_the_work_items_only(destination, files, caplog):
    """D1, L3."""
    caplog.set_level("DEBUG")
    run = destination.plan(
        [row("a"), row("b", category="toys"), row("c", steps="many")],
        defaults={"mask": SIGNED},
        categories={"toys": {"mask": SIGNED.replace("mask", "toy")}},
        price_per_image=1,
        approve_above=1,
    )
    assert {item["mask_url"] for item in run.work_items} == {SIGNED, SIGNED.replace("mask", "toy")}
    stored = {path: data for path, data in files.items() if "work_items" not in path}
    assert any("options" in path for path in stored)
    shown = [*stored.values(), json.dumps(run.xcom).encode(), caplog.text.encode()]
    for secret in (SIGNATURE, PASSWORD):
        assert not any(secret.encode() in data for data in shown)
    assert run.store.config.defaults == {"mask": "https://shop.example/mask.png"}


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{PASSWORD}@shop.example/catalog.csv?X-Amz-Signature={SIGNATURE}",
        f"memory://shop/catalog.csv?X-Amz-Signature={SIGNATURE}",
        f"ftp://user:{PASSWORD}@shop.example/catalog.csv",
    ],
)
def test_a_signed_catalog_is_named_without_its_signature(destination, files, caplog, url):
    """L3."""
    caplog.set_level("DEBUG", logger="airflow_provider_bgrep")
    with pytest.raises(Exception, match=r".") as caught:
        destination.plan(url)
    shown = [str(caught.value), repr(caught.value), caplog.text, *map(repr, files.values())]
    for secret in (SIGNATURE, PASSWORD):
        assert not any(secret in text for text in shown), shown


@pytest.mark.slow
@pytest.mark.parametrize("name", ["access_token", "api_key", "password", "signature", "token"])
@pytest.mark.parametrize("ignored", [True, False])
def test_ignored_parameters_are_in_the_work_items_only(destination, files, name, ignored):
    """What no rule knows as a signature is a part of the image's address, unless an option names it."""
    options = {"ignored_url_parameters": [name]} if ignored else {}
    rows = catalog(f"https://shop.example/mug.png?{name}={PASSWORD}&size=2")
    run = destination.refresh(rows, **options)
    write_report(run.store)
    assert destination.refresh(rows, ignored_url_parameters=[name]).counts == {"unchanged": 1}
    assert sum(destination.billed.values()) == 1
    found = {path for path, data in files.items() if PASSWORD in _text(path, data)}
    in_work_items = {path for path in found if path.endswith("work_items.parquet")}
    assert len(in_work_items) == 1
    assert (found == in_work_items) is ignored


def _text(path: str, data: bytes) -> str:
    """The text of a file; that of a Parquet file is compressed."""
    if path.endswith(".parquet"):
        return str(pq.read_table(io.BytesIO(data)).to_pylist())
    return data.decode("latin-1")
