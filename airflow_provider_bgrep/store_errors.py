# SPDX-License-Identifier: Apache-2.0
"""Errors of stores: whether a retry can help, and what a message says about them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from airflow_provider_bgrep.protocol.errors import StoreError, reason_of, sanitize_message
from airflow_provider_bgrep.store_paths import shown_path

_REFUSALS: Final = frozenset(
    (
        *("NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "InvalidRegionError"),
        *("NoRegionError", "ProfileNotFound", "DefaultCredentialsError", "ClientAuthenticationError"),
        *("AirflowNotFoundException", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
        *("NoSuchBucket", "InvalidBucketName", "InvalidToken", "ExpiredToken"),
        # Azure's
        *("AuthenticationFailed", "AuthorizationFailure", "AuthorizationPermissionMismatch"),
        *("NoAuthenticationInformation", "PublicAccessNotPermitted", "KeyBasedAuthenticationNotPermitted"),
        *("ContainerNotFound", "InvalidResourceName", "AccountIsDisabled"),
    )
)
"""Classes and codes of errors in stores' libraries that a retry does not change."""

_MOST_SHOWN: Final = 200
"""Characters of a store's message in ours."""


def store_error(path: object, error: BaseException, what: str = "be read") -> StoreError:
    """Return the exception for a store that cannot be reached, or that refuses access.

    :param path: a path or URL in the store.
    :param error: what the store's library raised.
    :param what: what cannot be done.
    """
    if isinstance(error, StoreError):
        return error  # it says all of this already
    code = code_of(error)
    is_final = isinstance(error, PermissionError | FileNotFoundError) or not _REFUSALS.isdisjoint(
        (type(error).__name__, code)
    )
    reason = reason_of(error)
    if len(reason) > _MOST_SHOWN:
        reason = f"{reason[: _MOST_SHOWN - 1]}…"
    remedy = (
        "Check the path, and the connection's credentials and rights"
        if is_final
        else "Check that the workers can reach the store; a retry may help"
    )
    where = shown_path(sanitize_message(path))
    return StoreError(f"{where} cannot {what} ({reason}). {remedy}.", is_final=is_final)


def code_of(error: BaseException | None) -> str:
    """Return the code of an error of botocore or of Azure's SDK; ``""`` if it has none."""
    with contextlib.suppress(Exception):
        return str(error.response["Error"]["Code"])  # type: ignore[union-attr]
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


@contextlib.contextmanager
def store_errors(path: object) -> Iterator[None]:
    """Raise whatever a store's library raises as :class:`StoreError`.

    A file that does not exist, or is a folder, stays :class:`FileNotFoundError` or
    :class:`IsADirectoryError`.

    :param path: a path or URL in the store, for the message.
    :raises StoreError: if the store cannot be reached, or refuses access.
    """
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, StoreError):
        raise
    except Exception as error:
        raise store_error(path, error) from error
