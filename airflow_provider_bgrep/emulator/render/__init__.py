# SPDX-License-Identifier: Apache-2.0
"""Draws the results: the foreground unchanged to the pixel, on a background from words of the prompt.

Without a diffusion model: words choose the scene and the palette, and code draws them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from airflow_provider_bgrep.emulator.images import Images

KEPT_BYTES: Final = 128 * 1024 * 1024

__all__ = ["Renderer"]


class Renderer:
    """Draws result images when they are fetched, in threads beside the event loop.

    :param images: loads the sources.
    """

    def __init__(self, images: Images) -> None:
        self._images = images
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="bgrep-render")
        self._kept: OrderedDict[Any, bytes] = OrderedDict()
        self._drawing: dict[Any, asyncio.Future[bytes]] = {}

    async def image(self, task: dict[str, Any], number: int, seed: str, backgrounds: str) -> bytes:
        """Return a result as PNG.

        :param task: the image task as it was submitted.
        :param number: number of the output image.
        :param seed: takes the place of the random seed that the service chooses if the task has none.
        :param backgrounds: as in the emulator's settings.
        """
        image = await self._images.load(task["image"])
        mask = await self._images.load(task["mask"]) if "mask" in task else None
        # By content, not by URL: two signatures of an image are the same drawing.
        rest = {name: value for name, value in task.items() if name not in ("image", "mask")}
        own_seed = seed if "seed" not in task else ""
        key = (image, mask, number, own_seed, backgrounds, tuple(sorted(rest.items())))
        if key in self._kept:
            return self._kept[key]
        if key not in self._drawing:
            from airflow_provider_bgrep.emulator.render.compose import compose

            loop = asyncio.get_running_loop()
            drawing = loop.run_in_executor(self._pool, compose, image, mask, task, number, seed, backgrounds)
            # Concurrent requests wait for the same drawing.
            self._drawing[key] = drawing
            drawing.add_done_callback(lambda done: self._keep(key, done))
        return await asyncio.shield(self._drawing[key])

    def _keep(self, key: Any, drawing: asyncio.Future[bytes]) -> None:
        del self._drawing[key]
        if not drawing.cancelled() and drawing.exception() is None:
            self._kept[key] = drawing.result()
            while sum(map(len, self._kept.values())) > KEPT_BYTES and len(self._kept) > 1:
                self._kept.popitem(last=False)

    def close(self) -> None:
        """Stop the threads without waiting for their drawings."""
        self._pool.shutdown(wait=False, cancel_futures=True)
