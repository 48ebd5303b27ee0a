# SPDX-License-Identifier: Apache-2.0
"""Saves the images of a finished job: fetches each, decodes it completely, and moves it into place
atomically.

Result URLs are signed, so messages do not contain them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.client import sleep
from airflow_provider_bgrep.filenames import FilenameGrammar, fill
from airflow_provider_bgrep.images.decode import UnreadableError, inspect
from airflow_provider_bgrep.images.fetch import Fetcher, FetchError, UrlExpiredError
from airflow_provider_bgrep.images.reach import PRIVATE_RESULTS, ResultReach
from airflow_provider_bgrep.protocol.answer_order import (
    Ordered,
    Trace,
    in_order,
    renewed,
    result_digests,
    traces,
)
from airflow_provider_bgrep.protocol.codes import RetryDecision
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message
from airflow_provider_bgrep.protocol.limits import MAX_RESULT_BYTES
from airflow_provider_bgrep.protocol.models import Job, JobStatus, TaskResult
from airflow_provider_bgrep.protocol.retry import RESULTS, Action, Failure, decide
from airflow_provider_bgrep.storage import get_bytes, in_folder, put_bytes, put_file, safe_name, size_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.connection import Settings

DEFAULT_TEMPLATE: Final = "{result_key}_{index}_{output}.{ext}"
TEMPLATE_FIELDS: Final = ("result_key", "index", "output", "seed", "ext")

_ONE_JOB: Final = FilenameGrammar(TEMPLATE_FIELDS, ("index", "output"), DEFAULT_TEMPLATE)
_MANY_JOBS: Final = FilenameGrammar(
    (*TEMPLATE_FIELDS, "id"), ("result_key", "index", "output"), DEFAULT_TEMPLATE
)
_EXTENSIONS: Final = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}


@dataclass(frozen=True, slots=True)
class SavedImage:
    """A saved image.

    :param index: position of its image task in the job, from 0.
    :param output: which of the image task's images, from 0.
    :param path: its path.
    :param size: bytes.
    :param sha256: checksum of the file, hex.
    :param format: Pillow's name of the file's actual format.
    :param width: pixels.
    :param height: pixels.
    :param url_digest: digest of its URL without the signature, by which a later response is compared with
        what is saved; ``""`` if that identifies no result.
    """

    index: int
    output: int
    path: str
    size: int
    sha256: str
    format: str
    width: int
    height: int
    url_digest: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest and XCom say of it."""
        return {name: value for name, value in asdict(self).items() if name != "url_digest"}


@dataclass(frozen=True, slots=True)
class Saved:
    """The images of a job after saving.

    :param images: saved images, by index and output.
    :param failed: image tasks without images, or with fewer than requested: index and the service's message,
        or how many results it names.
    :param lost: images that could not be saved, and why.
    """

    images: tuple[SavedImage, ...]
    failed: tuple[dict[str, Any], ...]
    lost: tuple[Lost, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """An image that could not be saved.

    :param index: position of its image task in the job, from 0.
    :param output: which of the image task's images, from 0.
    :param reason: why, without its URL.
    :param is_gone: whether a new URL was refused as well; otherwise another try may help.
    :param sha256: checksum of a response that cannot be decoded, hex.
    """

    index: int
    output: int
    reason: str
    is_gone: bool = False
    sha256: str = ""

    def __str__(self) -> str:
        return f"[{self.index}] output {self.output}: {self.reason}"


def check_template(template: str, *, with_id: bool = False) -> None:
    """Check a file-name template.

    :param with_id: whether to allow ``{id}``, the image task's own id, which several image tasks may
        share.
    :raises InvalidInput: if it has an unknown field, could give two images the same name, or leaves the
        folder.
    """
    problems = (_MANY_JOBS if with_id else _ONE_JOB).problems(template)
    if problems:
        raise InvalidInput([Problem("filename_template", f"{template!r} {what}") for what in problems])


def save_job(
    result_key: str,
    destination: ObjectStoragePath,
    *,
    query: Callable[[str], Job],
    settings: Settings,
    template: str = DEFAULT_TEMPLATE,
    max_bytes: int = MAX_RESULT_BYTES,
    order: str = "",
    end_time: float = math.inf,
    log: Callable[[str], None] = lambda line: None,
    lacking: Callable[[Job], Mapping[int, str]] = lambda job: {},
) -> Saved:
    """Save the images of a finished job. Images that an earlier try saved are not fetched again.

    A later response may list the image tasks, and the results of each, in another order. What cannot be
    recognized in it is fetched again.

    If even new URLs are refused, the job is queried again for a while: the cause may be replication lag.

    :param destination: folder to save to.
    :param query: queries the job; called once, and again if URLs have expired.
    :param settings: the connection, for its proxies and its timeout; its AppCode is not sent.
    :param template: file names, with the fields ``result_key``, ``index``, ``output``, ``seed``, ``ext``.
    :param max_bytes: largest size of one image in bytes.
    :param order: identifies the order of the tasks that ``query`` returns; ``""`` for the order of the
        response. Images that were saved in another order are not reused, because their indexes have
        another meaning.
    :param end_time: deadline for downloads, wall clock in seconds.
    :param log: called with a line for each event.
    :param lacking: returns which results a response does not name, by the index of the image task. The next
        call then queries the job again.
    :raises InvalidInput: if ``template`` cannot be used.
    """
    check_template(template)
    manifest = destination / f"{safe_name(result_key)}.manifest.json"
    known = _known(manifest, template, order)
    if known is not None and known.is_complete:
        log("All images are already saved; nothing is downloaded.")
        return Saved(known.images, known.failed, ())
    ordered: tuple[SavedImage, ...] = known.images if known else ()
    lost: tuple[Lost, ...] = ()
    tasks = known.tasks if known else ()
    for attempt in itertools.count(1):
        found = _in_order(query(result_key), tasks)
        job, tasks = found.job, traces(found.job)
        ordered, lost = save_images(
            job,
            destination,
            query=lambda key, job=job: renewed(job, query(key)),  # type: ignore[misc]
            settings=settings,
            template=template,
            max_bytes=max_bytes,
            had=[image for image in ordered if image.index in found.certain],
            end_time=end_time,
            log=log,
        )
        failure, left = Failure(RetryDecision.SEND_AGAIN), end_time - time.time()
        step = decide(failure, RESULTS, attempt=attempt, time_left=left, rand=random.random())  # noqa: S311
        if step.action is not Action.RETRY or not any(one.is_gone for one in lost):
            break
        log("The host of the results refuses new URLs as well. Asking again.")
        sleep(step.seconds)
    unnamed = lacking(job)
    failed = tuple(
        {
            "index": task.index,
            "message": sanitize_message(task.message)
            if task.status == JobStatus.FAILED
            else unnamed[task.index],
        }
        for task in job.tasks
        if task.status == JobStatus.FAILED or task.index in unnamed
    )
    # Written even if images are missing, so that the next try fetches only those.
    _write_manifest(manifest, template, order, _Known(ordered, failed, tasks, not (lost or unnamed)))
    return Saved(ordered, failed, lost)


def _in_order(job: Job, earlier: Sequence[Trace]) -> Ordered:
    """Return a response in the order of the earlier one, or in its own if it lists other image tasks."""
    return in_order(job, earlier) or Ordered(job, frozenset())


def save_images(
    job: Job,
    destination: ObjectStoragePath,
    *,
    query: Callable[[str], Job],
    settings: Settings,
    template: str = DEFAULT_TEMPLATE,
    max_bytes: int = MAX_RESULT_BYTES,
    had: Iterable[SavedImage] = (),
    ids: Sequence[str] = (),
    end_time: float = math.inf,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[tuple[SavedImage, ...], tuple[Lost, ...]]:
    """Save the images of a finished job, one after the other.

    :param query: queries the job again, if a URL has expired; not again once a fresh URL is refused.
    :param had: images that are already saved. A response may list the results in another order: each is
        recognized by its URL or its content.
    :param ids: value of ``{id}`` for each image task.
    :param end_time: deadline for downloads, wall clock in seconds; the remaining images are reported as
        lost.
    :param log: called with a line for each event.
    :return: the saved images, by index and output, and those that could not be saved.
    """
    by_index: dict[int, list[SavedImage]] = {}
    for image in had:
        by_index.setdefault(image.index, []).append(image)
    lost: list[Lost] = []
    answer, may_query = job, True
    with Fetcher(
        settings,
        max_bytes=max_bytes,
        end_time=end_time,
        may_reach=ResultReach(settings),
        option=PRIVATE_RESULTS,
    ) as fetcher:
        for task in job.tasks:
            index, seed = task.index, task.echo.get("seed")
            own = ids[index] if index < len(ids) else ""
            outputs = _Outputs(_later(answer, task) or task, by_index.pop(index, ()))
            is_renewed = False
            while outputs.left:
                name = _Name(template, job.result_key, index, outputs.number, seed, own)
                try:
                    try:
                        outputs.keep(_save(fetcher, outputs.url, destination, name, outputs.unrecognized))
                        may_query = may_query or is_renewed
                    except UrlExpiredError:
                        if not may_query:
                            is_renewed = False
                            raise
                        # With many images, the last URLs of a new response may expire as well.
                        log("A result URL has expired; querying the job for new ones.")
                        answer, may_query = query(job.result_key), False
                        later = _later(answer, task)
                        if later is None:
                            raise FetchError(_NO_NEW_URL) from None
                        outputs, is_renewed = _Outputs(later, outputs.saved.values()), True
                except Exception as error:
                    # One bad image must not stop the others, whatever the error.
                    digest = error.sha256 if isinstance(error, NoImageError) else ""
                    is_gone = isinstance(error, UrlExpiredError)
                    outputs.lose(Lost(index, name.output, _words(error), is_gone, digest))
            by_index[index] = [*outputs.saved.values()]
            lost += outputs.lost.values()
    images = (image for some in by_index.values() for image in some)
    return tuple(sorted(images, key=lambda image: (image.index, image.output))), tuple(lost)


_NO_NEW_URL: Final = "has expired, and the service does not return a new one"


def _later(answer: Job, task: TaskResult) -> TaskResult | None:
    """Return an image task as a later response describes it; ``None`` if that names fewer results."""
    found = (one for one in answer.tasks if one.index == task.index)
    return next((one for one in found if len(one.results) >= len(task.results)), None)


class _Outputs:
    """The images of one image task, while they are saved.

    A result has the number of its place in the response, or another free one if a saved image has that. A
    saved image whose URL the response does not name is compared by its content with what is downloaded. If
    no number is free, such an image is replaced: it is one of the results, too.

    :param task: the image task, as the response describes it.
    :param had: its images that are already saved.
    """

    def __init__(self, task: TaskResult, had: Iterable[SavedImage]) -> None:
        self.saved = {image.output: image for image in had}
        self.lost: dict[int, Lost] = {}
        self._results, self._digests = task.results, result_digests(task)
        named = {digest for digest in self._digests if digest}
        self._open = {output for output, image in self.saved.items() if image.url_digest not in named}
        known = {image.url_digest for image in self.saved.values()} & named
        places = [place for place, digest in enumerate(self._digests) if digest not in known]
        self.left = sorted(places, key=lambda place: place in self.saved)
        """Places of the results that are not known to be saved, and were not tried yet."""

    @property
    def url(self) -> str:
        """URL of the next result."""
        return self._results[self.left[0]]

    @property
    def number(self) -> int:
        """Number that the next result gets."""
        taken = self.saved.keys() | self.lost.keys()
        free = [one for one in (self.left[0], *range(len(self._results))) if one not in taken]
        return free[0] if free else min(self._open, default=self.left[0])

    @property
    def unrecognized(self) -> Mapping[str, SavedImage]:
        """The saved images that may be any of the results, by their checksums."""
        return {self.saved[output].sha256: self.saved[output] for output in self._open}

    def keep(self, image: SavedImage) -> None:
        """Take the next result for saved."""
        digest = self._digests[self.left.pop(0)]
        self.saved[image.output] = replace(image, url_digest=digest)
        self._open.discard(image.output)

    def lose(self, lost: Lost) -> None:
        """Leave the next result out."""
        self.left.pop(0)
        self.lost[lost.output] = lost


@dataclass(frozen=True, slots=True)
class _Name:
    """What an image's file name is made of."""

    template: str
    result_key: str
    index: int
    output: int
    seed: Any
    id: str

    def with_extension(self, ext: str) -> str:
        values = {
            "result_key": self.result_key,
            "index": f"{self.index:02d}",
            "output": self.output,
            "seed": "random" if self.seed is None else self.seed,
            "id": self.id,
            "ext": ext,
        }
        return fill(self.template, values)


class NoImageError(UnreadableError):
    """A result that was downloaded completely and cannot be decoded.

    :param reason: why it cannot be decoded.
    :param sha256: checksum of the response, hex.
    """

    def __init__(self, reason: str, sha256: str) -> None:
        super().__init__(reason)
        self.sha256 = sha256


def _save(
    fetcher: Fetcher,
    url: str,
    destination: ObjectStoragePath,
    name: _Name,
    known: Mapping[str, SavedImage],
) -> SavedImage:
    """Download a result and save it.

    :param known: saved images by their checksums. A result that is one of them is not saved again.
    """
    handle, local = tempfile.mkstemp(prefix="bgrep-")
    os.close(handle)
    try:
        try:
            fetched, image = fetcher.download(url, local, inspect)
        except UnreadableError as error:
            with Path(local).open("rb") as file:
                raise NoImageError(str(error), hashlib.file_digest(file, "sha256").hexdigest()) from None
        if fetched.sha256 in known:
            return known[fetched.sha256]
        path = destination / name.with_extension(_EXTENSIONS.get(image.format, image.format.lower()))
        put_file(local, path)
    finally:
        Path(local).unlink(missing_ok=True)
    return SavedImage(
        name.index,
        name.output,
        str(path),
        fetched.size,
        fetched.sha256,
        image.format,
        image.width,
        image.height,
    )


def _words(error: BaseException) -> str:
    if isinstance(error, UrlExpiredError):
        return f"its URL {error}, and so does a new one"
    if isinstance(error, FetchError | UnreadableError | OSError):
        return sanitize_message(error)
    # Its own words may hold the URL.
    return f"could not be saved ({type(error).__name__})"


@dataclass(frozen=True, slots=True)
class _Known:
    images: tuple[SavedImage, ...]
    failed: tuple[dict[str, Any], ...]
    tasks: tuple[Trace, ...]
    is_complete: bool


def _known(manifest: ObjectStoragePath, template: str, order: str) -> _Known | None:
    """The images that an earlier run saved under this template, in this order, and that are still there."""
    data = get_bytes(manifest)
    if data is None:
        return None
    try:
        value = json.loads(data)
        if value["version"] != 1 or value["filename_template"] != template:
            return None
        if value.get("order", "") != order:
            return None
        listed = [SavedImage(**image) for image in value["files"]]
        tasks = tuple(Trace(**task) for task in value.get("tasks", ()))
        known = _Known(tuple(listed), tuple(value["failed"]), tasks, bool(value["is_complete"]))
    except (ValueError, TypeError, KeyError):
        return None  # damaged: the images are fetched again
    folder = manifest.parent
    there = tuple(p for p in listed if size_of(in_folder(folder, p.path)) == p.size)
    return replace(known, images=there, is_complete=known.is_complete and len(there) == len(listed))


def _write_manifest(manifest: ObjectStoragePath, template: str, order: str, known: _Known) -> None:
    value = {
        "version": 1,
        "filename_template": template,
        "order": order,
        "is_complete": known.is_complete,
        "files": [asdict(image) for image in known.images],
        "failed": list(known.failed),
        "tasks": [asdict(task) for task in known.tasks],
    }
    put_bytes(json.dumps(value, ensure_ascii=False, indent=1).encode(), manifest)
