# SPDX-License-Identifier: Apache-2.0
"""Reads a catalog as a plan does, to find invalid rows. Without a destination: every row is a new one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_bgrep.catalog.config.options import Options, path_problems
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.model.plan import new_plan_id
from airflow_provider_bgrep.catalog.plan.builder import PlanDraft, Run
from airflow_provider_bgrep.catalog.plan.create import use_draft
from airflow_provider_bgrep.catalog.source.catalog import InvalidRow
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import storage_path


@dataclass(frozen=True)
class ValidatedCatalog:
    """What a plan would say of a catalog.

    :param name: the catalog.
    :param rows: number of its rows, invalid ones included.
    :param invalid: the rows that cannot be used, by line.
    :param notes: warnings for people.
    :param reading: what the catalog was taken for, in sentences.
    """

    name: str
    rows: int
    invalid: tuple[InvalidRow, ...]
    notes: tuple[str, ...]
    reading: tuple[str, ...]


def validate_catalog(given: Mapping[str, Any]) -> ValidatedCatalog:
    """Read a catalog, render its templates and validate each row. Nothing is written or submitted.

    :param given: options of ``catalog_refresh`` without ``destination``. ``check_sources`` is ``off`` by
        default, so that no image is read. Images on object storage are asked for their versions.
    :raises InvalidInput: if the catalog or an option cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="bgrep-") as folder:
        options = Options.checked({"check_sources": "off", **given, "destination": folder})
        if problems := path_problems({"catalog": options.catalog}):
            raise InvalidInput(problems)
        now = time.time()
        run = Run(plan_id=new_plan_id(0, now, dry=True), dag_id="", run_id="", now=now)
        return use_draft(options, CatalogPaths(storage_path(folder)), run, _validated)


def _validated(draft: PlanDraft) -> ValidatedCatalog:
    plan = draft.plan
    invalid = tuple(sorted(draft.invalid, key=lambda row: row.line))
    return ValidatedCatalog(plan.catalog, plan.rows, invalid, plan.notes, plan.reading)
