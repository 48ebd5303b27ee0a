# SPDX-License-Identifier: Apache-2.0
"""Reads the beginnings of images: enough for their format and their sides, without the pixels."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.catalog.source.images import fetch, source_fetcher, stored_beginning
from airflow_provider_bgrep.images.decode import Sides, UnreadableError, may_be_image, sides_of
from airflow_provider_bgrep.images.fetch import FetchError, UrlExpiredError
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import is_stored

if TYPE_CHECKING:
    from airflow_provider_bgrep.connection import Settings

BYTES: Final = 64 * 1024
"""Bytes that are read first. The sides of nearly all JPEG and PNG files are in them."""

MAX_BYTES: Final = 64 * 1024 * 1024
"""Size limit of a file that must be read whole."""

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


def beginning_reader(
    conn_id: str | None, settings: Settings | None, *, allow_private: bool = False
) -> Callable[[str, float], Beginning]:
    """Return a function that reads beginnings. It can be called from several threads.

    :param conn_id: the connection to read object storage with.
    :param settings: the ``bgrep`` connection, for its proxies and its CA bundle.
    :param allow_private: whether to read from private addresses, too.
    """
    local = threading.local()

    def read(url: str, end_time: float) -> Beginning:
        try:
            if is_stored(url):
                data, modified = stored_beginning(url, conn_id, BYTES)
            else:
                if not hasattr(local, "fetcher"):
                    # It keeps its connections.
                    local.fetcher = source_fetcher(settings, MAX_BYTES, allow_private=allow_private)
                data, modified = local.fetcher.beginning(url, BYTES, end_time)
            return _beginning(
                data,
                modified,
                lambda: fetch(url, conn_id, MAX_BYTES, settings, allow_private=allow_private),
            )
        except UrlExpiredError as error:
            if error.status in _GONE:
                return Beginning(problem=f"{error}: correct the URL, or put the file there")
            return Beginning(unread=str(error))
        except FileNotFoundError:
            return Beginning(problem="does not exist: correct the path, or put the file there")
        except FetchError as error:
            return Beginning(unread=str(error))
        except Exception as error:  # whatever a store's library raises: one row must not stop the plan
            return Beginning(unread=f"{type(error).__name__}: {sanitize_message(error)}".removesuffix(": "))

    return read


def _beginning(data: bytes, modified: float | None, read_all: Callable[[], bytes]) -> Beginning:
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
