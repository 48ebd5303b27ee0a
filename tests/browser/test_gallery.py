# SPDX-License-Identifier: Apache-2.0
"""The gallery in a real browser: what people do with it, with mouse, finger and keyboard."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from bgrep_harness.galleries import MADE, SOURCE, flagged, gallery, invalid, row, save_images
from PIL import Image, ImageColor
from playwright.sync_api import Locator, Page, expect

Visit = Callable[..., Page]


def names(page: Page) -> list[str]:
    """The names of the rows on the page, in order."""
    return page.locator("#rows h2").all_inner_texts()


def chip(page: Page, name: str) -> Locator:
    return page.locator(f"#statuses [data-name='{name}']")


def see(page: Page, *expected: str) -> None:
    expect(page.locator("#rows h2")).to_have_text(list(expected))


def fragment(page: Page) -> str:
    return page.evaluate("decodeURIComponent(location.hash)")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Eight rows of different statuses."""
    rows = [
        row("MUG-10", line=2, made=3, chosen=1, positive_prompt="A red mug in fresh snow"),
        row("MUG-9", line=3, state="changed", change="positive_prompt"),
        flagged("LAMP", "the product’s colors have shifted: ΔE 3.0", line=4),
        row(
            "SHOE", view="side", line=5, outcome="failed", verdict="", reason="image quality too low", made=0
        ),
        row("雪山", line=6, positive_prompt="雪山,蓝天白云"),
        invalid("", "sku is missing; give one", line=12, column="sku"),
        {"state": "removed", "name": "OLD", "sku": "OLD", "view": "main", "line": None},
        {"state": "over_budget", "name": "LATER", "sku": "LATER", "view": "main", "line": 8},
    ]
    page = gallery(rows, tmp_path, unchanged=3)
    save_images(rows, page)
    return page


# --- looking --------------------------------------------------------------------------------------


def test_rows_that_need_attention_are_named_and_shown_first(run: Path, visit: Visit):
    page = visit(run)
    expect(page.locator("h1")).to_have_text("3 rows need attention.")
    expect(page.locator(".lead")).to_contain_text("1 flagged, 1 failed, 1 invalid. Refreshed 10 rows:")
    expect(page.locator(".figures div", has_text="Unchanged")).to_contain_text("3")
    see(page, "LAMP", "SHOE side", "no sku", "MUG-10", "MUG-9", "雪山", "OLD", "LATER")
    expect(page.locator("#row2 .pill")).to_have_text("Flagged")
    expect(page.locator("#row2 .flags")).to_have_text("the product’s colors have shifted: ΔE 3.0")


def test_every_image_is_there_and_says_what_it_is(run: Path, visit: Visit):
    page = visit(run)
    expect(page.locator("#row0 .film img")).to_have_count(3)
    for image in page.locator("#rows img").all():
        expect(image).to_have_js_property("naturalWidth", 64)
    alts = page.locator("#row0 img").evaluate_all("(all) => all.map((one) => one.alt)")
    assert alts == [
        "Source of MUG-10",
        "Mask of MUG-10",
        "Image 2 of MUG-10, published",
        "Image 1 of MUG-10",
        "Image 2 of MUG-10, published",
        "Image 3 of MUG-10",
    ]
    expect(page.locator("#row0 .film .chosen img")).to_have_attribute("alt", "Image 2 of MUG-10, published")


def test_a_quiet_run_says_so_and_a_run_without_rows_too(tmp_path: Path, visit: Visit):
    page = visit(gallery([row("A")], tmp_path / "quiet"))
    expect(page.locator("h1")).to_have_text("No rows need attention.")
    page = visit(gallery([], tmp_path / "empty", unchanged=5))
    expect(page.locator(".lead")).to_have_text("Refreshed 5 rows: no billable images, 5 unchanged.")
    expect(page.locator("#count")).to_contain_text("No rows to show")
    expect(page.locator("#tools")).to_be_hidden()


def test_how_the_catalog_was_read_is_not_a_warning(tmp_path: Path, visit: Visit):
    reading = ["Read CSV in utf-8.", "Most frequent prompt: 'A mug'."]
    page = visit(gallery([row("S1")], tmp_path, reading=reading))
    expect(page.locator(".note:visible")).to_have_count(0)
    expect(page.locator(".reading")).to_have_text("Read CSV in utf-8. Most frequent prompt: 'A mug'.")


def test_notes_unfinished_shards_and_reasons_are_reported(tmp_path: Path, visit: Visit):
    rows = [invalid(f"B{n}", f"'{n}' is not http or https", column="image", line=n + 2) for n in range(3)]
    page = visit(gallery(rows, tmp_path, notes=["a note"], unfinished=["shard 3 was not checked"]))
    expect(page.locator(".note")).to_have_text(["shard 3 was not checked", "a note"])
    page.get_by_text("Why rows are invalid").click()
    expect(page.locator(".top details li")).to_have_text(
        ["3 rows image '0' is not http or https (first in line 2)"]
    )


# --- filters, search, order -----------------------------------------------------------------------


def test_chips_filter_by_what_became_of_rows_several_at_once(run: Path, visit: Visit):
    page = visit(run)
    chip(page, "flagged").click()
    see(page, "LAMP")
    chip(page, "removed").click()
    see(page, "LAMP", "OLD")
    assert fragment(page) == "#status=flagged,removed"
    expect(chip(page, "flagged")).to_have_attribute("aria-pressed", "true")
    chip(page, "").click()
    expect(page.locator("#rows h2")).to_have_count(8)


def test_rows_that_need_attention_are_a_filter(run: Path, visit: Visit):
    page = visit(run)
    expect(chip(page, "attention")).to_have_text("Needs attention 3")
    chip(page, "attention").click()
    see(page, "LAMP", "SHOE side", "no sku")


def test_chips_filter_by_why_rows_were_worked_on(run: Path, visit: Visit):
    page = visit(run)
    page.locator("#states [data-name='changed']").click()
    see(page, "MUG-9")
    expect(chip(page, "published")).to_have_text("Published 1")


def test_search_finds_words_of_sku_prompt_reason_flags_and_job(run: Path, visit: Visit):
    page = visit(run)
    for words, found in (
        ("mug", ["MUG-10", "MUG-9"]),
        ("SNOW fresh", ["MUG-10"]),
        ("quality", ["SHOE side"]),
        ("shoe/side", ["SHOE side"]),
        ("蓝天", ["雪山"]),
        ("positive_prompt", ["MUG-9"]),
        ("colors", ["LAMP"]),
        ("job-MUG-9", ["MUG-9"]),
        ("ＭＵＧ－９", ["MUG-9"]),
        ("<nothing>", []),
    ):
        page.get_by_label("Search").fill(words)
        see(page, *found)
        expect(page).to_have_url(re.compile(re.escape(f"#q={quote(words, safe='')}") + "$"))


def test_rows_are_put_in_order_by_worst_score_name_and_line(tmp_path: Path, visit: Visit):
    scores = {"B-10": 0.955, "B-9": 0.90, "A": 0.99}
    rows = [row(name, line=n, scores=[{"ssim": value}]) for n, (name, value) in enumerate(scores.items(), 2)]
    page = visit(gallery([*rows[::-1], invalid("Z", "wrong", line=None)], tmp_path))
    for order, expected in (
        ("worst", ["B-9", "B-10", "A", "Z"]),
        ("name", ["A", "B-9", "B-10", "Z"]),
        ("catalog", ["B-10", "B-9", "A", "Z"]),
        ("", ["Z", "A", "B-9", "B-10"]),
    ):
        page.get_by_label("Sort by").select_option(order)
        see(page, *expected)


# --- pages and the address ------------------------------------------------------------------------


@pytest.fixture
def three_pages(tmp_path: Path) -> Path:
    """100 rows."""
    rows = [row(f"R{n:03}", line=n) for n in range(100)]
    page = gallery(rows, tmp_path)
    save_images(rows, page)
    return page


def test_pages_turn_by_button_and_by_arrow_keys(three_pages: Path, visit: Visit):
    page = visit(three_pages)
    expect(page.locator("#count")).to_have_text("1 to 48 of 100 rows")
    page.get_by_label("above the rows").get_by_text("Next").click()
    expect(page.locator("#count")).to_have_text("49 to 96 of 100 rows")
    page.keyboard.press("ArrowRight")
    see(page, "R096", "R097", "R098", "R099")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#count")).to_have_text("97 to 100 of 100 rows")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#count")).to_have_text("1 to 48 of 100 rows")


def test_arrow_keys_belong_to_the_search_while_one_types(three_pages: Path, visit: Visit):
    page = visit(three_pages)
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("R0")
    page.keyboard.press("ArrowLeft")
    page.keyboard.type("0")
    expect(page.get_by_label("Search")).to_have_value("R00")
    expect(page.locator("#count")).to_have_text("1 to 10 of 10 rows (100 in total)")


def test_a_view_is_in_the_url_and_survives_reload_and_back(three_pages: Path, visit: Visit):
    page = visit(three_pages, "#status=published&q=r0&sort=name&page=2")
    expect(page.locator("#count")).to_have_text("49 to 96 of 100 rows")
    expect(page.get_by_label("Search")).to_have_value("r0")
    expect(page.get_by_label("Sort by")).to_have_value("name")
    page.reload()
    expect(page.locator("#rows h2").first).to_have_text("R048")
    page.keyboard.press("ArrowRight")
    assert fragment(page) == "#status=published&q=r0&sort=name&page=3"
    page.go_back()
    expect(page.locator("#rows h2").first).to_have_text("R048")


def test_an_address_of_nonsense_shows_rows_all_the_same(three_pages: Path, visit: Visit):
    page = visit(three_pages)
    for nonsense, first in (
        ("page=-3", "R000"),
        ("page=1e9", "R000"),
        ("page=999999999", "R096"),
        ("status=__proto__,constructor", "R000"),
        ("state=invalid,__proto__", "R000"),
        ("sort=toString", "R000"),
        ("row=99999", "R000"),
        ("row=-1x", "R000"),
        ("q=%ED%A0%80", None),
        ("q=%", None),
        ("<script>", "R000"),
        ("=&&==", "R000"),
    ):
        page.goto(f"{three_pages.as_uri()}#{nonsense}")
        page.reload()
        see(page) if first is None else expect(page.locator("#rows h2").first).to_have_text(first)
        expect(page.locator("#count")).not_to_be_empty()


# --- one row, large -------------------------------------------------------------------------------


def colors(page: Page) -> list[tuple[int, ...]]:
    """The colors at a quarter and at three quarters of what is wiped."""
    shot = Image.open(io.BytesIO(page.locator("#wipe").screenshot())).convert("RGB")
    return [shot.getpixel((shot.width * n // 8, shot.height * 3 // 4)) for n in (2, 6)]


def is_near(pixel: tuple[int, ...], color: str) -> bool:
    return all(abs(a - b) < 40 for a, b in zip(pixel, ImageColor.getrgb(color), strict=True))


def wipes(page: Page, left: str, right: str) -> None:
    """Wait until these colors are left and right of the edge."""
    for _ in range(100):
        if all(map(is_near, colors(page), (left, right))):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"{colors(page)} are not {left} and {right}")


def test_an_image_opens_large_and_is_wiped_by_mouse_and_by_keys(run: Path, visit: Visit):
    page = visit(run)
    page.locator("#row0 .pair .big").last.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    wipes(page, SOURCE, MADE[1])
    slider = page.get_by_role("slider")
    expect(slider).to_be_focused()
    slider.press("Home")
    wipes(page, MADE[1], MADE[1])
    slider.press("End")
    wipes(page, SOURCE, SOURCE)
    box = page.locator("#wipe").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 3
    page.mouse.move(box["x"] + box["width"] * 0.9, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.1, y, steps=5)
    page.mouse.up()
    wipes(page, MADE[1], MADE[1])


def test_the_full_size_file_takes_the_small_image_s_place(run: Path, visit: Visit):
    page = visit(run, "#row=0")
    expect(page.locator(".after")).to_have_js_property("naturalWidth", 256)
    expect(page.locator("#stale")).to_be_empty()


def test_keys_choose_images_and_rows_and_close(run: Path, visit: Visit):
    page = visit(run)
    page.locator("#row0 .more").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#tag")).to_have_text("Image 2, published")
    page.keyboard.press("3")
    expect(page.locator("#tag")).to_have_text("Image 3")
    wipes(page, SOURCE, MADE[2])
    page.keyboard.press("ArrowDown")
    expect(page.locator("#details-name")).to_have_text("MUG-9")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#details-name")).to_have_text("no sku")
    expect(page.locator(".stage")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#row5 button").first).to_be_focused()
    expect(page).to_have_url(re.compile("#$"))


def test_back_closes_the_row_as_on_a_phone(run: Path, visit: Visit):
    page = visit(run)
    page.locator("#row0 .more").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#rows h2")).to_have_count(8)


def test_rows_are_gone_through_across_pages(three_pages: Path, visit: Visit):
    page = visit(three_pages, "#row=47")
    page.get_by_text("Next row").click()
    expect(page.locator("#details-name")).to_have_text("R048")
    page.get_by_label("Close").click()
    expect(page).to_have_url(re.compile("#page=2$"))


def test_flags_are_those_of_the_image_that_is_checked(tmp_path: Path, visit: Visit):
    flags = (
        "the mask is too small",
        "image 1: blank",
        "image 2: other colors",
        "image 2 cannot be decoded",
    )
    rows = [
        flagged("A", *flags, made=2, scores=[{"ssim": 0.5}, {"ssim": 0.9}]),
        row("B", flags=["image 2: x"]),
    ]
    page_file = gallery(rows, tmp_path)
    save_images(rows, page_file)
    page = visit(page_file)
    expect(page.locator("#row0 .tag.right")).to_have_text("2 of 2")
    expect(page.locator("#row0 .flags li")).to_have_text([flags[0], flags[2], flags[3], "and 1 more"])
    expect(page.locator("#row1 .flags li")).to_have_count(0)
    page.locator("#row0 .big").last.click()
    expect(page.locator(".side .flags li")).to_have_text([flags[0], flags[2], flags[3]])
    page.keyboard.press("1")
    expect(page.locator(".side .flags li")).to_have_text([flags[0], flags[1]])


def test_the_details_show_all_that_is_known_of_a_row(run: Path, visit: Visit):
    page = visit(run, "#row=2")
    shown = page.locator(".side").inner_text()
    for words in (
        "the product’s colors have shifted",
        "LAMP on a marble table",
        "SSIM ≥ 0.95\t✗ 0.8",
        "ΔE ≤ 2\t✗ 3",
        "1 billable image, 0.20 CNY",
        "guidance_scale 7.5, strength 0.5, steps 50",
        "line 4",
        "job-LAMP",
        "request-LAMP",
        "gateway-LAMP",
        "nonce-LAMP",
    ):
        assert words in shown
    source = page.get_by_role("link", name="https://shop.example/LAMP.jpg")
    expect(source).to_have_attribute("rel", "noopener noreferrer")
    expect(source).to_have_attribute("referrerpolicy", "no-referrer")


def test_ids_are_copied_for_the_seller_s_support(run: Path, visit: Visit):
    page = visit(run, "#row=0", permissions=["clipboard-read", "clipboard-write"])
    page.locator("dd", has_text="job-MUG-10").get_by_role("button").click()
    expect(page.locator("dd", has_text="job-MUG-10").get_by_role("button")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "job-MUG-10"


def test_links_lead_to_what_is_published(run: Path, visit: Visit):
    page = visit(run)
    link = page.locator("#row1").get_by_role("link", name="Published image")
    assert link.evaluate("(one) => one.href") == (run.parents[3] / "MUG-9" / "main.png").as_uri()


# --- everywhere -----------------------------------------------------------------------------------

_CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
_NAMELESS = """() => {
  const named = (one) => one.ariaLabel || one.textContent.trim() || one.alt || one.labels?.length;
  const byOther = (one) => document.getElementById(one.getAttribute("aria-labelledby"))?.textContent;
  const all = [...document.querySelectorAll("button, input, select, a, dialog, img, nav, [role=group]")];
  return all.filter((one) => !named(one) && !byOther(one)).map((one) => one.outerHTML);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("where", ["", "#row=2", "#status=flagged"])
def test_text_stands_out_in_light_and_in_dark(run: Path, visit: Visit, scheme: str, where: str):
    page = visit(run, where, color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    (red, *_) = map(int, re.findall(r"\d+", ground))
    assert (red > 200) is (scheme == "light")
    assert page.evaluate(_CONTRAST) == []


def test_a_phone_scrolls_one_way_only(run: Path, visit: Visit):
    page = visit(run, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    expect(page.locator("#rows h2").first).to_be_visible()
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) == 390
    page.locator("#row0 .big").last.tap()
    wipes(page, SOURCE, MADE[1])
    assert page.evaluate(wide) == 390


def test_everything_that_can_be_used_has_a_name(run: Path, visit: Visit):
    page = visit(run, "#row=0")
    expect(page.locator("#film button")).to_have_count(5)
    assert page.evaluate(_NAMELESS) == []


def test_on_paper_there_are_rows_and_no_buttons(run: Path, visit: Visit):
    page = visit(run)
    expect(page.locator("#rows h2")).to_have_count(8)
    page.emulate_media(media="print")
    expect(page.locator("#rows h2").first).to_be_visible()
    for gone in ("#tools", "#row0 .links", ".keys"):
        expect(page.locator(gone)).to_be_hidden()


def test_without_scripts_the_numbers_are_there(run: Path, visit: Visit):
    page = visit(run, java_script_enabled=False)
    expect(page.locator("h1")).to_have_text("3 rows need attention.")
    expect(page.locator("noscript p")).to_be_visible()
    assert "scripts are disabled" in page.locator("noscript p").inner_html()
    expect(page.locator("#tools")).to_be_hidden()
    expect(page.get_by_role("dialog")).to_be_hidden()
