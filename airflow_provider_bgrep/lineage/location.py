# SPDX-License-Identifier: Apache-2.0
"""Where something is kept: one form, from which both an asset's URI and a dataset's name are made.

It has no user, password, connection, query or fragment, so that whatever is made of it holds no secret.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from airflow_provider_bgrep.store_paths import without_credentials

ASSET_SCHEME: Final = "bgrep"
"""Scheme of the URIs of this provider's assets."""

MOST_SOURCES: Final = 20
"""Sources of images that are named; a dataset for each image would flood whoever collects them."""

_ALIASES: Final = {
    **dict.fromkeys(("", "local"), "file"),
    **dict.fromkeys(("abfss", "az", "adl"), "abfs"),
    "s3a": "s3",
    "gcs": "gs",
}
"""Schemes that mean the same store."""

_TEMPLATE: Final = "template"
"""In an asset's URI, the store of a destination that is not known when the DAG is parsed."""


@dataclass(frozen=True, slots=True)
class Location:
    """A file, a folder, a bucket or a host.

    :param store: its store: ``s3``, ``gs``, ``abfs``, ``oss``, ``file``, ``https`` and so on.
    :param parts: the bucket, the container or the host, then the names of folders and file; of a local file,
        the names only.
    """

    store: str
    parts: tuple[str, ...]

    @classmethod
    def of(cls, path: object) -> Location:
        """The location that a path or a URL names.

        ``s3a://conn@shop//images/?x=1`` is ``s3`` with the parts ``shop`` and ``images``.
        """
        scheme, separator, rest = str(path).strip().partition("://")
        if not separator:
            scheme, rest = "file", scheme
        place = rest.partition("?")[0].partition("#")[0]
        # A secret may have a slash, so credentials do not end at the first one.
        place = without_credentials(f"{scheme}://{place}").partition("://")[2]
        host, slash, names = place.partition("/")
        store = _store(scheme)
        host = host.rpartition("@")[2]
        if store in ("http", "https"):
            host = host.lower()
        return cls(store, _parts(f"{host}{slash}{names}"))

    @classmethod
    def of_asset(cls, uri: str) -> Location:
        """The location that an asset's URI names, such as ``bgrep://s3/shop/images``.

        :raises ValueError: if it names no store, or nothing in a store other than the local files.
        """
        scheme, separator, rest = uri.strip().partition("://")
        host, _, names = rest.partition("?")[0].partition("#")[0].partition("/")
        store = _store(host.rpartition("@")[2])
        parts = _parts("/".join(map(unquote, names.split("/"))))
        if scheme.lower() != ASSET_SCHEME or not separator or not host or (not parts and store != "file"):
            raise ValueError(
                f"The asset's URI must be {ASSET_SCHEME}://STORE/BUCKET/FOLDER, such as "
                f"{ASSET_SCHEME}://s3/shop/images or {ASSET_SCHEME}://file/data/images. To make it from a "
                "destination, call airflow_provider_bgrep.assets.bgrep.create_asset."
            )
        return cls(store, parts)

    @property
    def root(self) -> Location:
        """The bucket, the container or the host."""
        return Location(self.store, self.parts[:1])

    @property
    def is_known(self) -> bool:
        """Whether this is a place, and not the template of one."""
        return self.store != _TEMPLATE

    @property
    def text(self) -> str:
        """The location as a URL."""
        return f"{self.store}://{'/' if self.store == 'file' else ''}{'/'.join(self.parts)}"

    @property
    def asset_uri(self) -> str:
        """The URI of the asset that is kept there."""
        return f"{ASSET_SCHEME}://{'/'.join(quote(part, safe='') for part in (self.store, *self.parts))}"

    @property
    def dataset(self) -> tuple[str, str]:
        """Namespace and name of the dataset, as OpenLineage's naming convention has them.

        A local folder is ``file`` and its path, a folder in a bucket ``s3://shop`` and its key, a whole
        bucket or host ``/``. OpenLineage has no rule for ``oss``, which is named like ``s3``. A container of
        Azure is ``abfss://container``, because its account is known to the connection only.
        """
        if self.store == "file":
            return "file", f"/{'/'.join(self.parts)}"
        scheme = "abfss" if self.store == "abfs" else self.store
        host, *names = self.parts or ("",)
        name = "/".join(names)
        if scheme in ("http", "https"):
            name = f"/{name}"
        return f"{scheme}://{host}", name or "/"


def template_location(digest: str) -> Location:
    """The location of a destination that is a template, by a hash of its text."""
    return Location(_TEMPLATE, (digest,))


def sources_of(urls: Iterable[object]) -> tuple[str, ...]:
    """Return the hosts and buckets of images, as URLs, the most frequent first, at most :data:`MOST_SOURCES`.

    :param urls: URLs and paths of images and masks. Others are left out.
    """
    found = Counter(Location.of(url).root for url in urls if "://" in str(url))
    return tuple(root.text for root, _ in found.most_common(MOST_SOURCES))


def _store(scheme: str) -> str:
    return _ALIASES.get(scheme.lower(), scheme.lower())


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part not in ("", "."))
