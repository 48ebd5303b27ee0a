# SPDX-License-Identifier: Apache-2.0
"""Fetches the images of a finished job, looks at each, and puts it where it belongs.

Result URLs are another host's than the API's: no credentials go there. They are signed, so no message
here repeats one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import string
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import requests
from PIL import Image

from airflow_provider_bgrep.client import sleep
from airflow_provider_bgrep.protocol.codes import RetryDecision
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, sanitize_message
from airflow_provider_bgrep.protocol.limits import MAX_RESULT_BYTES
from airflow_provider_bgrep.protocol.models import Job, JobStatus
from airflow_provider_bgrep.protocol.retry import FETCH, Action, Failure, decide
from airflow_provider_bgrep.storage import get_bytes, in_folder, put_bytes, put_file, safe_name, size_of
from airflow_provider_bgrep.transport import (
    CONNECT_TIMEOUT,
    AttemptDeadline,
    OneAttemptAdapter,
    environment_bundle,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_bgrep.connection import Settings

DEFAULT_TEMPLATE: Final = "{result_key}_{index}_{output}.{ext}"
TEMPLATE_FIELDS: Final = ("result_key", "index", "output", "seed", "ext")
_EXTENSIONS: Final = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}
_CHUNK: Final = 256 * 1024
_SLOWEST: Final = 10
"""An image may take so many times the connection's time-out, which requests starts anew with each byte."""
_EXPIRED: Final = frozenset({403, 404, 410})


@dataclass(frozen=True, slots=True)
class SavedImage:
    """One generated image, saved.

    :param index: position of its image task in the job, from 0.
    :param output: which of the image task's images, from 0.
    :param path: where it lies.
    :param size: bytes.
    :param sha256: checksum of the file, hex.
    :param format: Pillow's name of the format it really has.
    :param width: pixels.
    :param height: pixels.
    """

    index: int
    output: int
    path: str
    size: int
    sha256: str
    format: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a job's images.

    :param images: those that lie in place, by index and output.
    :param failed: image tasks that have no images: index and the service's message.
    :param lost: images that could not be saved this time, and why.
    """

    images: tuple[SavedImage, ...]
    failed: tuple[dict[str, Any], ...]
    lost: tuple[Lost, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """One generated image that could not be saved.

    :param index: position of its image task in the job, from 0.
    :param output: which of the image task's images, from 0.
    :param reason: why, without its URL.
    :param is_gone: whether a fresh URL was no good either; otherwise another try may help.
    """

    index: int
    output: int
    reason: str
    is_gone: bool = False

    def __str__(self) -> str:
        return f"[{self.index}] output {self.output}: {self.reason}"


class _Expired(Exception):
    """The URL is not good any more, or not yet."""


class _Bad(Exception):
    """What came is no image, or not all of it."""


def check_template(template: str, *, with_id: bool = False) -> None:
    """Check a file-name template.

    :param with_id: for images of several jobs, where ``{id}`` stands for an image task's own id, which
        may be that of another too.
    :raises InvalidInput: if it names an unknown field, gives two images one name, or leaves the folder.
    """
    try:
        parsed = [field for field in string.Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        what = f"{template!r} cannot be read: {error}"
        raise InvalidInput([Problem("filename_template", what)]) from None
    problems = []
    names = [str(name) for _, name, _, _ in parsed]
    for _, name, spec, conversion in parsed:
        if spec or conversion:
            # Cut or padded, two names may be one.
            what = f"has {name!r} with a format; give {{{name}}} alone"
            problems.append(Problem("filename_template", what))
    fields = (*TEMPLATE_FIELDS, "id") if with_id else TEMPLATE_FIELDS
    unknown = sorted({name for name in names if name not in fields})
    if unknown:
        what = f"has {', '.join(map(repr, unknown))}; the fields are {', '.join(fields)}"
        problems.append(Problem("filename_template", what))
    needed = ("result_key", "index", "output") if with_id else ("index", "output")
    missing = [name for name in needed if name not in names]
    if missing:
        what = f"lacks {' and '.join(f'{{{name}}}' for name in missing)}: images would overwrite each other"
        problems.append(Problem("filename_template", what))
    if template.startswith("/") or any(part in ("", ".", "..") for part in template.split("/")):
        problems.append(Problem("filename_template", f"{template!r} is no name inside the destination"))
    if problems:
        raise InvalidInput(problems)


def save_job(
    result_key: str,
    destination: ObjectStoragePath,
    *,
    query: Callable[[str], Job],
    settings: Settings,
    template: str = DEFAULT_TEMPLATE,
    max_bytes: int = MAX_RESULT_BYTES,
    is_matched: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> Saved:
    """Save a finished job's images. What an earlier run saved is found and not fetched again.

    :param destination: folder to save to.
    :param query: asks the service for a job; asked once, and once more when URLs have expired.
    :param settings: the connection, for its proxies and its time-out; its AppCode is not used.
    :param template: file names; fields ``result_key``, ``index``, ``output``, ``seed``, ``ext``.
    :param max_bytes: most bytes that one image may have.
    :param is_matched: whether ``query`` returns a job's tasks in the order submitted. What was saved in
        the order of an answer is not taken for it.
    :param log: told of what happens.
    :raises InvalidInput: if ``template`` cannot be used.
    """
    check_template(template)
    manifest = destination / f"{safe_name(result_key)}.manifest.json"
    known = _known(manifest, template, is_matched)
    if known is not None and known.is_complete:
        log("Everything was saved by an earlier run; nothing is fetched.")
        return Saved(known.images, known.failed, ())
    job = query(result_key)
    ordered, lost = save_images(
        job,
        destination,
        query=query,
        settings=settings,
        template=template,
        max_bytes=max_bytes,
        had=known.images if known else (),
        log=log,
    )
    failed = tuple(
        {"index": task.index, "message": sanitize_message(task.message)}
        for task in job.tasks
        if task.status == JobStatus.FAILED
    )
    # Written even when something is lost: the next try fetches only that.
    _write_manifest(manifest, template, is_matched, _Known(ordered, failed, not lost))
    return Saved(ordered, failed, lost)


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
    log: Callable[[str], None] = lambda line: None,
) -> tuple[tuple[SavedImage, ...], tuple[Lost, ...]]:
    """Save the images of a finished job, one after the other.

    :param query: asks the service for the job once more, when a URL has expired.
    :param had: images that lie in place already.
    :param ids: for each image task what ``{id}`` of the template stands for.
    :return: the images that lie in place now, by index and output, and those that could not be saved.
    """
    images = {(image.index, image.output): image for image in had}
    lost: list[Lost] = []
    fresh: Job | None = None
    with _session(settings) as session:
        fetch = _Fetcher(session, settings.timeout, max_bytes)
        for index, output, url, seed in _wanted(job):
            if (index, output) in images:
                continue
            own = ids[index] if index < len(ids) else ""
            name = _Namer(template, job.result_key, index, output, seed, own)
            try:
                try:
                    saved = fetch.save(url, destination, name)
                except _Expired:
                    if fresh is None:
                        log("A result URL has expired: asking for fresh ones.")
                        fresh = query(job.result_key)
                    saved = fetch.save(_url_of(fresh, index, output), destination, name)
            except Exception as error:
                # Whatever it is: one bad image must not take the others along.
                lost.append(Lost(index, output, _words(error), isinstance(error, _Expired)))
            else:
                images[index, output] = saved
    return tuple(images[key] for key in sorted(images)), tuple(lost)


def _wanted(job: Job) -> Iterator[tuple[int, int, str, Any]]:
    for task in job.tasks:
        for output, url in enumerate(task.results):
            yield task.index, output, url, task.echo.get("seed")


def _url_of(job: Job, index: int, output: int) -> str:
    for i, o, url, _ in _wanted(job):
        if (i, o) == (index, output):
            return url
    raise _Bad("has expired, and the service does not name it now")


@dataclass(frozen=True, slots=True)
class _Namer:
    template: str
    result_key: str
    index: int
    output: int
    seed: Any
    id: str

    def name(self, ext: str) -> str:
        values = {
            "result_key": self.result_key,
            "index": f"{self.index:02d}",
            "output": self.output,
            "seed": "random" if self.seed is None else self.seed,
            "id": self.id,
            "ext": ext,
        }
        return self.template.format(**{name: safe_name(value) for name, value in values.items()})


@dataclass(frozen=True, slots=True)
class _Fetcher:
    session: requests.Session
    timeout: float
    max_bytes: int

    def save(self, url: str, destination: ObjectStoragePath, namer: _Namer) -> SavedImage:
        handle, local = tempfile.mkstemp(prefix="bgrep-")
        os.close(handle)
        try:
            (size, digest), (kind, width, height) = self._fetch_patiently(url, local)
            ext = _EXTENSIONS.get(kind, kind.lower())
            path = destination / namer.name(ext)
            put_file(local, path)
        finally:
            Path(local).unlink(missing_ok=True)
        return SavedImage(namer.index, namer.output, str(path), size, digest, kind, width, height)

    def _fetch_patiently(self, url: str, local: str) -> tuple[tuple[int, str], tuple[str, int, int]]:
        for attempt in itertools.count(1):
            try:
                return self._fetch(url, local), looked_at(local)
            except (requests.RequestException, _Bad):
                step = decide(Failure(RetryDecision.SEND_AGAIN), FETCH, attempt=attempt)
                if step.action is not Action.RETRY:
                    raise
                sleep(step.seconds)
        raise AssertionError("unreachable")

    def _fetch(self, url: str, local: str) -> tuple[int, str]:
        timeout = (min(CONNECT_TIMEOUT, self.timeout), self.timeout)
        with (
            AttemptDeadline(_SLOWEST * self.timeout) as deadline,
            self.session.get(url, stream=True, timeout=timeout) as response,
            Path(local).open("wb") as file,
        ):
            if response.status_code in _EXPIRED:
                raise _Expired(f"HTTP {response.status_code}")
            if response.status_code != 200:
                raise _Bad(f"HTTP {response.status_code}")
            size, digest = 0, hashlib.sha256()
            for chunk in response.iter_content(_CHUNK):
                size += len(chunk)
                if size > self.max_bytes:
                    raise _TooLarge(f"is larger than {self.max_bytes} bytes")
                digest.update(chunk)
                file.write(chunk)
            promised = response.headers.get("Content-Length")
            encoded = response.headers.get("Content-Encoding")
            if promised and promised.isdigit() and not encoded and int(promised) != size:
                raise _Bad(f"ended after {size} of {promised} bytes")
        if deadline.has_passed:
            raise _Bad("did not arrive in time")
        if not size:
            raise _Bad("is empty")
        return size, digest.hexdigest()


class _TooLarge(OSError):
    """Over the cap: fetching it again would not make it smaller."""


def looked_at(local: str) -> tuple[str, int, int]:
    """Decode an image whole, whatever it calls itself.

    :return: Pillow's name of its format, width and height.
    :raises _Bad: if it is no image, or a part of one.
    """
    try:
        with Image.open(local) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise _Bad("has more pixels than any image of this API")
            image.load()
            return image.format or "", image.width, image.height
    except _Bad:
        raise
    except Exception as error:
        # Pillow's decoders raise whatever a broken file leads them to: OSError, SyntaxError, struct.error.
        raise _Bad(f"is no image ({type(error).__name__})") from None


def _session(settings: Settings) -> requests.Session:
    session = requests.Session()
    session.auth = lambda request: request  # keeps .netrc's credentials off
    for scheme in ("http://", "https://"):
        session.mount(scheme, OneAttemptAdapter())
    session.verify = settings.verify
    if settings.proxies is not None:
        session.trust_env, session.proxies = False, dict(settings.proxies)
        if settings.verify is True:
            session.verify = environment_bundle()
    return session


def _words(error: BaseException) -> str:
    if isinstance(error, requests.RequestException) or not isinstance(error, _Bad | _Expired | OSError):
        # Its own words may hold the URL.
        return f"could not be fetched ({type(error).__name__})"
    if isinstance(error, _Expired):
        return f"the URL is not good, and a fresh one neither ({error})"
    return str(error)


@dataclass(frozen=True, slots=True)
class _Known:
    images: tuple[SavedImage, ...]
    failed: tuple[dict[str, Any], ...]
    is_complete: bool


def _known(manifest: ObjectStoragePath, template: str, is_matched: bool) -> _Known | None:
    """What an earlier run saved under this template, in this order, and is still there; or ``None``."""
    data = get_bytes(manifest)
    if data is None:
        return None
    try:
        value = json.loads(data)
        if value["version"] != 1 or value["filename_template"] != template:
            return None
        if value.get("is_matched", False) != is_matched:
            return None
        listed = [SavedImage(**image) for image in value["files"]]
        known = _Known(tuple(listed), tuple(value["failed"]), bool(value["is_complete"]))
    except (ValueError, TypeError, KeyError):
        return None  # damaged: the images are fetched again
    folder = manifest.parent
    there = tuple(p for p in listed if size_of(in_folder(folder, p.path)) == p.size)
    return replace(known, images=there, is_complete=known.is_complete and len(there) == len(listed))


def _write_manifest(manifest: ObjectStoragePath, template: str, is_matched: bool, known: _Known) -> None:
    value = {
        "version": 1,
        "filename_template": template,
        "is_matched": is_matched,
        "is_complete": known.is_complete,
        "files": [asdict(image) for image in known.images],
        "failed": list(known.failed),
    }
    put_bytes(json.dumps(value, ensure_ascii=False, indent=1).encode(), manifest)
