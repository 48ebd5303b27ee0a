# SPDX-License-Identifier: Apache-2.0
"""Which bucket a host stands for.

OSS is addressed by virtual-hosted style: the bucket is the first label of the host. The emulator's names end
in ``.localhost``, which RFC 6761 reserves for loopback.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from airflow_provider_bgrep.oss_emulator.errors import OssError, access_denied, no_such_bucket

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_OTHER_REGION: Final = re.compile(r"[^.]+\.oss-[a-z0-9-]+\.localhost")


def is_bucket_name(name: str) -> bool:
    """Whether a bucket can have this name: 3 to 63 lower-case letters, digits, hyphens (page "PutBucket")."""
    return _BUCKET.fullmatch(name) is not None


class Hosts:
    """The emulator's host names.

    :param region: the region, such as ``cn-hangzhou``.
    """

    def __init__(self, region: str) -> None:
        self.public = f"oss-{region}.localhost"
        self.internal = f"oss-{region}-internal.localhost"
        self._domains: dict[str, str] = {}

    def bind(self, domain: str, bucket: str) -> None:
        """Bind a domain of one's own to a bucket (page "Access OSS using a custom domain name")."""
        self._domains[domain.lower()] = bucket

    def bucket(self, host: str, path: str) -> str | None:
        """Return the bucket that a host stands for, or ``None`` for the endpoint itself.

        Path style is refused, as the page "OSS domain names" describes; the emulator refuses IP addresses
        and ``localhost`` in the same way. The endpoint of another region is refused too (page "HTTP status
        code 403"), whether the bucket exists or not.

        :param host: the host without the port.
        :param path: the path of the request.
        :raises OssError: 403 SecondLevelDomainForbidden; 403 AccessDenied for another region; 400
            InvalidBucketName; 404 NoSuchBucket for a host that is not known.
        """
        host = host.lower().rstrip(".")
        if host in self._domains:
            return self._domains[host]
        if host in (self.public, self.internal, "localhost") or _is_address(host):
            if path.strip("/"):
                message = "Please use virtual hosted style to access."
                raise OssError(403, "SecondLevelDomainForbidden", message)
            return None
        for endpoint in (self.public, self.internal):
            if host.endswith(f".{endpoint}"):
                return _valid(host.removesuffix(f".{endpoint}"))
        if _OTHER_REGION.fullmatch(host):
            message = (
                "The bucket you are attempting to access must be addressed using the specified endpoint. "
                "Please send all future requests to this endpoint."
            )
            raise access_denied(message, Endpoint=self.public)
        raise no_such_bucket(host)


def _valid(name: str) -> str:
    if not is_bucket_name(name):
        message = "The specified bucket is not valid."
        raise OssError(400, "InvalidBucketName", message, "", {"BucketName": name})
    return name


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
