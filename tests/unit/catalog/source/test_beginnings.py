# SPDX-License-Identifier: Apache-2.0
"""What the beginning of an image says, before anything is submitted; and hosts that are not asked again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from bgrep_harness.drawings import SIDE, packed, product
from PIL import Image, ImageChops

from airflow_provider_bgrep.catalog.source.beginnings import BYTES, SourceReader
from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.storage import connection_of

MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"


class Site:
    """An image host: files by name; another number is a status."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | int] = {}
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                site.asked.append(name)
                found = site.files.get(name, 404)
                body = found if isinstance(found, bytes) else b""
                self.send_response(200 if isinstance(found, bytes) else found)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Last-Modified", MODIFIED)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    threading.Thread(target=site.server.serve_forever, args=(0.02,), daemon=True).start()
    with without_waiting():
        yield site
    site.server.shutdown()
    site.server.server_close()


def read(site: Site, *names: str, reader: SourceReader | None = None, seconds: float = 60.0) -> list[Any]:
    urls = [f"{site.url}/{name}" for name in names]
    reader = reader or SourceReader(None, None, allow_private=True)
    found = reader.beginnings(urls, time.time() + seconds)
    assert list(found) == urls
    return list(found.values())


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_the_sides_and_the_time_of_an_image_are_found(site, form):
    image, _ = product(size=(500, 430))
    site.files["a"] = packed(image, form)
    (found,) = read(site, "a")
    assert (found.sides.stored, found.problem, found.unread) == ((500, 430), "", "")
    assert found.modified == 1445412480.0


def test_an_image_whose_sides_come_late_is_read_whole(site):
    image = packed(Image.new("RGB", (500, 430), "red"), "JPEG")
    comment = b"\xff\xfe" + (60_000).to_bytes(2, "big") + b"x" * 59_998
    site.files["a"] = image[:2] + 2 * comment + image[2:]
    assert len(site.files["a"]) > BYTES
    (found,) = read(site, "a")
    assert found.sides is not None
    assert found.sides.stored == (500, 430)


@pytest.mark.parametrize(
    ("answer", "is_problem"),
    [(404, True), (410, True), (403, False), (401, False), (500, False), (b"", True), (b"<html>", True)],
)
def test_what_would_be_refused_is_a_problem_the_rest_is_unread(site, answer, is_problem):
    site.files["a"] = answer
    (found,) = read(site, "a")
    assert found.sides is None
    assert (bool(found.problem), bool(found.unread)) == (is_problem, not is_problem)


def test_each_url_has_its_own_answer(site):
    site.files = {"a": packed(product()[0]), "b": 500, "c": b"text"}
    found = read(site, "a", "b", "c", "missing")
    assert [bool(one.sides) for one in found] == [True, False, False, False]
    assert [bool(one.problem) for one in found] == [False, False, True, True]


def test_private_addresses_are_not_read_unless_allowed(site):
    site.files["a"] = packed(product()[0])
    (found,) = read(site, "a", reader=SourceReader(None, None))
    assert found.sides is None
    assert found.unread
    assert site.asked == []


def test_past_the_deadline_nothing_is_read(site):
    site.files["a"] = packed(product()[0])
    (found,) = read(site, "a", seconds=-1)
    assert found.sides is None
    assert found.unread


def test_past_the_deadline_nothing_is_read_from_a_store(s3_folder):
    s3_folder.joinpath("a.png").write_bytes(packed(product()[0]))
    url = f"s3://{s3_folder.path}/a.png"
    reader = SourceReader(connection_of(s3_folder), None)
    assert reader.beginnings([url], time.time() + 60)[url].sides
    late = reader.beginnings([url], time.time() - 1)[url]
    assert (late.sides, late.problem, bool(late.unread)) == (None, "", True)


def test_a_host_that_fails_repeatedly_is_not_asked_again(site):
    site.files = {str(number): 500 for number in range(100)}
    reader = SourceReader(None, None, allow_private=True)
    for number in range(40):
        read(site, str(number), reader=reader)
    asked = len(site.asked)
    (found,) = read(site, "99", reader=reader)
    assert len(site.asked) == asked
    assert found.unread
    assert len(set(site.asked)) < 40


def test_a_missing_path_on_object_storage_is_a_problem(s3_folder):
    conn_id = connection_of(s3_folder)
    s3_folder.joinpath("good.png").write_bytes(packed(product()[0]))
    urls = [f"s3://{s3_folder.path}/{name}.png" for name in ("good", "missing")]
    found = SourceReader(conn_id, None).beginnings(urls, time.time() + 60)
    good, missing = (found[url] for url in urls)
    assert good.sides is not None
    assert good.sides.stored == (SIDE, SIDE)
    assert (missing.sides, bool(missing.problem), missing.unread) == (None, True, "")


def test_an_inverted_mask_is_recognized_and_doubt_is_not(site):
    image, mask = product()
    site.files = {
        "image": packed(image),
        "mask": packed(mask),
        "inverted": packed(ImageChops.invert(mask)),
        "text": b"no image",
    }
    reader = SourceReader(None, None, allow_private=True)
    found = {
        name: reader.is_inverted_mask(f"{site.url}/image", f"{site.url}/{name}")
        for name in ("mask", "inverted", "text", "missing")
    }
    assert found == {"mask": False, "inverted": True, "text": False, "missing": False}
