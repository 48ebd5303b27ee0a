# SPDX-License-Identifier: Apache-2.0
"""Publishes images: copies them to where consumers read, then commits the manifest that names them.

A run can be killed after each of these steps, and a retry completes it: compute the change; copy new
images; upload the files of the next manifest; commit its header, which makes it current; update the copy
``manifest.json``; delete files that are no longer needed. A path is used for one image of one plan only:
another image of a row, or the same image published again by a later plan, has another path. Therefore, the
files of a manifest never change, caches may keep them forever, and a late deletion never affects a newer
manifest.

An image is copied only if it still has the checksum with which it was checked.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bgrep.catalog.config.filename_template import PublishRules
from airflow_provider_bgrep.catalog.publish.manifest_log import ManifestLog, map_in_threads
from airflow_provider_bgrep.catalog.publish.manifest_writer import Change, open_writer
from airflow_provider_bgrep.catalog.state.manifest import Header, Status, paths_of
from airflow_provider_bgrep.catalog.state.marks import Marks
from airflow_provider_bgrep.protocol.errors import reason_of
from airflow_provider_bgrep.protocol.urls import strip_signature
from airflow_provider_bgrep.storage import get_bytes, put_bytes, size_of

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.model.paths import CatalogPaths

__all__ = ["Published", "publish"]

_OF_ENTRY: Final = ("name", "sku", "view", "request_hash", "positive_prompt", "result_key")
_OF_IMAGE: Final = ("format", "width", "height", "size", "sha256")
OF_VERSION: Final = ("path", "request_hash", "sha256", "size", "published_at")
"""Columns of an older version of a row's image."""

_LOG_EVERY: Final = 1_000
"""Number of images that are copied between two log lines."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """The result of publishing.

    :param counts: rows: ``published`` (made live by this plan), ``retired``, ``deleted`` (by this plan),
        ``unchanged`` (already as wanted, or changed by a newer plan), ``failed``, and ``live`` in all.
    :param failed: names of rows that could not be published, and the reasons.
    :param left: names of the unchanged rows.
    :param size: bytes of the images that this plan made live.
    """

    counts: dict[str, int]
    failed: list[tuple[str, str]]
    left: list[str]
    size: int = 0


@dataclass(frozen=True, slots=True)
class WantedImage:
    """An image that is to be published.

    :param source: path of the generated image.
    :param ext: extension of its file.
    :param facts: the columns of the manifest that describe it.
    """

    source: str
    ext: str
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> WantedImage:
        """The chosen image of a ledger entry.

        :raises Exception: of any class, such as ``ValueError``, if the entry names no image.
        """
        files: Sequence[Mapping[str, Any]] = json.loads(entry["files"])
        chosen = entry["chosen"]
        if chosen is None or not 0 <= chosen < len(files):
            raise ValueError(f"chosen is {chosen}, expected 0 to {len(files) - 1}")
        file = files[chosen]
        path, image, seed = str(file["path"]), entry["image"], entry["actual_seed"]
        facts = {
            **{column: entry[column] for column in _OF_ENTRY},
            **{column: file[column] for column in _OF_IMAGE},
            "image": strip_signature(image) if image.lower().startswith("http") else image,
            "seed": entry["seed"] if seed is None else seed,
        }
        return cls(path, PurePosixPath(path).suffix[1:] or file["format"].lower() or "img", facts)


# --- the change, without reading or writing anything ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PublishPlan:
    """The changes of a plan to the manifest.

    :param plan: ``plan_id``, ``run_id`` and ``dag_id``. Plan ids sort by age.
    :param rules: how images are published.
    :param published_at: the time that changed rows get, ISO 8601 in UTC.
    """

    plan: Mapping[str, str]
    rules: PublishRules
    published_at: str

    def change(
        self,
        current: Mapping[str, Mapping[str, Any]],
        wanted: Mapping[str, WantedImage],
        removed: Iterable[str],
        tombstones: Mapping[str, str],
        failed: dict[str, str] | None = None,
        hidden: Iterable[str] = (),
    ) -> Change:
        """Compute how the manifest is to change.

        :param current: rows of the current manifest, by name: at least those that are wanted or removed.
        :param wanted: images to publish, by name of the row.
        :param removed: names of rows that are no longer in the catalog.
        :param tombstones: plans that deleted rows, by name of the row.
        :param failed: takes the names of rows that cannot be changed, and the reasons.
        :param hidden: names of rows that persons have blocked, and whose image does not stay.
        """
        change = Change()
        for name, image in wanted.items():
            if tombstones.get(name, "") > self.plan["plan_id"]:
                continue  # a newer plan has deleted the row
            try:
                row = self._published(image, current.get(name))
            except Exception as error:  # whatever its class: see isolation.py
                if failed is None:
                    raise
                failed[name] = f"it could not be prepared: {reason_of(error)}"
                continue
            if row is not None:
                change.rows.append(row)
        for name in removed:
            old = current.get(name)
            if old is None or self.is_newer(old) or self.rules.on_removed == "keep":
                continue
            if self.rules.on_removed == "delete":
                change.deleted.append(name)
                change.removed |= paths_of(old)
            elif old["status"] == Status.LIVE.value:
                change.rows.append(self._retired(old))
        done = {*(row["name"] for row in change.rows), *change.deleted}
        # What is blocked now is hidden, whoever has changed it last: no plan knows better.
        change.rows += [
            self._retired(current[name])
            for name in hidden
            if name not in done and current[name]["status"] == Status.LIVE.value
        ]
        for row in change.rows:
            if row["name"] in current:
                change.dropped |= paths_of(current[row["name"]]) - paths_of(row)
        return change

    def _published(self, wanted: WantedImage, old: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The new contents of a row; ``None`` if it does not change."""
        if old is None:
            return self._live(wanted, "", [])
        if self.is_newer(old):
            return None
        is_shown = old["status"] == Status.LIVE.value and old["sku"] == wanted.facts["sku"]
        if old["rolled_back_from"] == wanted.facts["request_hash"]:
            # A person has published an earlier image in place of this one.
            named = {name: wanted.facts[name] for name in ("sku", "view")}
            return None if is_shown else self._as_live({**old, **named})
        if old["sha256"] != wanted.facts["sha256"]:
            versions = [{name: old[name] for name in OF_VERSION}, *old["versions"]]
            return self._live(wanted, old["path"], versions[: self.rules.keep_versions - 1])
        is_answered = old["request_hash"] == wanted.facts["request_hash"] and not old["rolled_back_from"]
        if is_answered and is_shown:
            return None
        # The same image keeps its path.
        return {**self._live(wanted, "", old["versions"]), "path": old["path"]}

    def is_newer(self, row: Mapping[str, Any]) -> bool:
        """Return whether a later plan has changed a row. A cleared older run must not change it back."""
        return bool(row["planned_by"] > self.plan["plan_id"])

    def _live(self, wanted: WantedImage, replaces: str, versions: list[dict[str, Any]]) -> dict[str, Any]:
        row = self._as_live({**wanted.facts, "rolled_back_from": "", "versions": versions})
        return {**row, "path": self.rules.path(row, wanted.ext, replaces)}

    def _as_live(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **row,
            "status": Status.LIVE.value,
            "plan_id": self.plan["plan_id"],
            "run_id": self.plan["run_id"],
            "planned_by": self.plan["plan_id"],
            "published_at": self.published_at,
            "retired_at": "",
            "retired_by": "",
        }

    def _retired(self, old: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **old,
            "status": Status.RETIRED.value,
            "retired_at": self.published_at,
            "retired_by": self.plan["plan_id"],
            # A blocked row of a later plan, or of a rollback, stays theirs.
            "planned_by": max(old["planned_by"], self.plan["plan_id"]),
        }


# --- copy, then commit ------------------------------------------------------------------------------------


def publish(
    paths: CatalogPaths,
    entries: Iterable[Mapping[str, Any]],
    removed: Iterable[str],
    rules: PublishRules,
    *,
    plan: Mapping[str, str],
    marks: Marks | None = None,
    blocked: Iterable[Mapping[str, Any]] = (),
    oldest_plan: str = "",
    has_single_writer: Callable[[], bool] = lambda: False,
) -> Published:
    """Publish images. A second call with the same arguments changes nothing, and returns the same.

    :param entries: ledger entries of rows whose image is chosen.
    :param removed: names of rows that are no longer in the catalog.
    :param plan: ``plan_id``, ``run_id`` and ``dag_id``. Rows that a newer plan, one with a higher id, has
        changed or deleted stay as they are.
    :param marks: what persons have decided: blocked rows are retired, whatever ``on_removed`` says, and
        whoever has changed them last.
    :param blocked: ``name`` and ``sku`` of rows that the plan has found blocked. The manifest may have them
        under another sku, see :func:`~.columns.name_of`.
    :param oldest_plan: the oldest plan that can still publish. The manifest keeps tombstones of deleted rows
        as long as an older plan could publish them again.
    :param has_single_writer: see :meth:`~.plan_store.PlanStore.has_single_writer`.
    :raises InvalidInput: if the destination has a ``manifest.json`` that this package did not write.
    :raises DamagedManifestError: if the current manifest cannot be read.
    :raises BgRepConflictError: if other runs committed first in every attempt.
    """
    wanted: dict[str, WantedImage] = {}
    failed: dict[str, str] = {}
    for entry in entries:
        try:
            wanted[entry["name"]] = WantedImage.of(entry)
        except Exception as error:  # whatever its class: see isolation.py
            failed[entry["name"]] = f"the ledger entry names no image: {reason_of(error)}"
    log = ManifestLog(paths, has_single_writer)
    marks = marks or Marks()
    hidden = [row["name"] for row in blocked if marks.hides(row)]
    changes = PublishPlan(plan, rules, "")
    publisher = _Publisher(paths, wanted, failed, changes, oldest_plan, log, marks, hidden)
    # A row in both lists is in the catalog again.
    return publisher.publish(sorted(set(removed) - wanted.keys() - failed.keys()))


class _Publisher:
    def __init__(
        self,
        paths: CatalogPaths,
        wanted: dict[str, WantedImage],
        failed: dict[str, str],
        plan: PublishPlan,
        oldest_plan: str,
        log: ManifestLog,
        marks: Marks,
        blocked: Sequence[str],
    ) -> None:
        self._paths, self._wanted, self._failed = paths, wanted, failed
        self._plan, self._oldest_plan = plan, oldest_plan
        self._log, self._marks, self._blocked = log, marks, blocked
        self._copied: set[str] = set()
        self._deleted: set[str] = set()
        self._first_number = 0

    def publish(self, removed: Sequence[str]) -> Published:
        given = self._wanted.keys() | self._failed.keys()
        after: dict[str, dict[str, Any]] = {}
        if self._wanted or removed or self._marks.blocks:
            after = self._commit(removed)
        else:
            self._log.latest()  # raises if the manifest is damaged, or was written by other software
        self._log.update_copy()
        # A failed attempt to commit may have copied images to paths that the next attempt did not use.
        named = {path for row in after.values() for path in paths_of(row)}
        self._log.expire(self._copied - named, self._first_number)
        mine = {name for name, row in after.items() if self._is_published(row)}
        left = sorted(given - mine - self._failed.keys())
        return Published(
            self._counts(after, len(mine), len(left)),
            sorted(self._failed.items()),
            left,
            sum(after[name]["size"] for name in mine),
        )

    def _commit(self, removed: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Copy the wanted images and commit a manifest that names them.

        :return: the plan's rows in the current manifest, by name.
        """
        after: dict[str, dict[str, Any]] = {}
        plan_id = self._plan.plan["plan_id"]

        def successor(base: Header | None, number: int) -> Header | None:
            nonlocal after
            self._first_number = self._first_number or number
            with open_writer(self._paths, base) as writer:
                blocked = writer.shown_before(plan_id, self._marks.blocks) if self._marks.blocks else []
                hidden = {row["name"] for row in blocked if self._marks.hides(row)}
                current = writer.rows([*self._wanted, *removed, *hidden, *self._blocked])
                found = current.keys() & self._blocked
                hidden |= {name for name in found if not self._plan.is_newer(current[name])}
                tombstones = writer.tombstones([*self._wanted, *removed])
                plan = replace(self._plan, published_at=datetime.now(UTC).isoformat(timespec="seconds"))
                failed: dict[str, str] = {}
                changed = plan.change(current, self._wanted, (), tombstones, failed).rows
                for name, reason in failed.items():
                    self._failed[name] = reason
                    del self._wanted[name]
                self._copy(changed, current)
                # Without the rows whose image could not be copied.
                change = plan.change(current, self._wanted, removed, tombstones, hidden=sorted(hidden))
                mine = {name for name, by in tombstones.items() if by == plan_id}
                self._deleted = {*mine, *change.deleted} - {row["name"] for row in change.rows}
                after = {**current, **{row["name"]: row for row in change.rows}}
                for name in change.deleted:
                    del after[name]
                if not change:
                    return base
                return writer.write(
                    change, plan.rules.keep_versions, plan.plan, plan.published_at, self._oldest_plan
                )

        self._log.commit(successor)
        return after

    def _is_published(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of the manifest is live, and this plan has published it."""
        return bool(row["status"] == Status.LIVE.value and row["plan_id"] == self._plan.plan["plan_id"])

    def _counts(self, after: Mapping[str, Mapping[str, Any]], published: int, left: int) -> dict[str, int]:
        mine = self._plan.plan["plan_id"]
        newest = self._log.latest()
        return {
            "published": published,
            "retired": sum(row["retired_by"] == mine for row in after.values()),
            "deleted": len(self._deleted),
            "unchanged": left,
            "failed": len(self._failed),
            "live": newest.counts[Status.LIVE.value] if newest else 0,
        }

    def _copy(self, changed: Iterable[dict[str, Any]], current: Mapping[str, dict[str, Any]]) -> None:
        """Copy the images of changed rows, and missing images of unchanged rows.

        A row whose image cannot be copied moves from the wanted to the failed ones.
        """
        by_name = {row["name"]: row for row in changed}
        for name in self._wanted:
            if name not in by_name and name in current and not self._plan.is_newer(current[name]):
                by_name[name] = current[name]
        rows = list(by_name.values())

        def copy(row: Mapping[str, Any]) -> str:
            old = current.get(row["name"])
            return self._copy_one(row, is_known=old is not None and old["path"] == row["path"])

        for start in range(0, len(rows), _LOG_EVERY):
            some = rows[start : start + _LOG_EVERY]
            for row, reason in zip(some, map_in_threads(copy, some), strict=True):
                if reason:
                    self._failed[row["name"]] = reason
                    del self._wanted[row["name"]]
            _log.info("Copied %d of %d images.", start + len(some), len(rows))

    def _copy_one(self, row: Mapping[str, Any], *, is_known: bool) -> str:
        """Copy an image, unless it exists already.

        :param is_known: whether the current manifest names the path. Then the image exists, unless
            somebody has deleted it.
        :return: why it could not be copied; ``''`` if it exists.
        """
        if row["path"] in self._copied:
            return ""
        source: Any = self._wanted[row["name"]].source
        try:
            source = self._paths.image(source)
            target = self._paths.destination / row["path"]
            if is_known and size_of(target) == row["size"]:
                return ""
            if row["sha256"] != self._wanted[row["name"]].facts["sha256"]:
                return (
                    f"{target}, which a person has rolled the row back to, does not exist any more. Restore "
                    "it, or undo the rollback: airflow-bgrep rollback --undo"
                )
            data = get_bytes(source)
            if data is None:
                return f"{source} does not exist any more"
            if len(data) != row["size"]:
                return f"{source} has {len(data)} bytes, expected {row['size']}"
            if (found := hashlib.sha256(data).hexdigest()) != row["sha256"]:
                return f"{source} has changed since it was saved: checksum {found}, expected {row['sha256']}"
            put_bytes(data, target)
        except Exception as error:  # whatever its class: see isolation.py
            return f"{source} could not be copied: {reason_of(error)}"
        self._copied.add(row["path"])
        return ""
