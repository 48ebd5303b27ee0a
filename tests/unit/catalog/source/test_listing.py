# SPDX-License-Identifier: Apache-2.0
"""A listing stops where asking one by one is cheaper (G3)."""

from __future__ import annotations

from typing import Any

import pytest
from bgrep_harness.s3 import observed_file_system
from bgrep_harness.stores import Files, folder_on

from airflow_provider_bgrep.catalog.source.images import versions
from airflow_provider_bgrep.catalog.source.listing import PAGE_COST, WHOLE_ABOVE, pages_of
from airflow_provider_bgrep.storage import connection_of

OBJECTS = 3_000
"""Entries of the folder: images, and one folder."""

PAGES = 3


@pytest.fixture(scope="module")
def bucket(s3_endpoint) -> str:
    """A bucket with 3,000 objects under a prefix, and a folder beside them."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # of the server, which is in this process
    store.create_bucket("many-objects", "us-east-1")
    for number in range(OBJECTS - 1):
        store.put_object("many-objects", f"shop/{number:05}.jpg", b"%d" % number)
    store.put_object("many-objects", "shop/sub/inside.jpg", b"inside")
    return "many-objects"


@pytest.fixture
def asked(s3_endpoint, bucket) -> tuple[str, str, list[str]]:
    """URL of the folder, connection, and the operations that were requested."""
    operations: list[str] = []
    s3 = observed_file_system(s3_endpoint, "before-call.s3", lambda model, **_: operations.append(model.name))
    conn_id = str(connection_of(folder_on(s3, "s3")))
    return f"s3://{bucket}/shop", conn_id, operations


def last_names(count: int) -> list[str]:
    return [f"{OBJECTS - 2 - number:05}.jpg" for number in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "lists", "heads"),
    [
        (5, 0, 5),
        (21, 1, 21),  # a million objects would cost the same
        (2 * PAGE_COST, 2, 2 * PAGE_COST),
        (3 * PAGE_COST, PAGES, 0),
    ],
)
def test_named_images_never_cost_much_more_than_one_by_one(asked, count, lists, heads):
    folder, conn_id, operations = asked
    found = versions([f"{folder}/{name}" for name in last_names(count)], conn_id)
    assert all(version.startswith("etag:") for version in found.values())
    assert len(set(found.values())) == count
    assert operations.count("ListObjectsV2") == lists
    assert len(operations) - lists == heads


def test_a_listing_stops_once_everything_is_found(asked):
    folder, conn_id, operations = asked
    first = [f"{folder}/{number:05}.jpg" for number in range(200)]
    assert len(versions(first, conn_id)) == 200
    assert operations == ["ListObjectsV2"]


@pytest.mark.slow
def test_what_a_complete_listing_lacks_is_not_there(asked):
    folder, conn_id, operations = asked
    urls = [f"{folder}/missing-{number}.jpg" for number in range(4 * PAGE_COST)]
    found = versions([*urls, f"{folder}/sub"], conn_id)
    assert {found[url] for url in urls} == {"!no such object"}
    assert found[f"{folder}/sub"] == "!is a folder"
    assert operations == ["ListObjectsV2"] * PAGES


def test_an_image_beyond_the_pages_is_asked_for(asked):
    folder, conn_id, operations = asked
    urls = [f"{folder}/{number:05}.jpg" for number in range(20)]
    found = versions([*urls, f"{folder}/{OBJECTS - 2:05}.jpg"], conn_id)
    assert {version.partition(":")[0] for version in found.values()} == {"etag"}
    assert operations == ["ListObjectsV2", "HeadObject"]


# --- stores that cannot be listed page by page --------------------------------------------------------


class Asked(Files):
    """A store that counts listings and single requests."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self.lists = self.infos = 0

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        self.lists += 1
        return super().ls(path, detail, **kwargs)

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        self.infos += 1
        return super().info(path, **kwargs)


@pytest.mark.parametrize(("count", "lists"), [(21, 0), (WHOLE_ABOVE, 0), (WHOLE_ABOVE + 1, 1)])
def test_other_stores_are_listed_for_many_images_only(count, lists):
    fs = Asked({f"/shop/a/{number}.jpg": b"" for number in range(count)})
    conn_id = str(connection_of(folder_on(fs, "gs")))
    found = versions([f"gs://shop/a/{number}.jpg" for number in range(count)], conn_id)
    assert len(found) == count
    assert not any(version.startswith("!") for version in found.values())
    assert (fs.lists, fs.infos) == (lists, 0 if lists else count)


@pytest.mark.slow
def test_a_complete_listing_ends_with_an_empty_page(s3, bucket):
    folder = type(folder_on(s3, "s3"))(f"s3://{bucket}/shop", conn_id=connection_of(folder_on(s3, "s3")))
    pages = list(pages_of(folder / "any", 100 * PAGE_COST))
    assert [len(page) for page in pages] == [1000, 1000, 1000, 0]
    assert list(pages_of(folder / "any", 1)) == []
