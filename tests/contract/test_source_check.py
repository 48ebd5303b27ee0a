# SPDX-License-Identifier: Apache-2.0
"""The plan reads the beginnings of images: what would be refused is reported before anything is submitted."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bgrep_harness.images import draw_images, served
from bgrep_harness.refresh import Refresh, Run
from PIL import Image, ImageOps

from airflow_provider_bgrep.catalog.state.ledger import Ledger
from airflow_provider_bgrep.catalog.state.plan_store import PlanStore

SIDE = 500
EXIF_ORIENTATION = 0x0112


def encoded(size: tuple[int, int], kind: str = "JPEG", orientation: int = 1, **save: Any) -> bytes:
    exif = Image.Exif()
    if orientation != 1:
        exif[EXIF_ORIENTATION] = orientation
    out = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(out, kind, exif=exif, **save)
    return out.getvalue()


def mask() -> bytes:
    image = Image.new("L", (SIDE, SIDE))
    image.paste(255, (100, 100, 400, 400))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


FILES = {
    "good.jpg": encoded((SIDE, SIDE)),
    "good.png": encoded((SIDE, SIDE), "PNG"),
    "mask.png": mask(),
    "good.webp": encoded((SIDE, SIDE), "WEBP"),
    "good.gif": encoded((SIDE, SIDE), "GIF"),
    "good.tiff": encoded((SIDE, SIDE), "TIFF"),
    "least.png": encoded((400, 4096), "PNG"),
    "profile.jpg": encoded((SIDE, SIDE), icc_profile=b"x" * 200_000),
    "small.jpg": encoded((399, SIDE)),
    "large.png": encoded((400, 4097), "PNG"),
    "page.jpg": b"<!DOCTYPE html><title>Not found</title>" + b" " * 70_000,
    "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "empty.png": b"",
    "cut.png": encoded((SIDE, SIDE), "PNG")[:20],
    "wide.jpg": encoded((600, SIDE)),
    "turned.jpg": encoded((600, SIDE), orientation=6),
    "high.png": encoded((SIDE, 600), "PNG"),
    "wide.png": encoded((600, SIDE), "PNG"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a web shop."""
    folder = tmp_path_factory.mktemp("site")
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    with served(folder) as url:
        yield url


@pytest.fixture
def refresh(connection: Any, run: Any, ti: Any, tmp_path: Path) -> Refresh:
    options = {"defaults": {"positive_prompt": "A mug", "steps": 15}}
    return Refresh(f"file://{tmp_path}/shop/images", run, type(ti), options)


def invalid_rows(refresh: Refresh, run: Run) -> dict[str, Any]:
    store = PlanStore(refresh.paths, run.plan["plan_id"])
    return {row["sku"]: (row["column"], row["reason"]) for row in store.invalid_rows()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "mask", "column", "words"),
    [
        ("good.jpg", "", "", ""),
        ("good.png", "good.jpg", "", ""),
        ("good.webp", "good.png", "", ""),
        ("good.gif", "", "", ""),
        ("good.tiff", "", "", ""),
        ("profile.jpg", "good.webp", "", ""),
        ("least.png", "", "", ""),
        ("turned.jpg", "", "", ""),
        ("small.jpg", "", "image", "399 x 500"),
        ("large.png", "", "image", "400 x 4097"),
        ("missing.jpg", "", "image", "HTTP 404"),
        ("page.jpg", "", "image", "is not an image"),
        ("drawing.png", "", "image", "SVG"),
        ("empty.png", "", "image", "is empty"),
        ("cut.png", "", "image", "damaged"),
        ("good.jpg", "missing.png", "mask", "HTTP 404"),
        ("good.jpg", "wide.png", "mask", "600 x 500"),
        ("turned.jpg", "wide.png", "mask", "EXIF"),
        ("turned.jpg", "high.png", "mask", "EXIF"),
        ("turned.jpg", "good.png", "mask", "equal size"),
        ("small.jpg", "missing.png", "image, mask", "399 x 500"),
    ],
)
def test_a_row_that_would_be_refused_is_invalid(refresh, connection, site, image, mask, column, words):
    rows = [
        {"sku": "other", "image": f"{site}/good.jpg", "mask": ""},
        {"sku": "mug", "image": f"{site}/{image}", "mask": f"{site}/{mask}" if mask else ""},
    ]
    run = refresh.plan(rows)
    assert run.counts == ({"new": 1, "invalid": 1} if column else {"new": 2})
    assert run.plan["images"] == (1 if column else 2)
    if column:
        found = invalid_rows(refresh, run)["mug"]
        assert found[0] == column
        assert words in found[1]
        assert len(found[1]) < 300
    assert connection.counters.submits == 0


def test_a_host_that_does_not_answer_is_no_reason(refresh, connection, site):
    rows = [
        {"sku": "a", "image": f"{site}/good.jpg"},
        {"sku": "b", "image": "http://127.0.0.1:9/closed.jpg"},
        {"sku": "c", "image": "https://does-not-exist.invalid/c.jpg"},
    ]
    run = refresh.plan(rows)
    assert run.counts == {"new": 3}
    store = PlanStore(refresh.paths, run.plan["plan_id"])
    (note,) = store.plan.notes
    assert note.startswith("2 of 3 images could not be read")


def test_a_host_that_fails_is_not_asked_for_each_image(refresh, connection):
    rows = [
        {"sku": f"s{i}", "image": f"http://127.0.0.1:9/{i}.jpg", "mask": f"http://127.0.0.1:9/{i}.png"}
        for i in range(100)
    ]
    run = refresh.plan(rows)
    assert run.counts == {"new": 100}
    note = PlanStore(refresh.paths, run.plan["plan_id"]).plan.notes[0]
    assert note.startswith("200 of 200 images could not be read")
    assert "not tried" in note


@pytest.mark.slow
def test_a_corrected_source_is_submitted_by_the_next_run(refresh, connection, tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    with served(folder) as url:
        rows = [{"sku": "a", "image": f"{url}/a.jpg"}]
        assert refresh.run(rows).counts == {"invalid": 1}
        (folder / "a.jpg").write_bytes(FILES["good.jpg"])
        assert refresh.run(rows).counts == {"new": 1}
    assert connection.counters.images == 1


@pytest.mark.slow
def test_a_row_with_a_worse_source_keeps_its_published_image(refresh, connection, site):
    rows = [{"sku": "a", "image": f"{site}/good.jpg", "mask": f"{site}/mask.png"}]
    assert refresh.run(rows, publish={"publish_unmasked": True}).counts == {"new": 1}
    assert connection.counters.images == 1
    before = refresh.manifest()
    run = refresh.run([{**rows[0], "image": f"{site}/small.jpg"}])
    assert run.counts == {"invalid": 1}
    assert refresh.manifest() == before
    assert connection.counters.images == 1


@pytest.mark.slow
@pytest.mark.parametrize(("which", "invalid"), [("off", 0), ("sample", 60), ("all", 120)])
def test_a_sample_is_spread_over_the_catalog(refresh, connection, site, which, invalid):
    rows = [{"sku": f"s{i}", "image": f"{site}/small.jpg?{i}"} for i in range(120)]
    run = refresh.plan(rows, source={"check_sources": which})
    assert run.counts.get("invalid", 0) == invalid
    assert run.plan["images"] == 120 - invalid
    lines = [row["line"] for row in PlanStore(refresh.paths, run.plan["plan_id"]).invalid_rows()]
    assert lines == list(range(2, 122, 120 // invalid)) if invalid else not lines
    # What was not read may be as bad.
    assert run.plan["needs_approval"] is (which == "sample")
    refresh.generate(run, 0)
    assert connection.counters.submits == 0 or which == "off"


# --- inverted masks (E1) --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a web shop with a product, its mask, and the same mask inverted."""
    folder = tmp_path_factory.mktemp("products")
    draw_images(folder)
    with Image.open(folder / "mask.png") as right:
        ImageOps.invert(right.convert("L")).save(folder / "inverted.png")
    with served(folder) as url:
        yield url


@pytest.mark.slow
def test_an_inverted_mask_is_found_before_it_is_billed(refresh, connection, products):
    rows = [
        {"sku": "right", "image": f"{products}/product.png", "mask": f"{products}/mask.png"},
        {"sku": "inverted", "image": f"{products}/product.png", "mask": f"{products}/inverted.png"},
    ]
    run = refresh.run(rows)
    assert run.counts == {"new": 1, "invalid": 1}
    assert "inverted" in invalid_rows(refresh, run)["inverted"][1]
    assert connection.counters.images == 1
    assert [row["sku"] for row in refresh.manifest()] == ["right"]


@pytest.mark.slow
def test_many_inverted_masks_in_a_sample_need_approval(refresh, connection, products):
    rows = [
        {"sku": f"s{i}", "image": f"{products}/product.png?{i}", "mask": f"{products}/inverted.png"}
        for i in range(40)
    ]
    run = refresh.plan(rows)
    assert run.counts == {"new": 20, "invalid": 20}
    assert run.plan["needs_approval"]
    assert "20 of 20 masks" in run.plan["explained"]
    Ledger(refresh.paths).close(run.plan["plan_id"])
    assert refresh.plan(rows, source={"check_sources": "all"}).counts == {"invalid": 40}


@pytest.mark.parametrize("which", ["sample", "all"])
def test_what_was_read_whole_leaves_nothing_to_doubt(refresh, connection, products, which):
    image = f"{products}/product.png"
    bad = {"sku": "inverted", "image": image, "mask": f"{products}/inverted.png"}
    without = [{"sku": f"s{i}", "image": f"{image}?{i}", "mask": ""} for i in range(3)]
    run = refresh.plan([bad, *without], source={"check_sources": which})
    assert run.counts == {"new": 3, "invalid": 1}
    assert not run.plan["needs_approval"], "rows without a mask raise none, nor does the one that is refused"
    alone = refresh.plan([bad, {"sku": "s", "image": f"{products}/none.png", "mask": bad["mask"]}])
    assert (alone.plan["images"], alone.plan["needs_approval"]) == (0, False), "nothing is left to submit"


def test_an_inverted_mask_is_flagged_after_it_was_billed(refresh, connection, products):
    rows = [{"sku": "inverted", "image": f"{products}/product.png", "mask": f"{products}/inverted.png"}]
    run = refresh.run(rows, source={"check_sources": "off"})
    assert run.outcomes == {"generated/flagged": 1}
    (row,) = run.processed_rows
    assert "inverted" in row["flags"]
    assert not refresh.manifest()


# --- sources that are corrected at their old URL (H4) ---------------------------------------------


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web shop whose files change: its URL, and its folder."""
    folder = tmp_path / "site"
    folder.mkdir()
    with served(folder) as url:
        yield url, folder


@pytest.mark.slow
@pytest.mark.parametrize("corrected", ["image", "mask"])
def test_a_source_corrected_at_its_url_is_submitted_again(refresh, connection, own_site, corrected):
    url, folder = own_site
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(FILES["good.jpg"])
    (folder / "mask.png").write_bytes(FILES["mask.png"])
    rows = [
        {"sku": name, "image": f"{url}/{name}.jpg", "mask": f"{url}/mask.png" if name == "a" else ""}
        for name in "ab"
    ]
    old = time.time() - 3600
    for path in folder.iterdir():
        os.utime(path, (old, old))
    refused = connection.inject("code", code="23500007", times=3)  # the job, then each image task alone
    refresh.run(rows)
    assert refused.exhausted
    assert connection.counters.images == 0
    assert refresh.run(rows).counts == {"quarantined": 2}
    later = time.time() + 60
    os.utime(folder / ("a.jpg" if corrected == "image" else "mask.png"), (later, later))
    run = refresh.run(rows)
    assert run.counts == {"changed": 1, "quarantined": 1}
    assert run.outcomes["generated/passed"] + run.outcomes["generated/flagged"] == 1
    assert connection.counters.images == 1
    assert refresh.run(rows, source={"check_sources": "off"}).counts["quarantined"] == 1
    assert connection.counters.images == 1


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["lost", "pending"])
def test_a_changed_source_does_not_repeat_a_later_submit(refresh, connection, own_site, ending):
    """An earlier request of the row was refused. The present one may be billed."""
    url, folder = own_site
    (folder / "a.jpg").write_bytes(FILES["good.jpg"])
    old = time.time() - 3600
    os.utime(folder / "a.jpg", (old, old))
    rows = [{"sku": "a", "image": f"{url}/a.jpg", "positive_prompt": "on marble"}]
    connection.inject("code", code="23500007")
    assert refresh.run(rows).outcomes == {"refused": 1}
    rows[0]["positive_prompt"] = "on snow"
    if ending == "lost":
        connection.inject("gateway_timeout")
        assert refresh.run(rows).outcomes == {"unknown_outcome": 1}
    else:
        connection.inject("late", seconds=3600)
        refresh.generate_options["timeout"] = 2
        for _ in range(3):  # three times max_attempts
            refresh.run(rows, max_attempts=1)
    later = time.time() + 60
    os.utime(folder / "a.jpg", (later, later))
    assert refresh.run(rows, max_attempts=1).counts == {"quarantined": 1}
    assert connection.counters.images == 1


@pytest.mark.slow
def test_a_host_that_does_not_date_files_leaves_them_quarantined(refresh, connection):
    # The emulator's samples have no Last-Modified.
    rows = [{"sku": "a", "image": connection.bad_image("refused")}]
    one = refresh.run(rows)
    assert one.outcomes == {"refused": 1}
    assert refresh.run(rows).counts == {"quarantined": 1}
    assert connection.counters.submits == 0
