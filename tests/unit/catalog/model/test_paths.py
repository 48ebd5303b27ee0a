# SPDX-License-Identifier: Apache-2.0
"""The files under a destination: each has a path of its own, and only published ones are outside _bgrep."""

from __future__ import annotations

import itertools

import pytest

from airflow_provider_bgrep.catalog.model.paths import FOLDER, CatalogPaths, PlanPaths
from airflow_provider_bgrep.catalog.model.plan import MAX_SHARDS
from airflow_provider_bgrep.storage import storage_path

SHOP = CatalogPaths(storage_path("file:///shop"))
PLAN = SHOP.plan("00000001-20260101T000000-0123abcd")
PUBLISHED = {"manifest", "manifests"}


def properties(kind: type) -> list[str]:
    return [name for name, value in vars(kind).items() if isinstance(value, property)]


@pytest.mark.parametrize("name", sorted(set(properties(CatalogPaths)) - {"root"}))
def test_consumers_see_manifests_and_images_only(name):
    path = getattr(SHOP, name)
    assert str(path).startswith(str(SHOP.destination))
    assert (SHOP.root in path.parents) is (name not in PUBLISHED)
    assert (FOLDER in path.parts) is (name not in PUBLISHED)


def test_every_file_has_a_path_of_its_own():
    shards = (0, 1, 10, 999, MAX_SHARDS)
    ofs = [PLAN.journal, PLAN.manifest, PLAN.results]
    paths = [
        *(getattr(SHOP, name) for name in properties(CatalogPaths)),
        *(getattr(PLAN, name) for name in properties(PlanPaths)),
        *(of(shard) for of, shard in itertools.product(ofs, shards)),
    ]
    assert len(set(map(str, paths))) == len(paths)


@pytest.mark.parametrize("name", properties(PlanPaths))
def test_a_plans_files_are_in_its_folder(name):
    assert getattr(PLAN, name).parent == PLAN.folder
    assert PLAN.folder.parent == SHOP.plans


def test_two_plans_share_no_file():
    other = SHOP.plan("00000002-20260101T000000-0123abcd")
    assert PLAN.folder != other.folder
    assert PLAN.results(0) != other.results(0)


def test_shards_sort_by_name_as_by_number():
    names = [PLAN.results(shard).name for shard in range(MAX_SHARDS)]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("saved_as", "now"),
    [
        ("file:///shop/_bgrep/images/a_0.png", "file:///shop/_bgrep/images/a_0.png"),
        ("file:///shop/generated/a_0.png", "file:///shop/generated/a_0.png"),
        ("file:///old/shop/_bgrep/images/a_0.png", "file:///shop/_bgrep/images/a_0.png"),
        ("file:///shop2/_bgrep/images/a_0.png", "file:///shop/_bgrep/images/a_0.png"),
        ("/shop/_bgrep/images/a_0.png", "file:///shop/_bgrep/images/a_0.png"),
        ("s3://conn@shop/_bgrep/images/a_0.png", "file:///shop/_bgrep/images/a_0.png"),
        ("a_0.png", "file:///shop/_bgrep/images/a_0.png"),
    ],
)
def test_an_image_is_found_wherever_the_destination_was(saved_as: str, now: str):
    assert SHOP.image(saved_as) == storage_path(now)
