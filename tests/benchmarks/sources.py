# SPDX-License-Identifier: Apache-2.0
"""Image tasks for the emulator, whose results are drawn before the measurement.

Drawing a result costs the emulator about 0.1 s of CPU, and it caches results. So every image is fetched once
in advance, and the emulator only serves it during a run.
"""

from __future__ import annotations

import functools
import io
import json
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image, ImageDraw

from airflow_provider_bgrep.emulator.control import EmulatorClient
from airflow_provider_bgrep.protocol.limits import MIN_SIDE

_OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@functools.cache
def _image(name: str) -> bytes:
    """Return a product in front of a wall, or its mask, in the smallest allowed size."""
    is_mask = name == "mask.png"
    image = Image.new("L" if is_mask else "RGB", (MIN_SIDE, MIN_SIDE), 0 if is_mask else (200, 205, 210))
    box = [MIN_SIDE // 3, MIN_SIDE // 4, 2 * MIN_SIDE // 3, MIN_SIDE - 40]
    ImageDraw.Draw(image).rounded_rectangle(box, 30, fill=255 if is_mask else (180, 60, 40))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = _image(self.path.strip("/"))
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@contextmanager
def source_images() -> Iterator[str]:
    """Serve the source image and its mask from a thread, and yield their base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def image_tasks(base: str, count: int, distinct: int | None = None) -> list[dict[str, Any]]:
    """Return image tasks that differ in seed and prompt.

    :param base: URL of the sources.
    :param count: number of image tasks.
    :param distinct: number of distinct ones, which the others repeat.
    """
    return [
        {
            "image": f"{base}/source.png",
            "mask": f"{base}/mask.png",
            "positive_prompt": f"a marble table by a window, morning light, number {number}",
            "negative_prompt": "people, text",
            "guidance_scale": 7.5,
            "strength": 0.5,
            "seed": number,
            "steps": 20,
            "num_output": 1,
        }
        for number in (index % (distinct or count) for index in range(count))
    ]


def call(emulator: EmulatorClient, app_code: str, operation: str, data: dict[str, Any]) -> dict[str, Any]:
    """Call the API and return ``data``."""
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"APPCODE {app_code}",
        "X-Ca-Nonce": uuid.uuid4().hex,
    }
    body = json.dumps({"data": data}).encode()
    url = f"{emulator.url}/api/v1/bg-rep/{operation}"
    with _OPEN(urllib.request.Request(url, body, headers), timeout=120) as answer:
        return json.load(answer)["data"]  # type: ignore[no-any-return]


def draw(emulator: EmulatorClient, tasks: list[dict[str, Any]]) -> int:
    """Let the emulator draw the results of all image tasks.

    :return: average size of an image in bytes.
    """
    app_code = emulator.app_code
    emulator.configure(timing="instant", rate=None)
    urls: list[str] = []
    for start in range(0, len(tasks), 10):
        job = call(emulator, app_code, "submit", {"task_list": tasks[start : start + 10]})
        found = call(emulator, app_code, "query", {"result_key": job["result_key"]})["task_list"]
        urls += [url for one in found for url in one["results"]]

    def fetch(url: str) -> int:
        with _OPEN(url, timeout=300) as answer:
            return len(answer.read())

    with ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(fetch, urls))
    emulator.reset()
    return sum(sizes) // len(sizes)
