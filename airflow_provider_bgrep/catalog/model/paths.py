# SPDX-License-Identifier: Apache-2.0
"""The paths of all files under a catalog's destination. No other module knows their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_bgrep.storage import in_folder
from airflow_provider_bgrep.store_paths import path_below

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

FOLDER: Final = "_bgrep"
"""The folder of everything that is not published."""


@dataclass(frozen=True, slots=True)
class CatalogPaths:
    """The paths under a destination.

    :param destination: the folder that consumers read.
    """

    destination: ObjectStoragePath

    @property
    def root(self) -> ObjectStoragePath:
        """Everything that is not published."""
        return self.destination / FOLDER

    @property
    def ledger(self) -> ObjectStoragePath:
        """The ledger's metadata and segments."""
        return self.root / "ledger"

    @property
    def ledger_copy(self) -> ObjectStoragePath:
        """Copies of the segments; there are some once a plan's folder was deleted."""
        return self.root / "ledger-copy"

    @property
    def images(self) -> ObjectStoragePath:
        """The generated images, before they are published."""
        return self.root / "images"

    def image(self, path: str) -> ObjectStoragePath:
        """Return a generated image.

        The destination may have been moved since, or be reached by another URL. Then only the image's name
        counts.

        :param path: the path that it was saved under.
        """
        if path_below(self.destination, path) is None:
            return self.images / path.rpartition("/")[2]
        return in_folder(self.destination, path)

    @property
    def manifest(self) -> ObjectStoragePath:
        """The file that consumers read first: it names the current manifest."""
        return self.destination / "manifest.json"

    @property
    def manifests(self) -> ObjectStoragePath:
        """The manifests; each is immutable."""
        return self.destination / "manifests"

    @property
    def marks(self) -> ObjectStoragePath:
        """What persons have decided about rows, Parquet; each version is immutable."""
        return self.root / "marks"

    @property
    def marks_copy(self) -> ObjectStoragePath:
        """A copy of the newest versions of :attr:`marks`, so that none is lost with one file."""
        return self.root / "marks-copy"

    @property
    def sweep(self) -> ObjectStoragePath:
        """How far the published files were verified, JSON."""
        return self.root / "sweep.json"

    @property
    def storage(self) -> ObjectStoragePath:
        """What the check of the destination's store found, JSON."""
        return self.root / "storage.json"

    @property
    def index(self) -> ObjectStoragePath:
        """A page that lists the reports of all runs, HTML."""
        return self.root / "index.html"

    @property
    def latest(self) -> ObjectStoragePath:
        """A page that leads to the latest report, HTML."""
        return self.root / "latest.html"

    @property
    def plans(self) -> ObjectStoragePath:
        """The folder of the plans' folders."""
        return self.root / "plans"

    def plan(self, plan_id: str) -> PlanPaths:
        """The files of a plan."""
        return PlanPaths(self.plans / plan_id)


@dataclass(frozen=True, slots=True)
class PlanPaths:
    """The files of one plan and its shards.

    :param folder: the plan's own.
    """

    folder: ObjectStoragePath

    @property
    def header(self) -> ObjectStoragePath:
        """The plan, JSON. It is written last: a plan with a header is complete."""
        return self.folder / "plan.json"

    @property
    def header_copy(self) -> ObjectStoragePath:
        """A copy of the plan, written just before it. A plan whose header is lost is read from it."""
        return self.folder / "plan-copy.json"

    @property
    def given_up(self) -> ObjectStoragePath:
        """A file that a person creates for a plan whose files are lost for good: the plan counts as empty."""
        return self.folder / "given_up.json"

    @property
    def approvals(self) -> ObjectStoragePath:
        """The folder of the questions of the approval task and their answers; none if it has not asked."""
        return self.folder / "approvals"

    def asked(self, question: int) -> ObjectStoragePath:
        """A file that says that a question was asked."""
        return self.approvals / f"asked-{question:04}.json"

    def answer(self, question: int) -> ObjectStoragePath:
        """The answer to a question, JSON."""
        return self.approvals / f"answer-{question:04}.json"

    @property
    def options(self) -> ObjectStoragePath:
        """The options that the plan was made with, JSON."""
        return self.folder / "options.json"

    @property
    def cancelled(self) -> ObjectStoragePath:
        """Why the plan task canceled the plan, JSON; missing if it did not."""
        return self.folder / "cancelled.json"

    @property
    def work_items(self) -> ObjectStoragePath:
        """The rows that the shards work on, Parquet: :data:`~.schema.WORK_ITEM`."""
        return self.folder / "work_items.parquet"

    @property
    def rows(self) -> ObjectStoragePath:
        """The state of each row that is not unchanged, Parquet."""
        return self.folder / "rows.parquet"

    @property
    def unchanged(self) -> ObjectStoragePath:
        """The names of the rows that are unchanged, Parquet; only with ``on_removed="keep"``."""
        return self.folder / "unchanged.parquet"

    @property
    def invalid_rows(self) -> ObjectStoragePath:
        """The rows that cannot be used, JSON lines."""
        return self.folder / "invalid_rows.jsonl"

    @property
    def outstanding_jobs(self) -> ObjectStoragePath:
        """Submits of earlier plans, whose jobs are to be collected, JSON lines."""
        return self.folder / "outstanding_jobs.jsonl"

    def journal(self, shard: int) -> ObjectStoragePath:
        """The folder of a shard's journal."""
        return self.folder / "journal" / f"{shard:04}"

    def begun(self, shard: int) -> ObjectStoragePath:
        """A file that says that a shard's journal has begun: without the journal's folder, it was lost."""
        return self.folder / f"begun-{shard:04}.json"

    def manifest(self, shard: int) -> ObjectStoragePath:
        """The manifest of a shard, as BgRepGenerateOperator writes it."""
        return self.folder / f"manifest-{shard:04}.jsonl"

    def results(self, shard: int) -> ObjectStoragePath:
        """What each row of a shard came to, Parquet: :data:`~.schema.RESULT`."""
        return self.folder / f"results-{shard:04}.parquet"

    @property
    def publishing(self) -> ObjectStoragePath:
        """Which try of the publish task started last, JSON."""
        return self.folder / "publishing.json"

    @property
    def published(self) -> ObjectStoragePath:
        """What the publish task did, JSON; missing until it has ended."""
        return self.folder / "published.json"

    @property
    def report(self) -> ObjectStoragePath:
        """The gallery, HTML."""
        return self.folder / "report.html"

    @property
    def summary(self) -> ObjectStoragePath:
        """The numbers of the report, JSON."""
        return self.folder / "summary.json"
