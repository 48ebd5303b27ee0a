# SPDX-License-Identifier: Apache-2.0
"""The access keys that the emulator knows: permanent ones, and temporary ones of STS."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Final

from airflow_provider_bgrep.oss_emulator.errors import OssError

DEFAULT_ACCESS_KEY_ID: Final = "LTAI5tEmulatorOfOss12345"
DEFAULT_ACCESS_KEY_SECRET: Final = "emulator-secret-of-no-value-00"  # noqa: S105 (the emulator's own)


@dataclass(frozen=True)
class AccessKey:
    """An access key.

    :param security_token: the token of STS; an empty text for a permanent key.
    :param expires: when the token expires, in seconds since 1970; 0 for never.
    """

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)
    expires: float = 0.0


class AccessKeys:
    """All access keys of the emulator.

    :param permanent: the key that does not expire.
    """

    def __init__(self, permanent: AccessKey) -> None:
        self._keys = {permanent.access_key_id: permanent}

    def issue(self, expires: float) -> AccessKey:
        """Return a new temporary key, as STS's AssumeRole does.

        :param expires: when it expires, in seconds since 1970.
        """
        key = AccessKey(
            f"STS.{secrets.token_hex(12)}", secrets.token_hex(20), f"CAIS{secrets.token_urlsafe(96)}", expires
        )
        self._keys[key.access_key_id] = key
        return key

    def find(self, access_key_id: str, security_token: str, now: float) -> AccessKey:
        """Return the key that signed a request, after checking its security token.

        The page "Use temporary credentials provided by STS to access OSS" requires the token in each request.
        The pages "0002-00000006" to "0002-00000008" describe tokens that do not fit, have expired or are
        unknown. A permanent key with a token is refused like an unknown token.

        :raises OssError: 403.
        """
        key = self._keys.get(access_key_id)
        if key is None or (key.security_token and not security_token):
            raise OssError(
                403,
                "InvalidAccessKeyId",
                "The OSS Access Key Id you provided does not exist in our records.",
                "0002-00000902",
                {"OSSAccessKeyId": access_key_id},
            )
        if security_token == key.security_token:
            if key.expires and now >= key.expires:
                message = "The security token you provided has expired."
                raise OssError(403, "SecurityTokenExpired", message, "0002-00000007")
            return key
        if any(security_token == other.security_token for other in self._keys.values()):
            message = "The OSS access key id and security token you provided does not match."
            raise OssError(403, "AccessKeyIdAndSecurityTokenNotMatch", message, "0002-00000006")
        raise OssError(
            403, "InvalidSecurityToken", "The security token you provided is invalid.", "0002-00000008"
        )
