# SPDX-License-Identifier: Apache-2.0
"""All buckets, the clock, and what an operation gets to work with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from airflow_provider_bgrep.oss_emulator.buckets import Bucket, Versioning
from airflow_provider_bgrep.oss_emulator.errors import OssError, no_such_bucket
from airflow_provider_bgrep.oss_emulator.hosts import Hosts, is_bucket_name
from airflow_provider_bgrep.oss_emulator.messages import Request

OWNER = "1234567890123456"
"""The ID of the account that all buckets belong to."""


@dataclass
class Clock:
    """The emulator's clock, which can be advanced."""

    offset: float = 0.0

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.offset


@dataclass
class Store:
    """All buckets of a region."""

    region: str
    hosts: Hosts
    clock: Clock = field(default_factory=Clock)
    buckets: dict[str, Bucket] = field(default_factory=dict)

    def create_bucket(self, name: str, versioning: Versioning) -> Bucket:
        """Create a bucket.

        :raises OssError: 400 InvalidBucketName; 409 BucketAlreadyExists.
        """
        if not is_bucket_name(name):
            message = "The specified bucket is not valid."
            raise OssError(400, "InvalidBucketName", message, "", {"BucketName": name})
        if name in self.buckets:
            message = "The requested bucket name is not available. Select a different name and try again."
            raise OssError(409, "BucketAlreadyExists", message, "", {"BucketName": name})
        self.buckets[name] = Bucket(name, versioning, self.clock.now())
        return self.buckets[name]

    def bucket(self, name: str) -> Bucket:
        """Return a bucket.

        :raises OssError: 404 NoSuchBucket.
        """
        if name not in self.buckets:
            raise no_such_bucket(name)
        return self.buckets[name]


@dataclass
class Call:
    """A request whose sender is known.

    :param now: the emulator's clock, in seconds since 1970.
    """

    request: Request
    store: Store
    now: float

    @property
    def bucket(self) -> Bucket:
        """The bucket of the request.

        :raises OssError: 404 NoSuchBucket.
        """
        return self.store.bucket(self.request.bucket or "")

    @property
    def key(self) -> str:
        """The key of the request."""
        return self.request.key
