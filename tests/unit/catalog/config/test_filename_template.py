# SPDX-License-Identifier: Apache-2.0
"""Published images get paths that every store accepts; rules that cannot work are refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from bgrep_harness.catalogs import HOSTILE_SKUS
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.config.filename_template import TEMPLATE_FIELDS, PublishRules
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.storage import safe_name

RETIRE = PublishRules()


def path_of(rules: PublishRules, sku: str, view: str = "main", **changes: Any) -> str:
    row = {"name": f"{sku}/{view}", "sku": sku, "view": view, "width": 1, "height": 1, "seed": None}
    return rules.path(
        {**row, "request_hash": "c" * 32, "sha256": "0" * 64, "plan_id": "", **changes}, "png", ""
    )


@given(st.text(max_size=300), st.text(max_size=300))
@example("manifests", "main")
@example("雪" * 300, "雪" * 300)
@example("CON", "nul.x")
def test_any_sku_makes_a_path_that_every_store_takes(sku, view):
    longest = PublishRules(filename_template="{sku}/{sku}-{view}-{version}-{request_hash}.{ext}")
    for rules in (RETIRE, longest, PublishRules(filename_template="{view}/{sku}/{version}")):
        parts = path_of(rules, sku, view).split("/")
        assert parts[0].casefold() not in ("manifests", "manifest.json", "_bgrep")
        for part in parts:
            assert 0 < len(part.encode()) <= 255
            assert safe_name(part, 255) == part
            assert not part.endswith(".")
            assert part.partition(".")[0].casefold() not in ("con", "nul", "prn", "aux", "com1")


def test_two_rows_never_share_a_file_even_ignoring_case():
    image_paths = [
        path_of(RETIRE, sku, view) for sku in HOSTILE_SKUS for view in ("main", "MAIN", *HOSTILE_SKUS)
    ]
    assert len({path.casefold() for path in image_paths}) == len(image_paths)


def test_a_template_may_name_all_there_is():
    template = (
        "shop/{sku}/{view}/" + "-".join(f"{{{name}}}" for name in TEMPLATE_FIELDS if name != "ext") + ".{ext}"
    )
    path = path_of(PublishRules(filename_template=template), "mug", "back", seed=5, width=640)
    assert re.fullmatch(r"shop/mug/back/mug-back-[0-9a-f]{12}-c{12}-5-640-1\.png", path)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{view}-{version}.{ext}", "has no folder {sku}"),
        ("x{sku}/{version}.{ext}", "has no folder {sku}"),
        ("{sku}/{view}.{ext}", "lacks {version}"),
        ("{sku}/{version}/{view}.{ext}", "lacks {version}"),
        ("{sku}/{version:.2}.{ext}", "with a format"),
        ("{sku}/{version!r}.{ext}", "with a format"),
        ("{sku}/{version}.{price}", "'price'; the fields are sku, view"),
        ("{sku}/{version}-{}.{ext}", "''; the fields are"),
        ("{sku}/{version}-{sku.x}", "'sku.x'"),
        ("/{sku}/{version}", "besides fields"),
        ("../{sku}/{version}", "besides fields"),
        ("{sku}/./{version}", "besides fields"),
        ("{sku}//{version}", "besides fields"),
        ("{sku}/.{version}", "besides fields"),
        ("{sku}/a b{version}", "besides fields"),
        ("{sku}/a\\b{version}", "besides fields"),
        ("{sku}/{{version}}{version}", "besides fields"),
        ("{sku}/{version}.", "besides fields"),
        ("manifests/{sku}/{version}", "which is reserved"),
        ("_bgrep/{sku}/{version}", "which is reserved"),
        ("Manifest.json/{sku}/{version}", "which is reserved"),
        ("{sku}/{sku}{sku}{sku}{version}", "longer than 250 bytes"),
        ("{sku}/{version", "cannot be read"),
        ("", "has no folder"),
        (None, "is not text"),
    ],
)
def test_a_template_that_cannot_work_is_refused(template, problem):
    with pytest.raises(InvalidInput, match=re.escape(problem)):
        PublishRules(filename_template=template)


def test_all_that_is_wrong_with_the_rules_is_reported_at_once():
    with pytest.raises(InvalidInput) as caught:
        PublishRules(filename_template="{view}", keep_versions=0, on_removed="burn")
    assert [one.where for one in caught.value.problems] == [
        *("filename_template", "filename_template", "keep_versions", "on_removed")
    ]


@pytest.mark.parametrize("versions", [0, -1, 1001, 1.5, "3", True, None])
def test_a_number_of_versions_that_is_none_is_refused(versions):
    with pytest.raises(InvalidInput, match="keep_versions"):
        PublishRules(keep_versions=versions)
