# SPDX-License-Identifier: Apache-2.0
"""``oss://`` for universal-pathlib, on which ``ObjectStoragePath`` of Airflow 3 is built.

Without it, universal-pathlib asks fsspec for a class and finds that of ``ossfs``, which is not used here.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from typing import Any, cast

import upath._flavour as flavours
from fsspec import AbstractFileSystem
from upath.implementations.cloud import CloudPath

from airflow_provider_bgrep.fs.oss import get_fs


class _OssFlavour(AbstractFileSystem):
    """How paths are written: ``oss://bucket/key``, as on S3. It is not a filesystem that works."""

    protocol = "oss"
    root_marker = ""


def _register_flavour() -> None:
    # For universal-pathlib only: fsspec.filesystem("oss") stays what it is.
    others = cast("MutableMapping[str, Any]", flavours.class_registry)  # it is only read
    flavours.class_registry = ChainMap({"oss": _OssFlavour}, others)
    for setting in ("netloc_is_anchor", "supports_empty_parts"):
        flavours.WrappedFileSystemFlavour.protocol_config[setting].add("oss")


_register_flavour()


class OssPath(CloudPath):
    """A path on OSS. Without options, it uses the connection ``oss_default``."""

    __slots__ = ()

    @classmethod
    def _fs_factory(
        cls, urlpath: str, protocol: str, storage_options: Mapping[str, Any]
    ) -> AbstractFileSystem:
        if storage_options:
            return super()._fs_factory(urlpath, protocol, storage_options)
        return get_fs(None)
