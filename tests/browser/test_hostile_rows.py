# SPDX-License-Identifier: Apache-2.0
"""Hostile text in a catalog is shown as text: none of it runs, becomes a link or loads anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bgrep_harness.galleries import flagged, gallery, invalid, row
from playwright.sync_api import Page, expect

Visit = Callable[..., Page]

ATTACKS = (
    "<script>window.ran = 1</script>",
    "</script><script>window.ran = 1</script>",
    "<!--<script>",
    "<!-- </script --> ]]>",
    "<img src=x onerror='window.ran = 1'>",
    "\"><svg onload='window.ran = 1'>",
    "{{ 7 * 7 }} [[rows]] [[script]] ${window.ran = 1}",
    "a\u2028b\u2029c\x00d\x7f",
    "\u202edrow reversed\u2066 and \u202b more",
    "'; } body { display: none } /*",
    "&lt;b&gt; &amp;",
    "half \ud800 a character",
    "x" * 10_000,
)
URLS = (
    "javascript:window.ran=1",
    " javascript:window.ran=1",
    "JaVaScRiPt:window.ran=1",
    "java\nscript:window.ran=1",
    "data:text/html,<script>window.ran=1</script>",
    "vbscript:x",
    "file:///etc/passwd",
    "//evil.example/x.png",
    "\\\\evil.example\\x.png",
    "/etc/passwd",
    "https:evil",
    "ftp://evil.example/x.png",
)


def every_text(attack: str) -> dict[str, Any]:
    """Return a row that holds it in every text."""
    texts = (
        "sku view name change reason advice image mask positive_prompt negative_prompt published result_key "
        "request_id gateway_request_id nonce submitted_at dag_id run_id column report actual_seed"
    )
    return {**flagged("X", attack), **dict.fromkeys(texts.split(), attack), "files": [attack]}


def test_text_is_shown_as_text_wherever_it_stands(tmp_path: Path, visit: Visit):
    rows = [every_text(attack) for attack in ATTACKS]
    rows += [invalid(attack, attack, column=attack) for attack in ATTACKS]
    whole = " ".join(ATTACKS)
    plan = {"notes": ATTACKS, "reading": ATTACKS, "unfinished": ATTACKS}
    plan |= dict.fromkeys(("catalog", "run_id", "dag_id"), whole)
    page = visit(gallery(rows, tmp_path, **plan))
    for n, attack in enumerate(ATTACKS):
        text = attack.replace("\ud800", "?")
        text = text if len(text) <= 4000 else f"{text[:4000]}… (10,000 characters)"
        for element in ("h2 bdi", ".flags li", ".reason", ".prompt"):
            shown = page.locator(f"#row{n} {element}").first.evaluate("(one) => one.textContent")
            assert shown == text, element
    page.locator("#row0 .more").click()
    for n in range(1, len(rows)):
        page.keyboard.press("ArrowDown")
        expect(page.locator("#place")).to_have_text(f"{n + 1} of {len(rows)}")
    assert page.evaluate("window.ran") is None
    assert (
        page.locator(".top script, .top img, main script, main svg, dialog script, dialog svg").count() == 0
    )
    assert page.locator("img[src='x']").count() == 0
    assert page.locator("a:not(.skip, footer a)").count() == 0
    expect(page.locator("body")).to_be_visible()


def test_only_web_urls_and_files_beside_the_page_are_links(tmp_path: Path, visit: Visit):
    names = ("image", "mask", "published", "report")
    rows = [row(f"X{n}", **dict.fromkeys(names, url), files=[url]) for n, url in enumerate(URLS)]
    page = visit(gallery(rows, tmp_path), "#row=0")
    for n, url in enumerate(URLS):
        expect(page.locator("#details-name")).to_have_text(f"X{n}")
        assert page.locator("dd .url").first.evaluate("(one) => one.textContent") == url
        assert (
            page.locator("a:not(.skip, footer a)").evaluate_all("(all) => all.map((one) => one.href)") == []
        )
        page.keyboard.press("ArrowDown")


def test_directions_of_writing_end_with_the_text_that_has_them(tmp_path: Path, visit: Visit):
    page = visit(gallery([flagged("\u202eabc", "\u202edef", positive_prompt="\u202eghi \u05d0")], tmp_path))
    isolated = page.locator("#rows h2 bdi, #rows .flags li, #rows .prompt, #rows .facts bdi").evaluate_all(
        "(all) => all.map((one) => getComputedStyle(one).unicodeBidi)"
    )
    assert set(isolated) == {"isolate"}
    # The status stands where it does on every card: right of the sku.
    card, pill = page.locator("#row0").bounding_box(), page.locator("#row0 .pill").bounding_box()
    assert card is not None
    assert pill is not None
    assert pill["x"] > card["x"] + card["width"] / 2


def test_a_long_text_stays_within_its_card(tmp_path: Path, visit: Visit):
    long = "W" * 10_000
    page = visit(gallery([flagged(long, long, positive_prompt=long), row("B")], tmp_path))
    sizes = page.locator("#rows article").evaluate_all(
        "(all) => all.map((one) => [one.scrollWidth <= one.clientWidth, one.clientHeight < 1200])"
    )
    assert sizes == [[True, True], [True, True]]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


_TRY = """async () => {
  const image = Object.assign(new Image(), { src: "https://shop.example/a.png" });
  await new Promise((done) => { image.onload = image.onerror = done; });
  const script = document.createElement("script");
  try { script.textContent = "window.ran = 1"; } catch (error) { window.refused = error.name; }
  document.body.append(script);
  await fetch("https://shop.example/").catch(() => 0);
}"""


def test_the_page_may_not_load_or_run_anything_else(tmp_path: Path, visitor: Any):
    page = visitor.open(gallery([row("A")], tmp_path))
    page.evaluate(_TRY)
    assert page.evaluate("[window.ran, window.refused]") == [None, "TypeError"]
    held_back = set(page.evaluate("window.violations"))
    assert {"img-src", "connect-src", "require-trusted-types-for"} <= held_back
    # All of that was this test's own doing.
    page.evaluate("window.violations.length = 0")
    visitor.complaints.clear()
    visitor.asked.clear()
