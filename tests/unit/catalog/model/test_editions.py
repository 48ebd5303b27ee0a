# SPDX-License-Identifier: Apache-2.0
"""The edition of a row."""

from __future__ import annotations

import pytest

from airflow_provider_bgrep.catalog.model.editions import SEPARATOR, edition_of, generation_of


def test_a_row_that_nobody_asked_for_has_the_edition_of_its_run():
    assert edition_of("autumn", 0) == "autumn"
    assert edition_of("", 0) == ""


@pytest.mark.parametrize("edition", ["", "autumn", "a-1", "#redo"])
@pytest.mark.parametrize("generation", [0, 1, 12])
def test_the_generation_is_read_from_the_edition(edition: str, generation: int):
    assert generation_of(edition_of(edition, generation)) == generation


def test_each_generation_has_an_edition_of_its_own():
    assert len({edition_of("autumn", generation) for generation in range(5)}) == 5


@pytest.mark.parametrize("edition", [f"a{SEPARATOR}", f"a{SEPARATOR}0", f"{SEPARATOR}1 b"])
def test_other_texts_have_no_generation(edition: str):
    assert generation_of(edition) == 0
