# SPDX-License-Identifier: Apache-2.0
"""Whether a bucket keeps versions: OSS then ignores ``x-oss-forbid-overwrite``, without an error."""

from __future__ import annotations

import threading
import time
from typing import Final

import alibabacloud_oss_v2 as oss

from airflow_provider_bgrep.fs.oss_errors import oss_error
from airflow_provider_bgrep.protocol.errors import ExclusiveCreationError

_SECONDS: Final = 60.0
"""How long an answer is used. A bucket that keeps versions is asked each time."""


class VersioningCheck:
    """Refuses exclusive creation in buckets that keep versions.

    :param client: the client to ask with.
    """

    def __init__(self, client: oss.Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._valid_until: dict[str, float] = {}
        """By bucket without versions, on the monotonic clock."""

    def require_off(self, bucket: str) -> None:
        """Return if the bucket has never kept versions.

        :raises ExclusiveCreationError: if its versioning is enabled or suspended, or if the right to ask is
            missing.
        :raises OSError: if OSS does not answer.
        """
        with self._lock:
            if time.monotonic() < self._valid_until.get(bucket, 0.0):
                return
        try:
            status = self.status(bucket)
        except PermissionError as error:
            raise ExclusiveCreationError(
                f"Whether bucket {bucket!r} keeps versions is unknown ({error.strerror}). If it does, OSS "
                "overwrites files that must be created only once. Grant oss:GetBucketVersioning on the bucket"
            ) from error
        if status:
            raise versioned_error(bucket, status)
        with self._lock:
            self._valid_until[bucket] = time.monotonic() + _SECONDS

    def status(self, bucket: str) -> str:
        """Return ``Enabled`` or ``Suspended``; ``""`` for a bucket that has never kept versions.

        :raises PermissionError: if the right ``oss:GetBucketVersioning`` is missing.
        :raises OSError: if OSS does not answer.
        """
        try:
            result = self._client.get_bucket_versioning(oss.GetBucketVersioningRequest(bucket=bucket))
        except Exception as error:
            raise oss_error(error, bucket) from error
        return str(result.version_status or "")

    def forget(self, bucket: str) -> None:
        """Forget what is known about a bucket."""
        with self._lock:
            self._valid_until.pop(bucket, None)


def versioned_error(bucket: str, status: str) -> ExclusiveCreationError:
    """Return the exception for a bucket that keeps versions.

    :param status: ``Enabled`` or ``Suspended``.
    """
    return ExclusiveCreationError(
        f"Versioning of bucket {bucket!r} is {status.lower()}: OSS then ignores x-oss-forbid-overwrite, "
        "and two runs could both create the same file. Use a bucket whose versioning was never enabled; "
        "suspending it is not enough"
    )
