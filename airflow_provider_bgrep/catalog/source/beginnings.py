# SPDX-License-Identifier: Apache-2.0
"""Reads images before anything is submitted: beginnings, which say format and sides, and some masks."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.source.images import fetch, source_fetcher, stored_beginning
from airflow_provider_bgrep.isolation import MOST_FAILURES
from airflow_provider_bgrep.protocol.errors import reason_of
from airflow_provider_bgrep.store_paths import is_stored

if TYPE_CHECKING:
    from airflow_provider_bgrep.connection import Settings
    from airflow_provider_bgrep.images.decode import Sides

BYTES: Final = 64 * 1024
"""Bytes that are read first. The sides of nearly all JPEG and PNG files are in them."""

MAX_BYTES: Final = 64 * 1024 * 1024
"""Size limit of a file that must be read whole."""

_THREADS: Final = 16

_PIXELS: Final = 384
"""Longest side at which an image is decoded, if it can be decoded at a lower size."""

_GONE: Final = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the beginning of a file says.

    :param sides: the image's sides; ``None`` if they are not known.
    :param problem: why the service would refuse it; follows the column's name.
    :param unread: why it could not be read from here.
    :param modified: when its content last changed, as its host says, in seconds since 1970; ``None`` if it is
        not known.
    """

    sides: Sides | None = None
    problem: str = ""
    unread: str = ""
    modified: float | None = None


class SourceReader:
    """Reads images and masks. Its methods may be called from several threads.

    :param conn_id: the connection to read object storage with.
    :param settings: the ``bgrep`` connection, for its proxies and its CA bundle.
    :param allow_private: whether to read from private addresses, too.
    """

    def __init__(
        self, conn_id: str | None, settings: Settings | None, *, allow_private: bool = False
    ) -> None:
        self._conn_id, self._settings, self._allow_private = conn_id, settings, allow_private
        self._local = threading.local()
        self._failures: Counter[str] = Counter()
        """Consecutive failures of each host."""

    def beginnings(self, urls: Sequence[str], end_time: float) -> dict[str, Beginning]:
        """Read the beginnings of images.

        :param urls: URLs, or paths on object storage.
        :param end_time: deadline, wall clock in seconds. What is left then is not read.
        :return: by URL.
        """
        with ThreadPoolExecutor(_THREADS) as threads:
            found = threads.map(lambda url: self._beginning(url, end_time), urls)
            return dict(zip(urls, found, strict=True))

    def _beginning(self, url: str, end_time: float) -> Beginning:
        # A plan with nothing to submit does not need this import.
        from airflow_provider_bgrep.images.fetch import FetchError, UrlExpiredError

        host = url.partition("://")[2].partition("/")[0]
        if self._failures[host] >= MOST_FAILURES:
            return Beginning(unread="was not tried, because its host failed repeatedly")
        if time.time() >= end_time:
            return Beginning(unread="was not read: the deadline has passed")
        try:
            if is_stored(url):
                data, modified = stored_beginning(url, self._conn_id, BYTES)
            else:
                data, modified = self._fetcher().beginning(url, BYTES, end_time)
            self._failures[host] = 0
            return _beginning(data, modified, lambda: self._read(url))
        except UrlExpiredError as error:
            if error.status in _GONE:
                return Beginning(problem=f"{error}: correct the URL, or put the file there")
            return Beginning(unread=str(error))
        except FileNotFoundError:
            return Beginning(problem="does not exist: correct the path, or put the file there")
        except FetchError as error:
            self._failures[host] += 1
            return Beginning(unread=str(error))
        except Exception as error:  # whatever a store's library raises: see isolation.py
            self._failures[host] += 1
            return Beginning(unread=reason_of(error))

    def is_inverted_mask(self, image: str, mask: str) -> bool:
        """Return whether a mask seems to keep the background. ``False`` if a file cannot be read.

        :param image: the image: a URL, or a path on object storage.
        :param mask: its mask, likewise.
        """
        from airflow_provider_bgrep.images.decode import load
        from airflow_provider_bgrep.images.polarity import is_inverted, mask_channel

        try:
            source, found = (load(self._read(url), draft_side=_PIXELS) for url in (image, mask))
            alpha = source.convert("RGBA").getchannel("A") if source.has_transparency_data else None
            kept = mask_channel(found.convert("RGBA") if found.has_transparency_data else found)
            return is_inverted(source.convert("RGB"), kept, alpha)
        except Exception:  # see isolation.py; what is wrong with the files is found by other means
            return False

    def _read(self, url: str) -> bytes:
        return fetch(url, self._conn_id, MAX_BYTES, self._settings, allow_private=self._allow_private)

    def _fetcher(self) -> Any:
        """Return this thread's fetcher, which keeps its connections."""
        if not hasattr(self._local, "fetcher"):
            self._local.fetcher = source_fetcher(self._settings, MAX_BYTES, allow_private=self._allow_private)
        return self._local.fetcher


def _beginning(data: bytes, modified: float | None, read_all: Callable[[], bytes]) -> Beginning:
    from airflow_provider_bgrep.images.decode import UnreadableError, may_be_image, sides_of

    try:
        return Beginning(sides_of(data), modified=modified)
    except UnreadableError as error:
        reason = str(error)
    if len(data) >= BYTES and may_be_image(data):
        try:
            return Beginning(sides_of(read_all()), modified=modified)
        except UnreadableError as error:
            reason = str(error)
    return Beginning(problem=reason, modified=modified)
