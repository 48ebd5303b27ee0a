# SPDX-License-Identifier: Apache-2.0
"""What is stored: buckets, the versions of objects, and unfinished multipart uploads.

Versions follow the pages "Manage objects in a versioning-enabled bucket" and "Manage objects in a
versioning-suspended bucket": with versioning, a write adds a version with a new ID; while it is suspended,
a write replaces the version whose ID is ``null``.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from airflow_provider_bgrep.oss_emulator.errors import no_such_key, no_such_version

NULL_VERSION: Final = "null"


class Versioning(enum.Enum):
    """The versioning state of a bucket (page "GetBucketVersioning")."""

    OFF = ""
    ON = "Enabled"
    SUSPENDED = "Suspended"


@dataclass(frozen=True)
class Version:
    """A version of an object, or a delete marker.

    :param headers: the headers that were stored with it, such as ``content-type`` and ``x-oss-meta-a``.
    :param kind: ``Normal``, ``Multipart`` or ``Appendable``; an empty text for a delete marker.
    :param modified: seconds since 1970.
    """

    key: str
    version_id: str
    modified: float
    body: bytes = field(default=b"", repr=False)
    etag: str = ""
    crc64: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""

    @property
    def is_delete_marker(self) -> bool:
        """Whether this is a delete marker."""
        return not self.kind

    @property
    def content_md5(self) -> str:
        """The value of ``Content-MD5``."""
        return base64.b64encode(hashlib.md5(self.body, usedforsecurity=False).digest()).decode()


@dataclass(frozen=True)
class Part:
    """A part of a multipart upload."""

    number: int
    body: bytes = field(repr=False)
    etag: str
    crc64: int
    modified: float


@dataclass
class Upload:
    """A multipart upload that has been initiated."""

    id: str
    key: str
    headers: Mapping[str, str]
    initiated: float
    parts: dict[int, Part] = field(default_factory=dict)


@dataclass
class Bucket:
    """A bucket.

    :param created: seconds since 1970.
    :param versions: the versions of each object, newest first.
    """

    name: str
    versioning: Versioning
    created: float
    versions: dict[str, list[Version]] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)

    @property
    def is_versioned(self) -> bool:
        """Whether versioning is enabled or suspended: it can never be turned off again."""
        return self.versioning is not Versioning.OFF

    def newest(self, key: str) -> Version | None:
        """Return the newest version of an object, which may be a delete marker."""
        versions = self.versions.get(key)
        return versions[0] if versions else None

    def current(self, key: str) -> Version | None:
        """Return the object as it is read without a version ID."""
        newest = self.newest(key)
        return None if newest is None or newest.is_delete_marker else newest

    def current_objects(self) -> list[Version]:
        """Return all objects, sorted by key."""
        found = (self.current(key) for key in sorted(self.versions))
        return [version for version in found if version is not None]

    def find(self, key: str, version_id: str = "") -> Version:
        """Return a version, which may be a delete marker.

        :param version_id: its ID; an empty text for the newest.
        :raises OssError: 404.
        """
        if not version_id:
            newest = self.newest(key)
            if newest is None:
                raise no_such_key(key)
            return newest
        for version in self.versions.get(key, ()):
            if version.version_id == version_id:
                return version
        raise no_such_version(key, version_id)

    def new_version_id(self) -> str:
        """Return the ID of the version that a write creates now."""
        return f"CAEQ{secrets.token_hex(24)}" if self.versioning is Versioning.ON else NULL_VERSION

    def put(self, version: Version) -> None:
        """Store a version as the newest. It replaces a version of the same ID."""
        others = [
            other for other in self.versions.get(version.key, ()) if other.version_id != version.version_id
        ]
        self.versions[version.key] = [version, *others]

    def remove(self, key: str, version_id: str) -> Version | None:
        """Remove a version for good.

        :return: the version, or ``None`` if there was none.
        """
        versions = self.versions.get(key, [])
        found = next((one for one in versions if one.version_id == version_id), None)
        if found is not None:
            versions.remove(found)
            if not versions:
                del self.versions[key]
        return found

    def delete(self, key: str, now: float) -> Version | None:
        """Delete an object: with versioning, a delete marker becomes the newest version (page
        "DeleteObject").

        :return: the delete marker.
        """
        if not self.is_versioned:
            self.versions.pop(key, None)
            return None
        marker = Version(key, self.new_version_id(), now)
        self.put(marker)
        return marker
