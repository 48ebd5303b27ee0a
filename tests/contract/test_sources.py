# SPDX-License-Identifier: Apache-2.0
"""Whole runs whose sources are hosts as they are: what is fetched, from where, and what is said about it."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.profiles import ADOBE_RGB, converted, encoded
from bgrep_harness.refresh import Refresh, Run
from PIL import Image, ImageDraw, features
from PIL.PngImagePlugin import PngInfo

PASSWORD = "canary0password"
OURS = "airflow-provider-bgrep/"
SIDE = 420


def product(color: tuple[int, int, int] = (190, 40, 35)) -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), (200, 205, 210))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((130, 100, 290, 360), 30, fill=color)
    draw.rectangle((170, 180, 250, 230), fill=(240, 240, 230))
    return image


def mask() -> bytes:
    image = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(image).rounded_rectangle((130, 100, 290, 360), 30, fill=255)
    return encoded(image, "PNG")


class Host:
    """A web server. ``wanted`` says what of: a ``login``, another ``agent``, or ``patience``."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"product.png": encoded(product(), "PNG"), "mask.png": mask()}
        self.wanted = ""
        self.asked: list[tuple[str, str]] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                agent = self.headers.get("User-Agent", "")
                path = self.path.rpartition("/")[2].partition("?")[0]
                host.asked.append((self.path, agent))
                with contextlib.suppress(OSError):
                    host.answer(self, path, agent)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, handler: Any, path: str, agent: str) -> None:
        login = "Basic " + base64.b64encode(f"shop:{PASSWORD}".encode()).decode()
        status = 200 if path in self.files else 404
        if self.wanted == "login" and handler.headers.get("Authorization") != login:
            status = 401
        if self.wanted == "agent" and agent.startswith("python-requests"):
            status = 403
        if path.startswith("to-"):
            status = 302
        body = self.files.get(path, b"") if status == 200 else b""
        handler.send_response(status)
        if status == 302:
            handler.send_header("Location", base64.urlsafe_b64decode(path[3:]).decode())
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if self.wanted == "patience" and agent.startswith(OURS):
            for byte in body[:200]:
                handler.wfile.write(bytes([byte]))
                time.sleep(0.05)
            return
        handler.wfile.write(body)

    @property
    def asked_by_us(self) -> list[str]:
        """The paths that the worker asked for, and not the service."""
        return [path for path, agent in self.asked if agent.startswith(OURS)]


@pytest.fixture
def host() -> Iterator[Host]:
    found = Host()
    threading.Thread(target=found.server.serve_forever, args=(0.02,), daemon=True).start()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def refresh(connection: Any, run: Any, ti: Any, tmp_path: Path, no_waiting: None) -> Refresh:
    options = {"defaults": {"positive_prompt": "on snow", "steps": 15}}
    return Refresh(f"file://{tmp_path}/shop/images", run, type(ti), options)


def rows(host: str, name: str = "product.png") -> list[dict[str, Any]]:
    return [{"sku": "S1", "image": f"{host}/{name}", "mask": f"{host}/mask.png"}]


def flags(run: Run) -> str:
    return str([json.loads(row["flags"]) for row in run.processed_rows])


def stored(tmp_path: Path) -> str:
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "work_items" not in path.name]
    return "".join(path.read_bytes().decode(errors="replace") for path in files if path.suffix != ".csv")


@pytest.mark.slow
def test_credentials_in_the_url_of_a_source_work_and_stay_hidden(refresh, host, tmp_path, caplog):
    """D1."""
    caplog.set_level("DEBUG")
    host.wanted = "login"
    private = host.url.replace("http://", f"http://shop:{PASSWORD}@")
    run = refresh.run(rows(private))
    assert run.outcomes == {"generated/passed": 1}, flags(run)
    assert [row["image"] for row in refresh.manifest()] == [f"{host.url}/product.png"]
    assert refresh.run(rows(private.replace(PASSWORD, "another"))).counts == {"unchanged": 1}
    xcoms = json.dumps([str(result.pushed) for result in run.results.values()])
    for text in (stored(tmp_path), caplog.text, xcoms):
        assert PASSWORD not in text


@pytest.mark.slow
def test_a_host_that_refuses_http_libraries_is_read(refresh, host, monkeypatch):
    """D9."""
    host.wanted = "agent"
    assert refresh.run(rows(host.url)).outcomes == {"generated/passed": 1}
    assert all("(+https://" in agent for _, agent in host.asked if agent.startswith(OURS))
    monkeypatch.setenv("BGREP_USER_AGENT", "shop/1")
    refresh.run(rows(host.url, "product.png?v=2"))
    assert "shop/1" in {agent for _, agent in host.asked}


def png_with_metadata() -> bytes:
    info = PngInfo()
    info.add_text("comment", "x" * 2_000_000)
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>' + " " * 2_000_000)
    out = io.BytesIO()
    product().save(out, "PNG", pnginfo=info)
    return out.getvalue()


def turned(kind: str) -> bytes:
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    out = io.BytesIO()
    image = product()
    if kind == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        image.save(out, kind, pnginfo=info)
    else:
        image.save(out, kind, quality=95, xmp=xmp)
    return out.getvalue()


SOURCES = {
    "D4 much metadata": png_with_metadata,
    "D5 XMP orientation, JPEG": lambda: turned("JPEG"),
    "D5 XMP orientation, PNG": lambda: turned("PNG"),
    "D5 XMP orientation, WebP": lambda: turned("WEBP"),
    "D8 Adobe RGB": lambda: encoded(converted(product(), ADOBE_RGB), "PNG", ADOBE_RGB),
    "D8 Adobe RGB, JPEG": lambda: encoded(converted(product(), ADOBE_RGB), "JPEG", ADOBE_RGB),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_sources_as_they_come_pass(refresh, host, source):
    """D4, D5, D8."""
    host.files["source"] = source()
    run = refresh.run(rows(host.url, "source"))
    assert run.outcomes == {"generated/passed": 1}, flags(run)


OTHERS = {
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 500 500\n", "EPS"),
    "ICO": (b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0" + b"\0" * 2000, "ICO"),
    "PPM": (b"P6\n500 500\n255\n" + b"\0" * 750_000, "PNM"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 500, "HEIC"),
    "PDF": (b"%PDF-1.7\n" + b"\0" * 500, "PDF"),
}


@pytest.mark.parametrize(("data", "name"), OTHERS.values(), ids=OTHERS)
def test_other_formats_are_named_and_not_decoded(refresh, host, connection, data, name):
    """D6, D7, L4."""
    host.files["source"] = data
    run = refresh.run(rows(host.url, "source"))
    assert run.counts == {"invalid": 1}
    (problem,) = [json.loads(line) for line in Path(run.files.invalid_rows.path).read_text().splitlines()]
    assert name in problem["reason"]
    assert connection.counters.images == 0


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not read AVIF")
def test_an_avif_is_read_where_pillow_can(refresh, host):
    """D7."""
    host.files["source"] = encoded(product(), "AVIF")
    run = refresh.plan(rows(host.url, "source"))
    assert run.counts == {"new": 1}


# --- private addresses ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_sources_at_private_addresses_are_not_fetched(refresh, host, form):
    """L2."""
    url = host.url.replace("127.0.0.1", form)
    plan = refresh.plan(rows(url), allow_private_sources=False)
    assert host.asked == []
    assert plan.counts == {"new": 1}, "the service may be able to read it"
    assert "private or reserved address" in json.dumps(plan.plan)


@pytest.mark.slow
def test_a_source_is_fetched_where_private_addresses_are_allowed(refresh, host):
    """L2."""
    run = refresh.run(rows(host.url), allow_private_sources=True)
    assert run.outcomes == {"generated/passed": 1}
    assert host.asked_by_us


@pytest.mark.slow
def test_results_of_an_emulator_are_fetched_without_the_option(refresh, host):
    """L2: the rule for results is the connection's. The worker says the same of each private address."""
    run = refresh.run(rows(host.url), allow_private_sources=False)
    assert run.outcomes == {"generated/unchecked": 1}, flags(run)
    refusal = "is at a private or reserved address, from which images are not fetched"
    assert f"{refusal} (see allow_private_sources)" in flags(run)
    assert host.asked_by_us == []


@pytest.mark.slow
def test_a_redirect_to_a_private_address_needs_the_option(refresh, host):
    """L2."""
    target = base64.urlsafe_b64encode(f"{host.url}/product.png".encode()).decode()
    assert refresh.run(rows(host.url, f"to-{target}")).outcomes == {"generated/passed": 1}
    metadata = base64.urlsafe_b64encode(b"http://169.254.169.254/latest/meta-data/").decode()
    plan = refresh.plan(rows(host.url, f"to-{metadata}"), max_rebuy_share=1)
    assert "private or reserved address" in json.dumps(plan.plan)


def test_a_source_that_drips_is_unchecked(refresh, host, connection, monkeypatch):
    """D3."""
    settings = json.loads(connection.connection_json)
    extra = settings.get("extra") or {}
    extra = json.loads(extra) if isinstance(extra, str) else extra
    host.wanted = "patience"
    run = refresh.plan(rows(host.url), check_sources="off")
    refresh.generate(run, 0)
    settings["extra"] = {**extra, "timeout": 0.1}
    monkeypatch.setenv("AIRFLOW_CONN_BGREP_DEFAULT", json.dumps(settings))
    refresh.check(run, 0)
    assert run.outcomes == {"generated/unchecked": 1}
    assert "did not arrive within 1 s" in flags(run)
