# SPDX-License-Identifier: Apache-2.0
"""Publishes images: puts them where consumers read, and switches the manifest that names them in one step.

In this order, each safe to be killed after: copy what is new; write the next manifest's files; create its
header, which puts it in force; copy that to ``manifest.json``; remove what nobody needs any more. An image's
path is used once: another image of a row, and the same one published again later, has another path. So
whatever a manifest names stays what it was, and caches may keep it for ever.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.config.filename_template import PublishRules
from airflow_provider_bgrep.catalog.publish.manifest_log import Manifests, at_once
from airflow_provider_bgrep.catalog.state.manifest import Change, Status, paths_of
from airflow_provider_bgrep.client import sleep
from airflow_provider_bgrep.protocol.errors import sanitize_message
from airflow_provider_bgrep.protocol.urls import strip_signature
from airflow_provider_bgrep.storage import copy_file, in_folder, size_of

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

__all__ = ["Published", "publish"]

_OF_ENTRY: Final = ("name", "sku", "view", "request_hash", "positive_prompt", "result_key")
_OF_IMAGE: Final = ("format", "width", "height", "size", "sha256")
_OF_VERSION: Final = ("path", "request_hash", "sha256", "size", "published_at")
_TRIES: Final = 50
_AT_ONCE: Final = 1_000
"""Images that are copied before the log is told."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """What has been published.

    :param counts: rows: ``published`` (made live by this plan), ``retired``, ``deleted`` (by this plan),
        ``unchanged`` (nothing was to be done, or a newer plan has), ``failed``, and ``live`` in all.
    :param failed: names of rows that could not be published, and why.
    """

    counts: dict[str, int]
    failed: list[tuple[str, str]]


def publish(
    layout: CatalogPaths,
    entries: Iterable[Mapping[str, Any]],
    removed: Iterable[str],
    rules: PublishRules,
    *,
    plan: Mapping[str, str],
) -> Published:
    """Publish images. Called again it changes nothing more, and says the same.

    :param entries: the ledger's, of rows whose image is chosen.
    :param removed: names of rows that the catalog does not name any more.
    :param plan: ``plan_id``, ``run_id``, ``dag_id``, and ``at``, when it was made, ISO 8601 in UTC: what a
        newer plan has changed stays.
    :raises InvalidInput: if the destination has a ``manifest.json`` of somebody else's.
    :raises DamagedManifestError: if the manifest in force cannot be read.
    """
    return _Publisher(layout, entries, removed, rules, plan).publish()


class _Publisher:
    def __init__(
        self,
        layout: CatalogPaths,
        entries: Iterable[Mapping[str, Any]],
        removed: Iterable[str],
        rules: PublishRules,
        plan: Mapping[str, str],
    ) -> None:
        self._layout, self._rules, self._plan = layout, rules, plan
        self._manifests = Manifests(layout)
        self._failed: dict[str, str] = {}
        self._wanted: dict[str, _Wanted] = {}
        for entry in entries:
            try:
                self._wanted[entry["name"]] = _Wanted.of(entry)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                self._failed[entry["name"]] = f"the ledger's entry names no image ({sanitize_message(error)})"
        self._given = self._wanted.keys() | self._failed.keys()
        # What is both is in the catalog again.
        gone = () if rules.on_removed == "keep" else removed
        self._removed = sorted(set(gone) - self._given)
        self._copied: set[str] = set()

    def publish(self) -> Published:
        after = self._committed()
        self._manifests.show()
        # Copied for a manifest that another was faster than, and called otherwise since.
        named = {path for row in after.values() for path in paths_of(row)}
        self._manifests.tidy(self._copied - named)
        return Published(self._counts(after), sorted(self._failed.items()))

    def _committed(self) -> dict[str, dict[str, Any]]:
        """Put a manifest in force that says what this plan wants.

        :return: the plan's rows in it, by name.
        """
        for _ in range(_TRIES):
            base = self._manifests.newest()
            names = [*self._wanted, *self._removed]
            if not names:
                return {}
            with self._manifests.draft(base) as draft:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                before = draft.rows(names)
                change = self._change(before, now)
                header = draft.write(change, self._rules.keep_versions, self._plan, now) if change else None
            if header is None or self._manifests.commit(header):
                after = {**before, **{row["name"]: row for row in change.rows}}
                return {name: row for name, row in after.items() if name not in change.deleted}
            sleep(random.uniform(0.01, 0.2))  # noqa: S311 (not a secret)
        raise OSError(f"The manifest in {self._layout.destination} could not be switched: others were faster")

    def _counts(self, after: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        mine = self._plan["plan_id"]
        live = {name for name, row in after.items() if row["status"] == Status.LIVE.value}
        published = {name for name in live if after[name]["plan_id"] == mine}
        newest = self._manifests.newest()
        return {
            "published": len(published),
            "retired": sum(row["retired_by"] == mine for row in after.values()),
            "deleted": self._manifests.changed_by(mine, "deleted"),
            "unchanged": len(self._given - published - self._failed.keys()),
            "failed": len(self._failed),
            "live": newest.counts[Status.LIVE.value] if newest else 0,
        }

    # --- what is to differ ------------------------------------------------------------------------

    def _change(self, before: Mapping[str, dict[str, Any]], now: str) -> Change:
        rows = {name: self._row(wanted, before.get(name), now) for name, wanted in self._wanted.items()}
        self._copy([row for row in rows.values() if row is not None], before)
        change = Change()
        for name, row in rows.items():
            if row is not None and row is not before.get(name) and name not in self._failed:
                change.rows.append(row)
        for name in self._removed:
            old = before.get(name)
            if old is None or self._is_newer(old):
                continue
            if self._rules.on_removed == "delete":
                change.deleted.append(name)
                change.removed |= paths_of(old)
            elif old["status"] == Status.LIVE.value:
                change.rows.append(self._retired(old, now))
        for row in change.rows:
            if row["name"] in before:
                change.dropped |= paths_of(before[row["name"]]) - paths_of(row)
        return change

    def _row(self, wanted: _Wanted, old: dict[str, Any] | None, now: str) -> dict[str, Any] | None:
        """A row as it is to be; ``old`` itself where nothing is to be done, ``None`` if a newer plan has."""
        if old is None:
            return self._live(wanted, "", [], now)
        if self._is_newer(old):
            return None
        if old["sha256"] != wanted.facts["sha256"]:
            versions = [{name: old[name] for name in _OF_VERSION}, *old["versions"]]
            return self._live(wanted, old["path"], versions[: self._rules.keep_versions - 1], now)
        if old["request_hash"] == wanted.facts["request_hash"] and old["status"] == Status.LIVE.value:
            return old
        # The same image keeps its path.
        return {**self._live(wanted, "", old["versions"], now), "path": old["path"]}

    def _is_newer(self, row: Mapping[str, Any]) -> bool:
        """Whether a plan made later has changed a row: that of a run which is cleared afterwards may not."""
        return bool(row["planned_at"] > self._plan["at"])

    def _live(
        self, wanted: _Wanted, replaces: str, versions: list[dict[str, Any]], now: str
    ) -> dict[str, Any]:
        row = {
            **wanted.facts,
            "status": Status.LIVE.value,
            "plan_id": self._plan["plan_id"],
            "run_id": self._plan["run_id"],
            "planned_at": self._plan["at"],
            "published_at": now,
            "retired_at": "",
            "retired_by": "",
            "versions": versions,
        }
        return {**row, "path": self._rules.path(row, wanted.ext, replaces)}

    def _retired(self, old: Mapping[str, Any], now: str) -> dict[str, Any]:
        return {
            **old,
            "status": Status.RETIRED.value,
            "retired_at": now,
            "retired_by": self._plan["plan_id"],
            "planned_at": self._plan["at"],
        }

    # --- files ------------------------------------------------------------------------------------

    def _copy(self, rows: Sequence[dict[str, Any]], before: Mapping[str, dict[str, Any]]) -> None:
        """Put the rows' images into place; of one that cannot be, the reason is kept."""

        def copy(row: dict[str, Any]) -> str:
            old = before.get(row["name"])
            return self._copy_one(row, is_known=old is not None and old["path"] == row["path"])

        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            for row, reason in zip(some, at_once(copy, some), strict=True):
                if reason:
                    self._failed[row["name"]] = reason
                    del self._wanted[row["name"]]
            _log.info("%d of %d images are in place.", start + len(some), len(rows))

    def _copy_one(self, row: Mapping[str, Any], *, is_known: bool) -> str:
        """Why an image is not in place; ``''`` if it is.

        :param is_known: whether the manifest names it already: it is there, unless somebody has removed it.
        """
        source = in_folder(self._layout.destination, self._wanted[row["name"]].source)
        target = self._layout.destination / row["path"]
        if row["path"] in self._copied:
            return ""
        try:
            if is_known and size_of(target) == row["size"]:
                return ""
            size = size_of(source)
            if size != row["size"]:
                now = "is not there any more" if size is None else f"has {size} bytes now, not {row['size']}"
                return f"{source} {now}"
            copy_file(source, target)
        except Exception as error:  # one image must not stop the others
            return f"{source} could not be copied: {sanitize_message(error) or type(error).__name__}"
        self._copied.add(row["path"])
        return ""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An image that is to be published.

    :param source: where it lies.
    :param ext: its file's extension.
    :param facts: what the manifest's row says of it.
    """

    source: str
    ext: str
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> _Wanted:
        files: Sequence[Mapping[str, Any]] = json.loads(entry["files"])
        chosen = entry["chosen"]
        if chosen is None or not 0 <= chosen < len(files):
            raise ValueError(f"chosen is {chosen}, of {len(files)}")
        file = files[chosen]
        path, image, seed = str(file["path"]), entry["image"], entry["actual_seed"]
        facts = {
            **{column: entry[column] for column in _OF_ENTRY},
            **{column: file[column] for column in _OF_IMAGE},
            "image": strip_signature(image) if image.lower().startswith("http") else image,
            "seed": entry["seed"] if seed is None else seed,
        }
        return cls(path, PurePosixPath(path).suffix[1:] or file["format"].lower() or "img", facts)
