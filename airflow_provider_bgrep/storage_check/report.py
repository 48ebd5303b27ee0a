# SPDX-License-Identifier: Apache-2.0
"""What a check of a store found, as a table that a person reads and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

EXCLUSION: Final = "exclusive creation"
"""The name of the check on which commits depend if several runs are possible."""

CHECKS: Final[dict[str, tuple[bool, str]]] = {
    "write": (True, "Everything that is kept is written there."),
    "list after write": (
        True,
        "A task finds the newest version of the ledger and the manifest in a listing.",
    ),
    "replace": (True, "``manifest.json`` and reports are replaced, and read by other tasks at once."),
    EXCLUSION: (True, "Of several runs that commit to the ledger or the manifest at once, one must succeed."),
    "delete": (False, "Files that are no longer needed are deleted. Without that right, they stay."),
    "versioning": (False, "Where it is not off, deleted and replaced files remain and take storage."),
    "ETag": (False, "It identifies the content of source images, unless there is a checksum."),
    "presigned URL": (False, "The service reads source images on this store by signed URLs."),
    "expiry of URLs": (False, "A URL that gets into other hands should not be valid for long."),
}
"""The checks by name: whether a store is safe only if it passes, and why."""

WIDTH: Final = 118
"""Characters of a line of the table."""

_HEADER: Final = ("check", "result", "tried", "came", "means")
_SHARES: Final = (0.14, 0.08, 0.26, 0.26, 0.26)
_GAP: Final = "  "


class Level(str, Enum):
    """What a finding means for the store's safety."""

    OK = "ok"
    """The store does what is relied on."""
    NOTE = "note"
    """Nothing depends on it, but a person should know."""
    UNKNOWN = "unknown"
    """It could not be tried."""
    UNSAFE = "unsafe"
    """The store does not do what is relied on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report.

    :param check: what the line is about.
    :param level: what it means for the store's safety.
    :param tried: what was tried.
    :param came: what the store answered.
    :param means: what follows from it.
    :param is_essential: whether the store's safety depends on it.
    """

    check: str
    level: Level
    tried: str
    came: str
    means: str
    is_essential: bool = False


@dataclass(frozen=True, slots=True)
class StorageReport:
    """What a check of a store found.

    :param path: the folder that was checked.
    :param store: the file system that reached it, with its version.
    :param findings: the lines.
    """

    path: str
    store: str
    findings: tuple[Finding, ...]

    @property
    def is_safe(self) -> bool:
        """Whether the store does everything that is relied on."""
        return all(one.level in (Level.OK, Level.NOTE) for one in self._essential)

    @property
    def is_checked(self) -> bool:
        """Whether everything that is relied on could be tried, or something of it failed."""
        return any(one.level is Level.UNSAFE for one in self._essential) or self.is_safe

    @property
    def can_exclude(self) -> bool:
        """Whether of several writers that create one file, one succeeds. Not if it could not be tried."""
        found = [one.level for one in self._essential if one.check == EXCLUSION]
        return bool(found) and all(level is Level.OK for level in found)

    @property
    def is_safe_for_one(self) -> bool:
        """Whether the store is safe as long as a single run at a time writes to it."""
        rest = (one for one in self._essential if one.check != EXCLUSION)
        return self.is_checked and all(one.level in (Level.OK, Level.NOTE) for one in rest)

    @property
    def problems(self) -> list[Finding]:
        """The findings because of which the store is not safe."""
        return [one for one in self._essential if one.level not in (Level.OK, Level.NOTE)]

    @property
    def conclusion(self) -> str:
        """The result in a sentence."""
        if self.is_safe:
            return "SAFE: the store does everything that catalog_refresh relies on."
        if not self.is_checked:
            return "NOT CHECKED: something that catalog_refresh relies on could not be tried."
        if self.is_safe_for_one:
            return "NOT SAFE for concurrent runs: the store does not exclude a second writer."
        return "NOT SAFE: the store does not do something that catalog_refresh relies on."

    def as_table(self, width: int = WIDTH) -> str:
        """Return the report as a table.

        :param width: characters of a line.
        """
        room = width - len(_GAP) * (len(_HEADER) - 1)
        widths = [max(8, int(room * share)) for share in _SHARES]
        rows = [(one.check, one.level.value, one.tried, one.came, one.means) for one in self.findings]
        lines = [f"Storage check of {self.path}", f"by {self.store}", ""]
        lines += _row(_HEADER, widths)
        lines.append(_GAP.join("-" * one for one in widths))
        for row in rows:
            lines += _row(row, widths)
        return "\n".join([*lines, "", self.conclusion])

    def __str__(self) -> str:
        return self.as_table()

    def as_dict(self) -> dict[str, Any]:
        """Return the report as values for JSON."""
        return {
            "path": self.path,
            "store": self.store,
            "is_safe": self.is_safe,
            "can_exclude": self.can_exclude,
            "conclusion": self.conclusion,
            "findings": [{**asdict(one), "level": one.level.value} for one in self.findings],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StorageReport:
        """Return the report from the values of :meth:`as_dict`.

        :raises ValueError: if they are not those of a report.
        """
        try:
            findings = tuple(Finding(**{**one, "level": Level(one["level"])}) for one in values["findings"])
            return cls(str(values["path"]), str(values["store"]), findings)
        except (KeyError, TypeError) as error:
            raise ValueError(f"is not a report of a storage check ({error})") from None

    @property
    def _essential(self) -> Iterator[Finding]:
        return (one for one in self.findings if one.is_essential)


def _row(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    wrapped = [textwrap.wrap(cell, width) or [""] for cell, width in zip(cells, widths, strict=True)]
    height = max(map(len, wrapped))
    columns = [
        [f"{line:<{width}}" for line in (*one, *[""] * (height - len(one)))]
        for one, width in zip(wrapped, widths, strict=True)
    ]
    return [_GAP.join(line).rstrip() for line in zip(*columns, strict=True)]
