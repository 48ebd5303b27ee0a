# SPDX-License-Identifier: Apache-2.0
"""The grammar of file-name templates: text with ``{field}``; ``/`` separates folders.

Fields cannot have a format (``{index:03}``) or a conversion (``{id!r}``), because two names could become
equal if values were truncated or padded. Each value is made safe for every file system.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.storage import safe_name

MAX_NAME_BYTES: Final = 255
"""Most bytes of a file's or a folder's name: what file systems allow."""
MAX_PATH_BYTES: Final = 600
"""Most bytes of a path in the destination. Object stores allow 1,024 for the destination and the path."""
_MAX_EXT_BYTES: Final = 10


@dataclass(frozen=True, slots=True)
class FilenameGrammar:
    """The templates of one kind of file.

    :param fields: the fields that a template may name.
    :param required: the fields that it must name, or files would overwrite each other.
    :param example: a template that works, for messages.
    """

    fields: Collection[str]
    required: Collection[str]
    example: str

    def problems(self, template: object) -> list[str]:
        """What is wrong with a template, and what to do. Each follows the template in a message."""
        problems = self.field_problems(template)
        if isinstance(template, str) and any(part in ("", ".", "..") for part in template.split("/")):
            problems.append(
                "is not a name inside the destination; give one without '..' and without a leading '/'"
            )
        if not problems and isinstance(template, str):
            longest = fill(template, dict.fromkeys(self.fields, "x" * MAX_NAME_BYTES))
            if (size := len(longest.encode(errors="replace"))) > MAX_PATH_BYTES:
                problems.append(
                    f"makes paths of up to {size} bytes; at most {MAX_PATH_BYTES} are allowed: "
                    "give fewer folders"
                )
        return problems

    def field_problems(self, template: object) -> list[str]:
        """What is wrong with a template's fields, and what to do."""
        if not isinstance(template, str):
            return [f"is not text; give a template such as {self.example}"]
        try:
            fields = [field for field in string.Formatter().parse(template) if field[1] is not None]
        except ValueError as error:
            return [f"cannot be read: {sanitize_message(error)}"]
        names = [str(name) for _, name, _, _ in fields]
        problems = [
            f"has {name!r} with a format; give {{{name}}} alone" for _, name, *rest in fields if any(rest)
        ]
        unknown = sorted(set(names) - set(self.fields))
        if unknown:
            problems.append(f"has {', '.join(map(repr, unknown))}; the fields are {', '.join(self.fields)}")
        missing = [name for name in self.required if name not in names]
        if missing:
            lacking = " and ".join(f"{{{name}}}" for name in missing)
            problems.append(f"lacks {lacking}: images would overwrite each other")
        return problems


def fill(template: str, values: Mapping[str, Any], longest: Mapping[str, int] | None = None) -> str:
    """A template with its values, each of them safe as a part of a file's name.

    :param template: without problems.
    :param values: a value for each field that it names.
    :param longest: most bytes of a field's value. What is longer is cut, and a hash is added.
    """
    limits = longest or {}
    safe = {
        name: safe_name(value, limits[name]) if name in limits else safe_name(value)
        for name, value in values.items()
    }
    return "/".join(map(_cut, template.format(**safe).split("/")))


def _cut(name: str) -> str:
    """A name that file systems take. If it is cut, a hash is added, and the extension stays."""
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    stem, dot, ext = name.rpartition(".")
    end = f"-{digest}{dot}{ext}" if stem and len(ext.encode()) <= _MAX_EXT_BYTES else f"-{digest}"
    return name.encode()[: MAX_NAME_BYTES - len(end.encode())].decode(errors="ignore") + end
