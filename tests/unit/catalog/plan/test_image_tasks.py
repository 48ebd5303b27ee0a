# SPDX-License-Identifier: Apache-2.0
"""A row becomes an image task: its own cells, then its category's defaults, then everybody's; or all that is
wrong with it.
"""

from __future__ import annotations

from typing import Any

import pytest
from bgrep_harness.catalogs import image_task

from airflow_provider_bgrep.catalog.config.defaults import FieldDefaults
from airflow_provider_bgrep.catalog.model.columns import MAX_NAME, name_of
from airflow_provider_bgrep.protocol.errors import InvalidInput
from airflow_provider_bgrep.protocol.models import ImageTask

IMAGE = "https://shop.example/mug.jpg"
SIGNED = f"{IMAGE}?Expires=1&OSSAccessKeyId=LTAI&Signature=canary0signature"
GOOD = {"sku": "mug", "image": IMAGE, "positive_prompt": "on marble"}


def prepare(cells: dict[str, str | None], **recipe: Any) -> ImageTask:
    made = FieldDefaults.checked(recipe.get("defaults", {}), recipe.get("categories", {}))
    return image_task(cells, made)


def problems(cells: dict[str, str | None], **recipe: Any) -> dict[str, str]:
    with pytest.raises(InvalidInput) as refused:
        prepare(cells, **recipe)
    return {problem.where: problem.what for problem in refused.value.problems}


def test_a_row_is_named_by_its_sku_and_by_a_view_but_main():
    assert [name_of("a"), name_of("a", None), name_of("a", ""), name_of("a", "main")] == ["a"] * 4
    assert name_of("a", "back") == "a/back"
    assert prepare({**GOOD, "view": "back"}).id == "mug/back"
    assert prepare({**GOOD, "sku": "  mug\u3000", "view": " main "}).id == "mug"


def test_a_cell_overrides_its_category_which_overrides_defaults():
    recipe = {
        "defaults": {"positive_prompt": "plain", "steps": 20, "strength": 0.3},
        "categories": {"cups": {"positive_prompt": "in a kitchen", "steps": "30"}},
    }
    bare = {"sku": "a", "image": IMAGE}
    assert prepare(bare, **recipe).positive_prompt == "plain"
    cup = prepare({**bare, "category": "cups"}, **recipe)
    assert (cup.positive_prompt, cup.steps, cup.strength) == ("in a kitchen", 30, 0.3)
    own = prepare({**bare, "category": "cups", "steps": "40", "positive_prompt": "on ice"}, **recipe)
    assert (own.positive_prompt, own.steps, own.strength) == ("on ice", 40, 0.3)
    empty = prepare({**bare, "category": "cups", "steps": "  ", "positive_prompt": ""}, **recipe)
    assert empty == cup
    assert prepare({**bare, "category": "hats"}, **recipe).positive_prompt == "plain"


def test_nothing_in_a_categorys_defaults_leaves_everybodys():
    recipe = {"defaults": {"negative_prompt": "people"}, "categories": {"cups": {"negative_prompt": None}}}
    assert prepare({**GOOD, "category": "cups"}, **recipe).negative_prompt == "people"


def test_templates_read_all_columns_and_empty_cells_are_missing():
    recipe = {"defaults": {"positive_prompt": "A {{ farbe_neu | lower }} {{ sku }}"}}
    bare = {"sku": "Mug", "image": IMAGE}
    assert prepare({**bare, "farbe (neu)": " Rot "}, **recipe).positive_prompt == "A rot Mug"
    found = problems({**bare, "farbe (neu)": " "}, **recipe)
    assert "'farbe_neu' is undefined" in found["positive_prompt"]
    cells = {**bare, "positive_prompt": "{{ a }}-{{ b }}", "a": "1", "b": "{{ a }}"}
    assert prepare(cells).positive_prompt == "1-{{ a }}"  # what a cell holds is not rendered twice


def test_a_rows_seed_is_its_own_and_the_same_every_run():
    seeds = {sku: prepare({**GOOD, "sku": sku}).seed for sku in ("a", "b", "c", "d")}
    assert len(set(seeds.values())) == 4
    assert seeds == {sku: prepare({**GOOD, "sku": sku, "image": IMAGE + "2"}).seed for sku in seeds}
    assert all(0 <= seed < 2**31 for seed in seeds.values() if seed is not None)
    assert prepare({**GOOD, "seed": "0"}).seed == 0
    assert prepare(GOOD, defaults={"seed": 7}).seed == 7
    # What it was yesterday, or everything is submitted again.
    assert seeds["a"] == 0xCA978112 >> 1


@pytest.mark.parametrize(
    ("cell", "number"),
    [("7.5", 7.5), ("7,5", 7.5), (" 7.50 ", 7.5), ("8", 8), ("8.0", 8), ("1e1", 10), ("+8", 8)],
)
def test_numbers_as_half_the_world_writes_them(cell: str, number: float):
    found = prepare({**GOOD, "guidance_scale": cell}).guidance_scale
    assert (found, type(found)) == (number, type(number))


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("guidance_scale", "7.5.1"),
        ("guidance_scale", "٧"),
        ("guidance_scale", "1.000,5"),
        ("steps", "20.5"),
        ("seed", "1,000"),
        ("seed", "1.000"),
        ("seed", "12,345,678"),
        ("steps", "20,000"),
        ("num_output", "1,000"),
        ("steps", "1e400"),
        ("seed", "9" * 5000),
        ("seed", str(2**63)),
        ("num_output", "0"),
        ("strength", "inf"),
    ],
)
def test_a_number_out_of_range_is_reported_by_its_column(column: str, cell: str):
    assert list(problems({**GOOD, column: cell})) == [column]


def test_a_cell_without_a_number_says_how_to_write_one():
    found = problems({**GOOD, "steps": "1,000", "strength": "strong", "seed": "x" * 100})
    assert found["steps"] == "is '1,000'; give an integer in [15, 50], without separators of thousands"
    assert found["strength"].startswith("is 'strong'; give a number in ")
    assert len(found["seed"]) < 200
    assert not any("XComArg" in what for what in found.values())  # that is for authors of DAGs


def test_all_that_is_wrong_is_reported_at_once():
    found = problems({"sku": "", "image": "mug.jpg", "positive_prompt": "{{ x }}", "steps": "1", "seed": "a"})
    assert set(found) == {"sku", "image", "positive_prompt", "steps", "seed"}


@pytest.mark.parametrize("image", [SIGNED, SIGNED.replace("https", "ftp"), f"mug.jpg?{SIGNED}"])
def test_no_message_shows_what_signs_a_url(image: str):
    cells = {**GOOD, "image": image, "mask": image, "steps": "x"}
    assert "canary0signature" not in str(problems(cells))


def test_a_blank_in_a_url_is_escaped_and_a_control_is_reported():
    assert prepare({**GOOD, "image": "https://shop.example/a b.jpg"}).image.endswith("/a%20b.jpg")
    assert "control character" in problems({**GOOD, "image": "https://shop.example/a\nb.jpg"})["image"]


def test_only_paths_on_object_storage_are_accepted_as_they_are():
    for path in ("s3://shop/a b.jpg", "gs://shop/ü.jpg", "OSS://shop/a.jpg", "s3://conn@shop/x#y?z.jpg"):
        assert prepare({**GOOD, "image": path, "mask": path}).image == path
        assert prepare({**GOOD, "image": path, "mask": path}).mask == path
    for path in ("s3://", "s3:/a/b", "file:///etc/passwd", "memory://a/b", "http.s3://a/b", "s3://a\nb"):
        assert set(problems({**GOOD, "image": path})) == {"image"}


def test_a_name_is_printable_and_fits_into_a_file_name():
    assert prepare({**GOOD, "sku": "雪" * MAX_NAME}).id == "雪" * MAX_NAME
    assert "101 characters" in problems({**GOOD, "sku": "x" * (MAX_NAME + 1)})["sku"]
    assert "at most" in problems({**GOOD, "sku": "x" * 60, "view": "y" * 60})["sku"]
    assert "control" in problems({**GOOD, "sku": "a\x00b"})["sku"]
    assert "control" in problems({**GOOD, "sku": "a", "view": "b\u202ec"})["sku"]
    for cells in ({"sku": "https://a/b.png"}, {"sku": "s3://a/b"}, {"sku": "a", "view": "http://a/b?s=1"}):
        assert "URL" in problems({**GOOD, **cells})["sku"]


@pytest.mark.parametrize(
    ("recipe", "where", "words"),
    [
        ({"defaults": {"image": IMAGE}}, "defaults.image", "is not a field"),
        ({"defaults": {"color": "red"}}, "defaults.color", "is not a field"),
        ({"defaults": {"steps": 1}}, "defaults.steps", "out of range"),
        ({"defaults": {"steps": "many"}}, "defaults.steps", "is text"),
        ({"defaults": {"mask": "mask.png"}}, "defaults.mask", "is not http or https"),
        ({"defaults": {"positive_prompt": "{{ x"}}, "defaults.positive_prompt", "unexpected end"),
        ({"defaults": {"positive_prompt": "x" * 501}}, "defaults.positive_prompt", "is too long"),
        ({"categories": {"cups": "plain"}}, "categories['cups']", "is a str"),
        ({"categories": {"cups": {"steps": 1}}}, "categories['cups'].steps", "out of range"),
        ({"categories": {" ": {"steps": 20}}}, "categories[' ']", "is not a name"),
    ],
)
def test_invalid_defaults_are_refused_before_any_row_is_read(recipe: dict, where: str, words: str):
    with pytest.raises(InvalidInput) as refused:
        FieldDefaults.checked(recipe.get("defaults", {}), recipe.get("categories", {}))
    (problem,) = refused.value.problems
    assert problem.where == where
    assert words in problem.what


def test_every_problem_of_the_defaults_is_reported_at_once():
    with pytest.raises(InvalidInput) as refused:
        FieldDefaults.checked({"steps": 1, "color": "red"}, {"a": 7, "b": {"seed": "x"}})
    assert {problem.where for problem in refused.value.problems} == {
        *("defaults.steps", "defaults.color", "categories['a']", "categories['b'].seed")
    }


def test_a_default_mask_on_object_storage_is_taken():
    assert prepare(GOOD, defaults={"mask": "s3://shop/mask.png"}).mask == "s3://shop/mask.png"
