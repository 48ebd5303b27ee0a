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

from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message
from airflow_provider_bgrep.store_errors import code_of, store_error
from airflow_provider_bgrep.store_paths import (
    AZURE,
    COPIES_AT_ONCE,
    LOCAL,
    WHOLE_BY_NATURE,
    path_problem,
    shown_path,
    without_connection,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath


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
    if path.protocol in AZURE:
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


def connection_of(path: ObjectStoragePath) -> str | None:
    """Return the connection of ``path``, if it has one."""
    # An attribute since Airflow 3.3; before, an option like any other.
    return getattr(path, "conn_id", None) or path.storage_options.get("conn_id")


def is_local(path: ObjectStoragePath) -> bool:
    """Return whether ``path`` is in the file system of this machine."""
    return path.protocol in LOCAL


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
    if source.fs is target.fs and target.protocol in COPIES_AT_ONCE:
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
        if not _LOST_RACES.isdisjoint((code_of(error), code_of(error.__cause__))):
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
