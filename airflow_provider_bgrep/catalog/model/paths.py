# SPDX-License-Identifier: Apache-2.0
"""Where everything lies under a catalog's destination: the one place that knows names of files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

FOLDER: Final = "_bgrep"
"""What is not published lies in here."""


@dataclass(frozen=True, slots=True)
class CatalogPaths:
    """Paths under a destination.

    :param destination: the folder that consumers read.
    """

    destination: ObjectStoragePath

    @property
    def root(self) -> ObjectStoragePath:
        """Everything that is not published."""
        return self.destination / FOLDER

    @property
    def ledger(self) -> ObjectStoragePath:
        """Pointers and segments."""
        return self.root / "ledger"

    @property
    def ledger_copy(self) -> ObjectStoragePath:
        """Copies of the segments; there are some once a plan's folder was deleted."""
        return self.root / "ledger-copy"

    @property
    def images(self) -> ObjectStoragePath:
        """What was generated, before it is checked and published."""
        return self.root / "images"

    @property
    def manifest(self) -> ObjectStoragePath:
        """What consumers read first: it names the manifest in force."""
        return self.destination / "manifest.json"

    @property
    def manifests(self) -> ObjectStoragePath:
        """Manifests, each immutable."""
        return self.destination / "manifests"

    @property
    def plans(self) -> ObjectStoragePath:
        """A folder for each plan."""
        return self.root / "plans"

    def plan(self, plan_id: str) -> PlanPaths:
        """The files of a plan."""
        return PlanPaths(self.plans / plan_id)


@dataclass(frozen=True, slots=True)
class PlanPaths:
    """Files of one plan, and of the shards that work on it.

    :param folder: the plan's own.
    """

    folder: ObjectStoragePath

    @property
    def header(self) -> ObjectStoragePath:
        """The plan itself, JSON; written last, so that who finds it finds the rest."""
        return self.folder / "plan.json"

    @property
    def options(self) -> ObjectStoragePath:
        """What the plan was made with, JSON."""
        return self.folder / "options.json"

    @property
    def cancelled(self) -> ObjectStoragePath:
        """Why nobody works on it, JSON; there is none if somebody does."""
        return self.folder / "cancelled.json"

    @property
    def work_items(self) -> ObjectStoragePath:
        """The list that shards work on: :data:`~.entries.WORK_ITEM`, Parquet."""
        return self.folder / "work_items.parquet"

    @property
    def rows(self) -> ObjectStoragePath:
        """The state of each of the catalog's rows, Parquet."""
        return self.folder / "rows.parquet"

    @property
    def invalid_rows(self) -> ObjectStoragePath:
        """The rows that cannot be used, a JSON line each."""
        return self.folder / "invalid_rows.jsonl"

    @property
    def outstanding_jobs(self) -> ObjectStoragePath:
        """Submits of earlier runs that are to be collected, a JSON line each."""
        return self.folder / "outstanding_jobs.jsonl"

    def journal(self, shard: int) -> ObjectStoragePath:
        """Folder of a shard's journal."""
        return self.folder / "journal" / f"{shard:04}"

    def manifest(self, shard: int) -> ObjectStoragePath:
        """A shard's manifest, as BgRepGenerateOperator writes it."""
        return self.folder / f"manifest-{shard:04}.jsonl"

    def results(self, shard: int) -> ObjectStoragePath:
        """What a shard has come to, Parquet."""
        return self.folder / f"results-{shard:04}.parquet"

    @property
    def report(self) -> ObjectStoragePath:
        """The gallery."""
        return self.folder / "report.html"

    @property
    def summary(self) -> ObjectStoragePath:
        """The report's numbers, JSON."""
        return self.folder / "summary.json"
