# SPDX-License-Identifier: Apache-2.0
"""Which manifest is in force: switched in one step, and what none needs any more is removed.

``manifests/{number}.json`` is the truth of those who publish: to switch is to create the next number, which
of several that try at once one does. ``manifest.json`` is a copy of the newest for those who read, replaced
after it: at worst they see for a moment the one before, which is whole, too, and so are its files.

Everything else in ``manifests/`` is named ``{number}-{token}`` after the number it was made for: the rows as
Parquet and as JSON lines, and lists of images that are to be removed. A number's header tells the token
that won it.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, TypeVar

from airflow_provider_bgrep.catalog.config.filename_template import RESERVED
from airflow_provider_bgrep.catalog.state.manifest import DamagedManifestError, Draft, Header
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message
from airflow_provider_bgrep.storage import create_bytes, get_bytes, local_copy, names_in, put_bytes, remove

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

KEPT: Final = 10
"""Manifests that stay. Every file that one of them names stays, too, unless its row was deleted."""

_THREADS: Final = 16
_NAME: Final = re.compile(r"(\d{8,})(?:-([0-9a-f]{8}))?\.(json|parquet|jsonl|dropped\.txt|deleted\.txt)")
_PART: Final = re.compile(rf"\.{_NAME.pattern}\.[0-9a-f]{{8}}\.part")
"""What is left of a file whose writer was killed."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_R = TypeVar("_R")


def at_once(work: Callable[[_T], _R], things: Iterable[_T]) -> list[_R]:
    """Do something with each of some things, several at a time; in their order."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        return list(pool.map(work, things))
    finally:
        # Who is told to stop does not first do all the rest.
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _File:
    """A file in the folder of manifests; of a header, and of a part of a file, the token is ``''``."""

    name: str
    number: int
    token: str
    kind: str


class Manifests:
    """The manifests of a destination.

    :param layout: where everything lies.
    """

    def __init__(self, layout: CatalogPaths) -> None:
        self._layout, self._folder = layout, layout.manifests
        self._known: dict[int, Header] = {}  # they never change

    def newest(self) -> Header | None:
        """The manifest in force; ``None`` before the first.

        :raises DamagedManifestError: if it cannot be read, or is lost.
        :raises InvalidInput: if the destination's ``manifest.json`` is somebody else's.
        """
        # The copy first: a number that it has is in a list that is made later.
        data = get_bytes(self._layout.manifest)
        number = max(self._numbers(), default=0)
        if data is not None:
            shown = self._shown(data)
            if shown is None and not number:
                what = f"{self._layout.manifest} is not ours; give a folder of its own"
                raise InvalidInput([Problem("destination", what)])
            if shown is not None and shown.number > number:
                raise DamagedManifestError(
                    f"{self._layout.manifest} is a copy of manifest {shown.number}, and {self._folder} does "
                    "not have that. Bring the folder back; or remove the copy, and all is published anew."
                )
        return self._header(number) if number else None

    @contextlib.contextmanager
    def draft(self, base: Header | None) -> Iterator[Draft]:
        """Work on the successor of a manifest."""
        with tempfile.TemporaryDirectory(prefix="bgrep-") as folder, contextlib.ExitStack() as stack:
            local = None
            if base is not None:
                local = stack.enter_context(local_copy(self._folder / base.file("parquet")))
            draft = Draft(self._layout, base, Path(folder), local)
            stack.callback(draft.db.close)
            yield draft

    def commit(self, header: Header) -> bool:
        """Put a manifest in force whose files are in place.

        :return: whether it is; if not, another has its number.
        """
        return create_bytes(header.to_bytes(), self._path(header.number))

    def show(self) -> None:
        """Make ``manifest.json`` a copy of the newest manifest."""
        while newest := max(self._numbers(), default=0):
            header, data = self._header(newest), get_bytes(self._layout.manifest)
            shown = None if data is None else self._shown(data)
            if shown is None or shown.number < newest or (shown.number == newest and shown != header):
                put_bytes(header.to_bytes(), self._layout.manifest)
            # Somebody faster may have shown a newer one, and we have put ours over it.
            if max(self._numbers(), default=0) == newest:
                return

    def changed_by(self, plan_id: str, what: str) -> int:
        """Rows that a plan's manifests have changed, as far as they are still there."""
        return sum(one.changed[what] for one in self._headers().values() if one.plan_id == plan_id)

    def tidy(self, images: Iterable[str] = ()) -> None:
        """Remove files that nobody needs any more. What goes wrong here is told, and left to the next run.

        :param images: paths that no manifest has ever named.
        """
        try:
            self._remove_images(images)
            self._tidy()
        except Exception as error:  # who may write may not be allowed to delete
            _log.warning("Not everything that is out of date could be removed: %s", sanitize_message(error))

    def _tidy(self) -> None:
        listed, headers = list(self._listed()), self._headers()
        data = get_bytes(self._layout.manifest)
        shown = None if data is None else self._shown(data)
        if not headers or shown is None:
            return
        newest = max(headers)
        oldest = min(newest - KEPT + 1, shown.number)
        ours = [one for one in listed if one.number in headers and headers[one.number].token == one.token]
        lists = [one for one in ours if one.kind.endswith(".txt")]
        # Files that manifest n dropped are named by the one before.
        due = [one for one in lists if one.kind == "deleted.txt" or one.number <= oldest]
        if due:
            waiting = [one for one in lists if one not in due]
            with self.draft(headers[newest]) as draft:
                paths = self._paths_in(due) - self._paths_in(waiting)
                self._remove_images(paths - draft.named(paths))
        # Of a number that is taken, whatever is not the winner's is of no use to anybody; what is still being
        # written is left alone for a while.
        strays = [
            one
            for one in listed
            if one.kind != "json" and one not in ours and one.number < (newest + 1 if one.token else oldest)
        ]
        old = [one for one in ours if one.number < oldest]
        for one in (*due, *strays, *old):
            remove(self._folder / one.name)
        for number in sorted(headers):
            if number < oldest:
                remove(self._path(number))

    def _remove_images(self, paths: Iterable[str]) -> None:
        at_once(lambda path: remove(self._layout.destination / path), sorted(filter(_is_image, paths)))

    def _paths_in(self, lists: Sequence[_File]) -> set[str]:
        texts = ((get_bytes(self._folder / one.name) or b"").decode() for one in lists)
        return {path for text in texts for path in text.split("\n") if path}

    def _listed(self) -> Iterator[_File]:
        for name in names_in(self._folder):
            if match := _PART.fullmatch(name):
                yield _File(name, int(match[1]), "", "part")
            elif (match := _NAME.fullmatch(name)) and (match[2] is None) == (match[3] == "json"):
                yield _File(name, int(match[1]), match[2] or "", match[3])

    def _numbers(self) -> list[int]:
        return [one.number for one in self._listed() if one.kind == "json"]

    def _headers(self) -> dict[int, Header]:
        """All that there are, by number."""
        numbers = self._numbers()
        # One that is not there any more is an old one, which another publisher has removed.
        found = zip(numbers, at_once(self._read, numbers), strict=True)
        return {number: header for number, header in found if header is not None}

    def _path(self, number: int) -> ObjectStoragePath:
        return self._folder / f"{number:08}.json"

    def _header(self, number: int) -> Header:
        header = self._read(number)
        if header is None:
            raise DamagedManifestError(f"{self._path(number)} is not there any more")
        return header

    def _read(self, number: int) -> Header | None:
        if number not in self._known:
            path = self._path(number)
            data = get_bytes(path)
            if data is None:
                return None
            self._known[number] = Header.from_bytes(data, path)
        return self._known[number]

    def _shown(self, data: bytes) -> Header | None:
        try:
            return Header.from_bytes(data, self._layout.manifest)
        except DamagedManifestError:
            return None


def _is_image(path: str) -> bool:
    """Whether a path is inside the destination, and a row's: somebody may have written to the list."""
    parts = PurePosixPath(path).parts
    return len(parts) > 1 and parts[0] not in {"/", *RESERVED} and ".." not in parts
