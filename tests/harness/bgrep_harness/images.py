# SPDX-License-Identifier: Apache-2.0
"""Source images for many image tasks: of the smallest allowed size, from a server beside Airflow."""

from __future__ import annotations

import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bgrep_demo.airflow import clean_environment, free_ports
from bgrep_demo.services import Service, Services
from PIL import Image, ImageDraw

from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS, MIN_SIDE

SIGNATURE = "canary0signature0of0a0source0url"
"""The signature in source URLs; it must not appear anywhere but where a user put it."""

_SIGNED = f"Expires=4102444800&OSSAccessKeyId=LTAIcanary&Signature={SIGNATURE}"
_OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@dataclass(frozen=True)
class Images:
    """A server with an image of a product and its mask.

    :param url: its URL.
    :param query: query string of every image URL.
    """

    url: str
    query: str = _SIGNED

    def image_tasks(self, count: int, name: str, *, prompts: int | None = None) -> list[dict[str, Any]]:
        """Return distinct image tasks; every fifth asks for two images.

        :param count: number of image tasks.
        :param name: name of the list, unique in the session.
        :param prompts: number of distinct prompts, by default one for each image task. The emulator draws
            image tasks with the same prompt once.
        """
        return [
            self.image_task(
                f"{name} {i % (prompts or count)}, on snow",
                i,
                id=f"{name}-{i:04d}",
                num_output=2 if (i % (prompts or count)) % 5 == 4 else 1,
            )
            for i in range(count)
        ]

    def image_task(self, prompt: str, version: int, **fields: Any) -> dict[str, Any]:
        """Return an image task.

        :param version: makes the image's URL unique.
        """
        task: dict[str, Any] = {field.name: field.default for field in IMAGE_TASK_FIELDS.values()}
        task |= {
            "image": f"{self.url}/product.png?v={version}&{self.query}",
            "mask": f"{self.url}/mask.png?{self.query}",
            "positive_prompt": prompt,
            "seed": 0,
            "steps": 15,
            **fields,
        }
        return {key: value for key, value in task.items() if value is not None}


def draw_images(folder: Path, product: tuple[int, int, int] = (180, 60, 40)) -> None:
    """Draw a product and its mask in the smallest allowed size.

    :param product: its color.
    """
    folder.mkdir(parents=True, exist_ok=True)
    box = [MIN_SIDE // 3, MIN_SIDE // 4, 2 * MIN_SIDE // 3, MIN_SIDE - 40]
    kinds: Mapping[str, tuple[str, Any, Any]] = {
        "product.png": ("RGB", (200, 205, 210), product),
        "mask.png": ("L", 0, 255),
    }
    for name, (mode, ground, fill) in kinds.items():
        image = Image.new(mode, (MIN_SIDE, MIN_SIDE), ground)
        ImageDraw.Draw(image).rounded_rectangle(box, 30, fill=fill)
        image.save(folder / name)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the files of a folder from this process, for as long as the context lasts.

    :return: the server's URL.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def serve_images(services: Services, folder: Path, log: Path) -> Images:
    """Draw a product and its mask and serve them."""
    draw_images(folder)
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder)]
    services.start(Service("images", [*command, str(port)], clean_environment(), log))
    images = Images(f"http://127.0.0.1:{port}")

    def is_served() -> bool:
        try:
            with _OPEN(f"{images.url}/mask.png", timeout=10) as response:
                return bool(response.status == 200)
        except urllib.error.URLError:
            return False

    services.until(is_served, "the images are served", 30)
    return images
