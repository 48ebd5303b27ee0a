# SPDX-License-Identifier: Apache-2.0
"""The page about object storage: its policy has what is used, and what it says of the check holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.runs import Destination, row

from airflow_provider_bgrep.catalog.config.groups import ExecutionOptions
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.plan.destination import Planner, check_destination
from airflow_provider_bgrep.catalog.source.images import SIGNED_SECONDS
from airflow_provider_bgrep.catalog.source.listing import PAGE_COST, WHOLE_ABOVE
from airflow_provider_bgrep.client import without_waiting
from airflow_provider_bgrep.storage_check.probes import _FIRST

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "object_storage.rst").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())

S3_ACTIONS = {
    "PutObject": {"s3:PutObject"},
    "CopyObject": {"s3:GetObject", "s3:PutObject"},
    "CreateMultipartUpload": {"s3:PutObject"},
    "UploadPart": {"s3:PutObject"},
    "UploadPartCopy": {"s3:GetObject", "s3:PutObject"},
    "CompleteMultipartUpload": {"s3:PutObject"},
    "AbortMultipartUpload": {"s3:AbortMultipartUpload"},
    "GetObject": {"s3:GetObject"},
    "HeadObject": {"s3:GetObject"},
    "DeleteObject": {"s3:DeleteObject"},
    "HeadBucket": {"s3:ListBucket"},
    "ListObjectsV2": {"s3:ListBucket"},
    "GetBucketVersioning": {"s3:GetBucketVersioning"},
}
"""The permissions that each operation of S3 requires, as Amazon's documentation says."""

OSS_ACTIONS = {
    "PutObject": {"oss:PutObject"},
    "CopyObject": {"oss:GetObject", "oss:PutObject"},
    "InitiateMultipartUpload": {"oss:PutObject"},
    "UploadPart": {"oss:PutObject"},
    "UploadPartCopy": {"oss:GetObject", "oss:PutObject"},
    "CompleteMultipartUpload": {"oss:PutObject"},
    "AbortMultipartUpload": {"oss:AbortMultipartUpload"},
    "GetObject": {"oss:GetObject"},
    "GetObjectMeta": {"oss:GetObject"},
    "HeadObject": {"oss:GetObject"},
    "DeleteObject": {"oss:DeleteObject"},
    "ListObjectsV2": {"oss:ListObjects"},
    "GetBucketVersioning": {"oss:GetBucketVersioning"},
}
"""The permissions that each operation of OSS requires, as "Authorization syntax and elements" says."""


def policy(store: str) -> set[str]:
    """The actions of the policy on the page for a store (``s3`` or ``oss``)."""
    sources = re.findall(r"\.\. code-block:: json\n\n((?:   .*\n|\n)+)", PAGE)
    statements = [statement for source in sources for statement in json.loads(source)["Statement"]]
    actions = {action for statement in statements for action in statement["Action"]}
    return {action for action in actions if action.startswith(f"{store}:")}


def check_policy(store: str, used: set[str], actions: dict[str, set[str]]) -> None:
    """Assert that the policy has what the operations require, and no more."""
    assert len(used) > 5
    assert used <= actions.keys()
    required = set().union(*(actions[name] for name in used))
    assert policy(store) - required <= {f"{store}:AbortMultipartUpload"}, "in the policy, and not used"
    assert required <= policy(store)


def refresh_twice(folder: Any) -> None:
    """Check a destination, publish rows, and remove one of them."""
    paths = CatalogPaths(folder)
    with without_waiting():
        check_destination(paths, Planner("nightly", "run"))
    destination = Destination(paths, {"check_sources": "off", "on_removed": "delete", "keep_plans": 1})
    for skus in ("ab", "a"):
        destination.refresh([row(sku) for sku in skus], max_removed_share=1)


@pytest.mark.slow
def test_the_policy_for_s3_has_what_runs_use(s3, s3_folder):
    used: set[str] = set()
    s3.s3.meta.events.register("before-call.s3", lambda model, **_: used.add(model.name))
    refresh_twice(s3_folder)
    check_policy("s3", used, S3_ACTIONS)


@pytest.mark.slow
def test_the_policy_for_oss_has_what_runs_use(oss_server, oss_folder):
    oss_server.forget_requests()
    refresh_twice(oss_folder)
    check_policy("oss", set(oss_server.counters.operations), OSS_ACTIONS)


def test_numbers_are_those_of_the_code():
    assert f"objects of {len(_FIRST)} bytes" in WORDS
    assert f"costs as much as {PAGE_COST} requests" in WORDS
    assert f"more than {WHOLE_ABOVE:,} images" in WORDS
    assert SIGNED_SECONDS == 2 * 3600
    assert "two hours longer" in WORDS


@pytest.mark.parametrize("name", ["single_writer"])
def test_the_option_is_where_the_page_says(name):
    assert f"``{name}`` to true in ``execution``" in WORDS
    assert hasattr(ExecutionOptions(), name)


def test_the_page_can_be_found():
    assert "\n   object_storage\n" in (ROOT / "docs" / "index.rst").read_text(encoding="utf-8")
