# SPDX-License-Identifier: Apache-2.0
"""What a row asks for: rendered, validated, and identified by a hash that no release changes."""

from __future__ import annotations

from typing import Any

import pytest
from bgrep_harness.runs import row

pytestmark = pytest.mark.usefixtures("temporary_files_in_memory")

SIGNED = "https://shop.example/lamp.jpg?Expires={n}&OSSAccessKeyId=k&Signature=s{n}"


def made(destination: Any, *rows: Any, **options: Any) -> dict[str, dict[str, Any]]:
    """What rows ask for, by name."""
    with destination.draft(list(rows), **options) as draft:
        found = draft.db.execute("SELECT * FROM made")
        names = [column[0] for column in found.description]
        return {
            one["name"]: one for one in (dict(zip(names, cells, strict=True)) for cells in found.fetchall())
        }


def request_hash(destination: Any, **facts: Any) -> str:
    options = {name: facts.pop(name) for name in ("edition", "defaults") if name in facts}
    return str(made(destination, row("lamp", **facts), **options)["lamp"]["request_hash"])


def test_templates_defaults_and_cells_become_a_request(destination):
    found = made(
        destination,
        row("lamp", positive_prompt="", color="red", steps="20"),
        row("mug", positive_prompt="a {{ color }} cup", color="blue"),
        defaults={"positive_prompt": "a {{ color }} {{ sku }}", "strength": "0,5", "steps": 30},
    )
    assert {name: one["positive_prompt"] for name, one in found.items()} == {
        "lamp": "a red lamp",
        "mug": "a blue cup",
    }
    assert {name: (one["steps"], one["strength"]) for name, one in found.items()} == {
        "lamp": (20, 0.5),
        "mug": (30, 0.5),
    }


def test_the_hash_of_a_request_never_changes_between_releases(destination):
    # Written to ledgers: another one would submit every row again.
    assert request_hash(destination) == "a7ad1c7de60d84aa15de2e90b3065a57"
    assert request_hash(destination, edition="spring") == "8d413a190fcb756ec422aa7b1d680f04"


@pytest.mark.parametrize(
    "facts",
    [
        {"steps": 20},
        {"seed": 0},
        {"strength": 0.25},
        {"positive_prompt": "x"},
        {"mask": "https://a/m.png"},
        {"edition": "x"},
    ],
    ids=str,
)
def test_another_request_has_another_hash(destination, facts):
    assert request_hash(destination, **facts) != request_hash(destination)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"guidance_scale": 7}, {"guidance_scale": "7.0"}),
        ({"negative_prompt": ""}, {}),
        ({"image": SIGNED.format(n=1)}, {"image": SIGNED.format(n=2)}),
        ({"image": "HTTPS://Shop.Example/lamp.jpg"}, {}),
    ],
    ids=str,
)
def test_the_same_request_written_differently_has_one_hash(destination, one, other):
    assert request_hash(destination, **one) == request_hash(destination, **other)


def test_a_signed_url_is_kept_apart_from_the_images_identity(destination):
    url = SIGNED.format(n=1)
    found = made(destination, row("lamp", image=url), row("mug"))
    assert (found["lamp"]["image"], found["lamp"]["image_url"]) == ("https://shop.example/lamp.jpg", url)
    assert (found["mug"]["image_url"], found["mug"]["mask"], found["mug"]["mask_url"]) == ("", "", "")


def test_an_invalid_row_is_reported_and_stops_no_other(destination):
    rows = [
        row("lamp", steps="many", strength=2),
        row("mug", positive_prompt="{{ color | nothing }}"),
        row("", image="https://a/b.png"),
        row("vase"),
    ]
    with destination.draft(rows) as draft:
        assert draft.plan.counts["new"] == 1
        found = [(one.line, one.column, one.sku) for one in draft.invalid]
    assert found[0] == (1, "strength, steps", "lamp")
    assert [(line, sku) for line, _, sku in found[1:]] == [(2, "mug"), (3, "")]


def test_images_at_other_places_than_allowed_are_reported(destination):
    rows = [row("lamp"), row("mug", image="https://elsewhere.example/mug.jpg")]
    source = {"allowed_image_prefixes": ["https://shop.example/"]}
    with destination.draft(rows, source=source) as draft:
        assert [(one.sku, one.column) for one in draft.invalid] == [("mug", "image")]


@pytest.mark.slow
def test_a_purchase_from_before_an_option_is_adopted(destination):
    rows = [row("lamp", image="https://shop.example/lamp.jpg?sess=1")]
    destination.refresh(rows)
    again = [row("lamp", image="https://shop.example/lamp.jpg?sess=2")]
    ignored = {"source": {"ignored_url_parameters": ["sess"]}}
    with destination.draft(again, **ignored) as draft:
        assert draft.plan.counts["unchanged"] == 1
    with destination.draft(again) as draft:
        assert draft.plan.counts["changed"] == 1


@pytest.mark.parametrize(
    ("image", "is_certain"),
    [
        ("", True),
        ("mug.jpg", True),
        ("C:\\images\\mug.jpg", True),
        ("/srv/mug", True),
        ("ftp://shop.example/mug", True),
        ("www.shop.example/mug.webp", True),
        ("data:image/png;base64,iVBORw0KGgo=", True),
        ("S3", False),
        ("a red mug", False),
        ("12.50", False),
    ],
)
def test_a_sku_is_not_certain_if_the_image_is_another_cell(destination, image, is_certain):
    with destination.draft([row("lamp", image=image), row("mug")]) as draft:
        assert [(one.sku, one.is_certain) for one in draft.invalid] == [("lamp", is_certain)]
