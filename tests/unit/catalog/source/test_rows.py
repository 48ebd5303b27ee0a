# SPDX-License-Identifier: Apache-2.0
"""A row's own cell wins over its category's default, and that over everybody's: for arrays as for one row."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.runs import Destination
from bgrep_harness.stores import folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_bgrep.catalog.model.columns import name_of
from airflow_provider_bgrep.catalog.model.paths import CatalogPaths
from airflow_provider_bgrep.catalog.source.cells import cell_text
from airflow_provider_bgrep.catalog.source.reader import open_catalog
from airflow_provider_bgrep.catalog.source.rows import VARIABLE, NormalizedRows
from airflow_provider_bgrep.catalog.state.manifest import read_manifest
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


@pytest.mark.parametrize(
    "cell",
    [
        "Café Möbel",
        "Cafe\u0301 Mo\u0308bel",
        "CAFÉ\u00a0MÖBEL",
        "Café  Möbel",
        "\u200bCafé\u3000Mö\u00adbel\ufeff",
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_category_is_known_in_any_form(cell: str, form: Any):
    categories = {unicodedata.normalize(form, "Café Möbel"): {"steps": 30}, "Cafe Mobel": {"steps": 40}}
    rows, how = normalized([{"sku": "a", "image": IMAGE, "category": cell}], {"steps": 20}, categories)
    assert ([row["steps"] for row in rows], how.unknown_categories) == (["30"], {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "cells"),
    [
        (
            {
                "defaults": {"positive_prompt": "on white"},
                "categories": {"Möbel": {"positive_prompt": "in a room"}},
            },
            {"category": "Möbel"},
        ),
        ({"defaults": {"positive_prompt": "a mug{% if sale %} on sale{% endif %}"}}, {"sale": "sí"}),
    ],
)
def test_an_export_in_another_form_buys_nothing_again(prompts: dict[str, Any], cells: dict[str, str]):
    shop = Destination(CatalogPaths(folder({})), options=prompts)
    rows = [{"sku": f"café-{n}", "image": f"https://shop.example/{n}.png", **cells} for n in range(4)]
    rows.append({**rows[0], "sku": "other", **dict.fromkeys(cells, "no")})
    shop.refresh(rows)
    before = list(read_manifest(shop.paths.destination))
    for form in ("NFD", "NFC"):
        other = [{key: unicodedata.normalize(form, cell) for key, cell in row.items()} for row in rows]
        assert shop.refresh(other).counts == {"unchanged": 5}
    prompts_of = {row["name"]: row["positive_prompt"] for row in read_manifest(shop.paths.destination)}
    assert prompts_of == {row["name"]: row["positive_prompt"] for row in before}
    assert (len(set(prompts_of.values())), shop.billed.total()) == (2, 5)


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


TRICKY = st.text("\x1e\x1fa0", max_size=3)


@pytest.mark.slow
@given(st.lists(st.tuples(TRICKY, TRICKY, TRICKY), min_size=1, max_size=8))
def test_content_is_equal_exactly_where_requests_are(cells):
    catalog = [{"sku": "a", "image": IMAGE, "mask": mask, "x": x, "y": y} for mask, x, y in cells]
    asked, contents = [], []
    # A row's content does not depend on the rows that are read together with it.
    for rows in (catalog, *([row] for row in catalog)):
        with open_catalog(rows) as opened:
            keys = NormalizedRows(opened, {}, {}, ["x", "y"]).key_reader().read_all()
        contents += keys["content"].to_pylist()
        asked += [tuple(cell_text(row[name]) for name in ("mask", "x", "y")) for row in rows]
    assert len(set(asked)) == len(set(contents)) == len(set(zip(asked, contents, strict=True)))


def test_a_content_holds_whatever_decides_about_a_row():
    row = {"sku": "a", "image": IMAGE, "color": "red", "steps": None}

    def content(defaults: Mapping[str, Any], edition: str = "", **cells: Any) -> str:
        with open_catalog([row | cells]) as opened:
            rows = NormalizedRows(opened, defaults, {"cups": {"seed": 7}}, ["color"], edition)
            (found,) = rows.key_reader().read_all()["content"].to_pylist()
        return str(found)

    same = content({"steps": 20})
    assert same == content({}, steps=20) == content({}, steps="20 ") == content({"steps": 20}, stock=7)
    others = [
        content({}),
        content({"steps": 20}, "2"),
        content({"steps": 20, "seed": 1}),
        content({"steps": 20}, color="blue"),
        content({"steps": 20}, color=""),
        content({"steps": 20}, category="Cups"),
        content({"steps": 20}, view="back"),
        content({"steps": 20}, sku="b"),
        content({"steps": 20}, image=IMAGE + "x"),
    ]
    assert len({same, *others}) == 1 + len(others)


def test_only_images_on_object_storage_have_versions():
    catalog = [{"sku": "a", "image": IMAGE, "mask": None}, {"sku": "b", "image": IMAGE, "mask": "s3://b/m"}]
    with open_catalog(catalog) as opened:
        keys = NormalizedRows(opened, {}, {}).key_reader().read_all()
    assert keys["image"].to_pylist() == [None, None]
    assert keys["mask"].to_pylist() == [None, "s3://b/m"]


def test_long_defaults_make_batches_smaller_and_change_nothing():
    catalog = [{"sku": f"{i}", "image": IMAGE} for i in range(3000)]
    rows, how = normalized(catalog, {"positive_prompt": "x" * 9000})
    assert how.count == len(rows) == 3000
    assert {row["positive_prompt"] for row in [*rows, how.constants] if "positive_prompt" in row} == {
        "x" * 9000
    }
    with open_catalog(catalog) as opened:
        sizes = [len(batch) for batch in NormalizedRows(opened, {"mask": "x" * 9000}, {}).batches()]
    assert max(sizes) < 2000
    assert sum(sizes) == 3000


def test_only_redone_rows_have_another_content():
    catalog = [{"sku": sku, "image": IMAGE, "view": "back"} for sku in ("a", "b")]

    def contents(generations: Mapping[str, int], edition: str = "") -> list[str]:
        with open_catalog(catalog) as opened:
            rows = NormalizedRows(opened, {}, {}, (), edition, (), generations)
            return list(rows.key_reader().read_all()["content"].to_pylist())

    plain = contents({})
    assert contents({"a": 1, "x": 2}) == plain, "the row's name is a/back"
    redone = contents({"a/back": 1})
    assert redone[0] != plain[0]
    assert redone[1] == plain[1]
    assert len({contents({"a/back": one})[0] for one in range(4)} | {contents({}, "2")[0]}) == 5
