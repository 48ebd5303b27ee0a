# SPDX-License-Identifier: Apache-2.0
"""What a task reads and writes, without OpenLineage's classes, and as OpenLineage's classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_bgrep.lineage.location import Location


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A catalog, a bucket or host of images, or a destination. Never a single image.

    :param location: where it is.
    :param version: its version; ``''`` if it has none.
    :param rows: rows that were read or written; ``None`` if it is not known.
    :param files: files that were read or written.
    :param size: their bytes.
    """

    location: Location
    version: str = ""
    rows: int | None = None
    files: int | None = None
    size: int | None = None

    @property
    def statistics(self) -> dict[str, Any]:
        """The numbers that are known, by OpenLineage's names."""
        given = {"rowCount": self.rows, "fileCount": self.files, "size": self.size}
        return {name: number for name, number in given.items() if number is not None}


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What a task reads and writes.

    :param inputs: what it reads.
    :param outputs: what it writes.
    :param plan_id: the plan of the catalog refresh; ``''`` if there is none.
    :param counts: what became of rows or image tasks: number by state or outcome.
    """

    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()
    plan_id: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def to_openlineage(self) -> OperatorLineage[Any, Any]:
        """Return it in the form that Airflow's OpenLineage provider expects of an operator.

        :raises ImportError: if the provider is not installed. Only the provider calls this.
        """
        from airflow.providers.openlineage.extractors import OperatorLineage
        from openlineage.client.event_v2 import InputDataset, OutputDataset

        from airflow_provider_bgrep.lineage.run_facet import RUN_FACET, BgRepRunFacet

        inputs = [
            InputDataset(*one.location.dataset, facets=_version(one), inputFacets=_read(one))
            for one in self.inputs
        ]
        outputs = [
            OutputDataset(*one.location.dataset, facets=_version(one), outputFacets=_written(one))
            for one in self.outputs
        ]
        run: dict[str, Any] = {}
        if self.plan_id or self.counts:
            run[RUN_FACET] = BgRepRunFacet(planId=self.plan_id, counts=dict(self.counts))
        return OperatorLineage(inputs=inputs, outputs=outputs, run_facets=run)


def _version(dataset: Dataset) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset

    if not dataset.version:
        return {}
    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=dataset.version)}


def _read(dataset: Dataset) -> dict[str, Any]:
    from openlineage.client.facet_v2 import input_statistics_input_dataset

    if not dataset.statistics:
        return {}
    facet = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(**dataset.statistics)
    return {"inputStatistics": facet}


def _written(dataset: Dataset) -> dict[str, Any]:
    from openlineage.client.facet_v2 import output_statistics_output_dataset

    if not dataset.statistics:
        return {}
    facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(**dataset.statistics)
    return {"outputStatistics": facet}
