# SPDX-License-Identifier: Apache-2.0
"""Opens a catalog of any form: CSV, JSON lines, Parquet, a folder of them, or rows of an upstream task.

Every cell comes as text by the rule of :mod:`~airflow_provider_bgrep.catalog.source.cells`, every row with
the line it begins on. Only the columns that somebody asks for are read. A row that cannot be read is reported
with its line; the others are still read.
"""

from __future__ import annotations

import contextlib
import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.model.cell_values import EMPTY_CELLS
from airflow_provider_bgrep.catalog.source.catalog import (
    FOLDER_REMEDY,
    Catalog,
    FileState,
    file_state,
    refusal,
    written_to,
)
from airflow_provider_bgrep.catalog.source.cells import EmptyWords
from airflow_provider_bgrep.catalog.source.csv_encoding import utf16_or_32
from airflow_provider_bgrep.catalog.source.csv_reader import open_csv
from airflow_provider_bgrep.catalog.source.json_reader import open_jsonl, open_rows
from airflow_provider_bgrep.catalog.source.parquet_reader import open_parquet
from airflow_provider_bgrep.catalog.source.parts import Part, empty_part, open_parts
from airflow_provider_bgrep.catalog.source.table_folders import PARTITION, check_log, check_partitions
from airflow_provider_bgrep.content_version import content_version
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem, StoreError, sanitize_message
from airflow_provider_bgrep.storage import absolute_path, infos_in, is_folder, is_local, local_copy, names_in
from airflow_provider_bgrep.store_errors import store_errors
from airflow_provider_bgrep.store_paths import shown_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

FORMATS: Final[dict[str, tuple[str, ...]]] = {
    "csv": (".csv", ".tsv", ".tab", ".txt"),
    "jsonl": (".jsonl", ".ndjson", ".json-lines", ".json"),
    "parquet": (".parquet", ".pq"),
}
_GZIP: Final = b"\x1f\x8b"
REFUSED: Final = (
    (b"PK\x03\x04", "an Excel workbook or another ZIP archive; save the sheet as CSV in UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook of an old format; save the sheet as CSV in UTF-8"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; compress it with gzip, or not at all"),
    (b"BZh", "compressed with bzip2; compress it with gzip, or not at all"),
    (b"\xfd7zXZ", "compressed with xz; compress it with gzip, or not at all"),
    (b"ORC", "an ORC file; write it as Parquet"),
    (b"Obj\x01", "an Avro file; write it as Parquet"),
    (b"%PDF", "a PDF document; give the table as CSV in UTF-8"),
    (b"{\\rtf", "an RTF document; give the table as CSV in UTF-8"),
    (b"<", "an HTML or XML document, such as an error page; give the file itself"),
    (b"PAR1", "a Parquet file; set catalog_format to 'parquet'"),
    (b"{", "JSON; set catalog_format to 'jsonl'"),
)
"""What files begin with that people take for CSV or JSON Lines."""

_COMPLETE: Final = "_SUCCESS"
"""The file that Spark and Hadoop write into a folder after all parts."""

_NO_BYTE: Final = "has no byte, unlike each {} file: it was not written to its end. Write it again"

_WORDS: Final = (b"BZh", b"ORC", b"PAR1")
_HEAD_BYTES: Final = 256


@contextlib.contextmanager
def open_catalog(
    catalog: Any,
    *,
    format: str = "",
    encoding: str = "",
    delimiter: str = "",
    empty_cells: Iterable[str] = EMPTY_CELLS,
) -> Iterator[Catalog]:
    """Open a catalog.

    :param catalog: a path or URL of a file or of a folder of part files, an ``ObjectStoragePath``, or a list
        of mappings.
    :param format: ``csv``, ``jsonl`` or ``parquet``; ``""`` to take it from the file's name.
    :param encoding: of CSV; ``""`` for Unicode or GB18030.
    :param delimiter: of CSV; ``""`` to take it from the header.
    :param empty_cells: texts that are taken for empty cells.
    :raises InvalidInput: if it cannot be read at all.
    """
    empty = EmptyWords(empty_cells)
    if not isinstance(catalog, str) and isinstance(catalog, Iterable) and not hasattr(catalog, "fs"):
        yield open_rows(list(catalog), empty)
        return
    path = _path(catalog)
    how = _How(format, encoding, delimiter, empty)
    with contextlib.ExitStack() as stack:
        if _is_folder(path):
            opened = how.open_folder(path, stack)
        else:
            try:
                opened = how.open_file(path, stack)
            except (FileNotFoundError, IsADirectoryError):
                with store_errors(path):
                    is_missing = is_local(path) or not is_folder(path)
                if is_missing:
                    what = f"{shown_path(str(path))} does not exist; give a file that this worker can read"
                    raise refusal(what) from None
                opened = how.open_folder(path, stack)
        opened.in_place = how.in_place
        yield opened


def _path(catalog: Any) -> ObjectStoragePath:
    if str(catalog).lower().startswith(("http://", "https://")):
        raise refusal(
            "is an HTTP URL. A catalog is read from storage: copy the file to a path such as "
            "s3://shop/catalog.csv, or let an upstream task return its rows"
        )
    return absolute_path("catalog", catalog)


def _is_folder(path: ObjectStoragePath) -> bool:
    """Whether a path is known to be a folder. Elsewhere than on this machine, a file is tried first."""
    if is_local(path):
        return Path(path.path).is_dir()
    if _kind_of_name(shown_path(str(path))):
        return False
    with store_errors(path):
        return is_folder(path)
    raise AssertionError("unreachable")


class _How:
    """How the files of a catalog are read.

    :param format: ``csv``, ``jsonl`` or ``parquet``; ``""`` to take it from the file's name.
    :param encoding: of CSV; ``""`` to detect it.
    :param delimiter: of CSV; ``""`` to detect it.
    :param empty: texts that are taken for empty cells.
    :raises InvalidInput: if the format is not known.
    """

    def __init__(self, format: str, encoding: str, delimiter: str, empty: EmptyWords) -> None:
        if format and format not in FORMATS:
            raise InvalidInput(
                [Problem("catalog_format", f"is {format!r}; give one of {', '.join(FORMATS)}")]
            )
        self._format, self._encoding, self._delimiter = format, encoding, delimiter
        self._empty = empty
        self._is_complete = False
        self.in_place: dict[str, FileState] = {}
        """Files that were opened where they are, and what identified their content before."""

    def open_file(self, path: ObjectStoragePath, stack: contextlib.ExitStack) -> Catalog:
        """Open a file.

        :param stack: as long as it is open, the catalog can be read.
        """
        kind = self._kind_of(path)
        return self._open(shown_path(str(path)), kind, self._local(path, kind, stack))

    def open_folder(self, path: ObjectStoragePath, stack: contextlib.ExitStack) -> Catalog:
        """Open the part files of a folder."""
        content = _content_of(path)
        self._is_complete = _COMPLETE in content
        check_log(shown_path(str(path)), [*content, *_around_partition(path)])
        names = list(_without_markers(content))
        check_partitions(shown_path(str(path)), names)
        files = [name for name in names if self._format or _kind_of_name(name)]
        others = [name for name in names if name not in files]
        parts = [part for name in files if not others and (part := self._part(path, name, stack))]
        if not any(part.catalog.headings for part in parts):
            shown = sanitize_message(", ".join(others[:3]))[:100]
            what = f"contains {shown}" if others else "contains no rows"
            raise refusal(
                f"{shown_path(str(path))!r} is a folder that {what}; give a file, or a folder of CSV, "
                "JSONL or Parquet files alone"
            )
        opened = open_parts(shown_path(str(path)), parts, self._empty)
        before = _without_markers(content)
        opened.has_other_parts = lambda: _without_markers(_content_of(path)) != before
        return opened

    def _part(self, folder: ObjectStoragePath, name: str, stack: contextlib.ExitStack) -> Part | None:
        """Open a part file; ``None`` if it has no rows.

        Spark and Hive write empty files for parts without rows, and an upload that broke off is empty as
        well. Only what is written after all parts tells them apart.
        """
        try:
            kind = self._kind_of(folder / name)
            local = self._local(folder / name, kind, stack)
            if not Path(local).stat().st_size:
                if _kind_of_name(name) == "parquet":
                    raise refusal(_NO_BYTE.format("Parquet"))
                is_certain = self._is_complete or name.lower().endswith(".gz")  # it was unpacked
                return None if is_certain else empty_part(name)
            return Part(name, self._open(name, kind, local))
        except InvalidInput as error:
            problems = [Problem(one.where, f"{one.what} (in {name})") for one in error.problems]
            raise InvalidInput(problems) from None
        except (FileNotFoundError, IsADirectoryError):
            shown = shown_path(str(folder))
            with store_errors(folder):
                has_folders = is_folder(folder / name)
            if has_folders:
                raise refusal(f"{shown!r} is a folder of folders; give one of them") from None
            raise written_to(shown, FOLDER_REMEDY) from None

    def _kind_of(self, path: ObjectStoragePath) -> str:
        name = shown_path(str(path))
        kind = self._format or _kind_of_name(name)
        if not kind:
            raise refusal(f"{name!r} does not end like a CSV, JSONL or Parquet file; set catalog_format")
        return kind

    def _local(self, path: ObjectStoragePath, kind: str, stack: contextlib.ExitStack) -> str:
        """The local path of a file, unpacked."""
        with store_errors(path):
            local = stack.enter_context(local_copy(path))
        if is_local(path) and (state := file_state(local)):
            self.in_place[local] = state
        if _head(local).startswith(_GZIP):
            local = stack.enter_context(_unpacked(local))
        elif shown_path(str(path)).lower().endswith(".gz"):
            if not Path(local).stat().st_size:
                raise refusal(_NO_BYTE.format("gzip"))
            raise refusal("cannot be unpacked: it is not compressed with gzip; rename it")
        if kind == "jsonl" and (encoding := utf16_or_32(_head(local))):
            local = stack.enter_context(_recoded(local, encoding))
        _check_head(local, kind)
        return local

    def _open(self, name: str, kind: str, local: str) -> Catalog:
        if kind == "csv":
            return open_csv(name, local, self._encoding, self._delimiter, self._empty)
        return (open_jsonl if kind == "jsonl" else open_parquet)(name, local, self._empty)


def _content_of(folder: ObjectStoragePath) -> dict[str, str]:
    """The names in a folder, and what identifies the content of each file.

    Files of this machine are watched by their :data:`~.catalog.FileState`, so only their names are listed.
    """
    with store_errors(folder):
        if is_local(folder):
            return dict.fromkeys(names_in(folder), "")
        infos = sorted(infos_in(folder).items())
        return {name: "" if one.get("type") == "directory" else content_version(one) for name, one in infos}
    raise AssertionError("unreachable")


def _around_partition(folder: ObjectStoragePath) -> list[str]:
    """The names in the folder of the table whose partition a folder is; none for any other folder."""
    table = folder
    while PARTITION.fullmatch(table.name):
        table = table.parent
    if table is folder:
        return []
    try:
        return list(_content_of(table))
    except StoreError as error:
        if error.is_final:  # the rights may be for the partition alone
            return []
        raise


def _without_markers(content: Mapping[str, str]) -> dict[str, str]:
    """The content of a folder without markers such as Spark's ``_SUCCESS``."""
    return {name: version for name, version in content.items() if not name.startswith(("_", "."))}


def _kind_of_name(name: str) -> str:
    """The format that a file's name ends like; ``""`` if it is none."""
    stem = name.lower().removesuffix(".gz")
    return next((kind for kind, suffixes in FORMATS.items() if stem.endswith(suffixes)), "")


def _head(local: str) -> bytes:
    with Path(local).open("rb") as file:
        return file.read(_HEAD_BYTES)


def _check_head(local: str, kind: str) -> None:
    """Refuse a file that begins like one of another format."""
    head = _head(local).removeprefix(b"\xef\xbb\xbf").lstrip()
    is_binary = any(byte < ord("\t") for byte in head)
    for beginning, what in REFUSED:
        belongs = (kind, beginning) in (("parquet", b"PAR1"), ("jsonl", b"{"))
        # A heading may begin with capital letters, too.
        if head.startswith(beginning) and not belongs and (is_binary or beginning not in _WORDS):
            raise refusal(f"is {what}")
    if kind == "jsonl" and head.startswith(b"["):
        raise refusal("is a JSON array; write one object a line (JSON Lines)")


@contextlib.contextmanager
def _recoded(local: str, encoding: str) -> Iterator[str]:
    """A file as UTF-8."""
    with tempfile.NamedTemporaryFile("w", prefix="bgrep-", encoding="utf-8", errors="replace") as plain:
        with Path(local).open(encoding=encoding, errors="replace") as file:
            shutil.copyfileobj(file, plain)
        plain.flush()
        yield plain.name


@contextlib.contextmanager
def _unpacked(local: str) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(prefix="bgrep-") as plain:
        try:
            with gzip.open(local) as packed:
                shutil.copyfileobj(packed, plain)
        except (OSError, EOFError, zlib.error) as error:
            raise refusal(f"cannot be unpacked: {sanitize_message(error)}") from None
        plain.flush()
        yield plain.name
