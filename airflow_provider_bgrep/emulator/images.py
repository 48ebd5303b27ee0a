# SPDX-License-Identifier: Apache-2.0
"""Fetches source images and masks over HTTP, and checks them as the API's documentation requires."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
from collections import OrderedDict
from typing import Any, Final

import aiohttp
import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from airflow_provider_bgrep.emulator.service import RefusalError
from airflow_provider_bgrep.protocol.limits import IMAGE_FORMATS, MAX_SIDE, MIN_SIDE

FETCH_SECONDS: Final = 30.0
FETCH_BYTES: Final = 64 * 1024 * 1024
KEPT_BYTES: Final = 128 * 1024 * 1024

REFUSED_MARK: Final = "bgrep-emulator"
"""Key of a PNG text chunk; an image with the text ``refused`` fails the compliance check."""

_SOFT: Final = 40
"""Tolerance for black and white in a mask, because JPEG masks are never exact."""

_SOFT_SHARE: Final = 0.05
"""Largest share of pixels between black and white, for soft edges."""


class UnfitError(ValueError):
    """An image or mask does not meet the requirements."""


class Images:
    """Fetches images, and caches the most recent ones."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    async def check(self, tasks: list[dict[str, Any]]) -> None:
        """Fetch and check all images and masks of a job, in the order of its image tasks.

        :raises RefusalError: for the first one that cannot be fetched (23500006), does not meet the
            requirements (23500007) or is marked as refused (23500005).
        """
        urls = dict.fromkeys(task[name] for task in tasks for name in ("image", "mask") if name in task)
        fetched = await asyncio.gather(*(self.fetch(url) for url in urls), return_exceptions=True)
        found = dict(zip(urls, fetched, strict=True))
        for index, task in enumerate(tasks):
            for name in ("image", "mask"):
                one = found.get(task.get(name, ""))
                if isinstance(one, BaseException):
                    raise RefusalError("23500006", f"task {index}: {name}: {one}")
            try:
                data, mask = found[task["image"]], found.get(task.get("mask", ""))
                marked = await asyncio.to_thread(_check, data, mask)
            except UnfitError as error:
                raise RefusalError("23500007", f"task {index}: {error}") from error
            if marked:
                raise RefusalError("23500005", f"task {index}: the image is marked as refused")

    async def fetch(self, url: str) -> bytes:
        """Fetch a URL.

        :raises OSError: if it cannot be read.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FETCH_SECONDS))
        try:
            async with self._session.get(url) as response:
                if response.status != 200:
                    raise OSError(f"{url} answers {response.status}")
                data = await response.content.read(FETCH_BYTES + 1)
                while not response.content.at_eof() and len(data) <= FETCH_BYTES:
                    data += await response.content.read(FETCH_BYTES + 1 - len(data))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise OSError(f"{url}: {type(error).__name__} {error}") from error
        if len(data) > FETCH_BYTES:
            raise OSError(f"{url} has more than {FETCH_BYTES} bytes")
        self._keep(url, data)
        return data

    async def load(self, url: str) -> bytes | None:
        """Return the content of a URL, from the cache if possible; ``None`` if it cannot be read."""
        if url in self._kept:
            return self._kept[url]
        try:
            return await self.fetch(url)
        except OSError:
            return None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _keep(self, url: str, data: bytes) -> None:
        self._kept.pop(url, None)
        self._kept[url] = data
        while sum(map(len, self._kept.values())) > KEPT_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)


def _check(image: bytes, mask: bytes | None) -> bool:
    """Check an image and its mask; verdicts are cached by content.

    :return: whether the image is marked as refused.
    :raises UnfitError: if one of them does not meet the requirements.
    """
    size, marked = _known(image, False)
    if mask is not None:
        mask_size, _ = _known(mask, True)
        if mask_size != size:
            raise UnfitError(f"the mask is {mask_size[0]} x {mask_size[1]}, the image {size[0]} x {size[1]}")
    return marked


_verdicts: dict[tuple[bytes, bool], tuple[tuple[int, int], bool] | str] = {}


def _known(data: bytes, is_mask: bool) -> tuple[tuple[int, int], bool]:
    key = (hashlib.sha256(data).digest(), is_mask)
    verdict = _verdicts.get(key)
    if verdict is None:
        try:
            image = opened(data)
            verdict = image.size, image.info.get(REFUSED_MARK) == "refused"
            if is_mask:
                as_mask(image)
        except UnfitError as error:
            verdict = str(error)
        if len(_verdicts) > 10_000:
            _verdicts.clear()
        _verdicts[key] = verdict
    if isinstance(verdict, str):
        raise UnfitError(verdict)
    return verdict


def opened(data: bytes) -> Image.Image:
    """Return an image, decoded completely.

    :raises UnfitError: if its format or size is not allowed, or it is truncated.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
        width, height = image.size
        if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
            raise UnfitError(f"{width} x {height}, each side may have {MIN_SIDE} to {MAX_SIDE} pixels")
        image.load()
    except UnidentifiedImageError as error:
        raise UnfitError(f"not an image in one of the formats {', '.join(IMAGE_FORMATS)}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UnfitError):
            raise
        raise UnfitError(f"the image cannot be read: {error}") from error
    return image


def as_mask(image: Image.Image) -> Image.Image:
    """Return the mask in an image of any of the three forms, in one channel where 255 is kept.

    :raises UnfitError: if it is not one of them.
    """
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "RGBA":
        return image.getchannel("A")
    if image.mode == "RGB":
        bands = np.asarray(image).astype(np.int16)
        if int((bands.max(axis=2) - bands.min(axis=2)).max()) > _SOFT:
            raise UnfitError("the mask has colors")
    elif image.mode not in ("1", "L"):
        raise UnfitError(f"the mask has mode {image.mode}, expected one or three channels or alpha")
    single = image.convert("L")
    between = sum(single.histogram()[_SOFT : 256 - _SOFT])
    if between > _SOFT_SHARE * image.width * image.height:
        raise UnfitError("the mask is not black and white")
    return single


def in_srgb(image: Image.Image) -> Image.Image:
    """Return an image in sRGB, without its color profile."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "RGBA"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError):  # viewers ignore a damaged profile
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            image = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB")) or image
    return image.convert("RGB")
