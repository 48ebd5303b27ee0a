# SPDX-License-Identifier: Apache-2.0
"""Tries on probe objects what a store does, and deletes them again. Some 30 requests.

The probe objects are in a folder of their own, ``{path}/_bgrep/storage-check-{token}/``, so that checks of
several tasks at the same time do not meet. No other object is read, written or listed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.client import sleep
from airflow_provider_bgrep.content_version import content_version
from airflow_provider_bgrep.protocol.errors import reason_of
from airflow_provider_bgrep.signing import signed_url
from airflow_provider_bgrep.storage import (
    create_exclusively,
    fresh_fs,
    get_bytes,
    is_local,
    names_in,
    put_bytes,
    remove,
    storage_path,
)
from airflow_provider_bgrep.storage_check.report import CHECKS, EXCLUSION, Finding, Level, StorageReport
from airflow_provider_bgrep.store_paths import SIGNED_STORES, WHOLE_BY_NATURE, shown_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

FOLDER: Final = "_bgrep"
"""The folder of the destination that the probe objects are in."""

ROUNDS: Final = 3
"""How often two concurrent writers create one object."""

_FIRST: Final = b"bgrep storage check, first "
_OTHER: Final = b"bgrep storage check, second"
"""Two contents of one size, so that a size cannot tell them apart."""

_VALID_SECONDS: Final = 300
_EXPIRED_AFTER: Final = 2.0
"""Seconds after which a URL that is valid for one second is fetched; the other checks are made meanwhile."""

_ROUND_SECONDS: Final = 60.0

_TRANSIENT: Final = frozenset(
    "EndpointConnectionError ConnectTimeoutError ReadTimeoutError ConnectionClosedError HTTPClientError "
    "ClientConnectorError ServerDisconnectedError FSTimeoutError".split()
)
"""Errors of connections that do not derive from ``ConnectionError`` or ``TimeoutError``."""

Result = tuple[Level, str, str]
"""Level, what came, what it means."""


def check_storage(path: str | ObjectStoragePath) -> StorageReport:
    """Find out by trying what the store of a destination does.

    What fails is a line of the report: only an invalid path raises.

    :param path: the destination. The probe objects are written to its folder ``_bgrep``.
    :return: the report; nothing else is kept.
    """
    destination = storage_path(path)
    probe = _Probe(destination)
    with probe.cleaned_up():
        probe.run()
    return StorageReport(
        shown_path(str(destination)),
        store_name(destination),
        tuple(sorted(probe.findings, key=lambda one: one.level is Level.NOTE)),
    )


def store_name(path: ObjectStoragePath) -> str:
    """Return the class of the file system that reaches a store, with the version of its package."""
    if is_local(path):
        return "the file system of this machine"
    cls = type(path.fs)
    package = cls.__module__.partition(".")[0]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return f"{cls.__module__}.{cls.__qualname__} ({package} {importlib.metadata.version(package)})"
    return f"{cls.__module__}.{cls.__qualname__}"


def versioning_state(path: ObjectStoragePath) -> str | None:
    """Return the state of a bucket's versioning, such as ``Enabled``, ``Suspended`` or ``off``.

    A file system may have a method ``bucket_versioning(path)`` that returns it.

    :return: ``None`` if the store cannot be asked.
    """
    fs = path.fs
    if (own := getattr(fs, "bucket_versioning", None)) is not None:
        return str(own(path.path) or "off")
    if hasattr(fs, "call_s3"):
        bucket, _, _ = fs.split_path(path.path)
        return str(fs.call_s3("get_bucket_versioning", Bucket=bucket).get("Status") or "off")
    return None


class _Probe:
    """The checks of one store.

    :param destination: the folder that is checked.
    """

    def __init__(self, destination: ObjectStoragePath) -> None:
        self._folder = destination / FOLDER / f"storage-check-{secrets.token_hex(6)}"
        self._written: list[ObjectStoragePath] = []
        self.findings: list[Finding] = []

    def run(self) -> None:
        """Make all checks. Without a first write, there are no others."""
        changing, created = self._path("changing"), self._path("created")
        if not is_local(changing):
            self._check("versioning", "ask for the bucket's versioning", lambda: self._versioning(changing))
        tried = "write an object"
        if not self._check("write", tried, lambda: self._write(changing)):
            return
        tried = "list its folder at once"
        self._check("list after write", tried, lambda: self._listed(changing))
        versions = [self._version(changing)]
        expiring = self._sign(changing, 1)
        signed_at = time.monotonic()
        tried = "write other content of the same size to it, and read it at once"
        self._check("replace", tried, lambda: self._replace(changing))
        versions.append(self._version(changing))
        tried = "create an object exclusively, twice"
        has_excluded = self._check(EXCLUSION, tried, lambda: self._create_twice(created))
        versions.append(self._version(created))
        if has_excluded:
            tried = f"create an object exclusively by two concurrent writers, {ROUNDS} times"
            self._check(EXCLUSION, tried, self._create_at_once)
        if not is_local(changing):
            tried = "compare the checksums or ETags of other content, and of equal content"
            self._check("ETag", tried, lambda: _meaning_of(versions))
        if changing.protocol in SIGNED_STORES:
            tried = f"sign a URL for {_VALID_SECONDS} seconds, and fetch it"
            self._check("presigned URL", tried, lambda: self._fetch(changing))
            tried = "sign a URL for 1 second, and fetch it later"
            self._check("expiry of URLs", tried, lambda: self._expire(expiring, signed_at))

    @contextlib.contextmanager
    def cleaned_up(self) -> Any:
        """Delete the probe objects when the context ends, however it ends."""
        missing = _missing_folders(self._folder) if is_local(self._folder) else []
        try:
            yield
        finally:
            if any(one.check == "write" and one.level is Level.OK for one in self.findings):
                self._check("delete", "delete the objects, and list the folder at once", self._delete)
            else:  # the answer to a write may have been lost
                with contextlib.suppress(Exception):
                    self._delete()
            if self._folder.protocol not in WHOLE_BY_NATURE and not missing:
                with contextlib.suppress(Exception):
                    self._folder.fs.rmdir(self._folder.path)
            for folder in missing:
                with contextlib.suppress(OSError):
                    folder.rmdir()

    # --- the checks -----------------------------------------------------------------------------------

    def _check(self, check: str, tried: str, function: Callable[[], Result]) -> bool:
        """Add a line.

        :param check: one of :data:`~.report.CHECKS`.
        :return: whether the store does what was checked.
        """
        try:
            level, came, means = function()
        except Exception as error:  # whatever a store's library raises
            level, came, means = Level.UNKNOWN, reason_of(error), "could not be tried"
        self.findings.append(Finding(check, level, tried, came, means, CHECKS[check][0]))
        return level in (Level.OK, Level.NOTE)

    def _path(self, name: str) -> ObjectStoragePath:
        return self._folder / name

    def _put(self, data: bytes, path: ObjectStoragePath) -> None:
        self._written.append(path)  # before: an answer may be lost
        put_bytes(data, path)

    def _write(self, path: ObjectStoragePath) -> Result:
        self._put(_FIRST, path)
        return Level.OK, "accepted", "the destination can be written to"

    def _listed(self, path: ObjectStoragePath) -> Result:
        names = names_in(self._folder)
        if path.name in names:
            return Level.OK, "the object is in it", "a finished write is listed at once"
        return Level.UNSAFE, "the object is missing", "a run may not see what another one has committed"

    def _replace(self, path: ObjectStoragePath) -> Result:
        self._put(_OTHER, path)
        found = get_bytes(path)
        if found == _OTHER:
            return Level.OK, "the new content", "a finished write is read at once, and replaces the old one"
        came = {None: "no object", _FIRST: "the old content"}.get(found, "something else")
        return Level.UNSAFE, came, "a task may read what was already replaced"

    def _create(self, data: bytes, path: ObjectStoragePath) -> bool:
        self._written.append(path)
        return create_exclusively(data, path)

    def _create_twice(self, path: ObjectStoragePath) -> Result:
        try:
            is_first = self._create(_FIRST, path)
            is_second = self._create(_OTHER, path)
        except Exception as error:
            if isinstance(error, ConnectionError | TimeoutError) or type(error).__name__ in _TRANSIENT:
                raise
            self._put(_FIRST, self._path("plain"))  # if this fails as well, it is not about exclusion
            came = f"refused, but a plain write is accepted: {reason_of(error)}"
            return Level.UNSAFE, came, _CANNOT_EXCLUDE
        if is_second:
            return Level.UNSAFE, "both were accepted", _CANNOT_EXCLUDE
        if not is_first and get_bytes(path) == _FIRST:
            return Level.UNKNOWN, "the answer to the first was lost", "could not be tried"
        if not is_first:
            return Level.UNSAFE, "the first was refused, although there was no such object", _CANNOT_COMMIT
        if get_bytes(path) != _FIRST:
            return Level.UNSAFE, "the second was refused, but has changed the object", _CANNOT_EXCLUDE
        return Level.OK, "the second was refused", "a run cannot overwrite what another one has committed"

    def _create_at_once(self) -> Result:
        refused_by: set[str] = set()
        for number in range(ROUNDS):
            path = self._path(f"round-{number}")
            self._written.append(path)
            answers = _both(path)
            winners = [data for data, answer in answers.items() if answer is True]
            if len(winners) == 2:
                return Level.UNSAFE, f"both were accepted in round {number + 1}", _CANNOT_EXCLUDE
            errors = [one for one in answers.values() if isinstance(one, Exception)]
            if not winners:
                came = "; ".join(map(reason_of, errors)) or "both were refused"
                return Level.UNKNOWN, came, "could not be tried"
            refused_by |= {type(one).__name__ for one in errors}
        if get_bytes(path) != winners[0]:
            return Level.UNSAFE, "the refused writer has changed the object", _CANNOT_EXCLUDE
        how = f", sometimes by {', '.join(sorted(refused_by))}" if refused_by else ""
        came = f"each time, one was accepted and the other refused{how}"
        return Level.OK, came, "of several runs that commit at once, one succeeds"

    def _versioning(self, path: ObjectStoragePath) -> Result:
        state = versioning_state(path)
        if state is None:
            return Level.NOTE, "the store cannot be asked", "exclusive creation is tried in any case"
        if state == "off":
            return Level.NOTE, state, "deleted files are gone"
        means = "deleted and replaced files remain as noncurrent versions until a lifecycle rule removes them"
        return Level.NOTE, state, means

    def _version(self, path: ObjectStoragePath) -> str:
        with contextlib.suppress(Exception):  # other lines say what is wrong
            return content_version(fresh_fs(path).info(path.path))
        return ""

    def _sign(self, path: ObjectStoragePath, seconds: int) -> str:
        if path.protocol not in SIGNED_STORES:
            return ""
        with contextlib.suppress(Exception):  # signed again below, which says what is wrong
            return signed_url(path, seconds)
        return ""

    def _fetch(self, path: ObjectStoragePath) -> Result:
        try:
            url = signed_url(path, _VALID_SECONDS)
        except Exception as error:
            means = "images on this store cannot be sources with this connection; a destination needs no URLs"
            return Level.NOTE, f"cannot sign: {reason_of(error)}", means
        data, problem = _fetched(url)
        if problem:
            means = "not proven: if the service cannot fetch it either, images here cannot be sources"
            return Level.NOTE, problem, means
        if data != _OTHER:
            return Level.NOTE, "other content", "not the store answers at this URL: check the endpoint"
        return Level.OK, "the content", "images on this store can be sources"

    def _expire(self, url: str, signed_at: float) -> Result:
        if not url:
            return Level.NOTE, "cannot sign", "not proven"
        if (left := signed_at + _EXPIRED_AFTER - time.monotonic()) > 0:
            sleep(left)
        waited = time.monotonic() - signed_at
        data, problem = _fetched(url)
        if problem.startswith("answers HTTP 4"):
            return Level.OK, problem, "a signed URL that gets into other hands is useless later"
        if data is None or waited < _EXPIRED_AFTER:
            return Level.NOTE, problem or "the content, but it may not have expired yet", "not proven"
        means = "the store does not check the expiry, or the clock of this machine is ahead"
        return Level.NOTE, f"the content, after {waited:.0f} seconds", means

    def _delete(self) -> Result:
        refused = ""
        left: list[str] = []
        for path in dict.fromkeys(self._written):
            try:
                remove(path)
            except Exception as error:  # the permission to write may not include deleting
                refused = reason_of(error)
                left.append(path.name)
        if left:
            means = (
                "files that are no longer needed stay, and so do the objects of this check: "
                f"{', '.join(left)} in {shown_path(str(self._folder))}"
            )
            return Level.NOTE, f"refused: {refused}", means
        if found := names_in(self._folder):
            return Level.NOTE, f"accepted, but listed: {', '.join(found)}", "deletes take effect later"
        return Level.OK, "they are gone", "files that are no longer needed can be deleted"


_CANNOT_EXCLUDE: Final = "two runs at the same time could both commit, and submit the same rows twice"
_CANNOT_COMMIT: Final = "no run can commit"


def _both(path: ObjectStoragePath) -> dict[bytes, bool | Exception]:
    """Create an object by two writers at the same instant.

    :return: for the content of each writer, whether it was accepted, or the error.
    """
    barrier = threading.Barrier(2)

    def write(data: bytes) -> bool | Exception:
        barrier.wait(_ROUND_SECONDS)
        try:
            return create_exclusively(data, path)
        except Exception as error:
            return error

    with ThreadPoolExecutor(2) as threads:
        return dict(zip((_FIRST, _OTHER), threads.map(write, (_FIRST, _OTHER)), strict=True))


def _meaning_of(versions: list[str]) -> Result:
    first, other, copy = versions
    kinds = {version.partition(":")[0] for version in versions}
    if kinds & {"", "size"}:
        return Level.NOTE, "not every object has one", "changes are found by size and time, or a checksum"
    kind = " or ".join(sorted(kinds))
    if first == other:
        return Level.NOTE, f"{kind}: equal for other content", "a changed source image is not found by it"
    if first != copy:
        means = "an image that is uploaded again counts as changed"
        return Level.NOTE, f"{kind}: differs for equal content", means
    means = "it identifies the content of objects uploaded in one part"
    return Level.OK, f"{kind}: differs and is equal", means


def _fetched(url: str) -> tuple[bytes | None, str]:
    """Fetch a URL.

    :return: the content, or why there is none.
    """
    from airflow_provider_bgrep.images.fetch import Fetcher, FetchError

    try:
        with Fetcher(None, max_bytes=len(_OTHER), may_reach=lambda address: True) as fetcher:
            return fetcher.beginning(url, len(_OTHER))[0], ""
    except FetchError as error:
        return None, str(error)


def _missing_folders(folder: ObjectStoragePath) -> list[Path]:
    """The folders of this machine that a write would create, the innermost first."""
    own = Path(folder.path)
    return [one for one in (own, *own.parents) if not one.exists()]
