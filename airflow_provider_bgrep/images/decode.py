# SPDX-License-Identifier: Apache-2.0
"""Decodes image files: generated images, sources and masks. The only code that hands a file to Pillow.

*   Only the formats in :data:`FORMATS` are decoded. Pillow knows others that start programs, such as EPS.
*   At most :data:`MAX_PIXELS` pixels, and of several frames the first one only.
*   Metadata of any size: the text of a PNG, its XMP and an oversized profile are removed before Pillow reads
    the file. By itself, Pillow refuses a PNG with more than 1 MB of compressed text.
*   The orientation comes from EXIF, as in browsers, never from XMP, which Pillow would read too.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import IO, Final

from PIL import Image, UnidentifiedImageError

from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.protocol.limits import IMAGE_FORMATS

MAX_PIXELS: Final = 40_000_000
"""Largest number of pixels that are decoded. The largest image of the API has 4096 x 4096."""

MAX_PROFILE_BYTES: Final = 1024 * 1024
"""Largest size of a decompressed color profile. A larger one is ignored, because Pillow would refuse the
file."""


def _has_avif() -> bool:
    """Whether this Pillow reads AVIF: version 11.3 or newer, built with libavif."""
    try:
        return bool(import_module("PIL.AvifImagePlugin").SUPPORTED)
    except (ImportError, AttributeError):
        return False


FORMATS: Final = (*IMAGE_FORMATS, "BMP", "GIF", "TIFF", *(["AVIF"] if _has_avif() else []))
"""The formats that are decoded, by Pillow's names: those that the API documentation names, and "other common
formats"."""

_EXIF_ORIENTATION: Final = 0x0112
_TRANSPOSE: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn an image upright, by its EXIF orientation."""

_TOO_MANY: Final = ": more than any image of this API, so it is not decoded"


class UnreadableError(ValueError):
    """A file is not an image that can be decoded completely.

    The message continues a sentence that begins with a noun, such as "the source" or "image 1".
    """


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The facts of an image file, whatever its name says.

    :param format: Pillow's name of its format.
    :param width: pixels, as stored: before the EXIF orientation is applied.
    :param height: pixels, as stored.
    """

    format: str
    width: int
    height: int


def inspect(path: str) -> ImageInfo:
    """Decode a local file completely, whatever its name or its host says.

    :param path: the file.
    :raises UnreadableError: if it cannot be decoded completely.
    """
    with open(path, "rb") as file, _opened(file) as image:  # noqa: PTH123 (a file object, not a path)
        return ImageInfo(image.format or "", image.width, image.height)


def load(data: bytes, *, draft_side: int | None = None) -> Image.Image:
    """Decode a file completely, and turn the image upright.

    :param data: the file.
    :param draft_side: a JPEG may be decoded at a half, a quarter or an eighth of its sides if the longest one
        is still at least this. All of the file is read; most of the work is saved.
    :return: the image, of any mode. Its ``info`` has ``full_size``: width and height as a viewer shows them.
    :raises UnreadableError: if it cannot be decoded completely.
    """
    if not data:
        raise UnreadableError("is empty or missing")
    image = _opened(io.BytesIO(data), draft_side=draft_side)
    # Pillow turns a TIFF by itself.
    width, height = image.size if image.format == "TIFF" else image.info["full_size"]
    transpose = _TRANSPOSE.get(_orientation(image))
    upright = image if transpose is None else image.transpose(transpose)
    if transpose in _SWAPS_SIDES:
        width, height = height, width
    upright.info["full_size"] = (width, height)
    return upright


_SWAPS_SIDES: Final = frozenset(_TRANSPOSE[orientation] for orientation in (5, 6, 7, 8))


@dataclass(frozen=True, slots=True)
class Sides:
    """The sides of an image in pixels, width first.

    :param stored: as its file says.
    :param shown: as a viewer shows it, turned by its EXIF orientation.
    """

    stored: tuple[int, int]
    shown: tuple[int, int]

    @property
    def words(self) -> str:
        """The stored sides, for messages."""
        return f"{self.stored[0]} x {self.stored[1]}"


def sides_of(data: bytes) -> Sides:
    """Return the sides of an image, without decoding its pixels.

    :param data: the file, or its beginning.
    :raises UnreadableError: if it is not an image, or more of the file is needed: see :func:`may_be_image`.
    """
    if not data:
        raise UnreadableError("is empty")
    try:
        with Image.open(_without_metadata(io.BytesIO(data), data[:512]), formats=FORMATS) as image:
            size = image.size
            transpose = _TRANSPOSE.get(_orientation(image))
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        raise UnreadableError(_describe(data[:512])) from None
    except Exception as error:
        raise _damaged(error) from None
    return Sides(size, (size[1], size[0]) if transpose in _SWAPS_SIDES else size)


_TURN_BACK: Final = {
    **_TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
"""How to turn an upright image back, by the EXIF orientation that it then has."""


def turned_back(upright: Image.Image, data: bytes) -> tuple[Image.Image, int]:
    """Turn an image as another file stores its own pixels: a mask fits an image whoever ignores EXIF.

    :param upright: the image, as a viewer shows it.
    :param data: the other file.
    :return: the image, and the EXIF orientation of the other file, 1 to 8, which it then needs, too.
    :raises UnreadableError: if the other file is not an image.
    """
    try:
        with Image.open(_without_metadata(io.BytesIO(data), data[:512]), formats=FORMATS) as image:
            orientation = _orientation(image)
    except UnreadableError:
        raise
    except Exception as error:
        raise _damaged(error) from None
    transpose = _TURN_BACK.get(orientation)
    return (upright, 1) if transpose is None else (upright.transpose(transpose), orientation)


_STARTS: Final = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")


def may_be_image(head: bytes) -> bool:
    """Return whether a file begins like one of :data:`FORMATS`.

    :param head: its first bytes.
    """
    return head.startswith(_STARTS) or head[4:8] == b"ftyp"


def _opened(file: IO[bytes], *, draft_side: int | None = None) -> Image.Image:
    """Open a file with Pillow, check its limits and decode it whole."""
    head = file.read(512)
    file.seek(0)
    try:
        image = Image.open(_without_metadata(file, head), formats=FORMATS)
        width, height = image.info["full_size"] = image.size
        if width * height > MAX_PIXELS:
            raise UnreadableError(f"has {width} x {height} pixels{_TOO_MANY}")
        if draft_side is not None:
            scale = min(1.0, draft_side / max(width, height))
            image.draft(None, (max(1, round(width * scale)), max(1, round(height * scale))))
        image.load()
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        raise UnreadableError(_describe(head)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableError(f"has more pixels than are safe to decode{_TOO_MANY}") from None
    except Exception as error:
        # Pillow's decoders raise whatever a broken file leads them to: OSError, SyntaxError, struct.error.
        raise _damaged(error) from None
    return image


def _damaged(error: Exception) -> UnreadableError:
    return UnreadableError(f"is incomplete or damaged ({sanitize_message(error) or type(error).__name__})")


def _orientation(image: Image.Image) -> int:
    """The orientation that EXIF gives, 1 to 8; 1 where it gives none."""
    try:
        if image.format == "TIFF":
            # A tag of the file itself. Pillow turns a TIFF by itself, then removes the tag.
            return int(image.tag_v2.get(_EXIF_ORIENTATION, 1))  # type: ignore[attr-defined]
        exif = Image.Exif()
        exif.load(image.info.get("exif") or b"")
        return int(exif.get(_EXIF_ORIENTATION, 1))
    except Exception:  # a broken EXIF does not keep viewers from the pixels
        return 1


# --- PNG metadata ---------------------------------------------------------------------------------

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_MOST_CHUNKS: Final = 100_000
"""Chunks of a PNG: an image of 256 MB has 32,000 of 8 KB. Each takes time and memory, also an empty one."""
_PNG_TEXT: Final = frozenset({b"tEXt", b"zTXt", b"iTXt"})


def _without_metadata(file: IO[bytes], head: bytes) -> IO[bytes]:
    """The file, without what Pillow would only choke on. Of other formats than PNG, the file itself."""
    if not head.startswith(_PNG):
        return file
    chunks = list(_png_chunks(file))
    kept = [(start, end) for kind, start, end in chunks if not _is_dropped(file, kind, start, end)]
    file.seek(0)
    if len(kept) == len(chunks):
        return file
    out = io.BytesIO(_PNG)
    out.seek(0, os.SEEK_END)
    for start, end in kept:
        file.seek(start)
        out.write(file.read(end - start))
    out.seek(0)
    return out


def _png_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each chunk of a PNG, and where it begins and ends: length, kind, data, checksum.

    :raises UnreadableError: if there are too many.
    """
    size = file.seek(0, os.SEEK_END)
    position = len(_PNG)
    count = 0
    while position < size:
        count += 1
        if count > _MOST_CHUNKS:
            raise UnreadableError(f"has more than {_MOST_CHUNKS:,} chunks; save it again")
        file.seek(position)
        header = file.read(8)
        # What is not a whole chunk goes to Pillow, which says that the file breaks off.
        length = struct.unpack(">I", header[:4])[0] if len(header) == 8 else size
        end = min(size, position + 12 + length)
        yield header[4:], position, end
        position = end


def _is_dropped(file: IO[bytes], kind: bytes, start: int, end: int) -> bool:
    if kind in _PNG_TEXT:
        return True
    if kind != b"iCCP":
        return False
    file.seek(start + 8)
    data = file.read(min(end - start - 12, 2 * MAX_PROFILE_BYTES))
    packed = data.partition(b"\0")[2][1:]  # after the name and the method
    try:
        return len(zlib.decompressobj().decompress(packed, MAX_PROFILE_BYTES)) >= MAX_PROFILE_BYTES
    except zlib.error:
        return False  # Pillow ignores it


# --- what a file is, where it cannot be decoded ---------------------------------------------------

_BRANDS: Final = {
    **dict.fromkeys((b"avif", b"avis"), "an AVIF image"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "a HEIC image"),
}
"""What an ISO file with the box ``ftyp`` is, by its brand."""

_MAGIC: Final = (
    (b"%!PS", "an EPS or PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "an EPS file"),
    (b"%PDF", "a PDF file"),
    (b"8BPS", "a Photoshop file"),
    (b"\x00\x00\x01\x00", "an ICO file"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"PK\x03\x04", "a ZIP archive"),
    *((b"P%d" % n + blank, "a PNM image") for n in range(1, 7) for blank in (b"\n", b" ", b"\r")),
)


def _describe(head: bytes) -> str:
    """Return what an unsupported file is, judging by its beginning."""
    formats = ", ".join(name for name in FORMATS if name != "TIFF")
    if head[4:8] == b"ftyp":
        name = _BRANDS.get(head[8:12]) or next(
            (_BRANDS[head[i : i + 4]] for i in range(16, 64, 4) if head[i : i + 4] in _BRANDS), ""
        )
        if name == "an AVIF image" and "AVIF" in FORMATS:
            return "is an AVIF image, but damaged from its beginning"
        if name == "an AVIF image":
            return "is an AVIF image, which this Pillow cannot read: install Pillow 11.3 or newer"
        if name:
            return f"is {name}, which is not supported: convert it to one of {formats}"
    text = head.lstrip()
    if text[:4].lower() == b"<svg" or b"<svg" in head.lower():
        return f"is an SVG drawing, which is not supported: convert it to one of {formats}"
    if text.startswith((b"<", b"{")):
        return "is not an image, but text such as a web page or a message"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return f"is {name}, which is not supported: convert it to one of {formats}"
    return "is not an image, or is damaged from its beginning"
