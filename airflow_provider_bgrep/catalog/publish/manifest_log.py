# SPDX-License-Identifier: Apache-2.0
"""Commits manifests, and deletes files that no manifest needs any more.

``manifests/{number}.json`` is a versioned file of headers (see
:class:`~airflow_provider_bgrep.catalog.state.versioned_file.VersionedFile`), and decides which manifest is
current. ``manifest.json`` is a copy of the newest header for readers. It is replaced after the commit, so for
a moment a reader may see the previous manifest, which is complete, as are its files.

Every other file in ``manifests/`` is named ``{number}-{token}``: the rows as Parquet and as JSON lines, the
tombstones, and lists of images to delete. The header of a number names the token of the run that committed
it.

The run that commits a manifest deletes nothing that the previous manifest names. Files of deleted rows are
deleted once a later manifest is committed, other files once no kept manifest names them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, TypeVar

from airflow_provider_bgrep.catalog.config.filename_template import RESERVED
from airflow_provider_bgrep.catalog.publish.manifest_writer import open_writer
from airflow_provider_bgrep.catalog.state.manifest import (
    DamagedManifestError,
    Header,
    copied_header,
    current_header,
    header_log,
)
from airflow_provider_bgrep.catalog.state.versioned_file import split_expired
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import get_bytes, names_in, put_bytes, remove

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

KEEP_MANIFESTS: Final = 10
"""Manifests that stay. Every file that one of them names stays as well, unless its row was deleted."""

_THREADS: Final = 16
_NAME: Final = re.compile(
    r"(\d{8,})(?:-([0-9a-f]{8}))?\.(json|parquet|jsonl|tombstones\.parquet|(?:dropped|deleted)\.txt)"
)
_PART: Final = re.compile(rf"\.{_NAME.pattern}\.[0-9a-f]{{8}}\.part")
"""A partial file, left by a writer that was killed."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_R = TypeVar("_R")


def map_in_threads(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Call a function with each item, in several threads; the results have the items' order."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        return list(pool.map(function, items))
    finally:
        # A task that is stopped does not finish the queue first.
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file in the folder of manifests.

    :param name: its name.
    :param number: the manifest that it was made for.
    :param token: the token of its writer; ``''`` of a header, and of a part.
    :param kind: ``json`` (a header), ``parquet``, ``jsonl``, ``tombstones.parquet``, ``dropped.txt``,
        ``deleted.txt``, ``part``.
    """

    name: str
    number: int
    token: str
    kind: str


class ManifestLog:
    """The manifests of a destination.

    :param paths: the catalog's paths.
    :param has_single_writer: see :meth:`~.plan_store.PlanStore.has_single_writer`.
    """

    def __init__(self, paths: CatalogPaths, has_single_writer: Callable[[], bool] = lambda: False) -> None:
        self._paths, self._folder = paths, paths.manifests
        self._file = header_log(paths, has_single_writer)
        self._known: dict[int, Header] = {}  # a header never changes

    def latest(self) -> Header | None:
        """The current manifest; ``None`` before the first.

        :raises DamagedManifestError: if it is missing or cannot be read.
        :raises InvalidInput: if the destination has a ``manifest.json`` that this package did not write.
        """
        return current_header(self._paths, self._file)

    def of_plan(self, plan_id: str) -> Header | None:
        """The last manifest that a plan has committed; ``None`` if none of them is kept."""
        found = [one for one in self._headers(self._file.numbers()).values() if one.plan_id == plan_id]
        return max(found, key=lambda one: one.number, default=None)

    def plans(self) -> list[str]:
        """The plans whose manifests are kept, the latest first."""
        headers = self._headers(sorted(self._file.numbers(), reverse=True))
        return list(dict.fromkeys(one.plan_id for one in headers.values()))

    def commit(self, change: Callable[[Header | None, int], Header | None]) -> Header | None:
        """Commit a manifest.

        :param change: called with the current header and the next number. It uploads the next manifest's
            files and returns its header, or returns the current header if nothing changes. It is called
            again each time that another run commits first.
        :return: the header that is current now.
        :raises BgRepConflictError: if other runs committed first in every attempt.
        """
        self.latest()  # raises if the manifest is damaged, or is not ours
        return self._file.commit(change)[0]

    def update_copy(self) -> None:
        """Make ``manifest.json`` a copy of the newest header."""
        while (header := self._file.latest()) is not None:
            data = get_bytes(self._paths.manifest)
            copy = None if data is None else copied_header(self._paths, data)
            if data is not None and copy is None:
                _log.warning("%s is damaged. Repaired from manifest %d.", self._paths.manifest, header.number)
            if (
                copy is None
                or copy.number < header.number
                or (copy.number == header.number and copy != header)
            ):
                put_bytes(header.to_bytes(), self._paths.manifest)
            # Another run may have copied a newer header since, which ours has just replaced.
            if self._file.latest_number() == header.number:
                return

    def expire(self, images: Collection[str] = (), since: int = 0) -> None:
        """Delete files that are no longer needed. After a failure, which is logged, the next run continues.

        :param images: images that this run has copied and that the current manifest does not name.
        :param since: the first manifest that may name them. Another task of the same plan may have committed
            it.
        """
        try:
            if images:
                self._delete_images(set(images) - self._named_since(since, images))
            self._expire()
        except Exception as error:  # the storage may not allow deletes
            _log.warning(
                "Could not delete all expired files in %s: %s", self._folder, sanitize_message(error)
            )

    def _named_since(self, number: int, images: Collection[str]) -> set[str]:
        """Return those of some images that a manifest with this number or a higher one names."""
        named = set[str]()
        for header in self._headers(one for one in self._file.numbers() if one >= number).values():
            with open_writer(self._paths, header) as writer:
                named |= writer.named(images)
        return named

    def _expire(self) -> None:
        listed = list(_listed(names_in(self._folder)))
        headers = self._headers(one.number for one in listed if one.kind == "json")
        data = get_bytes(self._paths.manifest)
        copy = None if data is None else copied_header(self._paths, data)
        if not headers or copy is None:
            return
        expired, kept = split_expired(list(headers), KEEP_MANIFESTS, copy.number)
        oldest = kept[0]
        due, waiting = due_lists(listed, headers, oldest)
        if due:
            paths = self._paths_in(due) - self._paths_in(waiting)
            with open_writer(self._paths, headers[kept[-1]]) as writer:
                self._delete_images(paths - writer.named(paths))
        gone = [*due, *stray_files(listed, headers, oldest), *expired_files(listed, headers, oldest)]
        # The headers last, and the oldest first: whatever remains is found again by the next run.
        self._file.delete([*(one.name for one in gone), *(self._file.path(one).name for one in expired)])

    def _delete_images(self, paths: Iterable[str]) -> None:
        map_in_threads(lambda path: remove(self._paths.destination / path), sorted(filter(_is_image, paths)))

    def _paths_in(self, lists: Sequence[ManifestFile]) -> set[str]:
        texts = ((get_bytes(self._folder / one.name) or b"").decode() for one in lists)
        return {path for text in texts for path in text.split("\n") if path}

    def _headers(self, numbers: Iterable[int]) -> dict[int, Header]:
        """Return the headers of some manifests, by number, without damaged or expired ones."""

        def read(number: int) -> Header | None:
            try:
                return self._known.get(number) or self._file.read(number)
            except DamagedManifestError:
                return None

        wanted = list(numbers)
        found = zip(wanted, map_in_threads(read, wanted), strict=True)
        self._known.update((number, header) for number, header in found if header is not None)
        return {number: self._known[number] for number in wanted if number in self._known}


def due_lists(
    files: Iterable[ManifestFile], headers: Mapping[int, Header], oldest: int
) -> tuple[list[ManifestFile], list[ManifestFile]]:
    """Lists of images: those whose images can be deleted now, and those that have to wait.

    Images of rows that manifest n deleted stay until a later one is committed, because a consumer may still
    read manifest n - 1. Images that manifest n dropped stay until that one expires.

    :param headers: by number.
    :param oldest: number of the oldest manifest that stays.
    """
    lists = [one for one in files if one.kind.endswith(".txt") and _is_committed(one, headers)]
    newest = max(headers)
    due = [one for one in lists if one.number <= (newest - 1 if one.kind == "deleted.txt" else oldest)]
    return due, [one for one in lists if one not in due]


def stray_files(
    files: Iterable[ManifestFile], headers: Mapping[int, Header], oldest: int
) -> list[ManifestFile]:
    """Files of runs that did not commit the number that they wrote for, and parts of files.

    Once a number is taken, nobody needs what other runs wrote for it. A part does not name its writer, so it
    stays until its number expires: another run may be writing it.
    """
    newest = max(headers)
    return [
        one
        for one in files
        if one.kind != "json"
        and not _is_committed(one, headers)
        and (one.number <= newest if one.token else one.number < oldest)
    ]


def expired_files(
    files: Iterable[ManifestFile], headers: Mapping[int, Header], oldest: int
) -> list[ManifestFile]:
    """Files of manifests that expired, without their headers."""
    return [
        one for one in files if one.number < oldest and one.kind != "json" and _is_committed(one, headers)
    ]


def _is_committed(file: ManifestFile, headers: Mapping[int, Header]) -> bool:
    header = headers.get(file.number)
    return header is not None and header.token == file.token


def _listed(names: Iterable[str]) -> Iterator[ManifestFile]:
    for name in names:
        if match := _PART.fullmatch(name):
            yield ManifestFile(name, int(match[1]), "", "part")
        elif (match := _NAME.fullmatch(name)) and (match[2] is None) == (match[3] == "json"):
            yield ManifestFile(name, int(match[1]), match[2] or "", match[3])


def _is_image(path: str) -> bool:
    """Whether a path is inside the destination, and a row's: anybody may have written to the list."""
    parts = PurePosixPath(path).parts
    return len(parts) > 1 and parts[0] not in {"/", *RESERVED} and ".." not in parts
