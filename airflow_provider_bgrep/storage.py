# SPDX-License-Identifier: Apache-2.0
"""Files on an ``ObjectStoragePath``: written atomically, with names that are safe everywhere.

All access uses ``path.fs``. On Airflow 3, without a ``conn_id``, the methods of the path such as
``read_bytes`` would use a file system of universal-pathlib instead of the one attached to Airflow.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.protocol.errors import (
    InvalidInput,
    Problem,
    StoreError,
    reason_of,
    sanitize_message,
)
from airflow_provider_bgrep.protocol.urls import redact_text

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

_LOCAL: Final = frozenset({"", "file", "local"})
WHOLE_BY_NATURE: Final = frozenset("s3 s3a gs gcs oss abfs abfss az adl wasb r2 memory".split())
"""Schemes of stores on which an object appears only when its upload is complete."""

_AZURE: Final = frozenset("abfs abfss az adl wasb".split())
"""Schemes of Azure's stores."""

_COPIES_AT_ONCE: Final = WHOLE_BY_NATURE - _AZURE
"""Schemes of stores that answer when they have copied an object. Azure may answer before: the copy is then
empty for a while, and stays so if the store fails to make it."""

SIGNED_STORES: Final = frozenset("s3 s3a gs gcs oss abfs abfss az r2".split())
"""Schemes of stores that can sign URLs, so that the service can read an object."""


def is_stored(value: object) -> bool:
    """Return whether ``value`` is a path on object storage, such as ``s3://shop/mug.jpg``, and not a URL."""
    if not isinstance(value, str):
        return False
    scheme, slashes, rest = value.partition("://")
    return bool(slashes and rest) and scheme.lower() in SIGNED_STORES


def storage_path(path: str | ObjectStoragePath, conn_id: str | None = None) -> ObjectStoragePath:
    """Return ``path`` as an ``ObjectStoragePath``.

    :param path: as text, or as what it shall be already. Case does not matter in its scheme.
    :param conn_id: the connection of a path that is text and names none.
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    # Before Airflow 3.3, an argument that is None would hide the connection that the text names.
    given = {"conn_id": conn_id} if conn_id else {}
    if not isinstance(path, ObjectStoragePath):
        scheme, separator, rest = path.partition("://")
        path = ObjectStoragePath(f"{scheme.lower()}{separator}{rest}" if separator else path, **given)
    if path.protocol in _AZURE:
        _limit_logging(_AZURE_LOGGER)
    return path


_AZURE_LOGGER: Final = "azure.core.pipeline.policies.http_logging_policy"


def _limit_logging(name: str) -> None:
    """Log warnings of a logger only, unless its level was set. Azure's SDK logs 25 lines for each request.

    Airflow's own hooks of Azure do the same.
    """
    logger = logging.getLogger(name)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)


def fresh_fs(path: ObjectStoragePath) -> Any:
    """Return the file system of ``path``, made to forget what it knows of the path and its folder.

    File systems keep listings, and some answer from them whether a file exists, how large it is, and which
    content it has. Other processes may have changed that since.
    """
    fs, text = path.fs, path.path
    # Not path.parent: to make a path takes longer than to read a small file.
    for known in (text, text.rstrip("/").rpartition("/")[0]):
        with contextlib.suppress(Exception):  # not every file system keeps listings
            fs.invalidate_cache(known)
    return fs


def path_problem(text: str) -> str:
    """Return what to give instead of a path that Airflow cannot use on every worker; ``''`` if it can."""
    if _is_absolute(text):
        return account_problem(text)
    return "an absolute path or a URL, such as file:///shop/images or s3://shop/images: it is relative"


_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)


def _is_absolute(text: str) -> bool:
    scheme, slashes, _ = text.partition("://")
    if not slashes or not _SCHEME.fullmatch(scheme):
        return text.startswith("/")
    # What follows file:// is the path, and not a host: with two slashes, fsspec takes it for a relative one.
    return scheme.lower() not in _LOCAL or without_connection(text).startswith(f"{scheme}:///")


_AZURE_HOST: Final = re.compile(r"[^/]*\.(?:dfs|blob)\.(?:core|storage)\.[^/]+", re.IGNORECASE)


def account_problem(text: str) -> str:
    """Return what to give instead of a path on Azure that names the account; ``''`` if it does not.

    Azure's own tools write ``abfs://container@account.dfs.core.windows.net/key``. Airflow takes the container
    for a connection, and without it, adlfs takes the first folder for the container.
    """
    scheme, slashes, rest = text.partition("://")
    authority, _, key = rest.partition("/")
    container, _, host = authority.rpartition("@")
    if not slashes or scheme.lower() not in SIGNED_STORES or not _AZURE_HOST.fullmatch(host):
        return ""
    own = container.rpartition("@")[2] or "container"
    if ":" in own:
        own = "container"  # it was a password
    return (
        f"{scheme}://{own}/{shown_path(key)}: the account is that of the connection, and Airflow takes what "
        "is before an @ for a connection's id"
    )


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
    code = _code_of(error)
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


def _code_of(error: BaseException | None) -> str:
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


def absolute_path(name: str, path: str | ObjectStoragePath) -> ObjectStoragePath:
    """Return ``path`` as an ``ObjectStoragePath`` that is the same on every worker.

    :param name: name of the parameter, for the message.
    :raises InvalidInput: if it is relative, names a storage account, or no installed package supports its
        storage.
    :raises StoreError: if its connection cannot be read.
    """
    text = str(path)
    if problem := path_problem(text):
        raise InvalidInput([Problem(name, f"is {shown_path(text)!r}; give {problem}")])
    try:
        found = storage_path(path)
        _ = found.fs
    except (ValueError, ImportError) as error:
        raise InvalidInput([Problem(name, _missing_store(text.partition("://")[0], error))]) from None
    except Exception as error:  # no such connection, for one
        raise store_error(text, error, f"be used as {name}") from error
    return found


_PROVIDERS: Final = {
    **dict.fromkeys(("s3", "s3a"), "apache-airflow-providers-amazon[s3fs]"),
    **dict.fromkeys(("gs", "gcs"), "apache-airflow-providers-google"),
    **dict.fromkeys(("abfs", "abfss", "adl"), "apache-airflow-providers-microsoft-azure"),
    "oss": "airflow-provider-bgrep[oss]",
}
"""Packages that connect Airflow to a store, by scheme."""


def _missing_store(scheme: str, error: Exception) -> str:
    what = f"is on a store, {scheme}://, that this Airflow cannot reach ({sanitize_message(error)})"
    if scheme in _PROVIDERS and _PROVIDERS[scheme] in str(error):
        return what
    if scheme in _PROVIDERS:
        return f"{what}. Run on every worker: pip install '{_PROVIDERS[scheme]}'"
    return f"{what}. Install an Airflow provider that supports it, or give another store"


def in_folder(folder: ObjectStoragePath, path: str) -> ObjectStoragePath:
    """Return a path from its text, with the connection of ``folder``.

    :param path: as text; a connection in it is ignored, because it may have been renamed since.
    """
    return type(folder)(without_connection(path), conn_id=connection_of(folder))


def path_below(folder: ObjectStoragePath, path: str) -> str | None:
    """Return a path relative to a folder, whatever connections they name; ``None`` for one outside of it."""
    text, root = without_connection(path), f"{without_connection(str(folder)).rstrip('/')}/"
    return text.removeprefix(root) if text.startswith(root) else None


def without_connection(path: str) -> str:
    """Return a path as text without the connection that it names."""
    scheme, slashes, rest = path.partition("://")
    authority, slash, key = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{key}" if slashes else path


def shown_path(path: str) -> str:
    """Return a path as a message may show it: without a password, and without what signs a URL.

    A connection's id stays, and so does a question mark in the name of a local file.
    """
    scheme, slashes, rest = path.partition("://")
    if not slashes or scheme.lower() in _LOCAL:
        return path
    if has_credentials(path):
        rest = redact_text(path).partition("://")[2]
    authority, slash, key = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if ":" in user or "%3a" in user.lower():
        user = "***"
    return f"{scheme}://{user}{at}{host}{slash}{key.partition('?')[0]}"


def has_credentials(path: str) -> bool:
    """Return whether a path on object storage has a key and a secret where a bucket's name belongs.

    Older tools write ``s3://KEY:SECRET@bucket``; the secret may have a slash. No bucket's name has a colon,
    except for the ARN of an access point.
    """
    scheme, slashes, rest = path.partition("://")
    authority = rest.partition("/")[0].lower()
    place = authority.rpartition("@")[2]
    is_stored_path = bool(slashes) and scheme.lower() in SIGNED_STORES
    has_colon = ":" in authority or "%3a" in authority
    return is_stored_path and has_colon and not (place == authority and place.startswith("arn:"))


def connection_of(path: ObjectStoragePath) -> str | None:
    """Return the connection of ``path``, if it has one."""
    # An attribute since Airflow 3.3; before, an option like any other.
    return getattr(path, "conn_id", None) or path.storage_options.get("conn_id")


def is_local(path: ObjectStoragePath) -> bool:
    """Return whether ``path`` is in the file system of this machine."""
    return path.protocol in _LOCAL


def put_file(local: str, path: ObjectStoragePath) -> None:
    """Move a local file to ``path``, and replace an existing file atomically.

    :param local: the file, which is moved.
    """
    try:
        if is_local(path):
            _put_local(local, Path(path.path))
        elif path.protocol in WHOLE_BY_NATURE:
            path.fs.put_file(local, path.path)
        else:
            path.fs.makedirs(path.parent.path, exist_ok=True)
            part_path = path.parent / _part_name(path.name)
            try:
                path.fs.put_file(local, part_path.path)
                path.fs.mv(part_path.path, path.path)
            except BaseException:
                with contextlib.suppress(Exception):  # the first error is the one to report
                    path.fs.rm_file(part_path.path)
                raise
    finally:
        Path(local).unlink(missing_ok=True)


def _put_local(local: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(_part_name(target.name))
    try:
        # Copied, not moved: a temporary file is readable by its owner only, a result according to the
        # umask.
        shutil.copyfile(local, part)
        _sync(part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not supported by some network file systems
        _sync(target.parent)


def copy_file(source: ObjectStoragePath, target: ObjectStoragePath) -> None:
    """Copy a file to ``target`` atomically. Within a store, the store itself copies if it does so at once.

    :raises FileNotFoundError: if the file does not exist.
    """
    if source.fs is target.fs and target.protocol in _COPIES_AT_ONCE:
        source.fs.cp_file(source.path, target.path)
        return
    with local_copy(source) as local:
        if is_local(target):
            _put_local(local, Path(target.path))
            return
        handle, own = tempfile.mkstemp(prefix="bgrep-")
        os.close(handle)
        try:
            shutil.copyfile(local, own)  # put_file moves its file, but the source must stay
            put_file(own, target)
        finally:
            Path(own).unlink(missing_ok=True)


def put_bytes(data: bytes, path: ObjectStoragePath) -> None:
    """Write ``data`` to ``path``, and replace an existing file atomically."""
    handle, local = tempfile.mkstemp(prefix="bgrep-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        put_file(local, path)
    finally:
        Path(local).unlink(missing_ok=True)


def create_bytes(data: bytes, path: ObjectStoragePath) -> bool:
    """Write ``data`` to ``path`` if the file does not exist. Of several concurrent callers, one succeeds.

    Atomic in a local file system and on stores that support conditional writes in fsspec (s3, gs, abfs, oss).
    On others, two callers at the same instant may both write:
    :mod:`~airflow_provider_bgrep.storage_check` finds out.

    :return: whether it was written.
    :raises ExclusiveCreationError: if the store reports that it cannot exclude other callers.
    """
    if not is_local(path) and fresh_fs(path).exists(path.path):
        return False
    return create_exclusively(data, path)


def create_exclusively(data: bytes, path: ObjectStoragePath) -> bool:
    """Create the file at ``path`` by the store's own exclusive creation alone.

    :return: whether it was written. Also ``False`` if the store refused it for another write at the same
        instant.
    """
    if is_local(path):
        return _create_local(data, Path(path.path))
    try:
        path.fs.pipe_file(path.path, data, mode="create")
    except FileExistsError:
        return False
    except Exception as error:
        if not _LOST_RACES.isdisjoint((_code_of(error), _code_of(error.__cause__))):
            return False
        raise
    return True


_LOST_RACES: Final = frozenset({"ConditionalRequestConflict", "BlobAlreadyExists"})
"""Codes with which S3 and Azure refuse a write for another one at the same instant, and which not every
version of their file systems knows."""


def _create_local(data: bytes, target: Path) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(_part_name(target.name))
    try:
        part.write_bytes(data)
        _sync(part)
        os.link(part, target)  # fails if the target exists, unlike a rename
    except FileExistsError:
        return False
    finally:
        part.unlink(missing_ok=True)
    return True


def names_in(folder: ObjectStoragePath) -> list[str]:
    """Return the names in ``folder``, sorted; an empty list if the folder does not exist."""
    try:
        found = fresh_fs(folder).ls(folder.path, detail=False)
    except FileNotFoundError:
        return []
    return sorted({name for path in found if (name := _name_in(folder, path))})


def infos_in(folder: ObjectStoragePath) -> dict[str, dict[str, Any]]:
    """Return what a store says of everything in ``folder``, by name; nothing if the folder does not exist."""
    try:
        found = fresh_fs(folder).ls(folder.path, detail=True)
    except FileNotFoundError:
        return {}
    # A file and a folder may have the same name: the file counts.
    found = sorted(found, key=lambda info: info.get("type") != "directory")
    return {name: info for info in found if (name := _name_in(folder, info["name"]))}


def _name_in(folder: ObjectStoragePath, path: str) -> str:
    """Return the name of a path in a folder; ``""`` for the folder itself, which some stores list, too."""
    name = path.rstrip("/").rpartition("/")[2]
    # A file in the folder may have its name.
    return name if name != folder.name or _depth(path) > _depth(folder.path) else ""


def _depth(path: str) -> int:
    return sum(map(bool, path.split("/")))


@contextlib.contextmanager
def local_copy(path: ObjectStoragePath) -> Iterator[str]:
    """Provide the file at ``path`` as a local file while the context lasts. Do not change it.

    :raises FileNotFoundError: if the file does not exist.
    """
    if is_local(path):
        if not Path(path.path).is_file():
            raise FileNotFoundError(str(path))
        yield path.path
        return
    handle, local = tempfile.mkstemp(prefix="bgrep-")
    os.close(handle)
    try:
        fresh_fs(path).get_file(path.path, local)
        yield local
    finally:
        Path(local).unlink(missing_ok=True)


def remove(path: ObjectStoragePath) -> None:
    """Remove a file if it exists."""
    with contextlib.suppress(FileNotFoundError):
        path.fs.rm_file(path.path)


def check_writable(folder: ObjectStoragePath) -> None:
    """Write an empty file to ``folder``, and raise the error of the store if that fails."""
    probe = folder / "writable"
    put_bytes(b"", probe)
    with contextlib.suppress(Exception):  # the permission to write may not include deleting
        probe.fs.rm_file(probe.path)


def get_bytes(path: ObjectStoragePath) -> bytes | None:
    """Return the content of the file at ``path``; ``None`` if it does not exist."""
    try:
        data: bytes = fresh_fs(path).cat_file(path.path)
    except FileNotFoundError:
        return None
    return data


def size_of(path: ObjectStoragePath) -> int | None:
    """Return the size of the file at ``path`` in bytes; ``None`` if it does not exist, or is a folder."""
    try:
        info = fresh_fs(path).info(path.path)
    except FileNotFoundError:
        return None
    return None if info["type"] == "directory" else int(info["size"])


def is_folder(path: ObjectStoragePath) -> bool:
    """Return whether ``path`` is a folder. Unlike fsspec's ``isdir``, it raises the errors of the store."""
    try:
        return bool(fresh_fs(path).info(path.path)["type"] == "directory")
    except FileNotFoundError:
        return False


def _part_name(name: str) -> str:
    # At most 255 bytes, which file systems allow.
    return f".{_cut(name, 200)}.{secrets.token_hex(4)}.part"


def _sync(path: Path) -> None:
    # A rename may reach the disk before the data: a billed image must not end up empty.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_UNSAFE: Final = re.compile(r"[^\w.\-]+", re.UNICODE)
_MOST_BYTES: Final = 120


def safe_name(value: object, most_bytes: int = _MOST_BYTES) -> str:
    """Return ``value`` as one component of a path: letters, digits, ``.-_``; never hidden, never empty.

    If characters are replaced or truncated, a hash is added, so that different values have different
    names.

    :param most_bytes: of the name in UTF-8, at least 10.
    """
    text = str(value)
    name = _cut(_UNSAFE.sub("_", text).lstrip(".") or "_", most_bytes)
    if name == text:
        return name
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{_cut(name, most_bytes - len(digest) - 1)}-{digest}"


def _cut(text: str, most_bytes: int) -> str:
    return text.encode()[:most_bytes].decode(errors="ignore")
