# SPDX-License-Identifier: Apache-2.0
"""A store that cannot sign is found by the plan, before anything is submitted (C1)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import pytest
from bgrep_harness.runs import row
from bgrep_harness.s3 import with_temporary_credentials
from bgrep_harness.stores import Files, SigningFiles, folder_on

from airflow_provider_bgrep.catalog.model.states import RowState
from airflow_provider_bgrep.protocol.errors import StoreError

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")


class Unreachable(Files):
    """A store whose credentials cannot be requested at the moment."""

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> str:
        raise ConnectionResetError("reset")


NAMES = [f"{number}.jpg" for number in range(5)]


@pytest.fixture
def stores() -> dict[str, Any]:
    """Stores by scheme, reached with one connection: ``s3`` signs, ``gs`` does not."""
    conn_id = f"shop-{secrets.token_hex(4)}"
    found: dict[str, Any] = {"conn_id": conn_id}
    for scheme, cls in (("s3", SigningFiles), ("gs", Files), ("az", Unreachable)):
        found[scheme] = cls({f"/shop/{name}": name.encode() for name in NAMES})
        folder_on(found[scheme], scheme, conn_id)
    return found


def rows(*urls: str | Sequence[str]) -> list[dict[str, Any]]:
    """Rows with these images, and masks."""
    pairs = [(url, "") if isinstance(url, str) else tuple(url) for url in urls]
    return [row(f"S{i}", image=image, mask=mask) for i, (image, mask) in enumerate(pairs)]


def options(stores: dict[str, Any]) -> dict[str, Any]:
    return {"source_conn_id": stores["conn_id"], "check_sources": "off"}


@pytest.mark.slow
def test_rows_on_a_store_that_cannot_sign_stop_no_other(destination, stores):
    """C1."""
    catalog = rows("s3://shop/0.jpg", "gs://shop/1.jpg", "https://a.b/2.jpg", "gs://shop/3.jpg")
    run = destination.plan(catalog, **options(stores))
    assert run.counts == {"new": 2, "invalid": 2}
    assert [(one["sku"], one["column"]) for one in run.problems] == [("S1", "image"), ("S3", "image")]
    for one in run.problems:
        assert "gs://shop" in one["reason"]
        assert "NotImplementedError" in one["reason"]
        assert "source_conn_id" in one["reason"]
    assert {item["name"] for item in run.work_items} == {"S0", "S2"}
    assert run.plan.quote.images == 2
    assert any("cannot sign" in note for note in run.plan.notes)
    run.complete()
    assert destination.refresh(catalog, **options(stores)).counts == {"unchanged": 2, "invalid": 2}


def test_rows_on_such_a_store_take_nothing_of_the_budget(destination, stores):
    catalog = rows("gs://shop/0.jpg", "gs://shop/1.jpg", "s3://shop/0.jpg", "s3://shop/1.jpg")
    run = destination.plan(catalog, **options(stores), max_images_per_run=1)
    assert run.counts == {"new": 1, "over_budget": 1, "invalid": 2}
    assert run.submits == ["S2"]
    assert (run.plan.quote.images, run.plan.quote.backlog) == (1, 1)


def test_a_mask_that_cannot_be_signed_is_named(destination, stores):
    catalog = rows(
        ("s3://shop/0.jpg", "gs://shop/0.jpg"), ("gs://shop/1.jpg", "gs://shop/2.jpg"), "s3://shop/3.jpg"
    )
    run = destination.plan(catalog, **options(stores))
    assert [one["column"] for one in run.problems] == ["mask", "image, mask"]


@pytest.mark.slow
def test_one_path_of_each_store_is_signed(destination, stores):
    destination.plan(rows(*(f"s3://shop/{name}" for name in NAMES)), **options(stores))
    assert stores["s3"].signed == 1
    urls = rows(*(f"s3://shop/{name}" for name in NAMES), "s3://other/a.jpg")
    stores["s3"].files["/other/a.jpg"] = b""
    destination.plan(urls, **options(stores))
    assert stores["s3"].signed == 3


@pytest.mark.parametrize("odd", ["0.jpg", "4.jpg"])
def test_one_path_that_cannot_be_signed_condemns_no_other(destination, stores, odd):
    """The task that submits it reports it, and goes on."""

    class Odd(SigningFiles):
        def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> str:
            if path.endswith(odd):
                raise ValueError("an odd key")
            return super().sign(path, expiration, **kwargs)

    folder_on(Odd(stores["s3"].files), "s3", stores["conn_id"])
    catalog = rows(*(f"s3://shop/{name}" for name in NAMES))
    assert destination.plan(catalog, **options(stores)).counts == {"new": 5}


@pytest.mark.slow
def test_what_is_not_submitted_is_not_signed(destination, stores):
    catalog = rows("s3://shop/0.jpg", "https://a.b/0.jpg")
    destination.refresh(catalog, **options(stores))
    signed = stores["s3"].signed
    assert destination.plan(catalog, **options(stores)).counts == {"unchanged": 2}
    assert stores["s3"].signed == signed


def test_if_no_row_can_be_signed_the_plan_fails(destination, stores):
    with pytest.raises(StoreError, match="cannot sign URLs: gs://shop") as caught:
        destination.plan(rows("gs://shop/0.jpg", "gs://shop/1.jpg"), **options(stores))
    assert caught.value.is_final
    assert "Nothing was submitted" in str(caught.value)
    # Its lease is released: the next run does not wait.
    assert destination.plan(rows("s3://shop/0.jpg"), **options(stores)).counts == {"new": 1}


def test_a_store_that_does_not_answer_is_retried(destination, stores):
    with pytest.raises(StoreError, match="az://shop") as caught:
        destination.plan(rows("az://shop/0.jpg"), **options(stores))
    assert not caught.value.is_final


@pytest.mark.slow
def test_what_was_submitted_is_collected_all_the_same(destination, stores):
    first = destination.plan(rows("https://a.b/0.jpg"), **options(stores))
    first.complete({"S0": "pending"})
    run = destination.plan(rows("https://a.b/0.jpg", "gs://shop/1.jpg"), **options(stores))
    assert run.counts == {"pending": 1, "invalid": 1}
    assert {item["state"] for item in run.work_items} == {RowState.PENDING.value}


@pytest.mark.parametrize(("seconds", "is_noted"), [(1800, True), (4 * 3600, False)])
def test_credentials_that_end_too_early_are_noted(destination, s3, s3_folder, seconds, is_noted):
    s3.pipe_file(f"{s3_folder.path}/0.jpg", b"image")
    conn_id = f"role-{secrets.token_hex(4)}"
    folder_on(with_temporary_credentials(s3.endpoint_url, seconds), "s3", conn_id)
    run = destination.plan(rows(f"s3://{s3_folder.path}/0.jpg"), source_conn_id=conn_id, check_sources="off")
    noted = [note for note in run.plan.notes if "credentials" in note]
    assert len(noted) == is_noted
    assert all("29 minutes" in note and "2 hours" in note for note in noted)
