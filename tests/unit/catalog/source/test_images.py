# SPDX-License-Identifier: Apache-2.0
"""The catalog's own images: their content is known by what a store tells, and they are read and signed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_bgrep.catalog.source.images import fetch, place_problem, readable_url, versions
from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.connection import Settings
from airflow_provider_bgrep.storage import connection_of

NAMES = ["a.jpg", "a b.jpg", "a#b.jpg", "a?b.jpg", "a%20b.jpg", "ü.jpg", "a+b.jpg", "deep//x.jpg", "*.jpg"]
SIGNATURE = "canary0signature"


@pytest.fixture
def source_folder(s3, s3_folder) -> tuple[str, str]:
    """A folder of images on S3, and the connection it is reached with."""
    for name in NAMES:
        s3.pipe_file(f"{s3_folder.path}/{name}", name.encode())
    return f"s3://{s3_folder.path}", connection_of(s3_folder)


def test_versions_are_the_same_read_one_by_one_or_by_listing(source_folder):
    folder, conn_id = source_folder
    few = versions([f"{folder}/{name}" for name in NAMES], conn_id)
    assert len(set(few.values())) == len(NAMES)
    assert all(version.startswith("etag:") for version in few.values())
    # More than twenty of a folder are looked up by listing it, which must come to the same.
    missing = [f"{folder}/missing-{i}.jpg" for i in range(30)]
    many = versions([*(f"{folder}/{name}" for name in NAMES), *missing], conn_id)
    assert {url: many[url] for url in few} == few
    assert {many[url] for url in missing} == {"!no such object"}


@pytest.mark.slow
def test_an_image_is_identified_by_its_content_not_by_its_name(s3, source_folder):
    folder, conn_id = source_folder
    url = f"{folder}/a.jpg"
    (before,) = versions([url], conn_id).values()
    s3.pipe_file(url, b"another image")
    (after,) = versions([url], conn_id).values()
    s3.pipe_file(url, b"a.jpg")
    (again,) = versions([url], conn_id).values()
    assert (before == again, before == after) == (True, False)


def test_a_listing_that_is_kept_hides_no_change(s3, s3_endpoint, source_folder):
    folder, conn_id = source_folder
    url = f"{folder}/a.jpg"
    (before,) = versions([url], conn_id).values()
    s3.ls(folder, detail=True)
    assert s3.dircache, "this process has kept the listing"
    type(s3)(endpoint_url=s3_endpoint, skip_instance_cache=True).pipe_file(url, b"another image")
    (after,) = versions([url], conn_id).values()
    assert before != after
    assert fetch(url, conn_id, 100) == b"another image"


@pytest.mark.parametrize("count", [1, 30], ids=["one by one", "by listing"])
def test_a_missing_object_has_a_reason(source_folder, count: int):
    folder, conn_id = source_folder
    found = {
        place: set(versions([f"{place}/{i}.jpg" for i in range(count)], conn_id).values())
        for place in (f"{folder}/nothing", "s3://no-such-bucket-of-ours/x")
    }
    assert set(map(tuple, found.values())) == {("!no such object",)}
    (version,) = versions(["s3://"], conn_id).values()
    assert version.startswith("!")


@pytest.fixture(params=["s3_folder", "oss_folder"], ids=["S3", "OSS"])
def store_folder(request) -> ObjectStoragePath:
    """A folder on a store, with a connection of its own."""
    return request.getfixturevalue(request.param)


def put_each(folder: ObjectStoragePath, names: Iterable[str]) -> list[str]:
    """Objects with a content of their own, and their paths without a connection."""
    root = str(folder.path)
    for name in names:
        folder.fs.pipe_file(f"{root}/{name}", name.encode())
    return [f"{folder.protocol}://{root}/{name}" for name in names]


@pytest.mark.parametrize("place", ["in/", "in//", "in//sub", "/", "in"])
def test_versions_in_a_folder_do_not_depend_on_their_number(store_folder, place: str):
    """A key may have empty names: in//0.jpg is not in the folder in."""
    names = [f"{place}/{n}.jpg" for n in range(12)]
    others = {"in", "in/", "in//", "in//sub"} - {place}
    put_each(store_folder, [f"{other}/{n}.jpg" for other in others for n in range(13)])
    urls = [*put_each(store_folder, names), f"{store_folder.protocol}://{store_folder.path}/{place}/12.jpg"]
    conn_id = connection_of(store_folder)
    single = {url: versions([url], conn_id)[url] for url in urls}
    assert [url for url, version in single.items() if version == "!no such object"] == urls[12:]
    assert versions(urls, conn_id) == single
    put_each(store_folder, [f"{place}/12.jpg"])
    again = versions(urls, conn_id)
    assert [url for url in urls if again[url] != single[url]] == urls[12:]


def test_a_key_on_s3_may_begin_with_a_slash(s3, s3_folder):
    """OSS has no such keys."""
    bucket = str(s3_folder.path).partition("/")[0]
    for n in range(12):
        s3.pipe_file(f"{bucket}//{n}.jpg", b"%d" % n)
        s3.pipe_file(f"{bucket}/{n}.jpg", b"other %d" % n)
    urls = [f"s3://{bucket}//{n}.jpg" for n in range(12)]
    conn_id = connection_of(s3_folder)
    assert versions(urls, conn_id) == {url: versions([url], conn_id)[url] for url in urls}


def test_a_file_counts_and_not_the_folder_of_its_name(store_folder):
    names = [*(f"{n}.jpg" for n in range(12)), "in", "a"]
    urls = put_each(store_folder, names)
    put_each(store_folder, ["0.jpg/inside.jpg", "in//inside.jpg", "/inside.jpg"])
    conn_id = connection_of(store_folder)
    urls.append(f"{store_folder.protocol}://{store_folder.path}/")
    assert versions(urls, conn_id) == {url: versions([url], conn_id)[url] for url in urls}


def test_a_folder_is_not_an_image(source_folder):
    folder, conn_id = source_folder
    assert set(versions([folder, f"{folder}/"], conn_id).values()) == {"!is a folder"}


def test_an_unreadable_path_is_reported_and_hides_no_other(source_folder, s3_folder):
    folder, conn_id = source_folder
    # s3fs takes what has no bucket for a fault of ours, and not for something missing.
    found = versions([f"{folder}/a.jpg", "s3:///"], conn_id)
    assert found[f"{folder}/a.jpg"].startswith("etag:")
    assert found["s3:///"].startswith("!")


def test_a_path_that_names_an_account_says_what_to_give():
    url = "abfs://shop@account.dfs.core.windows.net/in/a.jpg"
    assert "give abfs://shop/in/a.jpg" in versions([url])[url]


def test_a_signed_url_is_what_the_service_can_read(source_folder):
    folder, conn_id = source_folder
    for name in NAMES:
        url = readable_url(f"{folder}/{name}", conn_id, 600)
        assert url.startswith("http://")
        assert "ignature=" in url
        assert requests.get(url, timeout=10).content == name.encode()
    assert readable_url("https://shop.example/a.jpg?x=1", conn_id, 600) == "https://shop.example/a.jpg?x=1"


def test_images_on_object_storage_are_fetched_within_bounds(source_folder):
    folder, conn_id = source_folder
    for name in NAMES:
        assert fetch(f"{folder}/{name}", conn_id, 1_000) == name.encode()
    with pytest.raises(OSError, match=r"a\.jpg has more than 4 bytes"):
        fetch(f"{folder}/a.jpg", conn_id, 4)
    with pytest.raises(OSError, match=r"none\.jpg is not there"):
        fetch(f"{folder}/none.jpg", conn_id, 4)


# --- over http -------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """An image host behind a proxy: it sees whole URLs."""

    seen: list[tuple[str, str]] = []  # noqa: RUF012 - one list a server

    def do_GET(self) -> None:
        Handler.seen.append((self.path, self.headers.get("Authorization", "")))
        is_there = "missing" not in self.path
        self.send_response(200 if is_there else 404)
        self.end_headers()
        self.wfile.write(b"image")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    Handler.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_source_is_fetched_through_the_connections_proxy(web):
    """D2."""
    settings = Settings(base_url="https://api.example", app_code="code", proxies={"http": web})
    assert fetch("http://shop.example/image.jpg", None, 100, settings) == b"image"
    assert Handler.seen == [("http://shop.example/image.jpg", "")]


def test_credentials_in_a_url_are_used_but_not_in_any_message(web):
    """D1."""
    url = web.replace("http://", "http://shop:canary0password@")
    assert fetch(f"{url}/image.jpg", None, 100, allow_private=True) == b"image"
    assert Handler.seen[0][1].startswith("Basic ")
    with pytest.raises(OSError, match="answers HTTP 404") as caught:
        fetch(f"{url}/missing.jpg?Expires=1&Signature={SIGNATURE}", None, 100, allow_private=True)
    assert "missing.jpg" in str(caught.value)
    assert SIGNATURE not in str(caught.value)
    assert "canary0password" not in str(caught.value)


def test_a_signature_in_the_path_is_in_no_message():
    url = f"http://127.0.0.1:9/bcdn_token={SIGNATURE}&expires=1798000000&token_path=%2Fin%2F/in/x.jpg"
    with without_waiting(), pytest.raises(OSError, match="cannot be fetched") as caught:
        fetch(url, None, 100, allow_private=True)
    for message in (str(caught.value), place_problem(url, ["s3://shop/"])):
        assert SIGNATURE not in message
        assert "in/x.jpg" in message


def test_an_unreachable_host_is_reported_without_the_signature():
    with without_waiting(), pytest.raises(OSError, match="cannot be fetched: no connection") as caught:
        fetch(f"http://127.0.0.1:9/x.jpg?Signature={SIGNATURE}", None, 100, allow_private=True)
    assert SIGNATURE not in str(caught.value)
