# SPDX-License-Identifier: Apache-2.0
"""Makes the masks of image files on object storage. One bad file does not stop the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.images.decode import UnreadableError
from airflow_provider_bgrep.masks.make import MadeMask, make_mask
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, reason_of
from airflow_provider_bgrep.storage import absolute_path, get_bytes, is_folder, names_in, put_bytes
from airflow_provider_bgrep.store_errors import store_errors

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

DOUBTFUL: Final = "doubtful"
"""The folder of masks that a person checks before they are used."""

_ENDINGS: Final = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "avif"})
"""Endings of the files in a folder that are taken for images. A file that is named itself may have any."""

_SUFFIX: Final = "-mask.png"


@dataclass(frozen=True, slots=True)
class FileResult:
    """What came of one file.

    :param image: the image's path.
    :param mask: the path of its mask; ``None`` if there is none, or if it was not written.
    :param made: the mask; ``None`` if the image cannot be used.
    :param is_doubtful: whether its confidence is too low.
    :param problem: why there is no mask.
    :param data: the image's file; ``b""`` if it cannot be read.
    """

    image: str
    mask: str | None = None
    made: MadeMask | None = None
    is_doubtful: bool = False
    problem: str = ""
    data: bytes = b""


def image_files(paths: Iterable[str]) -> list[ObjectStoragePath]:
    """Return the image files that paths name: files, and the images in folders.

    :param paths: absolute paths or URLs of object storage.
    :raises InvalidInput: with every path that cannot be used, or names nothing.
    :raises StoreError: if a store cannot be reached.
    """
    problems: list[Problem] = []
    found: dict[str, ObjectStoragePath] = {}
    for text in paths:
        try:
            path = absolute_path("IMAGE", text)
        except InvalidInput as error:
            problems += error.problems
            continue
        with store_errors(path):
            if is_folder(path):
                names = [name for name in names_in(path) if _ending(name) in _ENDINGS]
                files = [path / name for name in names if not name.endswith(_SUFFIX)]
            else:
                files = [path] if path.exists() else []
        if not files:
            problems.append(Problem("IMAGE", f"is {text!r}: no image is there"))
        found |= {str(file): file for file in files}
    if problems:
        raise InvalidInput(problems)
    names_of: dict[str, str] = {}
    for text, file in found.items():
        other = names_of.setdefault(_mask_name(file), text)
        if other != text:
            problems.append(
                Problem("IMAGE", f"has {other!r} and {text!r}, whose masks would have the same name")
            )
    if problems:
        raise InvalidInput(problems)
    return list(found.values())


def make_masks(
    files: Iterable[ObjectStoragePath], folder: ObjectStoragePath, least: float, *, writes: bool
) -> Iterator[FileResult]:
    """Make the masks of image files, one after the other.

    :param folder: where masks are written: those below ``least`` in its folder ``doubtful``.
    :param least: the confidence from which a mask is used without a person, 0 to 1.
    :param writes: whether to write them.
    :raises StoreError: if a mask cannot be written.
    """
    for file in files:
        try:
            data = get_bytes(file) or b""
        except Exception as error:  # of one file, whatever the store's library raises
            yield FileResult(str(file), problem=f"cannot be read: {reason_of(error)}")
            continue
        try:
            made = make_mask(data)
        except UnreadableError as error:
            yield FileResult(str(file), problem=str(error), data=data)
            continue
        is_doubtful = made.confidence < least
        target = (folder / DOUBTFUL if is_doubtful else folder) / _mask_name(file)
        if writes:
            with store_errors(target):
                put_bytes(made.file(data), target)
        yield FileResult(str(file), str(target) if writes else None, made, is_doubtful=is_doubtful, data=data)


def _mask_name(file: ObjectStoragePath) -> str:
    return f"{file.name.rpartition('.')[0] or file.name}{_SUFFIX}"


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower()
