# SPDX-License-Identifier: Apache-2.0
"""Source images for many image tasks: as small as the API takes them, from a server beside Airflow."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bgrep_demo.airflow import clean_environment, free_ports
from bgrep_demo.services import Service, Services
from PIL import Image, ImageDraw

from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS, MIN_SIDE

SIGNATURE = "canary0signature0of0a0source0url"
"""What signs the URLs of sources; it must turn up nowhere that a user did not put it."""

_SIGNED = f"Expires=4102444800&OSSAccessKeyId=LTAIcanary&Signature={SIGNATURE}"
_OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@dataclass(frozen=True)
class Images:
    """A server with one product and its mask.

    :param url: where it is.
    :param query: of every image's URL.
    """

    url: str
    query: str = _SIGNED

    def image_tasks(self, count: int, name: str, *, prompts: int | None = None) -> list[dict[str, Any]]:
        """Image tasks, no two of which are equal; every fifth asks for two images.

        :param name: of the list: no two lists of one session may share it.
        :param prompts: how many different prompts there are; as many as image tasks unless said. Of
            image tasks with the same prompt, the emulator draws one.
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
        """An image task.

        :param version: tells one image's URL from another's.
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
    """Draw a product and its mask, as small as the API takes them.

    :param product: its colour.
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


def serve_images(services: Services, folder: Path, log: Path) -> Images:
    """Draw a product and its mask, and serve them."""
    draw_images(folder)
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder)]
    services.start(Service("images", [*command, str(port)], clean_environment(), log))
    images = Images(f"http://127.0.0.1:{port}")

    def look() -> bool:
        try:
            with _OPEN(f"{images.url}/mask.png", timeout=10) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False

    services.until(look, "the images are served", 30)
    return images
