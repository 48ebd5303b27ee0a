# SPDX-License-Identifier: Apache-2.0
"""Names of published files, and how many versions of them are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_provider_bgrep.catalog.model.paths import FOLDER
from airflow_provider_bgrep.filenames import FilenameGrammar, fill
from airflow_provider_bgrep.protocol.errors import InvalidInput, Problem
from airflow_provider_bgrep.storage import safe_name

RESERVED: Final = frozenset({"manifest.json", "manifests", FOLDER})
"""Reserved names at the destination."""

TEMPLATE_FIELDS: Final[dict[str, str]] = {
    "sku": "The product's key. It must be a folder of its own.",
    "view": "The view: which image of the product.",
    "version": "12 hexadecimal digits that are unique to this image. They must be in the file name.",
    "request_hash": "The first 12 hex digits of the request's hash.",
    "seed": "The seed that the image was generated with, or 'random' if it is not known.",
    "width": "Pixels.",
    "height": "Pixels.",
    "ext": "The extension of the image's format, such as png.",
}
"""Fields of a file-name template."""

_GRAMMAR: Final = FilenameGrammar(TEMPLATE_FIELDS, required=(), example="{sku}/{view}-{version}.{ext}")

_LONGEST: Final[dict[str, int]] = {
    **dict.fromkeys(("sku", "view"), 80),
    **dict.fromkeys(("version", "request_hash"), 12),
    "seed": 20,
    **dict.fromkeys(("width", "height", "ext"), 10),
}
"""Largest size of a field's value in bytes. A longer value is truncated, and a hash is added."""
_MOST_BYTES: Final = 250
"""Largest size of a name in bytes; file systems allow 255."""
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
)
"""Names that Windows does not allow, whatever follows the first dot."""
_ON_REMOVED: Final = ("retire", "delete", "keep")


@dataclass(frozen=True)
class PublishRules:
    """How images are published.

    :param filename_template: paths of published files. A changed template applies to new images only.
    :param keep_versions: number of versions of a row's image that the manifest lists, 1 to 1000. A file
        is deleted when no manifest that is kept lists it.
    :param on_removed: what to do with a row that is no longer in the catalog: ``retire`` (mark it as
        retired and keep its files), ``delete`` (delete the row and its files) or ``keep`` (do nothing).
    :raises InvalidInput: with every problem.
    """

    filename_template: str = "{sku}/{view}-{version}.{ext}"
    keep_versions: int = 3
    on_removed: str = "retire"

    def __post_init__(self) -> None:
        problems = [
            Problem("filename_template", f"{self.filename_template!r} {what}")
            for what in _problems(self.filename_template)
        ]
        if type(self.keep_versions) is not int or not 1 <= self.keep_versions <= 1000:
            problems.append(Problem("keep_versions", f"is {self.keep_versions!r}; give 1 to 1000 versions"))
        if self.on_removed not in _ON_REMOVED:
            problems.append(
                Problem("on_removed", f"is {self.on_removed!r}; give one of {', '.join(_ON_REMOVED)}")
            )
        if problems:
            raise InvalidInput(problems)

    def path(self, row: Mapping[str, Any], ext: str, replaces: str) -> str:
        """Return the path of a row's image, relative to the destination.

        :param row: with the columns of the manifest that the template may name, and the plan's id.
        :param replaces: path of the image that the row had before, ``''`` for none.
        """
        # Plan and predecessor make the path unique, even if the same image is published again later.
        unique = json.dumps([row["name"], row["sha256"], replaces, row["plan_id"]]).encode()
        values = {
            **{name: row[name] for name in ("sku", "view", "width", "height")},
            "version": hashlib.sha256(unique).hexdigest()[:12],
            "request_hash": row["request_hash"][:12],
            "seed": "random" if row["seed"] is None else row["seed"],
            "ext": ext,
        }
        folder, *rest = (fill(part, values, _LONGEST) for part in self.filename_template.split("/"))
        taken = RESERVED if rest else frozenset()
        return "/".join([_component(folder, taken), *(_component(part) for part in rest)])


def _component(name: str, taken: frozenset[str] = frozenset()) -> str:
    """A name that every file system takes. Two may become one: it is ``{version}`` that tells files apart."""
    folded = name.casefold()
    if folded in taken or folded.partition(".")[0] in _DEVICES:
        name = f"_{name}"
    return f"{name}_" if name.endswith(".") else name


def _problems(template: object) -> list[str]:
    """Return the problems of a file-name template, and what to do."""
    problems = _GRAMMAR.field_problems(template)
    if problems or not isinstance(template, str):
        return problems
    *folders, file = template.split("/")
    if "{sku}" not in folders:
        problems.append("has no folder {sku}; give one: {sku}/…")
    if "{version}" not in file:
        problems.append("lacks {version} in the file's name: images would overwrite each other")
    if folders and folders[0].casefold() in RESERVED:
        problems.append(f"begins with {folders[0]!r}, which is reserved; give another folder")
    for part in (*folders, file):
        filled = part.format(**dict.fromkeys(TEMPLATE_FIELDS, "x"))
        if safe_name(filled, _MOST_BYTES) != filled or filled.endswith("."):
            problems.append(
                f"has {part!r}; besides fields, give letters, digits, '-', '_' and '.' within names"
            )
        if len(part.format(**{name: "x" * most for name, most in _LONGEST.items()}).encode()) > _MOST_BYTES:
            problems.append(f"has {part!r}, which can be longer than {_MOST_BYTES} bytes; give fewer fields")
    return problems
