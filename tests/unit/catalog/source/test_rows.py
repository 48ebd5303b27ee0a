# SPDX-License-Identifier: Apache-2.0
"""A row's own cell wins over its category's default, and that over everybody's: for arrays as for one row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.model.columns import name_of
from airflow_provider_bgrep.catalog.source.cells import cell_text
from airflow_provider_bgrep.catalog.source.reader import open_catalog
from airflow_provider_bgrep.catalog.source.rows import VARIABLE, NormalizedRows
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.protocol.limits import IMAGE_TASK_FIELDS

IMAGE = "https://shop.example/mug.jpg"


def normalized(
    catalog: list[dict[str, Any]],
    defaults: Mapping[str, Any] | None = None,
    categories: Mapping[str, Mapping[str, Any]] | None = None,
    variables: tuple[str, ...] = (),
) -> tuple[list[dict[str, Any]], NormalizedRows]:
    with open_catalog(catalog) as opened:
        rows = NormalizedRows(opened, defaults or {}, categories or {}, variables)
        return [row for batch in rows.batches() for row in batch.to_pylist()], rows


def expected(
    row: Mapping[str, Any], defaults: Mapping[str, Any], categories: Mapping[str, Mapping[str, Any]]
) -> dict[str, str | None]:
    """The rule for one row, in plain Python."""
    own = {name: cell_text(value) for name, value in row.items()}
    chosen = categories.get((own.get("category") or "").casefold(), {})
    return {
        name: own.get(name) or cell_text(chosen.get(name)) or cell_text(defaults.get(name))
        for name in IMAGE_TASK_FIELDS
    }


CELLS = st.sampled_from([None, "", " ", "20", 20, 20.0, "x", "{{ color }}"])
FIELDS = st.dictionaries(st.sampled_from(["steps", "mask", "positive_prompt"]), CELLS, max_size=3)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.fixed_dictionaries(
            {"sku": st.sampled_from(["a", "b"]), "image": st.just(IMAGE)},
            optional={
                "steps": CELLS,
                "mask": CELLS,
                "category": st.sampled_from([None, "CUPS", " hats", "other"]),
                "view": st.sampled_from([None, "main", "back"]),
            },
        ),
        min_size=1,
        max_size=5,
    ),
    FIELDS,
    st.dictionaries(st.sampled_from(["cups", "hats"]), FIELDS, max_size=2),
)
def test_arrays_follow_the_rule_for_one_row(catalog, defaults, categories):
    rows, how = normalized(catalog, defaults, categories)
    for given_row, row in zip(catalog, rows, strict=True):
        found = {**how.constants, **{name: row[name] for name in how.fields}}
        assert found == expected(given_row, defaults, categories)
        assert row["name"] == name_of(given_row["sku"], given_row.get("view"))
        assert row["view"] == (given_row.get("view") or "main")


def test_categories_ignore_case_and_unknown_ones_are_counted():
    names = ("Outdoor", "OUTDOOR ", "indoor", "indoor", "", None)
    catalog = [{"sku": f"{i}", "image": IMAGE, "category": name} for i, name in enumerate(names)]
    rows, how = normalized(catalog, {"steps": 20}, {"outdoor": {"steps": 30}})
    assert [row["steps"] for row in rows] == ["30", "30", "20", "20", "20", "20"]
    assert how.unknown_categories == {"indoor": 2}
    assert normalized(catalog)[1].unknown_categories == {}


def test_variables_are_a_rows_own_cells():
    catalog = [{"sku": "a", "image": IMAGE, "steps": "", "Color Code": "r", "unread": [1]}]
    rows, how = normalized(catalog, {"steps": 20}, variables=("steps", "color_code", "nothing"))
    assert how.variables == ("color_code", "steps")
    assert rows[0][f"{VARIABLE}color_code"] == "r"
    assert (rows[0]["steps"], rows[0][f"{VARIABLE}steps"]) == ("20", None)


@pytest.mark.parametrize(
    "heading",
    ["positive_promt", "Positive Promt", "Mask URL", "mask-url", "num_outputs", "Seeds", "negative prompts"],
)
def test_a_heading_that_is_nearly_a_field_is_refused(heading: str):
    with pytest.raises(InvalidInput) as refused:
        normalized([{"sku": "a", "image": IMAGE, heading: "x"}])
    assert [(one.where, repr(heading) in one.what) for one in refused.value.problems] == [("catalog", True)]


@pytest.mark.parametrize(
    "columns",
    [
        {"mask_url": "x", "mask": "https://shop.example/mask.png"},  # the field itself is there
        {"promoted": "yes", "stock": 1, "color": "red", "image_2": "x", "title": "x"},
        {"Positive-Prompt": "x", "NEGATIVE PROMPT": "x", "Num Output": 1, "\u200bseed\u200b": 1},
    ],
)
def test_other_headings_are_not(columns: dict[str, Any]):
    rows, _ = normalized([{"sku": "a", "image": IMAGE, **columns}])
    assert len(rows) == 1


def test_a_heading_that_a_template_reads_is_not_a_mistake():
    catalog = [{"sku": "a", "image": IMAGE, "seeds": "poppy"}]
    assert normalized(catalog, variables=("seeds",))[0][0][f"{VARIABLE}seeds"] == "poppy"


def test_two_headings_of_one_name_are_refused_where_one_is_read(tmp_path: Path):
    file = tmp_path / "catalog.csv"
    file.write_text(f"sku,image,Farbe (neu),farbe neu\na,{IMAGE},r,g\n")
    with open_catalog(str(file)) as catalog:
        assert NormalizedRows(catalog, {}, {}).variables == ()
        with pytest.raises(InvalidInput) as refused:
            NormalizedRows(catalog, {}, {}, ["farbe_neu"])
    (problem,) = refused.value.problems
    assert "Farbe (neu), farbe neu" in problem.what
