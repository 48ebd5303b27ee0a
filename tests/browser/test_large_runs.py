# SPDX-License-Identifier: Apache-2.0
"""Ten thousand rows, more images than a page may hold, and a page that is still loading."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.galleries import flagged, gallery, row, save_images
from playwright.sync_api import Page, expect

Visit = Callable[..., Page]

ROWS = 10_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gallery of a run of 10,000 rows."""
    rows = [row(f"R{n:05}", line=n, made=2, positive_prompt=f"prompt of {n} " * 20) for n in range(ROWS - 1)]
    rows.append(flagged("WANTING", "the product has other colors", line=ROWS))
    return gallery(rows, tmp_path_factory.mktemp("large"))


def test_each_of_10_000_rows_is_reached_on_bounded_pages(large: Path, visit: Visit):
    page = visit(large)
    expect(page.locator("#rows h2").first).to_have_text("WANTING")
    seen, most = page.evaluate(
        """() => {
          const seen = new Set();
          let most = 0;
          for (let turns = 0; turns < 1000; turns += 1) {
            for (const one of document.querySelectorAll("#rows article")) seen.add(one.id);
            most = Math.max(most, document.querySelectorAll("body *:not(script)").length);
            if (document.querySelector(".pager [aria-disabled=true]:last-child")) break;
            document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
          }
          return [seen.size, most];
        }"""
    )
    assert seen == ROWS
    assert most < 4000
    page.get_by_label("Search").fill("r07777")
    expect(page.locator("#rows h2")).to_have_text(["R07777"])


def bytes_of_a_row(rows: list[dict[str, Any]], folder: Path) -> int:
    """Return the size of a row's thumbnails in a page that has room for all of them."""
    (first, *_) = re.findall(rb'<script type="text/plain".*?</script>\n', gallery(rows, folder).read_bytes())
    return len(first)


def test_images_over_the_page_budget_come_from_their_files(tmp_path: Path, visit: Visit):
    rows = [row(f"R{n}", made=2, chosen=1) for n in range(9)]
    page_file = gallery(rows, tmp_path, budget=4 * bytes_of_a_row(rows, tmp_path))
    save_images(rows, page_file)
    page = visit(page_file)
    held = page.locator("script[type='text/plain']").evaluate_all(
        "(all) => all.map((one) => one.textContent.split(' ').map((text) => Boolean(text)))"
    )
    assert held[:2] == [[True, True, True, True]] * 2
    assert held[2:] == [[True, False, False, True]] * (len(held) - 2)
    assert 4 < len(held) < len(rows)
    expect(page.locator("#omitted")).to_contain_text("7 rows lack some thumbnails")
    expect(page.locator("#row3 .film")).to_have_text("1")
    image = page.locator("#row8 .big img").last
    image.scroll_into_view_if_needed()
    expect(image).to_have_js_property("naturalWidth", 256)
    expect(image).to_have_attribute("loading", "lazy")
    expect(page.locator("#row8 .big").first).to_have_class("tile big gone")
    expect(page.locator("#row8 .film")).to_have_text("12")


def test_unreachable_files_are_reported_and_not_shown_broken(tmp_path: Path, visitor: Any):
    rows = [row("A"), row("B")]
    page = visitor.open(gallery(rows, tmp_path, budget=bytes_of_a_row(rows, tmp_path)), "#row=0")
    message = "The full-size file cannot be loaded from here"
    expect(page.locator("#stale")).to_have_text(f"{message}; this is the thumbnail.")
    expect(page.locator(".after")).to_have_js_property("naturalWidth", 64)
    page.keyboard.press("ArrowDown")
    expect(page.locator("#details-name")).to_have_text("B")
    expect(page.locator("#stale")).to_have_text(f"{message}.")
    page.keyboard.press("Escape")
    expect(page.locator("#row1 .gone")).to_have_count(2)
    expect(page.locator("#row1").get_by_role("button", name="Image of B, published")).to_be_visible()
    assert all("ERR_FILE_NOT_FOUND" in complaint for complaint in visitor.complaints)
    visitor.complaints.clear()


def test_a_page_of_more_rows_than_it_may_hold_says_so(tmp_path: Path, visit: Visit):
    page_file = gallery([row("A"), row("B")], tmp_path)
    text = page_file.read_text().replace('"listed":2', '"listed":12345')
    page_file.write_text(text)
    expect(visit(page_file).locator("#omitted")).to_contain_text("2 of the run’s 12,345 rows")


@contextmanager
def stuttering(data: bytes, pause_at: int) -> Iterator[tuple[str, threading.Event]]:
    """Serve the first part of a page, and the rest once the event is set."""
    go_on = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:pause_at])
            self.wfile.flush()
            go_on.wait(60)
            self.wfile.write(data[pause_at:])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/report.html", go_on
    finally:
        go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_page_can_be_used_before_it_has_been_read_to_its_end(tmp_path: Path, visit: Visit):
    data = gallery([row(f"R{n:03}", line=n, files=[]) for n in range(300)], tmp_path).read_bytes()
    amid_images = data.index(b'id="t47"') + 60
    with stuttering(data, amid_images) as (url, go_on):
        page = visit(url)
        see = {n: page.locator(f"#row{n} .big img").first for n in (0, 46, 47, 96)}
        expect(see[0]).to_have_js_property("naturalWidth", 64)
        expect(see[46]).to_have_js_property("naturalWidth", 64)
        expect(see[47]).to_have_count(1)
        expect(see[47]).not_to_have_attribute("src", re.compile("."))
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.locator("#row96 .more").click()
        assert page.evaluate("document.readyState") == "loading"
        expect(see[96]).not_to_have_attribute("src", re.compile("."))
        go_on.set()
        expect(page.locator(".after")).to_have_js_property("naturalWidth", 64)
        expect(see[96]).to_have_js_property("naturalWidth", 64)
