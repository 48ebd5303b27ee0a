# SPDX-License-Identifier: Apache-2.0
"""What identifies the content of an object, of all that a store says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_CHECKSUMS: Final = ("crc32c", "md5hash", "md5", "content_md5", "checksum")
"""Names of checksums, the best first. On Google Cloud Storage, a composed object has no MD5."""


def content_version(info: Mapping[str, Any]) -> str:
    """Return the version of an object's content: a checksum, else the ETag, else size and time.

    An ETag comes after the checksums, because in some stores it changes with each upload of the same content
    (Azure), or with an object's permissions.

    :param info: what a file system says of the object, one by one or in a listing.
    :return: such as ``content_md5:…``, ``etag:…`` or ``size:… time:…``.
    """
    lowered = {str(name).lower(): value for name, value in info.items()}
    lowered |= _settings_of(lowered)
    for name in (*_CHECKSUMS, "etag"):
        if value := lowered.get(name):
            text = value.hex() if isinstance(value, bytes | bytearray) else str(value)
            return f"{name}:{text.strip(chr(34))}"
    when = lowered.get("lastmodified") or lowered.get("last_modified") or lowered.get("mtime") or ""
    return f"size:{lowered.get('size')} time:{when}"


def _settings_of(lowered: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checksum among the settings of an object on Azure. They are an object of its SDK."""
    settings = lowered.get("content_settings")
    found = (
        settings.get("content_md5")
        if isinstance(settings, Mapping)
        else getattr(settings, "content_md5", None)
    )
    return {"content_md5": found} if found else {}
