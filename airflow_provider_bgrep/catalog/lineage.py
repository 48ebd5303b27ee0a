# SPDX-License-Identifier: Apache-2.0
"""What the tasks of a catalog refresh read and write, for asset events and OpenLineage.

The plan task finds out what a run reads, and says so in XCom. The other tasks get that as a rendered
argument, so that they know it before they start, and in whatever process they resume.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_bgrep.catalog.config.options import catalog_path
from airflow_provider_bgrep.lineage.facts import Dataset, Lineage
from airflow_provider_bgrep.lineage.location import Location
from airflow_provider_bgrep.lineage.methods import OpenLineageMethods
from airflow_provider_bgrep.operators._lineage import SavedImages, saved_dataset, source_datasets
from airflow_provider_bgrep.store_paths import shown_path

if TYPE_CHECKING:
    from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

_CHANGES = ("published", "retired", "deleted")


class PlanLineage(OpenLineageMethods):
    """The plan task reads the catalog; when it has ended, it also knows where the images are."""

    options: Any
    created: Mapping[str, Any] | None = None
    """What the last execution has pushed to XCom."""

    def lineage(self) -> Lineage:
        """Return the catalog, the hosts and buckets of its images, and the number of rows by state."""
        if self.created is None:
            given = self.options if isinstance(self.options, Mapping) else {}
            return Lineage(inputs=_inputs({"catalog": catalog_path(given.get("catalog"))}))
        return Lineage(
            inputs=_inputs(self.created["inputs"]),
            plan_id=self.created["plan_id"],
            counts=self.created["counts"],
        )


class ShardLineage(OpenLineageMethods):
    """The generate task of a shard reads the images of the catalog, and saves images at the destination."""

    destination: Any
    plan_id: Any
    inputs: Any
    saved: SavedImages | None

    def lineage(self) -> Lineage:
        """Return the hosts and buckets of the images, the destination, and the image tasks by outcome."""
        return Lineage(
            inputs=source_datasets(_parsed(self.inputs).get("sources") or ()),
            outputs=(saved_dataset(self.destination, self.saved),),
            plan_id=str(self.plan_id or ""),
            counts=self.saved.counts if self.saved else {},
        )


class PublishLineage(OpenLineageMethods):
    """The publish task reads the catalog and its images, and writes the destination."""

    destination: Any
    plan_id: Any
    inputs: Any
    published: Mapping[str, Any] | None = None
    """What the last execution has published: ``counts`` of rows, and ``bytes`` of the plan's images."""

    def lineage(self) -> Lineage:
        """Return the catalog, the hosts and buckets of its images, the destination, and the rows by result.

        The destination has the plan as its version once the plan has changed it.
        """
        plan_id = str(self.plan_id or "")
        output, counts = saved_dataset(self.destination), {}
        if self.published is not None:
            counts = self.published["counts"]
            output = Dataset(
                location=output.location,
                version=plan_id if any(counts.get(name) for name in _CHANGES) else "",
                rows=counts["published"],
                files=counts["published"],
                size=self.published["bytes"],
            )
        return Lineage(
            inputs=_inputs(_parsed(self.inputs)), outputs=(output,), plan_id=plan_id, counts=counts
        )


def event_extra(store: PlanStore, published: Mapping[str, Any]) -> dict[str, Any]:
    """Return the asset event's ``extra``: counts, bytes, the plan, and the paths of manifest and gallery.

    It names no partition: Airflow gives the event the partition key of the DAG run, if the run has one.

    :param published: see :attr:`PublishLineage.published`.
    """
    return {
        **published["counts"],
        "bytes": published["bytes"],
        "plan_id": store.plan_id,
        "manifest": shown_path(str(store.paths.manifest)),
        "gallery": shown_path(str(store.files.report)),
    }


def _inputs(given: Mapping[str, Any]) -> tuple[Dataset, ...]:
    sources = source_datasets(given.get("sources") or ())
    if not given.get("catalog"):
        return sources
    catalog = Dataset(location=Location.of(given["catalog"]), rows=given.get("rows"), size=given.get("bytes"))
    return catalog, *sources


def _parsed(inputs: Any) -> Mapping[str, Any]:
    """The rendered argument: JSON text, or with native rendering a mapping. Anything else says nothing."""
    if isinstance(inputs, str):
        try:
            inputs = json.loads(inputs)
        except ValueError:
            return {}
    return inputs if isinstance(inputs, Mapping) else {}
