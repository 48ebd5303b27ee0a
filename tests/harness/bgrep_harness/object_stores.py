# SPDX-License-Identifier: Apache-2.0
"""Stores beside Airflow, each with its connection, on which a test has all of a shop's files."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_bgrep.oss_emulator.inprocess import OssEmulator
from airflow_provider_bgrep.storage import put_bytes, storage_path
from bgrep_harness import s3
from bgrep_harness.images import draw_images


@dataclass(frozen=True)
class ObjectStore:
    """A store and its Airflow connection.

    :param scheme: the scheme of its paths.
    :param conn_id: the connection.
    :param connection: the connection, as JSON.
    :param make_bucket: creates a bucket, given its name and versioning (``off``, ``on`` or ``suspended``).
    :param secrets: what stands in the connection or in a signed URL, and nowhere else.
    """

    scheme: str
    conn_id: str
    connection: str
    make_bucket: Callable[[str, str], Any]
    secrets: Sequence[str]

    @property
    def settings(self) -> dict[str, str]:
        """The environment variable that gives Airflow the connection."""
        return {f"AIRFLOW_CONN_{self.conn_id.upper()}": self.connection}

    def new_shop(self, drawn: Path, versioning: str = "off") -> Shop:
        """Return a shop in a bucket of its own."""
        name = f"shop-{secrets.token_hex(5)}"
        self.make_bucket(name, versioning)
        return Shop(self, name, drawn)


@dataclass(frozen=True)
class Shop:
    """Source images in a bucket.

    :param store: the store.
    :param name: the bucket's name, which is also the name of the folder for all else.
    :param drawn: a local folder for the images before they are uploaded.
    """

    store: ObjectStore
    name: str
    drawn: Path

    @property
    def root(self) -> str:
        """The ``ObjectStoragePath`` of the folder for the catalog and what is made of it, as text."""
        return f"{self.store.scheme}://{self.store.conn_id}@{self.name}/{self.name}"

    def upload(self, number: int, **options: Any) -> dict[str, Any]:
        """Upload the image and the mask of a product and return its row.

        :param options: as for :func:`~bgrep_harness.images.draw_images`.
        """
        draw_images(self.drawn, **options)
        for name, drawn in ((f"{number:03}.png", "product.png"), ("mask.png", "mask.png")):
            target = f"{self.store.scheme}://{self.store.conn_id}@{self.name}/in/{name}"
            put_bytes((self.drawn / drawn).read_bytes(), storage_path(target))
        folder = f"{self.store.scheme}://{self.name}/in"
        return {
            "sku": f"{self.name}-{number:03}",
            "name": "mug",
            "color": f"red {self.name} {number}",
            "image": f"{folder}/{number:03}.png",
            "mask": f"{folder}/mask.png",
        }


def s3_store(url: str) -> ObjectStore:
    """Return the store of a server of S3.

    :param url: URL of the server.
    """
    return ObjectStore(
        "s3",
        s3.CONN_ID,
        s3.connection_json(url),
        lambda name, versioning: s3.make_bucket(url, name, versioning),
        (s3.SECRET, "X-Amz-Signature="),
    )


def oss_store(server: OssEmulator) -> ObjectStore:
    """Return the store of an emulator of OSS."""
    return ObjectStore(
        "oss",
        "shop_oss",
        server.connection_json,
        server.create_bucket,
        (server.access_key_secret, "x-oss-signature="),
    )
